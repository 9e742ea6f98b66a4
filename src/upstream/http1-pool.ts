/**
 * HTTP/1 connections to one host at one priority: idle ones are used again (the last used first), requests wait in order for those that are
 * being made. Envoy's FixedHttpConnPoolImpl for HTTP/1.
 */
import type { ClientConnectionCallbacks, RequestEncoder, ResponseDecoder } from "../http/codec.ts";
import { H1ClientConnection } from "../http/h1/client-connection.ts";
import type { ResponseHeaders, Trailers } from "../http/header-map.ts";
import { emptyUpstreamInfo, type UpstreamInfo } from "../http/stream-info.ts";
import type { ConnectionCallbacks, ConnectionEvent, ReadFilter } from "../net/connection.ts";
import { connect, type SocketConnection } from "../net/socket-connection.ts";
import type { Timer } from "../net/timer-wheel.ts";
import type { ClusterCore } from "./cluster-core.ts";
import type { HostImpl } from "./host.ts";
import type { CellsResourceManager } from "./resource-manager.ts";
import type { HttpPool, PoolCallbacks, PoolRequest, Priority } from "./upstream.ts";

class PendingRequest implements PoolRequest {
  readonly pool: Http1Pool;
  readonly decoder: ResponseDecoder;
  readonly callbacks: PoolCallbacks;
  readonly sinceMs: number;
  constructor(pool: Http1Pool, decoder: ResponseDecoder, callbacks: PoolCallbacks, sinceMs: number) {
    this.pool = pool;
    this.decoder = decoder;
    this.callbacks = callbacks;
    this.sinceMs = sinceMs;
  }
  cancel(): void {
    this.pool.cancel(this);
  }
}

export class Http1Pool implements HttpPool {
  readonly host: HostImpl;
  readonly cluster: ClusterCore;
  readonly resources: CellsResourceManager;
  /** SNI of this pool's connections where it follows the request (auto_sni). */
  readonly sni: string | undefined;
  #idle: Client[] = [];
  readonly #connecting = new Set<Client>();
  readonly #busy = new Set<Client>();
  #pending: PendingRequest[] = [];
  #draining = false;

  constructor(cluster: ClusterCore, host: HostImpl, priority: Priority, sni: string | undefined) {
    this.cluster = cluster;
    this.host = host;
    this.resources = cluster.resourceManager(priority);
    this.sni = sni;
  }

  newStream(decoder: ResponseDecoder, callbacks: PoolCallbacks): PoolRequest | undefined {
    const client = this.#idle.pop();
    if (client !== undefined) {
      this.#attach(client, decoder, callbacks, undefined);
      return undefined;
    }
    if (!this.resources.tryAcquirePending()) {
      // No host was asked.
      callbacks.onPoolFailure("overflow", "", undefined);
      return undefined;
    }
    const { stats } = this.cluster;
    stats.upstream_rq_pending_total.inc();
    stats.upstream_rq_pending_active.inc();
    const request = new PendingRequest(this, decoder, callbacks, this.cluster.now());
    this.#pending.push(request);
    this.#connectMore();
    return request;
  }

  /** Bounded by need: one connection being made per waiting request. */
  #connectMore(): void {
    while (this.#connecting.size < this.#pending.length) {
      if (!this.resources.tryAcquireConnection()) {
        // A pool without any connection would wait for ever.
        if (this.#connecting.size + this.#busy.size + this.#idle.length > 0) return;
        this.resources.acquireConnection();
      }
      const client = new Client(this);
      this.#connecting.add(client);
      client.connect();
    }
  }

  cancel(request: PendingRequest): void {
    const at = this.#pending.indexOf(request);
    if (at < 0) return;
    this.#pending.splice(at, 1);
    this.#releasePending();
    this.cluster.stats.upstream_rq_cancelled.inc();
  }

  #releasePending(): void {
    this.resources.releasePending();
    this.cluster.stats.upstream_rq_pending_active.dec();
  }

  #attach(client: Client, decoder: ResponseDecoder, callbacks: PoolCallbacks, waitedMs: number | undefined): void {
    const { cluster, host, resources } = this;
    if (!resources.tryAcquireRequest()) {
      this.#idle.push(client);
      callbacks.onPoolFailure("overflow", "", host);
      return;
    }
    this.#busy.add(client);
    cluster.stats.upstream_rq_total.inc();
    cluster.stats.upstream_rq_active.inc();
    host.stats.rq_total.inc();
    host.stats.rq_active.inc();
    callbacks.onPoolReady(client.begin(decoder), host, client.describe(waitedMs));
  }

  // ---- what clients tell ---------------------------------------------------------------------------------------------------

  onConnected(client: Client): void {
    this.#connecting.delete(client);
    this.onIdle(client);
  }

  /** A connection has nothing to do: the longest waiting request gets it. */
  onIdle(client: Client): void {
    this.#busy.delete(client);
    if (this.#draining && this.#pending.length === 0) {
      client.close();
      return;
    }
    const request = this.#pending.shift();
    if (request === undefined) {
      this.#idle.push(client);
      client.startIdle();
      return;
    }
    this.#releasePending();
    this.#attach(client, request.decoder, request.callbacks, this.cluster.now() - request.sinceMs);
  }

  onStreamEnded(): void {
    this.resources.releaseRequest();
    this.cluster.stats.upstream_rq_active.dec();
    this.host.stats.rq_active.dec();
  }

  /** `failure`: it never connected. */
  onClosed(client: Client, failure: "remote_connection_failure" | "local_connection_failure" | "timeout" | undefined, reason: string): void {
    this.resources.releaseConnection();
    this.#connecting.delete(client);
    this.#busy.delete(client);
    const at = this.#idle.indexOf(client);
    if (at >= 0) this.#idle.splice(at, 1);
    if (failure !== undefined) {
      // Who waits for this host is told now: the router may try another one.
      const waiting = this.#pending;
      this.#pending = [];
      for (const request of waiting) {
        this.#releasePending();
        this.cluster.stats.upstream_rq_pending_failure_eject.inc();
        request.callbacks.onPoolFailure(failure, reason, this.host);
      }
      return;
    }
    if (this.#pending.length > 0) this.#connectMore();
  }

  /** The host is gone: idle connections end, busy ones behind their response. */
  drain(): void {
    this.#draining = true;
    for (const client of this.#idle.slice()) client.close();
  }

  close(): void {
    this.#draining = true;
    for (const client of [...this.#idle, ...this.#connecting, ...this.#busy]) client.close();
  }
}

/** One connection: the codec's decoder, so that it sees where each response ends, and the connection's callbacks. */
class Client implements ResponseDecoder, ConnectionCallbacks, ReadFilter, ClientConnectionCallbacks {
  readonly #pool: Http1Pool;
  #connection!: SocketConnection;
  #codec!: H1ClientConnection;
  #decoder: ResponseDecoder | undefined = undefined;
  #encoder: RequestEncoder | undefined = undefined;
  #timer: Timer | undefined = undefined;
  #connectTimedOut = false;
  #startedMs = 0;
  #connectedMs = 0;
  #idleSinceMs = 0;
  #requests = 0;
  #sentBefore = 0;
  #closed = false;
  #protocolError = false;

  constructor(pool: Http1Pool) {
    this.#pool = pool;
  }

  connect(): void {
    const { cluster, host, sni } = this.#pool;
    const { settings, stats } = cluster;
    stats.upstream_cx_total.inc();
    stats.upstream_cx_active.inc();
    stats.upstream_cx_http1_total.inc();
    host.stats.cx_total.inc();
    host.stats.cx_active.inc();
    this.#startedMs = cluster.now();
    const transport = settings.transportSocket;
    this.#connection = connect(host.address, {
      timers: cluster.timers,
      side: "upstream",
      bufferLimitBytes: settings.perConnectionBufferLimitBytes,
      tls: transport?.options({ hostname: host.hostname, sni }),
      accept: transport?.accept === undefined ? undefined : (socket) => transport.accept?.(socket),
      bindAddress: settings.bindAddress,
      keepAliveMs: settings.keepAliveMs,
    });
    this.#connection.addCallbacks(this);
    this.#timer = cluster.timers.createTimer(() => this.#onTimer());
    this.#timer.enable(settings.connectTimeoutMs);
  }

  begin(decoder: ResponseDecoder): RequestEncoder {
    this.#decoder = decoder;
    this.#requests++;
    this.#encoder = this.#codec.newStream(this);
    return this.#encoder;
  }

  describe(waitedMs: number | undefined): UpstreamInfo {
    const info = emptyUpstreamInfo();
    const connection = this.#connection;
    info.host = this.#pool.host;
    info.localAddress = connection.localAddress;
    info.remoteAddress = connection.remoteAddress;
    info.connectionId = connection.id;
    info.tls = connection.tls;
    info.protocol = "HTTP/1.1";
    info.connectStartMs = this.#startedMs;
    info.connectedMs = this.#connectedMs;
    if (connection.tls !== undefined) info.tlsHandshakeDoneMs = this.#connectedMs;
    info.poolReadyMs = waitedMs;
    info.connectionStreams = this.#requests;
    return info;
  }

  startIdle(): void {
    const { idleTimeoutMs } = this.#pool.cluster.settings;
    this.#idleSinceMs = this.#pool.cluster.now();
    if (idleTimeoutMs > 0 && this.#timer?.enabled !== true) this.#timer?.enable(idleTimeoutMs);
  }

  close(): void {
    this.#connection.close("no_flush");
  }

  /** One timer: for the connect timeout, later for idleness (it fires now and then and looks how long the connection has been idle). */
  #onTimer(): void {
    const { cluster } = this.#pool;
    if (this.#connection.state === "connecting") {
      this.#connectTimedOut = true;
      cluster.stats.upstream_cx_connect_timeout.inc();
      this.#connection.close("no_flush", "connect timeout");
      return;
    }
    if (this.#decoder !== undefined) return;
    const left = this.#idleSinceMs + cluster.settings.idleTimeoutMs - cluster.now();
    if (left > 0) {
      this.#timer?.enable(left);
      return;
    }
    cluster.stats.upstream_cx_idle_timeout.inc();
    this.close();
  }

  // ---- connection --------------------------------------------------------------------------------------------------------------

  onEvent(event: ConnectionEvent): void {
    const pool = this.#pool;
    const { cluster, host } = pool;
    const { stats } = cluster;
    if (event === "connected") {
      this.#timer?.disable();
      this.#connectedMs = cluster.now();
      stats.upstream_cx_connect_ms.record(Math.round(this.#connectedMs - this.#startedMs));
      this.#codec = new H1ClientConnection(this.#connection, cluster.settings.h1, this);
      this.#connection.setReadFilter(this);
      pool.onConnected(this);
      return;
    }
    if (this.#closed) return;
    this.#closed = true;
    this.#timer?.disable();
    stats.upstream_cx_active.dec();
    host.stats.cx_active.dec();
    if (this.#connectedMs === 0) {
      if (!this.#connectTimedOut) stats.upstream_cx_connect_fail.inc();
      host.stats.cx_connect_fail.inc();
      pool.onClosed(
        this,
        this.#connectTimedOut ? "timeout" : event === "local_close" ? "local_connection_failure" : "remote_connection_failure",
        this.#connection.transportFailureReason,
      );
      return;
    }
    const active = this.#decoder !== undefined;
    stats.upstream_cx_destroy.inc();
    if (event === "remote_close") {
      stats.upstream_cx_destroy_remote.inc();
      if (active) stats.upstream_cx_destroy_remote_with_active_rq.inc();
    } else {
      stats.upstream_cx_destroy_local.inc();
      if (active) stats.upstream_cx_destroy_local_with_active_rq.inc();
    }
    if (active) stats.upstream_cx_destroy_with_active_rq.inc();
    stats.upstream_cx_length_ms.record(Math.round(cluster.now() - this.#connectedMs));
    stats.upstream_rq_per_cx.record(this.#requests);
    this.#countSent();
    // The account is closed before anyone is told, so that a retry finds its place free.
    if (active) pool.onStreamEnded();
    pool.onClosed(this, undefined, "");
    this.#codec.onConnectionEnd();
    this.#decoder = undefined;
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
  }

  onGoAway(): void {}

  onProtocolError(_details: string): void {
    if (this.#protocolError) return;
    this.#protocolError = true;
    this.#pool.cluster.stats.upstream_cx_protocol_error.inc();
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
    if (endStream) this.#responseEnds();
    decoder?.decodeHeaders(headers, endStream);
    if (endStream) this.#afterResponse();
  }
  decodeData(chunk: Buffer, endStream: boolean): void {
    const decoder = this.#decoder;
    if (endStream) this.#responseEnds();
    decoder?.decodeData(chunk, endStream);
    if (endStream) this.#afterResponse();
  }
  decodeTrailers(trailers: Trailers): void {
    const decoder = this.#decoder;
    this.#responseEnds();
    decoder?.decodeTrailers(trailers);
    this.#afterResponse();
  }

  #responseEnds(): void {
    if (this.#decoder === undefined || this.#closed) return;
    this.#decoder = undefined;
    this.#pool.onStreamEnded();
  }

  /** After everyone has been told: the next request may have the connection, or it ends. */
  #afterResponse(): void {
    if (this.#closed) return;
    this.#countSent();
    const { cluster } = this.#pool;
    const { maxRequestsPerConnection, maxConnectionDurationMs } = cluster.settings;
    if (maxRequestsPerConnection > 0 && this.#requests >= maxRequestsPerConnection) {
      cluster.stats.upstream_cx_max_requests.inc();
      this.close();
    } else if (maxConnectionDurationMs > 0 && cluster.now() - this.#connectedMs >= maxConnectionDurationMs) {
      cluster.stats.upstream_cx_max_duration_reached.inc();
      this.close();
    } else if (this.#codec.closeAfterResponse || !this.#codec.idle || this.#connection.state !== "open") {
      if (this.#codec.closeAfterResponse) cluster.stats.upstream_cx_close_notify.inc();
      this.close();
    } else this.#pool.onIdle(this);
  }
}
