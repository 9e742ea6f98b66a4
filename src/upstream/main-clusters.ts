/** Members of all clusters, on the main thread: static ones and those that DNS gives; workers are told of each change. */
import { getLogger } from "../log/log.ts";
import { ipAddress } from "../net/address.ts";
import type { Timer, TimerWheel } from "../net/timer-wheel.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Counter, Gauge, StatsScope, StatsStore } from "../stats/stats.ts";
import { circuitBreakerGauges, clusterStats, remainingGauges } from "./cluster-stats.ts";
import { type Resolve, resolveName } from "./dns.ts";
import { type HostData, type HostUpdate, hostKey } from "./hosts.ts";
import { cellsSize, clearThread, readCells, resourceNames } from "./resource-manager.ts";
import type { CompiledCluster, DnsTarget, Thresholds } from "./settings.ts";
import type { ClusterStats } from "./upstream.ts";

export type { HostData, HostUpdate } from "./hosts.ts";

const log = getLogger("upstream");

export interface MainClustersOptions {
  readonly stats: StatsStore;
  readonly timers: TimerWheel;
  readonly runtime: Runtime;
  /** How many threads count against circuit breakers. */
  readonly concurrency: number;
  readonly onUpdate: (update: HostUpdate) => void;
  readonly resolve?: Resolve;
}

/** One cluster as the admin interface shows it. */
export interface ClusterView {
  readonly settings: CompiledCluster;
  readonly hosts: readonly HostData[];
}

export class MainClusters {
  readonly #options: MainClustersOptions;
  readonly #clusters = new Map<string, MainCluster>();
  readonly #manager: { readonly [name: string]: Counter };
  readonly #active: Gauge;
  readonly #warming: Gauge;
  #closed = false;

  constructor(options: MainClustersOptions) {
    this.#options = options;
    const scope = options.stats.scope("cluster_manager.");
    const manager: Record<string, Counter> = {};
    for (const name of [
      "cluster_added",
      "cluster_modified",
      "cluster_removed",
      "cluster_updated",
      "cluster_updated_via_merge",
      "update_merge_cancelled",
      "update_out_of_merge_window",
    ])
      manager[name] = scope.counter(name);
    this.#manager = manager;
    this.#active = scope.gauge("active_clusters");
    this.#warming = scope.gauge("warming_clusters");
  }

  add(settings: CompiledCluster): void {
    const before = this.#clusters.get(settings.name);
    before?.close();
    const cluster = new MainCluster(settings, this.#options, () => this.#count());
    this.#clusters.set(settings.name, cluster);
    (before === undefined ? this.#manager.cluster_added : this.#manager.cluster_modified).inc();
    cluster.start();
    this.#count();
  }

  remove(name: string): void {
    const cluster = this.#clusters.get(name);
    if (cluster === undefined) return;
    cluster.close();
    this.#clusters.delete(name);
    this.#manager.cluster_removed.inc();
    this.#count();
  }

  /** When every cluster known now has its first members, or knows that it has none. */
  get initialized(): Promise<void> {
    return Promise.all([...this.#clusters.values()].map((cluster) => cluster.ready)).then(() => {});
  }

  /** Names of clusters that still wait for their first members. */
  unready(): string[] {
    return [...this.#clusters.values()].filter((cluster) => cluster.warming).map((cluster) => cluster.settings.name);
  }

  snapshot(): HostUpdate[] {
    return [...this.#clusters.values()].map((cluster) => cluster.update());
  }

  views(): ClusterView[] {
    return [...this.#clusters.values()].map(({ settings, hosts }) => ({ settings, hosts }));
  }

  /** Brings gauges up to date that are computed, not counted: circuit breakers. */
  refresh(): void {
    for (const cluster of this.#clusters.values()) cluster.refresh();
  }

  /** A worker died: what it held of circuit breakers is free. */
  clearWorker(index: number): void {
    for (const cluster of this.#clusters.values()) clearThread(cluster.cells, index, this.#options.concurrency);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const cluster of this.#clusters.values()) cluster.close();
  }

  #count(): void {
    const warming = this.unready().length;
    this.#warming.set(warming);
    this.#active.set(this.#clusters.size - warming);
  }
}

class MainCluster {
  readonly settings: CompiledCluster;
  readonly cells: Int32Array;
  readonly ready: Promise<void>;
  hosts: readonly HostData[] = [];
  warming = true;
  readonly #options: MainClustersOptions;
  readonly #stats: ClusterStats;
  readonly #buffer: SharedArrayBuffer;
  readonly #targets: TargetState[];
  readonly #breakers: { readonly scope: StatsScope; readonly limits: Thresholds; readonly priority: 0 | 1; readonly keys: readonly string[] }[];
  readonly #onReady: () => void;
  #becomeReady!: () => void;
  #closed = false;

  constructor(settings: CompiledCluster, options: MainClustersOptions, onReady: () => void) {
    this.settings = settings;
    this.#options = options;
    this.#onReady = onReady;
    this.#stats = clusterStats(settings.scope);
    this.#buffer = new SharedArrayBuffer(cellsSize(options.concurrency));
    this.cells = new Int32Array(this.#buffer);
    this.ready = new Promise((resolve) => {
      this.#becomeReady = resolve;
    });
    this.#targets = (settings.dns?.targets ?? []).map((target) => ({
      target,
      hosts: [],
      failures: 0,
      timer: options.timers.createTimer(() => void this.#resolve(state(target))),
      resolved: false,
    }));
    const state = (target: DnsTarget): TargetState => this.#targets.find((candidate) => candidate.target === target) as TargetState;
    this.#breakers = (["default", "high"] as const).map((name, priority) => {
      const limits = settings.thresholds[name];
      const scope = settings.scope.scope(`circuit_breakers.${name}.`);
      for (const gauge of circuitBreakerGauges) scope.gauge(gauge);
      if (limits.trackRemaining) for (const gauge of remainingGauges) scope.gauge(gauge);
      const prefix = `circuit_breakers.${settings.name}.${name}`;
      return {
        scope,
        limits,
        priority: priority as 0 | 1,
        keys: ["max_connections", "max_pending_requests", "max_requests", "max_retries"].map((key) => `${prefix}.${key}`),
      };
    });
  }

  start(): void {
    if (this.settings.dns === undefined || this.#targets.length === 0) {
      this.#setHosts(this.settings.staticHosts, true);
      this.#markReady();
      return;
    }
    for (const target of this.#targets) void this.#resolve(target);
  }

  close(): void {
    this.#closed = true;
    for (const { timer } of this.#targets) timer.disable();
    this.#markReady();
  }

  update(): HostUpdate {
    return { cluster: this.settings.name, hosts: this.hosts, cells: this.#buffer };
  }

  refresh(): void {
    const { snapshot } = this.#options.runtime;
    const threads = this.#options.concurrency;
    for (const { scope, limits, priority, keys } of this.#breakers) {
      const max = [limits.maxConnections, limits.maxPendingRequests, limits.maxRequests, limits.maxRetries].map((limit, i) => snapshot.number(keys[i], limit));
      const used = resourceNames.map((_, i) => readCells(this.cells, priority, i, threads));
      scope.gauge("cx_open").set(used[0] >= max[0] ? 1 : 0);
      scope.gauge("rq_pending_open").set(used[1] >= max[1] ? 1 : 0);
      scope.gauge("rq_open").set(used[2] >= max[2] ? 1 : 0);
      scope.gauge("rq_retry_open").set(used[3] >= max[3] ? 1 : 0);
      if (!limits.trackRemaining) continue;
      scope.gauge("remaining_cx").set(Math.max(0, max[0] - used[0]));
      scope.gauge("remaining_pending").set(Math.max(0, max[1] - used[1]));
      scope.gauge("remaining_rq").set(Math.max(0, max[2] - used[2]));
      scope.gauge("remaining_retries").set(Math.max(0, max[3] - used[3]));
    }
  }

  async #resolve(state: TargetState): Promise<void> {
    const { dns } = this.settings;
    if (dns === undefined || this.#closed) return;
    const { target } = state;
    (this.#stats["update_attempt"] as Counter).inc();
    let nextMs = dns.refreshMs;
    try {
      const { ips, ttl } = await (this.#options.resolve ?? resolveName)(target.name, dns.family, dns.servers);
      if (this.#closed) return;
      state.failures = 0;
      (this.#stats["update_success"] as Counter).inc();
      if (ips.length === 0) (this.#stats["update_empty"] as Counter).inc();
      if (dns.respectTtl && ttl !== undefined && ttl > 0) nextMs = ttl * 1000;
      if (dns.logical) {
        if (ips.length > 0) state.hosts = [{ ...target.template, address: ipAddress(ips[0], target.port), logicalName: `${target.name}:${target.port}` }];
      } else state.hosts = [...new Set(ips)].map((ip) => ({ ...target.template, address: ipAddress(ip, target.port) }));
    } catch (error) {
      if (this.#closed) return;
      state.failures++;
      (this.#stats["update_failure"] as Counter).inc();
      log.debug(`cluster '${this.settings.name}': cannot resolve ${target.name}: ${(error as Error).message}`);
      const failure = dns.failureRefreshMs;
      if (failure !== undefined) nextMs = Math.min(failure.max, Math.random() * failure.base * 2 ** Math.min(20, state.failures));
    }
    state.resolved = true;
    this.#setHosts([...this.settings.staticHosts, ...this.#targets.flatMap(({ hosts }) => hosts)], false);
    if (this.#targets.every(({ resolved }) => resolved)) this.#markReady();
    state.timer.enable(Math.max(1, nextMs + Math.random() * dns.jitterMs));
  }

  #setHosts(hosts: readonly HostData[], first: boolean): void {
    // Two names may give one address: it is one host.
    const unique = [...new Map(hosts.map((host) => [hostKey(host), host])).values()];
    const describe = (list: readonly HostData[]): string => JSON.stringify(list.map((host) => [hostKey(host), host.address.text, host.weight, host.health]));
    const changed = describe(unique) !== describe(this.hosts);
    if (!changed && !first) {
      (this.#stats["update_no_rebuild"] as Counter).inc();
      return;
    }
    const before = this.hosts;
    this.hosts = unique;
    const keys = new Set(before.map(hostKey));
    if (changed && (unique.length !== before.length || unique.some((host) => !keys.has(hostKey(host))))) (this.#stats["membership_change"] as Counter).inc();
    const count = (health: HostData["health"]): number => unique.filter((host) => host.health === health).length;
    (this.#stats["membership_total"] as Gauge).set(unique.length);
    (this.#stats["membership_healthy"] as Gauge).set(count("healthy"));
    (this.#stats["membership_degraded"] as Gauge).set(count("degraded"));
    (this.#stats["max_host_weight"] as Gauge).set(unique.reduce((most, host) => Math.max(most, host.weight), 0));
    this.#options.onUpdate(this.update());
  }

  #markReady(): void {
    if (!this.warming) return;
    this.warming = false;
    this.#becomeReady();
    this.#onReady();
  }
}

interface TargetState {
  readonly target: DnsTarget;
  hosts: readonly HostData[];
  failures: number;
  readonly timer: Timer;
  resolved: boolean;
}
