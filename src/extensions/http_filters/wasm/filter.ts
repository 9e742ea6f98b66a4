/** One stream through a module. */

import { appendField, writeField } from "../../../http/field-writing.ts";
import type {
  DecoderFilterCallbacks,
  EncoderFilterCallbacks,
  FilterDataStatus,
  FilterHeadersStatus,
  FilterTrailersStatus,
  HttpFilter,
} from "../../../http/filter.ts";
import type { RequestHeaders, ResponseHeaders, Trailers } from "../../../http/header-map.ts";
import type { PropertySource } from "../../attributes.ts";
import { bufferType, mapType, streamType } from "../../wasm/abi.ts";
import { type FieldMap, type GuestBuffer, WasmContext } from "../../wasm/context.ts";
import { HeadFields } from "../../wasm/fields.ts";
import type { Running, WasmPlugin } from "../../wasm/plugin.ts";

const nothing = Buffer.alloc(0);
/** What modules answer: 1 stops in all versions; the others since 0.2.0. */
const action = { continue: 0, stop: 1, stopAllAndBuffer: 3, stopAllAndWatermark: 4 } as const;

export class WasmFilter implements HttpFilter {
  readonly #plugin: WasmPlugin;
  #decoder!: DecoderFilterCallbacks;
  #encoder!: EncoderFilterCallbacks;
  #context: HttpContext | undefined = undefined;

  constructor(plugin: WasmPlugin) {
    this.#plugin = plugin;
  }
  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#decoder = callbacks;
  }
  setEncoderCallbacks(callbacks: EncoderFilterCallbacks): void {
    this.#encoder = callbacks;
  }

  decodeHeaders(headers: RequestHeaders, endStream: boolean): FilterHeadersStatus {
    const running = this.#plugin.acquire();
    if (running === undefined) {
      if (this.#plugin.settings.failurePolicy === "fail_open") return "continue";
      this.#decoder.sendLocalReply({ status: 503, body: "", details: "wasm_fail_stream", grpcStatus: 14 });
      return "stop_all_and_watermark";
    }
    this.#context = new HttpContext(running, this.#plugin, this.#decoder, this.#encoder);
    return this.#context.onRequestHeaders(headers, endStream);
  }
  decodeData(data: Buffer, endStream: boolean): FilterDataStatus {
    return this.#context?.onRequestBody(data, endStream) ?? "continue";
  }
  decodeTrailers(trailers: Trailers): FilterTrailersStatus {
    return this.#context?.onRequestTrailers(trailers) ?? "continue";
  }
  encodeHeaders(headers: ResponseHeaders, endStream: boolean): FilterHeadersStatus {
    return this.#context?.onResponseHeaders(headers, endStream) ?? "continue";
  }
  encodeData(data: Buffer, endStream: boolean): FilterDataStatus {
    return this.#context?.onResponseBody(data, endStream) ?? "continue";
  }
  encodeTrailers(trailers: Trailers): FilterTrailersStatus {
    return this.#context?.onResponseTrailers(trailers) ?? "continue";
  }
  onStreamComplete(): void {
    this.#context?.onLog();
  }
  onDestroy(): void {
    this.#context?.destroy();
    this.#context = undefined;
  }
}

/** The bytes of one direction while the module is called for it. */
interface Body {
  chunk: Buffer;
  /** The filter manager keeps what came before: the module sees all of it. */
  buffering: boolean;
}

export class HttpContext extends WasmContext {
  readonly #decoder: DecoderFilterCallbacks;
  readonly #encoder: EncoderFilterCallbacks;
  readonly #open: boolean;
  #requestHeaders: RequestHeaders | undefined = undefined;
  #requestTrailers: Trailers | undefined = undefined;
  #responseHeaders: ResponseHeaders | undefined = undefined;
  #responseTrailers: Trailers | undefined = undefined;
  readonly #request: Body = { chunk: nothing, buffering: false };
  readonly #response: Body = { chunk: nothing, buffering: false };
  #at: "request" | "response" | undefined = undefined;
  /** It has answered, or the stream failed: what it still says of this event does not count. */
  #stopNext = false;
  #replied = false;
  #failed = false;
  #destroyed = false;
  #changed: Buffer | undefined = undefined;

  constructor({ vm, root }: Running, plugin: WasmPlugin, decoder: DecoderFilterCallbacks, encoder: EncoderFilterCallbacks) {
    super(vm, plugin, root.id);
    this.#decoder = decoder;
    this.#encoder = encoder;
    this.#open = plugin.settings.failurePolicy === "fail_open";
    vm.call(this, "proxy_on_context_create", this.id, root.id);
  }

  override get properties(): PropertySource {
    return {
      plugin: this.plugin,
      info: this.#decoder.streamInfo,
      requestHeaders: this.#decoder.requestHeaders,
      responseHeaders: this.#responseHeaders ?? this.#decoder.responseHeaders,
      responseTrailers: this.#responseTrailers,
    };
  }

  onRequestHeaders(headers: RequestHeaders, endStream: boolean): FilterHeadersStatus {
    this.#requestHeaders = headers;
    return this.#headersStatus(this.vm.call(this, "proxy_on_request_headers", this.id, new HeadFields(headers).entries().length >> 1, endStream ? 1 : 0));
  }
  onRequestBody(data: Buffer, endStream: boolean): FilterDataStatus {
    const body = this.#request;
    if (body.buffering) {
      this.#decoder.addDecodedData(data, false);
      if (this.#destroyed || this.#decoder.streamInfo.responseCodeDetails !== undefined) return "stop_no_buffer";
      this.#decoder.replaceDecodedChunk(nothing);
    }
    body.chunk = data;
    const size = body.buffering ? (this.#decoder.decodingBuffer()?.length ?? 0) : data.length;
    this.#at = "request";
    const result = this.vm.call(this, "proxy_on_request_body", this.id, size, endStream ? 1 : 0);
    this.#at = undefined;
    if (this.#changed !== undefined && !this.#destroyed) this.#decoder.replaceDecodedChunk(this.#changed);
    return this.#dataStatus(result, body);
  }
  onRequestTrailers(trailers: Trailers): FilterTrailersStatus {
    this.#requestTrailers = trailers;
    return this.#trailersStatus(this.vm.call(this, "proxy_on_request_trailers", this.id, trailers.size));
  }

  onResponseHeaders(headers: ResponseHeaders, endStream: boolean): FilterHeadersStatus {
    if (this.#failed) return "continue";
    this.#responseHeaders = headers;
    return this.#headersStatus(this.vm.call(this, "proxy_on_response_headers", this.id, new HeadFields(headers).entries().length >> 1, endStream ? 1 : 0));
  }
  onResponseBody(data: Buffer, endStream: boolean): FilterDataStatus {
    if (this.#failed) return "continue";
    const body = this.#response;
    if (body.buffering) {
      this.#encoder.addEncodedData(data, false);
      if (this.#destroyed) return "stop_no_buffer";
      this.#encoder.replaceEncodedChunk(nothing);
    }
    body.chunk = data;
    const size = body.buffering ? (this.#encoder.encodingBuffer()?.length ?? 0) : data.length;
    this.#at = "response";
    const result = this.vm.call(this, "proxy_on_response_body", this.id, size, endStream ? 1 : 0);
    this.#at = undefined;
    if (this.#changed !== undefined && !this.#destroyed) this.#encoder.replaceEncodedChunk(this.#changed);
    return this.#dataStatus(result, body);
  }
  onResponseTrailers(trailers: Trailers): FilterTrailersStatus {
    if (this.#failed) return "continue";
    this.#responseTrailers = trailers;
    return this.#trailersStatus(this.vm.call(this, "proxy_on_response_trailers", this.id, trailers.size));
  }

  onLog(): void {
    if (!this.#failed) this.vm.call(this, "proxy_on_log", this.id);
  }
  destroy(): void {
    this.#destroyed = true;
    this.end();
  }

  // ---- asked by the module

  override fields(type: number): FieldMap | undefined {
    const map =
      type === mapType.requestHeaders
        ? this.#requestHeaders
        : type === mapType.responseHeaders
          ? this.#responseHeaders
          : type === mapType.requestTrailers
            ? this.#requestTrailers
            : type === mapType.responseTrailers
              ? this.#responseTrailers
              : undefined;
    return map === undefined ? undefined : new HeadFields(map);
  }

  override buffer(type: number): GuestBuffer | undefined {
    if (type === bufferType.requestBody) {
      if (this.#request.buffering) return { read: () => this.#decoder.decodingBuffer() ?? nothing, replace: (data) => this.#decoder.setDecodingBuffer(data) };
      return this.#at === "request" ? this.#chunkBuffer(this.#request) : undefined;
    }
    if (type !== bufferType.responseBody) return undefined;
    if (this.#response.buffering) return { read: () => this.#encoder.encodingBuffer() ?? nothing, replace: (data) => this.#encoder.setEncodingBuffer(data) };
    return this.#at === "response" ? this.#chunkBuffer(this.#response) : undefined;
  }
  #chunkBuffer(body: Body): GuestBuffer {
    return {
      read: () => body.chunk,
      replace: (data) => {
        body.chunk = data;
        this.#changed = data;
      },
    };
  }

  override continueStream(type: number): boolean {
    if (type !== streamType.request && type !== streamType.response) return false;
    this.#afterCall(() => {
      if (type === streamType.request) this.#decoder.continueDecoding();
      else this.#encoder.continueEncoding();
    });
    return true;
  }
  override closeStream(type: number): boolean {
    if (type !== streamType.request && type !== streamType.response) return false;
    this.#stopNext = true;
    this.#afterCall(() => this.#decoder.resetStream());
    return true;
  }
  override clearRouteCache(): void {
    if (!this.#destroyed) this.#decoder.clearRouteCache();
  }
  override sendLocalReply(status: number, body: string, details: string, fields: readonly string[], grpcStatus: number): boolean {
    this.#stopNext = true;
    if (this.#replied) return true;
    this.#replied = true;
    this.#afterCall(() => {
      this.#decoder.sendLocalReply({
        status,
        body,
        details: details.replace(/\s/g, "_"),
        ...(grpcStatus >= 0 && { grpcStatus }),
        modifyHeaders: (reply) => {
          for (let i = 0; i < fields.length; i += 2) {
            const name = fields[i].toLowerCase();
            if (name === "content-type" || name === ":status") writeField(reply, name, fields[i + 1]);
            else if (name !== "content-length") appendField(reply, name, fields[i + 1]);
          }
        },
      });
    });
    return true;
  }

  /** The module failed: the stream is answered, or goes on without it. */
  override fail(): void {
    if (this.#failed || this.#destroyed) return;
    this.#failed = true;
    for (const call of this.calls.values()) call.cancel();
    this.calls.clear();
    this.#request.buffering = false;
    this.#response.buffering = false;
    this.#afterCall(() => {
      if (this.#open) {
        this.#decoder.continueDecoding();
        this.#encoder.continueEncoding();
      } else this.#decoder.sendLocalReply({ status: 503, body: "", details: "wasm_fail_stream", grpcStatus: 14 });
    });
  }

  /** What follows is for another event: that this one stops does not count there. */
  #afterCall(work: () => void): void {
    this.vm.afterCall(() => {
      if (this.#destroyed) return;
      const stop = this.#stopNext;
      this.#stopNext = false;
      work();
      this.#stopNext = stop;
    });
  }

  // ---- what its answers mean

  #headersStatus(result: number): FilterHeadersStatus {
    if (this.#failed) return this.#open ? "continue" : "stop_all_and_watermark";
    if (this.#takeStop()) return "stop_all_and_watermark";
    switch (result) {
      case action.continue:
        return "continue";
      case action.stop:
        return this.plugin.settings.allowOnHeadersStopIteration ? "stop" : "stop_all_and_watermark";
      case action.stopAllAndBuffer:
        return "stop_all_and_buffer";
      default:
        return "stop_all_and_watermark";
    }
  }
  #dataStatus(result: number, body: Body): FilterDataStatus {
    this.#changed = undefined;
    body.chunk = nothing;
    body.buffering = false;
    if (this.#failed) return this.#open ? "continue" : "stop_no_buffer";
    if (this.#takeStop()) return "stop_no_buffer";
    switch (result) {
      case 0:
        return "continue";
      case 1:
        body.buffering = true;
        return "stop_and_buffer";
      case 2:
        return "stop_and_watermark";
      default:
        return "stop_no_buffer";
    }
  }
  #trailersStatus(result: number): FilterTrailersStatus {
    if (this.#failed) return this.#open ? "continue" : "stop";
    return this.#takeStop() || result !== action.continue ? "stop" : "continue";
  }
  #takeStop(): boolean {
    const stop = this.#stopNext;
    this.#stopNext = false;
    return stop;
  }
}
