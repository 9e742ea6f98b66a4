import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { DecoderFilterCallbacks, HttpFilter } from "../../http/filter.ts";
import { RequestHeaders, ResponseHeaders } from "../../http/header-map.ts";
import { managerHarness } from "../../http/manager/testing.ts";
import { StreamInfo } from "../../http/stream-info.ts";
import { getLogger } from "../../log/log.ts";
import { message, type TestContext, testContext } from "../../testing/compile-context.ts";
import accessLogger from "../access_loggers/wasm/config.ts";
import wasm from "../http_filters/wasm/config.ts";
import { decodePairs, encodePairs } from "./abi.ts";
import { getShared } from "./shared-data.ts";
import { type Code, drop, i32, i64, load32, parameter, TestModule, trap, when } from "./testing.ts";
import { readFields } from "./wire.ts";

// Failures are what is tested here.
getLogger("wasm").level = "off";

const typeName = "envoy.extensions.filters.http.wasm.v3.Wasm";

/** Answers with what it got. */
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
  #answer(): void {
    this.#callbacks.encodeHeaders(new ResponseHeaders(200, ["x-from", "backend"]), false, "via_upstream");
    this.#callbacks.encodeData(Buffer.from(`<${Backend.body}>`), true);
  }
}

const routes = { route_config: { virtual_hosts: [{ name: "v", domains: ["*"], routes: [{ match: { prefix: "/" }, direct_response: { status: 200 } }] }] } };

function compile(module: Uint8Array, fields: object = {}, vm: object = {}): { context: TestContext; factory: () => HttpFilter } {
  const context = testContext();
  const config = {
    name: "plugin",
    root_id: "root",
    ...fields,
    vm_config: { vm_id: "vm", code: { local: { inline_bytes: Buffer.from(module).toString("base64") } }, ...vm },
  };
  const factory = wasm.httpFilter.compile(message(typeName, { config }), context);
  return { context, factory };
}
function ask(module: TestModule, request = "GET /p?q=1 HTTP/1.1\r\nhost: h.test\r\nx-a: 1\r\nx-a: 2\r\n\r\n", fields: object = {}, vm: object = {}) {
  const { context, factory } = compile(module.bytes(), fields, vm);
  assert.deepEqual(context.findings, []);
  Backend.head = undefined;
  const { receive, connection, logged } = managerHarness([factory, () => new Backend()], routes);
  receive(request);
  return { answer: connection.written, logged, context, head: Backend.head as RequestHeaders | undefined, body: Backend.body };
}
const post = (body: string): string => `POST / HTTP/1.1\r\nhost: x\r\ncontent-length: ${body.length}\r\n\r\n${body}`;
type Types = ("i32" | "i64")[];
const ints = (count: number): Types => new Array<"i32">(count).fill("i32");

/** Copies what a host function gave (pointer at `at`, size behind it) into a field of the response. */
function show(m: TestModule, name: string, call: Code, at = 0): Code {
  return [...call, ...drop, ...m.call("proxy_add_header_map_value", [i32(2), m.text(name), load32(at), load32(at + 4)], ints(5)), ...drop];
}

test("fields of heads are read, added, replaced, removed and set at once", () => {
  const m = new TestModule();
  const value = (kind: number, key: string): Code => m.call("proxy_get_header_map_value", [i32(kind), m.text(key), i32(0), i32(4)]);
  m.export(
    "proxy_on_request_headers",
    3,
    true,
    m.call("proxy_add_header_map_value", [i32(0), m.text("X-Added"), m.text("v")]),
    drop,
    m.call("proxy_remove_header_map_value", [i32(0), m.text("x-a")]),
    drop,
    m.call("proxy_replace_header_map_value", [i32(0), m.text(":path"), m.text("/new")]),
    drop,
    i32(0),
  );
  m.export(
    "proxy_on_response_headers",
    3,
    true,
    show(m, "x-path", value(0, ":path")),
    show(m, "x-status", value(2, ":status")),
    m.call("proxy_replace_header_map_value", [i32(2), m.text(":status"), m.text("201")]),
    drop,
    i32(0),
  );
  const { answer, head } = ask(m);
  assert.deepEqual([head?.path, head?.get("x-added"), head?.get("x-a"), head?.unchecked], ["/new", "v", undefined, true]);
  assert.match(answer, /^HTTP\/1\.1 201 Created\r\n[\s\S]*x-path: \/new\r\n[\s\S]*x-status: 200\r\n/);
  const all = new TestModule();
  all.export(
    "proxy_on_response_headers",
    3,
    true,
    all.call("proxy_set_header_map_pairs", [i32(2), all.text(encodePairs([":status", "202", "x-only", "1\r\nx-evil: 1"]))]),
    drop,
    i32(0),
  );
  const set = ask(all).answer;
  assert.match(set, /^HTTP\/1\.1 202 Accepted\r\n[\s\S]*x-only: 1x-evil: 1\r\n/);
  assert.doesNotMatch(set, /x-from/);
});

test("bodies are seen in pieces or whole, and replaced in part", () => {
  const m = new TestModule();
  m.export("proxy_on_request_body", 3, true, when(parameter(2), [...m.call("proxy_set_buffer_bytes", [i32(0), i32(0), i32(2), m.text("HE")]), ...drop]), [
    ...parameter(2),
    0x45, // not the end: keep it
  ]);
  m.export("proxy_on_response_headers", 3, true, m.call("proxy_remove_header_map_value", [i32(2), m.text("content-length")]), drop, i32(0));
  m.export("proxy_on_response_body", 3, true, m.call("proxy_set_buffer_bytes", [i32(1), i32(100), i32(0), m.text("!")]), drop, i32(0));
  const { factory } = compile(m.bytes());
  const { receive, connection } = managerHarness([factory, () => new Backend()], routes);
  receive("POST / HTTP/1.1\r\nhost: x\r\ncontent-length: 5\r\n\r\nhe");
  receive("ll");
  receive("o");
  assert.equal(Backend.body, "HEllo");
  assert.match(connection.written, /<HEllo>!/);
});

test("a module answers itself, once, with its fields", () => {
  const m = new TestModule();
  const reply = m.call("proxy_send_local_response", [i32(418), m.text("my why"), m.text("teapot"), m.text(encodePairs(["x-w", "1"])), i32(-1)]);
  m.export("proxy_on_request_headers", 3, true, reply, drop, reply, drop, i32(0));
  m.export("proxy_on_response_headers", 3, true, m.call("proxy_add_header_map_value", [i32(2), m.text("x-seen"), m.text("1")]), drop, i32(0));
  const { answer, logged, head } = ask(m);
  assert.match(answer, /^HTTP\/1\.1 418 [\s\S]*x-w: 1\r\n[\s\S]*x-seen: 1\r\n[\s\S]*teapot$/);
  assert.equal(head, undefined);
  assert.deepEqual([logged[0].status, logged[0].details], [418, "my_why"]);
});

test("properties, shared data, queues, metrics, configuration and foreign functions", () => {
  const m = new TestModule();
  const property = (path: string): Code => m.call("proxy_get_property", [m.text(path.replaceAll(".", "\0")), i32(0), i32(4)]);
  m.export(
    "proxy_on_configure",
    2,
    true,
    m.call("proxy_register_shared_queue", [m.text("q"), i32(16)]),
    drop,
    m.call("proxy_define_metric", [i32(0), m.text("mine"), i32(20)]),
    drop,
    i32(1),
  );
  m.export(
    "proxy_on_response_headers",
    3,
    true,
    ...["request.method", "request.url_path", "request.query", "request.headers.x-a", "plugin_name", "plugin_root_id", "node.id"].map((path) =>
      show(m, `x-${path.replace(/.*\./, "").replaceAll("_", "-")}`, property(path)),
    ),
    m.call("proxy_set_property", [m.text("own"), m.text("value")]),
    drop,
    show(m, "x-own", property("own")),
    m.call("proxy_set_shared_data", [m.text("key"), m.text("shared"), i32(0)]),
    drop,
    show(m, "x-shared", m.call("proxy_get_shared_data", [m.text("key"), i32(0), i32(4), i32(8)])),
    m.call("proxy_enqueue_shared_queue", [load32(16), m.text("queued")], ints(3)),
    drop,
    show(m, "x-queue", m.call("proxy_dequeue_shared_queue", [load32(16), i32(0), i32(4)], ints(3))),
    m.call("proxy_increment_metric", [load32(20), i64(5)], ["i32", "i64"]),
    drop,
    show(m, "x-config", m.call("proxy_get_buffer_bytes", [i32(7), i32(0), i32(1000), i32(0), i32(4)])),
    show(m, "x-vm-config", m.call("proxy_get_buffer_bytes", [i32(6), i32(2), i32(3), i32(0), i32(4)])),
    m.call("proxy_call_foreign_function", [m.text("compress"), m.text("aaaaaaaa"), i32(24), i32(28)]),
    drop,
    show(m, "x-foreign", m.call("proxy_call_foreign_function", [m.text("uncompress"), load32(24), load32(28), i32(32), i32(36)], ints(6)), 32),
    i32(0),
  );
  const string = (value: string): object => ({ "@type": "type.googleapis.com/google.protobuf.StringValue", value });
  const { answer, logged, context } = ask(m, undefined, { configuration: string("settings") }, { configuration: string("of vm") });
  const header = (name: string): string | undefined => answer.match(new RegExp(`\\r\\nx-${name}: (.*)\\r\\n`))?.[1];
  assert.deepEqual(
    ["method", "url-path", "query", "x-a", "plugin-name", "plugin-root-id", "id", "own", "shared", "queue", "config", "vm-config", "foreign"].map(header),
    ["GET", "/p", "q=1", "1,2", "plugin", "root", "node", "value", "shared", "queued", "settings", " vm", "aaaaaaaa"],
  );
  assert.equal(context.stats.counter("wasmcustom.mine").value, 5);
  assert.equal(logged[0].info.getFilterState("wasm.own")?.serializeAsString(), "value");
});

test("a module that traps ends its streams and no other; fail_open goes on without it", () => {
  for (const name of ["proxy_on_request_headers", "proxy_on_response_headers", "proxy_on_response_body", "proxy_on_log"]) {
    const m = new TestModule().export(name, name === "proxy_on_log" ? 1 : 3, name !== "proxy_on_log", trap, ...(name === "proxy_on_log" ? [] : [i32(0)]));
    const closed = ask(m);
    if (name === "proxy_on_log") assert.match(closed.answer, /^HTTP\/1\.1 200/);
    else if (name === "proxy_on_response_body") assert.doesNotMatch(closed.answer, /<>/);
    else assert.match(closed.answer, /^HTTP\/1\.1 503 /, name);
    assert.equal(closed.context.stats.gauge("wasm.envoy.wasm.runtime.v8.active").value, 0);
    assert.match(ask(m, undefined, { fail_open: true }).answer, /^HTTP\/1\.1 200 [\s\S]*<>/, name);
  }
});

test("a failed VM is made anew where that is the policy", () => {
  const m = new TestModule();
  // The first request of each VM fails by asking for a trap where memory says so.
  m.export("proxy_on_request_headers", 3, true, when(parameter(2), trap), i32(0));
  const { factory, context } = compile(m.bytes(), { failure_policy: "FAIL_RELOAD", reload_config: { backoff: { base_interval: "0.001s" } } });
  const once = (request: string): string => {
    const { receive } = managerHarness([factory, () => new Backend()], routes);
    return receive(request);
  };
  assert.match(once("GET / HTTP/1.1\r\nhost: x\r\n\r\n"), /503/);
  assert.match(once(post("body")), /200 [\s\S]*<body>/);
  assert.equal(context.stats.counter("wasm.plugin.vm_reload_success").value, 1);
});

test("an access logger tells the module of each stream", () => {
  const m = new TestModule();
  const copy = (key: string): Code => [
    ...m.call("proxy_get_header_map_value", [i32(0), m.text(key), i32(0), i32(4)]),
    ...drop,
    ...m.call("proxy_set_shared_data", [m.text(`logged ${key}`), load32(0), load32(4), i32(0)], ints(5)),
    ...drop,
  ];
  m.export("proxy_on_log", 1, false, copy("x-a"), copy(":path"));
  const config = { name: "logger", vm_config: { vm_id: "log vm", code: { local: { inline_bytes: Buffer.from(m.bytes()).toString("base64") } } } };
  const context = testContext();
  const logger = accessLogger.accessLogger.compile(message("envoy.extensions.access_loggers.wasm.v3.WasmAccessLog", { config }), context);
  assert.deepEqual(context.findings, []);
  const headers = new RequestHeaders("GET", "/logged", "h", "http", ["x-a", "1"]);
  logger.log({ info: new StreamInfo(0, 0), requestHeaders: headers } as never);
  assert.equal(getShared("log vm", "logged x-a")?.value.toString(), "1");
  assert.equal(getShared("log vm", "logged :path")?.value.toString(), "/logged");
});

test("what is no module for a proxy is refused", () => {
  const bad: [string, Uint8Array][] = [
    ["empty", new Uint8Array([0, 0x61, 0x73, 0x6d, 1, 0, 0, 0])],
    ["garbage", Buffer.from("garbage")],
    ["no abi", new TestModule("proxy_abi_version_9").bytes()],
    [
      "a missing import",
      (() => {
        const m = new TestModule();
        return m.export("x", 0, true, m.call("proxy_unknown", [])).bytes();
      })(),
    ],
    ["refused configuration", new TestModule().export("proxy_on_configure", 2, true, i32(0)).bytes()],
    ["refused start", new TestModule().export("proxy_on_vm_start", 2, true, i32(0)).bytes()],
    ["a trap at start", new TestModule().export("_initialize", 0, false, trap).bytes()],
    [
      "an exit",
      (() => {
        const m = new TestModule();
        return m.export("proxy_on_vm_start", 2, true, m.call("proc_exit", [i32(1)], [], "wasi_snapshot_preview1"), drop, i32(1)).bytes();
      })(),
    ],
  ];
  for (const [what, module] of bad) {
    const { context } = compile(module);
    assert.deepEqual(context.findings, ["vm_config: Unable to create Wasm plugin plugin"], what);
    assert.deepEqual(compile(module, { fail_open: true }).context.findings, [], what);
  }
  const other = compile(new TestModule().bytes(), {}, { runtime: "envoy.wasm.runtime.wasmtime" });
  assert.match(other.context.findings[0], /there is no runtime/);
});

test("capabilities that are not allowed do nothing", () => {
  const m = new TestModule();
  m.export("proxy_on_request_headers", 3, true, m.call("proxy_add_header_map_value", [i32(0), m.text("x-added"), m.text("v")]), drop, i32(0));
  const allowed = ask(m, undefined, { capability_restriction_config: { allowed_capabilities: { proxy_on_request_headers: {}, proxy_log: {} } } });
  assert.equal(allowed.head?.get("x-added"), undefined);
  const open = ask(m, undefined, { capability_restriction_config: { allowed_capabilities: { proxy_on_request_headers: {}, proxy_add_header_map_value: {} } } });
  assert.equal(open.head?.get("x-added"), "v");
});

test("wild pointers and numbers to any host function are statuses, never harm", () => {
  const names: [string, number][] = [
    ["proxy_log", 3],
    ["proxy_get_property", 4],
    ["proxy_set_property", 4],
    ["proxy_get_header_map_value", 5],
    ["proxy_add_header_map_value", 5],
    ["proxy_get_header_map_pairs", 3],
    ["proxy_set_header_map_pairs", 3],
    ["proxy_get_header_map_size", 2],
    ["proxy_get_buffer_bytes", 5],
    ["proxy_set_buffer_bytes", 5],
    ["proxy_get_buffer_status", 3],
    ["proxy_http_call", 10],
    ["proxy_grpc_call", 12],
    ["proxy_grpc_stream", 9],
    ["proxy_grpc_send", 4],
    ["proxy_get_shared_data", 5],
    ["proxy_set_shared_data", 5],
    ["proxy_register_shared_queue", 3],
    ["proxy_resolve_shared_queue", 5],
    ["proxy_dequeue_shared_queue", 3],
    ["proxy_enqueue_shared_queue", 3],
    ["proxy_define_metric", 4],
    ["proxy_get_metric", 2],
    ["proxy_call_foreign_function", 6],
    ["proxy_get_status", 3],
    ["proxy_set_effective_context", 1],
    ["proxy_set_tick_period_milliseconds", 1],
    ["proxy_get_current_time_nanoseconds", 1],
    ["proxy_done", 0],
    ["proxy_continue_stream", 1],
    ["proxy_close_stream", 1],
  ];
  const wild = fc.oneof(fc.integer({ min: -5, max: 70000 }), fc.constantFrom(131071, 131072, 0x7fffffff, -1, -0x80000000));
  fc.assert(
    fc.property(fc.array(fc.tuple(fc.constantFrom(...names), fc.array(wild, { minLength: 12, maxLength: 12 })), { minLength: 1, maxLength: 6 }), (calls) => {
      const m = new TestModule();
      const code = calls.flatMap(([[name, count], args]) => [...m.call(name, args.slice(0, count).map(i32), ints(count)), ...drop]);
      m.export("proxy_on_request_headers", 3, true, code, m.log("alive"), i32(0));
      m.export("proxy_on_response_headers", 3, true, code, i32(0));
      const { factory } = compile(m.bytes());
      const { receive } = managerHarness([factory, () => new Backend()], routes);
      receive("GET / HTTP/1.1\r\nhost: x\r\n\r\n");
    }),
    { numRuns: 150 },
  );
});

test("pairs go over and back; no bytes break their reader", () => {
  const latin1 = fc.string({ unit: fc.integer({ min: 0, max: 255 }).map((code) => String.fromCharCode(code)) });
  fc.assert(fc.property(fc.array(fc.tuple(latin1, latin1)), (pairs) => assert.deepEqual(decodePairs(encodePairs(pairs.flat())), pairs.flat())));
  fc.assert(fc.property(fc.uint8Array(), (data) => void decodePairs(Buffer.from(data))));
  fc.assert(fc.property(fc.uint8Array(), (data) => void readFields(Buffer.from(data))));
});
