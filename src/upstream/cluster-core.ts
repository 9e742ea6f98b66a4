/** One cluster on one worker: members, balancer, circuit breakers, pools. */

import type { Address } from "../net/connection.ts";
import type { Timer, TimerWheel } from "../net/timer-wheel.ts";
import { noOverload, type OverloadState } from "../overload/thread-state.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Counter, Gauge, Histogram, StatsScope, StatsStore } from "../stats/stats.ts";
import { AggregateBalancer, type MemberCluster } from "./aggregate.ts";
import { ClusterHttpClient } from "./async-client.ts";
import { clusterStats } from "./cluster-stats.ts";
import { HostImpl } from "./host.ts";
import { cellsAt, type HostCells } from "./host-cells.ts";
import { type HostUpdate, hostKey } from "./hosts.ts";
import { LoadBalancer, type LoadBalancerOptions } from "./load-balancer.ts";
import { MeasuredPool, type SizeStats, sizeStats } from "./measured-pool.ts";
import { OriginalDestinations, originalDstHost } from "./original-dst.ts";
import { type HostEvent, WorkerHostMonitor } from "./outlier/monitor.ts";
import { CellsResourceManager, cellsSize } from "./resource-manager.ts";
import type { CompiledCluster } from "./settings.ts";
import { SubsetBalancer, type SubsetStats } from "./subset-balancer.ts";
import { TcpRequest } from "./tcp-connection.ts";
import type {
  AsyncHttpClient,
  ClusterInfo,
  ClusterStats,
  HostMonitor,
  HttpPool,
  LoadBalancerContext,
  PoolRequest,
  Priority,
  TcpPoolCallbacks,
  ThreadLocalCluster,
} from "./upstream.ts";

export interface ClusterEnvironment {
  readonly stats: StatsStore;
  readonly timers: TimerWheel;
  readonly runtime: Runtime;
  readonly overload?: OverloadState;
  /** Workers, and the main thread, which is the last. */
  readonly threads: number;
  readonly workerIndex: number;
  /** The cluster of that name on this worker. */
  cluster?(name: string): ClusterCore | undefined;
  /** The main thread is to know what a worker has found out about a host. */
  onHostEvent?(cluster: string, id: number, event: HostEvent): void;
  /** The main thread is to know of hosts that came up here (ORIGINAL_DST), and of those that were used since it was last told. */
  onHostsUsed?(cluster: string, fresh: readonly Address[], used: readonly Address[]): void;
}

/** The stats that pools count, by their kinds. */
export type PoolStats = ClusterStats & {
  readonly [K in
    | "upstream_cx_total"
    | "upstream_cx_http1_total"
    | "upstream_cx_http2_total"
    | "upstream_cx_connect_fail"
    | "upstream_cx_connect_timeout"
    | "upstream_cx_destroy"
    | "upstream_cx_destroy_remote"
    | "upstream_cx_destroy_local"
    | "upstream_cx_destroy_with_active_rq"
    | "upstream_cx_destroy_remote_with_active_rq"
    | "upstream_cx_destroy_local_with_active_rq"
    | "upstream_cx_rx_bytes_total"
    | "upstream_cx_tx_bytes_total"
    | "upstream_cx_idle_timeout"
    | "upstream_cx_protocol_error"
    | "upstream_cx_max_requests"
    | "upstream_cx_max_duration_reached"
    | "upstream_cx_close_notify"
    | "upstream_cx_none_healthy"
    | "upstream_rq_total"
    | "upstream_rq_pending_total"
    | "upstream_rq_pending_failure_eject"
    | "upstream_rq_cancelled"
    | "upstream_rq_rx_reset"
    | "upstream_rq_tx_reset"
    | "upstream_flow_control_backed_up_total"
    | "upstream_flow_control_drained_total"
    | "upstream_cx_overflow"
    | "upstream_rq_pending_overflow"
    | "upstream_rq_active_overflow"
    | "bind_errors"
    | "upstream_rq_retry_overflow"]: Counter;
} & { readonly [K in "upstream_cx_active" | "upstream_rq_active" | "upstream_rq_pending_active"]: Gauge } & {
  readonly [K in "upstream_cx_connect_ms" | "upstream_cx_length_ms" | "upstream_rq_per_cx"]: Histogram;
};

export class ClusterCore implements ClusterInfo, ThreadLocalCluster, MemberCluster<HostImpl> {
  readonly settings: CompiledCluster;
  readonly stats: PoolStats;
  readonly timers: TimerWheel;
  readonly store: StatsStore;
  readonly overload: OverloadState;
  readonly #environment: ClusterEnvironment;
  readonly #balancer: LoadBalancer | SubsetBalancer;
  readonly #aggregate: AggregateBalancer<HostImpl> | undefined;
  readonly #originalDst: OriginalDestinations<HostImpl> | undefined;
  #usedTimer: Timer | undefined;
  /** Changes with every update of members. */
  version = 0;
  #hosts = new Map<string, HostImpl>();
  #list: readonly HostImpl[] = [];
  #resources: { readonly default: CellsResourceManager; readonly high: CellsResourceManager };
  #cells: SharedArrayBuffer;
  #shared = false;
  readonly #sizes: SizeStats | undefined;
  #httpClient: ClusterHttpClient | undefined = undefined;

  constructor(settings: CompiledCluster, environment: ClusterEnvironment) {
    this.settings = settings;
    this.#environment = environment;
    this.timers = environment.timers;
    this.store = environment.stats;
    this.overload = environment.overload ?? noOverload;
    this.stats = clusterStats(settings.scope) as PoolStats;
    this.#sizes = settings.requestResponseSizes ? sizeStats(settings.scope) : undefined;
    const options: LoadBalancerOptions = {
      runtime: environment.runtime,
      now: () => environment.timers.clock.now(),
      random: Math.random,
      tableScope: environment.workerIndex <= 0 ? settings.scope : undefined,
      panicCounter: this.stats["lb_healthy_panic"] as Counter,
    };
    this.#balancer =
      settings.subsets === undefined
        ? new LoadBalancer(settings, options)
        : new SubsetBalancer(settings, settings.subsets, options, this.stats as unknown as SubsetStats);
    this.#aggregate =
      settings.discovery === "aggregate" ? new AggregateBalancer(settings, settings.aggregate, (name) => environment.cluster?.(name), Math.random) : undefined;
    this.#originalDst =
      settings.originalDst === undefined
        ? undefined
        : new OriginalDestinations(
            settings.originalDst,
            this.stats["original_dst_host_invalid"] as Counter,
            (address) => new HostImpl(this, originalDstHost(settings.name, address)),
          );
    this.#cells = new SharedArrayBuffer(cellsSize(environment.threads));
    this.#resources = this.#makeResources();
  }

  // ---- ClusterInfo -----------------------------------------------------------------------------------------------------------

  get features(): { readonly http2: boolean } {
    return { http2: this.settings.protocol !== "http1" };
  }
  get info(): ClusterInfo {
    return this;
  }
  get name(): string {
    return this.settings.name;
  }
  get observabilityName(): string {
    return this.settings.observabilityName;
  }
  get metadata(): ClusterInfo["metadata"] {
    return this.settings.metadata;
  }
  get scope(): StatsScope {
    return this.settings.scope;
  }
  get perConnectionBufferLimitBytes(): number {
    return this.settings.perConnectionBufferLimitBytes;
  }
  get maxResponseHeadersKb(): number {
    return this.settings.maxResponseHeadersKb;
  }
  get maxRequestsPerConnection(): number {
    return this.settings.maxRequestsPerConnection;
  }
  get maxStreamDurationMs(): number {
    return this.settings.maxStreamDurationMs;
  }
  get connectTimeoutMs(): number {
    return this.settings.connectTimeoutMs;
  }
  get timeoutBudgets(): boolean {
    return this.settings.timeoutBudgets;
  }
  get typeName(): string {
    return "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
  }
  resourceManager(priority: Priority): CellsResourceManager {
    return this.#resources[priority];
  }

  now(): number {
    return this.timers.clock.now();
  }

  // ---- ThreadLocalCluster ------------------------------------------------------------------------------------------------------

  httpPool(priority: Priority, downstreamProtocol: string | undefined, context: LoadBalancerContext): HttpPool | undefined {
    const host = this.#choose(context);
    if (host === undefined) return undefined;
    let sni: string | undefined;
    const { autoSni, autoSniHeader, protocol } = host.cluster.settings;
    if (autoSni && host.transport !== undefined) {
      const { requestHeaders } = context;
      const name = autoSniHeader === "" ? requestHeaders?.authority : requestHeaders?.get(autoSniHeader);
      sni = name === undefined || name === "" ? undefined : name.replace(/:\d+$/, "");
    }
    const pool = host.pool(priority, protocol === "downstream" ? (downstreamProtocol === "HTTP/2" ? "http2" : "http1") : protocol, sni);
    return this.#sizes === undefined ? pool : new MeasuredPool(pool, this.#sizes, context.requestHeaders);
  }

  tcpConnection(priority: Priority, context: LoadBalancerContext, callbacks: TcpPoolCallbacks): PoolRequest | undefined {
    const host = this.#choose(context);
    return host === undefined ? undefined : TcpRequest.start(host.cluster, host, priority, callbacks);
  }

  get httpClient(): AsyncHttpClient {
    return (this.#httpClient ??= new ClusterHttpClient(this));
  }

  hosts(): readonly HostImpl[] {
    return this.#list;
  }

  #choose(context: LoadBalancerContext): HostImpl | undefined {
    const wanted = context.overrideHost;
    if (wanted !== undefined) {
      const host = this.#list.find((candidate) => candidate.address.text === wanted.address);
      if (host !== undefined && (host.health === "healthy" || host.health === "degraded")) return host;
      if (wanted.strict) return undefined;
    }
    const host = this.#balance(context);
    if (host === undefined) this.stats.upstream_cx_none_healthy.inc();
    return host;
  }

  #balance(context: LoadBalancerContext): HostImpl | undefined {
    if (this.#aggregate !== undefined) return this.#aggregate.choose(context);
    if (this.#originalDst !== undefined) return this.#originalDestination(this.#originalDst, context);
    return this.#balancer.choose(context) as HostImpl | undefined;
  }

  #originalDestination(destinations: OriginalDestinations<HostImpl>, context: LoadBalancerContext): HostImpl | undefined {
    const chosen = destinations.choose(context, this.now());
    if (chosen === undefined) return undefined;
    if (chosen.isNew) this.#environment.onHostsUsed?.(this.name, [chosen.host.address], []);
    this.#usedTimer ??= this.timers.createTimer(() => this.#tellUsed(destinations));
    // Twice an interval, so that the main thread hears of each in time.
    if (!this.#usedTimer.enabled) this.#usedTimer.enable(Math.max(1, (this.settings.originalDst?.cleanupMs ?? 0) / 2));
    return chosen.host;
  }

  /** A host with connections is used, also where they are idle. */
  #tellUsed(destinations: OriginalDestinations<HostImpl>): void {
    const used = destinations.takeUsed((host) => host.stats.cx_active.value > 0);
    if (used.length === 0) return;
    this.#environment.onHostsUsed?.(this.name, [], used);
    this.#usedTimer?.enable(Math.max(1, (this.settings.originalDst?.cleanupMs ?? 0) / 2));
  }

  // ---- as a member of an aggregate ------------------------------------------------------------------------------------------------

  chooseAt(level: { readonly priority: number; readonly degraded: boolean }, context: LoadBalancerContext): HostImpl | undefined {
    if (this.#originalDst !== undefined || this.#balancer instanceof SubsetBalancer) return this.#balance(context);
    return this.#balancer.chooseAt(level, context) as HostImpl | undefined;
  }

  // ---- members -------------------------------------------------------------------------------------------------------------------

  update(update: HostUpdate): void {
    // The shared cells come with the first update, before there are pools; later updates name the same memory.
    if (!this.#shared) {
      this.#shared = true;
      this.#cells = update.cells;
      this.#resources = this.#makeResources();
    }
    const next = new Map<string, HostImpl>();
    const { watched } = update;
    const slabs = watched?.slabs.map((buffer) => new Int32Array(buffer)) ?? [];
    update.hosts.forEach((data, i) => {
      const key = hostKey(data);
      const known = this.#hosts.get(key);
      // A host that went and came again has a new id, and nothing is known against it.
      const isSame = known !== undefined && (watched === undefined || known.id === watched.ids[i]);
      if (isSame) known.update(data);
      else known?.drain();
      const host = isSame ? known : (this.#originalDst?.fresh(data.address.text) ?? new HostImpl(this, data));
      if (watched !== undefined) host.watch(watched.ids[i], cellsAt(slabs, watched.rows[i]));
      next.set(key, host);
    });
    const changed = next.size !== this.#hosts.size || [...next.keys()].some((key) => !this.#hosts.has(key));
    for (const [key, host] of this.#hosts) if (!next.has(key)) host.drain();
    if (changed && this.settings.closeConnectionsOnChange) for (const host of next.values()) host.renewConnections();
    this.#hosts = next;
    this.#list = [...next.values()];
    this.version++;
    if (this.#originalDst !== undefined) this.#list = this.#originalDst.update(this.#list, this.now());
    else this.#balancer.update(this.#list, update.overprovisioningPercent);
  }

  /** The main thread has found out something about hosts' health. */
  refreshHealth(): void {
    for (const host of this.#list) host.refreshHealth();
    this.version++;
    if (this.#originalDst === undefined) this.#balancer.update(this.#list);
  }

  /** A host has failed its health checks, or was ejected. */
  onHealthFailure(id: number): void {
    this.#list.find((host) => host.id === id)?.onHealthFailure();
  }

  /** Of a host that is watched. */
  monitorOf(id: number, cells: HostCells): HostMonitor {
    return new WorkerHostMonitor({
      outlier: this.settings.outlier,
      checked: this.settings.healthChecks.length > 0,
      cells,
      runtime: this.#environment.runtime,
      tell: (event) => this.#environment.onHostEvent?.(this.name, id, event),
    });
  }

  /** No new requests come; those under way end as they would. */
  drain(): void {
    for (const host of this.#list) host.drain();
  }

  close(): void {
    this.#usedTimer?.disable();
    for (const host of this.#list) host.close();
  }

  #makeResources(): { readonly default: CellsResourceManager; readonly high: CellsResourceManager } {
    const { stats } = this;
    const { threads, workerIndex, runtime } = this.#environment;
    const make = (priority: 0 | 1): CellsResourceManager =>
      new CellsResourceManager({
        cells: this.#cells,
        threads,
        thread: workerIndex,
        priority,
        limits: priority === 0 ? this.settings.thresholds.default : this.settings.thresholds.high,
        runtime,
        cluster: this.settings.name,
        overflow: {
          connections: stats.upstream_cx_overflow,
          pending: stats.upstream_rq_pending_overflow,
          requests: stats.upstream_rq_active_overflow,
          retries: stats.upstream_rq_retry_overflow,
        },
      });
    return { default: make(0), high: make(1) };
  }
}
