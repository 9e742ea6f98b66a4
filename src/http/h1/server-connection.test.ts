import assert from "node:assert/strict";
import { test } from "node:test";
import { ResponseHeaders, Trailers } from "../header-map.ts";
import type { H1Settings } from "./settings.ts";
import { type Answering, answerOk, cutsOf, ServerHarness } from "./testing.ts";

/** Feeds the bytes whole, one by one, and cut at every place: the events must be these each time. */
function same(bytes: string, events: string[], settings: Partial<H1Settings> = {}, answering: Answering = answerOk): ServerHarness {
  const data = Buffer.from(bytes, "latin1");
  let last: ServerHarness | undefined;
  for (const cuts of cutsOf(data.length)) {
    last = new ServerHarness(settings, answering);
    last.receiveCut(data, cuts);
    assert.deepEqual(last.events, events, `cut at ${cuts.length > 1 ? "each byte" : cuts[0]}`);
  }
  return last as ServerHarness;
}
const refused = (bytes: string, status: number, details: string, settings: Partial<H1Settings> = {}): ServerHarness => {
  const harness = same(bytes, [`refused ${status} ${details}`], settings);
  // Nothing behind a refused head is read.
  harness.receive("GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n");
  assert.equal(harness.requests.length, 0);
  return harness;
};

test("a request and its answer", () => {
  const harness = same("GET /a?b=c HTTP/1.1\r\nHost: a.test\r\nAccept: */*\r\n\r\n", ["head GET /a?b=c a.test accept=*/*", "end"]);
  assert.equal(harness.connection.written, "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok");
});

test("pipelined requests come one after the other", () => {
  const harness = same(
    "GET /1 HTTP/1.1\r\nHost: a\r\n\r\nPOST /2 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabcPOST /3 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\nGET /4 HTTP/1.1\r\nHost: a\r\n\r\n",
    [
      "head GET /1 a",
      "end",
      "head POST /2 a content-length=3",
      "data abc",
      "end",
      "head POST /3 a transfer-encoding=chunked",
      "data de",
      "end",
      "head GET /4 a",
      "end",
    ],
  );
  assert.equal(harness.connection.written.split("HTTP/1.1 200 OK").length, 5);
  assert.equal(harness.connection.readDisabled, 0);
});

test("a pipelined request waits, unread, until the answer before it is complete", async () => {
  const harness = new ServerHarness({}, {});
  harness.receive("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\nGET /3 HTTP/1.1\r\nHo");
  assert.deepEqual(harness.events, ["head GET /1 a", "end"]);
  assert.equal(harness.connection.readDisabled, 1);
  for (const path of ["/2", "/3"]) {
    answerOk.onEnd?.(harness.encoders[harness.encoders.length - 1], harness.requests[0]);
    await Promise.resolve();
    if (path === "/3") {
      assert.equal(harness.connection.readDisabled, 0);
      harness.receive("st: a\r\n\r\n");
    }
    assert.deepEqual(harness.events.slice(-2), [`head GET ${path} a`, "end"]);
  }
});

test("while a client leaves its answers unread, its next request is not begun", async () => {
  const request = "GET /1 HTTP/1.1\r\nHost: a\r\n\r\n";
  const harness = new ServerHarness();
  harness.receive(request);
  assert.equal(harness.requests.length, 1);
  harness.codec.onUnderlyingConnectionAboveWriteBufferHighWatermark();
  harness.receive(request.repeat(3) + request.slice(0, 10));
  await Promise.resolve();
  assert.equal(harness.requests.length, 1);
  assert.equal(harness.connection.readDisabled, 1);
  harness.codec.onUnderlyingConnectionBelowWriteBufferLowWatermark();
  await Promise.resolve();
  assert.equal(harness.requests.length, 4);
  assert.equal(harness.connection.readDisabled, 0);
  harness.receive(request.slice(10));
  assert.equal(harness.requests.length, 5);
});

test("an answer before the end of the request: the next one waits for the rest of the body", async () => {
  const harness = new ServerHarness({}, { onHead: (encoder) => encoder.encodeHeaders(new ResponseHeaders(204), true) });
  harness.receive("POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\r\nab");
  harness.receive("cdGET /2 HTTP/1.1\r\nHost: a\r\n\r\n");
  await Promise.resolve();
  assert.deepEqual(harness.events, ["head POST /1 a content-length=4", "data abcd", "end", "head GET /2 a", "end"]);
});

test("bodies: chunked with extensions, leading zeros, trailers", () => {
  const head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  const seen = "head POST / a transfer-encoding=chunked";
  same(`${head}000A;x=y; z="1"\r\n0123456789\r\n1 \r\n!\r\n0;last\r\n\r\n`, [seen, "data 0123456789!", "end"]);
  same(`${head}1\r\na\r\n0\r\nX-One: 1\r\nx-two:  2 \r\n\r\n`, [seen, "data a", "trailers x-one=1 x-two=2", "end"], { enableTrailers: true });
  same(`${head}1\r\na\r\n0\r\nX-One: 1\r\n\r\n`, [seen, "data a", "end"]);
});

test("chunked bodies that are none", () => {
  const head = "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
  const seen = "head POST / a transfer-encoding=chunked";
  const bad = "refused 400 http1.codec_error";
  for (const body of [
    "g\r\n",
    "-1\r\n",
    "+1\r\n",
    "0x1\r\n",
    " 1\r\n",
    "\r\n",
    ";x\r\n",
    "1\na\r\n",
    "1\r\r\n",
    "10000000000000\r\n",
    "fffffffffffffffff\r\n",
    "1;\0\r\n",
    "1;\x7f\r\n",
  ])
    same(head + body, [seen, bad]);
  for (const body of ["1\r\nab\r\n", "1\r\na\n", "1\r\na\rb"]) same(head + body, [seen, "data a", bad]);
  for (const trailer of ["x y: 1", "novalue", ": 1", "a\0: 1", "a: \0"]) same(`${head}0\r\n${trailer}\r\n\r\n`, [seen, bad]);
});

test("smuggling: two lengths, odd lengths, odd codings", () => {
  const head = (fields: string): string => `POST / HTTP/1.1\r\nHost: a\r\n${fields}\r\n\r\n`;
  refused(head("Content-Length: 3\r\nTransfer-Encoding: chunked"), 400, "http1.content_length_and_chunked_not_allowed");
  refused(head("Transfer-Encoding: chunked\r\nContent-Length: 3"), 400, "http1.content_length_and_chunked_not_allowed");
  for (const value of [
    "3, 3",
    "3\r\nContent-Length: 3",
    "3\r\nContent-Length: 4",
    "-1",
    "+1",
    "0x3",
    "3 3",
    "",
    "1e1",
    "99999999999999999999",
    "9223372036854775808",
  ])
    refused(head(`Content-Length: ${value}`), 400, "http1.codec_error");
  for (const value of ["gzip, chunked", "identity", "chunked, chunked", "chunked\r\nTransfer-Encoding: chunked", "xchunked", "chunked;q=1", '"chunked"'])
    refused(head(`Transfer-Encoding: ${value}`), 501, "http1.invalid_transfer_encoding");
  for (const value of ["chunked\r\n , identity", "\r\n chunked"]) refused(head(`Transfer-Encoding: ${value}`), 400, "http1.codec_error");
  for (const field of [
    "Transfer-Encoding : chunked",
    "Content-Length\t: 3",
    " Content-Length: 3",
    "Transfer\0-Encoding: chunked",
    "Content-Length:\r 3",
    "Content-Length: 3\0",
  ])
    refused(`POST / HTTP/1.1\r\n${field}\r\nHost: a\r\n\r\n`, 400, "http1.codec_error");
});

test("lines and fields", () => {
  same("GET / HTTP/1.1\nhost: a\nx: 1\n\n", ["head GET / a x=1", "end"]);
  same("\r\n\r\nGET / HTTP/1.1\r\nhost: a\r\n\r\n\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\n", ["head GET / a", "end", "head GET /2 a", "end"]);
  same("GET / HTTP/1.1\r\nhost: a\r\nx: 1\r\n\t 2 \r\n 3\r\ny:\r\n\r\n", ["head GET / a x=1 2 3 y=", "end"]);
  same("GET / HTTP/1.1\r\nhost: a\r\nx: caf\xe9 \xff\r\n\r\n", ["head GET / a x=caf\xe9 \xff", "end"]);
  for (const line of ["no colon", ": empty", "na me: 1", "name : 1", "n\x80me: 1", "x: a\x00b", "x: a\x0bb", "x: a\x7fb", "x: a\rb", "(x): 1"])
    refused(`GET / HTTP/1.1\r\nhost: a\r\n${line}\r\n\r\n`, 400, "http1.codec_error");
  refused("GET / HTTP/1.1\r\n x: 1\r\nhost: a\r\n\r\n", 400, "http1.codec_error");
});

test("a carriage return before a request is the same however it is cut", () => {
  refused("\rGET / HTTP/1.1\r\nhost: a\r\n\r\n", 400, "http1.codec_error");
  refused("\r\n\rGET / HTTP/1.1\r\nhost: a\r\n\r\n", 400, "http1.codec_error");
});

test("request lines", () => {
  const after = "\r\nhost: a\r\n\r\n";
  for (const line of ["GET /", "GET / HTTP/2.0", "GET / HTTP/1.2", "GET / HTTP/0.9"]) {
    const harness = new ServerHarness();
    harness.receive(line + after);
    assert.deepEqual(harness.events, ["refused 426 low_version"], line);
  }
  for (const line of [
    "GET /\x80 HTTP/1.1",
    "GET / / HTTP/1.1",
    "G@T / HTTP/1.1",
    "get / HTTP/1.1",
    "GET / http/1.1",
    "GET / HTTP/1.1x",
    "FOO / HTTP/1.1",
    "GET /\0 HTTP/1.1",
  ])
    refused(line + after, 400, "http1.codec_error");
  same(`M-SEARCH / HTTP/1.1${after}`, ["head M-SEARCH / a", "end"]);
  same(`FOO / HTTP/1.1${after}`, ["head FOO / a", "end"], { customMethods: true });
});

test("targets: absolute form, asterisk, CONNECT", () => {
  const after = " HTTP/1.1\r\nhost: a\r\n\r\n";
  same(`GET http://b.test:81/x?y${after}`, ["head GET /x?y b.test:81", "end"]);
  same(`GET HTTPS://b.test?y${after}`, ["head GET /?y b.test", "end"]);
  same(`GET http://b.test${after}`, ["head GET / b.test", "end"]);
  same(`OPTIONS *${after}`, ["head OPTIONS * a", "end"]);
  for (const target of ["*", "ftp://b.test/", "http:///x", "http://", "b.test/x", "http://b test", "/ok\x00"]) {
    const harness = new ServerHarness();
    harness.receive(`GET ${target}${after}`);
    assert.match(harness.events[0], /^refused 400 /, target);
  }
  for (const target of ["b.test", "b.test:", "b.test:x", "/", "http://b.test:1/", "b.test:123456"]) {
    const harness = new ServerHarness();
    harness.receive(`CONNECT ${target}${after}`);
    assert.match(harness.events[0], /^refused 400 /, target);
  }
});

test("Host: none, two, odd ones", () => {
  // The connection manager refuses it.
  same("GET / HTTP/1.1\r\n\r\n", ["head GET / -", "end"]);
  refused("GET / HTTP/1.1\r\nhost: a\r\nhost: a\r\n\r\n", 400, "http1.codec_error");
  for (const host of ["a b", "a/b", "a\\b", "a<b", "caf\xe9"]) refused(`GET / HTTP/1.1\r\nhost: ${host}\r\n\r\n`, 400, "http1.invalid_host");
});

test("HTTP/1.0: refused, or taken with its rules", () => {
  refused("GET / HTTP/1.0\r\nhost: a\r\n\r\n", 426, "low_version");
  const harness = same("GET / HTTP/1.0\r\n\r\n", ["head GET / d.test", "end"], { acceptHttp10: true, defaultHost: "d.test" });
  assert.match(harness.connection.written, /^HTTP\/1\.0 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\nok$/);
  refused("POST / HTTP/1.0\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400, "http1.codec_error", { acceptHttp10: true });
  // Without a length its answer is not chunked.
  const streamed = new ServerHarness(
    { acceptHttp10: true },
    {
      onEnd(encoder) {
        encoder.encodeHeaders(new ResponseHeaders(200), false);
        encoder.encodeData(Buffer.from("until close"), true);
      },
    },
  );
  streamed.receive("GET / HTTP/1.0\r\nhost: a\r\n\r\n");
  assert.match(streamed.connection.written, /^HTTP\/1\.0 200 OK\r\nconnection: close\r\n\r\nuntil close$/);
});

test("limits: bytes of a head, fields, underscores", () => {
  const field = (n: number): string => `x-${n}: 1\r\n`;
  const many = (n: number): string => `GET / HTTP/1.1\r\nhost: a\r\n${Array.from({ length: n }, (_, i) => field(i)).join("")}\r\n`;
  const events = (text: string, settings: Partial<H1Settings>): string[] => {
    const whole = new ServerHarness(settings);
    whole.receive(text);
    const bytes = new ServerHarness(settings);
    for (const c of text) bytes.receive(c);
    assert.deepEqual(bytes.events, whole.events);
    return whole.events;
  };
  assert.equal(events(many(99), {})[1], "end");
  assert.deepEqual(events(many(100), {}), ["refused 431 http1.too_many_headers"]);
  const settings = { maxHeadBytes: 1024 };
  assert.deepEqual(events(`GET / HTTP/1.1\r\nhost: a\r\nx: ${"y".repeat(1024)}\r\n\r\n`, settings), ["refused 431 http1.headers_too_large"]);
  assert.deepEqual(events(`GET /${"y".repeat(1024)} HTTP/1.1\r\nhost: a\r\n\r\n`, settings), ["refused 431 http1.request_uri_too_large"]);
  assert.deepEqual(events(`GET /${"y".repeat(9000)} HTTP/1.1\r\nhost: a\r\n\r\n`, settings), ["refused 431 http1.request_uri_too_large"]);
  assert.equal(events(`GET / HTTP/1.1\r\nhost: a\r\nx: ${"y".repeat(900)}\r\n\r\n`, settings)[1], "end");
  const chunked = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n0\r\n";
  assert.match(events(`${chunked}x: ${"y".repeat(1100)}\r\n\r\n`, settings)[1], /^refused 431 http1\.trailers_too_large$/);
  assert.match(events(`${chunked}${Array.from({ length: 101 }, (_, i) => field(i)).join("")}\r\n`, {})[1], /^refused 431 /);
  const odd = "GET / HTTP/1.1\r\nhost: a\r\nx_y: 1\r\n\r\n";
  assert.deepEqual(events(odd, { underscores: "reject" }), ["refused 400 http1.unexpected_underscore"]);
  assert.deepEqual(events(odd, { underscores: "drop" }), ["head GET / a", "end"]);
});

test("Connection: fields it names are dropped, some may not be named", () => {
  same("GET / HTTP/1.1\r\nhost: a\r\nconnection: close, X-One\r\nx-one: 1\r\nx-two: 2\r\n\r\n", ["head GET / a connection=close, X-One x-two=2", "end"]);
  for (const name of ["host", "x-forwarded-for", ":path"])
    refused(`GET / HTTP/1.1\r\nhost: a\r\nconnection: ${name}\r\n\r\n`, 400, "http1.connection_header_rejected");
  // RFC 9112 9.6: what follows a request with close is no request.
  const harness = new ServerHarness();
  harness.receive("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\nGET /2 HTTP/1.1\r\nhost: a\r\n\r\n");
  assert.deepEqual(harness.events, ["head GET / a connection=close", "end"]);
});

test("upgrades and CONNECT: bytes pass once taken, nothing is read once refused", () => {
  const head = "GET /ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
  const taken = new ServerHarness(
    {},
    { onHead: (encoder) => encoder.encodeHeaders(new ResponseHeaders(101, ["connection", "upgrade", "upgrade", "websocket"]), false) },
  );
  taken.receive(`${head}\x01GET / HTTP/1.1\r\n`);
  taken.encoders[0].encodeData(Buffer.from("raw"), false);
  assert.deepEqual(taken.events.slice(1), ["data \x01GET / HTTP/1.1\r\n"]);
  assert.equal(taken.connection.written, "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nraw");
  const not = new ServerHarness({}, { onHead: (encoder) => encoder.encodeHeaders(new ResponseHeaders(403, ["content-length", "0"]), true) });
  not.receive(`${head}GET /smuggled HTTP/1.1\r\nhost: a\r\n\r\n`);
  assert.equal(not.requests.length, 1);
  const connect = new ServerHarness({}, { onHead: (encoder) => encoder.encodeHeaders(new ResponseHeaders(200), false) });
  connect.receive("CONNECT b.test:443 HTTP/1.1\r\nhost: b.test:443\r\n\r\nraw");
  assert.deepEqual(connect.events, ["head CONNECT - b.test:443", "data raw"]);
  assert.equal(connect.connection.written, "HTTP/1.1 200 OK\r\n\r\n");
  // h2c is not taken up: the request passes as a plain one.
  same("GET / HTTP/1.1\r\nhost: a\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AA\r\n\r\n", ["head GET / a", "end"]);
});

test("answers without a body: HEAD, 204, 304; interim ones; chunks and trailers", () => {
  const answer = (request: string, act: NonNullable<Answering["onEnd"]>, settings: Partial<H1Settings> = {}): string => {
    const harness = new ServerHarness(settings, { onEnd: act });
    harness.receive(`${request} / HTTP/1.1\r\nhost: a\r\n\r\n`);
    return harness.connection.written;
  };
  assert.equal(
    answer("HEAD", (encoder) => encoder.encodeHeaders(new ResponseHeaders(200, ["content-length", "7"]), true)),
    "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n",
  );
  assert.equal(
    answer("HEAD", (encoder) => {
      encoder.encodeHeaders(new ResponseHeaders(200, ["content-length", "7"]), false);
      encoder.encodeData(Buffer.from("ignored"), true);
    }),
    "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n",
  );
  assert.equal(
    answer("GET", (encoder) => encoder.encodeHeaders(new ResponseHeaders(204, ["content-length", "0"]), true)),
    "HTTP/1.1 204 No Content\r\n\r\n",
  );
  assert.equal(
    answer("GET", (encoder) => encoder.encodeHeaders(new ResponseHeaders(304, ["etag", "x"]), true)),
    "HTTP/1.1 304 Not Modified\r\netag: x\r\n\r\n",
  );
  assert.equal(
    answer("GET", (encoder) => encoder.encodeHeaders(new ResponseHeaders(200), true)),
    "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
  );
  const chunks: NonNullable<Answering["onEnd"]> = (encoder) => {
    encoder.encode1xxHeaders(new ResponseHeaders(103, ["link", "</x>"]));
    encoder.encodeHeaders(new ResponseHeaders(200, ["transfer-encoding", "chunked"]), false);
    encoder.encodeData(Buffer.from("abc"), false);
    encoder.encodeData(Buffer.alloc(0), false);
    encoder.encodeTrailers(new Trailers(["x-end", "1"]));
  };
  const begin = "HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n";
  assert.equal(answer("GET", chunks), `${begin}0\r\n\r\n`);
  assert.equal(answer("GET", chunks, { enableTrailers: true }), `${begin}0\r\nx-end: 1\r\n\r\n`);
  assert.match(answer("GET", chunks, { nameFormat: "proper" }), /\r\nLink: <\/x>\r\n[\s\S]*\r\nTransfer-Encoding: chunked\r\n/);
});

test("a head that takes too long is refused, and nothing is read then", () => {
  const harness = new ServerHarness();
  harness.receive("GET / HTTP/1.1\r\nhos");
  assert.equal(harness.codec.readingHead, true);
  harness.codec.refuseHead();
  harness.receive("t: a\r\n\r\n");
  assert.deepEqual(harness.events, ["refused 408 request_header_timeout"]);
  assert.match(harness.connection.written, /^HTTP\/1\.1 408 Request Timeout\r\n/);
});

test("the connection ends: the exchange under way is reset, a half read one too", () => {
  const waiting = new ServerHarness({}, {});
  waiting.receive("GET / HTTP/1.1\r\nhost: a\r\n\r\n");
  waiting.codec.onConnectionEnd();
  assert.deepEqual(waiting.events.slice(-1), ["reset connection_termination"]);
  const body = new ServerHarness();
  body.receive("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nab");
  body.codec.onConnectionEnd();
  assert.deepEqual(body.events.slice(-2), ["data ab", "reset connection_termination"]);
  const idle = new ServerHarness();
  idle.codec.onConnectionEnd();
  assert.deepEqual(idle.events, []);
});

test("a body that turns bad after the answer was complete ends the connection", () => {
  const harness = new ServerHarness({}, { onHead: (encoder) => encoder.encodeHeaders(new ResponseHeaders(200), true) });
  harness.receive("POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\nzz\r\n");
  assert.equal(harness.connection.written.split("HTTP/1.1").length, 2, "one answer only");
  assert.notEqual(harness.connection.closedAs, undefined);
});
