import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { frameMessage } from "../../grpc/frames.ts";
import type { DecoderFilterCallbacks, HttpFilter } from "../../http/filter.ts";
import { type RequestHeaders, ResponseHeaders, Trailers } from "../../http/header-map.ts";
import { managerHarness } from "../../http/manager/testing.ts";
import { message, testContext } from "../../testing/compile-context.ts";
import type { Extension } from "../extension.ts";
import bridge from "../http_filters/grpc_http1_bridge/config.ts";
import reverse from "../http_filters/grpc_http1_reverse_bridge/config.ts";
import web from "../http_filters/grpc_web/config.ts";
import { FrameCounter } from "./frame-counter.ts";
import { methodOf } from "./method-stats.ts";

/** A service: answers a message with the one it got in brackets, in pieces, and trailers. */
class Service implements HttpFilter {
  static head: RequestHeaders | undefined;
  static body: Buffer = Buffer.alloc(0);
  static answer: { readonly type: string; readonly pieces: readonly Buffer[]; readonly trailers: string[] | undefined; readonly status?: number } = {
    type: "application/grpc",
    pieces: [],
    trailers: ["grpc-status", "0"],
  };
  #callbacks!: DecoderFilterCallbacks;
  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#callbacks = callbacks;
  }
  decodeHeaders(headers: RequestHeaders): "stop" {
    Service.head = headers;
    Service.body = Buffer.alloc(0);
    return "stop";
  }
  decodeData(data: Buffer, endStream: boolean): "stop_no_buffer" {
    Service.body = Buffer.concat([Service.body, data]);
    if (endStream) {
      const { type, pieces, trailers, status } = Service.answer;
      this.#callbacks.encodeHeaders(new ResponseHeaders(status ?? 200, ["content-type", type]), false, "via_upstream");
      pieces.forEach((piece, index) => {
        this.#callbacks.encodeData(piece, trailers === undefined && index === pieces.length - 1);
      });
      if (trailers !== undefined) this.#callbacks.encodeTrailers(new Trailers([...trailers]));
    }
    return "stop_no_buffer";
  }
}

const routes = { route_config: { virtual_hosts: [{ name: "v", domains: ["*"], routes: [{ match: { prefix: "/" }, direct_response: { status: 200 } }] }] } };

function ask(extension: Extension, type: string, config: object, pieces: readonly string[], headers: string): string {
  const context = testContext();
  const factory = extension.httpFilter?.compile(message(type as "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb", config), context, {
    name: "filter",
    statPrefix: "",
    scope: context.stats.scope(""),
  });
  assert.ok(factory !== undefined);
  const { receive, connection } = managerHarness([factory, () => new Service()], routes);
  const length = pieces.join("").length;
  receive(`POST /a.B/C HTTP/1.1\r\nhost: x\r\n${headers}content-length: ${length}\r\n\r\n`);
  for (const piece of pieces) receive(piece);
  return connection.written;
}
/** The body of a chunked answer. */
function chunks(answer: string): Buffer {
  let rest = answer.slice(answer.indexOf("\r\n\r\n") + 4);
  let body = "";
  for (;;) {
    const at = rest.indexOf("\r\n");
    const size = Number.parseInt(rest.slice(0, at), 16);
    if (!(size > 0)) return Buffer.from(body, "latin1");
    body += rest.slice(at + 2, at + 2 + size);
    rest = rest.slice(at + 4 + size);
  }
}

test("gRPC-Web as text: groups of base64 may be split anywhere, and come back so", () => {
  const type = "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb";
  const head = "content-type: application/grpc-web-text\r\naccept: application/grpc-web-text\r\n";
  const framed = frameMessage(Buffer.from("question"));
  Service.answer = {
    type: "application/grpc",
    pieces: [frameMessage(Buffer.from("an")).subarray(0, 4), frameMessage(Buffer.from("an")).subarray(4)],
    trailers: ["grpc-status", "0", "x-t", "1"],
  };
  const text = framed.subarray(0, 4).toString("base64") + framed.subarray(4).toString("base64");
  const expected = Buffer.concat([frameMessage(Buffer.from("an")), Buffer.from([0x80, 0, 0, 0, 24]), Buffer.from("grpc-status:0\r\nx-t:1\r\n").subarray(0)]);
  expected.writeUInt32BE(expected.length - 12, 8);
  for (let at = 0; at <= text.length; at++) {
    const answer = ask(
      web,
      type,
      {},
      [text.slice(0, at), text.slice(at)].filter((piece) => piece !== ""),
      head,
    );
    assert.deepEqual(Service.body, framed);
    assert.match(answer, /content-type: application\/grpc-web-text\+proto\r\n/);
    assert.deepEqual(Buffer.from(chunks(answer).toString(), "base64"), expected);
  }
  assert.equal(Service.head?.get("te"), "trailers");
  for (const bad of ["ab*d", "abcde", "a===", "=abc"]) assert.match(ask(web, type, {}, [bad], head), /^HTTP\/1\.1 400 [\s\S]*Bad gRPC-web request/, bad);
});

test("the bridge puts the outcome into the head, and can frame bare messages", () => {
  const type = "envoy.extensions.filters.http.grpc_http1_bridge.v3.Config";
  Service.answer = { type: "application/grpc", pieces: [frameMessage(Buffer.from("answer"))], trailers: ["grpc-status", "5", "grpc-message", "none"] };
  const failed = ask(bridge, type, {}, ["x"], "content-type: application/grpc\r\n");
  assert.match(failed, /^HTTP\/1\.1 503 [\s\S]*grpc-status: 5\r\n[\s\S]*grpc-message: none\r\n/);
  Service.answer = { ...Service.answer, trailers: ["grpc-status", "0"] };
  const bare = ask(bridge, type, { upgrade_protobuf_to_grpc: true }, ["ques", "tion"], "content-type: application/x-protobuf\r\n");
  assert.deepEqual(Service.body, frameMessage(Buffer.from("question")));
  assert.match(bare, /^HTTP\/1\.1 200 [\s\S]*content-type: application\/x-protobuf\r\n[\s\S]*content-length: 6\r\n[\s\S]*\r\n\r\nanswer$/);
});

test("the reverse bridge takes frames off and puts them on; an upstream of another kind is an error of the call", () => {
  const type = "envoy.extensions.filters.http.grpc_http1_reverse_bridge.v3.FilterConfig";
  const config = { content_type: "application/x-protobuf", withhold_grpc_frames: true };
  Service.answer = { type: "application/x-protobuf", pieces: [Buffer.from("an"), Buffer.from("swer")], trailers: undefined };
  const framed = frameMessage(Buffer.from("question")).toString("latin1");
  for (let at = 1; at < framed.length; at++) {
    const answer = ask(reverse, type, config, [framed.slice(0, at), framed.slice(at)], "content-type: application/grpc+proto\r\n");
    assert.equal(Service.body.toString(), "question");
    assert.deepEqual(chunks(answer), frameMessage(Buffer.from("answer")));
  }
  assert.equal(Service.head?.get("content-length"), "8");
  assert.match(ask(reverse, type, config, ["abc"], "content-type: application/grpc\r\n"), /grpc-status: 2\r\n/);
  Service.answer = { type: "text/html", pieces: [Buffer.from("<p>")], trailers: undefined, status: 404 };
  const wrong = ask(reverse, type, config, [framed], "content-type: application/grpc\r\n");
  assert.match(wrong, /^HTTP\/1\.1 200 [\s\S]*grpc-status: 2\r\n[\s\S]*unsupported content-type text\/html, status code 404/);
  assert.doesNotMatch(wrong, /<p>/);
});

test("messages are counted wherever their bytes are split", () => {
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ maxLength: 300 })), fc.array(fc.integer({ min: 1, max: 40 }), { minLength: 1 }), (messages, sizes) => {
      const all = Buffer.concat(messages.map((one) => frameMessage(one)));
      const counter = new FrameCounter();
      let sum = 0;
      for (let at = 0, i = 0; at < all.length; i++) {
        const size = sizes[i % sizes.length];
        sum += counter.feed(all.subarray(at, at + size));
        at += size;
      }
      assert.deepEqual([counter.count, sum], [messages.length, messages.length]);
    }),
  );
  assert.deepEqual(methodOf("/a.B/C?q"), { service: "a.B", method: "C" });
  for (const path of [undefined, "", "/", "/a", "/a/", "//b", "/a/b/c", "a/b"]) assert.equal(methodOf(path), undefined);
});
