/** Requests that the proxy makes itself, through a cluster's pools: whole exchanges, and streams whose body is written in pieces. */
import type { RequestEncoder, ResponseDecoder, StreamCallbacks, StreamResetReason } from "../http/codec.ts";
import { type RequestHeaders, ResponseHeaders, type Trailers } from "../http/header-map.ts";
import { machineAddress } from "../net/machine-address.ts";
import type { Timer } from "../net/timer-wheel.ts";
import { clusterCounters } from "../router/filter/code-stats.ts";
import { resetMeaning } from "../router/filter/reset-reason.ts";
import type { ClusterCore } from "./cluster-core.ts";
import type { AsyncHttpClient, AsyncRequestOptions, AsyncResult, AsyncStream, Host, LoadBalancerContext, PoolCallbacks, PoolRequest } from "./upstream.ts";

/** Answers larger than this are given up unless the caller says otherwise. */
const defaultMaxResponseBytes = 1024 * 1024;
/** Body bytes of a stream that wait for a connection. */
const maxWaitingBytes = 1024 * 1024;

export class ClusterHttpClient implements AsyncHttpClient {
  readonly #cluster: ClusterCore;
  constructor(cluster: ClusterCore) {
    this.#cluster = cluster;
  }

  send(request: { headers: RequestHeaders; body?: Buffer }, options: AsyncRequestOptions, done: (result: AsyncResult) => void): { cancel(): void } {
    const exchange = new Exchange(options, done);
    const stream = this.start(options, exchange);
    exchange.stream = stream;
    const { body } = request;
    const withBody = body !== undefined && body.length > 0;
    if (withBody) request.headers.set("content-length", String(body.length));
    stream.sendHeaders(request.headers, !withBody);
    if (withBody) stream.sendData(body, true);
    return exchange;
  }

  start(options: AsyncRequestOptions, decoder: ResponseDecoder & Pick<StreamCallbacks, "onResetStream">): AsyncStream {
    return new ClientStream(this.#cluster, options, decoder);
  }
}

/** Collects an answer. */
class Exchange implements ResponseDecoder {
  stream: AsyncStream | undefined = undefined;
  readonly #done: (result: AsyncResult) => void;
  readonly #max: number;
  readonly #discard: boolean;
  #headers: ResponseHeaders = new ResponseHeaders(0);
  #chunks: Buffer[] = [];
  #length = 0;
  #settled = false;

  constructor(options: AsyncRequestOptions, done: (result: AsyncResult) => void) {
    this.#done = done;
    this.#max = options.maxResponseBytes ?? defaultMaxResponseBytes;
    this.#discard = options.discardResponse === true;
  }

  cancel(): void {
    if (this.#settled) return;
    this.#settled = true;
    this.stream?.reset();
  }
  decode1xxHeaders(): void {}
  decodeHeaders(headers: ResponseHeaders, endStream: boolean): void {
    this.#headers = headers;
    if (endStream) this.#finish(undefined);
  }
  decodeData(chunk: Buffer, endStream: boolean): void {
    if (this.#settled) return;
    if (!this.#discard && chunk.length > 0) {
      this.#length += chunk.length;
      if (this.#length > this.#max) {
        this.#settled = true;
        this.stream?.reset();
        this.#done({ ok: false, reason: "response_too_large" });
        return;
      }
      this.#chunks.push(Buffer.from(chunk));
    }
    if (endStream) this.#finish(undefined);
  }
  decodeTrailers(trailers: Trailers): void {
    this.#finish(trailers);
  }
  onResetStream(reason: StreamResetReason, details: string): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#done({ ok: false, reason: details === noHealthyUpstream ? "no_healthy_upstream" : details === timedOut ? "timeout" : "reset", resetReason: reason });
  }
  #finish(trailers: Trailers | undefined): void {
    if (this.#settled) return;
    this.#settled = true;
    this.#done({ ok: true, headers: this.#headers, body: Buffer.concat(this.#chunks), trailers });
  }
}

const noHealthyUpstream = "no_healthy_upstream";
const timedOut = "timeout";

class ClientStream implements AsyncStream, PoolCallbacks, ResponseDecoder, StreamCallbacks {
  readonly #cluster: ClusterCore;
  readonly #options: AsyncRequestOptions;
  readonly #decoder: ResponseDecoder & Pick<StreamCallbacks, "onResetStream">;
  #encoder: RequestEncoder | undefined = undefined;
  #waiting: PoolRequest | undefined = undefined;
  #headers: RequestHeaders | undefined = undefined;
  #headersEnd = false;
  #chunks: Buffer[] = [];
  #waitingBytes = 0;
  #ended = false;
  #trailers: Trailers | undefined = undefined;
  #timer: Timer | undefined = undefined;
  #finished = false;
  #host: Host | undefined = undefined;
  #endedMs = 0;
  #responseStarted = false;
  #above = 0;

  constructor(cluster: ClusterCore, options: AsyncRequestOptions, decoder: ResponseDecoder & Pick<StreamCallbacks, "onResetStream">) {
    this.#cluster = cluster;
    this.#options = options;
    this.#decoder = decoder;
  }

  sendHeaders(headers: RequestHeaders, endStream: boolean): void {
    this.#headers = headers;
    this.#headersEnd = endStream;
    if (endStream) this.#onRequestEnd();
    this.#cluster.store.counter("http.async-client.rq_total").inc();
    // What the proxy asks for itself comes from inside, whoever the cause was.
    if (this.#options.sendInternal !== false) headers.set("x-envoy-internal", "true");
    const forwardedFor = headers.get("x-forwarded-for");
    if (this.#options.sendXff !== false)
      headers.set("x-forwarded-for", forwardedFor === undefined || forwardedFor === "" ? machineAddress() : `${forwardedFor},${machineAddress()}`);
    const context: LoadBalancerContext = {
      hash: undefined,
      metadataMatch: undefined,
      requestHeaders: headers,
      downstreamConnection: undefined,
      streamInfo: this.#options.parentStreamInfo,
      shouldSelectAnotherHost: () => false,
      hostSelectionMaxAttempts: 0,
      overrideHost: undefined,
      triedPriorities: [],
    };
    const timeoutMs = this.#options.timeoutMs ?? 0;
    if (timeoutMs > 0) {
      this.#timer = this.#cluster.timers.createTimer(() => {
        this.#abort();
        this.#fail("local_reset", timedOut);
      });
      this.#timer.enable(timeoutMs);
    }
    const pool = this.#cluster.httpPool("default", "HTTP/1.1", context);
    if (pool === undefined) {
      // Told later: the caller has not got its handle yet.
      queueMicrotask(() => this.#fail("local_connection_failure", noHealthyUpstream));
      return;
    }
    const waiting = pool.newStream(this, this, { canSendEarlyData: false, upgrade: undefined });
    if (this.#encoder === undefined && !this.#finished) this.#waiting = waiting;
  }

  sendData(data: Buffer, endStream: boolean): void {
    if (this.#finished || this.#ended) return;
    if (endStream) this.#onRequestEnd();
    if (this.#encoder !== undefined) {
      this.#encoder.encodeData(data, endStream);
      return;
    }
    this.#waitingBytes += data.length;
    if (this.#waitingBytes > maxWaitingBytes) {
      this.#abort();
      this.#fail("overflow", "request body over the limit");
      return;
    }
    this.#chunks.push(Buffer.from(data));
  }

  sendTrailers(trailers: Trailers): void {
    if (this.#finished || this.#ended) return;
    this.#onRequestEnd();
    if (this.#encoder !== undefined) this.#encoder.encodeTrailers(trailers);
    else this.#trailers = trailers;
  }

  reset(): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#abort();
  }

  onPoolReady(encoder: RequestEncoder, host: Host): void {
    this.#waiting = undefined;
    this.#host = host;
    this.#encoder = encoder;
    host.monitor?.putResult("local_origin_connect_success", undefined);
    encoder.stream.addCallbacks(this);
    const chunks = this.#chunks;
    this.#chunks = [];
    encoder.encodeHeaders(this.#headers as RequestHeaders, this.#headersEnd);
    chunks.forEach((chunk, index) => {
      encoder.encodeData(chunk, this.#ended && this.#trailers === undefined && index === chunks.length - 1);
    });
    if (this.#trailers !== undefined) encoder.encodeTrailers(this.#trailers);
  }

  onPoolFailure(reason: "overflow" | "local_connection_failure" | "remote_connection_failure" | "timeout", details: string, host: Host | undefined): void {
    this.#waiting = undefined;
    if (reason !== "overflow") host?.monitor?.putResult("local_origin_connect_failed", undefined);
    const resetReason: StreamResetReason = reason === "timeout" ? "connection_timeout" : reason;
    queueMicrotask(() => this.#fail(resetReason, details));
  }

  onResetStream(reason: StreamResetReason, details: string): void {
    if (!this.#finished) this.#host?.monitor?.putResult("local_origin_connect_failed", undefined);
    this.#fail(reason, details);
  }
  onAboveWriteBufferHighWatermark(): void {
    this.#above++;
  }
  onBelowWriteBufferLowWatermark(): void {
    this.#above--;
  }
  get isAboveWriteBufferHighWatermark(): boolean {
    return this.#above > 0;
  }

  decode1xxHeaders(headers: ResponseHeaders): void {
    this.#decoder.decode1xxHeaders(headers);
  }
  decodeHeaders(headers: ResponseHeaders, endStream: boolean): void {
    if (this.#finished) return;
    this.#responseStarted = true;
    this.#charge(headers.status);
    this.#host?.monitor?.putResponse(headers, headers.status);
    if (endStream) this.#onResponseEnd();
    this.#decoder.decodeHeaders(headers, endStream);
  }
  decodeData(chunk: Buffer, endStream: boolean): void {
    if (this.#finished) return;
    if (endStream) this.#onResponseEnd();
    this.#decoder.decodeData(chunk, endStream);
  }
  decodeTrailers(trailers: Trailers): void {
    if (this.#finished) return;
    this.#onResponseEnd();
    this.#decoder.decodeTrailers(trailers);
  }

  #onRequestEnd(): void {
    this.#ended = true;
    this.#endedMs = this.#cluster.now();
  }

  /** Counts an answer as the router counts those of clients. */
  #charge(status: number): void {
    const counters = clusterCounters(this.#cluster);
    counters.codes.charge(status);
    counters.internal.charge(status);
    if (status >= 500) this.#host?.stats.rq_error.inc();
    else this.#host?.stats.rq_success.inc();
  }

  #onResponseEnd(): void {
    this.#complete();
    if (this.#ended) {
      const counters = clusterCounters(this.#cluster);
      const ms = Math.floor(this.#cluster.now() - this.#endedMs);
      counters.codes.chargeTime(ms);
      counters.internal.chargeTime(ms);
      return;
    }
    // Nobody reads the rest of the request.
    const encoder = this.#encoder;
    encoder?.stream.removeCallbacks(this);
    encoder?.stream.resetStream("local_reset");
  }

  #complete(): void {
    this.#finished = true;
    this.#timer?.disable();
  }
  #abort(): void {
    this.#timer?.disable();
    this.#waiting?.cancel();
    this.#waiting = undefined;
    this.#encoder?.stream.removeCallbacks(this);
    this.#encoder?.stream.resetStream("local_reset");
  }
  #fail(reason: StreamResetReason, details: string): void {
    if (this.#finished) return;
    this.#complete();
    if (!this.#responseStarted) {
      const timeout = details === timedOut;
      if (timeout) {
        clusterCounters(this.#cluster).timeout.inc();
        this.#host?.stats.rq_timeout.inc();
        this.#host?.monitor?.putResult("local_origin_timeout", 504);
      }
      this.#charge(timeout ? 504 : resetMeaning(reason).status);
    }
    this.#decoder.onResetStream(reason, details);
  }
}
