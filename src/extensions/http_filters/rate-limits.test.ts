/** local_ratelimit and ratelimit behind a manager in memory, and the buckets and actions that they are made of. */
import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { decodeMessage } from "../../config/binary.ts";
import { encodeMessage } from "../../config/binary-encode.ts";
import { envoySchema } from "../../config/schema/registry.ts";
import type { RateLimitRequest } from "../../config/schema/types/envoy.service.ratelimit.v3.d.ts";
import type { GrpcAnswer, GrpcClient } from "../../grpc/client.ts";
import type { DecoderFilterCallbacks, HttpFilter } from "../../http/filter.ts";
import { RequestHeaders, ResponseHeaders } from "../../http/header-map.ts";
import { managerHarness } from "../../http/manager/testing.ts";
import { StreamInfo } from "../../http/stream-info.ts";
import { ipAddress } from "../../net/address.ts";
import { compileRateLimits, type RateLimitDescriptor } from "../../router/rate-limit.ts";
import { message, type TestContext, testContext } from "../../testing/compile-context.ts";
import { BucketRule, SharedBucketTable } from "../shared-cells.ts";
import localRateLimit from "./local_ratelimit/config.ts";
import { RateLimitFilter } from "./ratelimit/filter.ts";
import { xRateLimitHeaders } from "./ratelimit/service.ts";
import { compileSettings } from "./ratelimit/settings.ts";

const always = { default_value: { numerator: 100 } };
const bucket = (tokens: number, seconds = 3600): object => ({ max_tokens: tokens, fill_interval: `${seconds}s` });
const header = (name: string, more: object = {}): object => ({ request_headers: { header_name: `x-${name}`, descriptor_key: name, ...more } });
const limits = (...actions: object[]): object => ({ actions });
const localType = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
const get = (fields: Record<string, string> = {}, path = "/"): string =>
  `GET ${path} HTTP/1.1\r\nhost: x\r\n${Object.entries(fields)
    .map(([name, value]) => `x-${name}: ${value}\r\n`)
    .join("")}\r\n`;

/** Answers everything. */
class Backend implements HttpFilter {
  #callbacks!: DecoderFilterCallbacks;
  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#callbacks = callbacks;
  }
  decodeHeaders(headers: RequestHeaders): "stop" {
    const seen = headers.get("x-seen");
    this.#callbacks.encodeHeaders(new ResponseHeaders(200, seen === undefined ? [] : ["x-got", seen]), true, "via_upstream");
    return "stop";
  }
}

const routesWith = (route: object, host: object = {}): object => ({
  route_config: {
    validate_clusters: false,
    virtual_hosts: [{ name: "v", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: "c", ...route } }], ...host }],
  },
});

/** Statuses of requests one after the other, and the last answer whole. */
function local(
  config: object,
  route: object = {},
  host: object = {},
): { ask(fields?: Record<string, string>): number; last(): string; stat(name: string): number } {
  const context = testContext();
  const settings = message(localType, { stat_prefix: "l", filter_enabled: always, filter_enforced: always, ...config });
  const factory = localRateLimit.httpFilter.compile(settings, context);
  assert.deepEqual(context.findings, []);
  const harness = managerHarness([factory, () => new Backend()], routesWith(route, host));
  let answer = "";
  return {
    ask(fields = {}) {
      const before = harness.connection.written.length;
      harness.receive(get(fields));
      answer = harness.connection.written.slice(before);
      return Number(answer.split(" ")[1]);
    },
    last: () => answer,
    stat: (name) => context.stats.counter(`l.http_local_rate_limit.${name}`).value,
  };
}

test("local: a bucket for all, with what the client is told", () => {
  const proxy = local({ token_bucket: bucket(2), enable_x_ratelimit_headers: "DRAFT_VERSION_03", enable_retry_after_header: true });
  assert.deepEqual([proxy.ask(), proxy.ask(), proxy.ask()], [200, 200, 429]);
  assert.match(proxy.last(), /\r\nretry-after: 3600\r\n/);
  assert.match(proxy.last(), /\r\nx-ratelimit-limit: 2\r\nx-ratelimit-remaining: 0\r\nx-ratelimit-reset: 3600\r\n/);
  assert.ok(proxy.last().endsWith("local_rate_limited"));
  assert.deepEqual(["enabled", "ok", "rate_limited", "enforced", "shadow_mode"].map(proxy.stat), [3, 2, 1, 1, 0]);
});

test("local: without a bucket nothing is limited, without filter_enabled nothing is looked at", () => {
  const free = local({});
  assert.deepEqual([free.ask(), free.ask(), free.stat("ok")], [200, 200, 2]);
  const off = local({ filter_enabled: undefined, token_bucket: bucket(1) });
  assert.deepEqual([off.ask(), off.ask(), off.stat("enabled")], [200, 200, 0]);
});

test("local: who is not refused may be marked", () => {
  const proxy = local({
    token_bucket: bucket(1),
    filter_enforced: { default_value: { numerator: 0 } },
    request_headers_to_add_when_not_enforced: [{ header: { key: "x-seen", value: "over" } }],
  });
  assert.deepEqual([proxy.ask(), proxy.ask()], [200, 200]);
  assert.match(proxy.last(), /x-got: over/);
});

test("local: descriptors have buckets of their own; an empty value stands for any, each with its own", () => {
  const route = { rate_limits: [limits(header("a")), limits(header("a"), header("b"))] };
  const entries = (...pairs: string[][]): object[] => pairs.map(([key, value]) => ({ key, value }));
  const proxy = local(
    {
      token_bucket: bucket(100),
      descriptors: [
        { entries: entries(["a", ""]), token_bucket: bucket(2) },
        { entries: entries(["a", "1"], ["b", "2"]), token_bucket: bucket(1) },
      ],
    },
    route,
  );
  assert.deepEqual([proxy.ask({ a: "1", b: "2" }), proxy.ask({ a: "1", b: "2" })], [200, 429], "the pair");
  assert.deepEqual([proxy.ask({ a: "2" }), proxy.ask({ a: "2" }), proxy.ask({ a: "2" }), proxy.ask({ a: "3" })], [200, 200, 429, 200]);
  assert.equal(proxy.ask(), 200, "no descriptor");
});

test("local: shadow descriptors count, and let pass", () => {
  const descriptors = [{ entries: [{ key: "a", value: "1" }], token_bucket: bucket(1), shadow_mode: true }];
  const proxy = local({ token_bucket: bucket(100), descriptors }, { rate_limits: [limits(header("a"))] });
  assert.deepEqual([proxy.ask({ a: "1" }), proxy.ask({ a: "1" })], [200, 200]);
  assert.deepEqual(["ok", "rate_limited", "enforced", "shadow_mode"].map(proxy.stat), [1, 1, 0, 1]);
});

test("local: limits of the virtual host count where the route has none, or where it is asked", () => {
  const descriptors = [{ entries: [{ key: "v", value: "1" }], token_bucket: bucket(1) }];
  const host = { rate_limits: [limits(header("v"))] };
  const twice = (config: object, route: object): number[] => {
    const proxy = local({ token_bucket: bucket(100), descriptors, ...config }, route, host);
    return [proxy.ask({ v: "1" }), proxy.ask({ v: "1" })];
  };
  const own = { rate_limits: [limits(header("a"))] };
  assert.deepEqual(twice({}, {}), [200, 429]);
  assert.deepEqual(twice({}, own), [200, 200]);
  assert.deepEqual(twice({ vh_rate_limits: "INCLUDE" }, own), [200, 429]);
  assert.deepEqual(twice({ vh_rate_limits: "IGNORE" }, {}), [200, 200]);
  assert.deepEqual(twice({ vh_rate_limits: "IGNORE" }, { ...own, include_vh_rate_limits: true }), [200, 429]);
});

test("local: a connection's own limiter", () => {
  const config = { token_bucket: bucket(1), local_rate_limit_per_downstream_connection: true };
  const proxy = local(config);
  assert.deepEqual([proxy.ask(), proxy.ask()], [200, 429]);
  assert.equal(local(config).ask(), 200);
});

test("local: what a configuration may not be", () => {
  const findings = (config: object): string[] => {
    const context = testContext();
    localRateLimit.httpFilter.compileRoute(message(localType, { stat_prefix: "l", ...config }), context);
    return context.findings;
  };
  const descriptor = { entries: [{ key: "a", value: "x" }], token_bucket: bucket(1) };
  assert.deepEqual(findings({}), ["token_bucket: local rate limit token bucket must be set for per filter configs"]);
  assert.deepEqual(findings({ token_bucket: bucket(1), descriptors: [descriptor, descriptor] }), [": duplicate descriptor in the local rate descriptor: a=x"]);
  assert.deepEqual(findings({ token_bucket: { max_tokens: 1, fill_interval: "0.01s" } }), [
    "fill_interval: local rate limit token bucket fill timer must be >= 50ms",
  ]);
  assert.deepEqual(findings({ token_bucket: bucket(1), rate_limits: [{ actions: [header("a")], stage: 1 }] }), [
    "stage: 'stage' field and 'disable_key' field are not supported",
  ]);
});

const requestType = envoySchema().message("envoy.service.ratelimit.v3.RateLimitRequest");

/** A filter whose service answers with what `answer` gives. */
function global(
  config: object,
  route: object,
  answer: () => object | undefined,
): ReturnType<typeof managerHarness> & { readonly asked: RateLimitRequest[]; readonly context: TestContext } {
  const context = testContext();
  const asked: RateLimitRequest[] = [];
  const client = {
    unary(_service: string, _method: string, data: Uint8Array, _options: unknown, done: (answer: GrpcAnswer) => void) {
      assert.ok(requestType !== undefined);
      asked.push(decodeMessage(requestType, data, undefined) as unknown as RateLimitRequest);
      const json = answer();
      queueMicrotask(() =>
        done(
          json === undefined
            ? { ok: false, status: { code: 14, message: "" } }
            : { ok: true, headers: new ResponseHeaders(200), message: encodeMessage(message("envoy.service.ratelimit.v3.RateLimitResponse", json)) },
        ),
      );
      return { cancel() {} };
    },
  } as unknown as GrpcClient;
  const service = { transport_api_version: "V3", grpc_service: { envoy_grpc: { cluster_name: "rls" } } };
  const settings = compileSettings(
    message("envoy.extensions.filters.http.ratelimit.v3.RateLimit", { domain: "d", rate_limit_service: service, ...config }),
    context,
  );
  const harness = managerHarness([() => new RateLimitFilter(settings, client), () => new Backend()], routesWith(route));
  return { ...harness, asked, context };
}

const told = (request: RateLimitRequest): string[] => request.descriptors.map(({ entries }) => entries.map(({ key, value }) => `${key}=${value}`).join(" "));
const turn = (): Promise<void> => new Promise((done) => setImmediate(done));

test("global: the service is asked with the descriptors, and what it says is done", async () => {
  let answer: object | undefined = {
    overall_code: "OK",
    request_headers_to_add: [{ key: "x-seen", value: "yes" }],
    response_headers_to_add: [{ key: "x-rls", value: "1" }],
  };
  const proxy = global({}, { rate_limits: [limits(header("a")), limits(header("b"))] }, () => answer);
  proxy.receive(get());
  assert.equal(proxy.asked.length, 0, "nothing to ask about");
  proxy.receive(get({ a: "1" }));
  await turn();
  assert.equal(proxy.asked[0].domain, "d");
  assert.deepEqual(told(proxy.asked[0]), ["a=1"]);
  assert.match(proxy.connection.written, /x-got: yes\r\nx-rls: 1\r\n/);
  answer = {
    overall_code: "OVER_LIMIT",
    raw_body: Buffer.from("later").toString("base64"),
    response_headers_to_add: [
      { key: "x-rls", value: "2" },
      { key: ":status", value: "200" },
    ],
  };
  const before = proxy.connection.written.length;
  proxy.receive(get({ a: "1" }));
  await turn();
  const refused = proxy.connection.written.slice(before);
  assert.match(refused, /^HTTP\/1\.1 429 /);
  assert.match(refused, /\r\nx-rls: 2\r\nx-envoy-ratelimited: true\r\n/);
  assert.ok(refused.endsWith("later"));
  assert.deepEqual([proxy.logged.at(-1)?.details, proxy.logged.at(-1)?.info.flagNames], ["request_rate_limited", ["RL"]]);
});

test("global: a service that does not answer lets pass, unless it is told to deny", async () => {
  const route = { rate_limits: [limits(header("a"))] };
  const open = global({}, route, () => undefined);
  open.receive(get({ a: "1" }));
  await turn();
  assert.equal(open.logged[0].status, 200);
  const closed = global({ failure_mode_deny: true, status_on_error: { code: "Forbidden" } }, route, () => undefined);
  closed.receive(get({ a: "1" }));
  await turn();
  assert.deepEqual([closed.logged[0].status, closed.logged[0].details, closed.logged[0].info.flagNames], [403, "rate_limiter_error", ["RLSE"]]);
});

test("global: what counts when the stream is done is asked then, and nobody waits", async () => {
  const proxy = global({ stage: 1 }, { rate_limits: [{ ...limits(header("a")), apply_on_stream_done: true, stage: 1 }, limits(header("a"))] }, () => ({
    overall_code: "OVER_LIMIT",
  }));
  proxy.receive(get({ a: "1" }));
  await turn();
  assert.deepEqual(proxy.asked.map(told), [["a=1"]]);
  assert.equal(proxy.logged[0].status, 200);
});

test("x-ratelimit headers tell of the limit that is nearest, and of all", () => {
  const status = (remaining: number, limit?: object): object => ({
    limit_remaining: remaining,
    duration_until_reset: `${remaining}s`,
    ...(limit && { current_limit: limit }),
  });
  const headersOf = (...statuses: object[]): unknown => xRateLimitHeaders(message("envoy.service.ratelimit.v3.RateLimitResponse", { statuses }).statuses);
  assert.deepEqual(headersOf(status(10, { requests_per_unit: 10, unit: "HOUR", name: 'A"' }), status(5, { requests_per_unit: 7, unit: "SECOND" }), status(0)), {
    limit: '7, 10;w=3600;name="A", 7;w=1',
    remaining: "5",
    reset: "5",
  });
  assert.equal(headersOf(status(1)), undefined);
});

/** The descriptors of a request that comes from 192.0.2.77. */
function descriptors(limit: object, path = "/", fields: string[] = [], prepare: (info: StreamInfo) => void = () => {}): RateLimitDescriptor[] {
  const context = testContext();
  const [entry] = compileRateLimits([message("envoy.config.route.v3.RateLimit", limit)], context, true);
  const info = new StreamInfo(0, 0);
  info.downstreamRemoteAddress = ipAddress("192.0.2.77", 1);
  prepare(info);
  const headers = new RequestHeaders("GET", path, "x", "http");
  for (let i = 0; i < fields.length; i += 2) headers.add(fields[i], fields[i + 1]);
  const found = entry.descriptor({ headers, info, route: undefined, localCluster: "me" });
  return found === undefined ? [] : [found];
}
const pairs = (...given: Parameters<typeof descriptors>): string | undefined =>
  descriptors(...given)[0]
    ?.entries.map(({ key, value }) => `${key}=${value}`)
    .join(" ");

test("actions: what of a request goes into a descriptor", () => {
  const query = (more: object = {}): object => limits({ query_parameters: { query_parameter_name: "q", descriptor_key: "k", ...more } });
  assert.equal(pairs(limits({ source_cluster: {} }, { remote_address: {} })), "source_cluster=me remote_address=192.0.2.77");
  assert.equal(pairs(limits({ destination_cluster: {} })), undefined);
  assert.equal(pairs(limits({ masked_remote_address: { v4_prefix_mask_len: 8 } })), "masked_remote_address=192.0.0.0/8");
  assert.equal(pairs(query(), "/?q=%41"), "k=A");
  assert.equal(pairs(query(), "/"), undefined);
  assert.equal(pairs(query({ skip_if_absent: true }), "/"), "");
  assert.equal(pairs(limits({ generic_key: { descriptor_value: "%REQ(x)%" } })), "generic_key=%REQ(x)%", "no format");
  const match = (expected: boolean): object =>
    limits({ header_value_match: { descriptor_value: "v", expect_match: expected, headers: [{ name: "x-h", present_match: true }] } });
  assert.deepEqual([pairs(match(true), "/", ["x-h", "1"]), pairs(match(true)), pairs(match(false))], ["header_match=v", undefined, "header_match=v"]);
  const near = (invert: boolean): object =>
    limits({
      remote_address_match: { descriptor_value: "near", address_matcher: { ranges: [{ address_prefix: "192.0.2.0", prefix_len: 24 }], invert_match: invert } },
    });
  assert.deepEqual([pairs(near(false)), pairs(near(true))], ["remote_address_match=near", undefined]);
  const metadata = limits({ metadata: { descriptor_key: "m", metadata_key: { key: "ns", path: [{ key: "a" }, { key: "b" }] }, default_value: "none" } });
  assert.equal(pairs(metadata), "m=none");
  assert.equal(
    pairs(metadata, "/", [], (info) => info.setDynamicMetadata("ns", { a: { b: "c" } })),
    "m=c",
  );
});

test("actions: how many hits a request is", () => {
  const hits = (addend: object, value = ""): number | undefined | null =>
    descriptors({ ...limits(header("a")), hits_addend: addend }, "/", ["x-a", "1", "x-n", value]).map((one) => one.hits)[0] ?? null;
  assert.equal(hits({ number: 3 }), 3);
  assert.deepEqual(
    ["4", "1.5", "0", "-1", "many", "99999999999999999999"].map((value) => hits({ format: "%REQ(x-n)%" }, value)),
    [4, 1, 0, null, null, null],
  );
});

test("a table of buckets has room for so many names; the one that was not used longest goes", () => {
  const table = new SharedBucketTable({}, 2, new BucketRule(1, 1, 1000), () => 1n);
  const take = (name: string): boolean => table.bucket(name).take();
  assert.deepEqual(["a", "a", "b", "a", "c", "a", "b"].map(take), [true, false, true, false, true, false, true]);
});

test("workers share a table, and it never gives more than the tokens of its names", () => {
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.nat(1), fc.nat(60)), { maxLength: 300 }), fc.integer({ min: 61, max: 500 }), (uses, capacity) => {
      const owner = {};
      const rule = new BucketRule(2, 1, 1e6);
      const workers = [0, 1].map(() => new SharedBucketTable(owner, capacity * 4, rule, () => 1n));
      const given = new Map<number, number>();
      for (const [worker, name] of uses) if (workers[worker].bucket(String(name)).take()) given.set(name, (given.get(name) ?? 0) + 1);
      for (const count of given.values()) assert.ok(count <= 2);
    }),
    { numRuns: 50 },
  );
});
