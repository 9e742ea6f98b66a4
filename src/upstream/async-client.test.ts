import assert from "node:assert/strict";
import type { Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { RequestHeaders } from "../http/header-map.ts";
import { assignment, ok, TestCluster, Upstream, until } from "./testing.ts";
import type { AsyncRequestOptions, AsyncResult } from "./upstream.ts";

const timeout = { timeout: 10_000 };

async function bed(t: TestContext, answer: (socket: Socket) => void): Promise<TestCluster> {
  const upstream = await Upstream.start(answer);
  const cluster = new TestCluster({ load_assignment: assignment(upstream.port) });
  t.after(() => {
    cluster.close();
    upstream.close();
  });
  return cluster;
}

function send(cluster: TestCluster, options: AsyncRequestOptions = {}, body?: string): Promise<AsyncResult> {
  const headers = new RequestHeaders("POST", "/call", "svc.test", "http");
  return new Promise((resolve) => {
    cluster.core.httpClient.send(body === undefined ? { headers } : { headers, body: Buffer.from(body) }, options, resolve);
  });
}

test("a whole exchange", timeout, async (t) => {
  const cluster = await bed(t, (socket) =>
    socket.write("HTTP/1.1 201 Created\r\nx-a: b\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n"),
  );
  const result = await send(cluster, {}, "question");
  assert.ok(result.ok);
  assert.deepEqual([result.headers.status, result.headers.get("x-a"), result.body.toString()], [201, "b", "hello"]);
  assert.equal(cluster.stat("upstream_rq_total"), 1);
});

test("failures are told apart", timeout, async (t) => {
  const silent = await bed(t, () => {});
  const late = await send(silent, { timeoutMs: 20 });
  assert.deepEqual([late.ok, !late.ok && late.reason], [false, "timeout"]);
  const closing = await bed(t, (socket) => socket.destroy());
  const reset = await send(closing);
  assert.deepEqual(reset, { ok: false, reason: "reset", resetReason: "connection_termination" });
  const large = await send(await bed(t, (socket) => socket.write(ok)), { maxResponseBytes: 1 });
  assert.deepEqual([large.ok, !large.ok && large.reason], [false, "response_too_large"]);
  closing.update([]);
  const nobody = await send(closing);
  assert.deepEqual([nobody.ok, !nobody.ok && nobody.reason], [false, "no_healthy_upstream"]);
});

test("cancelling hears nothing more", timeout, async (t) => {
  const cluster = await bed(t, (socket) => socket.write(ok));
  const handle = cluster.core.httpClient.send({ headers: new RequestHeaders("GET", "/", "svc.test", "http") }, {}, () => assert.fail("called back"));
  handle.cancel();
  assert.ok((await send(cluster)).ok);
});

test("sizes of requests and responses are recorded where the cluster wants them, also of a request that found no connection", timeout, async (t) => {
  const upstream = await Upstream.start((socket) => socket.write(ok));
  const cluster = new TestCluster({ load_assignment: assignment(upstream.port), track_cluster_stats: { request_response_sizes: true } });
  t.after(() => cluster.close());
  await send(cluster, {}, "question");
  for (const socket of upstream.sockets) socket.destroy();
  upstream.close();
  await until(() => cluster.stat("upstream_cx_active") === 0);
  await send(cluster, {}, "question");
  const times = (name: string): number => [...cluster.stats.histogram(`cluster.service.${name}`, "bytes").take().values()].reduce((a, b) => a + b, 0);
  assert.deepEqual([times("upstream_rq_headers_size"), times("upstream_rq_body_size")], [2, 2]);
  assert.deepEqual([times("upstream_rs_headers_size"), times("upstream_rs_body_size")], [1, 1]);
});
