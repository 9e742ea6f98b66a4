import assert from "node:assert/strict";
import { test } from "node:test";
import { testOverload } from "../overload/testing.ts";
import { Client, echo, TestListeners, until } from "./testing.ts";

test("connections wait while none are accepted, and are served afterwards", async (t) => {
  const proxy = new TestListeners();
  t.after(() => proxy.close());
  const overload = testOverload(proxy.stats);
  proxy.overload = overload.state;
  const { port, listener } = await proxy.start({ filter_chains: [{ filters: [echo] }], tcp_backlog_size: 2 });
  const early = new Client(port, "early");
  await until(() => early.text === "early");
  overload.set("envoy.overload_actions.stop_accepting_connections", 1);
  const first = new Client(port, "first");
  const second = new Client(port, "second");
  await until(() => listener.heldCount === 2);
  const third = new Client(port, "third");
  await third.ended; // more than the backlog are turned away
  assert.equal(listener.connectionCount, 1);
  early.socket.write("!");
  await until(() => early.text === "early!");
  listener.acceptHeld();
  assert.equal(listener.heldCount, 2, "not yet");
  overload.set("envoy.overload_actions.stop_accepting_connections", 0);
  listener.acceptHeld();
  await until(() => first.text === "first" && second.text === "second");
  assert.equal(proxy.listenerStat("downstream_cx_total"), 3);
  for (const client of [early, first, second, third]) client.close();
});

test("connections that wait end with their listener", async (t) => {
  const proxy = new TestListeners();
  t.after(() => proxy.close());
  const overload = testOverload(proxy.stats);
  proxy.overload = overload.state;
  const { port, listener } = await proxy.start({ filter_chains: [{ filters: [echo] }] });
  overload.set("envoy.overload_actions.stop_accepting_connections", 1);
  const client = new Client(port, "hello");
  await until(() => listener.heldCount === 1);
  listener.close();
  await client.ended;
});

test("connections are rejected, and counted", async (t) => {
  const proxy = new TestListeners();
  t.after(() => proxy.close());
  const overload = testOverload(proxy.stats);
  proxy.overload = overload.state;
  const { port } = await proxy.start({ filter_chains: [{ filters: [echo] }] });
  for (const [index, name] of (["envoy.overload_actions.reject_incoming_connections", "envoy.load_shed_points.tcp_listener_accept"] as const).entries()) {
    overload.set(name, 1);
    const client = new Client(port, "hello");
    await client.ended;
    overload.set(name, 0);
    assert.deepEqual([client.text, proxy.listenerStat("downstream_cx_overload_reject"), proxy.listenerStat("downstream_cx_total")], ["", index + 1, 0]);
  }
  assert.equal(proxy.stat("overload.envoy.load_shed_points.tcp_listener_accept.shed_load_count"), 1);
});
