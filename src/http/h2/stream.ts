/** One stream: what waits to be sent, its windows, and who is told of it. Both codec roles build on it. */
import type { Timer } from "../../net/timer-wheel.ts";
import type { BytesMeter, Stream, StreamCallbacks, StreamResetReason } from "../codec.ts";
import type { Trailers } from "../header-map.ts";
import type { H2Connection } from "./connection.ts";
import { errorCode, frameHeadBytes } from "./frames.ts";

export abstract class H2Stream implements Stream {
  readonly codec: H2Connection;
  id = 0;
  readonly meter: BytesMeter = { wireBytesReceived: 0, wireBytesSent: 0, headerBytesReceived: 0, headerBytesSent: 0 };
  responseDetails = "";
  /** END_STREAM was sent (or waits behind data), or received. */
  localEnded = false;
  remoteEnded = false;
  /** Out of the connection's table: nothing is sent or received any more. */
  closed = false;
  headersSent = false;
  /** The peer's head has come. */
  mayReceiveData = true;
  /** Octets that the peer still takes. */
  sendWindow: number;
  /** Octets that the peer may still send, and those that were taken but not yet given back to it. */
  receiveWindow: number;
  consumed = 0;
  /** Received while reading is disabled: given back when it is enabled. */
  unconsumed = 0;
  /** Octets of content the message has still to bring; -1: it did not say. */
  expectedContent = -1;
  /** Its place in the queue of streams that have data to send and no window for it. */
  blocked = false;
  #queue: Buffer[] | undefined = undefined;
  #queued = 0;
  #trailers: Trailers | undefined = undefined;
  #callbacks: StreamCallbacks[] = [];
  #readDisabled = 0;
  /** Above the stream's own limit; the connection's is told on top. */
  #above = false;
  #resetAfterFlush: StreamResetReason | undefined = undefined;
  #flushTimer: Timer | undefined = undefined;

  constructor(codec: H2Connection) {
    this.codec = codec;
    this.sendWindow = codec.peerInitialWindow;
    this.receiveWindow = codec.settings.initialStreamWindowSize;
  }

  get stream(): Stream {
    return this;
  }
  get bytesMeter(): BytesMeter {
    return this.meter;
  }
  get queuedBytes(): number {
    return this.#queued;
  }
  get readsDisabled(): boolean {
    return this.#readDisabled > 0;
  }
  get waitsToSend(): boolean {
    return this.#queue !== undefined || this.#trailers !== undefined;
  }

  // ---- callbacks -----------------------------------------------------------------------------------------------------

  addCallbacks(callbacks: StreamCallbacks): void {
    this.#callbacks.push(callbacks);
    if (this.#above) callbacks.onAboveWriteBufferHighWatermark();
    if (this.codec.isAboveHigh) callbacks.onAboveWriteBufferHighWatermark();
  }

  removeCallbacks(callbacks: StreamCallbacks): void {
    const at = this.#callbacks.indexOf(callbacks);
    if (at >= 0) this.#callbacks.splice(at, 1);
  }

  readDisable(disable: boolean): void {
    this.#readDisabled += disable ? 1 : -1;
    if (this.#readDisabled > 0 || this.unconsumed === 0) return;
    const octets = this.unconsumed;
    this.unconsumed = 0;
    this.codec.consume(this, octets);
  }

  onAboveHigh(): void {
    for (const callback of this.#callbacks.slice()) callback.onAboveWriteBufferHighWatermark();
  }
  onBelowLow(): void {
    for (const callback of this.#callbacks.slice()) callback.onBelowWriteBufferLowWatermark();
  }

  // ---- sending -------------------------------------------------------------------------------------------------------

  encodeData(chunk: Buffer, endStream: boolean): void {
    if (this.localEnded || this.closed) return;
    if (endStream) this.localEnded = true;
    else if (chunk.length === 0) return;
    let sent = 0;
    if (this.#queue === undefined) {
      sent = this.codec.sendData(this, chunk, 0, endStream);
      if (sent === chunk.length) return;
    }
    // Who gave the chunk may use its memory again.
    const rest = Buffer.from(sent === 0 ? chunk : chunk.subarray(sent));
    (this.#queue ??= []).push(rest);
    this.#queued += rest.length;
    const { codec } = this;
    codec.addQueued(rest.length);
    codec.block(this);
    if (endStream) this.#watchFlush();
    // Both sides are done with it but for what waits here.
    if (endStream && this.remoteEnded) this.forgetCallbacks();
    if (!this.#above && (this.#queued > codec.streamBufferLimit || codec.holdsMuch)) {
      this.#above = true;
      this.onAboveHigh();
    }
  }

  encodeTrailers(trailers: Trailers): void {
    if (this.localEnded || this.closed) return;
    this.localEnded = true;
    if (this.#queue === undefined) {
      this.codec.sendTrailers(this, trailers);
      return;
    }
    this.#trailers = trailers;
    this.#watchFlush();
  }

  /** There may be room now: sends at most one frame; false: it goes on waiting. */
  sendQueued(): boolean {
    const queue = this.#queue;
    if (queue === undefined) return true;
    const { codec } = this;
    const first = queue[0];
    const last = queue.length === 1 && this.localEnded && this.#trailers === undefined;
    const sent = codec.sendData(this, first, 0, last, 1);
    if (sent < first.length) {
      if (sent > 0) queue[0] = first.subarray(sent);
    } else queue.shift();
    this.#queued -= sent;
    if (sent > 0) codec.addQueued(-sent);
    if (queue.length === 0) {
      this.#queue = undefined;
      this.#flushTimer?.disable();
    }
    if (this.#above && (this.#queued === 0 || (this.#queued <= codec.streamBufferLimit / 2 && !codec.holdsMuch))) {
      this.#above = false;
      this.onBelowLow();
    }
    if (this.#queue !== undefined) return false;
    if (this.#trailers !== undefined && !this.closed) {
      const trailers = this.#trailers;
      this.#trailers = undefined;
      codec.sendTrailers(this, trailers);
    }
    if (this.#resetAfterFlush !== undefined && !this.closed) codec.resetStream(this, this.#resetAfterFlush);
    if (!this.closed) codec.streamMayEnd(this);
    return true;
  }

  /** Everybody else is done with this stream: what it still has to send does not wait for ever. */
  #watchFlush(): void {
    const { flushTimeoutMs, timers } = this.codec.settings;
    if (flushTimeoutMs <= 0 || this.#flushTimer !== undefined) return;
    this.#flushTimer = timers.createTimer(() => {
      if (this.closed) return;
      this.codec.settings.stats.tx_flush_timeout.inc();
      this.codec.resetWith(this, errorCode.internalError, "local_reset", "");
    });
    this.#flushTimer.enable(flushTimeoutMs);
  }

  // ---- the end -------------------------------------------------------------------------------------------------------

  resetStream(reason: StreamResetReason): void {
    if (this.closed) return;
    // All of the response is here: it goes out first.
    if (this.localEnded && this.waitsToSend && reason === "local_reset") {
      this.#resetAfterFlush = reason;
      return;
    }
    this.codec.resetStream(this, reason);
  }

  /** @internal Tells everyone that the stream is dead. */
  tellReset(reason: StreamResetReason, details: string): void {
    if (details !== "") this.responseDetails = details;
    const callbacks = this.#callbacks;
    this.#callbacks = [];
    for (const callback of callbacks) callback.onResetStream(reason, details);
  }

  /** @internal It has left the connection. */
  release(): void {
    this.closed = true;
    this.#flushTimer?.disable();
    if (this.#queued > 0) this.codec.addQueued(-this.#queued);
    this.#queued = 0;
    this.#queue = undefined;
    this.#trailers = undefined;
    // Whoever pauses what feeds this stream would wait for ever.
    if (this.#above) {
      this.#above = false;
      this.onBelowLow();
    }
  }

  /** @internal Callbacks are of no use any more. */
  forgetCallbacks(): void {
    this.#callbacks = [];
  }

  // ---- receiving, as the role has it ------------------------------------------------------------------------------------

  abstract onData(chunk: Buffer, endStream: boolean): void;

  countReceived(payload: number): void {
    this.meter.wireBytesReceived += payload + frameHeadBytes;
  }
}
