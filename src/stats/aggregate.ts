/**
 * The process's statistics on the main thread: every thread's shared memory read by name and added up; histograms merged at each flush.
 * Names that begin with NUL are kept for internal use (hosts' counts) and are not listed.
 */
import type { Bootstrap } from "../config/schema/types/envoy.config.bootstrap.v3.d.ts";
import { type BucketRule, compileBuckets, defaultBounds } from "./buckets.ts";
import { Distribution } from "./log-linear.ts";
import type { StatsPicture } from "./sinks/sink.ts";
import { type HistogramUnit, type KeptValues, maxKeptValues, type StatKind, type StatsListener } from "./stats.ts";
import { compileTags, type TagRules } from "./tags.ts";

/** How a thread's store is tied in. */
export interface ThreadLink extends StatsListener {
  /** `kept`: the values themselves, where they are kept. */
  recordHistograms(
    batch: Iterable<readonly [name: string, unit: HistogramUnit, bins: Iterable<readonly [number, number]>, kept?: KeptValues | undefined]>,
  ): void;
  /** The thread is gone: what it counted stays, its gauges go. */
  detach(): void;
}

export interface ScalarView {
  readonly name: string;
  readonly kind: "counter" | "gauge" | "text_readout";
  readonly value: number | string;
  /** Written since the start. */
  readonly used: boolean;
}

export interface HistogramView {
  readonly name: string;
  readonly unit: HistogramUnit;
  readonly used: boolean;
  /** Between the last two flushes, and since the start. */
  readonly interval: Distribution;
  readonly cumulative: Distribution;
}

interface Slot {
  readonly thread: ThreadStats;
  readonly index: number;
}

class Scalar {
  readonly name: string;
  readonly kind: "counter" | "gauge";
  readonly slots: Slot[] = [];
  /** What detached threads had counted, less what a reset took away. */
  base = 0;
  /** The value when the last picture was taken. */
  pictured = 0;
  wasUsed = false;
  constructor(name: string, kind: "counter" | "gauge") {
    this.name = name;
    this.kind = kind;
  }
  get value(): number {
    let sum = this.base;
    for (const { thread, index } of this.slots) sum += thread.values[index];
    return sum + 0;
  }
  /** A value of minus zero has never been written, see StatsStore. */
  get used(): boolean {
    if (this.wasUsed) return true;
    for (const { thread, index } of this.slots) if (!Object.is(thread.values[index], -0)) return true;
    return false;
  }
}

class Merged implements HistogramView {
  readonly name: string;
  readonly unit: HistogramUnit;
  pending = new Distribution();
  interval = new Distribution();
  readonly cumulative = new Distribution();
  constructor(name: string, unit: HistogramUnit) {
    this.name = name;
    this.unit = unit;
  }
  get used(): boolean {
    return this.cumulative.count > 0 || this.pending.count > 0;
  }
}

interface ThreadStats {
  values: Float64Array;
}

export class StatsAggregate {
  readonly #scalars = new Map<string, Scalar>();
  readonly #hidden = new Map<string, Scalar>();
  readonly #texts = new Map<string, string>();
  readonly #histograms = new Map<string, Merged>();
  #sortedScalars: readonly Scalar[] | undefined = undefined;
  #sortedHistograms: readonly Merged[] | undefined = undefined;
  #kept = new Map<string, { readonly name: string; readonly unit: HistogramUnit; values: readonly number[]; seen: number }>();
  #tags: TagRules = compileTags(undefined, []);
  #buckets: readonly BucketRule[] = [];

  attach(_thread: string): ThreadLink {
    const thread: ThreadStats = { values: new Float64Array(0) };
    const mine: Scalar[] = [];
    return {
      onMemory: (memory) => {
        thread.values = new Float64Array(memory);
      },
      onStat: (index, kind, name, unit) => {
        if (kind === "histogram") {
          this.#histogram(name, unit);
          return;
        }
        const scalar = this.#scalar(name, kind);
        scalar.slots.push({ thread, index });
        mine.push(scalar);
      },
      recordHistograms: (batch) => {
        for (const [name, unit, bins, kept] of batch) {
          this.#histogram(name, unit).pending.add(bins);
          if (kept !== undefined && kept.seen > 0) this.#keep(name, unit, kept);
        }
      },
      detach: () => {
        for (const scalar of mine) {
          const at = scalar.slots.findIndex((slot) => slot.thread === thread);
          if (at < 0) continue;
          const [slot] = scalar.slots.splice(at, 1);
          const value = thread.values[slot.index];
          if (!Object.is(value, -0)) scalar.wasUsed = true;
          if (scalar.kind === "counter") scalar.base += value;
        }
      },
    };
  }

  /** stats_config and --stats-tag. */
  configure(bootstrap: Bootstrap, statsTags: readonly { readonly name: string; readonly value: string }[]): void {
    this.#tags = compileTags(bootstrap.statsConfig, statsTags);
    this.#buckets = compileBuckets(bootstrap.statsConfig);
  }

  get tags(): TagRules {
    return this.#tags;
  }

  /** Upper bounds of a histogram's buckets (histogram_bucket_settings, or Envoy's default). */
  boundsOf(name: string): readonly number[] {
    for (const rule of this.#buckets) if (rule.matches(name)) return rule.bounds;
    return defaultBounds;
  }

  /** Ends the interval of every histogram. */
  flush(): void {
    for (const histogram of this.#histograms.values()) {
      histogram.cumulative.add(histogram.pending.entries);
      histogram.interval = histogram.pending;
      histogram.pending = new Distribution();
    }
  }

  setText(name: string, value: string): void {
    this.#texts.set(name, value);
  }

  /** Statistics whose names begin so are shown no more, see StatsStore.forget. */
  forget(prefix: string): void {
    for (const map of [this.#scalars, this.#hidden, this.#texts, this.#histograms])
      for (const name of map.keys()) if (name.startsWith(prefix)) map.delete(name);
    this.#sortedScalars = undefined;
    this.#sortedHistograms = undefined;
  }

  /** Counters and gauges by name. */
  *scalars(): Iterable<ScalarView> {
    this.#sortedScalars ??= [...this.#scalars.values()].sort(byName);
    yield* this.#sortedScalars;
  }

  *texts(): Iterable<ScalarView> {
    for (const [name, value] of [...this.#texts].sort(([a], [b]) => (a < b ? -1 : 1))) yield { name, kind: "text_readout", value, used: true };
  }

  *histograms(): Iterable<HistogramView> {
    this.#sortedHistograms ??= [...this.#histograms.values()].sort(byName);
    yield* this.#sortedHistograms;
  }

  names(): ReadonlySet<string> {
    return new Set([...this.#scalars.keys(), ...this.#texts.keys(), ...this.#histograms.keys()]);
  }

  /** The sum over all threads; 0 for a name nobody has. */
  value(name: string): number {
    return (this.#scalars.get(name) ?? this.#hidden.get(name))?.value ?? 0;
  }

  values(): Map<string, number> {
    return new Map([...this.#scalars.values()].map((scalar) => [scalar.name, scalar.value]));
  }

  resetCounters(): void {
    // Threads go on counting; what they have so far is taken off.
    for (const scalar of this.#scalars.values()) {
      if (scalar.kind !== "counter") continue;
      const { value } = scalar;
      scalar.base -= value;
      // What sinks have not been told yet is still to be told.
      scalar.pictured -= value;
    }
  }

  /** What sinks are given: counters as deltas since the last picture. Values of histograms come with `recordHistograms`. */
  takePicture(): StatsPicture {
    const counters: { name: string; delta: number }[] = [];
    const gauges: { name: string; value: number }[] = [];
    for (const scalar of this.#scalars.values()) {
      if (!scalar.used) continue;
      const { name, value } = scalar;
      if (scalar.kind === "gauge") gauges.push({ name, value });
      else {
        counters.push({ name, delta: value - scalar.pictured });
        scalar.pictured = value;
      }
    }
    const histograms = [...this.#kept.values()];
    this.#kept.clear();
    return { counters, gauges, histograms, tagged: (name) => this.#tags.extract(name) };
  }

  /** Until the next picture, which may be long in coming (stats_flush_on_admin): so only so many are kept. */
  #keep(name: string, unit: HistogramUnit, { values, seen }: KeptValues): void {
    const before = this.#kept.get(name);
    if (before === undefined) {
      this.#kept.set(name, { name, unit, values, seen });
      return;
    }
    before.seen += seen;
    before.values = sampleOf([...before.values, ...values], maxMergedValues);
  }

  #scalar(name: string, kind: Exclude<StatKind, "histogram">): Scalar {
    const map = name.charCodeAt(0) === 0 ? this.#hidden : this.#scalars;
    let scalar = map.get(name);
    if (scalar === undefined) {
      scalar = new Scalar(name, kind === "counter" ? "counter" : "gauge");
      map.set(name, scalar);
      if (map === this.#scalars) this.#sortedScalars = undefined;
    }
    return scalar;
  }

  #histogram(name: string, unit: HistogramUnit): Merged {
    let histogram = this.#histograms.get(name);
    if (histogram === undefined) {
      histogram = new Merged(name, unit);
      this.#histograms.set(name, histogram);
      this.#sortedHistograms = undefined;
    }
    return histogram;
  }
}

/** Of one histogram, all threads and flushes together. */
const maxMergedValues = 4 * maxKeptValues;

/** At most so many of the values, each as likely as any other; reorders them. */
function sampleOf(values: number[], most: number): number[] {
  if (values.length <= most) return values;
  for (let i = 0; i < most; i++) {
    const j = i + Math.floor(Math.random() * (values.length - i));
    [values[i], values[j]] = [values[j], values[i]];
  }
  values.length = most;
  return values;
}

function byName(a: { readonly name: string }, b: { readonly name: string }): number {
  return a.name < b.name ? -1 : a.name > b.name ? 1 : 0;
}
