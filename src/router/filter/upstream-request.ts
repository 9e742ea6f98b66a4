/** One try of a request at one host: waits for a connection, writes the request, hears the response. Envoy's UpstreamRequest. */
import type { RequestEncoder, ResponseDecoder, StreamCallbacks, StreamResetReason } from "../../http/codec.ts";
import type { ResponseHeaders, Trailers } from "../../http/header-map.ts";
import { emptyUpstreamInfo, type UpstreamInfo } from "../../http/stream-info.ts";
import type { Timer } from "../../net/timer-wheel.ts";
import type { Host, PoolCallbacks, PoolRequest } from "../../upstream/upstream.ts";
import { replaceHost } from "../route-entry.ts";
import type { RequestTries } from "./request-tries.ts";
import type { UpstreamLogEntry } from "./upstream-log.ts";

/** Where tries get their streams: an HTTP pool, or a raw connection behind the same interface (connect-upstream.ts). */
export interface StreamSource {
  newStream(
    decoder: ResponseDecoder,
    callbacks: PoolCallbacks,
    options: { readonly canSendEarlyData: boolean; readonly upgrade: string | undefined },
  ): PoolRequest | undefined;
}

const nothing = Buffer.alloc(0);

export class UpstreamRequest implements ResponseDecoder, PoolCallbacks, StreamCallbacks {
  readonly #parent: RequestTries;
  readonly #source: StreamSource;
  #waiting: PoolRequest | undefined = undefined;
  #encoder: RequestEncoder | undefined = undefined;
  host: Host | undefined = undefined;
  upstream: UpstreamInfo | undefined = undefined;
  awaitingHeaders = true;
  /** Another try was started beside this one (hedging): it is not retried again. */
  retried = false;
  canary = false;
  /** gRPC: whether it succeeded shows in the trailers. */
  grpcSuccessDeferred = false;
  outlierTimeoutRecorded = false;
  /** Whether its end says how much of the per-try timeout it needed. */
  recordsBudget = true;
  readonly startMs: number;
  #log: UpstreamLogEntry | undefined;

  #requestEnded = false;
  #encodeComplete = false;
  #decodeComplete = false;
  #done = false;
  /** The payload of a tunnel waits until the upstream has agreed to it. */
  #paused: "connect" | "websocket" | undefined = undefined;
  #held: Buffer[] | undefined = undefined;
  #heldBytes = 0;
  #heldAboveLimit = false;
  #trailers: Trailers | undefined = undefined;
  #headersEndStream = false;
  #perTryTimer: Timer | undefined = undefined;
  #idleTimer: Timer | undefined = undefined;
  #durationTimer: Timer | undefined = undefined;
  #timesOnRequestComplete = false;
  /** How often we have paused the client, and been paused by it. */
  #clientPauses = 0;
  #readPauses = 0;
  #deferredReadPauses = 0;

  constructor(parent: RequestTries, source: StreamSource, log: UpstreamLogEntry | undefined) {
    this.#parent = parent;
    this.#source = source;
    this.startMs = parent.now();
    this.#log = log;
  }

  get encodeComplete(): boolean {
    return this.#encodeComplete;
  }
  /** Whether a byte of the request has left. */
  get requestStarted(): boolean {
    return this.upstream?.firstTxByteMs !== undefined;
  }

  /** Asks for a stream; may call back before it returns. */
  start(endStream: boolean): void {
    const { headers, upgrade } = this.#parent;
    this.#headersEndStream = endStream;
    if (endStream) this.#requestEnded = true;
    if (headers.method === "CONNECT") this.#paused = "connect";
    else if (upgrade === "websocket") this.#paused = "websocket";
    const waiting = this.#source.newStream(this, this, { canSendEarlyData: false, upgrade });
    if (this.#encoder === undefined && !this.#done) this.#waiting = waiting;
  }

  /** `owned`: the memory is the router's own; otherwise it is valid only during the call. */
  sendData(data: Buffer, endStream: boolean, owned: boolean): void {
    if (this.#done || this.#requestEnded) return;
    this.#requestEnded = endStream;
    const encoder = this.#encoder;
    if (encoder === undefined || this.#paused !== undefined) {
      if (encoder !== undefined && this.#refusesEarlyData(data.length)) return;
      if (data.length > 0) this.#hold(owned ? data : Buffer.from(data));
      return;
    }
    if (endStream) this.#onEncodeComplete();
    this.#log?.onSent(data.length);
    encoder.encodeData(data, endStream);
  }

  sendTrailers(trailers: Trailers): void {
    if (this.#done || this.#requestEnded) return;
    this.#requestEnded = true;
    this.#trailers = trailers;
    if (this.#encoder === undefined || this.#paused !== undefined) return;
    this.#onEncodeComplete();
    this.#encoder.encodeTrailers(trailers);
  }

  /** Ends the try: waiting is given up, a stream is reset unless both sides were complete. Nothing is called back. */
  reset(): void {
    if (this.#done) return;
    const encoder = this.#encoder;
    const complete = this.#encodeComplete && this.#decodeComplete;
    const waiting = this.#waiting;
    this.finish();
    waiting?.cancel();
    if (encoder !== undefined && !complete) encoder.stream.resetStream("local_reset");
  }

  /** Lets go of everything; the stream itself is complete, or dead already. */
  finish(): void {
    if (this.#done) return;
    this.#done = true;
    this.#perTryTimer?.disable();
    this.#idleTimer?.disable();
    this.#durationTimer?.disable();
    this.#waiting = undefined;
    this.#held = undefined;
    const encoder = this.#encoder;
    if (encoder !== undefined) {
      encoder.stream.removeCallbacks(this);
      while (this.#readPauses > 0) {
        this.#readPauses--;
        encoder.stream.readDisable(false);
      }
    }
    this.#releaseHeld();
    while (this.#clientPauses > 0) this.#resumeClient();
    if (this.recordsBudget) this.#parent.recordPerTryBudget(this);
    this.#log?.end(this);
  }

  /** The client's request has ended: tries that began before run against the clock from now on. */
  onRequestComplete(): void {
    if (this.#timesOnRequestComplete) this.#startTryTimers();
  }

  pauseReading(): void {
    const encoder = this.#encoder;
    // While another try may still win, this one's answer is not the one that the client is slow to take.
    if (encoder === undefined || !this.#parent.isOnlyRequest(this)) {
      this.#deferredReadPauses++;
      return;
    }
    this.#readPauses++;
    this.#parent.counters.flowPausedReading.inc();
    encoder.stream.readDisable(true);
  }

  resumeReading(): void {
    if (this.#deferredReadPauses > 0) {
      this.#deferredReadPauses--;
      return;
    }
    if (this.#readPauses === 0 || this.#encoder === undefined) return;
    this.#readPauses--;
    this.#parent.counters.flowResumedReading.inc();
    this.#encoder.stream.readDisable(false);
  }

  // ---- PoolCallbacks ---------------------------------------------------------------------------------------------------

  onPoolReady(encoder: RequestEncoder, host: Host, upstream: UpstreamInfo): void {
    const parent = this.#parent;
    this.#waiting = undefined;
    this.#encoder = encoder;
    this.host = host;
    this.upstream = upstream;
    const now = parent.now();
    upstream.poolReadyMs ??= now - this.startMs;
    encoder.stream.addCallbacks(this);
    parent.onHostSelected(host, upstream, encoder.stream.bytesMeter);
    if (parent.requestComplete) this.#startTryTimers();
    else this.#timesOnRequestComplete = true;
    const durationMs = parent.maxStreamDurationMs;
    if (durationMs > 0) {
      this.#durationTimer = parent.timers.createTimer(() => parent.onStreamMaxDuration(this));
      this.#durationTimer.enable(durationMs);
    }
    const { headers, forwardRoute } = parent;
    if (forwardRoute.autoHostRewrite && host.hostname !== "")
      replaceHost(headers, host.hostname, forwardRoute.appendXForwardedHost, parent.config.suppressEnvoyHeaders ? undefined : parent.config.names.prefix);
    this.#log?.onPoolReady(this, encoder.stream.bytesMeter);
    upstream.firstTxByteMs = now;
    const paused = this.#paused !== undefined;
    if (paused) encoder.enableTcpTunneling();
    const end = this.#headersEndStream && !paused;
    if (end) this.#onEncodeComplete(now);
    const pauses = this.#deferredReadPauses;
    this.#deferredReadPauses = 0;
    for (let i = 0; i < pauses; i++) this.pauseReading();
    encoder.encodeHeaders(headers, end);
    if (!paused) {
      if (!end) this.#flush();
    } else this.#refusesEarlyData(this.#heldBytes);
  }

  onPoolFailure(
    reason: "overflow" | "local_connection_failure" | "remote_connection_failure" | "timeout",
    transportFailureReason: string,
    host: Host | undefined,
  ): void {
    const parent = this.#parent;
    this.#waiting = undefined;
    this.host = host;
    const upstream = emptyUpstreamInfo();
    upstream.host = host;
    upstream.transportFailureReason = transportFailureReason;
    this.upstream = upstream;
    parent.onHostFailed(host, upstream);
    this.#onReset(reason === "timeout" ? "connection_timeout" : reason, transportFailureReason);
  }

  // ---- StreamCallbacks -------------------------------------------------------------------------------------------------

  onResetStream(reason: StreamResetReason): void {
    // What a codec has against its peer is for its own stats: answers name transport failures only.
    this.#onReset(reason, "");
  }

  #onReset(reason: StreamResetReason, transportFailure: string): void {
    if (this.#done) return;
    this.awaitingHeaders = false;
    this.#log?.onReset(reason);
    this.#parent.onUpstreamReset(this, reason, transportFailure);
  }

  onAboveWriteBufferHighWatermark(): void {
    this.#pauseClient();
  }

  onBelowWriteBufferLowWatermark(): void {
    if (this.#clientPauses > 0) this.#resumeClient();
  }

  // ---- ResponseDecoder -------------------------------------------------------------------------------------------------

  decode1xxHeaders(headers: ResponseHeaders): void {
    if (this.#done) return;
    this.#restartIdleTimer();
    this.#parent.onUpstream1xxHeaders(this, headers);
  }

  decodeHeaders(headers: ResponseHeaders, endStream: boolean): void {
    if (this.#done) return;
    const parent = this.#parent;
    const { status } = headers;
    if (status < 200 && status !== 101) return;
    const upstream = this.upstream as UpstreamInfo;
    const now = parent.now();
    upstream.firstRxByteMs = now;
    if (this.#paused === "connect" ? status >= 200 && status < 300 : this.#paused === "websocket" && status === 101) {
      this.#paused = undefined;
      this.#flush();
    } else if (this.#paused === "websocket" && status < 400) {
      parent.onWebSocketRefused(this, headers);
      return;
    }
    if (endStream) {
      upstream.lastRxByteMs = now;
      this.#decodeComplete = true;
    }
    this.awaitingHeaders = false;
    this.#restartIdleTimer();
    this.#log?.onHeaders(headers);
    parent.onUpstreamHeaders(this, headers, endStream);
    if (!this.#done && this.#deferredReadPauses > 0) {
      const pauses = this.#deferredReadPauses;
      this.#deferredReadPauses = 0;
      for (let i = 0; i < pauses; i++) this.pauseReading();
    }
  }

  decodeData(chunk: Buffer, endStream: boolean): void {
    if (this.#done) return;
    this.#restartIdleTimer();
    const upstream = this.upstream as UpstreamInfo;
    if (endStream || upstream.firstRxBodyByteMs === undefined) {
      const now = this.#parent.now();
      upstream.firstRxBodyByteMs ??= now;
      if (endStream) {
        upstream.lastRxByteMs = now;
        this.#decodeComplete = true;
      }
    }
    this.#log?.onReceived(chunk.length);
    this.#parent.onUpstreamData(this, chunk, endStream);
  }

  decodeTrailers(trailers: Trailers): void {
    if (this.#done) return;
    (this.upstream as UpstreamInfo).lastRxByteMs = this.#parent.now();
    this.#decodeComplete = true;
    this.#log?.onTrailers(trailers);
    this.#parent.onUpstreamTrailers(this, trailers);
  }

  // ----------------------------------------------------------------------------------------------------------------------

  /** reject_connect_request_early_data: no payload before the tunnel stands. */
  #refusesEarlyData(bytes: number): boolean {
    if (bytes === 0 || this.#paused !== "connect" || !this.#parent.config.rejectEarlyConnectData) return false;
    this.#parent.onEarlyConnectData();
    return true;
  }

  #onEncodeComplete(now = this.#parent.now()): void {
    this.#encodeComplete = true;
    (this.upstream as UpstreamInfo).lastTxByteMs = now;
  }

  /** Keeps a chunk until it can be written; beyond the buffer limit the client waits. */
  #hold(data: Buffer): void {
    (this.#held ??= []).push(data);
    this.#heldBytes += data.length;
    const limit = this.#parent.bufferLimit;
    if (limit > 0 && this.#heldBytes > limit && !this.#heldAboveLimit) {
      this.#heldAboveLimit = true;
      this.#parent.pauseClient();
    }
  }

  /** Writes what was held back, and the end if it has come. */
  #flush(): void {
    const encoder = this.#encoder;
    if (encoder === undefined) return;
    const held = this.#held;
    this.#held = undefined;
    this.#heldBytes = 0;
    const trailers = this.#trailers;
    const endsWithData = this.#requestEnded && trailers === undefined;
    if (endsWithData || trailers !== undefined) this.#onEncodeComplete();
    if (held !== undefined) {
      for (let i = 0; i < held.length; i++) {
        this.#log?.onSent(held[i].length);
        encoder.encodeData(held[i], endsWithData && i === held.length - 1);
        if (this.#done) return;
      }
    } else if (endsWithData) encoder.encodeData(nothing, true);
    if (trailers !== undefined && !this.#done) encoder.encodeTrailers(trailers);
    this.#releaseHeld();
  }

  #pauseClient(): void {
    if (this.#done) return;
    this.#clientPauses++;
    this.#parent.pauseClient();
  }

  #resumeClient(): void {
    this.#clientPauses--;
    this.#parent.resumeClient();
  }

  #releaseHeld(): void {
    if (!this.#heldAboveLimit) return;
    this.#heldAboveLimit = false;
    this.#parent.resumeClient();
  }

  #startTryTimers(): void {
    const parent = this.#parent;
    const { perTryMs, perTryIdleMs } = parent.timeouts;
    this.#timesOnRequestComplete = false;
    if (perTryMs > 0) {
      this.#perTryTimer = parent.timers.createTimer(() => {
        // Once the client has part of the answer only the timeout of the whole counts.
        if (parent.responseStarted) return;
        this.#log?.setFlag("UT");
        parent.onPerTryTimeout(this);
      });
      this.#perTryTimer.enable(perTryMs);
    }
    if (perTryIdleMs > 0) {
      this.#idleTimer = parent.timers.createTimer(() => {
        this.#log?.setFlag("SI");
        parent.onPerTryIdleTimeout(this);
      });
      this.#idleTimer.enable(perTryIdleMs);
    }
  }

  #restartIdleTimer(): void {
    if (this.#idleTimer !== undefined) this.#idleTimer.enable(this.#parent.timeouts.perTryIdleMs);
  }
}
