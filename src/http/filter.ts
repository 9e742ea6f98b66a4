/**
 * The HTTP filter interface: what a user's TypeScript filter and every built-in filter implement. Envoy's model.
 *
 * A filter object lives for one stream. All methods are optional; an absent one continues. Methods are called on the worker's
 * event loop and must not block. `Buffer`s handed to decodeData/encodeData are valid only during the call: copy to keep.
 */

import type { Connection } from "../net/connection.ts";
import type { Timer, TimerWheel } from "../net/timer-wheel.ts";
import type { Route } from "../router/route.ts";
import type { ClusterInfo, ThreadLocalClusters } from "../upstream/upstream.ts";
import type { StreamResetReason } from "./codec.ts";
import type { RequestHeaders, ResponseHeaders, Trailers } from "./header-map.ts";
import type { StreamInfo } from "./stream-info.ts";

/**
 * continue: go on to the next filter.
 * stop: hold headers; data that arrives is still offered to this filter (which may buffer by returning `stop_and_buffer`).
 * stop_all: hold headers and buffer all data without calling this filter again until continueDecoding/continueEncoding
 *   (`stop_all_and_buffer` answers 413/500 over the limit, `stop_all_and_watermark` pauses the peer instead).
 */
export type FilterHeadersStatus = "continue" | "stop" | "stop_all_and_buffer" | "stop_all_and_watermark";
/** stop_and_buffer: keep this chunk (413/500 over the limit); stop_and_watermark: keep and pause the peer over the limit; stop_no_buffer: drop, the filter has taken it. */
export type FilterDataStatus = "continue" | "stop_and_buffer" | "stop_and_watermark" | "stop_no_buffer";
export type FilterTrailersStatus = "continue" | "stop";

export interface LocalReply {
  status: number;
  /** "" sends none. Sent as text/plain unless local_reply_config says otherwise. */
  body?: string;
  /** Response code details, for %RESPONSE_CODE_DETAILS%. */
  details: string;
  /** Called on the reply's head before it is sent. */
  modifyHeaders?: (headers: ResponseHeaders) => void;
  /** grpc-status for gRPC requests when it should not follow from `status`. */
  grpcStatus?: number;
  /** A non-text body with its type. */
  contentType?: string;
}

/** What both directions offer a filter. */
export interface StreamFilterCallbacks {
  readonly streamInfo: StreamInfo;
  readonly connection: Connection | undefined;
  /** The route chosen for this request (resolved on first use, cached), or undefined when none matches. */
  route(): Route | undefined;
  /** Forget the cached route: the next `route()` matches again with the headers as they are now. */
  clearRouteCache(): void;
  /** This filter's settings on the most specific level that has some (route, weighted cluster, virtual host), as its `compileRoute` made them. */
  routeConfig<T>(): T | undefined;
  /** All levels that have settings, least specific first. */
  routeConfigs<T>(): T[];
  readonly timers: TimerWheel;
  createTimer(callback: () => void): Timer;
  /** The clusters of this worker, to send a request of the filter's own (`httpClient`). */
  readonly clusters: ThreadLocalClusters;
  readonly requestHeaders: RequestHeaders | undefined;
  readonly responseHeaders: ResponseHeaders | undefined;
  readonly downstreamProtocol: string | undefined;
  /** Resets the downstream stream. */
  resetStream(reason?: StreamResetReason): void;
}

export interface DecoderFilterCallbacks extends StreamFilterCallbacks {
  /** Goes on after a stop, from the filter behind this one, with what was held and buffered. */
  continueDecoding(): void;
  /** Passes only the head on, with more to come: this filter hands the rest on itself (`injectDecodedData`), and keeps the trailers until `continueDecoding`. */
  continueDecodingHead(): void;
  /** Answers the request now. Filters before this one (and itself) see the reply on the encode path. */
  sendLocalReply(reply: LocalReply): void;
  /** What this filter has had buffered, as one buffer; undefined when nothing was. */
  decodingBuffer(): Buffer | undefined;
  /** Takes the buffered body away: this filter hands it on itself. */
  takeDecodingBuffer(): Buffer | undefined;
  /** Replaces the buffered body (before continuing). */
  setDecodingBuffer(data: Buffer): void;
  /** Puts data behind what is buffered. Over the limit: 413, or with `streaming` the peer is paused. From decodeTrailers it is handed on at once. */
  addDecodedData(data: Buffer, streaming: boolean): void;
  /** Hands data on to the filter behind this one, at once: for filters that took data (`stop_no_buffer`) and give it back later, in pieces. */
  injectDecodedData(data: Buffer, endStream: boolean): void;
  /** During decodeData: what goes on (or is kept) in place of the chunk that was given. */
  replaceDecodedChunk(data: Buffer): void;
  addDecodedTrailers(): Trailers;
  /** Changes the limit of what may be buffered for this stream, in bytes (Envoy setDecoderBufferLimit). */
  setDecoderBufferLimit(bytes: number): void;
  readonly decoderBufferLimit: number;
  /** The response begins here (router, or a filter that makes its own answer in pieces): head, body, trailers. */
  encode1xxHeaders(headers: ResponseHeaders): void;
  encodeHeaders(headers: ResponseHeaders, endStream: boolean, details: string): void;
  encodeData(data: Buffer, endStream: boolean): void;
  encodeTrailers(trailers: Trailers): void;
  /** Watermarks: the router says the upstream is slow (pause downstream), and hears that the downstream is slow. */
  onDecoderFilterAboveWriteBufferHighWatermark(): void;
  onDecoderFilterBelowWriteBufferLowWatermark(): void;
  addDownstreamWatermarkCallbacks(callbacks: DownstreamWatermarkCallbacks): void;
  removeDownstreamWatermarkCallbacks(callbacks: DownstreamWatermarkCallbacks): void;
  /** Throws this stream's request back through the whole chain with changed headers (internal redirect). False: not possible. */
  recreateStream(): boolean;
  /** True while more of the request body can still come. */
  readonly downstreamEnded: boolean;
  /** Upgrade / CONNECT accepted: the stream is a tunnel from now on (timeouts of the HTTP exchange end). */
  upgradeAccepted(): void;
}

export interface DownstreamWatermarkCallbacks {
  onAboveWriteBufferHighWatermark(): void;
  onBelowWriteBufferLowWatermark(): void;
}

export interface EncoderFilterCallbacks extends StreamFilterCallbacks {
  continueEncoding(): void;
  /** As `continueDecodingHead`. */
  continueEncodingHead(): void;
  takeEncodingBuffer(): Buffer | undefined;
  encodingBuffer(): Buffer | undefined;
  setEncodingBuffer(data: Buffer): void;
  addEncodedData(data: Buffer, streaming: boolean): void;
  injectEncodedData(data: Buffer, endStream: boolean): void;
  /** During encodeData: what goes on (or is kept) in place of the chunk that was given. */
  replaceEncodedChunk(data: Buffer): void;
  addEncodedTrailers(): Trailers;
  setEncoderBufferLimit(bytes: number): void;
  readonly encoderBufferLimit: number;
  sendLocalReply(reply: LocalReply): void;
}

export interface HttpFilter {
  /** Called once, before anything else. */
  setDecoderCallbacks?(callbacks: DecoderFilterCallbacks): void;
  setEncoderCallbacks?(callbacks: EncoderFilterCallbacks): void;
  decodeHeaders?(headers: RequestHeaders, endStream: boolean): FilterHeadersStatus;
  decodeData?(data: Buffer, endStream: boolean): FilterDataStatus;
  decodeTrailers?(trailers: Trailers): FilterTrailersStatus;
  encode1xxHeaders?(headers: ResponseHeaders): FilterHeadersStatus;
  encodeHeaders?(headers: ResponseHeaders, endStream: boolean): FilterHeadersStatus;
  encodeData?(data: Buffer, endStream: boolean): FilterDataStatus;
  encodeTrailers?(trailers: Trailers): FilterTrailersStatus;
  /** A local reply is about to be sent (by anyone). */
  onLocalReply?(status: number, details: string): void;
  /** The exchange is over, before access logs are written. */
  onStreamComplete?(): void;
  /** Last call: release everything. */
  onDestroy?(): void;
}

/** Makes the filter of one stream. Compiled once per configuration, called once per stream: keep it cheap. */
export type HttpFilterFactory = () => HttpFilter;

export type { ClusterInfo };
