import assert from "node:assert/strict";
import { test } from "node:test";
import { parseOptions } from "../cli/options.ts";
import { prepare } from "../server/prepare.ts";
import type { Finding } from "./finding.ts";
import { loadBootstrap } from "./load.ts";
import { printFindings } from "./print-findings.ts";

/** Everything that --mode validate finds in this text. */
async function findings(yaml: string, ...flags: string[]): Promise<readonly Finding[]> {
  const parsed = parseOptions(["--config-yaml", yaml, ...flags]);
  assert.equal(parsed.kind, "options");
  return parsed.kind === "options" ? (await prepare(parsed.options)).findings : [];
}

const cluster = (more: string): string => `static_resources: { clusters: [{ name: c, load_assignment: { cluster_name: c }, ${more} }] }`;
const listener = (more: string): string =>
  `static_resources: { listeners: [{ name: l, address: { socket_address: { address: 127.0.0.1, port_value: 1 } }, ${more} }] }`;
const manager = (more: string): string =>
  listener(
    `filter_chains: [{ filters: [{ name: m, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: s, ${more} } }] }]`,
  );
const router = `http_filters: [{ name: r, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.router.v3.Router } }]`;
const routes = (more: string): string =>
  manager(`${router}, route_config: { virtual_hosts: [{ name: v, domains: ["*"], routes: [{ match: { prefix: / }, ${more} }] }] }`);

/** [what is wrong, the configuration, what is said of it]: in each exactly one thing is wrong. */
const cases: readonly (readonly [what: string, yaml: string, said: RegExp])[] = [
  ["text that is no YAML", "a: [1", /OR1001 YAML syntax/],
  ["nothing but a comment", "# nothing", /OR1002/],
  ["a list at the top", "- a", /OR1002 expected/],
  ["an unknown field, with the one meant", "admn: {}", /OR1103 unknown field "admn".*did you mean "admin"/],
  ["a list for a text", "node: { id: [a] }", /OR1104 "id" expects a string/],
  ["a number that is none", manager(`${router}, route_config: {}, max_request_headers_kb: lots`), /OR1104 .*"lots"/],
  ["a number too large", manager(`${router}, route_config: {}, max_request_headers_kb: 4294967296`), /OR1105 .*4294967296/],
  ["an enum that is not", cluster("lb_policy: FASTEST"), /OR1106 .*FASTEST/],
  ["a duration that is none", cluster("connect_timeout: 1 second"), /OR1107 .*1 second/],
  [
    "two of a oneof",
    routes("match: { prefix: /, path: /x }, direct_response: { status: 200 }").replace("match: { prefix: / }, ", ""),
    /OR1108 .*"prefix" and "path"/,
  ],
  [
    "a type that is not",
    listener('filter_chains: [{ filters: [{ name: x, typed_config: { "@type": type.googleapis.com/no.such.Type } }] }]'),
    /OR1109 .*no\.such\.Type/,
  ],
  ["a typed_config without type", listener("filter_chains: [{ filters: [{ name: x, typed_config: { a: 1 } }] }]"), /OR1110/],
  ["an empty name", "static_resources: { clusters: [{ name: '', load_assignment: { cluster_name: c } }] }", /OR2003 "name" may not be empty/],
  ["a number out of range", manager(`${router}, route_config: {}, max_request_headers_kb: 8193`), /OR2002 .*8193/],
  ["a negative duration where no rule says so", manager(`${router}, route_config: {}, stream_idle_timeout: -1s`), /OR2002 .*-1s, it must be at least 0s/],
  ["a zero where it must be more", cluster("connect_timeout: 0s"), /OR2002 .*greater than 0s/],
  ["a oneof without a choice", manager(router), /OR2011 route_specifier/],
  ["a header name with a line end", routes('direct_response: { status: 200 }, request_headers_to_remove: ["a\\nb"]'), /OR2008 .*not a valid header name/],
  [
    "two clusters of one name",
    "static_resources: { clusters: [{ name: c, load_assignment: { cluster_name: c } }, { name: c, load_assignment: { cluster_name: c } }] }",
    /OR3001 duplicate cluster "c"/,
  ],
  [
    "two listeners at one address",
    `static_resources: { listeners: [&l { name: a, address: { socket_address: { address: 127.0.0.1, port_value: 9 } }, filter_chains: [${listener("filter_chains: []").slice(0, 0)}{ filters: [{ name: m, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager, stat_prefix: s, route_config: {}, ${router} } }] }] }, { <<: *l, name: b }] }`,
    /OR3002 duplicate address 127\.0\.0\.1:9/,
  ],
  [
    "a resolver that is not",
    listener("filter_chains: []")
      .replace("port_value: 1", "port_value: 1, resolver_name: x")
      .replace("filter_chains: []", manager(`${router}, route_config: {}`).slice(manager("").indexOf("filter_chains"), -4)),
    /OR3004 .*"x"/,
  ],
  ["discovery without a node", manager(`${router}, rds: { route_config_name: r, config_source: { path_config_source: { path: /dev/null } } }`), /OR3005/],
  ["both ways to flush", "{ stats_flush_interval: 1s, stats_flush_on_admin: true }", /OR3006/],
  [
    "the response limit on a connection manager",
    manager(`${router}, route_config: {}, common_http_protocol_options: { max_response_headers_kb: 1 }`),
    /OR3013/,
  ],
  ["a router that is disabled", manager(`${router.replace("name: r,", "name: r, disabled: true,")}, route_config: {}`), /OR3011 .*cannot be disabled/],
  [
    "a chain without its router",
    manager(
      'route_config: {}, http_filters: [{ name: f, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.http.file_server.v3.FileServerConfig, manager_config: { thread_pool: {} } } }]',
    ),
    /OR3011 .*'f'/,
  ],
  [
    "a route to a cluster that is not, with the one meant",
    `${routes("route: { cluster: srvice }").slice(0, -2)}, clusters: [{ name: service, load_assignment: { cluster_name: service } }] }`,
    /OR3610 .*'srvice'.*did you mean "service"/,
  ],
  ["a pseudo-header removed", routes("direct_response: { status: 200 }, request_headers_to_remove: [host]"), /OR3201/],
  [
    "a field that is not acted on",
    "hds_config: { api_type: GRPC, grpc_services: [{ google_grpc: { target_uri: x, stat_prefix: s } }] }",
    /OR4001 "hds_config"/,
  ],
];

const show = (f: Finding): string => `${f.code} ${f.text} ${f.hint ?? ""}`;

for (const [what, yaml, said] of cases) {
  test(`finds ${what}`, async () => {
    // What is not acted on yet is said as well.
    const errors = (await findings(yaml)).filter((f) => f.severity === "error" && (f.code !== "OR4001" || said.source.startsWith("OR4001")));
    assert.match(errors.map(show).join("\n"), said);
    assert.equal(errors.length, 1, errors.map(show).join("\n"));
    assert.ok(errors[0].origin !== undefined && errors[0].origin.line > 0, "it has a place");
  });
}

test("all mistakes are found at once, in the order of the file", async () => {
  const found = await findings(`
admin: { adress: {} }
node:
  id: [x]
static_resources:
  clusters:
  - { name: c, connect_timeout: 0s, load_assignment: { cluster_name: c } }
  - { name: c, load_assignment: { cluster_name: c } }
`);
  assert.deepEqual(
    found.filter((f) => f.severity === "error").map((f) => [f.code, f.origin?.line]),
    [
      ["OR1103", 2],
      ["OR1104", 4],
      ["OR2002", 7],
      ["OR3001", 8],
    ],
  );
});

test("what is not acted on is a warning with --allow-unsupported; an unknown field with --allow-unknown-static-fields", async () => {
  const config = "{ hds_config: { api_type: GRPC, grpc_services: [{ google_grpc: { target_uri: x, stat_prefix: s } }] }, nosuch: 1 }";
  const found = await findings(config, "--allow-unsupported", "--allow-unknown-static-fields");
  assert.deepEqual(
    found.map((f) => [f.code, f.severity]),
    [
      ["OR4001", "warning"],
      ["OR1103", "warning"],
    ],
  );
});

test("an optional filter that is not there is left out, with a warning", async () => {
  const optional = '{ name: x, is_optional: true, typed_config: { "@type": type.googleapis.com/envoy.admin.v3.Memory } }';
  const found = await findings(manager(`${router.replace("[", `[${optional}, `)}, route_config: {}`));
  assert.deepEqual(
    found.map((f) => [f.code, f.severity, f.hint]),
    [["OR4002", "warning", "it is optional, and left out"]],
  );
});

test("advice: names that are taken twice, a connection manager without filters", async () => {
  const hosts = "[{ name: v, domains: [a.test] }, { name: v, domains: [b.test] }]";
  const found = await findings(manager(`http_filters: [], route_config: { virtual_hosts: ${hosts} }`));
  assert.deepEqual(
    found.map((f) => [f.code, f.severity]),
    [
      ["OR6004", "warning"],
      ["OR6003", "warning"],
    ],
  );
});

test("a finding is shown with its line, a caret below it and what to do", async () => {
  const found = await findings("node:\n  id: x\nadmn: {}\n");
  assert.equal(
    printFindings(found),
    `error[OR1103] unknown field "admn" in envoy.config.bootstrap.v3.Bootstrap
  --> <config-yaml>:3:1   admn
   3 | admn: {}
     | ^^^^ did you mean "admin"?

1 error
`,
  );
  const [item] = (JSON.parse(printFindings(found, { format: "json" })) as { findings: unknown[] }).findings;
  assert.deepEqual(item, {
    code: "OR1103",
    severity: "error",
    text: 'unknown field "admn" in envoy.config.bootstrap.v3.Bootstrap',
    hint: 'did you mean "admin"?',
    file: "<config-yaml>",
    line: 3,
    column: 1,
    endColumn: 5,
    path: "admn",
  });
});

test("long lines are cut around the caret, control characters do not reach the terminal", async () => {
  const text = printFindings(await findings(`{ "node": { "id": "${"x".repeat(500)}" }, "a\\u001b[31m": 1 }`));
  assert.ok(!text.includes("\x1b"), text);
  assert.ok(
    text.split("\n").every((line) => line.length < 260),
    "no endless lines",
  );
});

test("numbers of YAML are typed as Envoy types them, also where the YAML is JSON", () => {
  const metadata = (yaml: string): unknown => loadBootstrap({ configYaml: yaml }).bootstrap?.node?.metadata;
  const small = { a: 2147483647, b: -2147483648, c: "2147483648", d: "1.5", e: "9223372036854775807", f: true };
  assert.deepEqual(metadata("node: { metadata: { a: 2147483647, b: -2147483648, c: 2147483648, d: 1.5, e: 9223372036854775807, f: yes } }"), small);
  assert.deepEqual(
    metadata('{"node": {"metadata": {"a": 2147483647, "b": -2147483648, "c": 2147483648, "d": 1.5, "e": 9223372036854775807, "f": true}}}'),
    small,
  );
  assert.equal(loadBootstrap({ configYaml: "node: { id: 4294967295 }" }).bootstrap?.node?.id, "4294967295", "a large number is a text");
  assert.ok(loadBootstrap({ configYaml: "node: { id: 7 }" }).failed, "a small one is not");
});
