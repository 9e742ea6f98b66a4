/**
 * Balances over the hosts whose metadata a route asks for; each set of hosts has a balancer of its own.
 * https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/load_balancing/subsets
 */
import type { JsonObject, JsonValue } from "../config/message.ts";
import type { Counter, Gauge } from "../stats/stats.ts";
import type { BalancedHost } from "./host-pickers.ts";
import { LoadBalancer, type LoadBalancerOptions } from "./load-balancer.ts";
import type { CompiledCluster, SubsetFallback, SubsetSelector, SubsetSettings } from "./settings.ts";
import { contains } from "./transport-socket-match.ts";
import type { Host, LoadBalancerContext } from "./upstream.ts";

export interface SubsetStats {
  readonly lb_subsets_active: Gauge;
  readonly lb_subsets_created: Counter;
  readonly lb_subsets_removed: Counter;
  readonly lb_subsets_selected: Counter;
  readonly lb_subsets_fallback: Counter;
  readonly lb_subsets_fallback_panic: Counter;
}

/** Metadata of hosts that subsets are made of. */
const namespace = "envoy.lb";
/** Subsets at most; hosts with values beyond are found by fallbacks only. */
const maxSubsets = 65_536;

/** What one set of wanted metadata leads to. */
interface Choice {
  readonly subset: LoadBalancer | undefined;
  /** The selector with the same keys, where it has a fallback of its own. */
  readonly selector: SubsetSelector | undefined;
}

export class SubsetBalancer {
  readonly #settings: SubsetSettings;
  readonly #cluster: CompiledCluster;
  readonly #options: LoadBalancerOptions;
  readonly #stats: SubsetStats;
  readonly #all: LoadBalancer;
  readonly #default: LoadBalancer;
  #subsets = new Map<string, LoadBalancer>();
  #defaultHosts: readonly BalancedHost[] = [];
  /** By what routes want, the object itself: a route has one for good. */
  #choices = new WeakMap<JsonObject, Choice>();

  constructor(cluster: CompiledCluster, settings: SubsetSettings, options: LoadBalancerOptions, stats: SubsetStats) {
    this.#settings = settings;
    // Subsets know of localities only where that is asked for.
    this.#cluster = settings.localityWeightAware ? cluster : { ...cluster, localityWeighted: false };
    this.#options = options;
    this.#stats = stats;
    this.#all = new LoadBalancer(cluster, options);
    this.#default = new LoadBalancer(this.#cluster, options);
  }

  update(hosts: readonly BalancedHost[], overprovisioningPercent?: number): void {
    this.#all.update(hosts, overprovisioningPercent);
    this.#defaultHosts = hosts.filter((host) => contains(host.metadata[namespace] ?? {}, this.#settings.defaultSubset));
    this.#default.update(this.#defaultHosts, overprovisioningPercent);
    const members = new Map<string, BalancedHost[]>();
    for (const host of hosts) {
      for (const selector of this.#settings.selectors) {
        for (const values of valuesOf(host.metadata[namespace] ?? {}, selector.keys, this.#settings.listAsAny)) {
          const key = keyOf(selector.keys, values);
          const list = members.get(key);
          if (list === undefined) {
            if (members.size < maxSubsets) members.set(key, [host]);
          } else if (!selector.singleHost && !list.includes(host)) list.push(host);
        }
      }
    }
    const next = new Map<string, LoadBalancer>();
    for (const [key, list] of members) {
      let subset = this.#subsets.get(key);
      if (subset === undefined) {
        subset = new LoadBalancer(this.#cluster, this.#options);
        this.#stats.lb_subsets_created.inc();
        this.#stats.lb_subsets_active.inc();
      }
      subset.update(list, overprovisioningPercent);
      next.set(key, subset);
    }
    for (const key of this.#subsets.keys()) {
      if (next.has(key)) continue;
      this.#stats.lb_subsets_removed.inc();
      this.#stats.lb_subsets_active.dec();
    }
    this.#subsets = next;
    this.#choices = new WeakMap();
  }

  choose(context: LoadBalancerContext): Host | undefined {
    const wanted = context.metadataMatch;
    if (wanted !== undefined) {
      let choice = this.#choices.get(wanted);
      if (choice === undefined) {
        choice = this.#find(wanted);
        this.#choices.set(wanted, choice);
      }
      if (choice.subset !== undefined) {
        this.#stats.lb_subsets_selected.inc();
        return choice.subset.choose(context);
      }
      if (choice.selector !== undefined) return this.#fallBack(choice.selector.fallback, choice.selector.fallbackKeys, wanted, context);
    }
    const host = this.#fallBack(this.#settings.fallback, [], undefined, context);
    if (host !== undefined || !this.#settings.panicModeAny) return host;
    const any = this.#all.choose(context);
    if (any !== undefined) this.#stats.lb_subsets_fallback_panic.inc();
    return any;
  }

  #find(wanted: JsonObject): Choice {
    const keys = Object.keys(wanted).sort();
    const subset = this.#subsets.get(
      keyOf(
        keys,
        keys.map((key) => wanted[key]),
      ),
    );
    const selector = this.#settings.selectors.find((candidate) => candidate.fallback !== "not_defined" && sameKeys(candidate.keys, keys));
    return { subset, selector };
  }

  #fallBack(policy: SubsetFallback, keys: readonly string[], wanted: JsonObject | undefined, context: LoadBalancerContext): Host | undefined {
    switch (policy) {
      case "any_endpoint":
        this.#stats.lb_subsets_fallback.inc();
        return this.#all.choose(context);
      case "default_subset":
        if (this.#defaultHosts.length === 0) return undefined;
        this.#stats.lb_subsets_fallback.inc();
        return this.#default.choose(context);
      case "keys_subset":
        // Fewer keys, chosen anew; the keys shrink each time, so that this ends.
        return this.choose({ ...context, metadataMatch: Object.fromEntries(Object.entries(wanted ?? {}).filter(([key]) => keys.includes(key))) });
      default:
        return undefined;
    }
  }
}

function sameKeys(a: readonly string[], b: readonly string[]): boolean {
  return a.length === b.length && a.every((key, i) => key === b[i]);
}

function keyOf(keys: readonly string[], values: readonly JsonValue[]): string {
  return JSON.stringify([keys, values]);
}

/** The values of a host for the keys of a selector, none where it lacks one; with `listAsAny` one set for each value of its lists. */
function valuesOf(metadata: JsonObject, keys: readonly string[], listAsAny: boolean): JsonValue[][] {
  let sets: JsonValue[][] = [[]];
  for (const key of keys) {
    const value = metadata[key];
    if (value === undefined) return [];
    const options = listAsAny && Array.isArray(value) ? value : [value];
    sets = sets.flatMap((set) => options.map((option) => [...set, option]));
    if (sets.length > 1024) sets.length = 1024;
  }
  return sets;
}
