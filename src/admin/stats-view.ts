/** Statistics as the pages show them, whatever keeps them. */

/** A counter, gauge or text. */
export interface ShownStat {
  readonly name: string;
  readonly kind: "counter" | "gauge" | "text_readout";
  readonly value: number | string;
  /** Written since the start. */
  readonly used: boolean;
}

export interface ShownHistogram {
  readonly name: string;
  readonly used: boolean;
  /** Since the last flush but one, and since the start. */
  readonly interval: ShownDistribution;
  readonly cumulative: ShownDistribution;
}

/** Recorded values of one histogram over some time. */
export interface ShownDistribution {
  readonly count: number;
  /** Values at `quantiles`; NaN each where nothing was recorded. */
  readonly quantileValues: readonly number[];
  /** Upper bounds, and how many values lie at or below each. */
  readonly bounds: readonly number[];
  readonly countsBelow: readonly number[];
  /** Bins that hold something, ascending. */
  readonly bins: readonly { readonly lower: number; readonly width: number; readonly count: number }[];
}

/** Percentiles that histograms are summed up by. */
export const percentiles = [0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 100] as const;

/** C's %g: six significant digits, an exponent from 1e+06 on. */
export function shortG(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value > 0 ? "inf" : "-inf";
  if (value === 0) return "0";
  const exponent = Math.floor(Math.log10(Math.abs(Number(value.toPrecision(6)))));
  if (exponent >= -5 && exponent < 6) return String(Number(value.toPrecision(6)));
  const [digits, power] = value.toExponential(5).split("e") as [string, string];
  const amount = Math.abs(Number(power));
  return `${String(Number(digits))}e${Number(power) < 0 ? "-" : "+"}${String(amount).padStart(2, "0")}`;
}

/** The shortest text that reads back as the same number. */
export function shortest(value: number): string {
  return Number.isNaN(value) ? "nan" : String(value);
}

/** What is wanted of all statistics. `accepts` is given full names. */
export interface StatsSelection {
  readonly counters: boolean;
  readonly gauges: boolean;
  readonly textReadouts: boolean;
  readonly histograms: boolean;
  readonly usedOnly: boolean;
  readonly accepts: (name: string) => boolean;
}

/** The process's statistics, all threads together. */
export interface StatsSource {
  /** Counters, gauges and texts, in the order of their names. */
  stats(selection: StatsSelection): Iterable<ShownStat>;
  /** In the order of their names. */
  histograms(selection: StatsSelection): Iterable<ShownHistogram>;
  /** The exposition format, in pieces. */
  prometheus(selection: StatsSelection, options: { readonly summaries: boolean; readonly native: boolean }): Iterable<string>;
  /** Every name that is kept. */
  names(): ReadonlySet<string>;
  /** Counters begin again at zero; histograms and gauges stay. */
  resetCounters(): void;
}
