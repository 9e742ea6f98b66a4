import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { GrpcJsonTranscoder } from "../../../config/schema/types/envoy.extensions.filters.http.grpc_json_transcoder.v3.d.ts";
import { WireWriter } from "../../../config/schema/wire-writer.ts";
import { frameMessage, MessageReader } from "../../../grpc/frames.ts";
import type { DecoderFilterCallbacks, HttpFilter } from "../../../http/filter.ts";
import { type RequestHeaders, ResponseHeaders, Trailers } from "../../../http/header-map.ts";
import { managerHarness } from "../../../http/manager/testing.ts";
import { message, testContext } from "../../../testing/compile-context.ts";
import transcoderFilter from "./config.ts";
import { JsonError } from "./from-json.ts";
import { matchTemplate, parseTemplate } from "./path-template.ts";
import { Transcoder, TranscoderError } from "./transcoder.ts";

const typeName = "envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder";

// ---- a descriptor set, written field by field

type FieldRow = readonly [name: string, number: number, type: number, label?: number, typeName?: string];
const int64 = 3;
const bool = 8;
const string = 9;
const messageType = 11;
const bytes = 12;
const enumType = 14;

function set(): Uint8Array {
  const w = new WireWriter();
  const text = (writer: WireWriter, number: number, value: string): void => {
    writer.tag(number, 2);
    writer.string(value);
  };
  const number = (writer: WireWriter, field: number, value: number): void => {
    writer.tag(field, 0);
    writer.uint32(value);
  };
  const messageDescriptor = (name: string, fields: readonly FieldRow[]): void =>
    w.message(4, () => {
      text(w, 1, name);
      for (const [field, at, type, label = 1, of] of fields)
        w.message(2, () => {
          text(w, 1, field);
          number(w, 3, at);
          number(w, 4, label);
          number(w, 5, type);
          if (of !== undefined) text(w, 6, of);
          text(
            w,
            10,
            field.replace(/_([a-z])/g, (_all, letter: string) => letter.toUpperCase()),
          );
        });
    });
  const method = (
    name: string,
    input: string,
    output: string,
    streaming: [boolean, boolean],
    rules: readonly (readonly [verb: number, path: string, body: string])[],
  ): void =>
    w.message(2, () => {
      text(w, 1, name);
      text(w, 2, input);
      text(w, 3, output);
      if (rules.length > 0)
        w.message(4, () => {
          const [[verb, path, body], ...more] = rules;
          w.message(72295728, () => {
            text(w, verb, path);
            if (body !== "") text(w, 7, body);
            for (const [otherVerb, otherPath, otherBody] of more)
              w.message(11, () => {
                text(w, otherVerb, otherPath);
                if (otherBody !== "") text(w, 7, otherBody);
              });
          });
        });
      if (streaming[0]) number(w, 5, 1);
      if (streaming[1]) number(w, 6, 1);
    });
  w.message(1, () => {
    text(w, 1, "shop.proto");
    text(w, 2, "shop");
    messageDescriptor("Book", [
      ["id", 1, int64],
      ["book_title", 2, string],
      ["rare", 3, bool],
      ["tags", 4, string, 3],
      ["kind", 5, enumType, 1, ".shop.Kind"],
      ["cover", 6, bytes],
      ["next", 7, messageType, 1, ".shop.Book"],
    ]);
    messageDescriptor("Ask", [
      ["shelf", 1, string],
      ["book", 2, messageType, 1, ".shop.Book"],
    ]);
    w.message(5, () => {
      text(w, 1, "Kind");
      for (const [index, name] of ["NOVEL", "POEM"].entries())
        w.message(2, () => {
          text(w, 1, name);
          number(w, 2, index);
        });
    });
    w.message(6, () => {
      text(w, 1, "Books");
      method(
        "Get",
        ".shop.Ask",
        ".shop.Book",
        [false, false],
        [
          [2, "/v1/{shelf=rooms/*/shelves/*}/books/{book.id}", ""],
          [2, "/v1/books/{book.id}", ""],
        ],
      );
      method("Add", ".shop.Ask", ".shop.Book", [false, false], [[4, "/v1/{shelf}", "book"]]);
      method("List", ".shop.Ask", ".shop.Book", [false, true], [[2, "/v1/{shelf=**}:list", ""]]);
      method("Plain", ".shop.Book", ".shop.Book", [false, false], []);
    });
    text(w, 12, "proto3");
  });
  return new Uint8Array(w.finish());
}
const descriptors = set();
const config = (fields: object = {}): GrpcJsonTranscoder =>
  message(typeName, { proto_descriptor_bin: Buffer.from(descriptors).toString("base64"), services: ["shop.Books"], ...fields });
const transcoder = (fields: object = {}): Transcoder => new Transcoder(descriptors, config(fields));

/** The call that a request stands for: its method and what it sends, as JSON that Plain would answer with. */
function translate(verb: string, path: string, body = "", fields: object = {}): string | undefined {
  const found = transcoder(fields).find(verb, path);
  return found.kind === "call"
    ? `${found.call.method.name} ${found.call
        .messages(Buffer.from(body), "")
        .map((one) => one.toString("latin1"))
        .join("|")}`
    : undefined;
}

test("requests find their method, and path, query and body fill the message", () => {
  const field = (number: number, text: string): string => String.fromCharCode(number * 8 + 2, text.length) + text;
  assert.equal(translate("GET", "/v1/books/7"), `Get ${field(2, "\x08\x07")}`);
  assert.equal(translate("GET", "/v1/rooms/a/shelves/b%2Fc/books/7"), `Get ${field(1, "rooms/a/shelves/b%2Fc")}${field(2, "\x08\x07")}`);
  assert.equal(
    translate("GET", "/v1/books/7?book.book_title=T%20x&book.tags=a&book.tags=b"),
    `Get ${field(2, `\x08\x07${field(2, "T x")}${field(4, "a")}${field(4, "b")}`)}`,
  );
  assert.equal(
    translate("POST", "/v1/poems", '{"id": "9", "kind": "POEM", "cover": "AQI=", "rare": true, "unknown": {}}'),
    `Add ${field(1, "poems")}${field(2, "\x08\x09\x18\x01\x28\x01\x32\x02\x01\x02")}`,
  );
  assert.equal(translate("GET", "/v1/a/b/c:list"), `List ${field(1, "a/b/c")}`);
  assert.equal(translate("POST", "/v1/poems", ""), `Add ${field(1, "poems")}`);
  for (const [verb, path] of [
    ["GET", "/v1/x/y"],
    ["PUT", "/v1/books/7"],
    ["GET", "/"],
    ["GET", ""],
    ["POST", "/shop.Books/Plain"],
    ["GET", "/v1/books/7?nope=1"],
  ])
    assert.equal(translate(verb, path), undefined, `${verb} ${path}`);
  assert.equal(translate("POST", "/shop.Books/Plain", '{"id": 3}', { auto_mapping: true }), "Plain \x08\x03");
  assert.equal(translate("GET", "/v1/books/7?nope=1", "", { ignore_unknown_query_parameters: true }), `Get ${field(2, "\x08\x07")}`);
  assert.equal(translate("GET", "/v1/books/7?nope=1", "", { ignored_query_parameters: ["nope"] }), `Get ${field(2, "\x08\x07")}`);
});

test("wrong values are the client's fault, in Envoy's words", () => {
  const wrong = (verb: string, path: string, body = ""): string => {
    try {
      translate(verb, path, body);
    } catch (error) {
      assert.ok(error instanceof JsonError);
      return error.message;
    }
    return "";
  };
  assert.equal(wrong("GET", "/v1/books/x"), 'book.id: invalid value "x" for type TYPE_INT64');
  assert.equal(wrong("POST", "/v1/a", '{"id": "x"}'), 'book.id: invalid value "x" for type TYPE_INT64');
  assert.match(wrong("POST", "/v1/a", "[1]"), /Proto field is not repeating, cannot start list\.$/);
  assert.notEqual(wrong("POST", "/v1/a", "{bad"), "");
  assert.match(wrong("POST", "/v1/a", `${'{"next":'.repeat(200)}{}${"}".repeat(200)}`), /nested too deeply/);
  for (const services of [["shop.None"], ["Books"]]) assert.throws(() => transcoder({ services }), TranscoderError);
  assert.throws(() => new Transcoder(Buffer.from("garbage"), config()));
});

test("no path, query or body breaks it", () => {
  const subject = transcoder({ auto_mapping: true, ignore_unknown_query_parameters: true });
  const piece = fc.constantFrom("/", "v1", "books", "a", "%2F", "%", "?", "&", "=", "book.", "id", "tags", ":", "list", "7", "{", "..", "shelf", "+");
  fc.assert(
    fc.property(fc.constantFrom("GET", "POST", "PUT"), fc.array(piece, { maxLength: 12 }), fc.oneof(fc.string(), fc.json()), (verb, path, body) => {
      const found = subject.find(verb, `/${path.join("")}`);
      if (found.kind !== "call") return;
      try {
        found.call.messages(Buffer.from(body), "application/json");
      } catch (error) {
        assert.ok(error instanceof JsonError, String(error));
      }
    }),
    { numRuns: 500 },
  );
});

test("templates: what is none, and what fits", () => {
  for (const bad of ["", "a", "/a//b", "/{", "/{}", "/{a", "/{a=}", "/{1}", "/**/a", "/a:", "/a/*b"]) assert.equal(parseTemplate(bad), undefined, bad);
  const match = (template: string, path: string, mode: "except_reserved" | "all" = "except_reserved"): unknown => {
    const parsed = parseTemplate(template);
    assert.ok(parsed !== undefined, template);
    return matchTemplate(parsed, path, mode)
      ?.map(([field, value]) => `${field.join(".")}=${value}`)
      .join(" ");
  };
  assert.equal(match("/a/{x}/{y.z=b/*}", "/a/1/b/2"), "x=1 y.z=b/2");
  assert.equal(match("/{x=**}", "/a/b%20c"), "x=a/b c");
  assert.equal(match("/{x=**}:go", "/a:go"), "x=a");
  assert.equal(match("/{x=**}", "/a%2Fb", "all"), "x=a/b");
  assert.equal(match("/{x=**}", "/a%2Fb%41"), "x=a%2FbA");
  assert.equal(match("/", "/"), "");
  for (const [template, path] of [
    ["/a/{x}", "/a/"],
    ["/a/{x}", "/a/b/c"],
    ["/a/{x}:go", "/a/b"],
    ["/a", "/b"],
  ])
    assert.equal(match(template, path), undefined);
});

// ---- the filter

class Service implements HttpFilter {
  static head: RequestHeaders | undefined;
  static messages: string[] = [];
  static answer: { readonly messages: readonly string[]; readonly trailers: string[] } = { messages: [], trailers: [] };
  #body: Buffer = Buffer.alloc(0);
  #callbacks!: DecoderFilterCallbacks;
  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#callbacks = callbacks;
  }
  decodeHeaders(headers: RequestHeaders): "stop" {
    Service.head = headers;
    return "stop";
  }
  decodeData(data: Buffer, endStream: boolean): "stop_no_buffer" {
    this.#body = Buffer.concat([this.#body, data]);
    if (!endStream) return "stop_no_buffer";
    Service.messages = [];
    new MessageReader(0).feed(this.#body, (one) => Service.messages.push(one.toString("latin1")) > 0);
    const { messages, trailers } = Service.answer;
    if (messages.length === 0) this.#callbacks.encodeHeaders(new ResponseHeaders(200, ["content-type", "application/grpc", ...trailers]), true, "via_upstream");
    else {
      this.#callbacks.encodeHeaders(new ResponseHeaders(200, ["content-type", "application/grpc"]), false, "via_upstream");
      for (const one of messages) {
        const framed = frameMessage(Buffer.from(one, "latin1"));
        this.#callbacks.encodeData(framed.subarray(0, 3), false);
        this.#callbacks.encodeData(framed.subarray(3), false);
      }
      this.#callbacks.encodeTrailers(new Trailers([...trailers]));
    }
    return "stop_no_buffer";
  }
}
function ask(request: string, fields: object = {}): string {
  const context = testContext();
  const factory = transcoderFilter.httpFilter.compile(config(fields), context);
  assert.deepEqual(context.findings, []);
  const routes = { route_config: { virtual_hosts: [{ name: "v", domains: ["*"], routes: [{ match: { prefix: "/" }, direct_response: { status: 200 } }] }] } };
  const { receive, connection } = managerHarness([factory, () => new Service()], routes);
  receive(request);
  return connection.written;
}

test("a call goes over and its answer comes back as JSON", () => {
  Service.answer = { messages: ["\x08\x07\x12\x01T"], trailers: ["grpc-status", "0", "grpc-message", ""] };
  const answer = ask("GET /v1/books/7 HTTP/1.1\r\nhost: x\r\n\r\n", {
    print_options: { always_print_primitive_fields: true, preserve_proto_field_names: true, always_print_enums_as_ints: true },
  });
  assert.deepEqual(
    [Service.head?.path, Service.head?.method, Service.head?.get("x-envoy-original-path"), Service.messages],
    ["/shop.Books/Get", "POST", "/v1/books/7", ["\x12\x02\x08\x07"]],
  );
  assert.match(answer, /^HTTP\/1\.1 200 OK\r\ncontent-type: application\/json\r\n[\s\S]*grpc-status: 0\r\n/);
  assert.deepEqual(JSON.parse(answer.slice(answer.indexOf("\r\n\r\n") + 4)), { id: "7", book_title: "T", rare: false, tags: [], kind: 0, cover: "" });
  const posted = ask('POST /v1/a HTTP/1.1\r\nhost: x\r\ncontent-length: 8\r\n\r\n{"id":1}');
  assert.deepEqual(Service.messages, ["\x0a\x01a\x12\x02\x08\x01"]);
  assert.match(posted, /\{"id":"7","bookTitle":"T"\}$/);
  assert.match(ask("POST /v1/a HTTP/1.1\r\nhost: x\r\ncontent-length: 2\r\n\r\n{x"), /^HTTP\/1\.1 400 /);
});

test("failed calls have their HTTP status; streams are lists, lines or events", () => {
  Service.answer = { messages: [], trailers: ["grpc-status", "5", "grpc-message", "no%20book"] };
  assert.match(ask("GET /v1/books/7 HTTP/1.1\r\nhost: x\r\n\r\n"), /^HTTP\/1\.1 404 Not Found[\s\S]*grpc-status: 5\r\n/);
  assert.match(ask("GET /v1/books/7 HTTP/1.1\r\nhost: x\r\n\r\n", { convert_grpc_status: true }), /^HTTP\/1\.1 404 [\s\S]*\{"code":5,"message":"no book"\}/);
  Service.answer = { messages: ["\x08\x01", "\x08\x02"], trailers: ["grpc-status", "0"] };
  const listed = (fields: object): string => ask("GET /v1/a:list HTTP/1.1\r\nhost: x\r\n\r\n", fields).replace(/\r\n[0-9a-f]+\r\n|\r\n/g, "");
  assert.match(listed({}), /\[\{"id":"1"\},\{"id":"2"\}\]/);
  assert.match(listed({ print_options: { stream_newline_delimited: true } }), /\{"id":"1"\}\n\{"id":"2"\}\n/);
  assert.match(listed({ print_options: { stream_sse_style_delimited: true } }), /text\/event-stream[\s\S]*data: \{"id":"1"\}\n\ndata: \{"id":"2"\}\n\n/);
  assert.match(
    ask("GET /nowhere HTTP/1.1\r\nhost: x\r\n\r\n", { request_validation_options: { reject_unknown_method: true } }),
    /^HTTP\/1\.1 404 [\s\S]*Could not resolve/,
  );
  assert.match(
    ask("GET /v1/books/7?x=1 HTTP/1.1\r\nhost: x\r\n\r\n", { request_validation_options: { reject_unknown_query_parameters: true } }),
    /^HTTP\/1\.1 400 [\s\S]*Could not find field "x" in the type "shop\.Ask"\./,
  );
});
