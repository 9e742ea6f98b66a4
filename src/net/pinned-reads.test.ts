import assert from "node:assert/strict";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { downstreamBuffers } from "./read-buffers.ts";
import { acceptPlain, type SocketConnection } from "./socket-connection.ts";
import { TimerWheel } from "./timer-wheel.ts";

/** An accepted connection and what it was given. */
interface Accepted {
  readonly connection: SocketConnection;
  readonly texts: string[];
  onText: ((chunk: Buffer) => void) | undefined;
}

test("after a buffer was pinned every socket reads from the one that the kernel writes to", { timeout: 10_000 }, async () => {
  const timers = new TimerWheel();
  const accepted: Accepted[] = [];
  const server = createServer({ pauseOnConnect: true, allowHalfOpen: true }, (socket) => {
    const one: Accepted = { connection: acceptPlain(socket, { timers, side: "downstream", bufferLimitBytes: 0 }), texts: [], onText: undefined };
    one.connection.setReadFilter({
      onData(data) {
        one.texts.push(data.toString("latin1"));
        one.onText?.(data);
      },
    });
    accepted.push(one);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  const { port } = server.address() as AddressInfo;
  const clients: Socket[] = [];
  for (let i = 0; i < 3; i++) {
    const client = connect(port, "127.0.0.1");
    await new Promise((resolve) => client.once("connect", resolve));
    clients.push(client);
  }
  while (accepted.length < 3) await new Promise(setImmediate);
  const said = (index: number, text: string): Promise<void> =>
    new Promise((resolve) => {
      accepted[index].onText = () => resolve();
      clients[index].write(text);
    });
  for (let i = 0; i < 3; i++) await said(i, `first ${i}`);
  // A chunk of the first one stays in use, as when it is written to a slow peer.
  let release = (): void => {};
  await new Promise<void>((resolve) => {
    accepted[0].onText = (chunk) => {
      release = downstreamBuffers.pin(chunk);
      resolve();
    };
    clients[0].write("kept");
  });
  for (const i of [1, 2, 0]) await said(i, `second ${i}`);
  release();
  for (const i of [2, 1, 0]) await said(i, `third ${i}`);
  assert.deepEqual(
    accepted.map(({ texts }) => texts),
    [
      ["first 0", "kept", "second 0", "third 0"],
      ["first 1", "second 1", "third 1"],
      ["first 2", "second 2", "third 2"],
    ],
  );
  for (const client of clients) client.destroy();
  for (const { connection } of accepted) connection.close("no_flush");
  server.close();
  timers.stop();
});
