import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, connect as dial, type Server, type Socket } from "node:net";
import { test } from "node:test";
import { ipAddress } from "./address.ts";
import type { Connection, ConnectionEvent } from "./connection.ts";
import { acceptPlain, connect, type SocketConnection } from "./socket-connection.ts";
import { TimerWheel } from "./timer-wheel.ts";

const timers = new TimerWheel();

/** A connection of ours and the peer's plain socket. */
async function pair(bufferLimitBytes = 0): Promise<{ ours: SocketConnection; peer: Socket; events: string[]; server: Server }> {
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }).listen(0, "127.0.0.1");
  await once(server, "listening");
  const peer = dial({ port: (server.address() as AddressInfo).port, host: "127.0.0.1", allowHalfOpen: true });
  const [accepted] = (await once(server, "connection")) as [Socket];
  server.close();
  const ours = acceptPlain(accepted, { timers, side: "downstream", bufferLimitBytes });
  const events: string[] = [];
  ours.addCallbacks({
    onEvent: (event) => events.push(event),
    onAboveWriteBufferHighWatermark: () => events.push("high"),
    onBelowWriteBufferLowWatermark: () => events.push("low"),
  });
  return { ours, peer, events, server };
}

function nextEvent(connection: Connection): Promise<ConnectionEvent> {
  return new Promise((resolve) =>
    connection.addCallbacks({ onEvent: resolve, onAboveWriteBufferHighWatermark: () => {}, onBelowWriteBufferLowWatermark: () => {} }),
  );
}

async function collect(socket: Socket, bytes: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let have = 0;
  for await (const part of socket as AsyncIterable<Buffer>) {
    parts.push(part);
    have += part.length;
    if (have >= bytes) break;
  }
  return Buffer.concat(parts);
}

test("bytes pass both ways; what arrived before a filter is there waits for it", async () => {
  const { ours, peer } = await pair();
  peer.write("hello");
  await new Promise((resolve) => setImmediate(resolve));
  const got = new Promise<string>((resolve) => ours.setReadFilter({ onData: (data) => resolve(data.toString()) }));
  assert.equal(await got, "hello");
  ours.write("one ");
  ours.write(Buffer.from("two"));
  assert.equal((await collect(peer, 7)).toString(), "one two");
  ours.close("no_flush");
});

test("low watermark comes below any limit, also one smaller than Node's own", async () => {
  const { ours, peer, events } = await pair(2000);
  peer.pause();
  const big = Buffer.alloc(8 * 1024 * 1024, 7);
  ours.setReadFilter({ onData: () => {} });
  ours.write(big);
  assert.deepEqual(events, ["high"]);
  const low = new Promise<void>((resolve) =>
    ours.addCallbacks({ onEvent: () => {}, onAboveWriteBufferHighWatermark: () => {}, onBelowWriteBufferLowWatermark: () => resolve() }),
  );
  const received = collect(peer, big.length + 10);
  await low;
  assert.deepEqual(events, ["high", "low"]);
  assert.equal(ours.writeBuffered, 0);
  // Little by little now: each write is below Node's mark, and some of them wait.
  ours.write("0123456789");
  assert.ok((await received).equals(Buffer.concat([big, Buffer.from("0123456789")])));
  ours.close("no_flush");
});

test("what a slow peer has not taken yet is not overwritten by what others send", async () => {
  const source = await pair();
  const sinks = [await pair(), await pair()];
  for (const { peer } of sinks) peer.pause();
  // Fill the kernel's buffers of both sinks, so that what follows has to wait.
  const filler = Buffer.alloc(6 * 1024 * 1024, 0x66);
  for (const { ours } of sinks) ours.write(filler);
  const sent: Buffer[] = [[], []].map(() => Buffer.alloc(0));
  let turn = 0;
  let relayed = 0;
  const total = 40 * 100_000;
  const all = new Promise<void>((resolve) =>
    source.ours.setReadFilter({
      onData(data) {
        // One read goes to two connections, in two writes each.
        const half = data.length >> 1;
        for (const part of [data.subarray(0, half), data.subarray(half)]) {
          const to = turn++ % 2;
          sent[to] = Buffer.concat([sent[to], part]);
          sinks[to].ours.write(part);
        }
        relayed += data.length;
        if (relayed >= total) resolve();
      },
    }),
  );
  for (let i = 0; i < 40; i++) {
    source.peer.write(Buffer.alloc(100_000, i + 1));
    await new Promise((resolve) => setImmediate(resolve));
  }
  await all;
  for (let i = 0; i < 2; i++) {
    const got = await collect(sinks[i].peer, filler.length + sent[i].length);
    assert.ok(got.subarray(filler.length).equals(sent[i]), `sink ${i}`);
    sinks[i].ours.close("no_flush");
  }
  source.ours.close("no_flush");
});

test("a chunk relayed while the kernel is full stays as it was, although the source's peer goes on", async () => {
  const source = await pair();
  const sink = await pair();
  sink.peer.pause();
  const expected: Buffer[] = [];
  let relayed = 0;
  const total = 16 * 1024 * 1024;
  const done = new Promise<void>((resolve) =>
    source.ours.setReadFilter({
      onData(data) {
        expected.push(Buffer.from(data));
        sink.ours.write(data);
        relayed += data.length;
        if (relayed === total) resolve();
      },
    }),
  );
  const block = Buffer.alloc(total);
  for (let i = 0; i < total; i += 4) block.writeUInt32LE(i, i);
  source.peer.write(block);
  await done;
  const got = await collect(sink.peer, total);
  assert.ok(got.equals(block));
  assert.ok(Buffer.concat(expected).equals(block));
  source.ours.close("no_flush");
  sink.ours.close("no_flush");
});

test("reading stops while it is disabled, counted, and loses nothing", async () => {
  const { ours, peer } = await pair();
  let got = "";
  ours.setReadFilter({
    onData(data) {
      got += data.toString();
      if (got === "a") {
        ours.readDisable(true);
        ours.readDisable(true);
      }
    },
  });
  peer.write("a");
  while (got !== "a") await new Promise((resolve) => setImmediate(resolve));
  peer.write("bc");
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(got, "a");
  ours.readDisable(false);
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setImmediate(resolve));
  assert.equal(got, "a");
  ours.readDisable(false);
  while (!got.endsWith("c")) await new Promise((resolve) => setImmediate(resolve));
  ours.close("no_flush");
});

test("ends: the peer's, ours with a flush, a reset that waits for nobody", async () => {
  const gone = await pair();
  gone.ours.setReadFilter({ onData: () => {} });
  const event = nextEvent(gone.ours);
  gone.peer.end();
  assert.equal(await event, "remote_close");

  const flushed = await pair();
  flushed.ours.setReadFilter({ onData: () => {} });
  flushed.ours.write("last words");
  flushed.ours.close("flush_and_delay");
  assert.equal(flushed.ours.state, "closing");
  assert.equal((await collect(flushed.peer, 100)).toString(), "last words");
  const closed = nextEvent(flushed.ours);
  flushed.peer.end();
  assert.equal(await closed, "local_close");

  const reset = await pair();
  reset.peer.pause();
  reset.ours.write(Buffer.alloc(8 * 1024 * 1024));
  const error = once(reset.peer, "error") as Promise<[NodeJS.ErrnoException]>;
  reset.ours.close("abort");
  assert.deepEqual(reset.events, ["local_close"]);
  reset.peer.resume();
  assert.equal((await error)[0].code, "ECONNRESET");
});

test("half-close: the end of the peer's stream is told, and ours goes on", async () => {
  const { ours, peer } = await pair();
  ours.enableHalfClose(true);
  const ended = new Promise<void>((resolve) => ours.setReadFilter({ onData: (_data, end) => (end ? resolve() : undefined) }));
  peer.end("bye");
  await ended;
  ours.write("still here", true);
  assert.equal((await collect(peer, 100)).toString(), "still here");
});

test("a fault in the code above costs the connection only", async () => {
  const { ours, peer, events } = await pair();
  ours.setReadFilter({
    onData() {
      throw new Error("made by the test");
    },
  });
  peer.on("error", () => {});
  peer.resume();
  peer.write("x");
  await once(peer, "end");
  assert.deepEqual(events, ["local_close"]);
  peer.destroy();
});

test("dialling: connected, refused", async () => {
  const server = createServer((socket) => socket.end("hi")).listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  const options = { timers, side: "upstream", bufferLimitBytes: 0 } as const;
  const good = connect(ipAddress("127.0.0.1", port), options);
  assert.equal(good.state, "connecting");
  assert.equal(await nextEvent(good), "connected");
  assert.equal(good.state, "open");
  const text = await new Promise<string>((resolve) => good.setReadFilter({ onData: (data) => resolve(data.toString()) }));
  assert.equal(text, "hi");
  good.close("no_flush");
  server.close();
  await once(server, "close");
  const refused = connect(ipAddress("127.0.0.1", port), options);
  assert.equal(await nextEvent(refused), "remote_close");
  assert.match(refused.transportFailureReason, /Connection refused/);
});
