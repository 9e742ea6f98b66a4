import assert from "node:assert/strict";
import { test } from "node:test";
import { Trailers } from "../header-map.ts";
import type { H1Settings } from "./settings.ts";
import { ClientHarness, cutsOf } from "./testing.ts";

type Request = Parameters<ClientHarness["request"]>;

/** The answer to a request, whole, byte by byte and cut at each place: the events must be these each time. */
function same(bytes: string, events: string[], request: Request = [], settings: Partial<H1Settings> = {}): ClientHarness {
  const data = Buffer.from(bytes, "latin1");
  let last: ClientHarness | undefined;
  for (const cuts of cutsOf(data.length)) {
    last = new ClientHarness(settings);
    last.request(...request);
    last.receiveCut(data, cuts);
    assert.deepEqual(last.events, events, `cut at ${cuts.length > 1 ? "each byte" : cuts[0]}`);
  }
  return last as ClientHarness;
}
const broken = (bytes: string, details: string, before: string[] = [], request: Request = [], settings: Partial<H1Settings> = {}): void => {
  const harness = same(bytes, [...before, `protocol error ${details}`, `reset protocol_error ${details}`], request, settings);
  assert.equal(harness.codec.idle, false, "never used again");
};

test("a request as it is written", () => {
  const written = (...request: Request): string => {
    const harness = new ClientHarness();
    harness.request(...request);
    return harness.connection.written;
  };
  assert.equal(written("GET", "/x?y", ["accept", "*/*"]), "GET /x?y HTTP/1.1\r\nhost: a.test\r\naccept: */*\r\n\r\n");
  assert.equal(written("POST", "/"), "POST / HTTP/1.1\r\nhost: a.test\r\ncontent-length: 0\r\n\r\n");
  assert.equal(written("CONNECT", "/", [], false), "CONNECT a.test HTTP/1.1\r\nhost: a.test\r\n\r\n");
  const chunked = new ClientHarness({ enableTrailers: true });
  const stream = chunked.request("POST", "/", ["transfer-encoding", "chunked"], false);
  stream.encodeData(Buffer.from("abc"), false);
  stream.encodeData(Buffer.alloc(0), false);
  stream.encodeTrailers(new Trailers(["x-end", "1"]));
  assert.equal(chunked.connection.written, "POST / HTTP/1.1\r\nhost: a.test\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-end: 1\r\n\r\n");
  const sized = new ClientHarness({ nameFormat: "proper", absoluteTargets: true });
  const second = sized.request("PUT", "/x", ["content-length", "2"], false);
  second.encodeData(Buffer.from("ab"), true);
  assert.equal(sized.connection.written, "PUT http://a.test/x HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nab");
});

test("answers: sized, chunked, until the end, none", () => {
  const sized = same("HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", ["head 200 content-length=3", "data abc", "end"]);
  assert.equal(sized.codec.idle, true);
  same("HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n3;x\r\nabc\r\n0\r\nx: 1\r\n\r\n", ["head 200 transfer-encoding=Chunked", "data abc", "end"]);
  same("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nx: 1\r\n\r\n", ["head 200 transfer-encoding=chunked", "trailers x=1", "end"], [], {
    enableTrailers: true,
  });
  same("HTTP/1.1 200\r\ncontent-length: 0\r\n\r\n", ["head 200 content-length=0", "end"]);
  const until = same("HTTP/1.1 200 OK\r\n\r\nabc", ["head 200", "data abc"]);
  assert.equal(until.codec.endsWithConnection, true);
  until.codec.onConnectionEnd();
  assert.deepEqual(until.events.slice(-1), ["end"]);
  for (const head of ["204 No Content", "304 Not Modified"]) same(`HTTP/1.1 ${head}\r\nx: 1\r\n\r\n`, [`head ${head.slice(0, 3)} x=1`, "end"]);
  const head = same("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n", ["head 200 content-length=100", "end"], ["HEAD"]);
  assert.equal(head.codec.idle, true);
  same("HTTP/1.1 304 Not Modified\r\ncontent-length: 100\r\n\r\n", ["head 304 content-length=100", "end"]);
});

test("interim answers pass, at most sixteen of them", () => {
  same("HTTP/1.1 100 Continue\r\nconnection: x\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: y\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n", [
    "interim 100",
    "interim 103 link=y",
    "head 204",
    "end",
  ]);
  const harness = new ClientHarness();
  harness.request();
  harness.receive(`${"HTTP/1.1 100 Continue\r\n\r\n".repeat(10_000)}HTTP/1.1 204 No Content\r\n\r\n`);
  assert.equal(harness.events.length, 18);
  broken("HTTP/1.1 100 Continue\r\ncontent-length: 3\r\n\r\n", "http1.codec_error");
});

test("answers that are none", () => {
  for (const line of [
    "HTTP/1.1 20 OK",
    "HTTP/1.1 2000 OK",
    "HTTP/1.1 099 x",
    "HTTP/1.1  200 OK",
    "HTTP/1.1 200OK",
    "ICY 200 OK",
    "http/1.1 200 OK",
    "HTTP/1.1 2x0 OK",
    "HTTP/1.1 200 a\rb",
  ])
    broken(`${line}\r\n\r\n`, "http1.codec_error");
  const with200 = (fields: string): string => `HTTP/1.1 200 OK\r\n${fields}\r\n\r\n`;
  for (const fields of [
    "content-length: 3\r\ncontent-length: 3",
    "content-length: 3, 3",
    "content-length: -3",
    "content-length: 3x",
    "no colon",
    "a b: 1",
    "x: \0",
    " x: 1",
  ])
    broken(with200(fields), "http1.codec_error");
  broken(with200("content-length: 3\r\ntransfer-encoding: chunked"), "http1.content_length_and_chunked_not_allowed");
  broken(with200("transfer-encoding: gzip"), "http1.invalid_transfer_encoding");
  broken("HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\n", "http1.codec_error");
  broken("HTTP/1.1 101 Switching Protocols\r\n\r\n", "http1.unexpected_switching_protocols");
  broken(with200("transfer-encoding: chunked").concat("zz\r\n"), "http1.codec_error", ["head 200 transfer-encoding=chunked"]);
});

test("limits of a head", () => {
  broken(`HTTP/1.1 200 OK\r\nx: ${"y".repeat(400)}\r\n\r\n`, "http1.headers_too_large", [], [], { maxHeadBytes: 300 });
  broken(`HTTP/1.1 200 OK\r\n${"x: y\r\n".repeat(11)}\r\n`, "http1.too_many_headers", [], [], { maxHeaderCount: 10 });
});

test("bytes behind an answer are nobody's answer", () => {
  const harness = new ClientHarness();
  harness.request();
  harness.receive("HTTP/1.1 204 No Content\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
  assert.deepEqual(harness.events, ["head 204", "end", "protocol error http1.unexpected_bytes"]);
  assert.equal(harness.codec.idle, false);
  const idle = new ClientHarness();
  idle.request();
  idle.receive("HTTP/1.1 204 No Content\r\n\r\n");
  idle.receive("HTTP/1.1 408 Request Timeout\r\n\r\n");
  assert.deepEqual(idle.events.slice(-1), ["protocol error http1.idle_408"]);
});

test("whether the connection can be used again", () => {
  const after = (answer: string, ...request: Request): ClientHarness => {
    const harness = new ClientHarness();
    harness.request(...request);
    harness.receive(answer);
    return harness;
  };
  assert.equal(after("HTTP/1.1 204 x\r\n\r\n").codec.closeAfterResponse, false);
  assert.equal(after("HTTP/1.1 204 x\r\nConnection: Close\r\n\r\n").codec.closeAfterResponse, true);
  assert.equal(after("HTTP/1.0 204 x\r\n\r\n").codec.closeAfterResponse, true);
  assert.equal(after("HTTP/1.0 204 x\r\nconnection: keep-alive\r\n\r\n").codec.closeAfterResponse, false);
  // The answer came before the request was complete.
  const early = after("HTTP/1.1 204 x\r\n\r\n", "POST", "/", ["content-length", "3"], false);
  assert.equal(early.codec.closeAfterResponse, true);
  assert.equal(early.codec.idle, false);
});

test("the peer goes away: before an answer, in the middle of one, in a tunnel", () => {
  const end = (answer: string, ...request: Request): string[] => {
    const harness = new ClientHarness();
    harness.request(...request);
    harness.receive(answer);
    harness.codec.onConnectionEnd();
    return harness.events;
  };
  assert.deepEqual(end(""), ["reset connection_termination"]);
  assert.deepEqual(end("HTTP/1.1 20").slice(-1), ["reset protocol_error http1.codec_error"]);
  assert.deepEqual(end("HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\na").slice(-1), ["reset protocol_error http1.codec_error"]);
  const upgrade: Request = ["GET", "/", ["connection", "upgrade", "upgrade", "websocket"], false];
  assert.deepEqual(end("HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\n\r\nraw", ...upgrade), [
    "head 101 upgrade=websocket",
    "data raw",
    "reset connection_termination",
  ]);
  assert.deepEqual(end("HTTP/1.1 200 OK\r\n\r\nraw", "CONNECT", "/", [], false), ["head 200", "data raw", "reset connection_termination"]);
});

test("a stream that is given up closes its connection; a complete one does not", () => {
  const given = new ClientHarness();
  given.request().resetStream("local_reset");
  assert.equal(given.connection.closedAs, "no_flush");
  assert.deepEqual(given.events, ["reset local_reset"]);
  given.receive("HTTP/1.1 204 x\r\n\r\n");
  assert.deepEqual(given.events, ["reset local_reset"]);
  const complete = new ClientHarness();
  const stream = complete.request();
  complete.receive("HTTP/1.1 204 x\r\n\r\n");
  stream.resetStream("local_reset");
  assert.equal(complete.connection.closedAs, undefined);
});

test("fields that Connection names do not come through", () => {
  same("HTTP/1.1 204 x\r\nconnection: x-one\r\nx-one: 1\r\nx-two: 2\r\n\r\n", ["head 204 connection=x-one x-two=2", "end"]);
});
