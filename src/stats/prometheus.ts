/** The Prometheus exposition format as Envoy writes it: envoy_ names, tags as labels, one TYPE line per name. */
import type { HistogramView, ScalarView, StatsAggregate } from "./aggregate.ts";
import type { Tag } from "./tags.ts";

export interface PrometheusSelection {
  readonly counters: boolean;
  readonly gauges: boolean;
  readonly textReadouts: boolean;
  readonly histograms: boolean;
  readonly usedOnly: boolean;
  readonly accepts: (name: string) => boolean;
}

export interface PrometheusOptions {
  /** Histograms as quantiles. */
  readonly summaries: boolean;
  readonly native: boolean;
}

const quantiles = [0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1] as const;

/** In pieces of one metric each. */
export function* prometheusText(aggregate: StatsAggregate, selection: PrometheusSelection, options: PrometheusOptions): Iterable<string> {
  const counters = new Map<string, ScalarView[]>();
  const gauges = new Map<string, ScalarView[]>();
  for (const scalar of aggregate.scalars()) {
    const wanted = scalar.kind === "counter" ? selection.counters : selection.gauges;
    if (!wanted || (selection.usedOnly && !scalar.used) || !selection.accepts(scalar.name)) continue;
    group(scalar.kind === "counter" ? counters : gauges, aggregate.tags.extract(scalar.name).name, scalar);
  }
  yield* scalarText(aggregate, counters, "counter");
  yield* scalarText(aggregate, gauges, "gauge");
  if (selection.textReadouts) {
    const texts = new Map<string, ScalarView[]>();
    for (const text of aggregate.texts()) if (selection.accepts(text.name)) group(texts, aggregate.tags.extract(text.name).name, text);
    for (const [name, list] of sorted(texts)) {
      let lines = `# TYPE ${metricName(name)} gauge\n`;
      for (const { name: full, value } of list)
        lines += `${metricName(name)}${labels([...aggregate.tags.extract(full).tags, { name: "text_value", value: String(value) }])} 0\n`;
      yield lines;
    }
  }
  if (!selection.histograms) return;
  const histograms = new Map<string, HistogramView[]>();
  for (const histogram of aggregate.histograms()) {
    if ((selection.usedOnly && !histogram.used) || !selection.accepts(histogram.name)) continue;
    group(histograms, aggregate.tags.extract(histogram.name).name, histogram);
  }
  for (const [name, list] of sorted(histograms)) yield options.summaries ? summaryText(aggregate, name, list) : histogramText(aggregate, name, list);
}

function* scalarText(aggregate: StatsAggregate, groups: Map<string, ScalarView[]>, type: "counter" | "gauge"): Iterable<string> {
  for (const [name, list] of sorted(groups)) {
    const metric = metricName(name);
    let lines = `# TYPE ${metric} ${type}\n`;
    for (const { name: full, value } of list) lines += `${metric}${labels(aggregate.tags.extract(full).tags)} ${value}\n`;
    yield lines;
  }
}

function histogramText(aggregate: StatsAggregate, name: string, list: readonly HistogramView[]): string {
  const metric = metricName(name);
  let lines = `# TYPE ${metric} histogram\n`;
  for (const { name: full, cumulative } of list) {
    const inner = labelText(aggregate.tags.extract(full).tags);
    const bounds = aggregate.boundsOf(full);
    const below = cumulative.countsBelow(bounds);
    const with_ = inner === "" ? "" : `${inner},`;
    bounds.forEach((bound, i) => {
      lines += `${metric}_bucket{${with_}le="${boundText(bound)}"} ${below[i]}\n`;
    });
    lines += `${metric}_bucket{${with_}le="+Inf"} ${cumulative.count}\n`;
    lines += `${metric}_sum{${inner}} ${decimal(cumulative.sum)}\n${metric}_count{${inner}} ${cumulative.count}\n`;
  }
  return lines;
}

function summaryText(aggregate: StatsAggregate, name: string, list: readonly HistogramView[]): string {
  const metric = metricName(name);
  let lines = `# TYPE ${metric} summary\n`;
  for (const { name: full, interval, cumulative } of list) {
    const inner = labelText(aggregate.tags.extract(full).tags);
    const with_ = inner === "" ? "" : `${inner},`;
    const values = interval.quantiles(quantiles);
    quantiles.forEach((quantile, i) => {
      lines += `${metric}{${with_}quantile="${quantile}"} ${Number.isNaN(values[i]) ? "NaN" : decimal(values[i])}\n`;
    });
    lines += `${metric}_sum{${inner}} ${decimal(cumulative.sum)}\n${metric}_count{${inner}} ${cumulative.count}\n`;
  }
  return lines;
}

function group<T>(groups: Map<string, T[]>, key: string, value: T): void {
  const list = groups.get(key);
  if (list === undefined) groups.set(key, [value]);
  else list.push(value);
}

function sorted<T>(groups: Map<string, T>): [string, T][] {
  return [...groups].sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
}

const names = new Map<string, string>();

/** "cluster.upstream_rq" to "envoy_cluster_upstream_rq". */
function metricName(name: string): string {
  let made = names.get(name);
  if (made === undefined) {
    made = sanitize(`envoy_${name}`);
    if (names.size < 50_000) names.set(name, made);
  }
  return made;
}

function sanitize(name: string): string {
  const clean = name.replace(/[^a-zA-Z0-9_]/g, "_");
  return /^\d/.test(clean) ? `_${clean}` : clean;
}

function labelText(tags: readonly Tag[]): string {
  return tags.map(({ name, value }) => `${sanitize(name)}="${value.replaceAll("\\", "\\\\").replaceAll("\n", "\\n").replaceAll('"', '\\"')}"`).join(",");
}

/** Envoy writes braces for scalars with and without tags. */
function labels(tags: readonly Tag[]): string {
  return `{${labelText(tags)}}`;
}

function boundText(bound: number): string {
  return Number.isInteger(bound) && bound < 1e21 ? bound.toFixed(0) : String(bound);
}

/** All digits of the number, as Envoy's %.32g has them. */
function decimal(value: number): string {
  if (!Number.isFinite(value)) return String(value);
  if (Number.isInteger(value)) return value.toFixed(0);
  return value.toPrecision(32).replace(/0+$/, "");
}
