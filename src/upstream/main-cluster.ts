/** One cluster on the main thread: who its members are, and what of its statistics is computed rather than counted. */
import { getLogger } from "../log/log.ts";
import { ipAddress } from "../net/address.ts";
import type { Address } from "../net/connection.ts";
import type { Timer, TimerWheel } from "../net/timer-wheel.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Counter, Gauge, StatsScope, StatsStore } from "../stats/stats.ts";
import { FileSubscription, type FileSubscriptionOptions } from "../xds/file-subscription.ts";
import { circuitBreakerGauges, clusterStats, counterOf, remainingGauges } from "./cluster-stats.ts";
import { type Resolve, resolveName } from "./dns.ts";
import { assignmentType } from "./eds.ts";
import { type HostData, type HostUpdate, hostKey } from "./hosts.ts";
import { maxOriginalDstHosts, originalDstHost } from "./original-dst.ts";
import { cellsSize, readCells, resourceNames } from "./resource-manager.ts";
import type { CompiledCluster, DnsTarget, EdsSettings, Thresholds } from "./settings.ts";
import { transportSocketFor } from "./transport-socket-match.ts";
import type { ClusterStats } from "./upstream.ts";

const log = getLogger("upstream");

export interface MainClustersOptions {
  readonly stats: StatsStore;
  readonly timers: TimerWheel;
  readonly runtime: Runtime;
  /** How many threads count against circuit breakers. */
  readonly concurrency: number;
  readonly onUpdate: (update: HostUpdate) => void;
  readonly resolve?: Resolve;
  /** Text statistics (version_text). */
  readonly setText?: (name: string, value: string) => void;
  /** What of a dynamic resource is not supported. */
  readonly check?: FileSubscriptionOptions["check"];
}

interface TargetState {
  readonly target: DnsTarget;
  readonly timer: Timer;
  hosts: readonly HostData[];
  failures: number;
}

interface Breakers {
  readonly scope: StatsScope;
  readonly limits: Thresholds;
  readonly priority: 0 | 1;
  /** Runtime keys of the limits. */
  readonly keys: readonly string[];
}

/** No limit of pools exists. */
const unlimited = 2 ** 64;

export class MainCluster {
  readonly settings: CompiledCluster;
  readonly cells: Int32Array;
  /** Settled when the first members are known, or that none can be. */
  readonly ready: Promise<void>;
  hosts: readonly HostData[] = [];
  warming = true;
  readonly #options: MainClustersOptions;
  readonly #stats: ClusterStats;
  readonly #buffer: SharedArrayBuffer;
  readonly #targets: TargetState[];
  readonly #breakers: readonly Breakers[];
  readonly #onReady: () => void;
  #becomeReady!: () => void;
  #closed = false;
  readonly #usedLately = new Set<string>();
  #cleanupTimer: Timer | undefined;
  #subscription: FileSubscription | undefined;
  #overprovisioningPercent: number | undefined;

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
    this.#targets = (settings.dns?.targets ?? []).map((target) => {
      const state: TargetState = { target, timer: options.timers.createTimer(() => void this.#resolve(state)), hosts: [], failures: 0 };
      return state;
    });
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

  /** ORIGINAL_DST: addresses that workers meet and use. */
  hostsUsed(fresh: readonly Address[], used: readonly Address[]): void {
    if (this.settings.originalDst === undefined || this.#closed) return;
    for (const { text } of [...fresh, ...used]) this.#usedLately.add(text);
    const known = new Set(this.hosts.map(({ address }) => address.text));
    const added = fresh.filter(({ text }) => !known.has(text)).slice(0, maxOriginalDstHosts - known.size);
    if (added.length > 0) this.#setHosts([...this.hosts, ...added.map((address) => originalDstHost(this.settings.name, address))]);
    this.#cleanupTimer ??= this.#options.timers.createTimer(() => this.#cleanUp());
    if (!this.#cleanupTimer.enabled) this.#cleanupTimer.enable(Math.max(1, this.settings.originalDst.cleanupMs));
  }

  /** Drops hosts that nobody has used in the interval that just ended. */
  #cleanUp(): void {
    const kept = this.hosts.filter(({ address }) => this.#usedLately.has(address.text));
    this.#usedLately.clear();
    if (kept.length < this.hosts.length) this.#setHosts(kept);
    if (kept.length > 0) this.#cleanupTimer?.enable(Math.max(1, this.settings.originalDst?.cleanupMs ?? 0));
  }

  start(): void {
    if (this.settings.discovery === "strict_dns") this.#gauge("max_host_weight").set(1);
    if (this.settings.eds !== undefined) {
      this.#subscribe(this.settings.eds);
      return;
    }
    if (this.#targets.length === 0) {
      this.#setHosts(this.settings.staticHosts);
      this.#markReady();
      return;
    }
    for (const target of this.#targets) void this.#resolve(target);
  }

  close(): void {
    this.#closed = true;
    this.#cleanupTimer?.disable();
    this.#subscription?.close();
    for (const { timer } of this.#targets) timer.disable();
    this.#markReady();
  }

  update(): HostUpdate {
    const overprovisioningPercent = this.#overprovisioningPercent;
    return { cluster: this.settings.name, hosts: this.hosts, cells: this.#buffer, ...(overprovisioningPercent !== undefined && { overprovisioningPercent }) };
  }

  #subscribe(eds: EdsSettings): void {
    this.#subscription = new FileSubscription({
      source: eds.source,
      typeName: assignmentType,
      scope: this.settings.scope,
      setText: this.#options.setText,
      check: this.#options.check,
      accept: (resources) => {
        const members = eds.membersOf(resources);
        if (members === undefined) {
          this.#counter("update_empty").inc();
        } else {
          const isNew = this.#overprovisioningPercent !== members.overprovisioningPercent;
          this.#overprovisioningPercent = members.overprovisioningPercent;
          this.#setHosts(members.hosts, isNew);
        }
        this.#markReady();
      },
      onFailure: () => this.#markReady(),
    });
    this.#subscription.start();
  }

  /** Circuit breakers as they are now. */
  refresh(): void {
    const { snapshot } = this.#options.runtime;
    const threads = this.#options.concurrency;
    for (const { scope, limits, priority, keys } of this.#breakers) {
      const max = [limits.maxConnections, limits.maxPendingRequests, limits.maxRequests, limits.maxRetries].map((limit, i) => snapshot.integer(keys[i], limit));
      const used = resourceNames.map((_, i) => readCells(this.cells, priority, i, threads));
      ["cx_open", "rq_pending_open", "rq_open", "rq_retry_open"].forEach((name, i) => {
        // A breaker with a limit of 0 never opens: nothing was ever let in.
        scope.gauge(name).set(used[i] > 0 && used[i] >= max[i] ? 1 : 0);
      });
      if (!limits.trackRemaining) continue;
      ["remaining_cx", "remaining_pending", "remaining_rq", "remaining_retries"].forEach((name, i) => {
        scope.gauge(name).set(Math.max(0, max[i] - used[i]));
      });
      scope.gauge("remaining_cx_pools").set(unlimited);
    }
  }

  // ---- members -------------------------------------------------------------------------------------------------------------------

  async #resolve(state: TargetState): Promise<void> {
    const { dns } = this.settings;
    if (dns === undefined || this.#closed) return;
    const { target } = state;
    this.#counter("update_attempt").inc();
    let nextMs = dns.refreshMs;
    try {
      const { ips, ttl } = await (this.#options.resolve ?? resolveName)(target.name, dns);
      if (this.#closed) return;
      state.failures = 0;
      this.#counter("update_success").inc();
      if (dns.respectTtl && ttl !== undefined && ttl > 0 && ips.length > 0) nextMs = Math.max(ttl * 1000, dns.minRefreshMs);
      state.hosts = membersOf(target, dns.logical, ips, state.hosts);
      this.#setHosts([...this.settings.staticHosts, ...this.#targets.flatMap(({ hosts }) => hosts)]);
    } catch (error) {
      if (this.#closed) return;
      state.failures++;
      this.#counter("update_failure").inc();
      log.debug(`cluster '${this.settings.name}': cannot resolve ${target.name}: ${(error as Error).message}`);
      const failure = dns.failureRefreshMs;
      if (failure !== undefined) nextMs = Math.random() * Math.min(failure.max, failure.base * 2 ** Math.min(20, state.failures - 1));
    }
    // One name that has an answer is enough to begin with.
    this.#markReady();
    state.timer.enable(Math.max(1, nextMs + Math.random() * dns.jitterMs));
  }

  /** `isNew`: workers are to be told although the hosts are the same. */
  #setHosts(hosts: readonly HostData[], isNew = false): void {
    // Two names may give one address: it is one host.
    const unique = [...new Map(hosts.map((host) => [hostKey(host), host])).values()];
    const before = this.hosts;
    if (!isNew && describe(unique) === describe(before)) {
      if (this.#targets.length > 0 || this.settings.eds !== undefined) this.#counter("update_no_rebuild").inc();
      return;
    }
    this.hosts = unique;
    const known = new Set(before.map(hostKey));
    const added = unique.filter((host) => !known.has(hostKey(host)));
    if (added.length > 0 || unique.length !== before.length) this.#counter("membership_change").inc();
    for (const host of added) this.settings.scope.counter(`${transportSocketFor(this.settings, host).name}.total_match_count`).inc();
    const count = (health: HostData["health"]): number => unique.filter((host) => host.health === health).length;
    this.#gauge("membership_total").set(unique.length);
    this.#gauge("membership_healthy").set(count("healthy"));
    this.#gauge("membership_degraded").set(count("degraded"));
    this.#gauge("membership_excluded").set(count("draining"));
    if (this.settings.discovery === "strict_dns") this.#gauge("max_host_weight").set(unique.reduce((most, host) => Math.max(most, host.weight), 1));
    this.#options.onUpdate(this.update());
  }

  #counter(name: Parameters<typeof counterOf>[1]): Counter {
    return counterOf(this.#stats, name);
  }
  #gauge(name: string): Gauge {
    return this.#stats[name] as Gauge;
  }

  #markReady(): void {
    if (!this.warming) return;
    this.warming = false;
    this.#becomeReady();
    this.#onReady();
  }
}

function membersOf(target: DnsTarget, logical: boolean, ips: readonly string[], before: readonly HostData[]): readonly HostData[] {
  if (!logical) return [...new Set(ips)].map((ip) => ({ ...target.template, address: ipAddress(ip, target.port) }));
  // A logical host keeps the address it had where there is no new one.
  if (ips.length === 0) return before;
  return [{ ...target.template, address: ipAddress(ips[0], target.port), logicalName: `${target.name}:${target.port}` }];
}

/** Members in no order: DNS servers turn their answers round. */
function describe(hosts: readonly HostData[]): string {
  return JSON.stringify(hosts.map((host) => [hostKey(host), host.address.text, host.weight, host.health]).sort((a, b) => (a[0] < b[0] ? -1 : 1)));
}
