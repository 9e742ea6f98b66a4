/**
 * Passes one stream through its HTTP filters: requests from the first to the last, responses from the last to the first. A filter may stop,
 * hold, change, answer, and go on later. The rules are Envoy's (source/common/http/filter_manager, documented in the "HTTP filters" part of
 * its manual); the stream itself (stream.ts) says what happens at both ends.
 */
import type { Connection } from "../../net/connection.ts";
import type { TimerWheel } from "../../net/timer-wheel.ts";
import type { Route } from "../../router/route.ts";
import type { ThreadLocalClusters } from "../../upstream/upstream.ts";
import type { StreamResetReason } from "../codec.ts";
import type { DownstreamWatermarkCallbacks, FilterDataStatus, FilterHeadersStatus, LocalReply } from "../filter.ts";
import { type RequestHeaders, type ResponseHeaders, Trailers } from "../header-map.ts";
import type { StreamInfo } from "../stream-info.ts";
import type { FilterSlot, Iteration } from "./filter-slot.ts";
import { HeldData } from "./held-data.ts";

const nothing = Buffer.alloc(0);

export abstract class FilterManager {
  abstract readonly info: StreamInfo;
  abstract readonly connection: Connection;
  abstract readonly timers: TimerWheel;
  abstract readonly clusters: ThreadLocalClusters;

  requestHeaders: RequestHeaders | undefined = undefined;
  requestTrailers: Trailers | undefined = undefined;
  responseHeaders: ResponseHeaders | undefined = undefined;
  responseTrailers: Trailers | undefined = undefined;
  slots: FilterSlot[] = [];
  readonly decoded = new HeldData();
  readonly encoded = new HeldData();
  decoderBufferLimit = 0;
  encoderBufferLimit = 0;
  /** The whole request has come in. */
  requestComplete = false;
  /** The whole response has been handed to the filters. */
  responseComplete = false;
  /** The head of the response has left. */
  headersSent = false;
  /** The stream is over: nothing may be called any more. */
  destroyed = false;
  /** A reply of our own was begun: what still comes from downstream goes nowhere. */
  protected decodeAborted = false;
  /** A reply of our own took the place of the response that filters were working on. */
  protected encodeAborted = false;
  #decodeStreaming = false;
  #encodeStreaming = false;
  #decodePaused = false;
  #encodePaused = false;
  #watermarkCallbacks: DownstreamWatermarkCallbacks[] | undefined = undefined;
  #downstreamHigh = 0;

  abstract route(): Route | undefined;
  abstract clearRouteCache(): void;
  abstract resetDownstream(reason: StreamResetReason): void;
  abstract sendLocalReply(reply: LocalReply): void;
  abstract recreateStream(): boolean;
  abstract onUpgradeAccepted(): void;
  abstract pauseDownstream(): void;
  abstract resumeDownstream(): void;
  protected abstract send1xx(headers: ResponseHeaders): void;
  protected abstract sendHeaders(headers: ResponseHeaders, endStream: boolean): void;
  protected abstract sendData(data: Buffer, endStream: boolean): void;
  protected abstract sendTrailers(trailers: Trailers): void;
  protected abstract onRequestTooLarge(): void;
  protected abstract onResponseTooLarge(): void;

  // ---- request -----------------------------------------------------------------------------------------------------------

  protected decodeHeadersFrom(from: number, headers: RequestHeaders, endStream: boolean): void {
    const { slots } = this;
    let bodyAddedBy: FilterSlot | undefined;
    for (let i = from; i < slots.length; i++) {
      const slot = slots[i];
      const { filter } = slot;
      const end = endStream && bodyAddedBy === undefined;
      slot.decodeEnded = end;
      let status: FilterHeadersStatus = "continue";
      if (filter.decodeHeaders !== undefined) {
        slot.decodeCall = "headers";
        status = filter.decodeHeaders(headers, end);
        slot.decodeCall = "none";
      }
      if (this.decodeAborted || this.destroyed) return;
      if (status === "continue") slot.decodeHeadersPassed = true;
      else slot.decode = stoppedAs(status);
      if (status !== "continue" && i + 1 < slots.length) break;
      // A request without a body was given one: filters behind must not see the end with the head.
      if (endStream && bodyAddedBy === undefined && this.decoded.present) bodyAddedBy = slot;
    }
    if (bodyAddedBy !== undefined) {
      bodyAddedBy.decode = "stopped";
      this.continueDecoding(bodyAddedBy);
    }
  }

  /** `owned`: `data` is memory of ours, not a view of the read buffer. */
  protected decodeDataFrom(from: number, chunk: Buffer, endStream: boolean, isOwned: boolean): void {
    if (this.decodeAborted || this.destroyed) return;
    const { slots } = this;
    let data = chunk;
    let owned = isOwned;
    const hadTrailers = this.requestTrailers !== undefined;
    let end = endStream;
    let trailersAddedAt = -1;
    for (let i = from; i < slots.length; i++) {
      const slot = slots[i];
      const { filter } = slot;
      if (slot.decode === "stopped_all_buffer" || slot.decode === "stopped_all_watermark") {
        this.#holdDecoded(data, owned, slot.decode === "stopped_all_watermark");
        return;
      }
      if (slot.decodeEnded) return;
      slot.decodeEnded = end && this.requestTrailers === undefined;
      let status: FilterDataStatus = "continue";
      if (filter.decodeData !== undefined) {
        slot.decodeCall = "data";
        status = filter.decodeData(data, slot.decodeEnded);
        slot.decodeCall = "none";
        if (slot.decodedChunk !== undefined) {
          data = slot.decodedChunk;
          owned = true;
          slot.decodedChunk = undefined;
        }
      }
      if (this.decodeAborted || this.destroyed) return;
      if (!hadTrailers && trailersAddedAt < 0 && this.requestTrailers !== undefined) {
        end = false;
        trailersAddedAt = i;
      }
      if (status === "continue") {
        if (slot.decode === "stopped") {
          // It had stopped at the head: that goes first, with all that waits.
          this.#holdDecoded(data, owned, this.#decodeStreaming);
          this.continueDecoding(slot);
          break;
        }
        continue;
      }
      slot.decode = "stopped";
      if (status === "stop_no_buffer") {
        if (end && !this.decoded.present) this.decoded.add(nothing, true);
      } else this.#holdDecoded(data, owned, status === "stop_and_watermark");
      break;
    }
    if (trailersAddedAt >= 0 && !this.destroyed) this.decodeTrailersFrom(trailersAddedAt + 1, this.requestTrailers as Trailers);
  }

  protected decodeTrailersFrom(from: number, trailers: Trailers): void {
    if (this.decodeAborted || this.destroyed) return;
    const { slots } = this;
    for (let i = from; i < slots.length; i++) {
      const slot = slots[i];
      if (slot.decode === "stopped_all_buffer" || slot.decode === "stopped_all_watermark") return;
      slot.decodeEnded = true;
      let status: "continue" | "stop" = "continue";
      if (slot.filter.decodeTrailers !== undefined) {
        slot.decodeCall = "trailers";
        status = slot.filter.decodeTrailers(trailers);
        slot.decodeCall = "none";
      }
      if (this.decodeAborted || this.destroyed) return;
      if (status === "stop") {
        slot.decode = "stopped";
        return;
      }
      if (slot.decode === "stopped") {
        this.continueDecoding(slot);
        return;
      }
    }
  }

  continueDecoding(slot: FilterSlot): void {
    if (this.destroyed || this.decodeAborted || slot.decode === "continue") return;
    const stoppedAll = slot.decode !== "stopped";
    slot.decode = "continue";
    if (!slot.decodeHeadersPassed) {
      slot.decodeHeadersPassed = true;
      this.decodeHeadersFrom(
        slot.index + 1,
        this.requestHeaders as RequestHeaders,
        this.requestComplete && !this.decoded.present && this.requestTrailers === undefined,
      );
    }
    if (this.decodeAborted || this.destroyed) return;
    // A filter that had stopped all has not seen the data that waits.
    const from = stoppedAll ? slot.index : slot.index + 1;
    if (this.decoded.present) {
      const data = this.decoded.take() as Buffer;
      this.#relieveDecoded();
      this.decodeDataFrom(from, data, this.requestComplete && this.requestTrailers === undefined, true);
    }
    if (this.requestTrailers !== undefined && this.requestComplete) this.decodeTrailersFrom(from, this.requestTrailers);
  }

  continueDecodingHead(slot: FilterSlot): void {
    if (this.destroyed || this.decodeAborted || slot.decodeHeadersPassed) return;
    slot.decodeHeadersPassed = true;
    this.decodeHeadersFrom(slot.index + 1, this.requestHeaders as RequestHeaders, false);
  }
  takeDecoded(): Buffer | undefined {
    const data = this.decoded.take();
    this.#relieveDecoded();
    return data;
  }

  addDecodedData(slot: FilterSlot, data: Buffer, streaming: boolean): void {
    if (slot.decodeCall === "trailers" && slot.decodeHeadersPassed) {
      // The end is already at this filter: data goes on before the trailers. Where the head is held, data waits behind it.
      this.decodeDataFrom(slot.index + 1, data, false, false);
      return;
    }
    this.#holdDecoded(data, false, streaming);
  }

  injectDecodedData(slot: FilterSlot, data: Buffer, endStream: boolean): void {
    this.decodeDataFrom(slot.index + 1, data, endStream, false);
  }

  addRequestTrailers(): Trailers {
    return (this.requestTrailers ??= new Trailers());
  }

  setDecoderBufferLimit(bytes: number): void {
    this.decoderBufferLimit = bytes;
    this.#relieveDecoded();
  }

  #holdDecoded(data: Buffer, owned: boolean, streaming: boolean): void {
    this.#decodeStreaming = streaming;
    this.decoded.add(data, owned);
    if (this.decoderBufferLimit === 0 || this.decoded.length <= this.decoderBufferLimit) return;
    if (!streaming) this.onRequestTooLarge();
    else if (!this.#decodePaused) {
      this.#decodePaused = true;
      this.pauseDownstream();
    }
  }

  #relieveDecoded(): void {
    if (!this.#decodePaused || this.decoded.length > this.decoderBufferLimit / 2) return;
    this.#decodePaused = false;
    this.resumeDownstream();
  }

  // ---- response ----------------------------------------------------------------------------------------------------------

  encode1xx(headers: ResponseHeaders): void {
    if (this.destroyed || this.headersSent) return;
    const { slots } = this;
    for (let i = slots.length - 1; i >= 0; i--) if (slots[i].filter.encode1xxHeaders?.(headers) === "stop") return;
    this.send1xx(headers);
  }

  startResponse(headers: ResponseHeaders, endStream: boolean, details: string): void {
    if (this.destroyed || this.responseHeaders !== undefined) return;
    this.info.responseCodeDetails = details;
    this.responseHeaders = headers;
    this.responseComplete = endStream;
    this.encodeHeadersFrom(this.slots.length - 1, headers, endStream);
  }

  responseData(data: Buffer, endStream: boolean): void {
    if (this.destroyed || this.encodeAborted || this.responseComplete) return;
    if (endStream) this.responseComplete = true;
    this.encodeDataFrom(this.slots.length - 1, data, endStream, false);
  }

  endWithTrailers(trailers: Trailers): void {
    if (this.destroyed || this.encodeAborted || this.responseComplete) return;
    this.responseTrailers = trailers;
    this.responseComplete = true;
    this.encodeTrailersFrom(this.slots.length - 1, trailers);
  }

  protected encodeHeadersFrom(from: number, headers: ResponseHeaders, endStream: boolean): void {
    const { slots } = this;
    let bodyAddedBy: FilterSlot | undefined;
    for (let i = from; i >= 0; i--) {
      const slot = slots[i];
      const { filter } = slot;
      const end = endStream && bodyAddedBy === undefined;
      slot.encodeEnded = end;
      let status: FilterHeadersStatus = "continue";
      if (filter.encodeHeaders !== undefined) {
        slot.encodeCall = "headers";
        status = filter.encodeHeaders(headers, end);
        slot.encodeCall = "none";
      }
      if (this.encodeAborted || this.destroyed) return;
      if (status === "continue") slot.encodeHeadersPassed = true;
      else {
        slot.encode = stoppedAs(status);
        if (bodyAddedBy !== undefined) {
          bodyAddedBy.encode = "stopped";
          this.continueEncoding(bodyAddedBy);
        }
        return;
      }
      if (endStream && bodyAddedBy === undefined && this.encoded.present) bodyAddedBy = slot;
    }
    const end = endStream && bodyAddedBy === undefined;
    this.sendHeaders(headers, end);
    if (bodyAddedBy !== undefined && !this.destroyed) {
      bodyAddedBy.encode = "stopped";
      this.continueEncoding(bodyAddedBy);
    }
  }

  protected encodeDataFrom(from: number, chunk: Buffer, endStream: boolean, isOwned: boolean): void {
    const { slots } = this;
    let data = chunk;
    let owned = isOwned;
    const hadTrailers = this.responseTrailers !== undefined;
    let end = endStream;
    let trailersAddedAt = -1;
    for (let i = from; i >= 0; i--) {
      const slot = slots[i];
      const { filter } = slot;
      if (slot.encode === "stopped_all_buffer" || slot.encode === "stopped_all_watermark") {
        this.#holdEncoded(data, owned, slot.encode === "stopped_all_watermark");
        return;
      }
      if (slot.encodeEnded) return;
      slot.encodeEnded = end && this.responseTrailers === undefined;
      let status: FilterDataStatus = "continue";
      if (filter.encodeData !== undefined) {
        slot.encodeCall = "data";
        status = filter.encodeData(data, slot.encodeEnded);
        slot.encodeCall = "none";
        if (slot.encodedChunk !== undefined) {
          data = slot.encodedChunk;
          owned = true;
          slot.encodedChunk = undefined;
        }
      }
      if (this.encodeAborted || this.destroyed) return;
      if (!hadTrailers && trailersAddedAt < 0 && this.responseTrailers !== undefined) {
        end = false;
        trailersAddedAt = i;
      }
      if (status === "continue") {
        if (slot.encode === "stopped") {
          this.#holdEncoded(data, owned, this.#encodeStreaming);
          this.continueEncoding(slot);
          return;
        }
        continue;
      }
      slot.encode = "stopped";
      if (status === "stop_no_buffer") {
        if (end && !this.encoded.present) this.encoded.add(nothing, true);
      } else this.#holdEncoded(data, owned, status === "stop_and_watermark");
      if (trailersAddedAt >= 0 && !this.destroyed) this.encodeTrailersFrom(trailersAddedAt - 1, this.responseTrailers as Trailers);
      return;
    }
    this.sendData(data, end && this.responseTrailers === undefined);
    if (trailersAddedAt >= 0 && !this.destroyed) this.encodeTrailersFrom(trailersAddedAt - 1, this.responseTrailers as Trailers);
  }

  protected encodeTrailersFrom(from: number, trailers: Trailers): void {
    const { slots } = this;
    for (let i = from; i >= 0; i--) {
      const slot = slots[i];
      if (slot.encode === "stopped_all_buffer" || slot.encode === "stopped_all_watermark") return;
      slot.encodeEnded = true;
      let status: "continue" | "stop" = "continue";
      if (slot.filter.encodeTrailers !== undefined) {
        slot.encodeCall = "trailers";
        status = slot.filter.encodeTrailers(trailers);
        slot.encodeCall = "none";
      }
      if (this.encodeAborted || this.destroyed) return;
      if (status === "stop") {
        slot.encode = "stopped";
        return;
      }
      if (slot.encode === "stopped") {
        this.continueEncoding(slot);
        return;
      }
    }
    this.sendTrailers(trailers);
  }

  continueEncoding(slot: FilterSlot): void {
    if (this.destroyed || this.encodeAborted || slot.encode === "continue") return;
    const stoppedAll = slot.encode !== "stopped";
    slot.encode = "continue";
    if (!slot.encodeHeadersPassed) {
      slot.encodeHeadersPassed = true;
      this.encodeHeadersFrom(
        slot.index - 1,
        this.responseHeaders as ResponseHeaders,
        this.responseComplete && !this.encoded.present && this.responseTrailers === undefined,
      );
    }
    if (this.destroyed || this.encodeAborted) return;
    const from = stoppedAll ? slot.index : slot.index - 1;
    if (this.encoded.present) {
      const data = this.encoded.take() as Buffer;
      this.#relieveEncoded();
      this.encodeDataFrom(from, data, this.responseComplete && this.responseTrailers === undefined, true);
    }
    if (this.destroyed || this.encodeAborted) return;
    if (this.responseTrailers !== undefined && this.responseComplete) this.encodeTrailersFrom(from, this.responseTrailers);
  }

  continueEncodingHead(slot: FilterSlot): void {
    if (this.destroyed || this.encodeAborted || slot.encodeHeadersPassed) return;
    slot.encodeHeadersPassed = true;
    this.encodeHeadersFrom(slot.index - 1, this.responseHeaders as ResponseHeaders, false);
  }
  takeEncoded(): Buffer | undefined {
    const data = this.encoded.take();
    this.#relieveEncoded();
    return data;
  }

  addEncodedData(slot: FilterSlot, data: Buffer, streaming: boolean): void {
    if (slot.encodeCall === "trailers" && slot.encodeHeadersPassed) {
      this.encodeDataFrom(slot.index - 1, data, false, false);
      return;
    }
    this.#holdEncoded(data, false, streaming);
  }

  injectEncodedData(slot: FilterSlot, data: Buffer, endStream: boolean): void {
    if (this.destroyed || this.encodeAborted) return;
    this.encodeDataFrom(slot.index - 1, data, endStream, false);
  }

  addResponseTrailers(): Trailers {
    return (this.responseTrailers ??= new Trailers());
  }

  setEncoderBufferLimit(bytes: number): void {
    this.encoderBufferLimit = bytes;
    this.#relieveEncoded();
  }

  #holdEncoded(data: Buffer, owned: boolean, streaming: boolean): void {
    this.#encodeStreaming = streaming;
    this.encoded.add(data, owned);
    if (this.encoderBufferLimit === 0 || this.encoded.length <= this.encoderBufferLimit) return;
    if (!streaming) this.onResponseTooLarge();
    else if (!this.#encodePaused) {
      this.#encodePaused = true;
      this.aboveDownstreamHighWatermark();
    }
  }

  #relieveEncoded(): void {
    if (!this.#encodePaused || this.encoded.length > this.encoderBufferLimit / 2) return;
    this.#encodePaused = false;
    this.belowDownstreamLowWatermark();
  }

  // ---- watermarks: downstream is slow, whoever produces the response waits ---------------------------------------------

  protected aboveDownstreamHighWatermark(): void {
    this.#downstreamHigh++;
    for (const callbacks of this.#watermarkCallbacks?.slice() ?? []) callbacks.onAboveWriteBufferHighWatermark();
  }

  protected belowDownstreamLowWatermark(): void {
    this.#downstreamHigh--;
    for (const callbacks of this.#watermarkCallbacks?.slice() ?? []) callbacks.onBelowWriteBufferLowWatermark();
  }

  addWatermarkCallbacks(callbacks: DownstreamWatermarkCallbacks): void {
    (this.#watermarkCallbacks ??= []).push(callbacks);
    for (let i = 0; i < this.#downstreamHigh; i++) callbacks.onAboveWriteBufferHighWatermark();
  }

  removeWatermarkCallbacks(callbacks: DownstreamWatermarkCallbacks): void {
    const at = this.#watermarkCallbacks?.indexOf(callbacks) ?? -1;
    if (at >= 0) this.#watermarkCallbacks?.splice(at, 1);
  }
}

function stoppedAs(status: Exclude<FilterHeadersStatus, "continue">): Iteration {
  return status === "stop" ? "stopped" : status === "stop_all_and_buffer" ? "stopped_all_buffer" : "stopped_all_watermark";
}
