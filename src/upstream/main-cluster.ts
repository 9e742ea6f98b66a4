/** One cluster on the main thread: who its members are, and what of its statistics is computed rather than counted. */

import type { Finding } from "../config/finding.ts";
import type { LogWriter } from "../extensions/extension.ts";
import { getLogger } from "../log/log.ts";
import { ipAddress } from "../net/address.ts";
import type { Address } from "../net/connection.ts";
import type { Timer, TimerWheel } from "../net/timer-wheel.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { Counter, Gauge, StatsScope, StatsStore } from "../stats/stats.ts";
import { FileSubscription } from "../xds/file-subscription.ts";
import { describe as describeFindings, type Resource } from "../xds/resource.ts";
import { refuseBroken, type Subscribe, type Subscription } from "../xds/subscription.ts";
import { circuitBreakerGauges, clusterStats, counterOf, remainingGauges } from "./cluster-stats.ts";
import { type Resolve, resolveName } from "./dns.ts";
import { assignmentType } from "./eds.ts";
import type { Transition } from "./health/health-checker.ts";
import { HealthChecks, type HealthChecksOptions } from "./health/health-checks.ts";
import { HostCellTable } from "./host-cells.ts";
import { discoveredFlags, flagsOf, healthFlags } from "./host-health.ts";
import { type HostData, type HostUpdate, hostKey } from "./hosts.ts";
import { type Counted, countedAs, Member } from "./member.ts";
import { maxOriginalDstHosts, originalDstHost } from "./original-dst.ts";
import { OutlierDetector } from "./outlier/detector.ts";
import type { HostEvent } from "./outlier/monitor.ts";
import { cellsSize, readCells, resourceNames } from "./resource-manager.ts";
import type { CompiledCluster, DnsTarget, EdsSettings, Thresholds } from "./settings.ts";
import { transportSocketFor } from "./transport-socket-match.ts";
import { type MergeStats, UpdateMerger } from "./update-merger.ts";
import type { ClusterStats } from "./upstream.ts";

const log = getLogger("upstream");

export interface MainClustersOptions {
  readonly stats: StatsStore;
  readonly timers: TimerWheel;
  readonly runtime: Runtime;
  /** How many threads count against circuit breakers: workers, and the main thread, which is the last. */
  readonly threads: number;
  readonly onUpdate: (update: HostUpdate) => void;
  readonly resolve?: Resolve;
  /** Workers are to read the health of a cluster's hosts again. */
  readonly onHealth?: (cluster: string) => void;
  /** A host has failed its health checks, or was ejected. */
  readonly onHealthFailure?: (cluster: string, host: number) => void;
  /** Of a statistic, over all threads. */
  readonly readStat?: (name: string) => number;
  /** Where ejections are logged. */
  readonly outlierLog?: LogWriter | undefined;
  /** For tests. */
  readonly random?: () => number;
  readonly probe?: HealthChecksOptions["probe"];
  /** Text statistics (version_text). */
  readonly setText?: (name: string, value: string) => void;
  /** A cluster is gone, and with it the statistics that begin so. */
  readonly forget?: (prefix: string) => void;
  /** What of a dynamic resource is not supported. */
  readonly check?: (message: object, locate: Resource["locate"]) => readonly Finding[];
  /** How members of EDS clusters are had; without it only files can be read. */
  readonly subscribe?: Subscribe;
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

/** An integer of 32 bits. */
const randomInteger = (): number => Math.floor(Math.random() * 2 ** 32);

const readFileOnly: Subscribe = (source, subscriber) => {
  if (source.kind !== "file") throw new Error("resources come from files only here");
  return new FileSubscription(source, subscriber);
};

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
  #subscription: Subscription | undefined;
  #overprovisioningPercent: number | undefined;
  /** Members by their keys, where hosts are watched. */
  readonly #members = new Map<string, Member>();
  readonly #membersById = new Map<number, Member>();
  /** How many members count as what. */
  #counts = new Map<Counted, number>();
  /** Priority levels. */
  #levels = 1;
  readonly #table: HostCellTable | undefined;
  readonly #checks: HealthChecks | undefined;
  readonly #detector: OutlierDetector | undefined;
  readonly #merger: UpdateMerger;
  /** Hosts whose first check the cluster waits for. */
  readonly #unchecked = new Set<Member>();
  #discovered = false;
  #hadTraffic = false;

  constructor(settings: CompiledCluster, options: MainClustersOptions, mergeStats: MergeStats, onReady: () => void) {
    this.settings = settings;
    this.#options = options;
    this.#onReady = onReady;
    this.#stats = clusterStats(settings.scope);
    this.#buffer = new SharedArrayBuffer(cellsSize(options.threads));
    this.cells = new Int32Array(this.#buffer);
    this.ready = new Promise((resolve) => {
      this.#becomeReady = resolve;
    });
    this.#targets = (settings.dns?.targets ?? []).map((target) => {
      const state: TargetState = { target, timer: options.timers.createTimer(() => void this.#resolve(state)), hosts: [], failures: 0 };
      return state;
    });
    for (const { name } of settings.transportSocketMatches) settings.scope.counter(`${name}.total_match_count`);
    const watched = settings.healthChecks.length > 0 || settings.outlier !== undefined;
    this.#table = watched ? new HostCellTable() : undefined;
    const { timers, runtime, random = randomInteger, probe } = options;
    this.#merger = new UpdateMerger(settings.updateMergeWindowMs, timers, mergeStats, () => options.onHealth?.(settings.name));
    this.#checks =
      settings.healthChecks.length === 0
        ? undefined
        : new HealthChecks(settings, {
            timers,
            runtime,
            random,
            probe,
            hasTraffic: () => this.#hasTraffic(),
            onResult: (host, transition, healthy) => this.#onChecked(host as Member, transition, healthy),
          });
    this.#detector =
      settings.outlier === undefined
        ? undefined
        : new OutlierDetector(settings.outlier, {
            cluster: settings.name,
            scope: settings.scope,
            timers,
            runtime,
            random,
            eventLog: options.outlierLog,
            onChange: (host) => this.#onHealthChanged(host as Member, host.flags & healthFlags.failed_outlier_check),
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
      this.#onDiscovered();
      return;
    }
    for (const target of this.#targets) void this.#resolve(target);
  }

  close(): void {
    this.#closed = true;
    this.#cleanupTimer?.disable();
    this.#subscription?.close();
    for (const { timer } of this.#targets) timer.disable();
    this.#merger.close();
    this.#checks?.close();
    this.#detector?.close();
    this.#markReady();
  }

  update(): HostUpdate {
    const overprovisioningPercent = this.#overprovisioningPercent;
    return {
      cluster: this.settings.name,
      hosts: this.hosts,
      cells: this.#buffer,
      ...(overprovisioningPercent !== undefined && { overprovisioningPercent }),
      ...(this.#table !== undefined && { watched: this.#watched(this.#table) }),
    };
  }

  #watched(table: HostCellTable): HostUpdate["watched"] {
    const members = this.hosts.map((host) => this.#memberOf(host) as Member);
    return { slabs: table.buffers.slice(), rows: members.map(({ row }) => row), ids: members.map(({ id }) => id) };
  }

  #memberOf(host: HostData): Member | undefined {
    return this.#members.get(hostKey(host));
  }

  #subscribe(eds: EdsSettings): void {
    const { setText, check, subscribe = readFileOnly } = this.#options;
    this.#subscription = subscribe(eds.source, {
      typeName: assignmentType,
      scope: this.settings.scope,
      names: [eds.serviceName],
      ...(setText !== undefined && { setText }),
      accept: ({ resources }) => {
        refuseBroken(resources);
        const unsupported = resources.flatMap(({ message, locate }) => check?.(message, locate) ?? []).filter(({ severity }) => severity === "error");
        if (unsupported.length > 0) throw new Error(describeFindings(unsupported));
        const members = eds.membersOf(resources);
        if (members === undefined) {
          this.#counter("update_empty").inc();
        } else {
          const isNew = this.#overprovisioningPercent !== members.overprovisioningPercent;
          this.#overprovisioningPercent = members.overprovisioningPercent;
          this.#setHosts(members.hosts, isNew);
        }
        this.#onDiscovered();
      },
      onFailure: () => this.#onDiscovered(),
    });
    this.#subscription.start();
  }

  /** Circuit breakers as they are now. */
  refresh(): void {
    const { snapshot } = this.#options.runtime;
    const { threads } = this.#options;
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
    this.#onDiscovered();
    state.timer.enable(Math.max(1, nextMs + Math.random() * dns.jitterMs));
  }

  /** `isNew`: workers are to be told although the hosts are the same. */
  #setHosts(hosts: readonly HostData[], isNew = false): void {
    // Two names may give one address: it is one host.
    const found = new Map(hosts.map((host) => [hostKey(host), host]));
    const before = this.hosts;
    for (const host of before) if (!found.has(hostKey(host)) && this.#outlivesDiscovery(host)) found.set(hostKey(host), host);
    for (const host of hosts) this.#setFlag(this.#memberOf(host), "pending_dynamic_removal", false);
    const unique = [...found.values()];
    if (!isNew && describe(unique) === describe(before)) {
      if (this.#targets.length > 0 || this.settings.eds !== undefined) this.#counter("update_no_rebuild").inc();
      return;
    }
    this.hosts = unique;
    const known = new Set(before.map(hostKey));
    const added = unique.filter((host) => !known.has(hostKey(host)));
    const removed = before.filter((host) => !found.has(hostKey(host)));
    // Each priority level that changed counts.
    this.#counter("membership_change").add(new Set([...added, ...removed].map(({ priority }) => priority)).size);
    for (const host of added) this.settings.scope.counter(`${transportSocketFor(this.settings, host).name}.total_match_count`).inc();
    const [gone, fresh] = this.#watchMembers(unique);
    this.#countMembers();
    if (this.settings.discovery === "strict_dns") this.#gauge("max_host_weight").set(unique.reduce((most, host) => Math.max(most, host.weight), 1));
    if (!this.warming) this.#merger.replaced();
    this.#options.onUpdate(this.update());
    // Checks begin when everyone knows the hosts: a result may come at once.
    for (const member of gone) {
      this.#checks?.remove(member);
      this.#detector?.remove(member);
    }
    for (const member of fresh) this.#detector?.add(member);
    for (const member of fresh) {
      if (this.#checks === undefined || member.data.isNotChecked === true) continue;
      if (this.warming) this.#unchecked.add(member);
      this.#checks.add(member);
    }
  }

  /** Members that are gone, and those that are new. */
  #watchMembers(hosts: readonly HostData[]): readonly [Member[], Member[]] {
    const gone: Member[] = [];
    const fresh: Member[] = [];
    const table = this.#table;
    if (table === undefined) return [gone, fresh];
    const now = this.#options.timers.clock.now();
    const keys = new Set(hosts.map(hostKey));
    for (const [key, member] of this.#members) {
      if (keys.has(key)) continue;
      this.#members.delete(key);
      this.#membersById.delete(member.id);
      table.release(member.row, now);
      gone.push(member);
    }
    for (const host of hosts) {
      const key = hostKey(host);
      const known = this.#members.get(key);
      if (known !== undefined) {
        known.data = host;
        known.flags = (known.flags & ~discoveredFlags) | flagsOf(host.health);
        continue;
      }
      const row = table.allocate(now);
      const member = new Member(host, row, table.at(row), flagsOf(host.health) | this.#flagsOfNew(host));
      this.#members.set(key, member);
      this.#membersById.set(member.id, member);
      fresh.push(member);
    }
    return [gone, fresh];
  }

  /** A new host gets no traffic before it passes its first check. */
  #flagsOfNew(host: HostData): number {
    const { discovery, ignoreNewUntilChecked } = this.settings;
    if (this.#checks === undefined || host.isNotChecked === true) return 0;
    // As with Envoy, a logical host and an original destination are believed until they fail.
    if (discovery === "logical_dns" || discovery === "original_dst") return 0;
    const waits = ignoreNewUntilChecked && discovery !== "static";
    return healthFlags.failed_active_hc | (waits ? healthFlags.pending_active_hc : 0);
  }

  /** Discovery has dropped it, but it passes its checks: discovery may be wrong. */
  #outlivesDiscovery(host: HostData): boolean {
    const { discovery, ignoreHealthOnRemoval } = this.settings;
    if (this.#checks === undefined || ignoreHealthOnRemoval || (discovery !== "eds" && discovery !== "strict_dns")) return false;
    const member = this.#memberOf(host);
    if (member === undefined || member.has("failed_active_hc") || member.has("failed_eds_health") || host.isNotChecked === true) return false;
    this.#setFlag(member, "pending_dynamic_removal", true);
    return true;
  }

  #setFlag(member: Member | undefined, flag: keyof typeof healthFlags, on: boolean): void {
    if (member === undefined || member.has(flag) === on) return;
    member.flags ^= healthFlags[flag];
  }

  // ---- health --------------------------------------------------------------------------------------------------------------------

  /** What is known against a host, see host-health.ts. */
  flags(host: HostData): number {
    return this.#memberOf(host)?.flags ?? flagsOf(host.health);
  }

  /** Of outlier detection, where there is any. */
  get detector(): OutlierDetector | undefined {
    return this.#detector;
  }
  successRate(host: HostData, origin: "external" | "local"): number {
    const member = this.#memberOf(host);
    return member === undefined ? -1 : (this.#detector?.successRate(member, origin) ?? -1);
  }

  /** What a worker has found out. */
  hostEvent(id: number, event: HostEvent): void {
    const member = this.#membersById.get(id);
    if (member === undefined) return;
    if (event !== "unhealthy") this.#detector?.report(member, event);
    else if (member.data.isNotChecked !== true) this.#checks?.failPassively(member);
  }

  #onChecked(member: Member, transition: Transition, healthy: boolean): void {
    if (this.#closed) return;
    if (healthy) this.#detector?.onHealthCheckPassed(member);
    if (transition === "changed") this.#onHealthChanged(member, member.flags & healthFlags.failed_active_hc);
    if (this.#unchecked.delete(member) && this.#discovered && this.#unchecked.size === 0) this.#markReady();
    if (member.has("pending_dynamic_removal") && member.has("failed_active_hc") && this.settings.discovery === "eds")
      // Without those that discovery dropped: the ones that pass their checks stay on.
      this.#setHosts(this.hosts.filter((host) => this.#memberOf(host)?.has("pending_dynamic_removal") !== true));
  }

  /** `failed`: not 0 where it is out from now on. */
  #onHealthChanged(member: Member, failed: number): void {
    if (this.#closed) return;
    // Only what changed is counted: with thousands of hosts there are thousands of results.
    this.#count(member);
    this.#showMembership();
    // Before the cluster is ready nobody uses it: the workers hear of all first results at once.
    if (this.warming) return;
    if (failed !== 0) this.#options.onHealthFailure?.(this.settings.name, member.id);
    this.#merger.changed(this.#levels);
  }

  #countMembers(): void {
    this.#counts = new Map();
    this.#levels = this.hosts.reduce((most, { priority }) => Math.max(most, priority + 1), 1);
    if (this.#table === undefined) {
      for (const { health } of this.hosts) this.#addToCount(countedAs(flagsOf(health)), 1);
    } else {
      for (const member of this.#members.values()) {
        member.counted = undefined;
        this.#count(member);
      }
    }
    this.#showMembership();
  }

  #count(member: Member): void {
    if (member.counted !== undefined) this.#addToCount(member.counted, -1);
    member.counted = countedAs(member.flags);
    this.#addToCount(member.counted, 1);
  }

  #addToCount(kind: Counted, change: number): void {
    this.#counts.set(kind, (this.#counts.get(kind) ?? 0) + change);
  }

  #showMembership(): void {
    const count = (...kinds: Counted[]): number => kinds.reduce((sum, kind) => sum + (this.#counts.get(kind) ?? 0), 0);
    this.#gauge("membership_total").set(this.hosts.length);
    this.#gauge("membership_healthy").set(count("healthy", "healthy excluded"));
    this.#gauge("membership_degraded").set(count("degraded", "degraded excluded"));
    this.#gauge("membership_excluded").set(count("healthy excluded", "degraded excluded", "unhealthy excluded"));
  }

  #hasTraffic(): boolean {
    if (this.#hadTraffic) return true;
    const { readStat } = this.#options;
    const { prefix } = this.settings.scope;
    this.#hadTraffic =
      readStat === undefined || ["upstream_cx_total", "upstream_cx_tx_bytes_total", "upstream_cx_rx_bytes_total"].some((name) => readStat(prefix + name) > 0);
    return this.#hadTraffic;
  }

  /** Members are known, or cannot be. Those that are checked are to have had their first check, too. */
  #onDiscovered(): void {
    this.#discovered = true;
    if (this.#unchecked.size === 0) this.#markReady();
  }

  #counter(name: Parameters<typeof counterOf>[1]): Counter {
    return counterOf(this.#stats, name);
  }
  #gauge(name: string): Gauge {
    return this.#stats[name] as Gauge;
  }

  #markReady(): void {
    if (!this.warming) return;
    if (this.#table !== undefined && !this.#closed) this.#options.onHealth?.(this.settings.name);
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
