/**
 * envoy.clusters.aggregate: the levels of its member clusters, one cluster after the other, are the levels of one; a level is chosen by
 * health, and its own cluster chooses the host. An aggregate has no hosts of its own: as a member of another it counts for nothing.
 * https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/aggregate_cluster
 */
import type { Cluster } from "../config/schema/types/envoy.config.cluster.v3.d.ts";
import type { ClusterConfig } from "../config/schema/types/envoy.extensions.clusters.aggregate.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import type { BalancedHost } from "./host-pickers.ts";
import { chooseLevel, type Group, groupsOf, type LoadShares, loadShares } from "./load-balancer.ts";
import type { CompiledCluster } from "./settings.ts";
import type { LoadBalancerContext } from "./upstream.ts";

export const aggregateCluster = "envoy.extensions.clusters.aggregate.v3.ClusterConfig";

export const honours: Honours = { [aggregateCluster]: "*" };

export function compileAggregate(message: Cluster, config: ClusterConfig, context: CompileContext): readonly string[] {
  if (message.lbPolicy !== 6 && message.loadBalancingPolicy === undefined)
    context.report(message, "lb_policy", {
      code: "OR3037",
      text: `cluster manager: cluster provided LB not specified but cluster '${message.name}' provided one. Check cluster documentation.`,
      hint: "set lb_policy: CLUSTER_PROVIDED",
    });
  return config.clusters;
}

/** What the balancer needs of a member cluster. */
export interface MemberCluster<H extends BalancedHost> {
  /** Changes with the members or their health. */
  readonly version: number;
  hosts(): readonly H[];
  /** A host of one level. */
  chooseAt(level: { readonly priority: number; readonly degraded: boolean }, context: LoadBalancerContext): H | undefined;
}

interface Place<H extends BalancedHost> {
  readonly member: MemberCluster<H>;
  readonly priority: number;
}

export class AggregateBalancer<H extends BalancedHost> {
  readonly #settings: CompiledCluster;
  readonly #names: readonly string[];
  readonly #find: (name: string) => MemberCluster<H> | undefined;
  readonly #random: () => number;
  #versions: readonly number[] = [];
  #members: readonly (MemberCluster<H> | undefined)[] = [];
  #places: readonly Place<H>[] = [];
  #shares: LoadShares | undefined;

  constructor(settings: CompiledCluster, names: readonly string[], find: (name: string) => MemberCluster<H> | undefined, random: () => number) {
    this.#settings = settings;
    this.#names = names;
    this.#find = find;
    this.#random = random;
  }

  choose(context: LoadBalancerContext): H | undefined {
    this.#refresh();
    if (this.#shares === undefined) return undefined;
    const { level, degraded } = chooseLevel(this.#shares, context.hash, this.#random);
    const place = this.#places[level];
    return place?.member.chooseAt({ priority: place.priority, degraded }, context);
  }

  /** Members tell of no change: they are asked, which is a comparison of numbers for each request. */
  #refresh(): void {
    let isSame = this.#members.length === this.#names.length;
    for (let i = 0; i < this.#names.length; i++) {
      const member = this.#find(this.#names[i]);
      if (member !== this.#members[i] || (member !== undefined && member.version !== this.#versions[i])) isSame = false;
    }
    if (isSame) return;
    this.#members = this.#names.map((name) => this.#find(name));
    this.#versions = this.#members.map((member) => member?.version ?? 0);
    const places: Place<H>[] = [];
    const groups: Group[] = [];
    for (const member of this.#members) {
      if (member === undefined) continue;
      groupsOf(member.hosts()).forEach((group, priority) => {
        if (group.all.length === 0) return;
        places.push({ member, priority });
        groups.push(group);
      });
    }
    this.#places = places;
    this.#shares = groups.length === 0 ? undefined : loadShares(groups, this.#settings.overprovisioningPercent, this.#settings.panicThresholdPercent);
  }
}
