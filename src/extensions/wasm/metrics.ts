/** Statistics that modules define: "wasmcustom." and their name. */
import type { Counter, Gauge, Histogram, StatsScope } from "../../stats/stats.ts";
import { metricType, status } from "./abi.ts";

/** Modules make names; a name made of request data would fill the memory. */
const maxMetrics = 10_000;

export class GuestMetrics {
  readonly #scope: StatsScope;
  readonly #ids = new Map<string, number>();
  readonly #counters = new Map<number, Counter>();
  readonly #gauges = new Map<number, Gauge>();
  readonly #histograms = new Map<number, Histogram>();
  #last = 0;

  constructor(scope: StatsScope) {
    this.#scope = scope;
  }

  /** An id, whose two lowest bits tell the type; undefined: there are too many. */
  define(type: number, name: string): number | undefined {
    const key = `${type} ${name}`;
    const known = this.#ids.get(key);
    if (known !== undefined) return known;
    if (this.#ids.size >= maxMetrics) return undefined;
    this.#last += 4;
    const id = this.#last + type;
    this.#ids.set(key, id);
    if (type === metricType.counter) this.#counters.set(id, this.#scope.counter(name));
    else if (type === metricType.gauge) this.#gauges.set(id, this.#scope.gauge(name));
    else this.#histograms.set(id, this.#scope.histogram(name, "none"));
    return id;
  }
  increment(id: number, offset: number): number {
    const counter = this.#counters.get(id);
    if (counter !== undefined) {
      if (offset < 0) return status.badArgument;
      counter.add(offset);
      return status.ok;
    }
    const gauge = this.#gauges.get(id);
    if (gauge === undefined) return this.#histograms.has(id) ? status.badArgument : status.notFound;
    gauge.add(offset);
    return status.ok;
  }
  record(id: number, value: number): number {
    const counter = this.#counters.get(id);
    if (counter !== undefined) counter.add(value);
    else if (this.#gauges.has(id)) this.#gauges.get(id)?.set(value);
    else if (this.#histograms.has(id)) this.#histograms.get(id)?.record(value);
    else return status.notFound;
    return status.ok;
  }
  value(id: number): number | undefined {
    return this.#counters.get(id)?.value ?? this.#gauges.get(id)?.value;
  }
}
