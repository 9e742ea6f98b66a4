/**
 * HTTP/2 connections to one host at one priority: requests share a connection up to the streams that it takes, and wait in order for one that is being made.
 * With a `fallback` the host may turn out to speak HTTP/1 (ALPN): then that pool takes over what waits, and the connection.
 */
import type { ResponseDecoder } from "../http/codec.ts";
import type { SocketConnection } from "../net/socket-connection.ts";
import type { ClusterCore } from "./cluster-core.ts";
import type { OfferedProtocols } from "./dial-host.ts";
import type { HostImpl } from "./host.ts";
import type { Http1Pool } from "./http1-pool.ts";
import { Http2Client } from "./http2-client.ts";
import type { CellsResourceManager } from "./resource-manager.ts";
import type { HttpPool, PoolCallbacks, PoolRequest, Priority } from "./upstream.ts";

class PendingRequest implements PoolRequest {
  readonly decoder: ResponseDecoder;
  readonly callbacks: PoolCallbacks;
  readonly sinceMs: number;
  #pool: Http2Pool;
  /** Where it waits now, if the host's other pool has it. */
  moved: PoolRequest | undefined = undefined;
  constructor(pool: Http2Pool, decoder: ResponseDecoder, callbacks: PoolCallbacks, sinceMs: number) {
    this.#pool = pool;
    this.decoder = decoder;
    this.callbacks = callbacks;
    this.sinceMs = sinceMs;
  }
  cancel(): void {
    if (this.moved !== undefined) this.moved.cancel();
    else this.#pool.cancel(this);
  }
}

const onlyHttp2: OfferedProtocols = { protocols: ["h2"], instead: false };
const either: OfferedProtocols = { protocols: ["h2", "http/1.1"], instead: false };

export class Http2Pool implements HttpPool {
  readonly host: HostImpl;
  readonly cluster: ClusterCore;
  readonly resources: CellsResourceManager;
  readonly sni: string | undefined;
  readonly offered: OfferedProtocols;
  readonly fallback: Http1Pool | undefined;
  readonly #clients = new Set<Http2Client>();
  #pending: PendingRequest[] = [];
  #draining = false;
  #serving = false;
  /** The host's last answer in ALPN was not h2. */
  #speaksHttp1 = false;

  constructor(cluster: ClusterCore, host: HostImpl, priority: Priority, sni: string | undefined, fallback: Http1Pool | undefined) {
    this.cluster = cluster;
    this.host = host;
    this.resources = cluster.resourceManager(priority);
    this.sni = sni;
    this.fallback = fallback;
    this.offered = fallback === undefined ? onlyHttp2 : either;
  }

  newStream(...[decoder, callbacks, options]: Parameters<HttpPool["newStream"]>): PoolRequest | undefined {
    if (this.#speaksHttp1 && this.fallback !== undefined) {
      // While it has connections it is known what the host speaks.
      if (!this.fallback.empty) return this.fallback.newStream(decoder, callbacks);
      this.#speaksHttp1 = false;
    }
    const client = this.#pending.length > 0 ? undefined : this.#ready();
    if (client !== undefined) {
      this.#attach(client, decoder, callbacks, undefined);
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
    const { stats } = this.cluster;
    stats.upstream_rq_pending_total.inc();
    stats.upstream_rq_pending_active.inc();
    this.host.stats.rq_pending_active.inc();
    const request = new PendingRequest(this, decoder, callbacks, this.cluster.now());
    this.#pending.push(request);
    this.#connectMore();
    return options === undefined ? undefined : request;
  }

  #ready(): Http2Client | undefined {
    for (const client of this.#clients) if (client.capacity > 0) return client;
    return undefined;
  }

  /** A connection to come serves as many as it may be expected to take. */
  #connectMore(): void {
    const ratio = this.#draining ? 1 : this.cluster.settings.preconnectRatio;
    let expected = 0;
    for (const client of this.#clients) expected += client.expected;
    while (this.#pending.length * ratio > expected) {
      if (!this.resources.tryAcquireConnection()) {
        // A pool without any connection would wait for ever.
        if (this.#clients.size > 0) return;
        this.resources.acquireConnection();
      }
      const client = new Http2Client(this);
      this.#clients.add(client);
      expected += client.expected;
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

  #attach(client: Http2Client, decoder: ResponseDecoder, callbacks: PoolCallbacks, waitedMs: number | undefined): void {
    const { cluster, host } = this;
    if (!this.resources.tryAcquireRequest()) {
      callbacks.onPoolFailure("overflow", "", host);
      return;
    }
    cluster.stats.upstream_rq_total.inc();
    cluster.stats.upstream_rq_active.inc();
    host.stats.rq_total.inc();
    host.stats.rq_active.inc();
    callbacks.onPoolReady(client.begin(decoder), host, client.describe(waitedMs));
  }

  // ---- what clients tell ---------------------------------------------------------------------------------------------------

  onConnected(client: Http2Client): void {
    this.onCapacity(client);
  }

  /** A connection may take more than before. */
  onCapacity(client: Http2Client): void {
    if (this.#draining && this.#pending.length === 0 && client.active === 0) {
      client.retire();
      return;
    }
    // Whoever is told may end or begin streams: this goes on here, not within.
    if (this.#serving) return;
    this.#serving = true;
    while (this.#pending.length > 0 && client.capacity > 0) {
      const request = this.#pending.shift() as PendingRequest;
      this.#releasePending();
      this.#attach(client, request.decoder, request.callbacks, this.cluster.now() - request.sinceMs);
    }
    this.#serving = false;
    if (this.#pending.length > 0) this.#connectMore();
  }

  onStreamEnded(): void {
    this.resources.releaseRequest();
    this.cluster.stats.upstream_rq_active.dec();
    this.host.stats.rq_active.dec();
  }

  /** ALPN has agreed on HTTP/1: the connection and all that wait go to the other pool. */
  onHttp1(client: Http2Client, connection: SocketConnection, startedMs: number, connectedMs: number): void {
    const fallback = this.fallback as Http1Pool;
    this.#clients.delete(client);
    this.#speaksHttp1 = true;
    const waiting = this.#pending;
    this.#pending = [];
    // They stay counted as waiting with the circuit breakers.
    for (const _ of waiting) {
      this.cluster.stats.upstream_rq_pending_active.dec();
      this.host.stats.rq_pending_active.dec();
    }
    fallback.adopt(connection, startedMs, connectedMs, waiting).forEach((moved, i) => {
      waiting[i].moved = moved;
    });
  }

  /** `failure`: it never connected. */
  onClosed(client: Http2Client, failure: "remote_connection_failure" | "local_connection_failure" | "timeout" | undefined, reason: string): void {
    this.resources.releaseConnection();
    this.#clients.delete(client);
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

  /** The host is gone: idle connections end, busy ones behind their streams. */
  drain(): void {
    this.#draining = true;
    this.fallback?.drain();
    for (const client of [...this.#clients]) if (!client.connecting) client.retire();
  }

  /** New requests get new connections. */
  renewConnections(): void {
    this.fallback?.renewConnections();
    for (const client of [...this.#clients]) if (!client.connecting) client.retire();
  }

  close(): void {
    this.#draining = true;
    this.fallback?.close();
    for (const client of [...this.#clients]) client.close();
  }
}
