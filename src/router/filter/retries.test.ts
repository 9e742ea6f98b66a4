import assert from "node:assert/strict";
import { test } from "node:test";
import type { StreamResetReason } from "../../http/codec.ts";
import { type HarnessOptions, RouterHarness, responseHeaders } from "./testing.ts";

const retrying = (retryOn: string, more: object = {}): HarnessOptions => ({ action: { retry_policy: { retry_on: retryOn, ...more } } });

/** How many tries there were after the first was answered so. */
function triesAfter(options: HarnessOptions, status: number, fields: Record<string, string> = {}, request: Record<string, string> = {}): number {
  const bed = new RouterHarness(options).request(request);
  bed.last.answer(status, fields);
  bed.pass(1000);
  return bed.tries.length;
}

test("retry_on and statuses", () => {
  for (const [retryOn, status, fields, want] of [
    ["5xx", 500, {}, 2],
    ["5xx", 599, {}, 2],
    ["5xx", 404, {}, 1],
    ["gateway-error", 500, {}, 1],
    ["gateway-error", 502, {}, 2],
    ["gateway-error", 503, {}, 2],
    ["gateway-error", 504, {}, 2],
    ["retriable-4xx", 409, {}, 2],
    ["retriable-4xx", 404, {}, 1],
    ["connect-failure,reset,refused-stream", 503, {}, 1],
    ["5xx", 503, { "x-envoy-ratelimited": "true" }, 1],
    ["envoy-ratelimited", 503, { "x-envoy-ratelimited": "true" }, 2],
    ["envoy-ratelimited", 503, {}, 1],
    ["cancelled", 200, { "grpc-status": "1" }, 2],
    ["deadline-exceeded", 200, { "grpc-status": "4" }, 2],
    ["internal", 200, { "grpc-status": "13" }, 2],
    ["resource-exhausted", 200, { "grpc-status": "8" }, 2],
    ["unavailable", 200, { "grpc-status": "14" }, 2],
    ["unavailable", 200, { "grpc-status": "13" }, 1],
    ["unavailable", 200, {}, 1],
  ] as const)
    assert.equal(triesAfter(retrying(retryOn), status, fields), want, `${retryOn} ${status} ${JSON.stringify(fields)}`);
});

test("retriable status codes and headers", () => {
  const options = retrying("retriable-status-codes,retriable-headers", {
    retriable_status_codes: [418, 425],
    retriable_headers: [{ name: "x-retry", string_match: { exact: "yes" } }],
  });
  assert.equal(triesAfter(options, 418), 2);
  assert.equal(triesAfter(options, 425), 2);
  assert.equal(triesAfter(options, 200, { "x-retry": "yes" }), 2);
  assert.equal(triesAfter(options, 200, { "x-retry": "no" }), 1);
  const limited = retrying("5xx", { retriable_request_headers: [{ name: "x-safe", present_match: true }] });
  assert.equal(triesAfter(limited, 500), 1);
  assert.equal(triesAfter(limited, 500, {}, { "x-safe": "1" }), 2);
});

test("retry_on and resets", () => {
  const tries = (retryOn: string, reason: StreamResetReason): number => {
    const bed = new RouterHarness(retrying(retryOn)).request();
    bed.last.fail(reason);
    bed.pass(500);
    return bed.tries.length;
  };
  for (const [retryOn, reason, want] of [
    ["reset", "remote_reset", 2],
    ["reset", "connection_termination", 2],
    ["5xx", "connection_termination", 2],
    ["gateway-error", "protocol_error", 2],
    ["refused-stream", "remote_refused_stream_reset", 2],
    ["refused-stream", "remote_reset", 1],
    ["connect-failure", "connection_termination", 1],
    ["reset-before-request", "connection_termination", 1],
    ["retriable-4xx", "remote_reset", 1],
  ] as const)
    assert.equal(tries(retryOn, reason), want, `${retryOn} ${reason}`);
});

test("retry_on and connections that fail", () => {
  for (const [retryOn, mode, want] of [
    ["connect-failure", "remote_connection_failure", 200],
    ["connect-failure", "local_connection_failure", 200],
    ["connect-failure", "timeout", 200],
    ["connect-failure", "overflow", 503],
    ["reset", "overflow", 503],
    ["5xx", "overflow", 503],
    ["reset-before-request", "remote_connection_failure", 200],
    ["retriable-4xx", "remote_connection_failure", 503],
  ] as const) {
    const bed = new RouterHarness(retrying(retryOn));
    bed.poolMode = mode;
    bed.request();
    bed.poolMode = "ready";
    bed.pass(500);
    if (want === 200) bed.last.answer(200);
    assert.equal(bed.status, want, `${retryOn} ${mode}`);
  }
});

test("retries are counted, and end", () => {
  const bed = new RouterHarness(retrying("5xx", { num_retries: 2 })).request();
  for (let i = 0; i < 2; i++) {
    bed.last.answer(503, {}, "bad");
    bed.pass(500);
  }
  assert.equal(bed.tries.length, 3);
  bed.last.answer(503, {}, "last");
  assert.deepEqual([bed.status, bed.body, bed.flags, bed.details], [503, "last", "URX", "via_upstream"]);
  for (const [name, want] of [
    ["upstream_rq_retry", 2],
    ["upstream_rq_retry_limit_exceeded", 1],
    ["upstream_rq_retry_success", 0],
    ["upstream_rq_retry_backoff_exponential", 2],
    ["retry.upstream_rq_503", 2],
    ["upstream_rq_503", 1],
  ] as const)
    assert.equal(bed.cluster(name), want, name);
  assert.deepEqual([bed.retriesHeld, bed.info.attemptCount], [0, 3]);
});

test("a retry that succeeds", () => {
  const bed = new RouterHarness({ ...retrying("5xx"), route: { stat_prefix: "r" } }).request();
  bed.last.answer(500);
  assert.equal(bed.retriesHeld, 1);
  bed.pass(50);
  bed.last.answer(200);
  assert.deepEqual([bed.status, bed.flags, bed.retriesHeld, bed.cluster("upstream_rq_retry_success")], [200, "", 0, 1]);
  assert.deepEqual([bed.stat("vhost.v.route.r.upstream_rq_retry"), bed.stat("vhost.v.route.r.upstream_rq_retry_success")], [1, 1]);
});

test("the last reset says that there was a retry", () => {
  const bed = new RouterHarness(retrying("reset")).request();
  bed.last.fail("connection_termination");
  bed.pass(50);
  bed.last.fail("connection_termination");
  assert.equal(bed.localReply?.body, "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: connection termination");
  assert.equal(bed.flags, "URX,UC");
});

test("the retry circuit breaker", () => {
  const bed = new RouterHarness({ ...retrying("5xx"), maxRetries: 0 }).request();
  bed.last.answer(503);
  assert.deepEqual([bed.status, bed.flags, bed.cluster("upstream_rq_retry_overflow"), bed.cluster("upstream_rq_retry")], [503, "UO", 1, 0]);
});

test("back-off doubles to its maximum and is fully jittered", () => {
  const bed = new RouterHarness({
    action: { retry_policy: { retry_on: "5xx", num_retries: 5, retry_back_off: { base_interval: "0.1s", max_interval: "0.3s" } } },
  });
  bed.request();
  // The random number is 0.999 of the interval.
  for (const interval of [95, 195, 295, 295]) {
    const before = bed.tries.length;
    bed.last.answer(500);
    bed.pass(interval - 10);
    assert.equal(bed.tries.length, before);
    bed.pass(20);
    assert.equal(bed.tries.length, before + 1);
  }
  const runtime = new RouterHarness(retrying("5xx"));
  runtime.context.setRuntime({ "upstream.base_retry_backoff_ms": 1000, "upstream.use_retry": 100 });
  runtime.request().last.answer(500);
  runtime.pass(900);
  assert.equal(runtime.tries.length, 1);
  runtime.pass(110);
  assert.equal(runtime.tries.length, 2);
  const off = new RouterHarness(retrying("5xx"));
  off.context.setRuntime({ "upstream.use_retry": 0 });
  off.request().last.answer(500);
  assert.deepEqual([off.status, off.flags, off.retriesHeld], [500, "", 0]);
  const none = new RouterHarness({ ...retrying("5xx"), random: () => 0 }).request();
  none.last.answer(500);
  none.pass(10);
  assert.equal(none.tries.length, 2);
});

test("rate limited back-off waits as long as the upstream asks", () => {
  const options = retrying("5xx", {
    rate_limited_retry_back_off: {
      reset_headers: [
        { name: "Retry-After", format: "SECONDS" },
        { name: "x-reset", format: "UNIX_TIMESTAMP" },
      ],
      max_interval: "5s",
    },
  });
  const wait = (fields: Record<string, string>): [number, number] => {
    const bed = new RouterHarness({ ...options, random: () => 0 }).request();
    bed.last.answer(503, fields);
    for (let ms = 0; ms < 10_000; ms += 50) {
      if (bed.tries.length === 2) return [ms, bed.cluster("upstream_rq_retry_backoff_ratelimited")];
      bed.pass(50);
    }
    return [-1, 0];
  };
  const [seconds, counted] = wait({ "retry-after": "2" });
  assert.ok(seconds >= 2000 && seconds <= 2100, String(seconds));
  assert.equal(counted, 1);
  const soon = String(Math.floor(new RouterHarness().clock.wall() / 1000) + 3);
  assert.ok(wait({ "x-reset": soon })[0] >= 1900);
  assert.deepEqual(wait({ "retry-after": "60" })[1], 0, "longer than allowed: the usual back-off");
  assert.deepEqual(wait({ "retry-after": "soon" })[1], 0);
});

test("the request's own fields ask for retries, and do not travel on", () => {
  const tries = (fields: Record<string, string>, status = 500): number => triesAfter({}, status, {}, fields);
  assert.equal(tries({ "x-envoy-retry-on": "5xx" }), 2);
  assert.equal(tries({ "x-envoy-max-retries": "3" }), 1);
  assert.equal(tries({ "x-envoy-retry-on": "retriable-status-codes", "x-envoy-retriable-status-codes": "404, 405" }, 405), 2);
  assert.equal(triesAfter({}, 200, { "x-again": "1" }, { "x-envoy-retry-on": "retriable-headers", "x-envoy-retriable-header-names": "X-Again" }), 2);
  assert.equal(triesAfter({}, 200, { "grpc-status": "14" }, { "x-envoy-retry-grpc-on": "unavailable" }), 2);
  const bed = new RouterHarness().request({ "x-envoy-retry-on": "5xx", "x-envoy-max-retries": "3" });
  assert.deepEqual([bed.last.header("x-envoy-retry-on"), bed.last.header("x-envoy-max-retries")], [undefined, undefined]);
  for (let i = 0; i < 5; i++) {
    if (bed.tries.length === i + 1) bed.last.answer(500);
    bed.pass(1000);
  }
  assert.equal(bed.tries.length, 4);
});

test("the body is sent again, whole or as far as it came", () => {
  let bed = new RouterHarness(retrying("5xx")).request({}, { method: "POST", body: "payload" });
  bed.last.answer(500);
  bed.pass(50);
  assert.deepEqual([bed.tries.length, bed.last.body, bed.last.ended], [2, "payload", true]);
  bed = new RouterHarness(retrying("5xx")).request({}, { method: "POST", body: null }).data("ab");
  bed.last.answer(500);
  assert.equal(bed.tries[0].resetWith, "local_reset");
  bed.pass(50).data("cd", true);
  assert.deepEqual([bed.last.body, bed.last.ended], ["abcd", true]);
  bed = new RouterHarness(retrying("5xx")).request({}, { method: "POST", body: null }).data("ab");
  bed.last.answer(500);
  bed.data("cd", true).pass(50);
  assert.deepEqual([bed.tries.length, bed.last.body, bed.last.ended], [2, "abcd", true]);
});

test("a body beyond the limit ends retries", () => {
  let bed = new RouterHarness({ ...retrying("5xx"), bufferLimit: 10 }).request({}, { method: "POST", body: null }).data("12345678");
  bed.data("90123", true);
  bed.last.answer(500);
  assert.deepEqual([bed.tries.length, bed.status, bed.last.body, bed.cluster("retry_or_shadow_abandoned")], [1, 500, "1234567890123", 1]);
  bed = new RouterHarness({ ...retrying("5xx"), bufferLimit: 10 }).request({}, { method: "POST", body: null }).data("12345678");
  bed.last.answer(500);
  bed.data("90123");
  assert.deepEqual(
    [bed.status, bed.localReply?.body, bed.details],
    [507, "exceeded request buffer limit while retrying upstream", "request_payload_exceeded_retry_buffer_limit"],
  );
  assert.equal(bed.timers.armed, 0);
});

test("host predicates keep retries away from hosts that failed", () => {
  const predicate = (name: string, config: object = {}): object => ({
    retry_policy: {
      retry_on: "5xx",
      num_retries: 3,
      host_selection_retry_max_attempts: 5,
      retry_host_predicate: [{ name, typed_config: { "@type": `type.googleapis.com/envoy.extensions.retry.host.${name}`, ...config } }],
    },
  });
  const secondHost = (action: object, hosts: HarnessOptions["hosts"]): string => {
    const bed = new RouterHarness({ action, hosts }).request();
    bed.last.answer(500);
    bed.pass(50);
    return bed.last.host.address.text;
  };
  const plain = [{}, {}, {}];
  assert.equal(secondHost(predicate("previous_hosts.v3.PreviousHostsPredicate"), plain), "10.0.0.2:80");
  assert.equal(secondHost(predicate("omit_canary_hosts.v3.OmitCanaryHostsPredicate"), [{}, { canary: true }, {}]), "10.0.0.3:80");
  const metadata = { "envoy.lb": { old: true } };
  const omit = predicate("omit_host_metadata.v3.OmitHostMetadataConfig", { metadata_match: { filter_metadata: metadata } });
  assert.equal(secondHost(omit, [{}, { metadata }, {}]), "10.0.0.3:80");
});

test("retry_priority names the priorities that were tried", () => {
  const bed = new RouterHarness({
    hosts: [{ priority: 0 }, { priority: 1 }],
    action: {
      retry_policy: {
        retry_on: "5xx",
        num_retries: 3,
        retry_priority: {
          name: "previous",
          typed_config: { "@type": "type.googleapis.com/envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig", update_frequency: 2 },
        },
      },
    },
  }).request();
  assert.deepEqual(bed.balancer?.triedPriorities, []);
  bed.last.answer(500);
  bed.pass(50);
  assert.deepEqual(bed.balancer?.triedPriorities.slice(), [0, 1]);
});

test("no host is left for the retry", () => {
  const bed = new RouterHarness(retrying("5xx")).request();
  bed.last.answer(500);
  bed.noHosts = true;
  bed.pass(50);
  assert.deepEqual([bed.status, bed.details, bed.flags, bed.retriesHeld], [503, "no_healthy_upstream", "UH", 0]);
});

test("the client leaves while a retry waits", () => {
  const bed = new RouterHarness(retrying("5xx")).request();
  bed.last.answer(500);
  bed.destroy();
  assert.equal(bed.timers.armed, 0);
  assert.equal(bed.retriesHeld, 0);
  bed.pass(1000);
  assert.equal(bed.tries.length, 1);
});

test("include_is_timeout_retry_header", () => {
  const bed = new RouterHarness({
    virtualHost: { include_is_timeout_retry_header: true },
    ...retrying("5xx", { num_retries: 2, per_try_timeout: "0.1s" }),
  }).request();
  bed.last.answer(500);
  bed.pass(50);
  assert.equal(bed.last.header("x-envoy-is-timeout-retry"), "false");
  bed.pass(200);
  assert.equal(bed.last.header("x-envoy-is-timeout-retry"), "true");
});

test("the head has been seen: nothing is retried any more", () => {
  const bed = new RouterHarness(retrying("reset,5xx")).request();
  bed.last.decoder.decodeHeaders(responseHeaders(200), false);
  bed.last.fail("remote_reset");
  assert.deepEqual([bed.tries.length, bed.resets], [1, 1]);
});
