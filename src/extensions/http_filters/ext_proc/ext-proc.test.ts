import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeMessage } from "../../../config/binary.ts";
import { encodeMessage } from "../../../config/binary-encode.ts";
import { envoySchema } from "../../../config/schema/registry.ts";
import type { ProcessingRequest } from "../../../config/schema/types/envoy.service.ext_proc.v3.d.ts";
import type { GrpcClient, GrpcStreamEvents } from "../../../grpc/client.ts";
import type { DecoderFilterCallbacks, HttpFilter } from "../../../http/filter.ts";
import { type RequestHeaders, ResponseHeaders, Trailers } from "../../../http/header-map.ts";
import { type Harness, managerHarness } from "../../../http/manager/testing.ts";
import { message, testContext } from "../../../testing/compile-context.ts";
import { ExtProcFilter } from "./filter.ts";
import { compileSettings } from "./settings.ts";

const typeName = "envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor";
const requestType = envoySchema().message("envoy.service.ext_proc.v3.ProcessingRequest");
assert.ok(requestType !== undefined);
const routes = {
  http_protocol_options: { enable_trailers: true },
  route_config: { virtual_hosts: [{ name: "v", domains: ["*"], routes: [{ match: { prefix: "/" }, direct_response: { status: 200 } }] }] },
};

/** Answers when the request has ended: "<", the body, ">" and a trailer. */
class Backend implements HttpFilter {
  static head: RequestHeaders | undefined;
  static body = "";
  static trailers: string[] = [];
  #callbacks!: DecoderFilterCallbacks;
  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#callbacks = callbacks;
  }
  decodeHeaders(headers: RequestHeaders, endStream: boolean): "stop" {
    Backend.head = headers;
    Backend.body = "";
    Backend.trailers = [];
    if (endStream) this.#answer();
    return "stop";
  }
  decodeData(data: Buffer, endStream: boolean): "stop_no_buffer" {
    Backend.body += data.toString("latin1");
    if (endStream) this.#answer();
    return "stop_no_buffer";
  }
  decodeTrailers(trailers: Trailers): "stop" {
    Backend.trailers = trailers.list;
    this.#answer();
    return "stop";
  }
  #answer(): void {
    this.#callbacks.encodeHeaders(new ResponseHeaders(200, ["x-from", "backend"]), false, "via_upstream");
    for (const piece of ["<", Backend.body, ">"]) this.#callbacks.encodeData(Buffer.from(piece, "latin1"), false);
    this.#callbacks.encodeTrailers(new Trailers(["x-end", "1"]));
  }
}

interface Bench extends Harness {
  readonly sent: ProcessingRequest[];
  /** In the JSON form of ProcessingResponse. */
  answer(json: object): void;
  close(code: number, message?: string): void;
  readonly kinds: string[];
  stat(name: string): number;
}

function bench(config: object): Bench {
  const context = testContext();
  const settings = compileSettings(
    message(typeName, { grpc_service: { envoy_grpc: { cluster_name: "proc" } }, ...config }),
    context,
    context.stats.scope("http.test."),
  );
  assert.ok(settings !== undefined);
  const sent: ProcessingRequest[] = [];
  let events: GrpcStreamEvents | undefined;
  const client = {
    stream(_service: string, _method: string, _options: unknown, to: GrpcStreamEvents) {
      events = to;
      return {
        send: (data: Uint8Array) => sent.push(decodeMessage(requestType as NonNullable<typeof requestType>, data, undefined) as unknown as ProcessingRequest),
        end() {},
        reset() {
          events = undefined;
        },
        isAboveWriteBufferHighWatermark: false,
      };
    },
  } as unknown as GrpcClient;
  const harness = managerHarness([() => new ExtProcFilter(settings, () => client), () => new Backend()], routes);
  Backend.head = undefined;
  return {
    ...harness,
    sent,
    get kinds() {
      return sent.map(({ request }) => request.case ?? "");
    },
    answer: (json) => events?.onMessage(encodeMessage(message("envoy.service.ext_proc.v3.ProcessingResponse", json))),
    close: (code, text = "") => events?.onClose({ code, message: text }, undefined),
    stat: (name) => context.stats.counter(`http.test.ext_proc.${name}`).value,
  };
}
const head = "POST /p HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n";
const piece = (text: string): string => `${text.length.toString(16)}\r\n${text}\r\n`;
const base64 = (text: string): string => Buffer.from(text).toString("base64");
const bodyOf = (request: ProcessingRequest): string =>
  request.request.case?.endsWith("Body") ? Buffer.from((request.request.value as { body: Uint8Array }).body).toString() : "";
const mode = (fields: object): object => ({ processing_mode: { request_header_mode: "SKIP", response_header_mode: "SKIP", ...fields } });

test("heads wait for the processor and are changed within the rules", () => {
  const b = bench({ forward_rules: { disallowed_headers: { patterns: [{ exact: "x-secret" }] } } });
  b.receive("GET /p HTTP/1.1\r\nhost: x\r\nx-secret: 1\r\n\r\n");
  assert.equal(Backend.head, undefined);
  const first = b.sent[0].request;
  assert.ok(first.case === "requestHeaders");
  assert.deepEqual([first.value.endOfStream, first.value.headers?.headers.some(({ key }) => key === "x-secret")], [true, false]);
  const set = (key: string, value: string): object => ({ header: { key, raw_value: base64(value) } });
  b.answer({
    request_headers: {
      response: {
        header_mutation: {
          set_headers: [set("x-a", "1"), set(":method", "PUT"), set("x-envoy-a", "1"), set("bad name", "1"), set("x-crlf", "a\r\nb: c")],
          remove_headers: ["x-secret", ":path"],
        },
      },
    },
  });
  const got = Backend.head as RequestHeaders | undefined;
  assert.deepEqual(
    [got?.get("x-a"), got?.method, got?.get("x-envoy-a"), got?.get("x-secret"), got?.path, got?.get("x-crlf")],
    ["1", "GET", undefined, undefined, "/p", undefined],
  );
  assert.equal(b.stat("rejected_header_mutations"), 5);
  b.answer({ response_headers: { response: { header_mutation: { set_headers: [set("x-b", "2")] } } } });
  assert.match(b.connection.written, /^HTTP\/1\.1 200 OK\r\n[\s\S]*x-b: 2\r\n[\s\S]*<[\s\S]*>/);
  assert.deepEqual(b.kinds, ["requestHeaders", "responseHeaders"]);
  assert.equal(b.stat("stream_msgs_received"), 2);
});

test("buffered bodies are sent whole and replaced, and the head follows them", () => {
  const b = bench(mode({ request_body_mode: "BUFFERED", response_body_mode: "BUFFERED" }));
  b.receive(head + piece("ab"));
  b.receive(`${piece("cd")}0\r\n\r\n`);
  assert.deepEqual([b.kinds, bodyOf(b.sent[0]), Backend.head], [["requestBody"], "abcd", undefined]);
  b.answer({ request_body: { response: { body_mutation: { body: base64("changed!") } } } });
  assert.deepEqual([Backend.body, (Backend.head as RequestHeaders | undefined)?.get("content-length")], ["changed!", "8"]);
  // The response's body ends with trailers: the processor sees all of it first.
  assert.deepEqual([b.kinds[1], bodyOf(b.sent[1])], ["responseBody", "<changed!>"]);
  assert.equal(b.connection.written, "");
  b.answer({ response_body: { response: { body_mutation: { clear_body: true } } } });
  assert.match(b.connection.written, /^HTTP\/1\.1 200 OK/);
  assert.doesNotMatch(b.connection.written, /changed/);
});

test("streamed bodies pass piece by piece in their order, trailers behind them", () => {
  const b = bench(mode({ request_body_mode: "STREAMED", request_trailer_mode: "SEND", response_body_mode: "NONE" }));
  b.receive(head + piece("one"));
  b.receive(piece("two"));
  b.receive(`${piece("three")}0\r\nx-t: 1\r\n\r\n`);
  assert.deepEqual([b.kinds, b.sent.map(bodyOf).join(" "), Backend.body], [["requestBody", "requestBody", "requestBody"], "one two three", ""]);
  b.answer({ request_body: { response: { body_mutation: { body: base64("1") } } } });
  b.answer({ request_body: {} });
  assert.equal(Backend.body, "1two");
  b.answer({ request_body: { response: { body_mutation: { clear_body: true } } } });
  assert.deepEqual([Backend.body, b.kinds.at(-1), Backend.trailers], ["1two", "requestTrailers", []]);
  b.answer({ request_trailers: { header_mutation: { set_headers: [{ header: { key: "x-u", raw_value: base64("2") } }] } } });
  assert.deepEqual(Backend.trailers, ["x-t", "1", "x-u", "2"]);
  assert.match(b.connection.written, /<1two>|1two/);
});

test("a body that came while the head waited is streamed or buffered all the same", () => {
  for (const request_body_mode of ["STREAMED", "BUFFERED", "NONE"]) {
    const b = bench({ processing_mode: { request_body_mode, response_header_mode: "SKIP" } });
    b.receive(`${head}${piece("all")}0\r\n\r\n`);
    assert.equal(Backend.head, undefined);
    b.answer({ request_headers: {} });
    if (request_body_mode !== "NONE") {
      assert.equal(bodyOf(b.sent[1]), "all");
      b.answer({ request_body: {} });
    }
    assert.equal(Backend.body, "all", request_body_mode);
    assert.match(b.connection.written, /200 OK/);
  }
});

test("a processor in full duplex says itself what goes on", () => {
  const b = bench(mode({ request_body_mode: "FULL_DUPLEX_STREAMED", request_trailer_mode: "SEND" }));
  b.receive(head + piece("in"));
  const out = (text: string, end: boolean): object => ({
    request_body: { response: { body_mutation: { streamed_response: { body: base64(text), end_of_stream: end } } } },
  });
  b.answer(out("first,", false));
  b.answer(out("second,", false));
  b.receive(`${piece("put")}0\r\n\r\n`);
  assert.deepEqual([b.sent.map(bodyOf).join(""), Backend.body], ["input", "first,second,"]);
  b.answer(out("last", true));
  assert.equal(Backend.body, "first,second,last");
  assert.match(b.connection.written, /200 OK/);
});

test("CONTINUE_AND_REPLACE puts a body in place of what comes", () => {
  const b = bench({ processing_mode: { request_body_mode: "BUFFERED", response_header_mode: "SKIP" } });
  b.receive(head + piece("dropped"));
  b.answer({ request_headers: { response: { status: "CONTINUE_AND_REPLACE", body_mutation: { body: base64("other") } } } });
  b.receive(`${piece("dropped too")}0\r\n\r\n`);
  assert.deepEqual([Backend.body, (Backend.head as RequestHeaders | undefined)?.get("content-length"), b.kinds], ["other", "5", ["requestHeaders"]]);
});

test("an immediate response, a new mode, dynamic metadata", () => {
  const b = bench({ allow_mode_override: true, metadata_options: { receiving_namespaces: { untyped: ["ns"] } } });
  b.receive(head);
  b.answer({
    request_headers: {},
    mode_override: { request_body_mode: "BUFFERED", response_header_mode: "SKIP" },
    dynamic_metadata: { ns: { k: "v" }, other: { k: "v" } },
  });
  b.receive(`${piece("x")}0\r\n\r\n`);
  assert.equal(b.kinds[1], "requestBody");
  b.answer({
    immediate_response: {
      status: { code: "Forbidden" },
      body: base64("no"),
      details: "by policy",
      headers: { set_headers: [{ header: { key: "x-why", raw_value: base64("p") } }] },
    },
  });
  assert.match(b.connection.written, /^HTTP\/1\.1 403 Forbidden\r\n[\s\S]*x-why: p\r\n[\s\S]*no$/);
  assert.deepEqual([b.logged[0].details, b.logged[0].info.dynamicMetadata], ["by_policy", { ns: { k: "v" } }]);
});

test("failures answer, or let everything go on where that is allowed", () => {
  const failures: [string, (b: Bench) => void, number, RegExp][] = [
    ["error", (b) => b.close(13, "broken"), 500, /^ext_proc_error_gRPC_error_13\{broken\{via_upstream\}\}$/],
    ["timeout", (b) => b.pass(300), 504, /^ext_proc_error_per-message_timeout_exceeded$/],
    ["spurious", (b) => b.answer({ response_trailers: {} }), 500, /^spurious_message$/],
  ];
  for (const [what, fail, status, details] of failures) {
    for (const request_body_mode of ["BUFFERED", "STREAMED"]) {
      const closed = bench(mode({ request_body_mode }));
      closed.receive(`${head}${piece("body")}0\r\n\r\n`);
      fail(closed);
      assert.match(closed.connection.written, new RegExp(`^HTTP/1.1 ${status} `), what);
      assert.match(closed.logged[0].details ?? "", details);
      const open = bench({ ...mode({ request_body_mode }), failure_mode_allow: true });
      open.receive(head + piece("bo"));
      open.receive(`${piece("dy")}0\r\n\r\n`);
      fail(open);
      assert.equal(Backend.body, "body", `${what} ${request_body_mode}`);
      assert.match(open.connection.written, /200 OK/);
      assert.equal(open.stat("failure_mode_allowed"), 1);
    }
  }
  const ended = bench({});
  ended.receive("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
  ended.close(0);
  assert.match(ended.connection.written, /200 OK/);
});

test("no answer at any moment breaks a stream", () => {
  const answers: object[] = [
    { request_headers: {} },
    { response_headers: {} },
    { request_body: { response: { body_mutation: { body: base64("z") } } } },
    { response_body: {} },
    { request_trailers: {} },
    { response_trailers: {} },
    { request_body: { response: { body_mutation: { streamed_response: { body: base64("s"), end_of_stream: true } } } } },
    { request_headers: { response: { status: "CONTINUE_AND_REPLACE", body_mutation: { body: base64("r") } } } },
    { immediate_response: { status: { code: "OK" } } },
    {},
  ];
  const inputs = [head, piece("a"), piece("bc"), "0\r\nx-t: 1\r\n\r\n"];
  let seed = 7;
  const random = (below: number): number => {
    seed = (seed * 1103515245 + 12345) & 0x7fffffff;
    return seed % below;
  };
  const bodies = ["NONE", "STREAMED", "BUFFERED", "BUFFERED_PARTIAL", "FULL_DUPLEX_STREAMED"];
  for (let round = 0; round < 400; round++) {
    const b = bench({
      processing_mode: {
        request_header_mode: random(2) === 0 ? "SEND" : "SKIP",
        response_header_mode: random(2) === 0 ? "SEND" : "SKIP",
        request_body_mode: bodies[random(5)],
        response_body_mode: bodies[random(5)],
        request_trailer_mode: random(2) === 0 ? "SEND" : "SKIP",
        response_trailer_mode: random(2) === 0 ? "SEND" : "SKIP",
      },
      failure_mode_allow: random(2) === 0,
    });
    let at = 0;
    for (let step = 0; step < 14; step++) {
      if (at < inputs.length && random(2) === 0) b.receive(inputs[at++]);
      else if (random(12) === 0) b.close(random(2) * 13);
      else b.answer(answers[random(answers.length)]);
    }
    while (at < inputs.length) b.receive(inputs[at++]);
    b.close(13);
  }
});
