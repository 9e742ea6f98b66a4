import assert from "node:assert/strict";
import { test } from "node:test";
import type { Connection, ConnectionCallbacks } from "../net/connection.ts";
import { StatsStore } from "../stats/stats.ts";
import { TextStream } from "./text-stream.ts";
import type { Host, TcpPoolCallbacks, ThreadLocalCluster } from "./upstream.ts";

function fixture() {
  const pools: TcpPoolCallbacks[] = [];
  const state = { hasHost: true, buffered: 0, canceled: 0, written: [] as string[], callbacks: undefined as ConnectionCallbacks | undefined };
  const connection = {
    get writeBuffered() {
      return state.buffered;
    },
    write: (data: Buffer) => void state.written.push(data.toString()),
    setReadFilter: () => {},
    addCallbacks: (callbacks: ConnectionCallbacks) => {
      state.callbacks = callbacks;
    },
    close: () => {},
  } as unknown as Connection;
  const cluster = {
    tcpConnection: (_priority: unknown, _context: unknown, callbacks: TcpPoolCallbacks) => {
      if (!state.hasHost) return undefined;
      pools.push(callbacks);
      return { cancel: () => state.canceled++ };
    },
  } as unknown as ThreadLocalCluster;
  const overflow = new StatsStore().counter("statsd.cx_overflow");
  const stream = new TextStream({ get: (name) => (name === "statsd" ? cluster : undefined) }, "statsd", overflow);
  return { pools, state, overflow, stream, ready: () => pools.at(-1)?.onPoolReady(connection, {} as Host) };
}

test("text waits for its connection, which is kept, and a new one is opened when it ends", () => {
  const { stream, state, pools, ready } = fixture();
  stream.write("a");
  stream.write("b");
  assert.deepEqual([pools.length, state.written], [1, []]);
  ready();
  stream.write("c");
  assert.deepEqual([pools.length, state.written], [1, ["a", "b", "c"]]);
  state.callbacks?.onEvent("remote_close");
  stream.write("d");
  assert.equal(pools.length, 2);
  ready();
  assert.deepEqual(state.written, ["a", "b", "c", "d"]);
});

test("what cannot be sent is dropped, and the next text tries again", () => {
  const { stream, state, pools, ready } = fixture();
  state.hasHost = false;
  stream.write("lost");
  state.hasHost = true;
  stream.write("lost too");
  pools[0].onPoolFailure("remote_connection_failure", "", undefined);
  stream.write("kept");
  ready();
  assert.deepEqual(state.written, ["kept"]);
});

test("a peer that does not read fills no memory", () => {
  const { stream, state, overflow, ready } = fixture();
  stream.write("a");
  ready();
  state.buffered = 16 * 1024 * 1024;
  stream.write("b");
  assert.deepEqual([state.written, overflow.value], [["a"], 1]);
});

test("closed while it waits", () => {
  const { stream, state, pools } = fixture();
  stream.write("a");
  stream.close();
  stream.write("b");
  assert.deepEqual([state.canceled, pools.length], [1, 1]);
});
