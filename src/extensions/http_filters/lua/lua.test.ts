import assert from "node:assert/strict";
import { generateKeyPairSync, sign } from "node:crypto";
import { test } from "node:test";
import type { DecoderFilterCallbacks, HttpFilter } from "../../../http/filter.ts";
import type { RequestHeaders } from "../../../http/header-map.ts";
import { ResponseHeaders, Trailers } from "../../../http/header-map.ts";
import { managerHarness } from "../../../http/manager/testing.ts";
import { loadExtensions, message, testContext } from "../../../testing/compile-context.ts";
import lua from "./config.ts";

const luaType = "envoy.extensions.filters.http.lua.v3.Lua";
const extensions = await loadExtensions(luaType);

/** The last filter: takes the request whole, then answers with "<" + body + ">" in pieces and a trailer. */
class Backend implements HttpFilter {
  static head: RequestHeaders | undefined;
  static body = "";
  #callbacks!: DecoderFilterCallbacks;
  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#callbacks = callbacks;
  }
  decodeHeaders(headers: RequestHeaders, endStream: boolean): "stop" {
    Backend.head = headers;
    Backend.body = "";
    if (endStream) this.#answer();
    return "stop";
  }
  decodeData(data: Buffer, endStream: boolean): "stop_no_buffer" {
    Backend.body += data.toString("latin1");
    if (endStream) this.#answer();
    return "stop_no_buffer";
  }
  decodeTrailers(): "stop" {
    this.#answer();
    return "stop";
  }
  #answer(): void {
    this.#callbacks.encodeHeaders(new ResponseHeaders(200, ["x-from", "backend"]), false, "via_upstream");
    this.#callbacks.encodeData(Buffer.from("<"), false);
    this.#callbacks.encodeData(Buffer.from(Backend.body), false);
    this.#callbacks.encodeData(Buffer.from(">"), false);
    this.#callbacks.encodeTrailers(new Trailers(["x-end", "1"]));
  }
}

const routes = (metadata: object = {}): object => ({
  route_config: {
    virtual_hosts: [{ name: "v", domains: ["*"], routes: [{ match: { prefix: "/" }, metadata, name: "all", direct_response: { status: 200 } }] }],
  },
});

function filter(code: string, fields: object = {}) {
  const context = testContext({ extensions });
  const worker = { ...context, validating: false };
  const factory = lua.httpFilter.compile(message(luaType, { default_source_code: { inline_string: code }, ...fields }), worker, {
    name: "envoy.filters.http.lua",
    statPrefix: "http.test.",
    scope: context.stats.scope("http.test."),
  });
  return { context, factory };
}
function ask(code: string, request = "GET / HTTP/1.1\r\nhost: x\r\n\r\n", fields: object = {}, metadata: object = {}) {
  const { context, factory } = filter(code, fields);
  Backend.head = undefined;
  const { receive, connection, logged } = managerHarness([factory, () => new Backend()], routes(metadata));
  receive(request);
  return {
    answer: connection.written,
    logged,
    errors: context.stats.counter("http.test.lua.errors").value,
    head: Backend.head as RequestHeaders | undefined,
    body: Backend.body,
  };
}
const post = (body: string): string => `POST /p HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n${body}`;

test("headers are read and changed, and the body in both directions", () => {
  const { answer, head, body, errors } = ask(
    `function envoy_on_request(h)
      local size = h:body():length()
      h:headers():add("x-size", size)
      h:body():setBytes("changed " .. h:body():getBytes(0, 2))
    end
    function envoy_on_response(h)
      h:headers():replace("x-from", h:headers():get("x-from") .. " " .. h:headers():get(":status"))
      local size = h:body():setBytes("all")
      h:headers():add("x-set", size)
    end`,
    post("hello"),
  );
  assert.deepEqual([head?.get("x-size"), head?.get("content-length"), body, errors], ["5", "10", "changed he", 0]);
  assert.match(answer, /^HTTP\/1\.1 200 OK\r\n[\s\S]*x-from: backend 200\r\n[\s\S]*x-set: 3\r\n[\s\S]*all$/);
});

test("pieces and trailers pass as they come, and pieces may be changed", () => {
  const { answer, errors } = ask(
    `function envoy_on_response(h)
      local n = 0
      for piece in h:bodyChunks() do n = n + 1 piece:setBytes("[" .. piece:getBytes(0, piece:length()) .. "]") end
      h:trailers():add("x-pieces", n)
    end`,
    post("mid").replace("\r\n\r\n", "\r\nte: trailers\r\n\r\n"),
  );
  assert.equal(errors, 0);
  assert.match(answer, /3\r\n\[<\]\r\n5\r\n\[mid\]\r\n3\r\n\[>\]\r\n0\r\n/);
});

test("respond ends the script and the request; in the response path it is an error", () => {
  const code = `function envoy_on_request(h) h:respond({[":status"] = "403", ["x-a"] = {"1", "2"}, ["content-type"] = "text/html"}, "no") h:logErr("never") end
    function envoy_on_response(h) h:headers():add("x-error", tostring(select(2, pcall(h.respond, h, {[":status"] = "200"})))) end`;
  const { answer, logged, head } = ask(code);
  assert.match(answer, /^HTTP\/1\.1 403 Forbidden\r\n[\s\S]*content-type: text\/html\r\nx-a: 1\r\nx-a: 2\r\n|x-a: 1\r\nx-a: 2/);
  assert.match(answer, /x-error: respond not currently supported in the response path/);
  assert.equal(head, undefined);
  assert.deepEqual(
    logged.map(({ status, details }) => [status, details]),
    [[403, "lua_response"]],
  );
});

test("a script that errs is counted, and the request goes on as it was", () => {
  for (const code of [
    'error("x")',
    "coroutine.yield()",
    "local x = nil; x.y = 1",
    "while true do end",
    'h:respond({[":status"] = "99"})',
    'h:httpCall("none", {[":method"] = "GET", [":path"] = "/", [":authority"] = "a"}, nil, 1)',
  ]) {
    const { answer, errors } = ask(`function envoy_on_request(h) h:headers():add("x-before", "1") ${code} end`);
    assert.match(answer, /^HTTP\/1\.1 200 OK/, code);
    assert.equal(errors, 1, code);
    assert.equal(Backend.head?.get("x-before"), "1");
  }
});

test("what a script writes cannot end a line or a head", () => {
  const { answer } = ask(`function envoy_on_response(h)
    h:headers():add("x-a", "1\\r\\nx-evil: 1") h:headers():add("x b", "1") h:headers():setHttp1ReasonPhrase("Fine\\r\\nx-evil: 2") h:headers():add(":path", "/x")
  end`);
  assert.match(answer, /^HTTP\/1\.1 200 Finex-evil: 2\r\n/);
  assert.doesNotMatch(answer, /\nx-evil|x b:|:path/);
  const request = ask('function envoy_on_request(h) h:headers():add("x-a", "1\\r\\nx-evil: 1") end');
  assert.equal(request.head?.unchecked, true, "the router looks at it before it goes on");
});

test("metadata of configuration and stream, filter state, context and statistics", () => {
  const { answer, logged, errors } = ask(
    `function envoy_on_response(h)
      local out = function(k, v) h:headers():add("x-" .. k, tostring(v)) end
      out("colour", h:metadata():get("colour")) out("deep", h:route():metadata():get("deep").list[2]) out("none", (h:metadata():get("none")))
      local dynamic = h:streamInfo():dynamicMetadata()
      dynamic:set("ns", "k", {1, {a = true}}) dynamic:set("ns", "l", "é")
      out("dynamic", dynamic:get("ns").k[2].a)
      out("bad", select(2, pcall(dynamic.set, dynamic, "ns", "k", print)))
      h:streamInfo():filterState():set("f", "envoy.string", "state") out("state", h:streamInfo():filterState():get("f"))
      out("context", h:filterContext():get("a")) out("route", h:streamInfo():routeName()) out("protocol", h:streamInfo():protocol())
      h:stats():counter("mine"):add(3) out("counter", h:stats():counter("mine"):value())
      out("b64", h:base64Escape("\\0\\255") .. #h:base64Decode("AP8=")) out("ssl", h:connection():ssl())
      local n = 0 for k, v in pairs(h:headers()) do n = n + 1 end out("pairs", n > 10)
    end`,
    undefined,
    { stat_prefix: "own", filter_context: { a: "ctx" } },
    { filter_metadata: { "envoy.filters.http.lua": { colour: "blue", deep: { list: ["a", "b"] } } } },
  );
  assert.equal(errors, 0);
  const header = (name: string): string | undefined => answer.match(new RegExp(`\\r\\nx-${name}: (.*)\\r\\n`))?.[1];
  assert.deepEqual(["colour", "deep", "none", "dynamic", "state", "context", "route", "protocol", "counter", "b64", "ssl", "pairs"].map(header), [
    "blue",
    "b",
    "nil",
    "true",
    "state",
    "ctx",
    "all",
    "HTTP/1.1",
    "3",
    "AP8=2",
    "nil",
    "true",
  ]);
  assert.match(header("bad") ?? "", /unexpected type 'function' in dynamicMetadata$/);
  assert.deepEqual(logged[0].info.dynamicMetadata, { ns: { k: [1, { a: true }], l: "é" } });
});

test("signatures are verified", () => {
  const { publicKey, privateKey } = generateKeyPairSync("rsa", { modulusLength: 2048 });
  const der = publicKey.export({ type: "spki", format: "der" }).toString("base64");
  const signature = sign("sha256", Buffer.from("text"), privateKey).toString("base64");
  const { answer } = ask(`function envoy_on_response(h)
    local der, sig = h:base64Decode("${der}"), h:base64Decode("${signature}")
    local key = h:importPublicKey(der, #der):get()
    local ok, err = h:verifySignature("sha256", key, sig, #sig, "text", 4)
    local bad, why = h:verifySignature("SHA256", key, sig, #sig, "tex", 3)
    local odd, what = h:verifySignature("md5", key, sig, #sig, "text", 4)
    h:headers():add("x-is", tostring(ok) .. tostring(err) .. "," .. tostring(bad) .. why .. "," .. tostring(odd) .. what .. "," .. tostring(h:importPublicKey("x", 1):get()))
  end`);
  assert.match(answer, /x-is: truenil,falseFailed to verify digest\. Error code: 0,falsemd5 is not supported\.,nil\r\n/);
});

test("what does not load is refused with Envoy's text, and scripts may share an interpreter", () => {
  const context = testContext({ extensions });
  lua.httpFilter.compile(message(luaType, { default_source_code: { inline_string: "function envoy_on_request(h" } }), context, {
    name: "lua",
    statPrefix: "",
    scope: context.stats.scope(""),
  });
  assert.match(context.findings[0], /^default_source_code: script load error: \[string "function envoy_on_request\(h"\]:1: '\)' expected near '<eof>'$/);
  const both = testContext({ extensions });
  lua.httpFilter.compile(message(luaType, { inline_code: "x = 1", default_source_code: { inline_string: "x = 1" } }), both, {
    name: "lua",
    statPrefix: "",
    scope: both.stats.scope(""),
  });
  assert.match(both.findings[0], /Only one of `inline_code` or `default_source_code` can be set for the Lua filter\.$/);
  const first = filter("shared = 7", { shared_vm_id: "both" });
  const { answer } = ask('function envoy_on_response(h) h:headers():add("x-shared", tostring(shared)) end', undefined, { shared_vm_id: "both" });
  assert.match(answer, /x-shared: 7/);
  assert.ok(first.factory);
});
