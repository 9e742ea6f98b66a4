/**
 * Chooses a host: first the priority level by how much of it is healthy (overprovisioning, panic), then a locality where those have weights,
 * then a host of it by the policy.
 * https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/priority
 */
import type { Counter } from "../stats/stats.ts";
import { type BalancedHost, type HostPicker, hostPicker, type PickerEnvironment, WeightedCycle } from "./host-pickers.ts";
import type { CompiledCluster } from "./settings.ts";
import type { Host, LoadBalancerContext } from "./upstream.ts";

interface Level {
  readonly healthy: HostPicker | undefined;
  readonly degraded: HostPicker | undefined;
  readonly all: HostPicker | undefined;
  readonly panic: boolean;
  /** Shares of all requests for healthy and for degraded hosts, whole percents; all shares of all levels sum up to 100. */
  readonly healthyShare: number;
  readonly degradedShare: number;
}

interface Group {
  readonly all: readonly BalancedHost[];
  readonly healthy: readonly BalancedHost[];
  readonly degraded: readonly BalancedHost[];
  /** Members that count: hosts that drain do not. */
  readonly size: number;
}

export interface LoadBalancerOptions extends Omit<PickerEnvironment, "settings"> {
  readonly panicCounter: Counter;
}

export class LoadBalancer {
  readonly #settings: CompiledCluster;
  readonly #options: LoadBalancerOptions;
  readonly #environment: PickerEnvironment;
  readonly #random: () => number;
  #hosts: readonly BalancedHost[] = [];
  #levels: readonly Level[] = [];
  #panicThreshold = -1;

  constructor(settings: CompiledCluster, options: LoadBalancerOptions) {
    this.#settings = settings;
    this.#options = options;
    this.#random = options.random;
    this.#environment = { settings, runtime: options.runtime, now: options.now, random: options.random };
    this.update([]);
  }

  update(hosts: readonly BalancedHost[]): void {
    this.#hosts = hosts;
    this.#panicThreshold = this.#readPanicThreshold();
    const count = hosts.reduce((most, host) => Math.max(most, host.priority + 1), 1);
    const groups: Group[] = Array.from({ length: count }, (_, priority) => {
      const all = hosts.filter((host) => host.priority === priority);
      return {
        all,
        healthy: all.filter((host) => host.health === "healthy"),
        degraded: all.filter((host) => host.health === "degraded"),
        size: all.filter((host) => !host.draining).length,
      };
    });
    const shares = loadShares(groups, this.#settings, this.#panicThreshold);
    this.#levels = groups.map(({ all, healthy, degraded }, i) => ({
      all: this.#picker(all, all, false),
      healthy: this.#picker(healthy, all, true),
      degraded: this.#picker(degraded, all, true),
      panic: shares.panic[i],
      healthyShare: shares.healthy[i],
      degradedShare: shares.degraded[i],
    }));
  }

  choose(context: LoadBalancerContext): Host | undefined {
    // The threshold may have been changed by runtime.
    if (this.#readPanicThreshold() !== this.#panicThreshold) this.update(this.#hosts);
    let host = this.#chooseOnce();
    // Retries may want another host than those tried.
    for (let attempts = context.hostSelectionMaxAttempts; host !== undefined && attempts > 0 && context.shouldSelectAnotherHost(host); attempts--)
      host = this.#chooseOnce() ?? host;
    return host;
  }

  #readPanicThreshold(): number {
    return Math.min(100, this.#options.runtime.snapshot.number("upstream.healthy_panic_threshold", this.#settings.panicThresholdPercent));
  }

  #chooseOnce(): Host | undefined {
    const levels = this.#levels;
    let level = levels[0];
    let degraded = false;
    if (level.healthyShare < 100) {
      let point = Math.floor(this.#random() * 100) + 1;
      let found = false;
      for (let i = 0; !found && i < levels.length; i++) {
        point -= levels[i].healthyShare;
        if (point > 0) continue;
        level = levels[i];
        found = true;
      }
      for (let i = 0; !found && i < levels.length; i++) {
        point -= levels[i].degradedShare;
        if (point > 0) continue;
        level = levels[i];
        degraded = true;
        found = true;
      }
    }
    if (level.panic) {
      this.#options.panicCounter.inc();
      return this.#settings.failTrafficOnPanic ? undefined : level.all?.pick();
    }
    return (degraded ? level.degraded : level.healthy)?.pick();
  }

  /** `members`: all hosts of the level, healthy or not: a locality that lost hosts gets less. */
  #picker(hosts: readonly BalancedHost[], members: readonly BalancedHost[], byLocality: boolean): HostPicker | undefined {
    if (hosts.length === 0) return undefined;
    if (!byLocality || !this.#settings.localityWeighted) return hostPicker(hosts, this.#environment);
    const localities: { readonly picker: HostPicker; readonly weight: number }[] = [];
    for (const [key, list] of byKey(hosts)) {
      const size = members.filter((host) => localityKey(host) === key && !host.draining).length;
      const available = Math.min(1, ((list.length / Math.max(1, size)) * this.#settings.overprovisioningPercent) / 100);
      const weight = list[0].localityWeight * available;
      // A locality without a weight gets nothing.
      if (weight > 0) localities.push({ picker: hostPicker(list, this.#environment), weight });
    }
    if (localities.length === 0) return hostPicker(hosts, this.#environment);
    if (localities.length === 1) return localities[0].picker;
    const cycle = new WeightedCycle(localities, (locality) => locality.weight, this.#random);
    return { pick: () => cycle.take().picker.pick() };
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
function loadShares(
  groups: readonly Group[],
  settings: CompiledCluster,
  panicThreshold: number,
): { readonly healthy: number[]; readonly degraded: number[]; readonly panic: boolean[] } {
  const availability = (part: number, size: number): number => (size === 0 ? 0 : Math.min(100, Math.floor((settings.overprovisioningPercent * part) / size)));
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
