/** The merged statistics as the admin pages read them. */
import { percentiles, type ShownDistribution, type ShownHistogram, type ShownStat, type StatsSelection, type StatsSource } from "../admin/stats-view.ts";
import type { HistogramView, StatsAggregate } from "../stats/aggregate.ts";
import type { Distribution } from "../stats/log-linear.ts";
import { prometheusText } from "../stats/prometheus.ts";

const quantiles = percentiles.map((percentile) => percentile / 100);

export class StatsOfAggregate implements StatsSource {
  readonly #aggregate: StatsAggregate;

  constructor(aggregate: StatsAggregate) {
    this.#aggregate = aggregate;
  }

  /** One statistic of all threads; 0 where there is none. */
  value(name: string): number {
    return this.#aggregate.value(name);
  }

  *stats(selection: StatsSelection): Iterable<ShownStat> {
    const texts = selection.textReadouts ? [...this.#aggregate.texts()] : [];
    let nextText = 0;
    const scalars = selection.counters || selection.gauges ? this.#aggregate.scalars() : [];
    const wanted = (stat: ShownStat): boolean => (!selection.usedOnly || stat.used) && selection.accepts(stat.name);
    for (const scalar of scalars) {
      while (nextText < texts.length && texts[nextText].name < scalar.name) {
        const text = texts[nextText++];
        if (wanted(text)) yield text;
      }
      if ((scalar.kind === "counter" ? selection.counters : selection.gauges) && wanted(scalar)) yield scalar;
    }
    while (nextText < texts.length) {
      const text = texts[nextText++];
      if (wanted(text)) yield text;
    }
  }

  *histograms(selection: StatsSelection): Iterable<ShownHistogram> {
    for (const view of this.#aggregate.histograms()) {
      if ((!selection.usedOnly || view.used) && selection.accepts(view.name)) yield this.#shown(view);
    }
  }

  prometheus(selection: StatsSelection, options: { readonly summaries: boolean; readonly native: boolean }): Iterable<string> {
    return prometheusText(this.#aggregate, selection, options);
  }

  names(): ReadonlySet<string> {
    return this.#aggregate.names();
  }

  resetCounters(): void {
    this.#aggregate.resetCounters();
  }

  #shown({ name, used, interval, cumulative }: HistogramView): ShownHistogram {
    const bounds = this.#aggregate.boundsOf(name);
    return { name, used, interval: shownDistribution(interval, bounds), cumulative: shownDistribution(cumulative, bounds) };
  }
}

/** What a page does not print is not computed. */
function shownDistribution(distribution: Distribution, bounds: readonly number[]): ShownDistribution {
  return {
    count: distribution.count,
    get quantileValues() {
      return distribution.quantiles(quantiles);
    },
    bounds,
    get countsBelow() {
      return distribution.countsBelow(bounds);
    },
    bins: distribution.bins,
  };
}
