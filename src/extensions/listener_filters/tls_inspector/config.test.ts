import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer } from "node:net";
import { before, test } from "node:test";
import { type ConnectionOptions, connect } from "node:tls";
import fc from "fast-check";
import { StreamInfo } from "../../../http/stream-info.ts";
import { anonymousPipe } from "../../../net/address.ts";
import { message, testContext } from "../../../testing/compile-context.ts";
import type { ListenerFilterSocket } from "../../extension.ts";
import inspector from "./config.ts";
import { ja3, ja4, parseHelloParts } from "./fingerprints.ts";

/** The first bytes of a real client. */
async function helloOf(options: ConnectionOptions): Promise<Buffer> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const client = connect({ port: (server.address() as AddressInfo).port, host: "127.0.0.1", ...options });
  client.on("error", () => {});
  const [socket] = await once(server, "connection");
  const [bytes] = await once(socket, "data");
  client.destroy();
  socket.destroy();
  server.close();
  return bytes;
}

function socket(): ListenerFilterSocket {
  return {
    detectedTransportProtocol: "",
    requestedServerName: "",
    requestedApplicationProtocols: [],
    ja3: "",
    ja4: "",
    remoteAddress: anonymousPipe,
    localAddress: anonymousPipe,
    consume: () => {},
    info: new StreamInfo(0, 0),
  };
}

function run(json: object, ...pieces: Buffer[]): { verdicts: string[]; seen: ListenerFilterSocket; stat: (name: string) => number } {
  const context = testContext();
  const config = message("envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector", json);
  const filter = inspector.listenerFilter.compile(config, context)();
  const seen = socket();
  const verdicts: string[] = [];
  for (let i = 0; i < pieces.length && (verdicts.length === 0 || verdicts.at(-1) === "need_more"); i++)
    verdicts.push(filter.inspect(Buffer.concat(pieces.slice(0, i + 1)), seen));
  return { verdicts, seen, stat: (name) => context.stats.counter(`tls_inspector.${name}`).value };
}

let hello: Buffer;
before(async () => {
  hello = await helloOf({ servername: "a.test", ALPNProtocols: ["h2", "http/1.1"] });
});

test("a hello in any pieces is read alike", () => {
  fc.assert(
    fc.property(fc.array(fc.integer({ min: 1, max: hello.length - 1 }), { maxLength: 5 }), (cuts) => {
      const at = [0, ...cuts.sort((a, b) => a - b), hello.length];
      const { verdicts, seen } = run({}, ...at.slice(1).map((end, i) => hello.subarray(at[i], end)));
      assert.equal(verdicts.at(-1), "done");
      assert.equal(seen.requestedServerName, "a.test");
      assert.equal(seen.detectedTransportProtocol, "tls");
      assert.deepEqual(seen.requestedApplicationProtocols, ["h2", "http/1.1"]);
    }),
    { numRuns: 50 },
  );
});

test("what is no hello goes on as plain bytes, unless that is to end it", () => {
  const plain = run({}, Buffer.from("GET / HTTP/1.1\r\n"));
  assert.deepEqual([plain.verdicts, plain.stat("tls_not_found"), plain.seen.detectedTransportProtocol], [["done"], 1, ""]);
  const broken = Buffer.from("1603010005ff00000000", "hex");
  assert.deepEqual(run({}, broken).verdicts, ["done"]);
  assert.deepEqual(run({ close_connection_on_client_hello_parsing_errors: true }, broken).verdicts, ["close"]);
});

test("a hello that is too large ends the connection", () => {
  const { verdicts, stat } = run({ max_client_hello_size: 256 }, hello.subarray(0, 100), hello.subarray(100));
  assert.deepEqual([verdicts, stat("client_hello_too_large")], [["close"], 1]);
  const announced = Buffer.concat([Buffer.from("1603014000010040000303", "hex"), Buffer.alloc(100)]);
  assert.deepEqual(run({}, announced).verdicts, ["close"]);
});

test("property: no bytes break the parts or the fingerprints", () => {
  const body = hello.subarray(9);
  fc.assert(
    fc.property(fc.nat(body.length), fc.array(fc.tuple(fc.nat(body.length - 1), fc.nat(255)), { maxLength: 6 }), (length, changes) => {
      const bytes = Buffer.from(body.subarray(0, length));
      for (const [at, value] of changes) if (at < length) bytes[at] = value;
      const parts = parseHelloParts(bytes);
      if (parts === undefined) return;
      assert.match(ja3(parts), /^[0-9a-f]{32}$/);
      assert.match(ja4(parts), /^t..[di]\d{4}.._[0-9a-f]{12}_[0-9a-f]{12}$/s);
    }),
  );
});

test("fingerprints are those that Envoy prints", () => {
  // openssl s_client 3.0, -tls1_3 -groups X25519 -sigalgs rsa_pss_rsae_sha256 -servername d.test, as Envoy 1.40 fingerprinted it.
  const parts = {
    version: 0x0303,
    ciphers: [0x1302, 0x1303, 0x1301, 0x00ff],
    extensions: [0, 11, 10, 35, 22, 23, 13, 43, 45, 51],
    groups: [29],
    pointFormats: [0, 1, 2],
    signatureAlgorithms: [0x0804],
    supportedVersions: [0x0304],
    hasServerName: true,
    firstAlpn: undefined,
  };
  assert.equal(ja4(parts), "t13d041000_16476d049b0b_487054b1ecd3");
  assert.equal(ja3(parts), "b28bfd7585982faac2c6f8f9df50843a");
});
