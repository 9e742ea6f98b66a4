/** /stats?format=json, streamed: numbers first, then one entry that holds the histograms. */
import type { BucketsMode } from "./stats-params.ts";
import { disjoint } from "./stats-text.ts";
import { percentiles, type ShownDistribution, type ShownHistogram, type ShownStat } from "./stats-view.ts";

export function* statsJson(stats: Iterable<ShownStat>, histograms: Iterable<ShownHistogram>, buckets: BucketsMode | undefined): Generator<string> {
  let separator = '{"stats":[';
  for (const stat of stats) {
    yield `${separator}${JSON.stringify({ name: stat.name, value: stat.value })}`;
    separator = ",";
  }
  const [open, close, print] = histogramShape(buckets);
  let first = true;
  for (const histogram of histograms) {
    yield first ? `${separator}{"histograms":${open}` : ",";
    first = false;
    yield JSON.stringify(print(histogram));
  }
  if (first) yield separator === "," ? "]}" : `${separator}]}`;
  else yield `${close}}]}`;
}

type Print = (histogram: ShownHistogram) => object;

function histogramShape(buckets: BucketsMode | undefined): readonly [open: string, close: string, print: Print] {
  const supported = JSON.stringify(percentiles);
  switch (buckets) {
    case "cumulative":
      return ["[", "]", (h) => ({ name: h.name, buckets: bucketsJson(h.interval.countsBelow, h.cumulative.countsBelow, h.cumulative.bounds) })];
    case "disjoint":
      return [
        "[",
        "]",
        (h) => ({ name: h.name, buckets: bucketsJson(disjoint(h.interval.countsBelow), disjoint(h.cumulative.countsBelow), h.cumulative.bounds) }),
      ];
    case "detailed":
      return [
        `{"supported_percentiles":${supported},"details":[`,
        "]}",
        (h) => ({ name: h.name, totals: binsJson(h.cumulative), intervals: binsJson(h.interval), percentiles: quantilesJson(h) }),
      ];
    default:
      return [`{"supported_quantiles":${supported},"computed_quantiles":[`, "]}", (h) => ({ name: h.name, values: quantilesJson(h) })];
  }
}

/** JSON has no NaN: null stands for "nothing recorded". */
function quantilesJson({ interval, cumulative }: ShownHistogram): object[] {
  return percentiles.map((_, i) => ({ cumulative: cumulative.quantileValues[i], interval: interval.quantileValues[i] }));
}

function bucketsJson(interval: readonly number[], cumulative: readonly number[], bounds: readonly number[]): object[] {
  return bounds.map((bound, i) => ({ upper_bound: bound, interval: interval[i] ?? 0, cumulative: cumulative[i] }));
}

function binsJson(distribution: ShownDistribution): object[] {
  return distribution.bins.map(({ lower, width, count }) => ({ lower_bound: lower, width, count }));
}
