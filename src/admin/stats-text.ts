/** /stats as text: lines of "name: value", numbers and texts first, then histograms, each part in the order of names. */
import type { BucketsMode } from "./stats-params.ts";
import { percentiles, type ShownDistribution, type ShownHistogram, type ShownStat, shortest, shortG } from "./stats-view.ts";

export function* statsText(stats: Iterable<ShownStat>, histograms: Iterable<ShownHistogram>, buckets: BucketsMode | undefined): Generator<string> {
  for (const stat of stats) yield `${stat.name}: ${typeof stat.value === "string" ? `"${stat.value}"` : stat.value}\n`;
  for (const histogram of histograms) yield histogramText(histogram, buckets);
}

export function histogramText(histogram: ShownHistogram, buckets: BucketsMode | undefined): string {
  const { name, interval, cumulative } = histogram;
  if (!histogram.used) return `${name}: No recorded values\n`;
  switch (buckets) {
    case "cumulative":
      return `${name}: ${bucketsText(interval.countsBelow, cumulative.countsBelow, cumulative.bounds)}\n`;
    case "disjoint":
      return `${name}: ${bucketsText(disjoint(interval.countsBelow), disjoint(cumulative.countsBelow), cumulative.bounds)}\n`;
    case "detailed":
      return `${name}:\n  totals=${binsText(cumulative)}\n  intervals=${binsText(interval)}\n  summary=${summaryText(histogram)}\n`;
    default:
      return `${name}: ${summaryText(histogram)}\n`;
  }
}

function summaryText({ interval, cumulative }: ShownHistogram): string {
  return percentiles.map((p, i) => `P${p}(${shortest(interval.quantileValues[i])},${shortest(cumulative.quantileValues[i])})`).join(" ");
}

function bucketsText(interval: readonly number[], cumulative: readonly number[], bounds: readonly number[]): string {
  return bounds.map((bound, i) => `B${shortG(bound)}(${interval[i] ?? 0},${cumulative[i]})`).join(" ");
}

function binsText(distribution: ShownDistribution): string {
  return distribution.bins.map(({ lower, width, count }) => `${shortG(lower)},${shortG(width)}:${count}`).join(", ");
}

/** How many values lie in each bucket alone. */
export function disjoint(countsBelow: readonly number[]): number[] {
  return countsBelow.map((count, i) => count - (i === 0 ? 0 : countsBelow[i - 1]));
}
