/** One HTTP/1 connection of a pool: the codec's decoder, so that it sees where each response ends, and the connection's callbacks. */
import type { ClientConnectionCallbacks, RequestEncoder, ResponseDecoder } from "../http/codec.ts";
import { H1ClientConnection, type H1ClientStream, idleTimeoutAnswer } from "../http/h1/client-connection.ts";
import type { ResponseHeaders, Trailers } from "../http/header-map.ts";
import type { UpstreamInfo } from "../http/stream-info.ts";
import type { ConnectionCallbacks, ConnectionEvent, ReadFilter } from "../net/connection.ts";
import type { SocketConnection } from "../net/socket-connection.ts";
import type { Timer } from "../net/timer-wheel.ts";
import { dialHost } from "./dial-host.ts";
import type { Http1Pool } from "./http1-pool.ts";

export class Http1Client implements ResponseDecoder, ConnectionCallbacks, ReadFilter, ClientConnectionCallbacks {
  readonly #pool: Http1Pool;
  #connection!: SocketConnection;
  #codec!: H1ClientConnection;
  /** Who hears the response under way. */
  #decoder: ResponseDecoder | undefined = undefined;
  #stream: H1ClientStream | undefined = undefined;
  /** The connect timeout first, idleness later. */
  #timer!: Timer;
  #durationTimer: Timer | undefined = undefined;
  #connectTimedOut = false;
  #startedMs = 0;
  #connectedMs = 0;
  #idleSinceMs = 0;
  #requests = 0;
  #sentBefore = 0;
  #closed = false;
  #protocolError = false;
  /** A response has ended; the connection is settled once the bytes at hand are all taken. */
  #settling = false;
  /** The response ended before the request did: the rest of the request must not become the next one. */
  #premature = false;
  /** No further request: it is too old, or was told so. */
  #retired = false;

  constructor(pool: Http1Pool) {
    this.#pool = pool;
  }

  connect(): void {
    const { cluster, host, sni, offered } = this.#pool;
    const { settings, stats } = cluster;
    stats.upstream_cx_total.inc();
    stats.upstream_cx_active.inc();
    stats.upstream_cx_http1_total.inc();
    host.stats.cx_total.inc();
    host.stats.cx_active.inc();
    this.#startedMs = cluster.now();
    this.#connection = dialHost(host, sni, offered);
    this.#connection.addCallbacks(this);
    this.#timer = cluster.timers.createTimer(() => this.#onTimer());
    this.#timer.enable(settings.connectTimeoutMs);
  }

  /** A connection that was made, and counted, while it was not yet known what its peer speaks. */
  adopt(connection: SocketConnection, startedMs: number, connectedMs: number): void {
    const { cluster } = this.#pool;
    cluster.stats.upstream_cx_http1_total.inc();
    this.#startedMs = startedMs;
    this.#connection = connection;
    connection.addCallbacks(this);
    this.#timer = cluster.timers.createTimer(() => this.#onTimer());
    this.#begin(connectedMs);
  }

  begin(decoder: ResponseDecoder): RequestEncoder {
    this.#decoder = decoder;
    const { settings, stats } = this.#pool.cluster;
    if (++this.#requests === settings.maxRequestsPerConnection) stats.upstream_cx_max_requests.inc();
    const stream = this.#codec.newStream(this);
    this.#stream = stream;
    return stream;
  }

  describe(waitedMs: number | undefined): UpstreamInfo {
    const connection = this.#connection;
    return {
      host: this.#pool.host,
      localAddress: connection.localAddress,
      remoteAddress: connection.remoteAddress,
      connectionId: connection.id,
      tls: connection.tls,
      protocol: "HTTP/1.1",
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
    // Left armed while the connection is busy: it looks how long it has been idle when it fires, and nothing is done per request.
    if (!this.#timer.enabled) this.#timer.enable(idleTimeoutMs);
  }

  close(): void {
    this.#connection.close("no_flush");
  }

  /** Ends behind the response under way. */
  retire(): void {
    this.#retired = true;
  }

  #onTimer(): void {
    const { cluster } = this.#pool;
    if (this.#connection.state === "connecting") {
      this.#connectTimedOut = true;
      cluster.stats.upstream_cx_connect_timeout.inc();
      this.#connection.close("no_flush", "connect timeout");
      return;
    }
    if (this.#decoder !== undefined || this.#settling) return; // idle begins when the response has ended
    const left = this.#idleSinceMs + cluster.settings.idleTimeoutMs - cluster.now();
    if (left > 0) {
      this.#timer.enable(left);
      return;
    }
    cluster.stats.upstream_cx_idle_timeout.inc();
    this.close();
  }

  #onTooOld(): void {
    this.#retired = true;
    this.#pool.cluster.stats.upstream_cx_max_duration_reached.inc();
    if (this.#decoder === undefined && !this.#settling) this.close();
  }

  // ---- connection --------------------------------------------------------------------------------------------------------------

  onEvent(event: ConnectionEvent): void {
    if (event === "connected") this.#onConnected();
    else if (!this.#closed) this.#onClosed(event);
  }

  #onConnected(): void {
    const { cluster } = this.#pool;
    this.#timer.disable();
    const now = cluster.now();
    cluster.stats.upstream_cx_connect_ms.record(Math.round(now - this.#startedMs));
    this.#begin(now);
  }

  #begin(connectedMs: number): void {
    const { cluster } = this.#pool;
    this.#connectedMs = connectedMs;
    this.#codec = new H1ClientConnection(this.#connection, cluster.settings.h1, this);
    this.#connection.setReadFilter(this);
    const { maxConnectionDurationMs } = cluster.settings;
    if (maxConnectionDurationMs > 0) {
      this.#durationTimer = cluster.timers.createTimer(() => this.#onTooOld());
      this.#durationTimer.enable(maxConnectionDurationMs);
    }
    this.#pool.onConnected(this);
  }

  #onClosed(event: "remote_close" | "local_close"): void {
    const pool = this.#pool;
    const { cluster, host } = pool;
    const { stats } = cluster;
    const connected = this.#connectedMs !== 0;
    // A response without a length ends with the connection: that is no break.
    if (connected && event === "remote_close" && this.#codec.endsWithConnection) {
      this.#settling = true;
      pool.onSettling();
      this.#codec.onConnectionEnd();
    }
    this.#closed = true;
    this.#timer.disable();
    this.#durationTimer?.disable();
    const active = this.#decoder !== undefined;
    stats.upstream_cx_active.dec();
    host.stats.cx_active.dec();
    stats.upstream_cx_destroy.inc();
    if (event === "remote_close") stats.upstream_cx_destroy_remote.inc();
    else stats.upstream_cx_destroy_local.inc();
    if (active || this.#premature) {
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
    if (this.#settling) {
      this.#settling = false;
      pool.onSettled(this, false);
    }
    if (active) pool.onStreamEnded();
    pool.onClosed(this, undefined, "");
    this.#codec.onConnectionEnd(event === "local_close");
    this.#decoder = undefined;
    this.#stream = undefined;
  }

  onAboveWriteBufferHighWatermark(): void {
    this.#codec.onUnderlyingConnectionAboveWriteBufferHighWatermark();
  }
  onBelowWriteBufferLowWatermark(): void {
    this.#codec.onUnderlyingConnectionBelowWriteBufferLowWatermark();
  }

  onData(data: Buffer): void {
    this.#pool.cluster.stats.upstream_cx_rx_bytes_total.add(data.length);
    this.#codec.dispatch(data);
    if (this.#settling) this.#settle();
  }

  onGoAway(): void {}

  onProtocolError(details: string): void {
    if (this.#protocolError) return;
    this.#protocolError = true;
    if (details !== idleTimeoutAnswer) this.#pool.cluster.stats.upstream_cx_protocol_error.inc();
    this.close();
  }

  #countSent(): void {
    const sent = this.#connection.bytesSent;
    this.#pool.cluster.stats.upstream_cx_tx_bytes_total.add(sent - this.#sentBefore);
    this.#sentBefore = sent;
  }

  // ---- responses ---------------------------------------------------------------------------------------------------------------

  decode1xxHeaders(headers: ResponseHeaders): void {
    this.#decoder?.decode1xxHeaders(headers);
  }
  decodeHeaders(headers: ResponseHeaders, endStream: boolean): void {
    const decoder = this.#decoder;
    if (this.#codec.closeAnnounced) this.#pool.cluster.stats.upstream_cx_close_notify.inc();
    if (endStream) this.#responseEnds();
    decoder?.decodeHeaders(headers, endStream);
  }
  decodeData(chunk: Buffer, endStream: boolean): void {
    const decoder = this.#decoder;
    if (endStream) this.#responseEnds();
    decoder?.decodeData(chunk, endStream);
  }
  decodeTrailers(trailers: Trailers): void {
    const decoder = this.#decoder;
    this.#responseEnds();
    decoder?.decodeTrailers(trailers);
  }

  /** The account is closed before the response's end is told: who hears it may begin the next request. */
  #responseEnds(): void {
    if (this.#decoder === undefined || this.#closed) return;
    this.#decoder = undefined;
    this.#premature = this.#stream?.requestEnded === false;
    this.#pool.onStreamEnded();
    if (this.#settling) return; // it ends with the connection
    this.#settling = true;
    this.#pool.onSettling();
  }

  /** After everyone has been told and all bytes are taken: the next request may have the connection, or it ends. */
  #settle(): void {
    if (this.#closed) return;
    this.#settling = false;
    this.#countSent();
    const limit = this.#pool.cluster.settings.maxRequestsPerConnection;
    const worn = this.#retired || (limit > 0 && this.#requests >= limit) || this.#codec.closeAfterResponse;
    this.#pool.onSettled(this, !worn && this.#codec.idle && this.#connection.state === "open");
  }
}
