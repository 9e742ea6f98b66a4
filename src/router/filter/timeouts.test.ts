import assert from "node:assert/strict";
import { test } from "node:test";
import { type HarnessOptions, RouterHarness, responseHeaders } from "./testing.ts";

const body = "upstream request timeout";

test("the route's timeout answers 504", () => {
  const bed = new RouterHarness({ action: { timeout: "0.3s" } }).request();
  assert.equal(bed.last.header("x-envoy-expected-rq-timeout-ms"), "300");
  bed.pass(295);
  assert.equal(bed.status, undefined);
  bed.pass(15);
  assert.deepEqual([bed.status, bed.localReply?.body, bed.details, bed.flags, bed.last.resetWith], [504, body, "response_timeout", "UT", "local_reset"]);
  for (const name of ["upstream_rq_timeout", "upstream_rq_504", "upstream_rq_5xx"]) assert.equal(bed.cluster(name), 1, name);
  assert.equal(bed.stat("host.0.rq_timeout"), 1);
  assert.ok(bed.monitorCalls.includes("local_origin_timeout 504"));
  assert.equal(bed.timers.armed, 0);
});

test("it runs from the end of the request to the end of the response", () => {
  const bed = new RouterHarness({ action: { timeout: "0.3s" } }).request({}, { method: "POST", body: null });
  bed.pass(1000);
  assert.equal(bed.status, undefined);
  bed.data("x", true).pass(200);
  bed.last.decoder.decodeHeaders(responseHeaders(200), false);
  bed.pass(200);
  assert.deepEqual([bed.resets, bed.details, bed.flags, bed.cluster("upstream_rq_timeout")], [1, "response_timeout", "UT", 1]);
});

test("0 is no timeout", () => {
  const bed = new RouterHarness({ action: { timeout: "0s" } }).request();
  assert.equal(bed.last.header("x-envoy-expected-rq-timeout-ms"), undefined);
  assert.equal(bed.timers.armed, 0);
});

test("the request's own timeouts", () => {
  const expected = (fields: Record<string, string>, options: HarnessOptions = { action: { timeout: "30s" } }): (string | undefined)[] => {
    const bed = new RouterHarness(options).request(fields);
    return ["x-envoy-expected-rq-timeout-ms", "x-envoy-upstream-rq-timeout-ms", "x-envoy-upstream-rq-per-try-timeout-ms"].map((name) => bed.last.header(name));
  };
  assert.deepEqual(expected({ "x-envoy-upstream-rq-timeout-ms": "300" }), ["300", undefined, undefined]);
  assert.deepEqual(expected({ "x-envoy-upstream-rq-timeout-ms": "soon" }), ["30000", undefined, undefined]);
  assert.deepEqual(expected({ "x-envoy-upstream-rq-per-try-timeout-ms": "100" }), ["100", undefined, undefined]);
  assert.deepEqual(expected({ "x-envoy-upstream-rq-per-try-timeout-ms": "40000" }), ["30000", undefined, undefined]);
  assert.deepEqual(expected({ "x-envoy-expected-rq-timeout-ms": "77" }), ["30000", undefined, undefined]);
  assert.deepEqual(expected({ "x-envoy-expected-rq-timeout-ms": "77" }, { router: { respect_expected_rq_timeout: true } }), ["77", undefined, undefined]);
});

test("x-envoy-upstream-rq-timeout-alt-response", () => {
  const bed = new RouterHarness({ action: { timeout: "0.2s" } }).request({ "x-envoy-upstream-rq-timeout-alt-response": "1" });
  assert.equal(bed.last.header("x-envoy-upstream-rq-timeout-alt-response"), undefined);
  bed.pass(250);
  assert.deepEqual([bed.status, bed.localReply?.body, bed.cluster("upstream_rq_204"), bed.stat("host.0.rq_error")], [204, "", 1, 1]);
});

test("gRPC timeouts: the request's, capped, less the offset", () => {
  const timeouts = (grpcTimeout: string | undefined, action: object): (string | undefined)[] => {
    const bed = new RouterHarness({ action }).request({
      "content-type": "application/grpc",
      ...(grpcTimeout === undefined ? {} : { "grpc-timeout": grpcTimeout }),
    });
    return [bed.last.header("x-envoy-expected-rq-timeout-ms"), bed.last.header("grpc-timeout")];
  };
  assert.deepEqual(timeouts("5S", { max_grpc_timeout: "10s" }), ["5000", "5000m"]);
  assert.deepEqual(timeouts("50S", { max_grpc_timeout: "10s" }), ["10000", "10000m"]);
  assert.deepEqual(timeouts(undefined, { max_grpc_timeout: "10s" }), ["10000", "10000m"]);
  assert.deepEqual(timeouts("5S", { max_grpc_timeout: "0s" }), ["5000", "5000m"]);
  assert.deepEqual(timeouts(undefined, { max_grpc_timeout: "0s" }), [undefined, undefined]);
  assert.deepEqual(timeouts("5S", { max_grpc_timeout: "10s", grpc_timeout_offset: "1s" }), ["4000", "4000m"]);
  assert.deepEqual(timeouts("1S", { max_grpc_timeout: "10s", grpc_timeout_offset: "1s" }), ["1000", "1000m"]);
  assert.deepEqual(timeouts("5S", {}), ["15000", "5S"]);
  assert.deepEqual(timeouts("5S", { max_stream_duration: { max_stream_duration: "1s" } }), [undefined, "5S"]);
});

test("per-try timeout: 504, or another try", () => {
  const policy = (retryOn: string): HarnessOptions => ({ action: { timeout: "20s", retry_policy: { retry_on: retryOn, per_try_timeout: "0.1s" } } });
  let bed = new RouterHarness(policy("connect-failure")).request();
  assert.equal(bed.last.header("x-envoy-expected-rq-timeout-ms"), "100");
  bed.pass(120);
  assert.deepEqual([bed.status, bed.localReply?.body, bed.details, bed.flags], [504, body, "upstream_per_try_timeout", "UT"]);
  assert.deepEqual([bed.cluster("upstream_rq_per_try_timeout"), bed.stat("host.0.rq_timeout"), bed.tries[0].resetWith], [1, 1, "local_reset"]);
  bed = new RouterHarness(policy("5xx")).request();
  bed.pass(200);
  assert.equal(bed.tries.length, 2);
  bed.last.answer(200);
  assert.deepEqual([bed.status, bed.flags, bed.timers.armed], [200, "", 0]);
});

test("once the head has come, per-try timeouts do not count", () => {
  const bed = new RouterHarness({ action: { retry_policy: { retry_on: "5xx", per_try_timeout: "0.1s" } } }).request();
  bed.last.decoder.decodeHeaders(responseHeaders(200), false);
  bed.pass(500);
  assert.equal(bed.resets, 0);
});

test("per-try timeouts start when the request is complete", () => {
  const bed = new RouterHarness({ action: { retry_policy: { retry_on: "connect-failure", per_try_timeout: "0.1s" } } }).request(
    {},
    { method: "POST", body: null },
  );
  bed.pass(500);
  assert.equal(bed.status, undefined);
  bed.data("", true).pass(120);
  assert.equal(bed.details, "upstream_per_try_timeout");
});

test("per-try idle timeout: each sign of life begins it again", () => {
  const options = { action: { timeout: "20s", retry_policy: { retry_on: "connect-failure", per_try_idle_timeout: "0.1s" } } };
  let bed = new RouterHarness(options).request().pass(120);
  assert.deepEqual([bed.status, bed.details, bed.cluster("upstream_rq_per_try_idle_timeout")], [504, "upstream_per_try_idle_timeout", 1]);
  bed = new RouterHarness(options).request().pass(80);
  bed.last.decoder.decodeHeaders(responseHeaders(200), false);
  bed.pass(80);
  bed.last.decoder.decodeData(Buffer.from("x"), false);
  bed.pass(80);
  assert.equal(bed.resets, 0);
  bed.pass(40);
  assert.deepEqual([bed.resets, bed.details], [1, "upstream_per_try_idle_timeout"]);
});

test("hedging: the slow try goes on beside the new one, the first good answer wins", () => {
  const options = {
    action: { timeout: "20s", retry_policy: { retry_on: "5xx", num_retries: 3, per_try_timeout: "0.1s" }, hedge_policy: { hedge_on_per_try_timeout: true } },
  };
  let bed = new RouterHarness(options).request();
  assert.equal(bed.last.header("x-envoy-expected-rq-timeout-ms"), "20000");
  bed.pass(150);
  assert.deepEqual([bed.tries.length, bed.tries[0].resetWith], [2, undefined]);
  bed.tries[0].answer(200, {}, "first");
  assert.deepEqual([bed.status, bed.body, bed.tries[1].resetWith, bed.flags], [200, "first", "local_reset", ""]);
  assert.equal(bed.timers.armed, 0);

  bed = new RouterHarness(options).request().pass(150);
  bed.tries[0].answer(500, {}, "bad");
  assert.equal(bed.status, undefined, "the other may still do better");
  bed.tries[1].answer(200, {}, "second");
  assert.deepEqual([bed.status, bed.body], [200, "second"]);

  bed = new RouterHarness(options).request().pass(150);
  bed.tries[1].fail("connection_termination");
  bed.tries[0].answer(200, {}, "first");
  assert.deepEqual([bed.status, bed.body], [200, "first"]);
});

test("hedging by the request's own wish", () => {
  const bed = new RouterHarness({ action: { retry_policy: { retry_on: "5xx", per_try_timeout: "0.1s" } } }).request({
    "x-envoy-hedge-on-per-try-timeout": "true",
  });
  bed.pass(150);
  assert.deepEqual([bed.tries.length, bed.tries[0].resetWith], [2, undefined]);
});

test("all tries are given up when the time of the whole is over", () => {
  const bed = new RouterHarness({
    action: { timeout: "0.3s", retry_policy: { retry_on: "5xx", num_retries: 5, per_try_timeout: "0.1s" }, hedge_policy: { hedge_on_per_try_timeout: true } },
  });
  bed.request().pass(310);
  assert.deepEqual([bed.status, bed.details], [504, "response_timeout"]);
  assert.ok(bed.tries.every((one) => one.resetWith === "local_reset"));
  assert.equal(bed.timers.armed, 0);
});

test("a retry is told how much time is left", () => {
  const bed = new RouterHarness({ action: { timeout: "1s", retry_policy: { retry_on: "5xx" } }, random: () => 0 }).request().pass(400);
  bed.last.answer(500);
  bed.pass(10);
  assert.ok(Number(bed.last.header("x-envoy-expected-rq-timeout-ms")) <= 600);
});

test("max_stream_duration of the cluster, or of the request", () => {
  const check = (bed: RouterHarness): void => {
    assert.deepEqual(
      [bed.status, bed.localReply?.body, bed.details, bed.flags, bed.cluster("upstream_rq_max_duration_reached")],
      [504, "upstream max stream duration reached", "upstream_max_stream_duration_reached", "UMSDR", 1],
    );
  };
  check(new RouterHarness({ cluster: { maxStreamDurationMs: 100 } }).request().pass(120));
  const bed = new RouterHarness().request({ "x-envoy-upstream-stream-duration-ms": "100" });
  assert.equal(bed.last.header("x-envoy-upstream-stream-duration-ms"), undefined);
  check(bed.pass(120));
});

test("timeout budgets", () => {
  const bed = new RouterHarness({ cluster: { timeoutBudgets: true }, action: { timeout: "1s" } }).request().pass(500);
  bed.last.answer(200);
  const used = bed.context.stats.histogram("cluster.service.upstream_rq_timeout_budget_percent_used", "percent").take();
  assert.equal([...used.keys()].length, 1);
});
