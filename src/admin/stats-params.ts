/** Parameters of /stats and /stats/prometheus. */
import { compileRegex } from "../regex/regex.ts";
import type { QueryParams } from "./query.ts";

export type StatsFormat = "text" | "json" | "html" | "active-html" | "prometheus";
export type StatsType = "All" | "Counters" | "Gauges" | "Histograms" | "TextReadouts";
export type BucketsMode = "summary" | "cumulative" | "disjoint" | "detailed" | "prometheusnative";

export const statsTypes: readonly StatsType[] = ["All", "Counters", "Histograms", "Gauges", "TextReadouts"];
const formats: readonly StatsFormat[] = ["html", "active-html", "json", "prometheus", "text"];
const bucketModes: readonly BucketsMode[] = ["cumulative", "disjoint", "detailed", "summary", "prometheusnative"];

export interface StatsParams {
  readonly format: StatsFormat;
  readonly type: StatsType;
  /** undefined: not asked for. */
  readonly buckets: BucketsMode | undefined;
  readonly usedOnly: boolean;
  readonly textReadouts: boolean;
  /** As given, for the page that shows it again. */
  readonly filter: string;
  /** Whether a statistic of that name is wanted. */
  readonly accepts: (name: string) => boolean;
}

/** A text: what is wrong (400). Parameters without a value are as good as absent: forms send them. */
export function parseStatsParams(params: QueryParams, format: StatsFormat | undefined): StatsParams | string {
  const type = params.first("type") || "All";
  if (!isOneOf(statsTypes, type)) return "invalid &type= param";
  const buckets = params.first("histogram_buckets") || undefined;
  if (buckets !== undefined && !isOneOf(bucketModes, buckets))
    return "usage: /stats?histogram_buckets=(cumulative|disjoint|detailed|summary|prometheusnative)\n";
  const wanted = format ?? (params.first("format") || "text");
  if (!isOneOf(formats, wanted)) return "usage: /stats?format=(html|active-html|json|prometheus|text)\n\n";
  if (wanted === "prometheus") {
    if (buckets === "disjoint" || buckets === "detailed") return "unsupported prometheus histogram bucket mode";
  } else if (buckets === "prometheusnative") return "Invalid histogram_buckets type for non prometheus stats type";
  const filter = params.first("filter") ?? "";
  let accepts: (name: string) => boolean = () => true;
  if (filter !== "") {
    const compiled = compileRegex(filter);
    if (!compiled.ok) return `Invalid re2 regex: ${compiled.error}`;
    const { regex } = compiled;
    const inverted = params.has("invert_filter");
    accepts = (name) => regex.partialMatch(name) !== inverted;
  }
  return { format: wanted, type, buckets, usedOnly: params.has("usedonly"), textReadouts: params.has("text_readouts"), filter, accepts };
}

function isOneOf<T extends string>(values: readonly T[], value: string): value is T {
  return (values as readonly string[]).includes(value);
}
