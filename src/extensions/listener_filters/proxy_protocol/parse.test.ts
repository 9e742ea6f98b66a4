import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ipAddress } from "../../../net/address.ts";
import { proxyHeader } from "../../../router/filter/connect-upstream.ts";
import { maxHeaderBytes, mayBeHeader, parseProxyHeader } from "./parse.ts";

const v2 = (versionCommand: number, family: number, body: Buffer): Buffer => {
  const head = Buffer.from("0d0a0d0a000d0a515549540a00000000", "hex");
  head[12] = versionCommand;
  head[13] = family;
  head.writeUInt16BE(body.length, 14);
  return Buffer.concat([head, body]);
};
const outcome = (bytes: Buffer | string): string => {
  const header = parseProxyHeader(Buffer.from(bytes as string, "latin1"));
  if (header.kind === "error") return `error ${header.version}`;
  return header.kind === "need_more" ? "more" : `v${header.version} ${header.source?.text ?? "-"} ${header.destination?.text ?? "-"} ${header.length}`;
};

test("version 1, as Envoy reads it", () => {
  const cases: Record<string, string> = {
    "PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\nq": "v1 1.2.3.4:1 5.6.7.8:2 32",
    "PROXY TCP6 ::1 ::2 1 2\r\nq": "v1 [::1]:1 [::2]:2 24",
    "PROXY TCP4 1.2.3.4 5.6.7.8 +1 01\r\n": "v1 1.2.3.4:1 5.6.7.8:1 34",
    "PROXY UNKNOWN\r\n": "v1 - - 15",
    "PROXY UNKNOWN a b c\r\n": "v1 - - 21",
    "PROXY UNKNOWNX\r\n": "error 1",
    "PROXY garbage\r\n": "error 1",
    "PROXY TCP4 1.2.3 5.6.7.8 1 2\r\n": "error 1",
    "PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n": "error 1",
    "PROXY TCP4 1.2.3.4 5.6.7.8 1 70000\r\n": "error 1",
    "PROXY TCP6 1.2.3.4 5.6.7.8 1 2\r\n": "error 1",
    "PROXY TCP4  1.2.3.4 5.6.7.8 1 2\r\n": "error 1",
    "PROXY TCP4 224.0.0.1 5.6.7.8 1 1\r\n": "error 1",
    "PROXY TCP4 0.0.0.0 5.6.7.8 1 1\r\n": "error 1",
    "PROXY TCP4 255.255.255.255 5.6.7.8 1 1\r\n": "error 1",
    [`PROXY TCP4 ${"1".repeat(120)}\r\n`]: "error 1",
    "GET / HTTP/1.1\r\n": "error 0",
    ["x".repeat(200)]: "error 0",
    abc: "more",
    "PROXY UNKNOWN\nq": "more",
  };
  for (const [bytes, want] of Object.entries(cases)) assert.equal(outcome(bytes), want, bytes);
});

test("version 2, as Envoy reads it", () => {
  const four = Buffer.from([192, 0, 2, 9, 10, 0, 0, 1, 4, 210, 0, 80]);
  const six = Buffer.alloc(36, 1);
  const cases: [string, Buffer, string][] = [
    ["tcp4", v2(0x21, 0x11, four), "v2 192.0.2.9:1234 10.0.0.1:80 28"],
    ["udp4", v2(0x21, 0x12, four), "v2 192.0.2.9:1234 10.0.0.1:80 28"],
    ["tcp6", v2(0x21, 0x21, six), "v2 [101:101:101:101:101:101:101:101]:257 [101:101:101:101:101:101:101:101]:257 52"],
    ["local", v2(0x20, 0, Buffer.alloc(0)), "v2 - - 16"],
    ["local with more", v2(0x20, 0x11, four), "v2 - - 28"],
    ["another version", v2(0x11, 0x11, four), "error 2"],
    ["another command", v2(0x22, 0x11, four), "error 2"],
    ["unspecified", v2(0x21, 0, Buffer.alloc(0)), "error 2"],
    ["unix", v2(0x21, 0x31, Buffer.alloc(216, 97)), "error 2"],
    ["family 4", v2(0x21, 0x41, four), "error 2"],
    ["protocol 3", v2(0x21, 0x13, four), "error 2"],
    ["too short", v2(0x21, 0x11, Buffer.alloc(8)), "error 2"],
    ["extension beyond the end", v2(0x21, 0x11, Buffer.concat([four, Buffer.from([1, 0, 9])])), "error 2"],
  ];
  for (const [name, bytes, want] of cases) {
    const header = parseProxyHeader(bytes);
    assert.equal(outcome(bytes.toString("latin1")), want, name);
    if (header.kind === "found") assert.ok(header.length <= maxHeaderBytes);
  }
});

test("extensions of version 2 are told apart", () => {
  const header = parseProxyHeader(
    v2(0x21, 0x11, Buffer.concat([Buffer.from([1, 2, 3, 4, 5, 6, 7, 8, 0, 1, 0, 2]), Buffer.from([0xea, 0, 3, 97, 98, 99, 4, 0, 0])])),
  );
  assert.equal(header.kind, "found");
  if (header.kind === "found")
    assert.deepEqual(
      header.tlvs.map(({ type, value }) => [type, value.toString()]),
      [
        [0xea, "abc"],
        [4, ""],
      ],
    );
});

const ip4 = fc.tuple(fc.integer({ min: 1, max: 223 }), fc.nat(255), fc.nat(255), fc.nat(255)).map((parts) => parts.join("."));
const ip6 = fc
  .tuple(fc.integer({ min: 1, max: 0xfe00 }), fc.array(fc.oneof(fc.constant(0), fc.nat(0xffff)), { minLength: 7, maxLength: 7 }))
  .map(([first, rest]) => {
    const text = [first, ...rest].map((word) => word.toString(16)).join(":");
    return new URL(`http://[${text}]/`).hostname.slice(1, -1);
  });
const ends = fc.oneof(fc.tuple(ip4, ip4), fc.tuple(ip6, ip6));
const port = fc.nat(65535);

test("ff00::/8 is multicast, ff0:: is not", () => {
  assert.equal(parseProxyHeader(Buffer.from("PROXY TCP6 ff0:: 1:: 1 2\r\n")).kind, "found");
  assert.equal(parseProxyHeader(Buffer.from("PROXY TCP6 ff02::1 1:: 1 2\r\n")).kind, "error");
});

test("property: what is written is read back, whole or in pieces", () => {
  fc.assert(
    fc.property(ends, port, port, fc.constantFrom<1 | 2>(1, 2), fc.string(), ([from, to], fromPort, toPort, version, rest) => {
      const source = ipAddress(from, fromPort);
      const destination = ipAddress(to, toPort);
      const written = proxyHeader(version, source, destination);
      for (let cut = 0; cut < written.length; cut++) {
        const piece = written.subarray(0, cut);
        assert.equal(parseProxyHeader(piece).kind, "need_more", `${cut} of ${written.length} bytes`);
        assert.ok(mayBeHeader(piece));
      }
      const header = parseProxyHeader(Buffer.concat([written, Buffer.from(rest)]));
      assert.equal(header.kind, "found");
      if (header.kind !== "found") return;
      assert.equal(header.length, written.length);
      assert.equal(header.source?.text, source.text);
      assert.equal(header.destination?.text, destination.text);
    }),
  );
});

test("property: no bytes break the parser, and more bytes never turn a refusal into a header", () => {
  const start = fc.constantFrom("PROXY ", "PROXY TCP4 ", "\r\n\r\n\0\r\nQUIT\n", "\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c", "");
  fc.assert(
    fc.property(start, fc.uint8Array({ maxLength: 300 }), (prefix, noise) => {
      const bytes = Buffer.concat([Buffer.from(prefix, "latin1"), noise]);
      let refused = false;
      for (let length = 0; length <= bytes.length; length++) {
        const { kind } = parseProxyHeader(bytes.subarray(0, length));
        if (refused) assert.notEqual(kind, "found");
        refused ||= kind === "error";
      }
    }),
  );
});
