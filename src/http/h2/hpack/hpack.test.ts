import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { HpackDecoder, HpackError } from "./decoder.ts";
import { HpackEncoder } from "./encoder.ts";
import { huffmanDecode, huffmanEncode, huffmanLength } from "./huffman.ts";

function decode(decoder: HpackDecoder, block: Buffer): string[] {
  const list: string[] = [];
  decoder.decode(block, 0, block.length, { onField: (name, value) => list.push(name, value) });
  return list;
}

function encode(encoder: HpackEncoder, list: readonly string[]): Buffer {
  encoder.begin();
  for (let i = 0; i < list.length; i += 2) encoder.field(list[i], list[i + 1]);
  return Buffer.from(encoder.end().subarray(0, encoder.length));
}

const hex = (text: string): Buffer => Buffer.from(text.replaceAll(" ", ""), "hex");

test("the requests of RFC 7541 C.4", () => {
  const decoder = new HpackDecoder();
  assert.deepEqual(decode(decoder, hex("8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff")), [
    ":method",
    "GET",
    ":scheme",
    "http",
    ":path",
    "/",
    ":authority",
    "www.example.com",
  ]);
  assert.equal(decoder.tableSize, 57);
  assert.deepEqual(decode(decoder, hex("8286 84be 5886 a8eb 1064 9cbf")).slice(6), [":authority", "www.example.com", "cache-control", "no-cache"]);
  assert.equal(decoder.tableSize, 110);
  assert.deepEqual(decode(decoder, hex("8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf")), [
    ":method",
    "GET",
    ":scheme",
    "https",
    ":path",
    "/index.html",
    ":authority",
    "www.example.com",
    "custom-key",
    "custom-value",
  ]);
  assert.equal(decoder.tableSize, 164);
});

test("the responses of RFC 7541 C.6: a table of 256 octets evicts", () => {
  const decoder = new HpackDecoder(256);
  const first = decode(
    decoder,
    hex("4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae 82ae 43d3"),
  );
  assert.deepEqual(first, [":status", "302", "cache-control", "private", "date", "Mon, 21 Oct 2013 20:13:21 GMT", "location", "https://www.example.com"]);
  assert.equal(decoder.tableSize, 222);
  assert.deepEqual(decode(decoder, hex("4883 640e ffc1 c0bf")).slice(0, 2), [":status", "307"]);
  const third = decode(
    decoder,
    hex(
      "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ),
  );
  assert.equal(third[third.length - 1], "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1");
  assert.equal(decoder.tableSize, 215);
});

test("what is no HPACK is refused", () => {
  const bad: [string, string][] = [
    ["80", "index 0"],
    ["be", "past the table"],
    ["ff ff ff ff ff 0f", "integer too large"],
    ["ff ff", "integer cut off"],
    ["40", "no name"],
    ["40 01", "name cut off"],
    ["41 8c f1", "value cut off"],
    ["41 01 61 20", "size update inside a block"],
    ["3f e2 1f", "table of 4097"],
    ["41 84 ff ff ff ff", "EOS"],
    ["41 81 00", "padding of zeros"],
    ["41 82 f1 ff ", "padding of a whole octet"],
  ];
  for (const [block, what] of bad) assert.throws(() => decode(new HpackDecoder(), hex(block)), HpackError, what);
});

test("a size update shrinks the table, and the encoder tells of the smallest size in between", () => {
  const encoder = new HpackEncoder();
  const decoder = new HpackDecoder();
  decode(decoder, encode(encoder, ["x-one", "1", "x-two", "2"]));
  encoder.setAllowedSize(0);
  encoder.setAllowedSize(4096);
  const block = encode(encoder, ["x-one", "1"]);
  assert.equal(block.subarray(0, 4).toString("hex"), "203fe11f");
  assert.deepEqual(decode(decoder, block), ["x-one", "1"]);
  assert.equal(decoder.tableSize, encoder.tableSize);
});

test("secrets are never indexed", () => {
  const block = encode(new HpackEncoder(), ["authorization", "Basic abc", "cookie", "a=b"]);
  assert.equal(block[0], 0x1f);
});

test("any text survives the Huffman code", () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (octets) => {
      const text = Buffer.from(octets).toString("latin1");
      const out = Buffer.alloc(huffmanLength(text));
      assert.equal(huffmanEncode(text, out, 0), out.length);
      assert.equal(huffmanDecode(out, 0, out.length), text);
    }),
  );
});

test("both tables stay equal, whatever fields and sizes follow each other", () => {
  const name = fc.oneof(
    fc.constantFrom(":path", ":status", "x-a", "x-b", "cookie", "date", "set-cookie", "content-type"),
    fc.stringMatching(/^[a-z][a-z0-9-]{0,20}$/),
  );
  const value = fc.oneof(
    fc.constantFrom("", "200", "a", "/"),
    fc.string({ unit: fc.integer({ min: 0x20, max: 0xff }).map((c) => String.fromCharCode(c)), maxLength: 200 }),
  );
  const step = fc.oneof(fc.record({ fields: fc.array(fc.tuple(name, value), { maxLength: 12 }) }), fc.record({ size: fc.integer({ min: 0, max: 5000 }) }));
  fc.assert(
    fc.property(fc.array(step, { maxLength: 30 }), fc.integer({ min: 0, max: 4096 }), fc.boolean(), (steps, limit, huffman) => {
      const encoder = new HpackEncoder(limit, huffman);
      const decoder = new HpackDecoder(5000);
      // What the decoder's side has announced holds before anything else.
      encoder.setAllowedSize(5000);
      for (const each of steps) {
        if ("size" in each) {
          encoder.setAllowedSize(each.size);
          continue;
        }
        const list = each.fields.flat();
        assert.deepEqual(decode(decoder, encode(encoder, list)), list);
        assert.equal(decoder.tableSize, encoder.tableSize);
      }
    }),
  );
});
