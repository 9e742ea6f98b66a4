/** A host on one worker: its statistics and its pools live as long as it is a member. */
import type { UpstreamTransportSocket } from "../extensions/extension.ts";
import type { Address, Connection } from "../net/connection.ts";
import type { Gauge, StatsStore } from "../stats/stats.ts";
import type { ClusterCore } from "./cluster-core.ts";
import type { OfferedProtocols } from "./dial-host.ts";
import { column, type HostCells } from "./host-cells.ts";
import { coarseHealth, flagsOf, healthFlags, isExcluded } from "./host-health.ts";
import type { BalancedHost } from "./host-pickers.ts";
import type { HostData } from "./hosts.ts";
import { Http1Pool } from "./http1-pool.ts";
import { Http2Pool } from "./http2-pool.ts";
import { transportSocketFor } from "./transport-socket-match.ts";
import type { Host, HostMonitor, HostStats, Priority } from "./upstream.ts";

/** What all statistics of a cluster's hosts begin with. */
export function hostStatsOf(cluster: string): string {
  return `\u0000host|${cluster}|`;
}

/** Names of a host's statistics begin so: they are not listed, /clusters reads them. */
export function hostStatPrefix(cluster: string, host: HostData): string {
  // A logical host keeps its statistics when its address changes.
  return `${hostStatsOf(cluster)}${host.logicalName ?? host.address.text}|`;
}

export interface HostImplStats extends HostStats {
  readonly rq_pending_active: Gauge;
}

function hostStats(store: StatsStore, cluster: string, host: HostData): HostImplStats {
  const prefix = hostStatPrefix(cluster, host);
  return {
    cx_total: store.counter(`${prefix}cx_total`),
    cx_active: store.gauge(`${prefix}cx_active`),
    cx_connect_fail: store.counter(`${prefix}cx_connect_fail`),
    rq_total: store.counter(`${prefix}rq_total`),
    rq_timeout: store.counter(`${prefix}rq_timeout`),
    rq_success: store.counter(`${prefix}rq_success`),
    rq_error: store.counter(`${prefix}rq_error`),
    rq_active: store.gauge(`${prefix}rq_active`),
    rq_pending_active: store.gauge(`${prefix}rq_pending_active`),
  };
}

export type Pool = Http1Pool | Http2Pool;
/** What a host's connections speak: "auto" is what ALPN says. */
export type PoolProtocol = "http1" | "http2" | "auto";

const onlyHttp1: OfferedProtocols = { protocols: ["http/1.1"], instead: true };

/** Pools for different SNI names of one host at most; beyond, the oldest is drained. */
const maxPools = 256;

export class HostImpl implements BalancedHost {
  address: Address;
  hostname: string;
  healthCheckHostname: string;
  weight: number;
  priority: number;
  locality: Host["locality"];
  metadata: Host["metadata"];
  canary: boolean;
  health: Host["health"];
  /** Told to drain by its configuration, or not checked yet: it does not count as a member that should be healthy. */
  draining: boolean;
  localityWeight: number;
  sinceMs: number;
  /** Undefined where nobody watches the host. */
  monitor: HostMonitor | undefined = undefined;
  /** What the main thread calls it. */
  id = 0;
  readonly cluster: ClusterCore;
  /** What its connections speak through; undefined: plain bytes. */
  transport: UpstreamTransportSocket | undefined;
  readonly stats: HostImplStats;
  #http1: Http1Pool | undefined = undefined;
  #http2: Http2Pool | undefined = undefined;
  #others: Map<string, Pool> | undefined = undefined;
  #data: HostData;
  #cells: HostCells | undefined = undefined;
  #flags = 0;
  #tcpConnections: Set<Connection> | undefined = undefined;

  constructor(cluster: ClusterCore, data: HostData) {
    this.cluster = cluster;
    this.#data = data;
    this.stats = hostStats(cluster.store, cluster.name, data);
    this.address = data.address;
    this.hostname = data.hostname;
    this.healthCheckHostname = data.healthCheckHostname;
    this.weight = data.weight;
    this.priority = data.priority;
    this.locality = data.locality;
    this.metadata = data.metadata;
    this.canary = isCanary(data);
    this.#flags = flagsOf(data.health);
    this.health = healthOf(this.#flags, data);
    this.draining = isExcluded(this.#flags);
    this.localityWeight = data.localityWeight;
    this.sinceMs = cluster.now();
    this.transport = transportSocketFor(cluster.settings, data).socket;
  }

  get data(): HostData {
    return this.#data;
  }

  update(data: HostData): void {
    this.#data = data;
    this.address = data.address;
    this.hostname = data.hostname;
    this.healthCheckHostname = data.healthCheckHostname;
    this.weight = data.weight;
    this.priority = data.priority;
    this.locality = data.locality;
    this.metadata = data.metadata;
    this.canary = isCanary(data);
    this.refreshHealth();
    this.localityWeight = data.localityWeight;
    this.transport = transportSocketFor(this.cluster.settings, data).socket;
  }

  /** Somebody watches this host: `cells` are what all threads know of it. */
  watch(id: number, cells: HostCells): void {
    this.id = id;
    if (this.#cells === undefined) {
      this.#cells = cells;
      this.monitor = this.cluster.monitorOf(id, cells);
      this.#flags = cells.get(column.flags);
    }
    this.refreshHealth();
  }

  /** As the main thread sees it now. */
  refreshHealth(): void {
    const before = this.#flags;
    this.#flags = this.#cells?.get(column.flags) ?? flagsOf(this.#data.health);
    this.health = healthOf(this.#flags, this.#data);
    this.draining = isExcluded(this.#flags);
    // Slow start begins when a host passes its checks.
    if ((before & ~this.#flags & healthFlags.failed_active_hc) !== 0) this.sinceMs = this.cluster.now();
  }

  /** Kept track of where they end with the host's health. */
  onTcpConnected(connection: Connection): void {
    if (this.cluster.settings.closeConnectionsOnHealthFailure) (this.#tcpConnections ??= new Set()).add(connection);
  }
  onTcpClosed(connection: Connection): void {
    this.#tcpConnections?.delete(connection);
  }

  /** It has failed its health checks, or was ejected. */
  onHealthFailure(): void {
    this.renewConnections();
    for (const connection of [...(this.#tcpConnections ?? [])]) connection.close("no_flush");
  }

  pool(priority: Priority, protocol: PoolProtocol, sni: string | undefined): Pool {
    if (priority === "default" && sni === undefined) {
      if (protocol === "http1") return (this.#http1 ??= new Http1Pool(this.cluster, this, "default", undefined));
      if (protocol === "http2") return (this.#http2 ??= new Http2Pool(this.cluster, this, "default", undefined, undefined));
    }
    const key = `${protocol}|${priority}|${sni ?? ""}`;
    const pools = (this.#others ??= new Map());
    let pool = pools.get(key);
    if (pool === undefined) {
      if (pools.size >= maxPools) {
        const [oldest] = pools;
        oldest[1].drain();
        pools.delete(oldest[0]);
      }
      pool = this.#makePool(priority, protocol, sni);
      pools.set(key, pool);
    }
    return pool;
  }

  #makePool(priority: Priority, protocol: PoolProtocol, sni: string | undefined): Pool {
    if (protocol === "http1") return new Http1Pool(this.cluster, this, priority, sni);
    const fallback = protocol === "auto" ? new Http1Pool(this.cluster, this, priority, sni, onlyHttp1) : undefined;
    return new Http2Pool(this.cluster, this, priority, sni, fallback);
  }

  /** No longer a member. */
  drain(): void {
    for (const pool of this.#pools()) pool.drain();
  }
  /** New requests get new connections. */
  renewConnections(): void {
    for (const pool of this.#pools()) pool.renewConnections();
  }
  close(): void {
    for (const pool of this.#pools()) pool.close();
  }

  #pools(): Pool[] {
    return [this.#http1, this.#http2, ...(this.#others?.values() ?? [])].filter((pool) => pool !== undefined);
  }
}

function isCanary(data: HostData): boolean {
  return data.metadata["envoy.lb"]?.["canary"] === true;
}

function healthOf(flags: number, data: HostData): Host["health"] {
  const health = coarseHealth(flags);
  return health === "unhealthy" && data.health === "timeout" ? "timeout" : health;
}
