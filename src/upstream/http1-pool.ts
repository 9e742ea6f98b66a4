/**
 * HTTP/1 connections to one host at one priority: idle ones are used again (the last used first), requests wait in order for those that are
 * being made. Envoy's FixedHttpConnPoolImpl for HTTP/1.
 */
import type { ResponseDecoder } from "../http/codec.ts";
import type { SocketConnection } from "../net/socket-connection.ts";
import type { ClusterCore } from "./cluster-core.ts";
import type { OfferedProtocols } from "./dial-host.ts";
import type { HostImpl } from "./host.ts";
import { Http1Client } from "./http1-client.ts";
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
  readonly offered: OfferedProtocols | undefined;
  /** The last that became idle is the first to be used. */
  readonly #idle: Http1Client[] = [];
  readonly #clients = new Set<Http1Client>();
  #pending: PendingRequest[] = [];
  /** Connections being made, and those whose response has just ended: each will serve one waiting request. */
  #connecting = 0;
  #settling = 0;
  #draining = false;

  constructor(cluster: ClusterCore, host: HostImpl, priority: Priority, sni: string | undefined, offered?: OfferedProtocols) {
    this.cluster = cluster;
    this.host = host;
    this.resources = cluster.resourceManager(priority);
    this.sni = sni;
    this.offered = offered;
  }

  newStream(decoder: ResponseDecoder, callbacks: PoolCallbacks): PoolRequest | undefined {
    const client = this.#idle.pop();
    if (client !== undefined) {
      this.#attach(client, decoder, callbacks, undefined);
      if (this.cluster.settings.preconnectRatio > 1) this.#connectMore();
      return undefined;
    }
    if (this.cluster.overload.sheds("envoy.load_shed_points.connection_pool_new_connection")) {
      callbacks.onPoolFailure("overflow", "", this.host);
      return undefined;
    }
    if (!this.resources.tryAcquirePending()) {
      // No host was asked.
      callbacks.onPoolFailure("overflow", "", undefined);
      return undefined;
    }
    this.cluster.stats.upstream_rq_pending_total.inc();
    const request = this.#wait(decoder, callbacks, this.cluster.now());
    this.#connectMore();
    return request;
  }

  #wait(decoder: ResponseDecoder, callbacks: PoolCallbacks, sinceMs: number): PendingRequest {
    this.cluster.stats.upstream_rq_pending_active.inc();
    this.host.stats.rq_pending_active.inc();
    const request = new PendingRequest(this, decoder, callbacks, sinceMs);
    this.#pending.push(request);
    return request;
  }

  /** Takes over requests that wait, and the connection that they waited for, once it is known to speak HTTP/1. */
  adopt(
    connection: SocketConnection,
    startedMs: number,
    connectedMs: number,
    waiting: readonly { readonly decoder: ResponseDecoder; readonly callbacks: PoolCallbacks; readonly sinceMs: number }[],
  ): PoolRequest[] {
    const requests = waiting.map(({ decoder, callbacks, sinceMs }) => this.#wait(decoder, callbacks, sinceMs));
    const client = new Http1Client(this);
    this.#clients.add(client);
    this.#connecting++;
    // Not at once: who hands over is to know the requests under their new names first.
    queueMicrotask(() => {
      client.adopt(connection, startedMs, connectedMs);
      this.#connectMore();
    });
    return requests;
  }

  /** Bounded by need: one connection to come per waiting request, or as many more as are to be at hand before they are needed. */
  #needsConnection(): boolean {
    const coming = this.#connecting + this.#settling;
    const { preconnectRatio } = this.cluster.settings;
    if (preconnectRatio <= 1 || this.host.health !== "healthy" || this.#draining) return coming < this.#pending.length;
    const busy = this.#clients.size - this.#idle.length - coming;
    return (this.#pending.length + busy) * preconnectRatio > this.#clients.size;
  }

  #connectMore(): void {
    while (this.#needsConnection()) {
      if (!this.resources.tryAcquireConnection()) {
        // A pool without any connection would wait for ever.
        if (this.#clients.size > 0) return;
        this.resources.acquireConnection();
      }
      const client = new Http1Client(this);
      this.#clients.add(client);
      this.#connecting++;
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
    this.host.stats.rq_pending_active.dec();
  }

  /** False: the request was refused, the connection is idle as before. */
  #attach(client: Http1Client, decoder: ResponseDecoder, callbacks: PoolCallbacks, waitedMs: number | undefined): boolean {
    const { cluster, host } = this;
    if (!this.resources.tryAcquireRequest()) {
      this.#idle.push(client);
      callbacks.onPoolFailure("overflow", "", host);
      return false;
    }
    cluster.stats.upstream_rq_total.inc();
    cluster.stats.upstream_rq_active.inc();
    host.stats.rq_total.inc();
    host.stats.rq_active.inc();
    callbacks.onPoolReady(client.begin(decoder), host, client.describe(waitedMs));
    return true;
  }

  // ---- what clients tell ---------------------------------------------------------------------------------------------------

  onConnected(client: Http1Client): void {
    this.#connecting--;
    this.#serve(client);
  }

  /** A response has ended; its connection can be used once its bytes are all taken (`onSettled`). */
  onSettling(): void {
    this.#settling++;
  }

  onSettled(client: Http1Client, reusable: boolean): void {
    this.#settling--;
    if (reusable) this.#serve(client);
    else client.close();
  }

  /** A connection has nothing to do: the longest waiting request gets it. */
  #serve(client: Http1Client): void {
    if (this.#draining && this.#pending.length === 0) {
      client.close();
      return;
    }
    client.startIdle();
    if (this.#pending.length === 0) {
      this.#idle.push(client);
      return;
    }
    let request = this.#pending.shift();
    while (request !== undefined) {
      this.#releasePending();
      if (this.#attach(client, request.decoder, request.callbacks, this.cluster.now() - request.sinceMs)) return;
      // Refused, and told so. The connection is idle again, unless those who were told have used it.
      if (this.#idle[this.#idle.length - 1] !== client) return;
      request = this.#pending.shift();
      if (request !== undefined) this.#idle.pop();
    }
  }

  onStreamEnded(): void {
    this.resources.releaseRequest();
    this.cluster.stats.upstream_rq_active.dec();
    this.host.stats.rq_active.dec();
  }

  /** `failure`: it never connected. */
  onClosed(client: Http1Client, failure: "remote_connection_failure" | "local_connection_failure" | "timeout" | undefined, reason: string): void {
    this.resources.releaseConnection();
    this.#clients.delete(client);
    const at = this.#idle.indexOf(client);
    if (at >= 0) this.#idle.splice(at, 1);
    if (failure !== undefined) {
      this.#connecting--;
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

  get empty(): boolean {
    return this.#clients.size === 0 && this.#pending.length === 0;
  }

  /** The host is gone: idle connections end, busy ones behind their response. */
  drain(): void {
    this.#draining = true;
    for (const client of this.#idle.slice()) client.close();
  }

  /** As `drain`, for the connections of this moment. */
  renewConnections(): void {
    for (const client of this.#clients) client.retire();
    for (const client of this.#idle.slice()) client.close();
  }

  close(): void {
    this.#draining = true;
    for (const client of [...this.#clients]) client.close();
  }
}
