/** track_cluster_stats.request_response_sizes: a pool that measures what passes; other clusters pay nothing for it. */
import type { RequestEncoder, ResponseDecoder, Stream, StreamCallbacks } from "../http/codec.ts";
import type { RequestHeaders, ResponseHeaders, Trailers } from "../http/header-map.ts";
import type { Histogram, StatsScope } from "../stats/stats.ts";
import type { Host, HttpPool, PoolCallbacks, PoolRequest } from "./upstream.ts";

/** Bytes and numbers of fields, pseudo-fields included. */
export interface SizeStats {
  readonly upstream_rq_headers_size: Histogram;
  readonly upstream_rq_headers_count: Histogram;
  readonly upstream_rq_body_size: Histogram;
  readonly upstream_rs_headers_size: Histogram;
  readonly upstream_rs_headers_count: Histogram;
  readonly upstream_rs_body_size: Histogram;
}

export function sizeStats(scope: StatsScope): SizeStats {
  return {
    upstream_rq_headers_size: scope.histogram("upstream_rq_headers_size", "bytes"),
    upstream_rq_headers_count: scope.histogram("upstream_rq_headers_count", "none"),
    upstream_rq_body_size: scope.histogram("upstream_rq_body_size", "bytes"),
    upstream_rs_headers_size: scope.histogram("upstream_rs_headers_size", "bytes"),
    upstream_rs_headers_count: scope.histogram("upstream_rs_headers_count", "none"),
    upstream_rs_body_size: scope.histogram("upstream_rs_body_size", "bytes"),
  };
}

export class MeasuredPool implements HttpPool {
  readonly #pool: HttpPool;
  readonly #stats: SizeStats;
  readonly #headers: RequestHeaders | undefined;

  /** For one request: `headers`. */
  constructor(pool: HttpPool, stats: SizeStats, headers: RequestHeaders | undefined) {
    this.#pool = pool;
    this.#stats = stats;
    this.#headers = headers;
  }

  get host(): Host {
    return this.#pool.host;
  }

  newStream(...[decoder, callbacks, options]: Parameters<HttpPool["newStream"]>): PoolRequest | undefined {
    const exchange = new MeasuredExchange(decoder, callbacks, this.#stats, this.#headers);
    return this.#pool.newStream(exchange, exchange, options);
  }
}

/** Stands between the router and the pool in both directions. */
class MeasuredExchange implements ResponseDecoder, PoolCallbacks, RequestEncoder, StreamCallbacks {
  readonly #decoder: ResponseDecoder;
  readonly #callbacks: PoolCallbacks;
  readonly #stats: SizeStats;
  #requestHeaders: RequestHeaders | undefined;
  #encoder!: RequestEncoder;
  #requestBytes = 0;
  #responseBytes = 0;
  #responseHeaders: ResponseHeaders | undefined = undefined;
  #recorded = false;

  constructor(decoder: ResponseDecoder, callbacks: PoolCallbacks, stats: SizeStats, headers: RequestHeaders | undefined) {
    this.#requestHeaders = headers;
    this.#decoder = decoder;
    this.#callbacks = callbacks;
    this.#stats = stats;
  }

  onPoolReady(...[encoder, host, upstream]: Parameters<PoolCallbacks["onPoolReady"]>): void {
    this.#encoder = encoder;
    encoder.stream.addCallbacks(this);
    this.#callbacks.onPoolReady(this, host, upstream);
  }
  onPoolFailure(...failure: Parameters<PoolCallbacks["onPoolFailure"]>): void {
    this.#record();
    this.#callbacks.onPoolFailure(...failure);
  }

  get stream(): Stream {
    return this.#encoder.stream;
  }
  encodeHeaders(headers: RequestHeaders, endStream: boolean): void {
    this.#requestHeaders = headers;
    this.#encoder.encodeHeaders(headers, endStream);
  }
  encodeData(chunk: Buffer, endStream: boolean): void {
    this.#requestBytes += chunk.length;
    this.#encoder.encodeData(chunk, endStream);
  }
  encodeTrailers(trailers: Trailers): void {
    this.#encoder.encodeTrailers(trailers);
  }
  enableTcpTunneling(): void {
    this.#encoder.enableTcpTunneling();
  }

  decode1xxHeaders(headers: ResponseHeaders): void {
    this.#decoder.decode1xxHeaders(headers);
  }
  decodeHeaders(headers: ResponseHeaders, endStream: boolean): void {
    // Measured before anyone downstream changes them.
    this.#responseHeaders = headers;
    this.#stats.upstream_rs_headers_size.record(headers.byteSize());
    this.#stats.upstream_rs_headers_count.record(headers.size + 1);
    if (endStream) this.#record();
    this.#decoder.decodeHeaders(headers, endStream);
  }
  decodeData(chunk: Buffer, endStream: boolean): void {
    this.#responseBytes += chunk.length;
    if (endStream) this.#record();
    this.#decoder.decodeData(chunk, endStream);
  }
  decodeTrailers(trailers: Trailers): void {
    this.#record();
    this.#decoder.decodeTrailers(trailers);
  }

  onResetStream(): void {
    this.#record();
  }
  onAboveWriteBufferHighWatermark(): void {}
  onBelowWriteBufferLowWatermark(): void {}

  #record(): void {
    if (this.#recorded) return;
    this.#recorded = true;
    const headers = this.#requestHeaders;
    if (headers !== undefined) {
      this.#stats.upstream_rq_headers_size.record(headers.byteSize());
      this.#stats.upstream_rq_headers_count.record(headers.size + pseudoFields(headers));
    }
    this.#stats.upstream_rq_body_size.record(this.#requestBytes);
    if (this.#responseHeaders !== undefined) this.#stats.upstream_rs_body_size.record(this.#responseBytes);
  }
}

function pseudoFields(headers: RequestHeaders): number {
  return 1 + (headers.path === undefined ? 0 : 1) + (headers.authority === undefined ? 0 : 1) + (headers.scheme === undefined ? 0 : 1);
}
