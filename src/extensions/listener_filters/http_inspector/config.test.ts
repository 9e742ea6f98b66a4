import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { detectHttp } from "./config.ts";

test("first bytes are told apart as Envoy does", () => {
  const cases: Record<string, string> = {
    "": "need_more",
    "GET / HTTP/1.1\r\n": "http/1.1",
    "GET / HTTP/1.0\r\n": "http/1.0",
    "GET / HTTP/1.1\n": "http/1.1",
    "FOO / HTTP/1.1\r\n": "http/1.1",
    "get / HTTP/1.1\r\n": "http/1.1",
    "GET /\r\n": "http/1.0",
    "GET / HTTP/1.2\r\n": "http/1.0",
    "GET / HTTP/2.0\r\n": "http/1.0",
    "GET  /  HTTP/1.1\r\n": "http/1.1",
    "CONNECT a:1 HTTP/1.1\r\n": "http/1.1",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n": "h2c",
    "PRI * HTTP/2.0\r\n": "need_more",
    "GET / HTTP/1.1": "need_more",
    X: "need_more",
    PRX: "need_more",
    "\0": "none",
    "\r\nGET / HTTP/1.1\r\n": "none",
    " GET / HTTP/1.1\r\n": "none",
    "GET / HTTQ/1.1\r\n": "none",
    "GET / HTTP/1.1 x\r\n": "none",
    "GET\r\n": "none",
    [`GET /${"a".repeat(70_000)}`]: "too_long",
    [`GET /${"a".repeat(20_000)} HTTP/1.1\r\n`]: "http/1.1",
  };
  for (const [bytes, want] of Object.entries(cases)) assert.equal(detectHttp(Buffer.from(bytes, "latin1")), want, JSON.stringify(bytes.slice(0, 30)));
});

test("property: more bytes never change an answer", () => {
  const start = fc.constantFrom("", "GET / HTTP/1.1", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r", "G");
  fc.assert(
    fc.property(start, fc.uint8Array({ maxLength: 60 }), (prefix, noise) => {
      const bytes = Buffer.concat([Buffer.from(prefix, "latin1"), noise]);
      let known: string | undefined;
      for (let length = 0; length <= bytes.length; length++) {
        const found = detectHttp(bytes.subarray(0, length));
        if (known !== undefined) assert.equal(found, known);
        if (found !== "need_more") known = found;
      }
    }),
  );
});
