/**
 * Chooses a host: first the priority level by how much of it is healthy (overprovisioning, panic), then a host of it by the policy.
 * https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/priority
 */
import type { Counter } from "../stats/stats.ts";
import type { CompiledCluster } from "./settings.ts";
import type { Host, LoadBalancerContext } from "./upstream.ts";

/** Hosts that one picker chooses among. */
class Picker {
  readonly hosts: readonly Host[];
  readonly #policy: CompiledCluster["balancer"];
  readonly #choiceCount: number;
  #next: number;
  /** Weighted: a heap by deadline (earliest deadline first). */
  readonly #heap: { host: Host; deadline: number; order: number }[] | undefined;
  #order = 0;

  constructor(hosts: readonly Host[], policy: CompiledCluster["balancer"], choiceCount: number, random: () => number) {
    this.hosts = hosts;
    this.#policy = policy;
    this.#choiceCount = choiceCount;
    // Workers start at different hosts.
    this.#next = Math.floor(random() * hosts.length);
    const weighted = policy !== "random" && hosts.some((host) => host.weight !== hosts[0].weight);
    this.#heap = weighted ? hosts.map((host) => ({ host, deadline: 1 / host.weight, order: this.#order++ })) : undefined;
    if (this.#heap !== undefined) for (let i = (this.#heap.length >> 1) - 1; i >= 0; i--) this.#sink(i);
  }

  pick(random: () => number): Host {
    const { hosts } = this;
    if (hosts.length === 1) return hosts[0];
    if (this.#heap !== undefined) {
      const [first] = this.#heap;
      const { host } = first;
      const load = this.#policy === "least_request" ? host.stats.rq_active.value + 1 : 1;
      first.deadline += load / host.weight;
      first.order = this.#order++;
      this.#sink(0);
      return host;
    }
    if (this.#policy === "round_robin") {
      if (this.#next >= hosts.length) this.#next = 0;
      return hosts[this.#next++];
    }
    let best = hosts[Math.floor(random() * hosts.length)];
    if (this.#policy === "random") return best;
    for (let i = 1; i < this.#choiceCount; i++) {
      const other = hosts[Math.floor(random() * hosts.length)];
      if (other.stats.rq_active.value < best.stats.rq_active.value) best = other;
    }
    return best;
  }

  #sink(from: number): void {
    const heap = this.#heap as { host: Host; deadline: number; order: number }[];
    const before = (a: number, b: number): boolean =>
      heap[a].deadline < heap[b].deadline || (heap[a].deadline === heap[b].deadline && heap[a].order < heap[b].order);
    let at = from;
    for (;;) {
      let least = at;
      const left = 2 * at + 1;
      if (left < heap.length && before(left, least)) least = left;
      if (left + 1 < heap.length && before(left + 1, least)) least = left + 1;
      if (least === at) return;
      [heap[at], heap[least]] = [heap[least], heap[at]];
      at = least;
    }
  }
}

interface Level {
  readonly healthy: Picker | undefined;
  readonly degraded: Picker | undefined;
  readonly all: Picker | undefined;
  readonly panic: boolean;
  /** Shares of all requests, in percent, for healthy and degraded hosts. */
  readonly healthyShare: number;
  readonly degradedShare: number;
}

export class LoadBalancer {
  readonly #settings: CompiledCluster;
  readonly #panicCounter: Counter;
  readonly #random: () => number;
  #levels: readonly Level[] = [];

  constructor(settings: CompiledCluster, panicCounter: Counter, random: () => number = Math.random) {
    this.#settings = settings;
    this.#panicCounter = panicCounter;
    this.#random = random;
  }

  update(hosts: readonly Host[]): void {
    const { balancer, choiceCount, panicThresholdPercent, overprovisioningPercent } = this.#settings;
    const count = hosts.reduce((most, host) => Math.max(most, host.priority + 1), 0);
    const picker = (list: readonly Host[]): Picker | undefined => (list.length === 0 ? undefined : new Picker(list, balancer, choiceCount, this.#random));
    const groups = Array.from({ length: count }, (_, priority) => {
      const all = hosts.filter((host) => host.priority === priority);
      const healthy = all.filter((host) => host.health === "healthy");
      const degraded = all.filter((host) => host.health === "degraded");
      return { all, healthy, degraded };
    });
    const health = groups.map(({ all, healthy }) => (all.length === 0 ? 0 : Math.min(100, (healthy.length * overprovisioningPercent) / all.length)));
    const degradedHealth = groups.map(({ all, degraded }) => (all.length === 0 ? 0 : Math.min(100, (degraded.length * overprovisioningPercent) / all.length)));
    const total = Math.min(100, health.reduce((a, b) => a + b, 0) + degradedHealth.reduce((a, b) => a + b, 0));
    // With full health in sight no level panics; below it, those with too few healthy hosts do.
    const panic = groups.map(
      ({ all, healthy, degraded }) => total < 100 && all.length > 0 && ((healthy.length + degraded.length) * 100) / all.length < panicThresholdPercent,
    );
    let left = 100;
    const share = (value: number): number => {
      const part = total === 0 ? 0 : Math.min(left, (value * 100) / total);
      left -= part;
      return part;
    };
    const healthyShares = health.map(share);
    const degradedShares = degradedHealth.map(share);
    if (total === 0) {
      // Nobody is healthy: levels in panic take all, by their sizes.
      const size = groups.reduce((sum, { all }) => sum + all.length, 0);
      groups.forEach(({ all }, i) => {
        healthyShares[i] = size === 0 ? 0 : (all.length * 100) / size;
      });
    }
    this.#levels = groups.map(({ all, healthy, degraded }, i) => ({
      all: picker(all),
      healthy: picker(healthy),
      degraded: picker(degraded),
      panic: panic[i],
      healthyShare: healthyShares[i],
      degradedShare: degradedShares[i],
    }));
  }

  choose(context: LoadBalancerContext): Host | undefined {
    let host = this.#chooseOnce();
    // Retries may want another host than those tried.
    for (let attempts = context.hostSelectionMaxAttempts; host !== undefined && attempts > 0 && context.shouldSelectAnotherHost(host); attempts--)
      host = this.#chooseOnce() ?? host;
    return host;
  }

  #chooseOnce(): Host | undefined {
    const levels = this.#levels;
    if (levels.length === 0) return undefined;
    let level = levels[0];
    let degraded = false;
    if (levels.length > 1 || level.healthyShare < 100) {
      let point = this.#random() * 100;
      let found = false;
      for (const candidate of levels) {
        if (point < candidate.healthyShare) {
          level = candidate;
          found = true;
          break;
        }
        point -= candidate.healthyShare;
      }
      for (let i = 0; !found && i < levels.length; i++) {
        if (point < levels[i].degradedShare) {
          level = levels[i];
          degraded = true;
          found = true;
        }
        point -= levels[i].degradedShare;
      }
    }
    if (level.panic) {
      this.#panicCounter.inc();
      return this.#settings.failTrafficOnPanic ? undefined : level.all?.pick(this.#random);
    }
    return (degraded ? level.degraded : level.healthy)?.pick(this.#random);
  }
}
