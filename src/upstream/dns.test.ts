import assert from "node:assert/strict";
import { createSocket, type Socket } from "node:dgram";
import { once } from "node:events";
import { type TestContext, test } from "node:test";
import { parseHosts, type ResolveOptions, resolveName } from "./dns.ts";

/** A name server: A and AAAA records by name, NXDOMAIN for the rest. */
async function nameServer(t: TestContext, records: Record<string, string[]>): Promise<string> {
  const socket: Socket = createSocket("udp4");
  socket.bind(0, "127.0.0.1");
  await once(socket, "listening");
  t.after(() => socket.close());
  socket.on("message", (query, peer) => {
    const labels: string[] = [];
    let at = 12;
    while (query[at] !== 0) {
      labels.push(query.toString("latin1", at + 1, at + 1 + query[at]));
      at += 1 + query[at];
    }
    const question = query.subarray(12, at + 5);
    const wantsV4 = query.readUInt16BE(at + 1) === 1;
    const known = records[labels.join(".")];
    const data = (known ?? []).filter((ip) => ip.includes(":") !== wantsV4).map(packed);
    const head = Buffer.from(query.subarray(0, 12));
    head.writeUInt16BE(known === undefined ? 0x8183 : 0x8180, 2);
    head.writeUInt16BE(1, 4);
    head.writeUInt16BE(data.length, 6);
    head.writeUInt32BE(0, 8);
    const answers = data.map((bytes) => Buffer.concat([Buffer.from([0xc0, 12, 0, wantsV4 ? 1 : 28, 0, 1, 0, 0, 0, 7, 0, bytes.length]), bytes]));
    socket.send(Buffer.concat([head, question, ...answers]), peer.port, peer.address);
  });
  return `127.0.0.1:${socket.address().port}`;
}

function packed(ip: string): Buffer {
  if (!ip.includes(":")) return Buffer.from(ip.split(".").map(Number));
  const [head, tail] = ip.split("::").map((part) => (part === "" ? [] : part.split(":")));
  const words = [...head, ...Array(8 - head.length - tail.length).fill("0"), ...tail];
  return Buffer.concat(words.map((word) => Buffer.from(word.padStart(4, "0"), "hex")));
}

test("asks the servers it is told, with each family's preference", { timeout: 10_000 }, async (t) => {
  const server = await nameServer(t, { "both.test": ["10.0.0.1", "2001:db8::1"], "four.test": ["10.0.0.4", "10.0.0.5"], "none.test": [] });
  const options = (family: ResolveOptions["family"]): ResolveOptions => ({ family, servers: [server], queryTimeoutMs: 2000, queryTries: 2 });
  const ips = async (name: string, family: ResolveOptions["family"]): Promise<string[]> => [...(await resolveName(name, options(family))).ips];
  assert.deepEqual(await resolveName("four.test", options("v4")), { ips: ["10.0.0.4", "10.0.0.5"], ttl: 7 });
  assert.deepEqual(await ips("both.test", "auto"), ["2001:db8::1"]);
  assert.deepEqual(await ips("both.test", "v4_preferred"), ["10.0.0.1"]);
  assert.deepEqual(await ips("both.test", "all"), ["10.0.0.1", "2001:db8::1"]);
  assert.deepEqual(await ips("four.test", "auto"), ["10.0.0.4", "10.0.0.5"]);
  assert.deepEqual(await ips("four.test", "v6"), []);
  // Names without records, and without existence, are answers.
  assert.deepEqual(await ips("none.test", "auto"), []);
  assert.deepEqual(await ips("absent.test", "auto"), []);
});

test("a server that does not answer is a failure", { timeout: 10_000 }, async (t) => {
  const silent = createSocket("udp4");
  silent.bind(0, "127.0.0.1");
  await once(silent, "listening");
  t.after(() => silent.close());
  const options: ResolveOptions = { family: "v4", servers: [`127.0.0.1:${silent.address().port}`], queryTimeoutMs: 50, queryTries: 1 };
  await assert.rejects(resolveName("svc.test", options));
});

test("addresses and /etc/hosts need no server", async () => {
  const options: ResolveOptions = { family: "v4", servers: [], queryTimeoutMs: 50, queryTries: 1 };
  assert.deepEqual(await resolveName("10.1.2.3", options), { ips: ["10.1.2.3"], ttl: undefined });
  assert.deepEqual((await resolveName("localhost", options)).ips, ["127.0.0.1"]);
  const hosts = parseHosts("127.0.0.1 localhost Me # a comment\n::1 localhost\nnot-an-ip x\n\n10.0.0.1\tme\n");
  assert.deepEqual([hosts.get("localhost"), hosts.get("me"), hosts.get("x")], [["127.0.0.1", "::1"], ["127.0.0.1", "10.0.0.1"], undefined]);
});
