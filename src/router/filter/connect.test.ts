import assert from "node:assert/strict";
import { test } from "node:test";
import { FakeConnection } from "../../http/manager/testing.ts";
import { ipAddress } from "../../net/address.ts";
import type { ReadFilter } from "../../net/connection.ts";
import { proxyHeader } from "./connect-upstream.ts";
import { RouterHarness } from "./testing.ts";

const terminated = { action: { upgrade_configs: [{ upgrade_type: "CONNECT", connect_config: {} }] }, route: { match: { connect_matcher: {} } } };

class RawConnection extends FakeConnection {
  filter: ReadFilter | undefined = undefined;
  override setReadFilter(filter: ReadFilter): void {
    this.filter = filter;
  }
}

function open(bed: RouterHarness): RawConnection {
  const connection = new RawConnection();
  bed.tcpCallbacks?.onPoolReady(connection, bed.hosts[0]);
  return connection;
}

test("CONNECT ends here: 200, then bytes both ways", () => {
  const bed = new RouterHarness(terminated).request({}, { method: "CONNECT", path: "/", body: null }).data("early ");
  const connection = open(bed);
  assert.deepEqual([bed.status, bed.upgraded, connection.written], [200, true, "early "]);
  bed.data("late");
  assert.equal(connection.written, "early late");
  connection.filter?.onData(Buffer.from("answer"), false);
  assert.equal(bed.body, "answer");
  connection.filter?.onData(Buffer.from(" end"), true);
  assert.deepEqual([bed.body, bed.ended], ["answer end", true]);
});

test("the connection cannot be made, or there is none to make", () => {
  let bed = new RouterHarness(terminated).request({}, { method: "CONNECT", body: null });
  bed.tcpCallbacks?.onPoolFailure("remote_connection_failure", "delayed connect error: Connection refused", undefined);
  assert.deepEqual([bed.status, bed.flags], [503, "UF"]);
  bed = new RouterHarness(terminated);
  bed.noHosts = true;
  bed.request({}, { method: "CONNECT", body: null });
  assert.deepEqual([bed.status, bed.details], [503, "no_healthy_upstream"]);
});

test("the peer closes in the middle", () => {
  const bed = new RouterHarness(terminated).request({}, { method: "CONNECT", body: null });
  open(bed).closeByPeer();
  assert.deepEqual([bed.resets, bed.details, bed.flags], [1, "upstream_reset_after_response_started{connection_termination}", "UC"]);
});

test("the client leaves", () => {
  const bed = new RouterHarness(terminated).request({}, { method: "CONNECT", body: null });
  const connection = open(bed);
  bed.destroy();
  assert.equal(connection.closedAs, "no_flush");
});

test("a CONNECT that is passed on waits with its payload", () => {
  const options = { ...terminated, action: { upgrade_configs: [{ upgrade_type: "CONNECT" }] } };
  let bed = new RouterHarness(options).request({}, { method: "CONNECT", body: null }).data("early");
  assert.equal(bed.last.body, "");
  bed.last.answer(403, {}, "no");
  assert.deepEqual([bed.status, bed.body, bed.last.body, bed.last.resetWith], [403, "no", "", "local_reset"]);
  bed = new RouterHarness({ ...options, router: { reject_connect_request_early_data: true } }).request({}, { method: "CONNECT", body: null }).data("early");
  assert.deepEqual([bed.status, bed.details, bed.last.resetWith], [400, "early_connect_data", "local_reset"]);
});

test("WebSocket refused: the head goes back alone", () => {
  const bed = new RouterHarness().request({ connection: "Upgrade", upgrade: "websocket" }, { body: null });
  bed.last.answer(200, { "x-a": "b", "content-length": "2" }, "no");
  assert.deepEqual(
    [bed.status, bed.details, bed.field("x-a"), bed.field("content-length"), bed.cluster("upstream_rq_200")],
    [200, "websocket_handshake_unsuccessful", "b", undefined, 0],
  );
  const refused = new RouterHarness().request({ connection: "Upgrade", upgrade: "websocket" }, { body: null });
  refused.last.answer(403, {}, "no");
  assert.deepEqual([refused.status, refused.body, refused.details], [403, "no", "via_upstream"]);
});

test("PROXY protocol headers", () => {
  const four = [ipAddress("1.2.3.4", 1000), ipAddress("5.6.7.8", 80)] as const;
  const six = [ipAddress("2001:db8::1", 1000), ipAddress("::1", 80)] as const;
  assert.equal(proxyHeader(1, ...four).toString(), "PROXY TCP4 1.2.3.4 5.6.7.8 1000 80\r\n");
  assert.equal(proxyHeader(1, ...six).toString(), "PROXY TCP6 2001:db8::1 ::1 1000 80\r\n");
  assert.equal(proxyHeader(1, undefined, four[1]).toString(), "PROXY UNKNOWN\r\n");
  assert.equal(proxyHeader(2, ...four).toString("hex"), "0d0a0d0a000d0a515549540a2111000c010203040506070803e80050");
  assert.equal(
    proxyHeader(2, ...six).toString("hex"),
    "0d0a0d0a000d0a515549540a2121002420010db80000000000000000000000010000000000000000000000000000000103e80050",
  );
  assert.equal(proxyHeader(2, undefined, undefined).toString("hex"), "0d0a0d0a000d0a515549540a20000000");
});
