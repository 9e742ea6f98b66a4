import assert from "node:assert/strict";
import { once } from "node:events";
import { createServer, type Http2Server, type ServerHttp2Session, type ServerHttp2Stream, type Settings } from "node:http2";
import type { AddressInfo, Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { RequestHeaders } from "../http/header-map.ts";
import { assignment, TestCluster, until } from "./testing.ts";

const timeout = { timeout: 10_000 };

function http2(options: object = {}, common: object = {}): object {
  return {
    typed_extension_protocol_options: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config: { http2_protocol_options: options },
        common_http_protocol_options: common,
      },
    },
  };
}

interface Bed {
  readonly cluster: TestCluster;
  readonly server: Http2Server;
  readonly sessions: ServerHttp2Session[];
  readonly streams: ServerHttp2Stream[];
  readonly sockets: Socket[];
}

/** A cluster in front of Node's own HTTP/2 server. */
async function bed(t: TestContext, answer: (stream: ServerHttp2Stream) => void, more: object = http2(), settings: Settings = {}): Promise<Bed> {
  const server = createServer({ settings });
  const sessions: ServerHttp2Session[] = [];
  const streams: ServerHttp2Stream[] = [];
  const sockets: Socket[] = [];
  server.on("connection", (socket: Socket) => sockets.push(socket));
  server.on("session", (session) => sessions.push(session));
  server.on("stream", (stream) => {
    stream.on("error", () => {});
    streams.push(stream);
    answer(stream);
  });
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const cluster = new TestCluster({ load_assignment: assignment((server.address() as AddressInfo).port), ...more });
  t.after(() => {
    cluster.close();
    for (const session of sessions) session.destroy();
    server.close();
  });
  return { cluster, server, sessions, streams, sockets };
}

function ok(stream: ServerHttp2Stream): void {
  stream.respond({ ":status": 200 });
  stream.end("ok");
}

test("requests share a connection; fields and statistics", timeout, async (t) => {
  const { cluster, sessions, streams } = await bed(t, ok);
  const headers = new RequestHeaders("GET", "/p?q", "a.test", "http", ["x-a", "1", "connection", "close"]);
  assert.equal(await cluster.send(headers).done, "200 ok");
  const calls = Array.from({ length: 20 }, () => cluster.send());
  assert.deepEqual(new Set(await Promise.all(calls.map(({ done }) => done))), new Set(["200 ok"]));
  assert.equal(sessions.length, 1);
  assert.equal(streams[0].sentHeaders?.[":status"], 200);
  for (const [name, value] of Object.entries({ upstream_cx_total: 1, upstream_cx_http2_total: 1, upstream_cx_http1_total: 0, upstream_rq_total: 21 }))
    assert.equal(cluster.stat(name), value, name);
  const [host] = cluster.core.hosts();
  assert.deepEqual([host.stats.rq_active.value, host.stats.cx_active.value], [0, 1]);
});

test("more streams than the server takes: another connection", timeout, async (t) => {
  const waiting: ServerHttp2Stream[] = [];
  const { cluster, sessions } = await bed(t, (stream) => waiting.push(stream), http2(), { maxConcurrentStreams: 2 });
  const calls = [cluster.send()];
  await until(() => waiting.length === 1);
  for (let i = 2; i <= 5; i++) {
    calls.push(cluster.send());
    await until(() => waiting.length === i);
  }
  assert.equal(sessions.length, 3);
  for (const stream of waiting) ok(stream);
  for (const { done } of calls) assert.equal(await done, "200 ok");
});

test("requests at once, more than an untold limit: none is refused", timeout, async (t) => {
  const { cluster, sessions } = await bed(t, ok, http2(), { maxConcurrentStreams: 100 });
  const calls = Array.from({ length: 350 }, () => cluster.send());
  assert.deepEqual(new Set(await Promise.all(calls.map(({ done }) => done))), new Set(["200 ok"]));
  assert.ok(sessions.length <= 4, `${sessions.length} connections`);
});

test("a reset by the server, and one by us", timeout, async (t) => {
  let closed = 0;
  const { cluster, streams } = await bed(t, (stream) => {
    stream.on("close", () => closed++);
    if (streams.length === 1) stream.close(2);
    else if (streams.length === 2) stream.close(7);
  });
  assert.equal(await cluster.send().done, "reset: remote_reset");
  assert.equal(await cluster.send().done, "reset: remote_refused_stream_reset");
  assert.equal(cluster.stat("upstream_rq_rx_reset"), 1);
  assert.equal(cluster.stat("http2.rx_reset"), 2);
  await until(() => closed === 2);
});

test("GOAWAY: what is under way ends as it would, what comes next has a new connection", timeout, async (t) => {
  const { cluster, sessions, streams } = await bed(t, (stream) => {
    if (streams.length > 1) ok(stream);
  });
  const first = cluster.send();
  await until(() => streams.length === 1);
  sessions[0].goaway(0, streams[0].id);
  await until(() => cluster.stat("upstream_cx_close_notify") === 1);
  assert.equal(await cluster.send().done, "200 ok");
  assert.equal(sessions.length, 2);
  ok(streams[0]);
  assert.equal(await first.done, "200 ok");
  await until(() => cluster.stat("upstream_cx_destroy") === 1);
});

test("the connection breaks: its streams end, the next request gets another", timeout, async (t) => {
  const { cluster, sockets, streams } = await bed(t, (stream) => {
    if (streams.length > 2) ok(stream);
  });
  const calls = [cluster.send(), cluster.send()];
  await until(() => streams.length === 2);
  sockets[0].destroy();
  for (const { done } of calls) assert.equal(await done, "reset: connection_termination");
  assert.equal(await cluster.send().done, "200 ok");
  const [host] = cluster.core.hosts();
  assert.equal(host.stats.rq_active.value, 0);
});

test("max_requests_per_connection ends a connection behind its last request", timeout, async (t) => {
  const { cluster, sessions } = await bed(t, ok, http2({}, { max_requests_per_connection: 2 }));
  for (let i = 0; i < 5; i++) assert.equal(await cluster.send().done, "200 ok");
  assert.equal(sessions.length, 3);
  assert.equal(cluster.stat("upstream_cx_max_requests"), 2);
});

test("a host that cannot be reached fails all that wait", timeout, async (t) => {
  const { cluster, server } = await bed(t, ok);
  server.close();
  await once(server, "close");
  const outcomes = await Promise.all([cluster.send().done, cluster.send().done]);
  for (const outcome of outcomes) assert.match(outcome, /^remote_connection_failure: .*Connection refused/);
  assert.equal(cluster.stat("upstream_rq_pending_failure_eject"), 2);
});

test("a request that is given up while it waits leaves nothing behind", timeout, async (t) => {
  const { cluster } = await bed(t, ok);
  const call = cluster.send();
  call.waiting?.cancel();
  assert.equal(cluster.stat("upstream_rq_cancelled"), 1);
  assert.equal(await cluster.send().done, "200 ok");
});

test("an upgrade is an extended CONNECT", timeout, async (t) => {
  const seen: string[] = [];
  const server = await bed(
    t,
    (stream) => {
      stream.respond({ ":status": 200 });
      stream.on("data", (chunk: Buffer) => stream.write(chunk.toString().toUpperCase()));
    },
    http2({ allow_connect: true }),
    { enableConnectProtocol: true },
  );
  server.server.on("stream", (_stream, headers) => seen.push(`${headers[":method"]} ${headers[":protocol"]} ${headers[":path"]}`));
  const call = server.cluster.send(new RequestHeaders("GET", "/chat", "a", "http", ["upgrade", "websocket", "connection", "upgrade"]), false);
  await until(() => call.status === 101);
  assert.deepEqual(seen, ["CONNECT websocket /chat"]);
});
