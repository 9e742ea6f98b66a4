import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, connect, createServer } from "node:net";
import { test } from "node:test";
import { ReadBuffers } from "./read-buffers.ts";

test("a pinned buffer is not read into until every write that refers to it is done", () => {
  const buffers = new ReadBuffers();
  const first = buffers.current;
  const a = first.subarray(0, 10);
  const b = first.subarray(10, 20);
  const releaseA = buffers.pin(a);
  const second = buffers.current;
  assert.notEqual(second, first);
  assert.equal(buffers.owns(b), true, "the rest of the same read is still shared memory");
  const releaseB = buffers.pin(b);
  assert.equal(buffers.current, second, "pinning it again moves nobody");
  releaseA();
  releaseA();
  assert.equal(buffers.owns(b), true);
  // The next reader's buffer is another one while b is being written.
  const releaseSecond = buffers.pin(second.subarray(0, 1));
  assert.notEqual(buffers.current, first);
  releaseB();
  releaseSecond();
  assert.equal(buffers.owns(b), false, "free, and not in use");
  const third = buffers.pin(buffers.current.subarray(0, 1));
  assert.ok(buffers.current === first || buffers.current === second, "buffers are used again");
  third();
});

test("sockets are pointed at the new buffer, those that went away are not", () => {
  const buffers = new ReadBuffers();
  const pointed: string[] = [];
  const socket = (name: string) => ({ _handle: { useUserBuffer: (buffer: Uint8Array) => pointed.push(`${name}${buffer === buffers.current}`) } }) as never;
  const one = socket("one ");
  const two = socket("two ");
  buffers.register(one);
  buffers.register(two);
  buffers.register({ _handle: null } as never);
  buffers.unregister(two);
  buffers.pin(buffers.current);
  assert.deepEqual(pointed, ["one true"]);
});

test("memory is bounded: beyond some pinned buffers, writers are told to copy", () => {
  const buffers = new ReadBuffers();
  const releases: (() => void)[] = [];
  while (buffers.mayPin) releases.push(buffers.pin(buffers.current));
  assert.ok(releases.length <= 16);
  for (const release of releases) release();
  assert.equal(buffers.mayPin, true);
});

test("Node still has what this needs of a socket's handle", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const socket = connect((server.address() as AddressInfo).port, "127.0.0.1");
  await once(socket, "connect");
  assert.equal(typeof (socket as unknown as { _handle: { useUserBuffer: unknown } })._handle.useUserBuffer, "function");
  socket.destroy();
  server.close();
});
