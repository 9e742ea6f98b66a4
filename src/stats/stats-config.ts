/** stats_config: which statistics are kept (stats_matcher), and checks of the rest. */
import type { Bootstrap } from "../config/schema/types/envoy.config.bootstrap.v3.d.ts";
import type { StatsConfig } from "../config/schema/types/envoy.config.metrics.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import { compileStringMatcher } from "../matching/string-matcher.ts";
import { compileRegex } from "../regex/regex.ts";
import { compileBuckets } from "./buckets.ts";
import { silentContext } from "./silent-context.ts";
import { isDefaultTag } from "./tags.ts";

export const honours: Honours = {
  "envoy.config.metrics.v3.StatsConfig": ["stats_tags", "use_all_default_tags", "stats_matcher", "histogram_bucket_settings"],
  "envoy.config.metrics.v3.TagSpecifier": "*",
  "envoy.config.metrics.v3.StatsMatcher": "*",
  "envoy.config.metrics.v3.HistogramBucketSettings": ["match", "buckets"],
};

/** Whether a statistic of this name is kept. */
export function compileStatsMatcher(config: unknown, context: CompileContext = silentContext): (name: string) => boolean {
  const matcher = (config as StatsConfig | undefined)?.statsMatcher?.statsMatcher;
  switch (matcher?.case) {
    case "rejectAll":
      return matcher.value ? (name) => name.charCodeAt(0) === 0 : () => true;
    case "exclusionList": {
      const list = matcher.value.patterns.map((pattern) => compileStringMatcher(pattern, context));
      return (name) => !list.some((one) => one.matches(name));
    }
    case "inclusionList": {
      const list = matcher.value.patterns.map((pattern) => compileStringMatcher(pattern, context));
      return (name) => name.charCodeAt(0) === 0 || list.some((one) => one.matches(name));
    }
    default:
      return () => true;
  }
}

export function checkStatsConfig(bootstrap: Bootstrap, context: CompileContext): void {
  const config = bootstrap.statsConfig;
  if (config === undefined) return;
  compileStatsMatcher(config, context);
  compileBuckets(config, context);
  for (const tag of config.statsTags) {
    const { tagValue } = tag;
    if (tagValue.case === "regex" && tagValue.value !== "") {
      const compiled = compileRegex(tagValue.value);
      if (!compiled.ok) context.report(tag, "regex", { code: "OR2120", text: `regex '${tagValue.value}': ${compiled.error}` });
    } else if (tagValue.case !== "fixedValue" && !isDefaultTag(tag.tagName)) {
      context.report(tag, "tag_name", {
        code: "OR3040",
        text: `No regex specified for tag specifier and no default regex for name: '${tag.tagName}'`,
        hint: "give it a regex or a fixed_value, or name one of the default tags (envoy.cluster_name, ...)",
      });
    }
  }
}
