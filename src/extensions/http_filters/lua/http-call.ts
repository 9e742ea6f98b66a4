/** httpCall(): a request of the script's own, through a cluster. */
import { isFieldName, malformedRequest } from "../../../http/field-rules.ts";
import { fieldEntries } from "../../../http/field-writing.ts";
import { RequestHeaders, type ResponseHeaders } from "../../../http/header-map.ts";
import type { StreamInfo } from "../../../http/stream-info.ts";
import { resetBody } from "../../../router/filter/reset-reason.ts";
import type { AsyncResult, ThreadLocalCluster, ThreadLocalClusters } from "../../../upstream/upstream.ts";
import { type LuaCall, LuaError, luaType } from "../../lua/vm.ts";

export interface HttpCall {
  readonly asynchronous: boolean;
  readonly returnDuplicateHeaders: boolean;
  /** Sends it; `done` is not called once the answer does not matter any more (`cancel`). */
  start(done: (result: AsyncResult, ms: number) => void): { cancel(): void };
}

/** Headers of a table: a value is a string or a list of strings. */
export function headersOfTable(call: LuaCall, index: number, add: (name: string, value: string) => void): void {
  call.checkType(index, luaType.table);
  call.forEach(index, () => {
    // Reading a number as a string would change the key under the walk.
    if (call.type(-2) !== luaType.string)
      throw new LuaError(`bad argument #-2 to '?' (string expected, got ${call.type(-2) === luaType.number ? "number" : "table"})`);
    const name = call.rawString(-2).toLowerCase();
    if (call.type(-1) === luaType.table) call.forEach(-1, () => add(name, call.string(-1)));
    else add(name, call.string(-1));
  });
}

interface Options {
  readonly asynchronous: boolean;
  readonly timeoutMs: number;
  readonly returnDuplicateHeaders: boolean;
  readonly sendXff: boolean;
}

function readOptions(call: LuaCall): Options {
  const given = { asynchronous: false, timeoutMs: 0, returnDuplicateHeaders: false, sendXff: true };
  if (call.type(5) === luaType.table) {
    call.forEach(5, () => {
      if (call.type(-2) !== luaType.string) return;
      switch (call.rawString(-2)) {
        case "asynchronous":
          given.asynchronous = call.boolean(-1);
          break;
        case "timeout_ms":
          given.timeoutMs = call.integer(-1);
          break;
        case "return_duplicate_headers":
          given.returnDuplicateHeaders = call.boolean(-1);
          break;
        case "send_xff":
          given.sendXff = call.boolean(-1);
          break;
      }
    });
  } else {
    const flag = call.type(6);
    if (flag !== luaType.none && flag !== luaType.boolean) throw new LuaError("http call asynchronous flag must be 'true', 'false', or empty");
    given.asynchronous = flag === luaType.boolean && call.boolean(6);
    given.timeoutMs = call.integer(5);
  }
  if (given.timeoutMs < 0) throw new LuaError("http call timeout must be >= 0");
  return given;
}

/** Arguments: cluster, headers, body, timeout in milliseconds or a table of options, whether asynchronous. */
export function prepareHttpCall(call: LuaCall, clusters: ThreadLocalClusters, parent: StreamInfo): HttpCall {
  const name = call.utf8(2);
  call.checkType(3, luaType.table);
  const body = call.optionalString(4);
  const options = readOptions(call);
  const cluster = clusters.get(name);
  if (cluster === undefined) throw new LuaError("http call cluster invalid. Must be configured");
  const headers = new RequestHeaders("", undefined, undefined, undefined);
  headersOfTable(call, 3, (key, value) => {
    headers.add(key, value);
  });
  if (headers.method === "" || headers.path === undefined || headers.authority === undefined)
    throw new LuaError("http call headers must include ':path', ':method', and ':authority'");
  headers.scheme ??= "http";
  const malformed = malformedRequest(headers);
  if (malformed !== undefined) throw new LuaError(malformed);
  if (body !== undefined) headers.set("content-length", String(body.length));
  const data = body === undefined ? undefined : Buffer.from(body, "latin1");
  return {
    asynchronous: options.asynchronous,
    returnDuplicateHeaders: options.returnDuplicateHeaders,
    start: (done) => send(cluster, headers, data, options, parent, done),
  };
}

/** What would end a line early is no part of a head. */
export function checkField(name: string, value: string): void {
  if (!isFieldName(name)) throw new LuaError(`invalid header name '${name}'`);
  if (/[\0\r\n]/.test(value)) throw new LuaError(`invalid value of header '${name}'`);
}

function send(
  cluster: ThreadLocalCluster,
  headers: RequestHeaders,
  body: Buffer | undefined,
  { timeoutMs, asynchronous, sendXff }: Options,
  parent: StreamInfo,
  done: (result: AsyncResult, ms: number) => void,
): { cancel(): void } {
  const began = performance.now();
  return cluster.httpClient.send(
    { headers, ...(body !== undefined && { body }) },
    { timeoutMs: Math.min(timeoutMs, 0x7fff0000), discardResponse: asynchronous, parentStreamInfo: parent, sendXff },
    (result) => done(result, Math.round(performance.now() - began)),
  );
}

/** Pushes a table of headers, and the body or nil. `ms`: how long it took. A request without an answer has the one that a client would have got. */
export function pushAnswer(call: LuaCall, result: AsyncResult, ms: number, { returnDuplicateHeaders }: HttpCall): number {
  const values: Record<string, string | string[]> = Object.create(null);
  let body: Buffer | undefined;
  if (result.ok) {
    collect(result.headers, values, returnDuplicateHeaders);
    values["x-envoy-upstream-service-time"] = String(ms);
    body = result.body;
  } else {
    const [status, text] = failure(result);
    values[":status"] = String(status);
    values["content-length"] = String(text.length);
    values["content-type"] = "text/plain";
    body = Buffer.from(text);
  }
  call.pushFields(values);
  return 1 + (body === undefined || body.length === 0 ? call.pushNil() : call.pushBuffer(body));
}

function collect(headers: ResponseHeaders, values: Record<string, string | string[]>, all: boolean): void {
  const entries = fieldEntries(headers);
  for (let i = 0; i < entries.length; i += 2) {
    const name = entries[i];
    const before = values[name];
    if (!all || before === undefined) values[name] = entries[i + 1];
    else values[name] = [...(typeof before === "string" ? [before] : before), entries[i + 1]];
  }
}

function failure(result: Extract<AsyncResult, { ok: false }>): [status: number, text: string] {
  switch (result.reason) {
    case "timeout":
      return [504, "upstream request timeout"];
    case "no_healthy_upstream":
      return [503, "no healthy upstream"];
    case "response_too_large":
      return [503, "upstream failure"];
    default:
      return [503, resetBody(result.resetReason ?? "local_reset", false)];
  }
}
