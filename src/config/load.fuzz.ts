/** Any text, in every format: loading ends, findings stand inside the source, and what was accepted survives the way through JSON and back. */
import type { FuzzTarget } from "../testing/fuzz.ts";
import { toJson } from "./json.ts";
import { loadMessage, type MessageResult, type MessageSource } from "./load.ts";
import { printFindings } from "./print-findings.ts";

const bootstrap = "envoy.config.bootstrap.v3.Bootstrap";

const manager = `
static_resources:
  listeners:
  - &l
    name: a
    address: { socket_address: { address: 127.0.0.1, port_value: 0 } }
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: "x\\u00e9"
          stream_idle_timeout: 1.5s
          max_request_headers_kb: 60
          route_config:
            virtual_hosts:
            - { name: v, domains: ["*"], routes: [{ match: { prefix: / }, direct_response: { status: 200, body: { inline_bytes: aGk= } } }] }
  - { <<: *l, name: b }
  clusters:
  - name: c
    connect_timeout: 0.25s
    metadata: { filter_metadata: { envoy.lb: { a: 1, b: [true, null, "x"] } } }
layered_runtime: { layers: [{ name: s, static_layer: { a.b: 0.5 } }] }
`;

const target: FuzzTarget = {
  maxBytes: 4096,
  seeds: [
    manager,
    JSON.stringify({ node: { id: "n", metadata: { a: [1, "b", null, { c: true }] } }, admin: { address: { pipe: { path: "/x", mode: 420 } } } }),
    'node { id: "a" metadata { fields { key: "k" value { number_value: 1e3 } } } }\nstatic_resources { clusters { name: "pb" connect_timeout { seconds: 1 } type: STATIC } }',
    Buffer.from("0a0f0a016e12016332090a01721201731a0174", "hex"),
    "admin: |\n  text\nnode: >-\n  folded\n  text\n",
    "? [a, b]\n: !!str c\n...\n---\n{}\n",
  ],
  dictionary: [
    ..."static_resources listeners clusters name address socket_address port_value typed_config @type route_config domains connect_timeout node id metadata".split(
      " ",
    ),
    ...[
      ": ",
      "- ",
      "  ",
      "\n",
      "{",
      "}",
      "[",
      "]",
      ", ",
      "#",
      "&a ",
      "*a",
      "<<: ",
      "|\n",
      ">\n",
      '"',
      "'",
      "\\u0000",
      "!!binary ",
      "---\n",
      "\t",
      "\ud83d\ude00",
    ],
    ...["null", "true", "-1", "1e999", "0x10", "18446744073709551616", "NaN", "1s", "-0.5s", "__proto__", "constructor"],
    "type.googleapis.com/envoy.config.cluster.v3.Cluster",
    "type.googleapis.com/google.protobuf.Struct",
    "type.googleapis.com/xds.type.v3.TypedStruct",
  ],
  run(input) {
    const text = Buffer.from(input).toString("utf8");
    for (const format of ["yaml", "json", "text"] as const) check({ kind: "text", name: "input", text, format }, text);
    check({ kind: "bytes", name: "input", bytes: input }, undefined);
  },
};
export default target;

function check(source: MessageSource, text: string | undefined): void {
  const result = loadMessage(source, bootstrap);
  if (result.failed && !result.findings.some((f) => f.severity === "error")) throw new Error("failed without an error");
  printFindings(result.findings);
  const lines = text?.split("\n");
  for (const { origin } of result.findings) {
    if (origin === undefined || lines === undefined) continue;
    if (origin.line < 1 || origin.line > lines.length + 1 || origin.column < 1)
      throw new Error(`a finding outside of the source: ${origin.line}:${origin.column}`);
  }
  if (!result.failed && result.message !== undefined) checkRoundTrip(result);
}

function checkRoundTrip(result: MessageResult): void {
  const json = JSON.stringify(toJson(result.message as object, { protoNames: true, redact: false }));
  const again = loadMessage({ kind: "text", name: "again", text: json, format: "json" }, bootstrap);
  if (again.failed || again.message === undefined) throw new Error(`its own JSON is refused: ${again.findings[0]?.text}\n${json}`);
  const second = JSON.stringify(toJson(again.message, { protoNames: true, redact: false }));
  if (second !== json) throw new Error(`not the same after JSON and back:\n${json}\n${second}`);
}
