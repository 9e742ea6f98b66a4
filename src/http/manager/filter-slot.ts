/** One filter in the chain of one stream, and what it may ask of the stream: Envoy's ActiveStreamDecoderFilter and ActiveStreamEncoderFilter in one object. */
import type { Connection } from "../../net/connection.ts";
import type { Timer, TimerWheel } from "../../net/timer-wheel.ts";
import type { Route } from "../../router/route.ts";
import type { ThreadLocalClusters } from "../../upstream/upstream.ts";
import type { StreamResetReason } from "../codec.ts";
import type { DecoderFilterCallbacks, DownstreamWatermarkCallbacks, EncoderFilterCallbacks, HttpFilter, LocalReply } from "../filter.ts";
import type { RequestHeaders, ResponseHeaders, Trailers } from "../header-map.ts";
import type { StreamInfo } from "../stream-info.ts";
import type { FilterManager } from "./filter-manager.ts";

/** Whether a filter lets the stream pass: all of it, or stopped at headers or data, or stopped altogether with data kept. */
export type Iteration = "continue" | "stopped" | "stopped_all_buffer" | "stopped_all_watermark";

export class FilterSlot implements DecoderFilterCallbacks, EncoderFilterCallbacks {
  readonly filter: HttpFilter;
  readonly name: string;
  readonly index: number;
  readonly manager: FilterManager;
  decode: Iteration = "continue";
  decodeHeadersPassed = false;
  /** This filter has been told the end of the request. */
  decodeEnded = false;
  decodeCall: "none" | "headers" | "data" | "trailers" = "none";
  encode: Iteration = "continue";
  encodeHeadersPassed = false;
  encodeEnded = false;
  encodeCall: "none" | "headers" | "data" | "trailers" = "none";
  /** What the filter puts in the place of the chunk it is looking at. */
  decodedChunk: Buffer | undefined = undefined;
  encodedChunk: Buffer | undefined = undefined;

  constructor(filter: HttpFilter, name: string, index: number, manager: FilterManager) {
    this.filter = filter;
    this.name = name;
    this.index = index;
    this.manager = manager;
  }

  // ---- both directions -----------------------------------------------------------------------------------------------

  get streamInfo(): StreamInfo {
    return this.manager.info;
  }
  get connection(): Connection | undefined {
    return this.manager.connection;
  }
  get timers(): TimerWheel {
    return this.manager.timers;
  }
  get clusters(): ThreadLocalClusters {
    return this.manager.clusters;
  }
  get requestHeaders(): RequestHeaders | undefined {
    return this.manager.requestHeaders;
  }
  get responseHeaders(): ResponseHeaders | undefined {
    return this.manager.responseHeaders;
  }
  get downstreamProtocol(): string | undefined {
    return this.manager.info.protocol;
  }

  route(): Route | undefined {
    return this.manager.route();
  }
  clearRouteCache(): void {
    this.manager.clearRouteCache();
  }
  routeConfig<T>(): T | undefined {
    const all = this.manager.route()?.perFilterSettings(this.name);
    return all === undefined || all.length === 0 ? undefined : (all[all.length - 1] as T);
  }
  routeConfigs<T>(): T[] {
    return (this.manager.route()?.perFilterSettings(this.name) ?? []) as T[];
  }
  createTimer(callback: () => void): Timer {
    return this.manager.timers.createTimer(callback);
  }
  resetStream(reason: StreamResetReason = "local_reset"): void {
    this.manager.resetDownstream(reason);
  }
  sendLocalReply(reply: LocalReply): void {
    this.manager.sendLocalReply(reply);
  }

  // ---- decoding --------------------------------------------------------------------------------------------------------

  continueDecoding(): void {
    this.manager.continueDecoding(this);
  }
  continueDecodingHead(): void {
    this.manager.continueDecodingHead(this);
  }
  takeDecodingBuffer(): Buffer | undefined {
    return this.manager.takeDecoded();
  }
  decodingBuffer(): Buffer | undefined {
    return this.manager.decoded.peek();
  }
  setDecodingBuffer(data: Buffer): void {
    this.manager.decoded.replace(data);
  }
  addDecodedData(data: Buffer, streaming: boolean): void {
    this.manager.addDecodedData(this, data, streaming);
  }
  injectDecodedData(data: Buffer, endStream: boolean): void {
    this.manager.injectDecodedData(this, data, endStream);
  }
  replaceDecodedChunk(data: Buffer): void {
    if (this.decodeCall === "data") this.decodedChunk = data;
  }
  addDecodedTrailers(): Trailers {
    return this.manager.addRequestTrailers();
  }
  setDecoderBufferLimit(bytes: number): void {
    this.manager.setDecoderBufferLimit(bytes);
  }
  get decoderBufferLimit(): number {
    return this.manager.decoderBufferLimit;
  }
  encode1xxHeaders(headers: ResponseHeaders): void {
    this.manager.encode1xx(headers);
  }
  encodeHeaders(headers: ResponseHeaders, endStream: boolean, details: string): void {
    this.manager.startResponse(headers, endStream, details);
  }
  encodeData(data: Buffer, endStream: boolean): void {
    this.manager.responseData(data, endStream);
  }
  encodeTrailers(trailers: Trailers): void {
    this.manager.endWithTrailers(trailers);
  }
  onDecoderFilterAboveWriteBufferHighWatermark(): void {
    this.manager.pauseDownstream();
  }
  onDecoderFilterBelowWriteBufferLowWatermark(): void {
    this.manager.resumeDownstream();
  }
  addDownstreamWatermarkCallbacks(callbacks: DownstreamWatermarkCallbacks): void {
    this.manager.addWatermarkCallbacks(callbacks);
  }
  removeDownstreamWatermarkCallbacks(callbacks: DownstreamWatermarkCallbacks): void {
    this.manager.removeWatermarkCallbacks(callbacks);
  }
  recreateStream(): boolean {
    return this.manager.recreateStream();
  }
  get downstreamEnded(): boolean {
    return this.manager.requestComplete;
  }
  upgradeAccepted(): void {
    this.manager.onUpgradeAccepted();
  }

  // ---- encoding --------------------------------------------------------------------------------------------------------

  continueEncoding(): void {
    this.manager.continueEncoding(this);
  }
  continueEncodingHead(): void {
    this.manager.continueEncodingHead(this);
  }
  takeEncodingBuffer(): Buffer | undefined {
    return this.manager.takeEncoded();
  }
  encodingBuffer(): Buffer | undefined {
    return this.manager.encoded.peek();
  }
  setEncodingBuffer(data: Buffer): void {
    this.manager.encoded.replace(data);
  }
  addEncodedData(data: Buffer, streaming: boolean): void {
    this.manager.addEncodedData(this, data, streaming);
  }
  injectEncodedData(data: Buffer, endStream: boolean): void {
    this.manager.injectEncodedData(this, data, endStream);
  }
  replaceEncodedChunk(data: Buffer): void {
    if (this.encodeCall === "data") this.encodedChunk = data;
  }
  addEncodedTrailers(): Trailers {
    return this.manager.addResponseTrailers();
  }
  setEncoderBufferLimit(bytes: number): void {
    this.manager.setEncoderBufferLimit(bytes);
  }
  get encoderBufferLimit(): number {
    return this.manager.encoderBufferLimit;
  }
}
