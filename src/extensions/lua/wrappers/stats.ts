/** stats(): counters, gauges and histograms of scripts' own, below the filter's statistics. */
import type { Counter, Gauge, Histogram, HistogramUnit, StatsScope } from "../../../stats/stats.ts";
import { type LuaCall, LuaError, LuaObject } from "../vm.ts";
import { luaClass } from "./define.ts";

/** Scripts make names; without a bound a name made of request data would fill the memory. */
const maxStats = 4096;

/** The statistics that the scripts of one filter have made. */
export class ScriptStats {
  readonly #scope: StatsScope;
  readonly #made = new Map<string, Counter | Gauge | Histogram>();
  constructor(scope: StatsScope) {
    this.#scope = scope;
  }
  counter(name: string): Counter {
    return this.#get(`counter ${name}`, () => this.#scope.counter(name));
  }
  gauge(name: string): Gauge {
    return this.#get(`gauge ${name}`, () => this.#scope.gauge(name));
  }
  histogram(name: string, unit: HistogramUnit): Histogram {
    return this.#get(`histogram ${name}`, () => this.#scope.histogram(name, unit));
  }
  #get<T extends Counter | Gauge | Histogram>(key: string, make: () => T): T {
    let stat = this.#made.get(key) as T | undefined;
    if (stat === undefined) {
      if (this.#made.size >= maxStats) throw new LuaError("too many stats");
      this.#made.set(key, (stat = make()));
    }
    return stat;
  }
}

export class LuaStats extends LuaObject {
  readonly stats: ScriptStats;
  constructor(stats: ScriptStats) {
    super(statsClass);
    this.stats = stats;
  }
}
class LuaCounter extends LuaObject {
  readonly counter: Counter;
  constructor(counter: Counter) {
    super(counterClass);
    this.counter = counter;
  }
}
class LuaGauge extends LuaObject {
  readonly gauge: Gauge;
  constructor(gauge: Gauge) {
    super(gaugeClass);
    this.gauge = gauge;
  }
}
class LuaHistogram extends LuaObject {
  readonly histogram: Histogram;
  constructor(histogram: Histogram) {
    super(histogramClass);
    this.histogram = histogram;
  }
}

const units = new Map<string, HistogramUnit>([
  ["ms", "ms"],
  ["milliseconds", "ms"],
  ["microseconds", "us"],
  ["nanoseconds", "none"],
  ["bytes", "bytes"],
  ["unspecified", "none"],
]);

const statsClass = luaClass<LuaStats>("N5Envoy10Extensions11HttpFilters3Lua12StatsWrapperE", {
  counter: (self, call) => call.pushObject(new LuaCounter(self.stats.counter(call.utf8(2)))),
  gauge: (self, call) => call.pushObject(new LuaGauge(self.stats.gauge(call.utf8(2)))),
  histogram(self, call) {
    const name = call.utf8(2);
    const unit = call.optionalString(3) ?? "unspecified";
    const known = units.get(unit);
    if (known === undefined)
      throw new LuaError(`invalid histogram unit '${unit}', expected 'ms', 'milliseconds', 'microseconds', 'nanoseconds', 'bytes', or 'unspecified'`);
    return call.pushObject(new LuaHistogram(self.stats.histogram(name, known)));
  },
});

/** The amount of a change, a whole number; 1 where none is said and that is allowed. */
function amount(call: LuaCall, what: string): number {
  const value = call.integer(2);
  if (value < 0) throw new LuaError(`${what} amount must be non-negative`);
  return value;
}

const counterClass = luaClass<LuaCounter>("N5Envoy10Extensions11HttpFilters3Lua14CounterWrapperE", {
  inc(self) {
    self.counter.inc();
    return 0;
  },
  add(self, call) {
    self.counter.add(amount(call, "counter add"));
    return 0;
  },
  value: (self, call) => call.pushNumber(self.counter.value),
});
const gaugeClass = luaClass<LuaGauge>("N5Envoy10Extensions11HttpFilters3Lua12GaugeWrapperE", {
  inc(self) {
    self.gauge.inc();
    return 0;
  },
  dec(self) {
    self.gauge.dec();
    return 0;
  },
  add(self, call) {
    self.gauge.add(amount(call, "gauge add"));
    return 0;
  },
  sub(self, call) {
    self.gauge.sub(amount(call, "gauge sub"));
    return 0;
  },
  set(self, call) {
    self.gauge.set(amount(call, "gauge set"));
    return 0;
  },
  value: (self, call) => call.pushNumber(self.gauge.value),
});
const histogramClass = luaClass<LuaHistogram>("N5Envoy10Extensions11HttpFilters3Lua16HistogramWrapperE", {
  recordValue(self, call) {
    self.histogram.record(amount(call, "histogram recordValue"));
    return 0;
  },
});
