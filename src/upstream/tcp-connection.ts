/** A raw connection to a host, for TCP proxying and CONNECT: made for one user, never shared. */
import type { ConnectionCallbacks, ConnectionEvent } from "../net/connection.ts";
import { connect, type SocketConnection } from "../net/socket-connection.ts";
import type { Timer } from "../net/timer-wheel.ts";
import type { ClusterCore } from "./cluster-core.ts";
import type { HostImpl } from "./host.ts";
import type { PoolRequest, Priority, TcpPoolCallbacks } from "./upstream.ts";

export class TcpRequest implements PoolRequest, ConnectionCallbacks {
  readonly #cluster: ClusterCore;
  readonly #host: HostImpl;
  readonly #priority: Priority;
  #callbacks: TcpPoolCallbacks | undefined;
  readonly #connection: SocketConnection;
  readonly #timer: Timer;
  readonly #startedMs: number;
  #connectedMs = 0;
  #timedOut = false;
  #closed = false;

  static start(cluster: ClusterCore, host: HostImpl, priority: Priority, callbacks: TcpPoolCallbacks): PoolRequest {
    const shed = cluster.overload.sheds("envoy.load_shed_points.connection_pool_new_connection");
    if (shed || !cluster.resourceManager(priority).tryAcquireConnection()) {
      callbacks.onPoolFailure("overflow", "", host);
      return { cancel: () => {} };
    }
    return new TcpRequest(cluster, host, priority, callbacks);
  }

  private constructor(cluster: ClusterCore, host: HostImpl, priority: Priority, callbacks: TcpPoolCallbacks) {
    this.#cluster = cluster;
    this.#host = host;
    this.#priority = priority;
    this.#callbacks = callbacks;
    const { stats, settings, timers } = cluster;
    stats.upstream_cx_total.inc();
    stats.upstream_cx_active.inc();
    host.stats.cx_total.inc();
    host.stats.cx_active.inc();
    stats.upstream_rq_pending_total.inc();
    stats.upstream_rq_pending_active.inc();
    this.#startedMs = cluster.now();
    const { transport } = host;
    this.#connection = connect(host.address, {
      timers,
      side: "upstream",
      bufferLimitBytes: settings.perConnectionBufferLimitBytes,
      tls: transport?.options({ hostname: host.hostname, sni: undefined }),
      accept: transport?.accept === undefined ? undefined : (socket) => transport.accept?.(socket),
      onTlsError: transport?.onError === undefined ? undefined : (error) => transport.onError?.(error),
      bindAddress: settings.bindAddress,
      keepAlive: settings.keepAlive,
    });
    this.#connection.receivedCounter = stats.upstream_cx_rx_bytes_total;
    this.#connection.sentCounter = stats.upstream_cx_tx_bytes_total;
    this.#connection.addCallbacks(this);
    this.#timer = timers.createTimer(() => {
      this.#timedOut = true;
      stats.upstream_cx_connect_timeout.inc();
      this.#connection.close("no_flush", "connect timeout");
    });
    this.#timer.enable(settings.connectTimeoutMs);
  }

  /** Before the connection is handed over. */
  cancel(): void {
    if (this.#callbacks === undefined) return;
    this.#callbacks = undefined;
    this.#cluster.stats.upstream_rq_cancelled.inc();
    this.#connection.close("no_flush");
  }

  onEvent(event: ConnectionEvent): void {
    const { stats } = this.#cluster;
    if (event === "connected") {
      this.#timer.disable();
      this.#connectedMs = this.#cluster.now();
      stats.upstream_cx_connect_ms.record(Math.round(this.#connectedMs - this.#startedMs));
      const callbacks = this.#callbacks;
      this.#callbacks = undefined;
      // Envoy counts the connection's one user as a request.
      stats.upstream_rq_pending_active.dec();
      stats.upstream_rq_total.inc();
      stats.upstream_rq_active.inc();
      this.#host.stats.rq_total.inc();
      this.#host.stats.rq_active.inc();
      this.#host.onTcpConnected(this.#connection);
      callbacks?.onPoolReady(this.#connection, this.#host);
      return;
    }
    if (this.#closed) return;
    this.#closed = true;
    this.#timer.disable();
    stats.upstream_cx_active.dec();
    stats.upstream_cx_destroy.inc();
    (event === "remote_close" ? stats.upstream_cx_destroy_remote : stats.upstream_cx_destroy_local).inc();
    this.#host.stats.cx_active.dec();
    this.#host.onTcpClosed(this.#connection);
    this.#cluster.resourceManager(this.#priority).releaseConnection();
    if (this.#connectedMs === 0) {
      stats.upstream_cx_connect_fail.inc();
      stats.upstream_rq_pending_active.dec();
      if (this.#callbacks !== undefined) stats.upstream_rq_pending_failure_eject.inc();
      if (this.#connection.bindFailed) stats.bind_errors.inc();
      this.#host.stats.cx_connect_fail.inc();
      const callbacks = this.#callbacks;
      this.#callbacks = undefined;
      callbacks?.onPoolFailure(
        this.#timedOut ? "timeout" : event === "local_close" ? "local_connection_failure" : "remote_connection_failure",
        this.#connection.transportFailureReason,
        this.#host,
      );
      return;
    }
    stats.upstream_rq_active.dec();
    this.#host.stats.rq_active.dec();
    stats.upstream_cx_destroy_with_active_rq.inc();
    (event === "remote_close" ? stats.upstream_cx_destroy_remote_with_active_rq : stats.upstream_cx_destroy_local_with_active_rq).inc();
    stats.upstream_cx_length_ms.record(Math.round(this.#cluster.now() - this.#connectedMs));
  }

  onAboveWriteBufferHighWatermark(): void {}
  onBelowWriteBufferLowWatermark(): void {}
}
