/** One stream's scripts: what envoy_on_request and envoy_on_response of the code that its route asks for do. */
import type { JsonObject } from "../../../config/message.ts";
import type {
  DecoderFilterCallbacks,
  EncoderFilterCallbacks,
  FilterDataStatus,
  FilterHeadersStatus,
  FilterTrailersStatus,
  HttpFilter,
} from "../../../http/filter.ts";
import type { HeaderMap, RequestHeaders, ResponseHeaders, Trailers } from "../../../http/header-map.ts";
import { LuaError } from "../../lua/vm.ts";
import { log } from "../../lua/wrappers/define.ts";
import type { LuaRouteSettings, LuaSettings } from "./settings.ts";
import { type HandleHost, StreamHandle } from "./stream-handle.ts";

const canonicalName = "envoy.filters.http.lua";

export class LuaFilter implements HttpFilter {
  readonly #settings: LuaSettings;
  #decoder!: DecoderFilterCallbacks;
  #encoder!: EncoderFilterCallbacks;
  #request: StreamHandle | undefined = undefined;
  #response: StreamHandle | undefined = undefined;
  #destroyed = false;

  constructor(settings: LuaSettings) {
    this.#settings = settings;
  }

  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#decoder = callbacks;
  }
  setEncoderCallbacks(callbacks: EncoderFilterCallbacks): void {
    this.#encoder = callbacks;
  }

  decodeHeaders(headers: RequestHeaders, endStream: boolean): FilterHeadersStatus {
    const route = this.#decoder.routeConfig<LuaRouteSettings>();
    const code = this.#settings.codeFor(route);
    const onRequest = code?.onRequest;
    if (code === undefined || onRequest === undefined) return "continue";
    this.#settings.stats.executions.inc();
    this.#request = new StreamHandle(code.vm, onRequest, headers, endStream, this.#decodeHost(headers, route));
    return this.#request.start();
  }
  decodeData(data: Buffer, endStream: boolean): FilterDataStatus {
    return this.#request?.onData(data, endStream) ?? "continue";
  }
  decodeTrailers(trailers: Trailers): FilterTrailersStatus {
    return this.#request?.onTrailers(trailers) ?? "continue";
  }

  encodeHeaders(headers: ResponseHeaders, endStream: boolean): FilterHeadersStatus {
    if (this.#destroyed) return "continue";
    const route = this.#encoder.routeConfig<LuaRouteSettings>();
    const code = this.#settings.codeFor(route);
    const onResponse = code?.onResponse;
    if (code === undefined || onResponse === undefined) return "continue";
    this.#settings.stats.executions.inc();
    this.#response = new StreamHandle(code.vm, onResponse, headers, endStream, this.#encodeHost(route));
    return this.#response.start();
  }
  encodeData(data: Buffer, endStream: boolean): FilterDataStatus {
    return this.#response?.onData(data, endStream) ?? "continue";
  }
  encodeTrailers(trailers: Trailers): FilterTrailersStatus {
    return this.#response?.onTrailers(trailers) ?? "continue";
  }

  onDestroy(): void {
    this.#destroyed = true;
    this.#request?.reset();
    this.#response?.reset();
  }

  #decodeHost(headers: HeaderMap, route: LuaRouteSettings | undefined): HandleHost {
    const callbacks = this.#decoder;
    const settings = this.#settings;
    return {
      ...this.#commonHost(callbacks, route),
      requestHeaders: headers,
      bufferedBody: () => callbacks.decodingBuffer(),
      setBufferedBody: (data) => callbacks.setDecodingBuffer(data),
      addData: (data) => callbacks.addDecodedData(data, false),
      replaceChunk: (data) => callbacks.replaceDecodedChunk(data),
      continueIteration: () => callbacks.continueDecoding(),
      onHeadersModified: () => {
        if (settings.clearRouteCache) callbacks.clearRouteCache();
      },
      clearRouteCache: () => callbacks.clearRouteCache(),
      respond: (status, fields, body) => {
        callbacks.sendLocalReply({
          status,
          body: body ?? "",
          details: "lua_response",
          modifyHeaders: (reply) => {
            const named = new Set<string>();
            for (const [name, value] of fields) {
              if (name === "content-length") continue;
              if (named.has(name)) reply.add(name, value);
              else reply.set(name, value);
              named.add(name);
            }
          },
        });
      },
    };
  }

  #encodeHost(route: LuaRouteSettings | undefined): HandleHost {
    const callbacks = this.#encoder;
    return {
      ...this.#commonHost(callbacks, route),
      requestHeaders: callbacks.requestHeaders,
      bufferedBody: () => callbacks.encodingBuffer(),
      setBufferedBody: (data) => callbacks.setEncodingBuffer(data),
      addData: (data) => callbacks.addEncodedData(data, false),
      replaceChunk: (data) => callbacks.replaceEncodedChunk(data),
      continueIteration: () => callbacks.continueEncoding(),
      onHeadersModified: () => {},
      clearRouteCache: () => {},
      respond: () => {
        throw new LuaError("respond not currently supported in the response path");
      },
    };
  }

  #commonHost(callbacks: DecoderFilterCallbacks | EncoderFilterCallbacks, route: LuaRouteSettings | undefined) {
    const settings = this.#settings;
    const isDestroyed = (): boolean => this.#destroyed;
    return {
      info: callbacks.streamInfo,
      clusters: callbacks.clusters,
      stats: settings.scriptStats,
      filterContext: route?.filterContext ?? settings.filterContext,
      route: () => callbacks.route(),
      metadataOf: (all: Record<string, JsonObject> | undefined) => all?.[settings.name] ?? all?.[canonicalName],
      onScriptError: (message: string) => {
        log.error(`script log: ${message}`);
        settings.stats.errors.inc();
        this.#request?.reset();
        this.#response?.reset();
      },
      get destroyed() {
        return isDestroyed();
      },
    };
  }
}
