/** One HTTP/2 connection of a pool: the codec's and the connection's callbacks. */
import type { RequestEncoder, ResponseDecoder, StreamResetReason } from "../http/codec.ts";
import { type H2ClientCallbacks, H2ClientConnection } from "../http/h2/client-connection.ts";
import type { UpstreamInfo } from "../http/stream-info.ts";
import type { ConnectionCallbacks, ConnectionEvent, ReadFilter } from "../net/connection.ts";
import type { SocketConnection } from "../net/socket-connection.ts";
import type { Timer } from "../net/timer-wheel.ts";
import { dialHost } from "./dial-host.ts";
import type { Http2Pool } from "./http2-pool.ts";

export class Http2Client implements ConnectionCallbacks, ReadFilter, H2ClientCallbacks {
  readonly #pool: Http2Pool;
  #connection!: SocketConnection;
  #codec: H2ClientConnection | undefined = undefined;
  /** The connect timeout first, idleness later. */
  #timer!: Timer;
  #durationTimer: Timer | undefined = undefined;
  #connectTimedOut = false;
  #startedMs = 0;
  #connectedMs = 0;
  #idleSinceMs = 0;
  #sentBefore = 0;
  #requests = 0;
  #closed = false;
  #protocolError = false;
  /** Streams under way. */
  active = 0;
  /** No further streams: it is too old, was told so, or its peer said so. */
  retired = false;

  constructor(pool: Http2Pool) {
    this.#pool = pool;
  }

  connect(): void {
    const { cluster, host, sni, offered } = this.#pool;
    const { settings, stats } = cluster;
    stats.upstream_cx_total.inc();
    stats.upstream_cx_active.inc();
    host.stats.cx_total.inc();
    host.stats.cx_active.inc();
    this.#startedMs = cluster.now();
    this.#connection = dialHost(host, sni, offered);
    this.#connection.addCallbacks(this);
    this.#timer = cluster.timers.createTimer(() => this.#onTimer());
    this.#timer.enable(settings.connectTimeoutMs);
  }

  get connecting(): boolean {
    return this.#connectedMs === 0;
  }

  /** Streams that it takes now. */
  get capacity(): number {
    const codec = this.#codec;
    if (codec === undefined || this.retired || this.#closed || codec.dead) return 0;
    const limit = this.#pool.cluster.settings.maxRequestsPerConnection;
    const left = limit > 0 ? limit - this.#requests : Number.POSITIVE_INFINITY;
    return Math.min(codec.streamLimit - this.active, left);
  }

  /** Streams that it is expected to take beyond its capacity of now: it is being made, or its peer has not said yet how many it takes. */
  get expected(): number {
    if (this.retired || this.#codec?.isSettled === true) return 0;
    const { h2, maxRequestsPerConnection } = this.#pool.cluster.settings;
    const most = Math.max(1, Math.min(h2.maxConcurrentStreams, maxRequestsPerConnection > 0 ? maxRequestsPerConnection : Number.POSITIVE_INFINITY));
    return most - this.active;
  }

  begin(decoder: ResponseDecoder): RequestEncoder {
    const { settings, stats } = this.#pool.cluster;
    this.active++;
    if (++this.#requests === settings.maxRequestsPerConnection) {
      stats.upstream_cx_max_requests.inc();
      this.retired = true;
    }
    const codec = this.#codec as H2ClientConnection;
    if (codec.isWorn) this.retired = true;
    return codec.newStream(decoder);
  }

  describe(waitedMs: number | undefined): UpstreamInfo {
    const connection = this.#connection;
    return {
      host: this.#pool.host,
      localAddress: connection.localAddress,
      remoteAddress: connection.remoteAddress,
      connectionId: connection.id,
      tls: connection.tls,
      protocol: "HTTP/2",
      transportFailureReason: "",
      connectStartMs: this.#startedMs,
      connectedMs: this.#connectedMs,
      tlsHandshakeDoneMs: connection.tls === undefined ? undefined : this.#connectedMs,
      firstTxByteMs: undefined,
      lastTxByteMs: undefined,
      firstRxByteMs: undefined,
      lastRxByteMs: undefined,
      poolReadyMs: waitedMs,
      connectionStreams: this.#requests,
    };
  }

  startIdle(): void {
    const { idleTimeoutMs } = this.#pool.cluster.settings;
    if (idleTimeoutMs <= 0) return;
    this.#idleSinceMs = this.#pool.cluster.now();
    // Left armed while there are streams: it looks how long there were none when it fires, and nothing is done per request.
    if (!this.#timer.enabled) this.#timer.enable(idleTimeoutMs);
  }

  close(): void {
    this.#codec?.flush();
    this.#connection.close("no_flush");
  }

  /** Ends behind the streams under way. */
  retire(): void {
    this.retired = true;
    if (this.active === 0 && !this.connecting) this.close();
  }

  #onTimer(): void {
    const { cluster } = this.#pool;
    if (this.#connection.state === "connecting") {
      this.#connectTimedOut = true;
      cluster.stats.upstream_cx_connect_timeout.inc();
      this.#connection.close("no_flush", "connect timeout");
      return;
    }
    if (this.active > 0) return; // idle begins when the last stream has ended
    const left = this.#idleSinceMs + cluster.settings.idleTimeoutMs - cluster.now();
    if (left > 0) {
      this.#timer.enable(left);
      return;
    }
    cluster.stats.upstream_cx_idle_timeout.inc();
    this.close();
  }

  // ---- connection --------------------------------------------------------------------------------------------------------------

  onEvent(event: ConnectionEvent): void {
    if (event === "connected") this.#onConnected();
    else if (!this.#closed) this.#onClosed(event);
  }

  #onConnected(): void {
    const pool = this.#pool;
    const { cluster } = pool;
    this.#timer.disable();
    this.#connectedMs = cluster.now();
    cluster.stats.upstream_cx_connect_ms.record(Math.round(this.#connectedMs - this.#startedMs));
    const { fallback } = pool;
    if (fallback !== undefined && this.#connection.tls?.alpn !== "h2") {
      this.#closed = true;
      this.#connection.removeCallbacks(this);
      pool.onHttp1(this, this.#connection, this.#startedMs, this.#connectedMs);
      return;
    }
    cluster.stats.upstream_cx_http2_total.inc();
    this.#codec = new H2ClientConnection(this.#connection, cluster.settings.h2, this, cluster.settings.perConnectionBufferLimitBytes);
    this.#connection.setReadFilter(this);
    const { maxConnectionDurationMs } = cluster.settings;
    if (maxConnectionDurationMs > 0) {
      this.#durationTimer = cluster.timers.createTimer(() => {
        cluster.stats.upstream_cx_max_duration_reached.inc();
        this.retire();
      });
      this.#durationTimer.enable(maxConnectionDurationMs);
    }
    this.startIdle();
    pool.onConnected(this);
  }

  #onClosed(event: "remote_close" | "local_close"): void {
    const pool = this.#pool;
    const { cluster, host } = pool;
    const { stats } = cluster;
    const connected = this.#connectedMs !== 0;
    this.#closed = true;
    this.#timer.disable();
    this.#durationTimer?.disable();
    const active = this.active > 0;
    stats.upstream_cx_active.dec();
    host.stats.cx_active.dec();
    stats.upstream_cx_destroy.inc();
    if (event === "remote_close") stats.upstream_cx_destroy_remote.inc();
    else stats.upstream_cx_destroy_local.inc();
    if (active) {
      stats.upstream_cx_destroy_with_active_rq.inc();
      if (event === "remote_close") stats.upstream_cx_destroy_remote_with_active_rq.inc();
      else stats.upstream_cx_destroy_local_with_active_rq.inc();
    }
    if (!connected) {
      stats.upstream_cx_connect_fail.inc();
      host.stats.cx_connect_fail.inc();
      if (this.#connection.bindFailed) stats.bind_errors.inc();
      const failure = this.#connectTimedOut ? "timeout" : event === "local_close" ? "local_connection_failure" : "remote_connection_failure";
      pool.onClosed(this, failure, this.#connection.transportFailureReason);
      return;
    }
    stats.upstream_cx_length_ms.record(Math.round(cluster.now() - this.#connectedMs));
    stats.upstream_rq_per_cx.record(this.#requests);
    this.#countSent();
    // The account is closed before anyone is told, so that a retry finds its place free.
    pool.onClosed(this, undefined, "");
    this.#codec?.onConnectionEnd();
  }

  onAboveWriteBufferHighWatermark(): void {
    this.#codec?.onUnderlyingConnectionAboveWriteBufferHighWatermark();
  }
  onBelowWriteBufferLowWatermark(): void {
    this.#codec?.onUnderlyingConnectionBelowWriteBufferLowWatermark();
  }

  onData(data: Buffer): void {
    this.#pool.cluster.stats.upstream_cx_rx_bytes_total.add(data.length);
    this.#codec?.dispatch(data);
  }

  #countSent(): void {
    const sent = this.#connection.bytesSent;
    this.#pool.cluster.stats.upstream_cx_tx_bytes_total.add(sent - this.#sentBefore);
    this.#sentBefore = sent;
  }

  // ---- codec -------------------------------------------------------------------------------------------------------------------

  onGoAway(): void {
    if (!this.retired) this.#pool.cluster.stats.upstream_cx_close_notify.inc();
    this.retire();
  }

  onPeerLimits(): void {
    this.#pool.onCapacity(this);
  }

  onStreamEnded(): void {
    this.active--;
    this.#pool.onStreamEnded();
    if (this.#closed) return;
    this.#countSent();
    if (this.active === 0) {
      if (this.retired) {
        // Not at once: the response that ended is still to be told.
        queueMicrotask(() => this.close());
        return;
      }
      this.startIdle();
    }
    this.#pool.onCapacity(this);
  }

  onStreamReset(reason: StreamResetReason): void {
    const { stats } = this.#pool.cluster;
    switch (reason) {
      case "connection_termination":
      case "local_connection_failure":
      case "remote_connection_failure":
      case "connection_timeout":
        stats.upstream_rq_pending_failure_eject.inc();
        break;
      case "local_reset":
      case "protocol_error":
      case "overload_manager":
        stats.upstream_rq_tx_reset.inc();
        break;
      case "remote_reset":
        stats.upstream_rq_rx_reset.inc();
        break;
      default: // a stream that was refused is not counted here
    }
  }

  onProtocolError(details: string): void {
    if (this.#protocolError) return;
    this.#protocolError = true;
    if (details !== "") this.#pool.cluster.stats.upstream_cx_protocol_error.inc();
    this.close();
  }
}
