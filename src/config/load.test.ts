import assert from "node:assert/strict";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import type { Finding } from "./finding.ts";
import { toJson } from "./json.ts";
import { loadBootstrap, loadMessage } from "./load.ts";
import type { Bootstrap } from "./schema/types/envoy.config.bootstrap.v3.d.ts";

const folder = mkdtempSync(join(tmpdir(), "outrider-load-"));
after(() => rmSync(folder, { recursive: true }));

const file = (name: string, contents: string | Uint8Array): string => {
  const path = join(folder, name);
  writeFileSync(path, contents);
  return path;
};
const dump = (message: object | undefined): unknown => toJson(message as object, { protoNames: true, redact: false });
const codes = (findings: readonly Finding[]): string[] => findings.map((f) => `${f.code} ${f.severity}`);

test("a file is read by its extension, and all forms say the same", () => {
  const wanted = { node: { id: "nn" }, static_resources: { clusters: [{ name: "c", connect_timeout: "1.500s", type: "STRICT_DNS" }] } };
  const forms = [
    file("a.yaml", "node: { id: nn }\nstatic_resources:\n  clusters:\n  - { name: c, connect_timeout: 1.5s, type: STRICT_DNS }\n"),
    file("b.json", '{"node":{"id":"nn"},"staticResources":{"clusters":[{"name":"c","connectTimeout":"1.5s","type":1}]}}'),
    file("c.pb_text", 'node { id: "nn" } static_resources { clusters { name: "c" connect_timeout { seconds: 1 nanos: 500000000 } type: STRICT_DNS } }'),
    file("d.pb", Buffer.from("0a040a026e6e", "hex")),
  ];
  for (const path of forms.slice(0, 3)) {
    const result = loadBootstrap({ path });
    assert.deepEqual(codes(result.findings), [], path);
    assert.deepEqual(dump(result.bootstrap), wanted, path);
  }
  assert.deepEqual(dump(loadBootstrap({ path: forms[3] }).bootstrap), { node: { id: "nn" } });
});

test("what cannot be read says why", () => {
  const said = (path: string): string =>
    loadBootstrap({ path })
      .findings.map((f) => `${f.code} ${f.text}`)
      .join();
  assert.match(said(join(folder, "none.yaml")), /OR1003 .*none\.yaml does not exist/);
  assert.match(said(folder), /OR1003 .*is a directory/);
  assert.match(said(file("yaml.json", "node: {}\n")), /OR1001 JSON syntax/);
  assert.match(said(file("bad.pb", Buffer.from([0x0a]))), /OR1001/);
  assert.match(said(file("bad.pb_text", "node {")), /OR1001 text format/);
});

test("--config-yaml is merged over the file: scalars replace, lists grow, messages merge", () => {
  const path = file("base.yaml", "node: { id: a, cluster: k, metadata: { x: 1 } }\nstatic_resources: { clusters: [{ name: one }] }\n");
  const { bootstrap } = loadBootstrap({ path, configYaml: "node: { id: b, metadata: { y: 2 } }\nstatic_resources: { clusters: [{ name: two }] }" });
  const loaded = dump(bootstrap) as { node: unknown; static_resources: { clusters: unknown[] } };
  assert.deepEqual(loaded.node, { id: "b", cluster: "k", metadata: { x: 1, y: 2 } });
  assert.deepEqual(loaded.static_resources.clusters, [{ name: "one" }, { name: "two" }]);
});

test("a finding of the merged text points into that text", () => {
  const path = file("good.yaml", "node: { id: a }\n");
  const [finding] = loadBootstrap({ path, configYaml: "nod: {}" }).findings;
  assert.deepEqual([finding.origin?.file, finding.origin?.line], ["<config-yaml>", 1]);
});

test("a TypedStruct is the message that it names", () => {
  const yaml = `
static_resources:
  listeners:
  - name: l
    listener_filters:
    - name: f
      typed_config:
        "@type": type.googleapis.com/xds.type.v3.TypedStruct
        type_url: type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector
        value: { initial_read_buffer_size: 256 }
`;
  const result = loadBootstrap({ configYaml: yaml });
  const filter = (result.bootstrap as Bootstrap).staticResources?.listeners[0].listenerFilters[0];
  assert.equal(filter?.configType.value?.$typeName, "envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector");
  assert.ok(result.extensionMessages.has("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"));
});

test("a TypedStruct of an unknown type is refused, but not among load balancing policies, of which the first known one counts", () => {
  const unknown = `{ "@type": type.googleapis.com/xds.type.v3.TypedStruct, type_url: example.com/Unknown, value: { a: 1 } }`;
  const policies = `load_balancing_policy: { policies: [{ typed_extension_config: { name: mine, typed_config: ${unknown} } }] }`;
  const passed = loadBootstrap({ configYaml: `static_resources: { clusters: [{ name: c, ${policies} }] }` });
  assert.deepEqual(codes(passed.findings), []);
  const refused = loadBootstrap({ configYaml: `static_resources: { listeners: [{ name: l, listener_filters: [{ name: f, typed_config: ${unknown} }] }] }` });
  assert.deepEqual(codes(refused.findings), ["OR1109 error"]);
});

test("anchors and merge keys", () => {
  const { bootstrap } = loadBootstrap({
    configYaml: "static_resources:\n  clusters:\n  - &c { name: one, connect_timeout: 2s }\n  - { <<: *c, name: two }\n",
  });
  assert.deepEqual(dump(bootstrap?.staticResources), {
    clusters: [
      { name: "one", connect_timeout: "2s" },
      { name: "two", connect_timeout: "2s" },
    ],
  });
});

test("a field given twice, a lone value for a list: taken, with a warning", () => {
  const twice = loadBootstrap({ configYaml: '{"node": {"id": "a"}, "node": {"id": "b"}}' });
  assert.equal(twice.bootstrap?.node?.id, "b");
  const lone = loadMessage({ kind: "text", name: "t", text: "domains: a.test\nname: v", format: "yaml" }, "envoy.config.route.v3.VirtualHost");
  assert.deepEqual(codes(lone.findings), ["OR1114 warning"]);
  assert.deepEqual(dump(lone.message), { name: "v", domains: ["a.test"] });
});

test("unknown fields are refused, told of, or counted only", () => {
  const source = { kind: "text", name: "t", text: "{ name: c, nosuch: 1, other: 2 }", format: "yaml" } as const;
  const load = (unknownFields: "reject" | "warn" | "ignore") => loadMessage(source, "envoy.config.cluster.v3.Cluster", { unknownFields });
  assert.deepEqual([load("reject").failed, load("warn").failed, load("ignore").failed], [true, false, false]);
  assert.deepEqual(codes(load("warn").findings), ["OR1103 warning", "OR1103 warning"]);
  assert.deepEqual([load("ignore").findings.length, load("ignore").unknownFieldCount], [0, 2]);
});

test("deprecated fields are warned of and counted", () => {
  const config = "static_resources: { clusters: [{ name: c, dns_refresh_rate: 5s }] }";
  const result = loadBootstrap({ configYaml: config });
  assert.deepEqual(result.deprecatedFields, ["static_resources.clusters[0].dns_refresh_rate"]);
  assert.deepEqual(codes(result.findings), ["OR6001 warning"]);
});

test("a tree too deep, and one with too many mistakes, end", () => {
  assert.ok(loadBootstrap({ configYaml: `{ node: { metadata: ${"{ a: ".repeat(3000)}1${" }".repeat(3000)} } }` }).findings.length > 0);
  const many = loadBootstrap({ configYaml: `{ ${Array.from({ length: 2000 }, (_, i) => `nosuch${i}: 1`).join(", ")} }` });
  assert.equal(many.findings.length, 500);
});
