/**
 * Chooses a host: first the priority level by how much of it is healthy (overprovisioning, panic), then a locality where those have weights,
 * then a host of it by the policy.
 * https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/priority
 */
import type { Counter, StatsScope } from "../stats/stats.ts";
import { HashTableStats, hashTable } from "./consistent-hash.ts";
import { type BalancedHost, type HostPicker, hostPicker, type PickerEnvironment, WeightedCycle } from "./host-pickers.ts";
import type { CompiledCluster } from "./settings.ts";
import type { Host, LoadBalancerContext } from "./upstream.ts";

interface Level {
  readonly healthy: HostPicker | undefined;
  readonly degraded: HostPicker | undefined;
  readonly all: HostPicker | undefined;
  readonly panic: boolean;
}

/** The hosts of one level. */
export interface Group {
  readonly all: readonly BalancedHost[];
  readonly healthy: readonly BalancedHost[];
  readonly degraded: readonly BalancedHost[];
  /** Members that count: hosts that drain do not. */
  readonly size: number;
}

/** By levels: shares of all requests in whole percents, and which have too few hosts to tell the healthy from the rest. */
export interface LoadShares {
  readonly healthy: readonly number[];
  readonly degraded: readonly number[];
  readonly panic: readonly boolean[];
}

/** Levels from 0 to the last that has a host; at least one. */
export function groupsOf(hosts: readonly BalancedHost[]): Group[] {
  const count = hosts.reduce((most, host) => Math.max(most, host.priority + 1), 1);
  return Array.from({ length: count }, (_, priority) => {
    const all = hosts.filter((host) => host.priority === priority);
    return {
      all,
      healthy: all.filter((host) => host.health === "healthy"),
      degraded: all.filter((host) => host.health === "degraded"),
      size: all.filter((host) => !host.draining).length,
    };
  });
}

/** A level for one request. One key stays at one level, too. */
export function chooseLevel(shares: LoadShares, hash: bigint | undefined, random: () => number): { readonly level: number; readonly degraded: boolean } {
  if (shares.healthy[0] >= 100) return first;
  let point = (hash === undefined ? Math.floor(random() * 100) : Number(hash % 100n)) + 1;
  for (let level = 0; level < shares.healthy.length; level++) {
    point -= shares.healthy[level];
    if (point <= 0) return { level, degraded: false };
  }
  for (let level = 0; level < shares.degraded.length; level++) {
    point -= shares.degraded[level];
    if (point <= 0) return { level, degraded: true };
  }
  return first;
}

const first = { level: 0, degraded: false } as const;

export interface LoadBalancerOptions extends Omit<PickerEnvironment, "settings"> {
  readonly panicCounter: Counter;
  /** Where sizes of hash tables are shown: by one thread only. */
  readonly tableScope: StatsScope | undefined;
}

export class LoadBalancer {
  readonly #settings: CompiledCluster;
  readonly #options: LoadBalancerOptions;
  readonly #environment: PickerEnvironment;
  readonly #random: () => number;
  #hosts: readonly BalancedHost[] = [];
  #levels: readonly Level[] = [];
  #shares: LoadShares = { healthy: [100], degraded: [0], panic: [false] };
  #panicThreshold = -1;
  #overprovisioningPercent: number;
  readonly #tableStats: HashTableStats | undefined;

  constructor(settings: CompiledCluster, options: LoadBalancerOptions) {
    this.#settings = settings;
    this.#options = options;
    this.#overprovisioningPercent = settings.overprovisioningPercent;
    this.#random = options.random;
    this.#environment = { settings, runtime: options.runtime, now: options.now, random: options.random };
    this.#tableStats = settings.hash === undefined || options.tableScope === undefined ? undefined : new HashTableStats(options.tableScope, settings.hash.kind);
    this.update([]);
  }

  /** `overprovisioningPercent`: where it comes with the hosts. */
  update(hosts: readonly BalancedHost[], overprovisioningPercent = this.#overprovisioningPercent): void {
    this.#hosts = hosts;
    this.#overprovisioningPercent = overprovisioningPercent;
    this.#panicThreshold = this.#readPanicThreshold();
    const groups = groupsOf(hosts);
    const shares = loadShares(groups, overprovisioningPercent, this.#panicThreshold);
    this.#shares = shares;
    this.#levels = groups.map(({ all, healthy, degraded }, i) => ({
      // Only what can be asked for is made: hash tables are large.
      all: shares.panic[i] ? this.#picker(all, all, false) : undefined,
      healthy: shares.panic[i] ? undefined : this.#picker(healthy, all, true),
      degraded: shares.panic[i] || shares.degraded[i] === 0 ? undefined : this.#picker(degraded, all, true),
      panic: shares.panic[i],
    }));
  }

  choose(context: LoadBalancerContext): Host | undefined {
    // The threshold may have been changed by runtime.
    if (this.#readPanicThreshold() !== this.#panicThreshold) this.update(this.#hosts);
    const hash = this.#settings.hash === undefined ? undefined : (context.hash ?? this.#randomHash());
    let host = this.#chooseOnce(hash, 0);
    // Retries may want another host than those tried.
    for (let attempt = 1; host !== undefined && attempt <= context.hostSelectionMaxAttempts && context.shouldSelectAnotherHost(host); attempt++)
      host = this.#chooseOnce(hash, attempt) ?? host;
    return host;
  }

  #readPanicThreshold(): number {
    return Math.min(100, this.#options.runtime.snapshot.integer("upstream.healthy_panic_threshold", this.#settings.panicThresholdPercent));
  }

  #randomHash(): bigint {
    return (BigInt(Math.floor(this.#random() * 2 ** 32)) << 32n) | BigInt(Math.floor(this.#random() * 2 ** 32));
  }

  /** A host of one level, which somebody else has chosen. */
  chooseAt(at: { readonly priority: number; readonly degraded: boolean }, context: LoadBalancerContext): Host | undefined {
    if (this.#readPanicThreshold() !== this.#panicThreshold) this.update(this.#hosts);
    const hash = this.#settings.hash === undefined ? undefined : (context.hash ?? this.#randomHash());
    return this.#pick(at.priority, at.degraded, hash, 0);
  }

  #chooseOnce(hash: bigint | undefined, attempt: number): Host | undefined {
    const { level, degraded } = chooseLevel(this.#shares, hash, this.#random);
    return this.#pick(level, degraded, hash, attempt);
  }

  #pick(priority: number, degraded: boolean, hash: bigint | undefined, attempt: number): Host | undefined {
    const level = this.#levels[priority];
    if (level === undefined) return undefined;
    if (level.panic) {
      this.#options.panicCounter.inc();
      return this.#settings.failTrafficOnPanic ? undefined : level.all?.pick(hash ?? 0n, attempt);
    }
    return (degraded ? level.degraded : level.healthy)?.pick(hash ?? 0n, attempt);
  }

  /** `members`: all hosts of the level, healthy or not: a locality that lost hosts gets less. */
  #picker(hosts: readonly BalancedHost[], members: readonly BalancedHost[], byLocality: boolean): HostPicker | undefined {
    if (hosts.length === 0) return undefined;
    const { hash } = this.#settings;
    if (hash !== undefined) {
      const table = hashTable(hosts, hash, byLocality && this.#settings.localityWeighted, this.#tableStats);
      return { pick: (key, attempt) => table.choose(key, attempt) };
    }
    if (!byLocality || !this.#settings.localityWeighted) return hostPicker(hosts, this.#environment);
    const localities: { readonly picker: HostPicker; readonly weight: number }[] = [];
    for (const [key, list] of byKey(hosts)) {
      const size = members.filter((host) => localityKey(host) === key && !host.draining).length;
      const available = Math.min(1, ((list.length / Math.max(1, size)) * this.#overprovisioningPercent) / 100);
      const weight = list[0].localityWeight * available;
      // A locality without a weight gets nothing.
      if (weight > 0) localities.push({ picker: hostPicker(list, this.#environment), weight });
    }
    if (localities.length === 0) return hostPicker(hosts, this.#environment);
    if (localities.length === 1) return localities[0].picker;
    const cycle = new WeightedCycle(localities, (locality) => locality.weight, this.#random);
    return { pick: (hash, attempt) => cycle.take().picker.pick(hash, attempt) };
  }
}

function localityKey(host: BalancedHost): string {
  const { region, zone, subZone } = host.locality;
  return `${region}\u0000${zone}\u0000${subZone}`;
}

function byKey(hosts: readonly BalancedHost[]): Map<string, BalancedHost[]> {
  const found = new Map<string, BalancedHost[]>();
  for (const host of hosts) {
    const key = localityKey(host);
    const list = found.get(key);
    if (list === undefined) found.set(key, [host]);
    else list.push(host);
  }
  return found;
}

/** Whole percents, as Envoy counts: what rounding leaves over goes to the first level that has anyone. */
export function loadShares(groups: readonly Group[], overprovisioningPercent: number, panicThreshold: number): LoadShares {
  const availability = (part: number, size: number): number => (size === 0 ? 0 : Math.min(100, Math.floor((overprovisioningPercent * part) / size)));
  const healthiness = groups.map(({ healthy, size }) => availability(healthy.length, size));
  const degradedness = groups.map(({ degraded, size }) => availability(degraded.length, size));
  const total = Math.min(
    100,
    [...healthiness, ...degradedness].reduce((a, b) => a + b, 0),
  );
  const healthy = groups.map(() => 0);
  const degraded = groups.map(() => 0);
  const panic = groups.map(() => false);
  if (panicThreshold === 0 && total === 0) {
    healthy[0] = 100;
    return { healthy, degraded, panic };
  }
  if (total > 0) {
    let left = 100;
    const distribute = (shares: number[], available: readonly number[]): void => {
      available.forEach((part, i) => {
        shares[i] = Math.min(left, Math.floor((part * 100) / total));
        left -= shares[i];
      });
    };
    distribute(healthy, healthiness);
    distribute(degraded, degradedness);
    const first = healthiness.findIndex((part) => part > 0);
    if (first >= 0) healthy[first] += left;
    else degraded[degradedness.findIndex((part) => part > 0)] += left;
  }
  groups.forEach((group, i) => {
    const percent = group.size === 0 ? 0 : ((group.healthy.length + group.degraded.length) * 100) / group.size;
    // With full health in sight no level panics, however few healthy hosts it has itself.
    panic[i] = total !== 100 && percent < panicThreshold;
  });
  if (!panic.every(Boolean)) return { healthy, degraded, panic };
  // Everyone panics: levels get what they have hosts for.
  const hosts = groups.reduce((sum, { all }) => sum + all.length, 0);
  degraded.fill(0);
  if (hosts === 0) {
    healthy[0] = 100;
    return { healthy, degraded, panic };
  }
  let left = 100;
  groups.forEach(({ all }, i) => {
    healthy[i] = Math.floor((100 * all.length) / hosts);
    left -= healthy[i];
  });
  healthy[groups.findIndex(({ all }) => all.length > 0)] += left;
  return { healthy, degraded, panic };
}
