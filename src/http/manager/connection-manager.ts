/** The HTTP connection manager of one downstream connection: codec, streams, timeouts, draining. Envoy's ConnectionManagerImpl. */
import type { NetworkFilter, NetworkFilterCallbacks } from "../../extensions/extension.ts";
import type { CloseKind, Connection, ConnectionCallbacks, ConnectionEvent } from "../../net/connection.ts";
import type { Timer } from "../../net/timer-wheel.ts";
import type { MemoryHolder } from "../../overload/thread-state.ts";
import type { RequestDecoder, ResponseEncoder, ServerConnection } from "../codec.ts";
import { H1ServerConnection } from "../h1/server-connection.ts";
import { preface } from "../h2/frames.ts";
import { type H2ServerCallbacks, H2ServerConnection } from "../h2/server-connection.ts";
import type { ResponseHeaders } from "../header-map.ts";
import type { StreamInfo } from "../stream-info.ts";
import type { ManagerSettings } from "./settings.ts";
import { ActiveStream } from "./stream.ts";

/** not draining: connections are kept. draining: the next response says so. closing: the connection ends when its streams have. */
type Drain = "no" | "draining" | "closing";

/** By so much of it an HTTP/2 preface is known; no HTTP/1 request begins so. */
const sniffed = preface.subarray(0, 12);

export class ConnectionManager implements NetworkFilter, H2ServerCallbacks, ConnectionCallbacks {
  readonly settings: ManagerSettings;
  connection!: Connection;
  bufferLimit = 0;
  /** Streams are independent of each other and of the connection's end (HTTP/2). */
  multiplexes = false;
  /** Undefined until the first bytes say, or have said, which protocol it is. */
  #codec: ServerConnection | undefined = undefined;
  /** The first bytes, while they may still become an HTTP/2 preface. */
  #first: Buffer | undefined = undefined;
  #connectionInfo!: StreamInfo;
  readonly #streams = new Set<ActiveStream>();
  #drain: Drain = "no";
  #requests = 0;
  /** HTTP/2: streams that have ended, and those among them that were reset early. */
  #ended = 0;
  #premature = 0;
  #upgraded = false;
  /** The client has sent something. */
  #began = false;
  #sentBefore = 0;
  /** Since when there is no stream. */
  #idleSinceMs = 0;
  /** Since when a request's head is coming in; 0: none is. */
  #headSinceMs = 0;
  #drainEndsMs = Number.POSITIVE_INFINITY;
  readonly #timer: Timer;
  #timerDueMs = Number.POSITIVE_INFINITY;
  #closed = false;

  constructor(settings: ManagerSettings) {
    this.settings = settings;
    this.#timer = settings.context.timers.createTimer(() => this.#onTimer());
  }

  get protocol(): string {
    return this.#codec?.protocol ?? "HTTP/1.1";
  }
  get localPort(): number {
    const { localAddress } = this.connection;
    return localAddress.kind === "ip" ? localAddress.port : 0;
  }

  // ---- network filter ----------------------------------------------------------------------------------------------------

  onNewConnection(callbacks: NetworkFilterCallbacks): "stop" {
    const { connection } = callbacks;
    const { stats, listener } = this.settings;
    this.connection = connection;
    this.#connectionInfo = callbacks.info;
    this.bufferLimit = listener.perConnectionBufferLimitBytes;
    connection.setDelayedCloseTimeout(this.settings.delayedCloseTimeoutMs);
    connection.noDelay(true);
    connection.addCallbacks(this);
    stats.downstream_cx_total.inc();
    stats.downstream_cx_active.inc();
    if (connection.tls !== undefined) {
      stats.downstream_cx_ssl_total.inc();
      stats.downstream_cx_ssl_active.inc();
    }
    this.#idleSinceMs = this.#now();
    this.#arm(this.#nextDue());
    return "stop";
  }

  onData(data: Buffer, endStream: boolean): "stop" {
    const { settings } = this;
    settings.stats.downstream_cx_rx_bytes_total.add(data.length);
    if (!this.#began) {
      this.#began = true;
      if (settings.overload.sheds("envoy.load_shed_points.hcm_ondata_creating_codec")) {
        settings.stats.downstream_rq_overload_close.inc();
        this.#connectionInfo.setFlag("OM");
        this.connection.close("no_flush", "");
        return "stop";
      }
    }
    if (data.length > 0) {
      this.#dispatch(data);
      if (settings.requestHeadersTimeoutMs > 0) this.#watchHead();
    }
    if (endStream && !this.#closed) this.#codec?.onHalfClose();
    return "stop";
  }

  #dispatch(data: Buffer): void {
    if (this.#codec !== undefined) {
      if (!this.multiplexes || !this.#shedsConnection(this.#codec)) this.#codec.dispatch(data);
      return;
    }
    if (this.#first !== undefined) {
      data = Buffer.concat([this.#first, data]);
      this.#first = undefined;
    }
    const choice = this.#protocolOf(data);
    if (choice === undefined) this.#first = Buffer.from(data);
    else {
      const codec = this.#makeCodec(choice);
      if (!this.multiplexes || !this.#shedsConnection(codec)) codec.dispatch(data);
    }
  }

  /** Under overload an HTTP/2 client is told to go, and may be cut off. */
  #shedsConnection(codec: ServerConnection): boolean {
    const { overload, stats } = this.settings;
    if (overload.sheds("envoy.load_shed_points.http2_server_go_away_and_close_on_dispatch")) {
      codec.goAway();
      stats.downstream_rq_overload_close.inc();
      this.#connectionInfo.setFlag("OM");
      this.#close("flush_and_delay", "overload");
      return true;
    }
    if (this.#drain === "no" && overload.sheds("envoy.load_shed_points.http2_server_go_away_on_dispatch")) {
      codec.goAway();
      this.#drain = "closing";
    }
    return false;
  }

  /** As configured, as ALPN has agreed, or as the first bytes look; undefined: there are too few of them. */
  #protocolOf(data: Buffer): "http1" | "http2" | undefined {
    const { codecType } = this.settings;
    if (codecType !== "auto") return codecType;
    const alpn = this.connection.tls?.alpn ?? "";
    if (alpn === "h2") return "http2";
    if (alpn !== "") return "http1";
    const length = Math.min(data.length, sniffed.length);
    if (sniffed.compare(data, 0, length, 0, length) !== 0) return "http1";
    return length === sniffed.length ? "http2" : undefined;
  }

  #makeCodec(choice: "http1" | "http2"): ServerConnection {
    const { connection, settings } = this;
    const { stats } = settings;
    if (choice === "http1") {
      stats.downstream_cx_http1_total.inc();
      stats.downstream_cx_http1_active.inc();
      this.#codec = new H1ServerConnection(connection, settings.h1, this);
    } else {
      stats.downstream_cx_http2_total.inc();
      stats.downstream_cx_http2_active.inc();
      this.multiplexes = true;
      this.#codec = new H2ServerConnection(connection, settings.h2, this, this.bufferLimit);
    }
    return this.#codec;
  }

  #close(kind: CloseKind, details: string): void {
    this.#codec?.flush();
    this.connection.close(kind, details);
  }

  // ---- codec -----------------------------------------------------------------------------------------------------------------

  newStream(encoder: ResponseEncoder): RequestDecoder {
    return this.#addStream(encoder);
  }

  onGoAway(): void {}

  onConnectionError(details: string, isProtocolError: boolean, hadStreams: boolean): void {
    if (isProtocolError) this.onProtocolError();
    if (hadStreams) {
      this.settings.stats.downstream_cx_destroy_local_active_rq.inc();
      this.settings.stats.downstream_cx_destroy_active_rq.inc();
    }
    this.#close("flush_and_delay", details);
  }

  #addStream(encoder: ResponseEncoder): ActiveStream {
    const { stats, maxRequestsPerConnection } = this.settings;
    const stream = new ActiveStream(this, encoder, this.#now());
    stats.downstream_rq_total.inc();
    if (this.multiplexes) stats.downstream_rq_http2_total.inc();
    else stats.downstream_rq_http1_total.inc();
    stats.downstream_rq_active.inc();
    this.#streams.add(stream);
    this.#requests++;
    if (maxRequestsPerConnection > 0 && this.#requests >= maxRequestsPerConnection && (this.#drain === "no" || this.multiplexes)) {
      stats.downstream_cx_max_requests_reached.inc();
      if (this.#drain === "no") this.#startDrain();
    }
    return stream;
  }

  /** The connection is not for further requests: HTTP/1 says so with the next response, HTTP/2 by GOAWAY, twice, so that none gets lost in between. */
  #startDrain(): void {
    this.#drain = "draining";
    if (!this.multiplexes) return;
    this.#codec?.shutdownNotice();
    this.#drainEndsMs = this.#now() + this.settings.drainTimeoutMs;
    if (this.#drainEndsMs < this.#timerDueMs) this.#arm(this.#drainEndsMs);
  }

  /** For an internal redirect: a new stream takes the place and the encoder of an old one. */
  replaceStream(_old: ActiveStream, encoder: ResponseEncoder): ActiveStream {
    return this.#addStream(encoder);
  }

  // ---- what streams ask and tell ---------------------------------------------------------------------------------------------

  /** Facts of the connection, for the stream's info. */
  describeConnection(info: StreamInfo): void {
    const { connection } = this;
    const from = this.#connectionInfo;
    info.connectionId = connection.id;
    info.downstreamRemoteAddress = connection.remoteAddress;
    info.downstreamDirectRemoteAddress = connection.directRemoteAddress;
    info.downstreamLocalAddress = connection.localAddress;
    info.downstreamDirectLocalAddress = from.downstreamDirectLocalAddress ?? connection.localAddress;
    info.downstreamTls = connection.tls;
    info.downstreamHandshakeCompleteMs = from.downstreamHandshakeCompleteMs;
    info.requestedServerName = from.requestedServerName;
    info.ja3 = from.ja3;
    info.ja4 = from.ja4;
    info.listenerName = from.listenerName;
    info.listenerMetadata = from.listenerMetadata;
    info.filterChainMetadata = from.filterChainMetadata;
    info.filterChainName = from.filterChainName;
    info.connectionFilterState = from.connectionFilterState;
    info.connectionInfo = from;
    // What listener filters found (PROXY protocol TLVs, ...) belongs to every stream of the connection.
    if (from.hasDynamicMetadata) for (const [filter, values] of Object.entries(from.dynamicMetadata)) info.setDynamicMetadata(filter, { ...values });
  }

  /** A stream's deadlines are known now. */
  watch(stream: ActiveStream): void {
    const due = stream.dueMs;
    if (due < this.#timerDueMs) this.#arm(due);
  }

  /** Before a response's head is written: whether the connection goes on behind it. */
  beforeResponse(stream: ActiveStream, headers: ResponseHeaders, isUpgrade: boolean): void {
    const { settings } = this;
    if (this.#drain === "no" && settings.listener.drainClose()) {
      this.#startDrain();
      settings.stats.downstream_cx_drain_close.inc();
    }
    if (this.#drain === "no" && settings.overload.disablesKeepAlive) {
      if (this.multiplexes) this.#startDrain();
      else this.#drain = "closing";
      settings.stats.downstream_cx_overload_disable_keepalive.inc();
    }
    if (stream.info.drainConnectionUponCompletion && this.#drain === "no") {
      if (this.multiplexes) this.#startDrain();
      else this.#drain = "closing";
    }
    if (this.multiplexes) {
      // Connections end by GOAWAY; a response leaves its request's rest behind without harm.
      // As Envoy has it: an upgrade that is refused drains the connection, as its client may have sent on.
      if (isUpgrade && headers.status !== 101 && stream.requestHeaders?.method !== "CONNECT" && this.#drain === "no") this.#startDrain();
      if (!stream.requestComplete && !isUpgrade) settings.stats.downstream_rq_response_before_rq_complete.inc();
      return;
    }
    if (stream.closeAfter) this.#drain = "closing";
    if (!stream.requestComplete) {
      const tunnel = isUpgrade && (headers.status === 101 || (headers.status >= 200 && headers.status < 300 && stream.requestHeaders?.method === "CONNECT"));
      if (!tunnel) this.#drain = "closing";
      settings.stats.downstream_rq_response_before_rq_complete.inc();
    }
    if (this.#drain !== "no") {
      if (
        !(isUpgrade && headers.get("upgrade") !== undefined) &&
        !(stream.requestHeaders?.method === "CONNECT" && headers.status >= 200 && headers.status < 300)
      )
        headers.set("connection", "close");
      this.#drain = "closing";
    } else if (this.protocol === "HTTP/1.0") headers.set("connection", "keep-alive");
  }

  /** A request was given up for overload: its connection is marked. */
  onOverloadAbort(): void {
    this.#connectionInfo.setFlag("OM");
  }

  memoryHolders(): MemoryHolder[] {
    return [...this.#streams].map((stream) => ({ bytes: stream.heldBytes, reset: () => stream.resetForMemory() }));
  }

  onUpgrade(_stream: ActiveStream): void {
    this.#upgraded = true;
    this.settings.stats.downstream_cx_upgrades_total.inc();
    this.settings.stats.downstream_cx_upgrades_active.inc();
  }

  onProtocolError(): void {
    this.settings.stats.downstream_cx_protocol_error.inc();
  }

  /** The stream is gone from here on; its connection may go on. */
  forget(stream: ActiveStream): void {
    this.#streams.delete(stream);
    const { stats } = this.settings;
    const sent = this.connection.bytesSent;
    stats.downstream_cx_tx_bytes_total.add(sent - this.#sentBefore);
    this.#sentBefore = sent;
    if (this.#streams.size === 0) this.#idleSinceMs = this.#now();
    if (this.multiplexes) this.#countReset(stream);
  }

  /**
   * Requests that are reset before they were answered cost the peer nothing and us much (CVE-2023-44487): a connection on which most are, is closed.
   * Envoy's maybeDrainDueToPrematureResets.
   */
  #countReset(stream: ActiveStream): void {
    if (stream.isReplaced) return;
    this.#ended++;
    const { runtime } = this.settings.context;
    const lifetimeMs = this.#now() - stream.info.startMs;
    if (stream.info.responseCode === undefined) {
      const least = runtime.snapshot.integer("overload.premature_reset_min_stream_lifetime_seconds", 1);
      if (lifetimeMs <= least * 1000) this.#premature++;
    }
    if (this.#premature === 0) return;
    const limit = runtime.snapshot.integer("overload.premature_reset_total_stream_count", 500);
    if (this.#premature * 2 < Math.max(limit, this.#ended) || this.#closed || this.connection.state !== "open") return;
    const { stats } = this.settings;
    stats.downstream_rq_too_many_premature_resets.inc();
    this.onProtocolError();
    this.#close("no_flush", "too_many_premature_resets");
  }

  /** After a stream has ended: end the connection if this was the last one it waited for. */
  afterStream(stream: ActiveStream): void {
    if (this.#closed || this.#streams.size > 0) return;
    if (!this.multiplexes && (!stream.requestComplete || stream.isUpgrade)) this.#drain = "closing";
    if (this.#drain === "closing") {
      // A client that asked for the end, and got all of it, is not waited for.
      this.#close(stream.requestComplete && stream.closeAfter ? "flush" : "flush_and_delay", "");
      return;
    }
    const due = this.#nextDue();
    if (due < this.#timerDueMs) this.#arm(due);
  }

  // ---- connection --------------------------------------------------------------------------------------------------------------

  onEvent(event: ConnectionEvent): void {
    if (event === "connected" || this.#closed) return;
    this.#closed = true;
    this.#timer.disable();
    const { stats } = this.settings;
    const active = this.#streams.size > 0;
    stats.downstream_cx_destroy.inc();
    if (event === "remote_close") {
      stats.downstream_cx_destroy_remote.inc();
      if (active) stats.downstream_cx_destroy_remote_active_rq.inc();
    } else {
      stats.downstream_cx_destroy_local.inc();
      if (active) stats.downstream_cx_destroy_local_active_rq.inc();
    }
    if (active) stats.downstream_cx_destroy_active_rq.inc();
    stats.downstream_cx_active.dec();
    if (this.multiplexes) stats.downstream_cx_http2_active.dec();
    else if (this.#codec !== undefined) stats.downstream_cx_http1_active.dec();
    if (this.connection.tls !== undefined) stats.downstream_cx_ssl_active.dec();
    if (this.#upgraded) stats.downstream_cx_upgrades_active.dec();
    stats.downstream_cx_length_ms.record(Math.round(this.#now() - this.connection.connectedAtMs));
    this.#codec?.onConnectionEnd();
    // A stream that the codec has let go of already (its request was refused half way) ends here.
    for (const stream of [...this.#streams]) stream.onResetStream("connection_termination", "");
    stats.downstream_cx_tx_bytes_total.add(this.connection.bytesSent - this.#sentBefore);
    this.#sentBefore = this.connection.bytesSent;
  }

  onAboveWriteBufferHighWatermark(): void {
    this.#codec?.onUnderlyingConnectionAboveWriteBufferHighWatermark();
  }
  onBelowWriteBufferLowWatermark(): void {
    this.#codec?.onUnderlyingConnectionBelowWriteBufferLowWatermark();
  }

  // ---- time: one timer for all of a connection's deadlines ---------------------------------------------------------------------
  // It is armed for the nearest one and, when it fires, looks at all; so a request that ends in time costs no timer operation.

  #now(): number {
    return this.settings.context.timers.clock.now();
  }

  #arm(dueMs: number): void {
    this.#timerDueMs = dueMs;
    if (dueMs === Number.POSITIVE_INFINITY) this.#timer.disable();
    else this.#timer.enable(Math.max(0, dueMs - this.#now()));
  }

  #nextDue(): number {
    const { settings } = this;
    let due = this.#drainEndsMs;
    // Timers that may be shortened meanwhile are looked at every second.
    if (settings.overload.scalesTimers) due = Math.min(due, this.#now() + 1000);
    if (settings.maxConnectionDurationMs > 0 && this.#drain === "no") due = Math.min(due, this.#durationEndsMs());
    if (this.#headSinceMs > 0) due = Math.min(due, this.#headSinceMs + settings.requestHeadersTimeoutMs);
    if (this.#streams.size === 0) {
      if (settings.idleTimeoutMs > 0 && !(this.multiplexes && this.#drain !== "no")) due = Math.min(due, this.#idleEndsMs());
    } else for (const stream of this.#streams) due = Math.min(due, stream.dueMs);
    return due;
  }

  #durationEndsMs(): number {
    const { overload, maxConnectionDurationMs } = this.settings;
    return (
      this.connection.connectedAtMs +
      (overload.scalesTimers ? overload.timeout("HTTP_DOWNSTREAM_CONNECTION_MAX", maxConnectionDurationMs) : maxConnectionDurationMs)
    );
  }

  #idleEndsMs(): number {
    const { overload, idleTimeoutMs } = this.settings;
    return this.#idleSinceMs + (overload.scalesTimers ? overload.timeout("HTTP_DOWNSTREAM_CONNECTION_IDLE", idleTimeoutMs) : idleTimeoutMs);
  }

  #watchHead(): void {
    if (this.#first === undefined && !this.#codec?.readingHead) {
      this.#headSinceMs = 0;
      return;
    }
    if (this.#headSinceMs > 0) return;
    this.#headSinceMs = this.#now();
    const due = this.#headSinceMs + this.settings.requestHeadersTimeoutMs;
    if (due < this.#timerDueMs) this.#arm(due);
  }

  #onTimer(): void {
    if (this.#closed) return;
    this.#timerDueMs = Number.POSITIVE_INFINITY;
    const now = this.#now();
    const { settings } = this;
    const { stats } = settings;
    if (settings.maxConnectionDurationMs > 0 && this.#drain === "no" && this.#durationEndsMs() <= now) {
      stats.downstream_cx_max_duration_reached.inc();
      this.#startDrain();
      this.#drainEndsMs = now + settings.drainTimeoutMs;
    }
    if (this.#headSinceMs > 0 && this.#headSinceMs + settings.requestHeadersTimeoutMs <= now) {
      this.#headSinceMs = 0;
      stats.downstream_rq_header_timeout.inc();
      if (this.#codec === undefined) this.#close("flush_and_delay", "request header timeout");
      else this.#codec.refuseHead();
    }
    for (const stream of [...this.#streams]) if (!stream.destroyed && stream.dueMs <= now) stream.onDue(now);
    if (this.#closed) return;
    if (this.multiplexes && this.#drainEndsMs <= now) {
      this.#drain = "closing";
      this.#codec?.goAway();
    }
    if (this.#streams.size === 0) {
      if (this.#drainEndsMs <= now) {
        this.#close("flush_and_delay", "drain timeout");
        return;
      }
      if (settings.idleTimeoutMs > 0 && this.#idleEndsMs() <= now && !(this.multiplexes && this.#drain !== "no")) {
        stats.downstream_cx_idle_timeout.inc();
        if (!this.multiplexes) {
          this.#close("flush_and_delay", "idle timeout");
          return;
        }
        this.#startDrain();
      }
    } else if (this.#drainEndsMs <= now) this.#drainEndsMs = Number.POSITIVE_INFINITY;
    this.#arm(this.#nextDue());
  }
}
