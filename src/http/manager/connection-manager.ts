/** The HTTP connection manager of one downstream connection: codec, streams, timeouts, draining. Envoy's ConnectionManagerImpl. */
import type { NetworkFilter, NetworkFilterCallbacks } from "../../extensions/extension.ts";
import type { Connection, ConnectionCallbacks, ConnectionEvent } from "../../net/connection.ts";
import type { Timer } from "../../net/timer-wheel.ts";
import type { MemoryHolder } from "../../overload/thread-state.ts";
import type { RequestDecoder, ResponseEncoder, ServerConnectionCallbacks } from "../codec.ts";
import { H1ServerConnection } from "../h1/server-connection.ts";
import type { ResponseHeaders } from "../header-map.ts";
import type { StreamInfo } from "../stream-info.ts";
import type { ManagerSettings } from "./settings.ts";
import { ActiveStream } from "./stream.ts";

/** not draining: connections are kept. draining: the next response says so. closing: the connection ends when its streams have. */
type Drain = "no" | "draining" | "closing";

export class ConnectionManager implements NetworkFilter, ServerConnectionCallbacks, ConnectionCallbacks {
  readonly settings: ManagerSettings;
  connection!: Connection;
  bufferLimit = 0;
  readonly multiplexes = false;
  #codec!: H1ServerConnection;
  #connectionInfo!: StreamInfo;
  /** HTTP/1 has one stream at a time; the array is for the codecs that have many. */
  readonly #streams: ActiveStream[] = [];
  #drain: Drain = "no";
  #requests = 0;
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
    return this.#codec.protocol;
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
    stats.downstream_cx_http1_total.inc();
    stats.downstream_cx_http1_active.inc();
    if (connection.tls !== undefined) {
      stats.downstream_cx_ssl_total.inc();
      stats.downstream_cx_ssl_active.inc();
    }
    this.#codec = new H1ServerConnection(connection, this.settings.h1, this);
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
      this.#codec.dispatch(data);
      if (settings.requestHeadersTimeoutMs > 0) this.#watchHead();
    }
    if (endStream && !this.#closed) this.#codec.onHalfClose();
    return "stop";
  }

  // ---- codec -----------------------------------------------------------------------------------------------------------------

  newStream(encoder: ResponseEncoder): RequestDecoder {
    return this.#addStream(encoder);
  }

  onGoAway(): void {}

  #addStream(encoder: ResponseEncoder): ActiveStream {
    const { stats, maxRequestsPerConnection } = this.settings;
    const stream = new ActiveStream(this, encoder, this.#now());
    stats.downstream_rq_total.inc();
    stats.downstream_rq_http1_total.inc();
    stats.downstream_rq_active.inc();
    this.#streams.push(stream);
    this.#requests++;
    if (maxRequestsPerConnection > 0 && this.#requests >= maxRequestsPerConnection && this.#drain === "no") {
      stats.downstream_cx_max_requests_reached.inc();
      this.#drain = "draining";
    }
    return stream;
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
      this.#drain = "draining";
      settings.stats.downstream_cx_drain_close.inc();
    }
    if (this.#drain === "no" && settings.overload.disablesKeepAlive) {
      this.#drain = "closing";
      settings.stats.downstream_cx_overload_disable_keepalive.inc();
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
    } else if (this.#codec.protocol === "HTTP/1.0") headers.set("connection", "keep-alive");
  }

  /** A request was given up for overload: its connection is marked. */
  onOverloadAbort(): void {
    this.#connectionInfo.setFlag("OM");
  }

  memoryHolders(): MemoryHolder[] {
    return this.#streams.map((stream) => ({ bytes: stream.heldBytes, reset: () => stream.resetForMemory() }));
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
    const at = this.#streams.indexOf(stream);
    if (at >= 0) this.#streams.splice(at, 1);
    const { stats } = this.settings;
    const sent = this.connection.bytesSent;
    stats.downstream_cx_tx_bytes_total.add(sent - this.#sentBefore);
    this.#sentBefore = sent;
    if (this.#streams.length === 0) this.#idleSinceMs = this.#now();
  }

  /** After a stream has ended: end the connection if this was the last one it waited for. */
  afterStream(stream: ActiveStream): void {
    if (this.#closed || this.#streams.length > 0) return;
    if (!stream.requestComplete || stream.isUpgrade) this.#drain = "closing";
    if (this.#drain === "closing") {
      // A client that asked for the end, and got all of it, is not waited for.
      this.connection.close(stream.requestComplete && stream.closeAfter ? "flush" : "flush_and_delay", "");
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
    const active = this.#streams.length > 0;
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
    stats.downstream_cx_http1_active.dec();
    if (this.connection.tls !== undefined) stats.downstream_cx_ssl_active.dec();
    if (this.#upgraded) stats.downstream_cx_upgrades_active.dec();
    stats.downstream_cx_length_ms.record(Math.round(this.#now() - this.connection.connectedAtMs));
    this.#codec.onConnectionEnd();
    // A stream that the codec has let go of already (its request was refused half way) ends here.
    for (const stream of this.#streams.slice()) stream.onResetStream("connection_termination", "");
    stats.downstream_cx_tx_bytes_total.add(this.connection.bytesSent - this.#sentBefore);
    this.#sentBefore = this.connection.bytesSent;
  }

  onAboveWriteBufferHighWatermark(): void {
    this.#codec.onUnderlyingConnectionAboveWriteBufferHighWatermark();
  }
  onBelowWriteBufferLowWatermark(): void {
    this.#codec.onUnderlyingConnectionBelowWriteBufferLowWatermark();
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
    if (this.#streams.length === 0) {
      if (settings.idleTimeoutMs > 0) due = Math.min(due, this.#idleEndsMs());
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
    if (!this.#codec.readingHead) {
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
      this.#drain = "draining";
      this.#drainEndsMs = now + settings.drainTimeoutMs;
    }
    if (this.#headSinceMs > 0 && this.#headSinceMs + settings.requestHeadersTimeoutMs <= now) {
      this.#headSinceMs = 0;
      stats.downstream_rq_header_timeout.inc();
      this.#codec.refuse(408, "request header timeout", "request_header_timeout");
    }
    for (const stream of this.#streams.slice()) if (!stream.destroyed && stream.dueMs <= now) stream.onDue(now);
    if (this.#closed) return;
    if (this.#streams.length === 0) {
      if (this.#drainEndsMs <= now) {
        this.connection.close("flush_and_delay", "max connection duration");
        return;
      }
      if (settings.idleTimeoutMs > 0 && this.#idleEndsMs() <= now) {
        stats.downstream_cx_idle_timeout.inc();
        this.connection.close("flush_and_delay", "idle timeout");
        return;
      }
    } else if (this.#drainEndsMs <= now) this.#drainEndsMs = Number.POSITIVE_INFINITY;
    this.#arm(this.#nextDue());
  }
}
