/** Ways to take one host of a list: each is made anew when the list changes. */
import type { Runtime } from "../runtime/runtime.ts";
import type { CompiledCluster, SlowStart } from "./settings.ts";
import type { Host } from "./upstream.ts";

/** A host as a balancer of a worker sees it. */
export interface BalancedHost extends Host {
  /** Moment (the worker's clock, milliseconds) at which it became a member. */
  readonly sinceMs: number;
  readonly draining: boolean;
  readonly localityWeight: number;
}

export interface PickerEnvironment {
  readonly settings: Pick<CompiledCluster, "balancer" | "choiceCount" | "fullScan" | "activeRequestBias" | "slowStart">;
  readonly runtime: Runtime;
  readonly now: () => number;
  readonly random: () => number;
}

/** Takes one of several things in proportion to their weights: earliest deadline first, a binary heap by deadline. */
export class WeightedCycle<T> {
  readonly #heap: { readonly item: T; deadline: number; order: number }[];
  readonly #weight: (item: T) => number;
  #order = 0;

  /** `weight` is asked again each time an item is taken; it is above 0. */
  constructor(items: readonly T[], weight: (item: T) => number, random: () => number) {
    this.#weight = weight;
    this.#heap = items.map((item) => ({ item, deadline: 1 / weight(item), order: this.#order++ }));
    for (let i = (this.#heap.length >> 1) - 1; i >= 0; i--) this.#sink(i);
    // Workers begin at different places, or all would send their first requests to the heaviest.
    for (let i = Math.min(1024, Math.floor(random() * items.length)); i > 0; i--) this.take();
  }

  take(): T {
    const first = this.#heap[0];
    const { item } = first;
    first.deadline += 1 / this.#weight(item);
    first.order = this.#order++;
    this.#sink(0);
    return item;
  }

  #sink(from: number): void {
    const heap = this.#heap;
    let at = from;
    for (;;) {
      let least = at;
      const left = 2 * at + 1;
      if (left < heap.length && before(heap[left], heap[least])) least = left;
      if (left + 1 < heap.length && before(heap[left + 1], heap[least])) least = left + 1;
      if (least === at) return;
      const moved = heap[at];
      heap[at] = heap[least];
      heap[least] = moved;
      at = least;
    }
  }
}

function before(a: { readonly deadline: number; readonly order: number }, b: { readonly deadline: number; readonly order: number }): boolean {
  return a.deadline < b.deadline || (a.deadline === b.deadline && a.order < b.order);
}

export interface HostPicker {
  /** `hash`, `attempt`: what hash tables choose by. */
  pick(hash: bigint, attempt: number): Host;
}

/** For a list that is not empty. */
export function hostPicker(hosts: readonly BalancedHost[], environment: PickerEnvironment): HostPicker {
  const { settings, random } = environment;
  if (hosts.length === 1) return { pick: () => hosts[0] };
  const weighted = hosts.some((host) => host.weight !== hosts[0].weight);
  if (settings.balancer === "random") return { pick: () => hosts[Math.floor(random() * hosts.length)] };
  const fallback =
    settings.balancer === "least_request"
      ? new LeastRequest(hosts, settings.fullScan ? hosts.length : settings.choiceCount, settings.fullScan, random)
      : new RoundRobin(hosts, random);
  if (!weighted && settings.slowStart === undefined) return fallback;
  return new WeightedHosts(hosts, environment, weighted, fallback);
}

class RoundRobin implements HostPicker {
  readonly #hosts: readonly Host[];
  #next: number;
  constructor(hosts: readonly Host[], random: () => number) {
    this.#hosts = hosts;
    this.#next = Math.floor(random() * hosts.length);
  }
  pick(): Host {
    const hosts = this.#hosts;
    if (this.#next >= hosts.length) this.#next = 0;
    return hosts[this.#next++];
  }
}

class LeastRequest implements HostPicker {
  readonly #hosts: readonly Host[];
  readonly #choices: number;
  readonly #fullScan: boolean;
  readonly #random: () => number;
  constructor(hosts: readonly Host[], choices: number, fullScan: boolean, random: () => number) {
    this.#hosts = hosts;
    this.#choices = choices;
    this.#fullScan = fullScan;
    this.#random = random;
  }
  pick(): Host {
    const hosts = this.#hosts;
    const start = Math.floor(this.#random() * hosts.length);
    let best = hosts[start];
    let least = best.stats.rq_active.value;
    for (let i = 1; i < this.#choices; i++) {
      // A full scan begins anywhere, so that equals share.
      const other = hosts[this.#fullScan ? (start + i) % hosts.length : Math.floor(this.#random() * hosts.length)];
      const active = other.stats.rq_active.value;
      if (active < least) {
        best = other;
        least = active;
      }
    }
    return best;
  }
}

/** Hosts of different weights, or of weights that grow with their age (slow start). */
class WeightedHosts implements HostPicker {
  readonly #environment: PickerEnvironment;
  readonly #cycle: WeightedCycle<BalancedHost>;
  readonly #fallback: HostPicker;
  /** When the youngest host is no longer young; from then on equal weights need no cycle. */
  readonly #grownAtMs: number;

  constructor(hosts: readonly BalancedHost[], environment: PickerEnvironment, weighted: boolean, fallback: HostPicker) {
    this.#environment = environment;
    this.#fallback = fallback;
    const windowMs = environment.settings.slowStart?.windowMs ?? 0;
    this.#grownAtMs = weighted ? Number.POSITIVE_INFINITY : hosts.reduce((latest, host) => Math.max(latest, host.sinceMs + windowMs), 0);
    this.#cycle = new WeightedCycle(hosts, (host) => this.#weight(host), environment.random);
  }

  pick(): Host {
    return this.#environment.now() >= this.#grownAtMs ? this.#fallback.pick(0n, 0) : this.#cycle.take();
  }

  #weight(host: BalancedHost): number {
    const { settings, runtime, now } = this.#environment;
    let { weight } = host;
    if (settings.balancer === "least_request") {
      const bias = runtime.snapshot.number(settings.activeRequestBias.runtimeKey, settings.activeRequestBias.value);
      const active = host.stats.rq_active.value + 1;
      weight /= bias === 1 ? active : active ** Math.max(0, bias);
    }
    const slow = settings.slowStart;
    return slow === undefined ? weight : weight * slowStartFactor(slow, now() - host.sinceMs, runtime);
  }
}

/** How much of its weight a host has at an age: Envoy's max(min_weight_percent, (age / window) ^ (1 / aggression)). */
export function slowStartFactor(slow: SlowStart, ageMs: number, runtime: Runtime): number {
  if (ageMs >= slow.windowMs) return 1;
  const aggression = Math.max(0.01, runtime.snapshot.number(slow.aggression.runtimeKey, slow.aggression.value));
  return Math.max(slow.minWeightPercent / 100, (Math.max(ageMs, 1) / slow.windowMs) ** (1 / aggression));
}
