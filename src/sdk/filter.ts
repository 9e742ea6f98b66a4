/**
 * What a filter of your own is written against. A filter is a TypeScript (or JavaScript) module whose export is made with `defineHttpFilter`:
 *
 *     import { defineHttpFilter } from "outrider/filter";
 *
 *     export default defineHttpFilter({
 *       configure: (config: { greeting?: string }) => ({ greeting: config.greeting ?? "hello" }),
 *       create: ({ greeting }) => ({
 *         encodeHeaders(headers) {
 *           headers.set("x-greeting", greeting);
 *         },
 *       }),
 *     });
 *
 * and is named in a configuration as outrider.extensions.filters.http.module.v1.Module. docs/filters.md tells the rest.
 */
import type { JsonObject } from "../config/message.ts";
import type {
  DecoderFilterCallbacks,
  EncoderFilterCallbacks,
  FilterDataStatus,
  FilterHeadersStatus,
  FilterTrailersStatus,
  LocalReply,
  StreamFilterCallbacks,
  HttpFilter as SyncHttpFilter,
} from "../http/filter.ts";
import { RequestHeaders, type ResponseHeaders, type Trailers } from "../http/header-map.ts";
import type { StreamInfo } from "../http/stream-info.ts";
import type { Counter, Gauge, Histogram, HistogramUnit } from "../stats/stats.ts";

export type {
  Counter,
  DecoderFilterCallbacks,
  EncoderFilterCallbacks,
  FilterDataStatus,
  FilterHeadersStatus,
  FilterTrailersStatus,
  Gauge,
  Histogram,
  HistogramUnit,
  JsonObject,
  LocalReply,
  RequestHeaders,
  ResponseHeaders,
  StreamFilterCallbacks,
  StreamInfo,
  Trailers,
};

/** Nothing returned is "continue". A promise holds the stream until it settles; a rejection counts as an exception. */
// biome-ignore lint/suspicious/noConfusingVoidType: a method that returns nothing has this type
export type Answer<Status> = Status | undefined | void;

/**
 * One stream's filter: the interface that all filters of the proxy implement, where methods for headers and trailers may also be asynchronous.
 * Each is called on the event loop of a worker: what takes time has to be asynchronous, or other requests wait.
 */
export interface HttpFilter
  extends Omit<SyncHttpFilter, "decodeHeaders" | "decodeData" | "decodeTrailers" | "encodeHeaders" | "encodeData" | "encodeTrailers"> {
  decodeHeaders?(headers: RequestHeaders, endStream: boolean): Answer<FilterHeadersStatus> | Promise<Answer<FilterHeadersStatus>>;
  /** `data` is valid during the call: copy to keep. */
  decodeData?(data: Buffer, endStream: boolean): Answer<FilterDataStatus>;
  decodeTrailers?(trailers: Trailers): Answer<FilterTrailersStatus> | Promise<Answer<FilterTrailersStatus>>;
  encodeHeaders?(headers: ResponseHeaders, endStream: boolean): Answer<FilterHeadersStatus> | Promise<Answer<FilterHeadersStatus>>;
  /** `data` is valid during the call: copy to keep. */
  encodeData?(data: Buffer, endStream: boolean): Answer<FilterDataStatus>;
  encodeTrailers?(trailers: Trailers): Answer<FilterTrailersStatus> | Promise<Answer<FilterTrailersStatus>>;
}

/** What a filter has beside its streams, one for each place in a configuration and worker thread. */
export interface FilterContext {
  /** In the filter chain. */
  readonly name: string;
  readonly log: Readonly<Record<"debug" | "info" | "warning" | "error", (text: string) => void>>;
  /** Statistics of the filter's own: http.<stat_prefix>.module.<name>.<statistic>. */
  counter(statistic: string): Counter;
  gauge(statistic: string): Gauge;
  histogram(statistic: string, unit?: HistogramUnit): Histogram;
}

export interface HttpFilterModule<Config = JsonObject, RouteConfig = JsonObject> {
  /** Makes settings of what stands under `config`, once a configuration. An Error that is thrown refuses the configuration with its message. */
  configure?(config: never): Config;
  /** The same for typed_per_filter_config; read it back with `callbacks.routeConfig()`. */
  configureRoute?(config: never): RouteConfig;
  /** Makes the filter of one stream. */
  create(config: Config, context: FilterContext): HttpFilter;
}

/** Gives a filter module its types; it does nothing else. */
export function defineHttpFilter<Config = JsonObject, RouteConfig = JsonObject>(
  module: HttpFilterModule<Config, RouteConfig>,
): HttpFilterModule<Config, RouteConfig> {
  return module;
}

export interface ClusterRequest {
  readonly method?: string;
  /** With query; "/" unless given. */
  readonly path?: string;
  /** The Host; the cluster's name unless given. */
  readonly authority?: string;
  readonly headers?: Readonly<Record<string, string>>;
  readonly body?: Buffer | string;
  /** Milliseconds; 5000 unless given. */
  readonly timeoutMs?: number;
  /** Bytes of the answer's body; 1 MiB unless given. */
  readonly maxResponseBytes?: number;
}

export interface ClusterResponse {
  readonly status: number;
  readonly headers: ResponseHeaders;
  readonly body: Buffer;
}

/** Asks a cluster of the configuration: with its balancing, TLS, limits and statistics. Rejects where there was no answer. */
export function callCluster(callbacks: StreamFilterCallbacks, cluster: string, request: ClusterRequest = {}): Promise<ClusterResponse> {
  const found = callbacks.clusters.get(cluster);
  if (found === undefined) return Promise.reject(new Error(`there is no cluster '${cluster}'`));
  const { method = "GET", path = "/", authority = cluster, body, timeoutMs = 5000, maxResponseBytes } = request;
  const list = Object.entries(request.headers ?? {}).flatMap(([name, value]) => [name.toLowerCase(), value]);
  const headers = new RequestHeaders(method, path, authority, "http", list);
  const content = typeof body === "string" ? Buffer.from(body) : body;
  return new Promise((resolve, reject) => {
    found.httpClient.send(
      { headers, ...(content !== undefined && { body: content }) },
      { timeoutMs, ...(maxResponseBytes !== undefined && { maxResponseBytes }), parentStreamInfo: callbacks.streamInfo },
      (result) => {
        if (result.ok) resolve({ status: result.headers.status, headers: result.headers, body: result.body });
        else reject(new Error(`cluster '${cluster}' has not answered: ${result.reason}`));
      },
    );
  });
}
