/** The object that envoy_on_request and envoy_on_response are given, and how far its script has come. */
import { isIP } from "node:net";
import type { JsonObject } from "../../../config/message.ts";
import type { FilterDataStatus, FilterHeadersStatus, FilterTrailersStatus } from "../../../http/filter.ts";
import type { HeaderMap, ResponseHeaders, Trailers } from "../../../http/header-map.ts";
import type { StreamInfo } from "../../../http/stream-info.ts";
import type { Route } from "../../../router/route.ts";
import type { AsyncResult, ThreadLocalClusters } from "../../../upstream/upstream.ts";
import { type LuaCall, type LuaCoroutine, LuaError, LuaObject, type LuaVm, suspend } from "../../lua/vm.ts";
import { LuaBuffer } from "../../lua/wrappers/buffer.ts";
import { luaClass } from "../../lua/wrappers/define.ts";
import { LuaHeaders } from "../../lua/wrappers/headers.ts";
import { LuaMetadata } from "../../lua/wrappers/metadata.ts";
import { LuaStats, type ScriptStats } from "../../lua/wrappers/stats.ts";
import { LuaConnection, LuaConnectionStreamInfo, LuaRouteLevel, LuaStreamInfo } from "../../lua/wrappers/stream-info.ts";
import { PublicKeys } from "./crypto.ts";
import { checkField, type HttpCall, headersOfTable, prepareHttpCall, pushAnswer } from "./http-call.ts";

/** What differs between the two directions, and what the filter lends its scripts. */
export interface HandleHost {
  readonly info: StreamInfo;
  readonly clusters: ThreadLocalClusters;
  readonly stats: ScriptStats;
  readonly requestHeaders: HeaderMap | undefined;
  readonly filterContext: JsonObject | undefined;
  route(): Route | undefined;
  /** Metadata under this filter's name. */
  metadataOf(all: Record<string, JsonObject> | undefined): JsonObject | undefined;
  bufferedBody(): Buffer | undefined;
  setBufferedBody(data: Buffer): void;
  addData(data: Buffer): void;
  replaceChunk(data: Buffer): void;
  continueIteration(): void;
  /** The script is about to change the head. */
  onHeadersModified(): void;
  clearRouteCache(): void;
  /** Throws where there is no answering any more. */
  respond(status: number, fields: readonly (readonly [string, string])[], body: string | undefined): void;
  /** A failure of the script: logged and counted by the filter. */
  onScriptError(message: string): void;
  /** The stream is gone. */
  readonly destroyed: boolean;
}

type State = "running" | "wait_for_body" | "wait_for_body_chunk" | "wait_for_trailers" | "http_call" | "responded" | "failed";

const nothing = Buffer.alloc(0);

export class StreamHandle extends LuaObject {
  readonly host: HandleHost;
  readonly vm: LuaVm;
  readonly coroutine: LuaCoroutine;
  readonly headers: HeaderMap;
  state: State = "running";
  endStream: boolean;
  sawBody = false;
  bufferedBody = false;
  headersContinued = false;
  trailers: Trailers | undefined = undefined;
  readonly keys = new PublicKeys();
  #request: { cancel(): void } | undefined = undefined;
  /** Objects that keep what they know from one call to the next; made anew in each run. */
  headersObject: LuaHeaders | undefined = undefined;
  requestHeadersObject: LuaHeaders | undefined = undefined;
  trailersObject: LuaHeaders | undefined = undefined;
  streamInfoObject: LuaStreamInfo | undefined = undefined;
  metadataObject: LuaMetadata | undefined = undefined;

  constructor(vm: LuaVm, functionRef: number, headers: HeaderMap, endStream: boolean, host: HandleHost) {
    super(handleClass);
    this.vm = vm;
    this.headers = headers;
    this.endStream = endStream;
    this.host = host;
    this.coroutine = vm.coroutine(functionRef);
    vm.register(this, true);
  }

  start(): FilterHeadersStatus {
    this.coroutine.stack.pushObject(this);
    this.#run(1);
    if (this.state === "wait_for_body" || this.state === "http_call" || this.state === "responded") return "stop";
    this.headersContinued = true;
    return "continue";
  }

  onData(data: Buffer, endStream: boolean): FilterDataStatus {
    this.endStream = endStream;
    this.sawBody = true;
    if (this.state === "wait_for_body_chunk") {
      let chunk = data;
      const object = new LuaBuffer(
        () => chunk,
        (changed) => {
          chunk = changed;
          this.host.replaceChunk(changed);
          this.#setContentLength(changed.length);
        },
      );
      this.state = "running";
      this.#run(this.coroutine.stack.pushOwned(this.coroutine, object));
    } else if (this.state === "wait_for_body" && endStream) {
      this.host.addData(data);
      this.host.replaceChunk(nothing);
      this.state = "running";
      this.#run(this.#pushBody(this.coroutine.stack));
    } else if (this.state === "wait_for_trailers" && endStream) {
      this.state = "running";
      this.#run(0);
    }
    switch (this.state as State) {
      case "http_call":
      case "wait_for_body":
        return "stop_and_buffer";
      case "responded":
        return "stop_no_buffer";
      default:
        this.headersContinued = true;
        return "continue";
    }
  }

  onTrailers(trailers: Trailers): FilterTrailersStatus {
    this.endStream = true;
    this.trailers = trailers;
    if (this.state === "wait_for_body_chunk") {
      this.state = "running";
      this.#run(0);
    } else if (this.state === "wait_for_body") {
      this.state = "running";
      this.#run(this.#pushBody(this.coroutine.stack));
    }
    if ((this.state as State) === "wait_for_trailers") {
      this.state = "running";
      this.#run(pushTrailers(this, this.coroutine.stack));
    }
    if (this.state === "http_call" || this.state === "responded") return "stop";
    this.headersContinued = true;
    return "continue";
  }

  /** The stream ends: nothing wakes the script any more. */
  reset(): void {
    this.#request?.cancel();
    this.#request = undefined;
    this.coroutine.drop();
    this.vm.forget(this);
    if (this.state !== "failed") this.state = "responded";
  }

  startCall(call: HttpCall): number {
    if (call.asynchronous) {
      call.start(() => {});
      return 0;
    }
    this.state = "http_call";
    let answered: AsyncResult | undefined;
    let waiting = false;
    const request = call.start((result, ms) => {
      this.#request = undefined;
      if (waiting) this.#onAnswer(call, result, ms);
      else answered = result;
    });
    if (answered !== undefined) {
      // It failed before it left.
      this.state = "running";
      return -2;
    }
    this.#request = request;
    waiting = true;
    return suspend;
  }

  #onAnswer(call: HttpCall, result: AsyncResult, ms: number): void {
    if (this.state !== "http_call" || this.host.destroyed) return;
    this.state = "running";
    this.#run(pushAnswer(this.coroutine.stack, result, ms, call));
    if (this.host.destroyed) return;
    const state = this.state as State;
    if (state === "running" || state === "failed") {
      this.headersContinued = true;
      this.host.continueIteration();
    }
  }

  /** Runs the script until it ends or waits. */
  #run(count: number): void {
    this.alive = true;
    const result = this.coroutine.resume(count);
    this.alive = false;
    this.headersObject = undefined;
    this.requestHeadersObject = undefined;
    this.trailersObject = undefined;
    this.streamInfoObject = undefined;
    this.metadataObject = undefined;
    if (result.kind === "failed") this.#fail(result.message);
    else if (result.kind === "suspended" && this.state === "running") {
      this.coroutine.drop();
      this.#fail("script performed an unexpected yield");
    }
  }
  #fail(message: string): void {
    this.state = "failed";
    this.vm.forget(this);
    this.host.onScriptError(message);
  }

  #pushBody(call: LuaCall): number {
    return pushBody(this, call, false, this.coroutine);
  }
  #setContentLength(length: number): void {
    this.headers.set("content-length", String(length));
  }
  /** The buffered body as an object. */
  bodyObject(): LuaBuffer {
    const { host } = this;
    return new LuaBuffer(
      () => host.bufferedBody() ?? nothing,
      (data) => {
        host.setBufferedBody(data);
        this.#setContentLength(data.length);
      },
    );
  }
}

function pushBody(self: StreamHandle, call: LuaCall, alwaysWrap: boolean, owner?: LuaCoroutine): number {
  if (self.host.bufferedBody() === undefined) {
    if (!alwaysWrap) return 0;
    self.host.addData(nothing);
  }
  const object = self.bodyObject();
  return owner === undefined ? call.pushObject(object) : call.pushOwned(owner, object);
}

function pushTrailers(self: StreamHandle, call: LuaCall): number {
  const { trailers } = self;
  if (trailers === undefined) return 0;
  self.trailersObject ??= new LuaHeaders(trailers, () => true);
  return call.pushOwned(self.coroutine, self.trailersObject);
}

function bodyIterator(self: StreamHandle): number {
  if (self.endStream) return 0;
  self.state = "wait_for_body_chunk";
  return suspend;
}

/** Without another argument, milliseconds. */
function resolution(call: LuaCall, allowed: readonly number[], message: string): number {
  if (call.isNone(2)) return 0;
  const value = call.type(2) === 3 ? call.integer(2) : Number.NaN;
  if (!allowed.includes(value)) throw new LuaError(message);
  return value;
}

const handleClass = luaClass<StreamHandle>("N5Envoy10Extensions11HttpFilters3Lua19StreamHandleWrapperE", {
  headers(self, call) {
    self.headersObject ??= new LuaHeaders(self.headers, () => {
      if (self.headersContinued) return false;
      self.host.onHeadersModified();
      return true;
    });
    return call.pushObject(self.headersObject);
  },
  requestHeaders(self, call) {
    const headers = self.host.requestHeaders;
    if (headers === undefined) return 0;
    if (headers === self.headers) {
      self.headersObject ??= new LuaHeaders(self.headers, () => {
        if (self.headersContinued) return false;
        self.host.onHeadersModified();
        return true;
      });
      return call.pushObject(self.headersObject);
    }
    // On the way back the request has gone: changes are seen by access logs only.
    self.requestHeadersObject ??= new LuaHeaders(headers, () => true);
    return call.pushObject(self.requestHeadersObject);
  },
  body(self, call) {
    const alwaysWrap = call.boolean(2);
    if (self.endStream) {
      if (!self.bufferedBody && self.sawBody) throw new LuaError("cannot call body() after body has been streamed");
      return pushBody(self, call, alwaysWrap);
    }
    if (self.sawBody) throw new LuaError("cannot call body() after body streaming has started");
    self.state = "wait_for_body";
    self.bufferedBody = true;
    return suspend;
  },
  bodyChunks(self, call) {
    if (self.sawBody) throw new LuaError("cannot call bodyChunks after body processing has begun");
    return call.pushClosure(self, bodyIterator as never);
  },
  trailers(self, call) {
    if (self.trailers !== undefined) return pushTrailers(self, call);
    if (self.endStream) return 0;
    self.state = "wait_for_trailers";
    return suspend;
  },
  metadata(self, call) {
    self.metadataObject ??= new LuaMetadata(self.host.metadataOf(self.host.route()?.metadata));
    return call.pushObject(self.metadataObject);
  },
  virtualHost: (self, call) => call.pushObject(new LuaRouteLevel(self.host.metadataOf(self.host.route()?.virtualHost.metadata))),
  route: (self, call) => call.pushObject(new LuaRouteLevel(self.host.metadataOf(self.host.route()?.metadata))),
  filterContext: (self, call) => call.pushObject(new LuaMetadata(self.host.filterContext)),
  stats: (self, call) => call.pushObject(new LuaStats(self.host.stats)),
  streamInfo(self, call) {
    self.streamInfoObject ??= new LuaStreamInfo(self.host.info);
    return call.pushObject(self.streamInfoObject);
  },
  connection: (self, call) => call.pushObject(new LuaConnection(self.host.info.downstreamTls)),
  connectionStreamInfo(self, call) {
    const info = self.host.info.connectionInfo;
    return call.pushObject(new LuaConnectionStreamInfo(info?.hasDynamicMetadata ? info.dynamicMetadata : {}));
  },
  httpCall(self, call) {
    const { host } = self;
    const prepared = prepareHttpCall(call, host.clusters, host.info);
    const waits = self.startCall(prepared);
    if (waits !== -2) return waits;
    return pushAnswer(call, { ok: false, reason: "no_healthy_upstream" }, 0, prepared);
  },
  respond(self, call) {
    if (self.headersContinued) throw new LuaError("respond() cannot be called if headers have been continued");
    const fields: [string, string][] = [];
    let status = 0;
    headersOfTable(call, 2, (name, value) => {
      if (name === ":status") status = /^\d{1,9}$/.test(value) ? Number(value) : 0;
      else if (name.charCodeAt(0) !== 58) {
        checkField(name, value);
        fields.push([name, value]);
      }
    });
    const body = call.optionalString(3);
    if (status < 200 || status >= 600) throw new LuaError(":status must be between 200-599");
    self.host.respond(status, fields, body);
    // To respond is the end of the script, even where more code follows.
    self.state = "responded";
    return suspend;
  },
  clearRouteCache(self) {
    self.host.clearRouteCache();
    return 0;
  },
  setUpstreamOverrideHost(self, call) {
    const host = call.string(2);
    const strictType = call.type(3);
    if (strictType > 0 && strictType !== 1) call.checkType(3, 1);
    const colon = host.lastIndexOf(":");
    const address = host.startsWith("[") ? host.slice(1, host.indexOf("]")) : isIP(host) !== 0 ? host : host.slice(0, colon < 0 ? host.length : colon);
    if (isIP(address) === 0) throw new LuaError("host is not a valid IP address");
    self.host.info.overrideHost = { address: host, strict: strictType === 1 && call.boolean(3) };
    return 0;
  },
  importPublicKey: (self, call) => self.keys.import(call),
  verifySignature: (self, call) => self.keys.verify(call),
  base64Escape: (_self, call) => call.pushString(Buffer.from(call.string(2), "latin1").toString("base64")),
  base64Decode(_self, call) {
    const text = call.string(2);
    if (!/^[A-Za-z0-9+/]*={0,2}$/.test(text) || text.replace(/=+$/, "").length % 4 === 1) return 0;
    return call.pushBuffer(Buffer.from(text, "base64"));
  },
  timestamp(_self, call) {
    resolution(call, [0], "timestamp format must be MILLISECOND.");
    return call.pushNumber(Date.now());
  },
  timestampString(_self, call) {
    const unit = resolution(call, [0, 1], "timestamp format must be MILLISECOND or MICROSECOND.");
    return call.pushString(unit === 0 ? String(Date.now()) : String(Math.floor((performance.timeOrigin + performance.now()) * 1000)));
  },
});

export type { ResponseHeaders };
