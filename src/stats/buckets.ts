/** histogram_bucket_settings: bounds for histograms by name. */
import type { StatsConfig } from "../config/schema/types/envoy.config.metrics.v3.d.ts";
import type { CompileContext } from "../extensions/extension.ts";
import { compileStringMatcher } from "../matching/string-matcher.ts";
import { silentContext } from "./silent-context.ts";

/** Envoy's default bounds, in the histogram's unit. */
export const defaultBounds: readonly number[] = [0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000];

export interface BucketRule {
  matches(name: string): boolean;
  readonly bounds: readonly number[];
}

export function compileBuckets(config: StatsConfig | undefined, context: CompileContext = silentContext): BucketRule[] {
  return (config?.histogramBucketSettings ?? []).map((setting) => {
    const matcher = setting.match === undefined ? undefined : compileStringMatcher(setting.match, context);
    return { matches: (name) => matcher?.matches(name) ?? false, bounds: [...setting.buckets].sort((a, b) => a - b) };
  });
}
