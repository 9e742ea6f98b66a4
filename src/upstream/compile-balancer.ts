/** lb_policy, load_balancing_policy and their settings. */
import { type Duration, durationMs } from "../config/message.ts";
import type { Cluster, LoadBalancingPolicy } from "../config/schema/types/envoy.config.cluster.v3.d.ts";
import type { RuntimeDouble } from "../config/schema/types/envoy.config.core.v3.d.ts";
import type { LocalityLbConfig } from "../config/schema/types/envoy.extensions.load_balancing_policies.common.v3.d.ts";
import type { LeastRequest } from "../config/schema/types/envoy.extensions.load_balancing_policies.least_request.v3.d.ts";
import type { Maglev } from "../config/schema/types/envoy.extensions.load_balancing_policies.maglev.v3.d.ts";
import type { Random } from "../config/schema/types/envoy.extensions.load_balancing_policies.random.v3.d.ts";
import type { RingHash } from "../config/schema/types/envoy.extensions.load_balancing_policies.ring_hash.v3.d.ts";
import type { RoundRobin } from "../config/schema/types/envoy.extensions.load_balancing_policies.round_robin.v3.d.ts";
import type { Subset } from "../config/schema/types/envoy.extensions.load_balancing_policies.subset.v3.d.ts";
import type { WrrLocality } from "../config/schema/types/envoy.extensions.load_balancing_policies.wrr_locality.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import { compileSubsets, subsetPolicy } from "./compile-subsets.ts";
import type { CompiledCluster, HashSettings, RuntimeNumber, SlowStart } from "./settings.ts";

const pkg = "envoy.config.cluster.v3.";
const policies = "envoy.extensions.load_balancing_policies.";

export const honours: Honours = {
  [`${pkg}Cluster`]: [
    "lb_policy",
    "load_balancing_policy",
    "least_request_lb_config",
    "round_robin_lb_config",
    "ring_hash_lb_config",
    "maglev_lb_config",
    "common_lb_config",
  ],
  [`${pkg}Cluster.RingHashLbConfig`]: "*",
  [`${pkg}Cluster.MaglevLbConfig`]: "*",
  [`${pkg}Cluster.CommonLbConfig.ConsistentHashingLbConfig`]: ["use_hostname_for_hashing"],
  [`${pkg}Cluster.LeastRequestLbConfig`]: "*",
  [`${pkg}Cluster.RoundRobinLbConfig`]: "*",
  [`${pkg}Cluster.SlowStartConfig`]: "*",
  [`${pkg}Cluster.CommonLbConfig`]: [
    "healthy_panic_threshold",
    "update_merge_window",
    "locality_weighted_lb_config",
    "ignore_new_hosts_until_first_hc",
    "close_connections_on_host_set_change",
    "consistent_hashing_lb_config",
  ],
  [`${pkg}Cluster.CommonLbConfig.LocalityWeightedLbConfig`]: "*",
  [`${pkg}LoadBalancingPolicy`]: "*",
  [`${pkg}LoadBalancingPolicy.Policy`]: "*",
  [`${policies}round_robin.v3.RoundRobin`]: "*",
  [`${policies}random.v3.Random`]: "*",
  [`${policies}cluster_provided.v3.ClusterProvided`]: "*",
  [`${policies}least_request.v3.LeastRequest`]: "*",
  [`${policies}wrr_locality.v3.WrrLocality`]: "*",
  [`${policies}common.v3.LocalityLbConfig`]: ["locality_weighted_lb_config"],
  [`${policies}common.v3.LocalityLbConfig.LocalityWeightedLbConfig`]: "*",
  [`${policies}common.v3.SlowStartConfig`]: "*",
  [`${policies}common.v3.ConsistentHashingLbConfig`]: ["use_hostname_for_hashing"],
  [`${policies}ring_hash.v3.RingHash`]: [
    "hash_function",
    "minimum_ring_size",
    "maximum_ring_size",
    "use_hostname_for_hashing",
    "consistent_hashing_lb_config",
    "locality_weighted_lb_config",
  ],
  [`${policies}maglev.v3.Maglev`]: "*",
  "envoy.config.core.v3.TypedExtensionConfig": "*",
  "envoy.config.core.v3.RuntimeDouble": "*",
  "envoy.type.v3.Percent": "*",
};

export type BalancerSettings = Pick<
  CompiledCluster,
  "balancer" | "hash" | "subsets" | "choiceCount" | "fullScan" | "activeRequestBias" | "slowStart" | "localityWeighted"
>;

const plain: BalancerSettings = {
  balancer: "round_robin",
  hash: undefined,
  subsets: undefined,
  choiceCount: 2,
  fullScan: false,
  activeRequestBias: { value: 1, runtimeKey: "" },
  slowStart: undefined,
  localityWeighted: false,
};

export function compileBalancer(message: Cluster, context: CompileContext): BalancerSettings {
  if (message.loadBalancingPolicy !== undefined) return fromPolicies(message, message.loadBalancingPolicy, context);
  const subsets = message.lbSubsetConfig === undefined ? undefined : compileSubsets(message.lbSubsetConfig, context);
  return { ...fromLbPolicy(message, context), subsets };
}

function fromLbPolicy(message: Cluster, context: CompileContext): BalancerSettings {
  const localityWeighted = message.commonLbConfig?.localityConfigSpecifier.case === "localityWeightedLbConfig";
  const { lbConfig } = message;
  switch (message.lbPolicy) {
    case 0:
      return { ...plain, localityWeighted, slowStart: lbConfig.case === "roundRobinLbConfig" ? slowStartOf(lbConfig.value.slowStartConfig) : undefined };
    case 1: {
      if (lbConfig.case !== "leastRequestLbConfig") return { ...plain, balancer: "least_request", localityWeighted };
      const { choiceCount, activeRequestBias, slowStartConfig } = lbConfig.value;
      return {
        ...plain,
        balancer: "least_request",
        localityWeighted,
        choiceCount: choiceCount ?? 2,
        activeRequestBias: numberOf(activeRequestBias, 1),
        slowStart: slowStartOf(slowStartConfig),
      };
    }
    case 2: {
      const ring = lbConfig.case === "ringHashLbConfig" ? lbConfig.value : undefined;
      const hashFunction = ring?.hashFunction === 1 ? "murmur_hash_2" : "xx_hash";
      return { ...plain, localityWeighted, hash: ringHash(ring, hashFunction, hashesNames(message), message, context) };
    }
    case 5:
      return {
        ...plain,
        localityWeighted,
        hash: maglev(lbConfig.case === "maglevLbConfig" ? lbConfig.value : undefined, hashesNames(message), message, context),
      };
    case 3:
      return { ...plain, balancer: "random", localityWeighted };
    case 7:
      context.report(message, "lb_policy", {
        code: "OR3036",
        text: `cluster '${message.name}': lb_policy LOAD_BALANCING_POLICY_CONFIG needs load_balancing_policy`,
        hint: "add load_balancing_policy, or choose ROUND_ROBIN",
      });
      return plain;
    default:
      if (isProvided(message)) {
        if (message.lbSubsetConfig !== undefined)
          context.report(message, "lb_subset_config", {
            code: "OR3037",
            text: "cluster: LB policy CLUSTER_PROVIDED cannot be combined with lb_subset_config",
            hint: "remove lb_subset_config",
          });
        return plain;
      }
      context.report(message, "lb_policy", {
        code: "OR3037",
        text: `cluster: LB policy CLUSTER_PROVIDED for cluster '${message.name}' is not allowed: its type provides none`,
        hint: "use ROUND_ROBIN",
      });
      return plain;
  }
}

/** Types of clusters that choose hosts by themselves. */
function isProvided(message: Cluster): boolean {
  const kind = message.clusterDiscoveryType;
  if (kind.case === "clusterType") return kind.value.typedConfig?.$typeName.includes(".dns.v3.") !== true;
  return kind.value === 4;
}

/** The first policy that is known counts, as with Envoy. */
function fromPolicies(message: Cluster, listed: LoadBalancingPolicy, context: CompileContext): BalancerSettings {
  for (const { typedExtensionConfig } of listed.policies) {
    const config = typedExtensionConfig?.typedConfig;
    switch (config?.$typeName) {
      case `${policies}round_robin.v3.RoundRobin`: {
        const { localityLbConfig, slowStartConfig } = config as RoundRobin;
        return { ...plain, localityWeighted: isWeighted(localityLbConfig), slowStart: slowStartOf(slowStartConfig) };
      }
      case `${policies}random.v3.Random`:
        return { ...plain, balancer: "random", localityWeighted: isWeighted((config as Random).localityLbConfig) };
      case `${policies}least_request.v3.LeastRequest`: {
        const { choiceCount, activeRequestBias, slowStartConfig, localityLbConfig, enableFullScan, selectionMethod } = config as LeastRequest;
        return {
          ...plain,
          balancer: "least_request",
          choiceCount: choiceCount ?? 2,
          fullScan: selectionMethod === 1 || enableFullScan === true,
          activeRequestBias: numberOf(activeRequestBias, 1),
          slowStart: slowStartOf(slowStartConfig),
          localityWeighted: isWeighted(localityLbConfig),
        };
      }
      case `${policies}ring_hash.v3.RingHash`: {
        const ring = config as RingHash;
        const byHostname = ring.consistentHashingLbConfig?.useHostnameForHashing ?? ring.useHostnameForHashing;
        const hash = ringHash(ring, ring.hashFunction === 2 ? "murmur_hash_2" : "xx_hash", byHostname, message, context);
        return { ...plain, localityWeighted: ring.localityWeightedLbConfig !== undefined, hash };
      }
      case `${policies}maglev.v3.Maglev`: {
        const table = config as Maglev;
        const hash = maglev(table, table.consistentHashingLbConfig?.useHostnameForHashing ?? false, message, context);
        return { ...plain, localityWeighted: table.localityWeightedLbConfig !== undefined, hash };
      }
      case `${policies}cluster_provided.v3.ClusterProvided`:
        if (isProvided(message)) return plain;
        continue;
      case subsetPolicy: {
        const subset = config as Subset;
        if (subset.subsetLbPolicy === undefined) continue;
        return { ...fromPolicies(message, subset.subsetLbPolicy, context), subsets: compileSubsets(subset, context) };
      }
      case `${policies}wrr_locality.v3.WrrLocality`: {
        const inner = (config as WrrLocality).endpointPickingPolicy;
        if (inner !== undefined) return { ...fromPolicies(message, inner, context), localityWeighted: true };
      }
    }
  }
  const names = listed.policies.map(({ typedExtensionConfig }) => typedExtensionConfig?.name ?? "").join(", ");
  context.report(message, "load_balancing_policy", {
    code: "OR4002",
    text: `cluster: didn't find a registered load balancer factory for cluster: '${message.name}' with names from [${names}]`,
    hint: "supported: round_robin, random, least_request, ring_hash, maglev, subset, wrr_locality",
  });
  return plain;
}

function hashesNames(message: Cluster): boolean {
  return message.commonLbConfig?.consistentHashingLbConfig?.useHostnameForHashing ?? false;
}

/** Envoy's defaults and largest sizes. */
const maxRingSize = 8 * 1024 * 1024;
const defaultTableSize = 65537;

function ringHash(
  ring: { minimumRingSize?: bigint | undefined; maximumRingSize?: bigint | undefined } | undefined,
  hashFunction: HashSettings["hashFunction"],
  byHostname: boolean,
  message: Cluster,
  context: CompileContext,
): HashSettings {
  const minimumRingSize = Number(ring?.minimumRingSize ?? 1024n);
  const maximumRingSize = Number(ring?.maximumRingSize ?? BigInt(maxRingSize));
  if (minimumRingSize > maximumRingSize)
    context.report(message, message.lbConfig.case === undefined ? "load_balancing_policy" : "ring_hash_lb_config", {
      code: "OR3039",
      text: `ring hash: minimum_ring_size (${minimumRingSize}) > maximum_ring_size (${maximumRingSize})`,
    });
  return { kind: "ring_hash", hashFunction, minimumRingSize, maximumRingSize, tableSize: defaultTableSize, byHostname };
}

function maglev(table: { tableSize?: bigint | undefined } | undefined, byHostname: boolean, message: Cluster, context: CompileContext): HashSettings {
  const tableSize = Number(table?.tableSize ?? BigInt(defaultTableSize));
  if (!isPrime(tableSize))
    context.report(message, message.lbConfig.case === undefined ? "load_balancing_policy" : "maglev_lb_config", {
      code: "OR3040",
      text: `The table size of maglev must be prime number: ${tableSize}`,
      hint: "leave table_size out, or take 65537",
    });
  return { kind: "maglev", hashFunction: "xx_hash", minimumRingSize: 0, maximumRingSize: 0, tableSize, byHostname };
}

/** For numbers up to some millions. */
function isPrime(number: number): boolean {
  if (number < 2) return false;
  for (let divisor = 2; divisor * divisor <= number; divisor++) if (number % divisor === 0) return false;
  return true;
}

function isWeighted(config: LocalityLbConfig | undefined): boolean {
  return config?.localityConfigSpecifier.case === "localityWeightedLbConfig";
}

function numberOf(message: RuntimeDouble | undefined, fallback: number): RuntimeNumber {
  return { value: message?.defaultValue ?? fallback, runtimeKey: message?.runtimeKey ?? "" };
}

function slowStartOf(
  message: { slowStartWindow?: Duration | undefined; aggression?: RuntimeDouble | undefined; minWeightPercent?: { value: number } | undefined } | undefined,
): SlowStart | undefined {
  const windowMs = durationMs(message?.slowStartWindow, 0);
  if (message === undefined || windowMs <= 0) return undefined;
  return { windowMs, aggression: numberOf(message.aggression, 1), minWeightPercent: message.minWeightPercent?.value ?? 10 };
}
