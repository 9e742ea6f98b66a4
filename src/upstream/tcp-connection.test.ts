import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { test } from "node:test";
import type { Connection } from "../net/connection.ts";
import { anyHost, assignment, TestCluster, until } from "./testing.ts";

const timeout = { timeout: 10_000 };

function dial(cluster: TestCluster): Promise<Connection | string> {
  return new Promise((resolve) => {
    const request = cluster.core.tcpConnection("default", anyHost, {
      onPoolReady: (connection) => resolve(connection),
      onPoolFailure: (reason, transport) => resolve(transport === "" ? reason : `${reason}: ${transport}`),
    });
    if (request === undefined) resolve("no host");
  });
}

test("raw connections are counted, and bounded by max_connections", timeout, async (t) => {
  const server = createServer((socket) => socket.on("data", (data) => socket.write(data)));
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const cluster = new TestCluster({
    load_assignment: assignment((server.address() as AddressInfo).port),
    circuit_breakers: { thresholds: [{ max_connections: 1 }] },
  });
  t.after(() => {
    cluster.close();
    server.close();
  });
  const connection = await dial(cluster);
  assert.ok(typeof connection !== "string");
  const echoed = new Promise<string>((resolve) => {
    connection.setReadFilter({ onData: (data) => resolve(data.toString()) });
  });
  connection.write("ping");
  assert.equal(await echoed, "ping");
  assert.equal(await dial(cluster), "overflow");
  assert.deepEqual([cluster.stat("upstream_cx_total"), cluster.stat("upstream_cx_active"), cluster.stat("upstream_cx_overflow")], [1, 1, 1]);
  connection.close("no_flush");
  await until(() => cluster.stat("upstream_cx_active") === 0);
  assert.deepEqual([cluster.stat("upstream_cx_destroy_local"), cluster.stat("upstream_cx_rx_bytes_total")], [1, 4]);
  const again = await dial(cluster);
  assert.ok(typeof again !== "string");
  again.close("no_flush");
});

test("a refused raw connection says why", timeout, async () => {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  const cluster = new TestCluster({ load_assignment: assignment(port) });
  assert.equal(await dial(cluster), "remote_connection_failure: delayed connect error: Connection refused");
  assert.deepEqual([cluster.stat("upstream_cx_connect_fail"), cluster.stat("upstream_cx_destroy_remote")], [1, 1]);
  cluster.update([]);
  assert.equal(await dial(cluster), "no host");
  cluster.close();
});

test("under overload no connection is made", timeout, async (t) => {
  const cluster = new TestCluster({ load_assignment: assignment(1) });
  t.after(() => cluster.close());
  cluster.overload.set("envoy.load_shed_points.connection_pool_new_connection", 1);
  assert.equal(await dial(cluster), "overflow");
  assert.deepEqual([cluster.stat("upstream_cx_total"), cluster.stat("upstream_cx_overflow")], [0, 0]);
});
