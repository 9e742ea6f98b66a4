/**
 * Calls of our own to gRPC services: one question and one answer, or streams of messages both ways. They go through a cluster with its balancing, circuit
 * breakers, health and statistics. Messages are octets: who calls encodes and decodes them.
 *
 *   const client = new GrpcClient(context.clusters, compileGrpcService(message.grpcService, context), clock);
 *   client.unary("envoy.service.auth.v3.Authorization", "Check", request, {}, (answer) => ...);
 *   const stream = client.stream("envoy.service.accesslog.v3.AccessLogService", "StreamAccessLogs", {}, { onMessage, onClose });
 */
import type { ResponseDecoder, StreamResetReason } from "../http/codec.ts";
import { RequestHeaders, type ResponseHeaders, type Trailers } from "../http/header-map.ts";
import { StreamInfo } from "../http/stream-info.ts";
import { type Clock, systemClock } from "../net/timer-wheel.ts";
import { toGrpcTimeout } from "../router/filter/grpc.ts";
import { resetMeaning } from "../router/filter/reset-reason.ts";
import type { AsyncStream, ThreadLocalClusters } from "../upstream/upstream.ts";
import { frameMessage, MessageReader } from "./frames.ts";
import type { GrpcServiceSettings } from "./service.ts";
import { type GrpcStatus, grpcCode, statusOf } from "./status.ts";

export interface GrpcCallOptions {
  /** Milliseconds; instead of the service's own timeout. 0: none. */
  readonly timeoutMs?: number;
  /** The request of a client that the call is made for: formatters in initial_metadata read it. */
  readonly parentStreamInfo?: StreamInfo;
  /** Set last, after initial_metadata. */
  readonly modifyHeaders?: (headers: RequestHeaders) => void;
}

export interface GrpcStreamEvents {
  /** The head of the answer. */
  onInitialMetadata?(headers: ResponseHeaders): void;
  /** One message, whole; valid during the call. */
  onMessage(message: Buffer): void;
  /** The call is over; nothing follows. Not told after `reset`. `trailers`: where the status came in some. */
  onClose(status: GrpcStatus, trailers: Trailers | undefined): void;
}

export interface GrpcStream {
  send(message: Uint8Array): void;
  /** No further message comes from us. */
  end(): void;
  /** Ends the call without a word to `onClose`. */
  reset(): void;
  /** The peer does not take what we send as fast as we send it: who can wait, or drop, should. */
  readonly isAboveWriteBufferHighWatermark: boolean;
}

export type GrpcAnswer =
  | { readonly ok: true; readonly message: Buffer; readonly headers: ResponseHeaders }
  | { readonly ok: false; readonly status: GrpcStatus };

export class GrpcClient {
  readonly #clusters: ThreadLocalClusters;
  readonly #settings: GrpcServiceSettings;
  readonly #clock: Clock;

  constructor(clusters: ThreadLocalClusters, settings: GrpcServiceSettings, clock: Clock = systemClock) {
    this.#clusters = clusters;
    this.#settings = settings;
    this.#clock = clock;
  }

  /** Calls back later, never before it returns. */
  unary(service: string, method: string, request: Uint8Array, options: GrpcCallOptions, done: (answer: GrpcAnswer) => void): { cancel(): void } {
    let message: Buffer | undefined;
    let headers: ResponseHeaders | undefined;
    let settled = false;
    const stream = this.stream(service, method, options, {
      onInitialMetadata(head) {
        headers = head;
      },
      onMessage(bytes) {
        message ??= Buffer.from(bytes);
      },
      onClose(status) {
        settled = true;
        if (status.code !== grpcCode.ok) done({ ok: false, status });
        else if (message === undefined || headers === undefined) done({ ok: false, status: { code: grpcCode.internal, message: "no answer" } });
        else done({ ok: true, message, headers });
      },
    });
    stream.send(request);
    stream.end();
    return {
      cancel() {
        if (!settled) stream.reset();
      },
    };
  }

  /** Messages may be sent at once; those that find no connection yet wait, up to 1 MiB. */
  stream(service: string, method: string, options: GrpcCallOptions, events: GrpcStreamEvents): GrpcStream {
    const { cluster: name, authority, initialMetadata, maxReceiveBytes, skipEnvoyHeaders } = this.#settings;
    const timeoutMs = options.timeoutMs ?? this.#settings.timeoutMs;
    const cluster = this.#clusters.get(name);
    const call = new Call(events, maxReceiveBytes);
    if (cluster === undefined) {
      queueMicrotask(() => call.finish({ code: grpcCode.unavailable, message: "Cluster not available" }));
      return call;
    }
    const headers = new RequestHeaders("POST", `/${service}/${method}`, authority === "" ? name : authority, "http");
    if (timeoutMs > 0) headers.add("grpc-timeout", toGrpcTimeout(timeoutMs));
    headers.add("te", "trailers");
    headers.add("content-type", "application/grpc");
    const parent = options.parentStreamInfo;
    initialMetadata?.evaluate(headers, parent ?? new StreamInfo(this.#clock.now(), this.#clock.wall()), headers, undefined);
    options.modifyHeaders?.(headers);
    const stream = cluster.httpClient.start(
      { timeoutMs, sendXff: !skipEnvoyHeaders, sendInternal: !skipEnvoyHeaders, ...(parent !== undefined && { parentStreamInfo: parent }) },
      call,
    );
    call.begin(stream, headers);
    return call;
  }
}

class Call implements GrpcStream, ResponseDecoder {
  readonly #events: GrpcStreamEvents;
  readonly #reader: MessageReader;
  #stream: AsyncStream | undefined = undefined;
  #ended = false;
  #finished = false;
  #responded = false;

  constructor(events: GrpcStreamEvents, maxReceiveBytes: number) {
    this.#events = events;
    this.#reader = new MessageReader(maxReceiveBytes);
  }

  begin(stream: AsyncStream, headers: RequestHeaders): void {
    this.#stream = stream;
    stream.sendHeaders(headers, false);
  }

  // ---- GrpcStream --------------------------------------------------------------------------------------------------------

  get isAboveWriteBufferHighWatermark(): boolean {
    return this.#stream?.isAboveWriteBufferHighWatermark ?? false;
  }

  send(message: Uint8Array): void {
    if (!this.#finished && !this.#ended) this.#stream?.sendData(frameMessage(message), false);
  }

  end(): void {
    if (this.#finished || this.#ended) return;
    this.#ended = true;
    this.#stream?.sendData(nothing, true);
  }

  reset(): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#stream?.reset();
  }

  finish(status: GrpcStatus, trailers?: Trailers): void {
    if (this.#finished) return;
    this.#finished = true;
    this.#events.onClose(status, trailers);
  }

  /** The answer is none that gRPC knows. */
  #fail(status: GrpcStatus): void {
    if (this.#finished) return;
    this.#stream?.reset();
    this.finish(status);
  }

  // ---- ResponseDecoder ---------------------------------------------------------------------------------------------------

  decode1xxHeaders(): void {}

  decodeHeaders(headers: ResponseHeaders, endStream: boolean): void {
    if (this.#finished) return;
    this.#responded = true;
    if (headers.status !== 200) {
      // What is no answer of the service's own, from a proxy on the way for example.
      const status = statusOf(headers);
      this.#fail(status !== undefined && endStream ? status : { code: codeOfHttp(headers.status), message: "" });
      return;
    }
    if (endStream) {
      this.finish(statusOf(headers) ?? { code: grpcCode.unknown, message: "Missing grpc-status in trailers-only response" });
      return;
    }
    this.#events.onInitialMetadata?.(headers);
  }

  decodeData(chunk: Buffer, endStream: boolean): void {
    if (this.#finished) return;
    const problem = this.#reader.feed(chunk, (message) => {
      this.#events.onMessage(message);
      return !this.#finished;
    });
    if (problem === "too large") this.#fail({ code: grpcCode.resourceExhausted, message: "received message is over max_receive_message_length" });
    else if (problem === "compressed") this.#fail({ code: grpcCode.internal, message: "received message is compressed" });
    // A stream that ends without trailers has no status.
    else if (endStream) this.finish({ code: grpcCode.unknown, message: "" });
  }

  decodeTrailers(trailers: Trailers): void {
    if (this.#finished) return;
    this.finish(statusOf(trailers) ?? { code: grpcCode.unknown, message: "" }, trailers);
  }

  onResetStream(reason: StreamResetReason, details: string): void {
    if (details === "timeout") this.finish({ code: grpcCode.deadlineExceeded, message: "upstream request timeout" });
    else if (details === "no_healthy_upstream") this.finish({ code: grpcCode.unavailable, message: "no healthy upstream" });
    else if (this.#responded) this.finish({ code: grpcCode.internal, message: "" });
    else {
      const failure = details === "" ? "" : `, transport failure reason: ${details}`;
      this.finish({
        code: grpcCode.unavailable,
        message: `upstream connect error or disconnect/reset before headers. reset reason: ${resetMeaning(reason).text}${failure}`,
      });
    }
  }
}

/** gRPC's mapping of HTTP codes: https://github.com/grpc/grpc/blob/master/doc/http-grpc-status-mapping.md */
function codeOfHttp(status: number): number {
  switch (status) {
    case 400:
      return grpcCode.internal;
    case 401:
      return grpcCode.unauthenticated;
    case 403:
      return grpcCode.permissionDenied;
    case 404:
      return grpcCode.unimplemented;
    case 429:
    case 502:
    case 503:
    case 504:
      return grpcCode.unavailable;
    default:
      return grpcCode.unknown;
  }
}

const nothing = Buffer.alloc(0);
