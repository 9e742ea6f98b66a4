import assert from "node:assert/strict";
import { test } from "node:test";
import type { RequestHeaders } from "../../http/header-map.ts";
import { RequestHeaders as Headers } from "../../http/header-map.ts";
import { StreamInfo } from "../../http/stream-info.ts";
import { echo, TestListeners, talk, typed } from "../../listener/testing.ts";
import { ipAddress } from "../../net/address.ts";
import type { Connection, TlsInfo } from "../../net/connection.ts";
import { message, testContext } from "../../testing/compile-context.ts";
import { compileRules, compileRulesMatcher, denialDetails, type Subject } from "./engine.ts";

interface Who {
  readonly path?: string;
  readonly headers?: readonly string[];
  readonly tls?: Partial<TlsInfo>;
  readonly sni?: string;
  readonly routeMetadata?: Record<string, { [key: string]: string }>;
}

function subject({ path = "/", headers = [], tls, sni = "", routeMetadata = {} }: Who = {}): Subject & { readonly headers: RequestHeaders } {
  const info = new StreamInfo(0, 0);
  info.downstreamLocalAddress = ipAddress("127.0.0.1", 8080);
  info.downstreamRemoteAddress = ipAddress("9.9.9.9", 0);
  info.downstreamDirectRemoteAddress = ipAddress("10.0.0.1", 5000);
  info.requestedServerName = sni;
  const connection = { remoteAddress: ipAddress("10.0.0.1", 5000), tls } as unknown as Connection;
  return { connection, info, headers: new Headers("GET", path, "a.test", "http", [...headers]), routeMetadata: () => routeMetadata };
}

const any = [{ any: true }];

function engine(action: "ALLOW" | "DENY" | "LOG", policies: object) {
  return compileRules(message("envoy.config.rbac.v3.RBAC", { action, policies }), testContext());
}
/** Whether one permission and one principal let the subject in. */
const permits = (permission: object, who?: Who): boolean =>
  engine("ALLOW", { p: { permissions: [permission], principals: any } }).decide(subject(who), true).allowed;
const knows = (principal: object, who?: Who): boolean =>
  engine("ALLOW", { p: { permissions: any, principals: [principal] } }).decide(subject(who), true).allowed;

const header = (name: string, exact: string): object => ({ header: { name, string_match: { exact } } });

test("permissions", () => {
  assert.ok(permits({ any: true }));
  assert.ok(permits({ and_rules: { rules: [header("a", "1"), { not_rule: header("b", "1") }] } }, { headers: ["a", "1"] }));
  assert.ok(!permits({ and_rules: { rules: [header("a", "1"), { not_rule: header("b", "1") }] } }, { headers: ["a", "1", "b", "1"] }));
  assert.ok(permits({ or_rules: { rules: [header("a", "1"), header("b", "1")] } }, { headers: ["b", "1"] }));
  assert.ok(permits({ url_path: { path: { exact: "/x" } } }, { path: "/x?q=1#f" }));
  assert.ok(permits({ destination_ip: { address_prefix: "127.0.0.0", prefix_len: 8 } }));
  assert.ok(!permits({ destination_ip: { address_prefix: "127.0.0.0", prefix_len: 32 } }));
  assert.ok(permits({ destination_port: 8080 }));
  assert.ok(permits({ destination_port_range: { start: 8080, end: 8081 } }));
  assert.ok(!permits({ destination_port_range: { start: 8000, end: 8080 } }), "the end is not part of the range");
  assert.ok(permits({ requested_server_name: { suffix: ".test" } }, { sni: "a.test" }));
  const template = {
    name: "t",
    typed_config: { "@type": "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig", path_template: "/a/{x}/b" },
  };
  assert.ok(permits({ uri_template: template }, { path: "/a/1/b?x" }));
  assert.ok(!permits({ uri_template: template }, { path: "/a/1/2/b" }));
  const metadata = { filter: "f", path: [{ key: "k" }], value: { string_match: { exact: "v" } } };
  assert.ok(permits({ sourced_metadata: { metadata_matcher: metadata, metadata_source: "ROUTE" } }, { routeMetadata: { f: { k: "v" } } }));
  assert.ok(!permits({ sourced_metadata: { metadata_matcher: metadata, metadata_source: "DYNAMIC" } }, { routeMetadata: { f: { k: "v" } } }));
});

test("principals: whose address is meant, and what a certificate says", () => {
  assert.ok(knows({ source_ip: { address_prefix: "10.0.0.1", prefix_len: 32 } }), "the connection's peer");
  assert.ok(knows({ direct_remote_ip: { address_prefix: "10.0.0.1", prefix_len: 32 } }));
  assert.ok(knows({ remote_ip: { address_prefix: "9.9.9.9", prefix_len: 32 } }), "the client, as far as it is trusted");
  assert.ok(!knows({ source_ip: { address_prefix: "9.9.9.9", prefix_len: 32 } }));
  assert.ok(!knows({ authenticated: {} }), "no TLS");
  assert.ok(knows({ authenticated: {} }, { tls: {} }));
  const peerCertificate = { subjectAltName: "DNS:a.test, URI:spiffe://x/a", subject: "O=x\nCN=a" } as unknown as TlsInfo["peerCertificate"];
  const tls = { peerCertificate };
  for (const exact of ["spiffe://x/a", "a.test", "CN=a,O=x"]) assert.ok(knows({ authenticated: { principal_name: { exact } } }, { tls }), exact);
  assert.ok(!knows({ authenticated: { principal_name: { exact: "spiffe://x/b" } } }, { tls }));
  assert.ok(!knows({ authenticated: { principal_name: { prefix: "spiffe:" } } }, { tls: {} }), "TLS without a client certificate");
});

test("policies are asked in the order of their names; no rules refuse everybody; LOG refuses nobody and leaves a hint", () => {
  const policies = { "b two": { permissions: any, principals: any }, "a one": { permissions: [header("x", "1")], principals: any } };
  assert.deepEqual(engine("ALLOW", policies).decide(subject({ headers: ["x", "1"] }), true), { allowed: true, policy: "a one" });
  assert.deepEqual(engine("DENY", policies).decide(subject(), true), { allowed: false, policy: "b two" });
  assert.equal(denialDetails("b two"), "rbac_access_denied_matched_policy[b_two]");
  assert.deepEqual(engine("ALLOW", {}).decide(subject(), true), { allowed: false, policy: undefined });
  assert.equal(denialDetails(undefined), "rbac_access_denied_matched_policy[none]");
  const log = engine("LOG", { l: { permissions: [header("x", "1")], principals: any } });
  for (const [headers, hint] of [
    [["x", "1"], true],
    [[], false],
  ] as const) {
    const who = subject({ headers });
    assert.ok(log.decide(who, true).allowed);
    assert.deepEqual(who.info.dynamicMetadata["envoy.common"], { access_log_hint: hint });
  }
  const shadowed = subject({ headers: ["x", "1"] });
  log.decide(shadowed, false);
  assert.ok(!shadowed.info.hasDynamicMetadata, "a shadow leaves no hint");
});

test("a matcher's actions, and refusal where none is reached", () => {
  const action = (name: string, what: string): object => ({
    action: { name: "action", typed_config: { "@type": "type.googleapis.com/envoy.config.rbac.v3.Action", name, action: what } },
  });
  const input = { name: "i", typed_config: { "@type": "type.googleapis.com/envoy.type.matcher.v3.HttpRequestHeaderMatchInput", header_name: "x" } };
  const when = (value: string, then: object): object => ({ predicate: { single_predicate: { input, value_match: { exact: value } } }, on_match: then });
  const matcher = compileRulesMatcher(
    message("xds.type.matcher.v3.Matcher", { matcher_list: { matchers: [when("in", action("come", "ALLOW")), when("out", action("go", "DENY"))] } }),
    testContext(),
  );
  const ask = (value: string): object => matcher.decide(subject({ headers: ["x", value] }), true);
  assert.deepEqual(ask("in"), { allowed: true, policy: "come" });
  assert.deepEqual(ask("out"), { allowed: false, policy: "go" });
  assert.deepEqual(ask("else"), { allowed: false, policy: undefined });
});

test("wrong ranges are found at load", () => {
  const context = testContext();
  const rules = { policies: { p: { permissions: [{ destination_port_range: { start: 5, end: 2 } }], principals: any } } };
  compileRules(message("envoy.config.rbac.v3.RBAC", rules), context);
  assert.match(context.findings[0], /range start 5 cannot be greater or equal than range end 2/);
});

test("the network filter closes what is not allowed, at once or late, and counts what it would have refused", async (t) => {
  const proxy = new TestListeners();
  t.after(() => proxy.close());
  const from = (prefix: string): object => ({ p: { permissions: any, principals: [{ direct_remote_ip: { address_prefix: prefix, prefix_len: 32 } }] } });
  const rbac = (more: object): object => typed("network.rbac.v3.RBAC", { stat_prefix: "guard", ...more });
  const { port: open } = await proxy.start({
    filter_chains: [{ filters: [rbac({ rules: { policies: from("127.0.0.1") }, shadow_rules: { policies: from("10.0.0.1") } }), echo] }],
  });
  const { Client, until } = await import("../../listener/testing.ts");
  const client = new Client(open, "hello");
  await until(() => client.text === "hello");
  client.close();
  assert.deepEqual(
    ["allowed", "denied", "shadow_allowed", "shadow_denied"].map((name) => proxy.stat(`guard.rbac.${name}`)),
    [1, 0, 0, 1],
  );
  for (const more of [{}, { delay_deny: "0.05s" }]) {
    const { port } = await proxy.start({
      filter_chains: [{ filters: [rbac({ stat_prefix: `shut${Object.keys(more).length}`, rules: { policies: from("10.0.0.1") }, ...more }), echo] }],
    });
    const began = performance.now();
    assert.equal((await talk(port, "hello")).replace("(ECONNRESET)", ""), "");
    if ("delay_deny" in more) assert.ok(performance.now() - began >= 45);
    assert.equal(proxy.stat(`shut${Object.keys(more).length}.rbac.denied`), 1);
  }
});
