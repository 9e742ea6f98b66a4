import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { test } from "node:test";
import { type ConnectionOptions, connect } from "node:tls";
import { agreedGroup, type ClientHello, parseClientHello } from "./client-hello.ts";

async function helloOf(options: ConnectionOptions): Promise<Buffer> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = connect({ ...options, port: (server.address() as AddressInfo).port, host: "127.0.0.1" });
  client.on("error", () => {});
  const [socket] = (await once(server, "connection")) as [Socket];
  const [bytes] = (await once(socket, "data")) as [Buffer];
  client.destroy();
  socket.destroy();
  server.close();
  return bytes;
}

test("a hello of a real client, cut at every place", async () => {
  const bytes = await helloOf({ servername: "Some.Test", ALPNProtocols: ["h2", "http/1.1"], ecdhCurve: "P-384:X25519" });
  for (let i = 0; i < bytes.length; i++) assert.equal(parseClientHello(bytes.subarray(0, i)), "partial", `${i} bytes`);
  const hello = parseClientHello(bytes) as ClientHello;
  assert.equal(hello.serverName, "some.test");
  assert.deepEqual(hello.alpn, ["h2", "http/1.1"]);
  assert.deepEqual(hello.groups, [24, 29]);
  assert.equal(hello.supportsTls13, true);
  assert.equal(agreedGroup(hello, ["X25519", "P-256"], true), "X25519");
  assert.equal(agreedGroup(hello, ["X25519", "P-384"], true), hello.keyShares.includes(29) ? "X25519" : "P-384");
  assert.equal(agreedGroup(hello, ["P-256"], true), undefined);
});

test("a hello spread over several records", async () => {
  const bytes = await helloOf({ servername: "a.test" });
  const body = bytes.subarray(5);
  const records: Buffer[] = [];
  for (let at = 0; at < body.length; at += 50) {
    const part = body.subarray(at, at + 50);
    records.push(Buffer.from([22, 3, 1, 0, part.length]), part);
  }
  const spread = Buffer.concat(records);
  assert.equal((parseClientHello(spread) as ClientHello).serverName, "a.test");
  for (let i = 0; i < spread.length; i++) assert.equal(parseClientHello(spread.subarray(0, i)), "partial");
});

test("whatever comes, nothing is thrown and nothing unbounded is waited for", async () => {
  assert.equal(parseClientHello(Buffer.from("GET / HTTP/1.1\r\n\r\n")), "other");
  assert.equal(parseClientHello(Buffer.from([22, 3, 1, 0, 4, 2, 0, 0, 0])), "other");
  assert.equal(parseClientHello(Buffer.from([22, 3, 1, 0, 4, 1, 255, 255, 255])), "other");
  assert.equal(parseClientHello(Buffer.from([22, 3, 1, 0, 0])), "other");
  const bytes = await helloOf({ servername: "a.test", ALPNProtocols: ["h2"] });
  let seed = 1;
  const random = (n: number): number => {
    seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
    return (seed >>> 8) % n;
  };
  for (let i = 0; i < 20_000; i++) {
    const changed = Buffer.from(bytes.subarray(0, 5 + random(bytes.length)));
    for (let n = random(6); n >= 0; n--) changed[random(changed.length)] = random(256);
    parseClientHello(changed);
  }
});
