/** lb_subset_config, or the subset policy with the same fields. */
import type { Cluster_LbSubsetConfig } from "../config/schema/types/envoy.config.cluster.v3.d.ts";
import type { Subset } from "../config/schema/types/envoy.extensions.load_balancing_policies.subset.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import type { SubsetFallback, SubsetSettings } from "./settings.ts";

const fields = ["fallback_policy", "default_subset", "subset_selectors", "locality_weight_aware", "panic_mode_any", "list_as_any"];

export const subsetPolicy = "envoy.extensions.load_balancing_policies.subset.v3.Subset";

export const honours: Honours = {
  "envoy.config.cluster.v3.Cluster": ["lb_subset_config"],
  "envoy.config.cluster.v3.Cluster.LbSubsetConfig": fields,
  "envoy.config.cluster.v3.Cluster.LbSubsetConfig.LbSubsetSelector": "*",
  [subsetPolicy]: [...fields, "subset_lb_policy", "allow_redundant_keys"],
  [`${subsetPolicy}.LbSubsetSelector`]: "*",
};

const fallbacks: readonly SubsetFallback[] = ["no_fallback", "any_endpoint", "default_subset"];
const selectorFallbacks: readonly SubsetFallback[] = ["not_defined", "no_fallback", "any_endpoint", "default_subset", "keys_subset"];

/** undefined: no selectors, so that the cluster is balanced as a whole. */
export function compileSubsets(message: Cluster_LbSubsetConfig | Subset, context: CompileContext): SubsetSettings | undefined {
  if (message.subsetSelectors.length === 0) return undefined;
  const selectors = message.subsetSelectors.map((selector) => {
    const keys = [...new Set(selector.keys)].sort();
    const fallbackKeys = [...new Set(selector.fallbackKeysSubset)].sort();
    const fallback = selectorFallbacks[selector.fallbackPolicy];
    if (fallback === "keys_subset") {
      if (fallbackKeys.length === 0)
        context.report(selector, "fallback_keys_subset", { code: "OR3041", text: "fallback_keys_subset cannot be empty for KEYS_SUBSET" });
      else if (!fallbackKeys.every((key) => keys.includes(key)))
        context.report(selector, "fallback_keys_subset", { code: "OR3041", text: "fallback_keys_subset must be a subset of the selector keys" });
      else if (fallbackKeys.length === keys.length)
        context.report(selector, "fallback_keys_subset", {
          code: "OR3041",
          text: "fallback_keys_subset cannot be equal to keys",
          hint: "leave a key out, or use another fallback_policy",
        });
    }
    return { keys, singleHost: selector.singleHostPerSubset, fallback, fallbackKeys };
  });
  return {
    fallback: fallbacks[message.fallbackPolicy],
    defaultSubset: message.defaultSubset ?? {},
    selectors,
    localityWeightAware: message.localityWeightAware,
    panicModeAny: message.panicModeAny,
    listAsAny: message.listAsAny,
  };
}
