import assert from "node:assert/strict";
import { test } from "node:test";
import { Trailers } from "../../http/header-map.ts";
import { RouterHarness, responseHeaders } from "./testing.ts";

test("a request goes upstream and its answer comes back", () => {
  const bed = new RouterHarness().request();
  assert.equal(bed.last.header("x-envoy-expected-rq-timeout-ms"), "15000");
  assert.equal(bed.last.ended, true);
  bed.pass(20);
  bed.last.answer(200, { "x-up": "1" }, "hello");
  assert.deepEqual([bed.status, bed.details, bed.body, bed.ended, bed.flags], [200, "via_upstream", "hello", true, ""]);
  assert.equal(bed.field("x-envoy-upstream-service-time"), "20");
  assert.deepEqual(
    ["upstream_rq_200", "upstream_rq_2xx", "upstream_rq_completed", "external.upstream_rq_200", "internal.upstream_rq_200"].map((name) => bed.cluster(name)),
    [1, 1, 1, 1, 0],
  );
  assert.equal(bed.stat("http.test.rq_total"), 1);
  assert.equal(bed.stat("host.0.rq_success"), 1);
  bed.destroy();
  assert.equal(bed.timers.armed, 0);
  assert.equal(bed.last.resetWith, undefined);
  assert.equal(bed.watermarks.length, 0);
  assert.deepEqual(bed.monitorCalls, ["local_origin_connect_success", "ext_origin_request_success 200"]);
});

test("a body streams upstream, held while no connection is there", () => {
  const bed = new RouterHarness({ bufferLimit: 4 });
  bed.poolMode = "wait";
  bed.request({}, { method: "POST", body: null }).data("abc").data("def");
  assert.equal(bed.clientPaused, 1);
  const stream = bed.connect();
  assert.deepEqual([stream.body, stream.ended, bed.clientPaused], ["abcdef", false, 0]);
  bed.data("ghi", true);
  assert.deepEqual([stream.body, stream.ended], ["abcdefghi", true]);
  assert.deepEqual([bed.cluster("upstream_flow_control_backed_up_total"), bed.cluster("upstream_flow_control_drained_total")], [1, 1]);
});

test("trailers pass both ways", () => {
  const bed = new RouterHarness().request({}, { method: "POST", body: null }).data("x");
  bed.filter.decodeTrailers(new Trailers(["a", "1"]));
  assert.equal(bed.last.trailers?.get("a"), "1");
  bed.last.decoder.decodeHeaders(responseHeaders(200), false);
  bed.last.decoder.decodeTrailers(new Trailers(["b", "2"]));
  assert.deepEqual([bed.trailers?.get("b"), bed.ended], ["2", true]);
});

test("no route, unknown cluster, no healthy host", () => {
  let bed = new RouterHarness({ virtualHost: { domains: ["else"] } }).request();
  assert.deepEqual([bed.status, bed.localReply?.body, bed.details, bed.flags, bed.stat("http.test.no_route")], [404, "", "route_not_found", "NR", 1]);
  bed = new RouterHarness({ missingClusters: true, action: { cluster_not_found_response_code: "NOT_FOUND" } }).request();
  assert.deepEqual([bed.status, bed.details, bed.flags, bed.stat("http.test.no_cluster")], [404, "cluster_not_found", "NC", 1]);
  bed = new RouterHarness();
  bed.noHosts = true;
  bed.request();
  assert.deepEqual([bed.status, bed.localReply?.body, bed.details, bed.flags], [503, "no healthy upstream", "no_healthy_upstream", "UH"]);
  assert.deepEqual([bed.cluster("upstream_rq_503"), bed.cluster("upstream_rq_5xx")], [1, 1]);
});

test("direct responses and redirects", () => {
  let bed = new RouterHarness({
    route: { direct_response: { status: 201, body: { inline_string: "made" } }, response_headers_to_add: [{ header: { key: "x-a", value: "b" } }] },
  }).request();
  assert.deepEqual([bed.status, bed.localReply?.body, bed.details, bed.flags, bed.field("x-a")], [201, "made", "direct_response", "", "b"]);
  assert.equal(bed.stat("http.test.rq_direct_response"), 1);
  bed = new RouterHarness({ route: { redirect: { host_redirect: "b.test" } } }).request({}, { path: "/p?q" });
  assert.deepEqual([bed.status, bed.field("location"), bed.details], [301, "http://b.test/p?q", "direct_response"]);
});

test("a reset before the head: body, details and flags say why", () => {
  const bodies = "upstream connect error or disconnect/reset before headers. reset reason: ";
  for (const [reason, status, text, flag] of [
    ["connection_termination", 503, "connection termination", "UC"],
    ["remote_reset", 503, "remote reset", "UR"],
    ["remote_refused_stream_reset", 503, "remote refused stream reset", "UR"],
    ["local_reset", 503, "local reset", "LR"],
    ["protocol_error", 502, "protocol error", "UPE"],
    ["overload_manager", 503, "overload manager reset", "OM"],
  ] as const) {
    const bed = new RouterHarness().request();
    bed.last.fail(reason);
    const details = `upstream_reset_before_response_started{${text.replaceAll(" ", "_")}}`;
    assert.deepEqual([bed.status, bed.localReply?.body, bed.details, bed.flags], [status, bodies + text, details, flag]);
    assert.equal(bed.cluster(`upstream_rq_${status}`), 1);
    assert.equal(bed.stat("host.0.rq_error"), 1);
    assert.equal(bed.timers.armed, 0);
  }
});

test("no connection: the pool says why", () => {
  for (const [mode, text, flag] of [
    ["remote_connection_failure", "remote connection failure", "UF"],
    ["local_connection_failure", "local connection failure", "UF"],
    ["timeout", "connection timeout", "UF"],
    ["overflow", "overflow", "UO"],
  ] as const) {
    const bed = new RouterHarness();
    bed.poolMode = mode;
    bed.transportFailure = mode === "remote_connection_failure" ? "delayed connect error: Connection refused" : "";
    bed.request();
    assert.equal(bed.flags, flag);
    // A circuit breaker says nothing about the host.
    assert.deepEqual(bed.monitorCalls, mode === "overflow" ? [] : ["local_origin_connect_failed"]);
    assert.equal(bed.field("x-envoy-overloaded"), mode === "overflow" ? "true" : undefined);
    assert.equal(bed.localReply?.body, `upstream connect error or disconnect/reset before headers. reset reason: ${text}`);
    assert.equal(
      bed.details,
      mode === "remote_connection_failure"
        ? "upstream_reset_before_response_started{remote_connection_failure|delayed_connect_error:_Connection_refused}"
        : `upstream_reset_before_response_started{${text.replaceAll(" ", "_")}}`,
    );
    assert.equal(bed.info.attemptedHosts, undefined);
    assert.equal(bed.info.upstream?.host?.address.text, "10.0.0.1:80");
  }
});

test("a reset in the middle of the response ends the stream", () => {
  const bed = new RouterHarness().request();
  bed.last.decoder.decodeHeaders(responseHeaders(200), false);
  bed.last.decoder.decodeData(Buffer.from("part"), false);
  bed.last.fail("connection_termination");
  assert.deepEqual([bed.resets, bed.details, bed.flags], [1, "upstream_reset_after_response_started{connection_termination}", "UC"]);
});

test("the client goes away: the try is reset, a request that waits is given up", () => {
  let bed = new RouterHarness().request();
  bed.destroy();
  assert.equal(bed.last.resetWith, "local_reset");
  bed = new RouterHarness();
  bed.poolMode = "wait";
  bed.request().destroy();
  assert.equal(bed.waiting[0].cancelled, true);
  assert.equal(bed.timers.armed, 0);
});

test("an answer before the request's end resets the rest of the exchange", () => {
  const bed = new RouterHarness().request({}, { method: "POST", body: null }).data("abc");
  bed.last.answer(413, {}, "stop");
  assert.deepEqual([bed.status, bed.body, bed.last.resetWith], [413, "stop", "local_reset"]);
  assert.equal(bed.field("x-envoy-upstream-service-time"), undefined);
  bed.data("more", true);
  assert.equal(bed.last.body, "abc");
});

test("flow control: the slow side pauses the other", () => {
  const bed = new RouterHarness().request({}, { method: "POST", body: null });
  const [callbacks] = bed.last.callbacks;
  callbacks.onAboveWriteBufferHighWatermark();
  assert.equal(bed.clientPaused, 1);
  callbacks.onBelowWriteBufferLowWatermark();
  assert.equal(bed.clientPaused, 0);
  bed.last.decoder.decodeHeaders(responseHeaders(200), false);
  bed.watermarks[0].onAboveWriteBufferHighWatermark();
  assert.equal(bed.last.readDisabled, 1);
  assert.equal(bed.cluster("upstream_flow_control_paused_reading_total"), 1);
  bed.watermarks[0].onBelowWriteBufferLowWatermark();
  assert.deepEqual([bed.last.readDisabled, bed.cluster("upstream_flow_control_resumed_reading_total")], [0, 1]);
  callbacks.onAboveWriteBufferHighWatermark();
  bed.watermarks[0].onAboveWriteBufferHighWatermark();
  bed.destroy();
  assert.deepEqual([bed.clientPaused, bed.last.readDisabled], [0, 0]);
});

test("1xx passes and ends retries", () => {
  const bed = new RouterHarness({ action: { retry_policy: { retry_on: "5xx" } } }).request();
  bed.last.decoder.decode1xxHeaders(responseHeaders(100));
  bed.last.answer(500);
  assert.deepEqual([bed.interim, bed.status, bed.tries.length, bed.cluster("upstream_rq_100")], [[100], 500, 1, 1]);
});

test("attempt counts in request and response, also of our own answers", () => {
  const virtualHost = { include_request_attempt_count: true, include_attempt_count_in_response: true };
  let bed = new RouterHarness({ virtualHost, action: { retry_policy: { retry_on: "5xx", num_retries: 2 } } }).request();
  assert.equal(bed.last.header("x-envoy-attempt-count"), "1");
  bed.last.answer(500);
  bed.pass(50);
  assert.equal(bed.last.header("x-envoy-attempt-count"), "2");
  bed.last.answer(200);
  assert.equal(bed.field("x-envoy-attempt-count"), "2");
  bed = new RouterHarness({ virtualHost }).request();
  bed.last.fail("connection_termination");
  assert.equal(bed.field("x-envoy-attempt-count"), "1");
});

test("suppress_envoy_headers", () => {
  const bed = new RouterHarness({ router: { suppress_envoy_headers: true } }).request();
  bed.last.answer(200);
  assert.deepEqual([bed.last.header("x-envoy-expected-rq-timeout-ms"), bed.field("x-envoy-upstream-service-time")], [undefined, undefined]);
});

test("strict_check_headers refuses malformed control fields", () => {
  const router = { strict_check_headers: ["x-envoy-upstream-rq-timeout-ms", "x-envoy-retry-on"] };
  const bed = new RouterHarness({ router }).request({ "x-envoy-upstream-rq-timeout-ms": "10s" });
  assert.deepEqual(
    [bed.status, bed.localReply?.body, bed.details, bed.flags],
    [400, "invalid header 'x-envoy-upstream-rq-timeout-ms' with value '10s'", "request_headers_failed_strict_check{x-envoy-upstream-rq-timeout-ms}", "IH"],
  );
  assert.equal(new RouterHarness({ router }).request({ "x-envoy-retry-on": "5xx, nonsense" }).status, 400);
  assert.equal(new RouterHarness({ router }).request({ "x-envoy-retry-on": "5xx,reset" }).tries.length, 1);
});

test("stats: internal, canary, zones, virtual clusters, routes, alternative names", () => {
  const bed = new RouterHarness({
    zone: "here",
    hosts: [{ canary: true, locality: { region: "", zone: "there", subZone: "" } }],
    route: { stat_prefix: "all" },
    virtualHost: { virtual_clusters: [{ name: "reads", headers: [{ name: ":path", string_match: { prefix: "/read" } }] }] },
  }).request({ "x-envoy-internal": "true", "x-envoy-upstream-alt-stat-name": "other" }, { path: "/read" });
  bed.last.answer(503);
  for (const name of ["upstream_rq_503", "internal.upstream_rq_503", "canary.upstream_rq_5xx", "zone.here.there.upstream_rq_503", "other.upstream_rq_503"])
    assert.equal(bed.cluster(name), 1, name);
  assert.equal(bed.cluster("external.upstream_rq_503"), 0);
  for (const name of ["vhost.v.vcluster.reads.upstream_rq_503", "vhost.v.vcluster.reads.upstream_rq_total", "vhost.v.route.all.upstream_rq_5xx"])
    assert.equal(bed.stat(name), 1, name);
  assert.equal(bed.last.header("x-envoy-upstream-alt-stat-name"), undefined);
  assert.equal(bed.info.virtualClusterName, "reads");
});

test("health checks and routers without dynamic stats count no codes", () => {
  const bed = new RouterHarness({ router: { dynamic_stats: false } }).request();
  bed.last.answer(200);
  assert.equal(bed.cluster("upstream_rq_200"), 0);
});

test("gRPC: success shows in the status, wherever it comes", () => {
  const grpc = { "content-type": "application/grpc" };
  const outcome = (act: (bed: RouterHarness) => void): number[] => {
    const bed = new RouterHarness().request(grpc);
    act(bed);
    return [bed.stat("host.0.rq_success"), bed.stat("host.0.rq_error")];
  };
  const trailers = (bed: RouterHarness, status: string): void => {
    bed.last.decoder.decodeHeaders(responseHeaders(200), false);
    bed.last.decoder.decodeTrailers(new Trailers(["grpc-status", status]));
  };
  assert.deepEqual(
    outcome((bed) => trailers(bed, "0")),
    [1, 0],
  );
  assert.deepEqual(
    outcome((bed) => trailers(bed, "13")),
    [0, 1],
  );
  assert.deepEqual(
    outcome((bed) => bed.last.answer(200, { "grpc-status": "14" })),
    [0, 1],
  );
  assert.deepEqual(
    outcome((bed) => bed.last.answer(200, {}, "no trailers")),
    [0, 1],
  );
});

test("a cookie for the hash goes with the response", () => {
  const bed = new RouterHarness({ action: { hash_policy: [{ cookie: { name: "sticky", ttl: "60s" } }] } }).request();
  assert.equal(typeof bed.balancer?.hash, "bigint");
  bed.last.answer(200);
  assert.match(bed.field("set-cookie") ?? "", /^sticky="[0-9a-f]{16}"; Max-Age=60; HttpOnly$/);
});

test("auto_host_rewrite takes the chosen host's name", () => {
  const bed = new RouterHarness({ action: { auto_host_rewrite: true, append_x_forwarded_host: true }, hosts: [{ hostname: "up.test" }] }).request();
  assert.deepEqual([bed.last.headers?.authority, bed.last.header("x-forwarded-host")], ["up.test", "a.test"]);
});

test("an upgrade: the payload waits for 101, then passes", () => {
  const fields = { connection: "Upgrade", upgrade: "websocket" };
  const bed = new RouterHarness().request(fields, { body: null }).data("early");
  assert.equal(bed.last.body, "");
  bed.last.decoder.decodeHeaders(responseHeaders(101, fields), false);
  assert.deepEqual([bed.last.body, bed.status, bed.upgraded], ["early", 101, true]);
  bed.data("later");
  assert.equal(bed.last.body, "earlylater");
});

test("mirrors get a copy with a host of its own", () => {
  const bed = new RouterHarness({ action: { request_mirror_policies: [{ cluster: "mirror" }] } }).request({}, { method: "POST", body: null }).data("ab");
  bed.data("cd", true);
  const [mirror] = bed.mirrors;
  assert.deepEqual([mirror.headers?.authority, mirror.body, mirror.ended, mirror.timeoutMs], ["a.test-shadow", "abcd", true, 15000]);
  assert.equal(bed.last.headers?.authority, "a.test");
  bed.destroy();
  assert.equal(mirror.wasReset, false);
  const cut = new RouterHarness({ action: { request_mirror_policies: [{ cluster: "mirror" }] } }).request({}, { method: "POST", body: null });
  cut.destroy();
  assert.equal(cut.mirrors[0].wasReset, true);
});

test("a share of requests is refused on purpose", () => {
  let bed = new RouterHarness();
  bed.context.setRuntime({ "upstream.maintenance_mode.service": 100 });
  bed.request();
  assert.deepEqual(
    [bed.status, bed.localReply?.body, bed.details, bed.flags, bed.field("x-envoy-overloaded"), bed.cluster("upstream_rq_maintenance_mode")],
    [503, "maintenance mode", "maintenance_mode", "UO", "true", 1],
  );
  bed = new RouterHarness({ cluster: { dropOverload: 1 } }).request();
  assert.deepEqual([bed.status, bed.details, bed.flags, bed.field("x-envoy-unconditional-drop-overload")], [503, "unconditional_drop_overload", "UDO", "true"]);
  bed = new RouterHarness({ cluster: { dropOverload: 0.5 }, random: () => 0.4 }).request();
  assert.deepEqual([bed.localReply?.body, bed.details, bed.flags, bed.field("x-envoy-drop-overload")], ["drop overload", "drop_overload", "DO", "true"]);
  bed = new RouterHarness({ cluster: { dropOverload: 0.5 }, random: () => 0.6 }).request();
  assert.equal(bed.tries.length, 1);
});
