/**
 * Counters, gauges and histograms of one thread.
 *
 * Each thread (main and every worker) owns a `StatsStore`: values live in a Float64Array over shared memory that only this thread
 * writes, so counting is one indexed add and needs no atomics. The main thread reads all of them and adds up by name
 * (stats/aggregate.ts). A name gets its index when configuration is compiled, or, for names known late (upstream_rq_404), on first use.
 */
export type StatKind = "counter" | "gauge" | "histogram" | "text_readout";
export type HistogramUnit = "ms" | "us" | "bytes" | "percent" | "none";

/** Told of each new stat and each new memory block: the worker's link to the main thread. */
export interface StatsListener {
  onStat(index: number, kind: StatKind, name: string, unit: HistogramUnit): void;
  onMemory(memory: SharedArrayBuffer): void;
}

export class StatsStore {
  values: Float64Array;
  #memory: SharedArrayBuffer;
  #used = 0;
  readonly #byName = new Map<string, Counter | Gauge | Histogram>();
  readonly histograms: Histogram[] = [];
  #listener: StatsListener | undefined;
  /** stats_matcher: names it refuses are counted nowhere. */
  #accepts: (name: string) => boolean = () => true;
  readonly #rejectedCounter: Counter;
  readonly #rejectedGauge: Gauge;
  readonly #rejectedHistogram: Histogram;
  #keepsValues = false;

  constructor(listener?: StatsListener, capacity = 16384) {
    this.#memory = new SharedArrayBuffer(capacity * 8);
    this.values = new Float64Array(this.#memory);
    this.#listener = listener;
    listener?.onMemory(this.#memory);
    // Slot 0 is where refused stats go.
    this.#used = 1;
    this.#rejectedCounter = new Counter(this, 0, "");
    this.#rejectedGauge = new Gauge(this, 0, "");
    this.#rejectedHistogram = new Histogram("", "none");
  }

  get memory(): SharedArrayBuffer {
    return this.#memory;
  }

  setMatcher(accepts: (name: string) => boolean): void {
    this.#accepts = accepts;
  }

  /** Histograms keep the values themselves as well, for sinks that send each. */
  keepValues(): void {
    this.#keepsValues = true;
    for (const histogram of this.histograms) histogram.keepValues();
  }

  counter(name: string): Counter {
    const found = this.#byName.get(name);
    if (found !== undefined) return found as Counter;
    if (!this.#accepts(name)) return this.#rejectedCounter;
    const made = new Counter(this, this.#allocate(), name);
    this.#byName.set(name, made);
    this.#listener?.onStat(made.index, "counter", name, "none");
    return made;
  }

  gauge(name: string): Gauge {
    const found = this.#byName.get(name);
    if (found !== undefined) return found as Gauge;
    if (!this.#accepts(name)) return this.#rejectedGauge;
    const made = new Gauge(this, this.#allocate(), name);
    this.#byName.set(name, made);
    this.#listener?.onStat(made.index, "gauge", name, "none");
    return made;
  }

  histogram(name: string, unit: HistogramUnit = "ms"): Histogram {
    const found = this.#byName.get(name);
    if (found !== undefined) return found as Histogram;
    if (!this.#accepts(name)) return this.#rejectedHistogram;
    const made = new Histogram(name, unit);
    if (this.#keepsValues) made.keepValues();
    this.#byName.set(name, made);
    this.#listener?.onStat(this.histograms.length, "histogram", name, unit);
    this.histograms.push(made);
    return made;
  }

  /**
   * Statistics whose names begin so are gone: a later one of the same name is a new one. Whoever still holds one may count on; nobody sees it.
   * Their places in memory are not used again, since such late counts would be another's.
   */
  forget(prefix: string): void {
    for (const [name, stat] of this.#byName) {
      if (!name.startsWith(prefix)) continue;
      this.#byName.delete(name);
      if (stat instanceof Histogram) {
        const at = this.histograms.indexOf(stat);
        if (at >= 0) this.histograms.splice(at, 1);
      }
    }
  }

  scope(prefix: string): StatsScope {
    return new StatsScope(this, prefix === "" || prefix.endsWith(".") ? prefix : `${prefix}.`);
  }

  #allocate(): number {
    if (this.#used === this.values.length) {
      const memory = new SharedArrayBuffer(this.#memory.byteLength * 2);
      const values = new Float64Array(memory);
      values.set(this.values);
      this.#memory = memory;
      this.values = values;
      this.#listener?.onMemory(memory);
    }
    // Minus zero: never written. Any write, of zero too, makes it plus zero or a number, so that `usedonly` needs no flag beside.
    this.values[this.#used] = -0;
    return this.#used++;
  }
}

/** A store seen through a name prefix that ends in a dot. */
export class StatsScope {
  readonly store: StatsStore;
  readonly prefix: string;
  constructor(store: StatsStore, prefix: string) {
    this.store = store;
    this.prefix = prefix;
  }
  counter(name: string): Counter {
    return this.store.counter(this.prefix + name);
  }
  gauge(name: string): Gauge {
    return this.store.gauge(this.prefix + name);
  }
  histogram(name: string, unit: HistogramUnit = "ms"): Histogram {
    return this.store.histogram(this.prefix + name, unit);
  }
  scope(prefix: string): StatsScope {
    return this.store.scope(this.prefix + prefix);
  }
}

export class Counter {
  readonly #store: StatsStore;
  readonly index: number;
  readonly name: string;
  constructor(store: StatsStore, index: number, name: string) {
    this.#store = store;
    this.index = index;
    this.name = name;
  }
  inc(): void {
    this.#store.values[this.index]++;
  }
  add(amount: number): void {
    this.#store.values[this.index] += amount;
  }
  /** This thread's share. */
  get value(): number {
    return this.#store.values[this.index] + 0;
  }
}

export class Gauge {
  readonly #store: StatsStore;
  readonly index: number;
  readonly name: string;
  constructor(store: StatsStore, index: number, name: string) {
    this.#store = store;
    this.index = index;
    this.name = name;
  }
  inc(): void {
    this.#store.values[this.index]++;
  }
  dec(): void {
    this.#store.values[this.index]--;
  }
  add(amount: number): void {
    this.#store.values[this.index] += amount;
  }
  sub(amount: number): void {
    this.#store.values[this.index] -= amount;
  }
  /** Sets this thread's share. Gauges that several threads set are added up: let one thread own such a gauge. */
  set(value: number): void {
    this.#store.values[this.index] = value;
  }
  get value(): number {
    return this.#store.values[this.index] + 0;
  }
}

/**
 * Values since the last flush, in log-linear bins: two significant decimal digits, as circllhist (Envoy's histogram) has them.
 * Key of a bin: see stats/log-linear.ts.
 */
export class Histogram {
  readonly name: string;
  readonly unit: HistogramUnit;
  /** bin key -> count since the last `take`. */
  #bins: Map<number, number> = new Map();
  #kept: ValueSample | undefined = undefined;
  constructor(name: string, unit: HistogramUnit) {
    this.name = name;
    this.unit = unit;
  }
  /** Records a value in the histogram's unit; negative values count as 0. */
  record(value: number): void {
    const key = binKey(value);
    const bins = this.#bins;
    const count = bins.get(key);
    bins.set(key, count === undefined ? 1 : count + 1);
    if (this.#kept !== undefined) this.#kept.add(value);
  }
  keepValues(): void {
    this.#kept ??= new ValueSample();
  }
  get isEmpty(): boolean {
    return this.#bins.size === 0;
  }
  /** Hands over the bins and begins a new interval. */
  take(): Map<number, number> {
    const bins = this.#bins;
    this.#bins = new Map();
    return bins;
  }
  /** Hands over the values recorded since the last call; undefined where they are not kept. */
  takeValues(): KeptValues | undefined {
    const kept = this.#kept;
    if (kept === undefined) return undefined;
    this.#kept = new ValueSample();
    return { values: kept.values, seen: kept.seen };
  }
}

/** Recorded values; of more than are kept, each was as likely to be among them as any other. */
export interface KeptValues {
  readonly values: readonly number[];
  /** How many were recorded. */
  readonly seen: number;
}

/** Of one histogram and one thread, between two flushes. */
export const maxKeptValues = 10_000;

class ValueSample {
  readonly values: number[] = [];
  seen = 0;
  add(value: number): void {
    this.seen++;
    if (this.values.length < maxKeptValues) this.values.push(value);
    else {
      const at = Math.floor(Math.random() * this.seen);
      if (at < maxKeptValues) this.values[at] = value;
    }
  }
}

/** The bin of a value: 0 for zero, else (exponent + 128) * 100 + two digits (10..99), for value = digits/10 * 10^exponent. */
export function binKey(value: number): number {
  if (!(value > 0)) return 0;
  // Small whole numbers are nearly all that is recorded: no logarithm for them.
  if (value < 100 && value >= 1) {
    return value < 10 ? 12800 + Math.floor(value * 10 + 1e-9) : 12900 + Math.floor(value + 1e-9);
  }
  let exponent = Math.floor(Math.log10(value));
  let digits = Math.floor((value / 10 ** exponent) * 10 + 1e-9);
  if (digits > 99) {
    digits = 10;
    exponent++;
  } else if (digits < 10) {
    digits = 99;
    exponent--;
  }
  if (exponent < -128) return 0;
  if (exponent > 127) return (127 + 128) * 100 + 99;
  return (exponent + 128) * 100 + digits;
}
