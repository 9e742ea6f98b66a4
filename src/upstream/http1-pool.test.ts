import assert from "node:assert/strict";
import type { Socket } from "node:net";
import { type TestContext, test } from "node:test";
import { RequestHeaders } from "../http/header-map.ts";
import { assignment, ok, TestCluster, Upstream, until } from "./testing.ts";

const timeout = { timeout: 10_000 };

async function bed(
  t: TestContext,
  answer: (socket: Socket, request: number) => void,
  more: object = {},
): Promise<{ cluster: TestCluster; upstream: Upstream }> {
  const upstream = await Upstream.start(answer);
  const cluster = new TestCluster({ load_assignment: assignment(upstream.port), ...more });
  t.after(() => {
    cluster.close();
    upstream.close();
  });
  return { cluster, upstream };
}

function http(common: object): object {
  return {
    typed_extension_protocol_options: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config: { http_protocol_options: {} },
        common_http_protocol_options: common,
      },
    },
  };
}

/** Statistics of the cluster that are not 0, of those named. */
function counted(cluster: TestCluster, ...names: string[]): Record<string, number> {
  return Object.fromEntries(names.map((name) => [name, cluster.stat(name)]));
}

test("requests one after the other share a connection; the second begins at once", timeout, async (t) => {
  const { cluster, upstream } = await bed(t, (socket) => socket.write(ok));
  assert.equal(await cluster.send().done, "200 ok");
  const second = cluster.send();
  assert.equal(second.waiting, undefined, "an idle connection calls back before newStream returns");
  assert.equal(await second.done, "200 ok");
  assert.equal(upstream.connections, 1);
  assert.deepEqual(counted(cluster, "upstream_cx_total", "upstream_cx_http1_total", "upstream_rq_total", "upstream_rq_pending_total", "upstream_cx_destroy"), {
    upstream_cx_total: 1,
    upstream_cx_http1_total: 1,
    upstream_rq_total: 2,
    upstream_rq_pending_total: 1,
    upstream_cx_destroy: 0,
  });
  assert.ok(cluster.stat("upstream_cx_rx_bytes_total") === 2 * ok.length && cluster.stat("upstream_cx_tx_bytes_total") > 40);
  const [host] = cluster.core.hosts();
  assert.deepEqual([host.stats.rq_total.value, host.stats.cx_total.value, host.stats.rq_active.value, host.stats.cx_active.value], [2, 1, 0, 1]);
});

test("requests at the same time get connections of their own; the last used is used first", timeout, async (t) => {
  const { cluster, upstream } = await bed(t, (socket, request) => {
    if (request > 3) socket.write(ok);
    else if (request === 3) for (const each of upstream.sockets) each.write(ok);
  });
  const calls = [cluster.send(), cluster.send(), cluster.send()];
  assert.deepEqual(await Promise.all(calls.map((call) => call.done)), ["200 ok", "200 ok", "200 ok"]);
  assert.equal(upstream.connections, 3);
  const first = cluster.send();
  await first.done;
  const second = cluster.send();
  await second.done;
  assert.equal(first.connectionId, second.connectionId);
  assert.equal(upstream.connections, 3);
});

test("a refused connection fails who waits, and is counted as Envoy counts it", timeout, async (t) => {
  const { cluster, upstream } = await bed(t, () => {});
  upstream.close();
  assert.equal(await cluster.send().done, "remote_connection_failure: delayed connect error: Connection refused");
  const names = ["upstream_cx_connect_fail", "upstream_cx_destroy", "upstream_cx_destroy_remote", "upstream_rq_pending_failure_eject", "upstream_cx_total"];
  assert.deepEqual(Object.values(counted(cluster, ...names)), [1, 1, 1, 1, 1]);
  assert.deepEqual(Object.values(counted(cluster, "upstream_rq_total", "upstream_cx_active", "upstream_rq_pending_active")), [0, 0, 0]);
});

test("an address that cannot be bound is a local failure", timeout, async (t) => {
  const { cluster } = await bed(t, () => {}, { upstream_bind_config: { source_address: { address: "192.0.2.1", port_value: 0 } } });
  assert.match(await cluster.send().done, /^local_connection_failure: failed to bind to 192\.0\.2\.1:0: Cannot assign requested address$/);
  assert.deepEqual(Object.values(counted(cluster, "bind_errors", "upstream_cx_connect_fail", "upstream_cx_destroy_local")), [1, 1, 1]);
});

test("max_requests refuses a request although a connection is idle", timeout, async (t) => {
  const { cluster } = await bed(t, (socket, request) => request === 1 && socket.write(ok), { circuit_breakers: { thresholds: [{ max_requests: 1 }] } });
  await cluster.send().done;
  const held = cluster.send();
  assert.equal(await cluster.send().done, "overflow");
  assert.deepEqual(Object.values(counted(cluster, "upstream_rq_active_overflow", "upstream_rq_pending_overflow")), [1, 0]);
  cluster.close();
  assert.equal(await held.done, "reset: connection_termination");
});

test("max_connections makes requests wait, max_pending_requests refuses them", timeout, async (t) => {
  const { cluster, upstream } = await bed(t, (socket, request) => request > 1 && socket.write(ok), {
    circuit_breakers: { thresholds: [{ max_connections: 1, max_pending_requests: 1 }] },
  });
  const first = cluster.send();
  await until(() => upstream.requests === 1);
  const second = cluster.send();
  assert.equal(await cluster.send().done, "overflow");
  upstream.sockets[0].write(ok);
  assert.deepEqual([await first.done, await second.done], ["200 ok", "200 ok"]);
  assert.equal(upstream.connections, 1);
  assert.deepEqual(Object.values(counted(cluster, "upstream_cx_overflow", "upstream_rq_pending_overflow", "upstream_rq_active_overflow")), [1, 1, 0]);
});

test("waiting requests are refused one by one when max_requests is reached, none is forgotten", timeout, async (t) => {
  const { cluster, upstream } = await bed(t, () => {}, { circuit_breakers: { thresholds: [{ max_requests: 1, max_connections: 2 }] } });
  const first = cluster.send();
  await until(() => upstream.requests === 1);
  const others = [cluster.send(), cluster.send(), cluster.send()];
  assert.deepEqual(await Promise.all(others.map((call) => call.done)), ["overflow", "overflow", "overflow"]);
  upstream.sockets[0].write(ok);
  assert.equal(await first.done, "200 ok");
});

test("a waiting request that is cancelled leaves the connection for the next", timeout, async (t) => {
  const { cluster, upstream } = await bed(t, (socket) => socket.write(ok));
  const call = cluster.send();
  call.waiting?.cancel();
  call.waiting?.cancel();
  await until(() => upstream.connections === 1);
  assert.equal(await cluster.send().done, "200 ok");
  assert.equal(upstream.connections, 1);
  assert.deepEqual(Object.values(counted(cluster, "upstream_rq_cancelled", "upstream_rq_pending_active")), [1, 0]);
});

test("max_requests_per_connection and connection: close end a connection behind the response", timeout, async (t) => {
  const { cluster, upstream } = await bed(t, (socket) => socket.write(ok), http({ max_requests_per_connection: 2 }));
  for (let i = 0; i < 5; i++) await cluster.send().done;
  assert.deepEqual(upstream.usedConnections, [1, 1, 2, 2, 3]);
  assert.equal(cluster.stat("upstream_cx_max_requests"), 2);

  const closing = await bed(t, (socket) => socket.write("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok"));
  for (let i = 0; i < 2; i++) assert.equal(await closing.cluster.send().done, "200 ok");
  assert.deepEqual(
    Object.values(counted(closing.cluster, "upstream_cx_close_notify", "upstream_cx_destroy_local", "upstream_cx_destroy_with_active_rq")),
    [2, 2, 0],
  );
});

test("idle_timeout and max_connection_duration end idle connections", timeout, async (t) => {
  for (const [option, name] of [
    ["idle_timeout", "upstream_cx_idle_timeout"],
    ["max_connection_duration", "upstream_cx_max_duration_reached"],
  ]) {
    const { cluster, upstream } = await bed(t, (socket) => socket.write(ok), http({ [option]: "0.03s" }));
    await cluster.send().done;
    await until(() => cluster.stat("upstream_cx_active") === 0);
    assert.deepEqual(Object.values(counted(cluster, name, "upstream_cx_destroy_local")), [1, 1], option);
    assert.equal(await cluster.send().done, "200 ok");
    assert.equal(upstream.connections, 2);
  }
});

test("a response without a length ends with its connection, which is no failure", timeout, async (t) => {
  const { cluster } = await bed(t, (socket) => socket.end("HTTP/1.1 200 OK\r\n\r\nall of it"));
  assert.equal(await cluster.send().done, "200 all of it");
  await until(() => cluster.stat("upstream_cx_destroy_remote") === 1);
  assert.deepEqual(Object.values(counted(cluster, "upstream_cx_destroy_with_active_rq", "upstream_rq_active", "upstream_cx_protocol_error")), [0, 0, 0]);
});

test("connections that end early reset their request; parts of a response are a breach of protocol", timeout, async (t) => {
  for (const [bytes, outcome, errors] of [
    ["", "reset: connection_termination", 0],
    ["HTTP/1.1 200 OK\r\ncontent-le", "reset: protocol_error", 1],
    ["HTTP/1.1 200 OK\r\ncontent-length: 20\r\n\r\nok", "reset: protocol_error", 1],
    ["NONSENSE\r\n\r\n", "reset: protocol_error", 1],
  ] as const) {
    const { cluster } = await bed(t, (socket) => socket.end(bytes));
    assert.equal(await cluster.send().done, outcome, bytes);
    assert.deepEqual(
      Object.values(counted(cluster, "upstream_cx_protocol_error", "upstream_cx_destroy_with_active_rq", "upstream_rq_active")),
      [errors, 1, 0],
      bytes,
    );
  }
});

test("bytes behind a response never become the answer to the next request", timeout, async (t) => {
  const { cluster, upstream } = await bed(t, (socket, request) => socket.write(request === 1 ? `${ok}HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil` : ok));
  const first = cluster.send();
  // The next request comes while the bytes of the first answer are still being taken.
  const second = new Promise<string>((resolve) => {
    first.onEnd = () => resolve(cluster.send().done);
  });
  assert.equal(await first.done, "200 ok");
  assert.equal(await second, "200 ok");
  assert.equal(upstream.connections, 2);
  assert.equal(cluster.stat("upstream_cx_protocol_error"), 1);
});

test("a request that comes with the end of a response waits for that connection, not for a new one", timeout, async (t) => {
  const { cluster, upstream } = await bed(t, (socket) => socket.write(ok));
  const first = cluster.send();
  const second = new Promise<string>((resolve) => {
    first.onEnd = () => resolve(cluster.send().done);
  });
  assert.equal(await second, "200 ok");
  assert.equal(upstream.connections, 1);
});

test("bytes on an idle connection end it; 408 there is no breach", timeout, async (t) => {
  for (const [bytes, errors] of [
    ["HTTP/1.1 200 OK\r\n\r\n", 1],
    ["HTTP/1.1 408 Request Timeout\r\n\r\n", 0],
  ] as const) {
    const { cluster, upstream } = await bed(t, (socket) => socket.write(ok));
    await cluster.send().done;
    upstream.sockets[0].write(bytes);
    await until(() => cluster.stat("upstream_cx_active") === 0);
    assert.equal(cluster.stat("upstream_cx_protocol_error"), errors);
  }
});

test("a response that ends before its request uses the connection up", timeout, async (t) => {
  const { cluster, upstream } = await bed(t, (socket) => socket.write(ok));
  const headers = new RequestHeaders("POST", "/", "a.test", "http", ["content-length", "10"]);
  assert.equal(await cluster.send(headers, false).done, "200 ok");
  await until(() => cluster.stat("upstream_cx_active") === 0);
  assert.deepEqual(Object.values(counted(cluster, "upstream_cx_destroy_local_with_active_rq", "upstream_cx_close_notify", "upstream_rq_active")), [1, 0, 0]);
  assert.equal(await cluster.send().done, "200 ok");
  assert.equal(upstream.connections, 2);
});

test("a member that goes loses its idle connections at once and busy ones behind their response", timeout, async (t) => {
  const { cluster, upstream } = await bed(t, (socket, request) => request === 1 && socket.write(ok));
  await cluster.send().done;
  const busy = cluster.send();
  await until(() => upstream.requests === 2);
  cluster.update([]);
  assert.equal(await cluster.send().done, "no host");
  assert.equal(cluster.stat("upstream_cx_none_healthy"), 1);
  upstream.sockets[0].write(ok);
  assert.equal(await busy.done, "200 ok");
  await until(() => cluster.stat("upstream_cx_active") === 0);
});

test("per_upstream_preconnect_ratio has connections at hand before they are needed", timeout, async (t) => {
  const { cluster, upstream } = await bed(t, () => {}, { preconnect_policy: { per_upstream_preconnect_ratio: 2 } });
  void cluster.send();
  await until(() => upstream.connections === 2);
  assert.equal(upstream.requests <= 1, true);
});

test("limits hold over all workers", timeout, async (t) => {
  const upstream = await Upstream.start(() => {});
  const cluster = new TestCluster({ load_assignment: assignment(upstream.port), circuit_breakers: { thresholds: [{ max_pending_requests: 2 }] } }, 3);
  t.after(() => {
    cluster.close();
    upstream.close();
  });
  // What another worker holds: its cell of pending requests.
  new Int32Array(cluster.cells)[1 * 3 + 2] = 2;
  assert.equal(await cluster.send().done, "overflow");
  cluster.setRuntime({ "circuit_breakers.service.default.max_pending_requests": 3 });
  assert.notEqual(cluster.send().waiting, undefined);
});

test("under overload idle connections are used, and no new ones made", timeout, async (t) => {
  const { cluster, upstream } = await bed(t, (socket, request) => request < 3 && socket.write(ok));
  assert.equal(await cluster.send().done, "200 ok");
  cluster.overload.set("envoy.load_shed_points.connection_pool_new_connection", 1);
  assert.equal(await cluster.send().done, "200 ok");
  const waits = cluster.send();
  assert.match(await cluster.send().done, /^overflow/);
  assert.deepEqual([upstream.connections, cluster.stat("upstream_rq_pending_overflow")], [1, 0]);
  void waits.done.catch(() => {});
});
