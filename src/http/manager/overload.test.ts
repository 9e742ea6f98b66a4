import assert from "node:assert/strict";
import { test } from "node:test";
import { testOverload } from "../../overload/testing.ts";
import type { HttpFilter } from "../filter.ts";
import { managerHarness } from "./testing.ts";

const get = "GET / HTTP/1.1\r\nhost: x\r\n\r\n";
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));
let made = 0;
const silent = (): HttpFilter => {
  made++;
  return { decodeHeaders: () => "stop", decodeData: () => "stop_no_buffer" };
};

test("requests are refused before anything is made for them, and again taken afterwards", async () => {
  const overload = testOverload();
  const { receive, logged, settings, connection } = managerHarness([silent], {}, { overload: overload.state });
  for (const name of ["envoy.overload_actions.stop_accepting_requests", "envoy.load_shed_points.http_connection_manager_decode_headers"] as const) {
    made = 0;
    connection.written = "";
    overload.set(name, 1);
    const answer = receive(get);
    await turn();
    overload.set(name, 0);
    assert.match(answer, /^HTTP\/1\.1 503 .*\r\nx-envoy-local-overloaded: true\r\n.*\r\n\r\nenvoy overloaded$/s);
    assert.equal(made, 0);
  }
  assert.deepEqual(
    logged.map(({ status, details, info }) => [status, details, info.flags]),
    [
      [503, "overload", 0],
      [503, "overload", 0],
    ],
  );
  assert.equal(settings.stats.downstream_rq_overload_close.value, 2);
  assert.equal(connection.state, "open");
  connection.written = "";
  assert.equal(receive(get), "");
  assert.equal(made, 1);
});

test("a request with a body is refused, and its body dropped", () => {
  const overload = testOverload();
  const { receive } = managerHarness([silent], {}, { overload: overload.state });
  overload.set("envoy.overload_actions.stop_accepting_requests", 1);
  assert.match(receive("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe"), /^HTTP\/1\.1 503 /);
  receive("llo");
});

test("a dispatch is given up with 500 and the end of the connection", async () => {
  const overload = testOverload();
  const { receive, logged, settings, connection } = managerHarness([silent], {}, { overload: overload.state });
  overload.set("envoy.load_shed_points.http1_server_abort_dispatch", 1);
  assert.match(receive(get), /^HTTP\/1\.1 500 .*connection: close.*Internal Server Error$/s);
  await turn();
  assert.equal(logged[0].details, "overload");
  assert.equal(settings.stats.downstream_rq_overload_close.value, 1);
  assert.notEqual(connection.closedAs, undefined);
});

test("a connection that says its first word is closed", () => {
  const overload = testOverload();
  const { receive, settings, connection } = managerHarness([silent], {}, { overload: overload.state });
  overload.set("envoy.load_shed_points.hcm_ondata_creating_codec", 1);
  assert.equal(receive(get), "");
  assert.deepEqual([connection.closedAs, settings.stats.downstream_rq_overload_close.value], ["no_flush", 1]);
});

test("filters are left out", () => {
  const overload = testOverload();
  const { receive, settings } = managerHarness([silent], {}, { overload: overload.state });
  overload.set("envoy.load_shed_points.http_downstream_filter_check", 1);
  assert.match(receive(get), /^HTTP\/1\.1 503 .*envoy overloaded$/s);
  assert.equal(settings.context.stats.counter("http.test.rq_overload_local_reply").value, 1);
});

test("connections are not kept", async () => {
  const overload = testOverload();
  const answers = (): HttpFilter => ({
    setDecoderCallbacks(callbacks) {
      this.decodeHeaders = () => {
        callbacks.sendLocalReply({ status: 200, details: "x" });
        return "stop";
      };
    },
  });
  const { receive, settings, connection } = managerHarness([answers], {}, { overload: overload.state });
  overload.set("envoy.overload_actions.disable_http_keepalive", 1);
  assert.match(receive(get), /connection: close/);
  await turn();
  assert.equal(settings.stats.downstream_cx_overload_disable_keepalive.value, 1);
  assert.notEqual(connection.closedAs, undefined);
});

test("idle connections and streams end sooner, also those that wait already", () => {
  const timers = new Map([
    ["HTTP_DOWNSTREAM_CONNECTION_IDLE", { minMs: 2000 }],
    ["HTTP_DOWNSTREAM_STREAM_IDLE", { minShare: 0.1 }],
  ] as const);
  const overload = testOverload(undefined, timers);
  const idle = managerHarness([silent], {}, { overload: overload.state });
  const busy = managerHarness([silent], {}, { overload: overload.state });
  busy.receive(get);
  idle.pass(5000);
  busy.pass(5000);
  assert.equal(idle.connection.state, "open");
  overload.set("envoy.overload_actions.reduce_timeouts", 1);
  idle.pass(1100);
  assert.equal(idle.settings.stats.downstream_cx_idle_timeout.value, 1);
  assert.equal(idle.connection.state, "closed");
  busy.pass(1100);
  assert.equal(busy.settings.stats.downstream_rq_idle_timeout.value, 0);
  for (let i = 0; i < 26; i++) busy.pass(1100);
  assert.equal(busy.settings.stats.downstream_rq_idle_timeout.value, 1);
});

test("streams say what they hold, and can be ended for it", () => {
  const held = (): HttpFilter => ({ decodeHeaders: () => "stop", decodeData: () => "stop_and_buffer" });
  const { receive, manager, logged, connection } = managerHarness([held], {}, { bufferLimit: 100_000 });
  receive(`POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 60000\r\n\r\n${"x".repeat(50_000)}`);
  const [holder] = manager.memoryHolders();
  assert.equal(holder.bytes, 50_000);
  holder.reset();
  assert.deepEqual(manager.memoryHolders(), []);
  assert.equal(logged[0].details, "overload_manager_reset");
  assert.notEqual(connection.closedAs, undefined);
});

test("an HTTP/2 client is told to go, or cut off", () => {
  const overload = testOverload();
  const begin = `PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0`;
  const polite = managerHarness([silent], {}, { overload: overload.state });
  overload.set("envoy.load_shed_points.http2_server_go_away_on_dispatch", 1);
  polite.receive(begin);
  assert.equal(polite.settings.h2.stats.goaway_sent.value, 1);
  assert.equal(polite.connection.state, "open");
  const cut = managerHarness([silent], {}, { overload: overload.state });
  overload.set("envoy.load_shed_points.http2_server_go_away_and_close_on_dispatch", 1);
  cut.receive(begin);
  assert.equal(cut.settings.stats.downstream_rq_overload_close.value, 1);
  assert.equal(cut.connection.closedAs, "flush_and_delay");
});
