/**
 * Takes hosts out that fail, and puts them back. It runs on the main thread: workers count in shared cells and tell what they find at once,
 * everything else is looked at once in an interval.
 * https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/outlier
 */
import type { LogWriter } from "../../extensions/extension.ts";
import type { Timer, TimerWheel } from "../../net/timer-wheel.ts";
import type { Runtime } from "../../runtime/runtime.ts";
import type { Counter, Gauge, StatsScope } from "../../stats/stats.ts";
import { column, type HostCells } from "../host-cells.ts";
import { healthFlags } from "../host-health.ts";
import type { HostData } from "../hosts.ts";
import { OutlierEventLog } from "./event-log.ts";
import type { EjectionType, OutlierSettings, ReportedType } from "./settings.ts";

/** A member as the detector sees it. */
export interface DetectedHost {
  readonly data: HostData;
  readonly cells: HostCells;
  flags: number;
}

export interface DetectorOptions {
  readonly cluster: string;
  readonly scope: StatsScope;
  readonly timers: TimerWheel;
  readonly runtime: Runtime;
  readonly random: () => number;
  readonly eventLog: LogWriter | undefined;
  /** `host.flags` have changed. */
  readonly onChange: (host: DetectedHost) => void;
}

type Origin = "external" | "local";

interface Monitor {
  readonly host: DetectedHost;
  ejections: number;
  /** How many times the base time an ejection lasts; it grows with each and shrinks with each interval without. */
  backoff: number;
  ejectedAtMs: number | undefined;
  unejectedAtMs: number | undefined;
  jitterMs: number;
  degradedAtMs: number;
  degradedBackoff: number;
  degradedJitterMs: number;
  /** Of the interval that ended last, percent; -1: too few requests. */
  readonly successRate: Record<Origin, number>;
  /** Its requests. */
  readonly volume: Record<Origin, { successes: number; total: number }>;
}

/** Percent; -1: not known. */
export interface SuccessRates {
  readonly average: number;
  readonly threshold: number;
}

const unknown: SuccessRates = { average: -1, threshold: -1 };

const counterNames = [
  "ejections_consecutive_5xx",
  "ejections_detected_consecutive_5xx",
  "ejections_detected_consecutive_gateway_failure",
  "ejections_detected_consecutive_local_origin_failure",
  "ejections_detected_degradation",
  "ejections_detected_failure_percentage",
  "ejections_detected_local_origin_failure_percentage",
  "ejections_detected_local_origin_success_rate",
  "ejections_detected_success_rate",
  "ejections_enforced_consecutive_5xx",
  "ejections_enforced_consecutive_gateway_failure",
  "ejections_enforced_consecutive_local_origin_failure",
  "ejections_enforced_failure_percentage",
  "ejections_enforced_local_origin_failure_percentage",
  "ejections_enforced_local_origin_success_rate",
  "ejections_enforced_success_rate",
  "ejections_enforced_total",
  "ejections_overflow",
  "ejections_success_rate",
  "ejections_total",
] as const;

const consecutiveColumns = {
  consecutive_5xx: column.consecutive5xx,
  consecutive_gateway_failure: column.consecutiveGatewayFailure,
  consecutive_local_origin_failure: column.consecutiveLocalOriginFailure,
} as const;

/** Runtime keys of chances, where they are not named as the statistics are. */
const enforcingKeys: Readonly<Record<EjectionType, string>> = {
  consecutive_5xx: "enforcing_consecutive_5xx",
  consecutive_gateway_failure: "enforcing_consecutive_gateway_failure",
  consecutive_local_origin_failure: "enforcing_consecutive_local_origin_failure",
  success_rate: "enforcing_success_rate",
  local_origin_success_rate: "enforcing_local_origin_success_rate",
  failure_percentage: "enforcing_failure_percentage",
  local_origin_failure_percentage: "enforcing_failure_percentage_local_origin",
};

export class OutlierDetector {
  readonly #settings: OutlierSettings;
  readonly #options: DetectorOptions;
  readonly #counters: Readonly<Record<(typeof counterNames)[number], Counter>>;
  readonly #active: Gauge;
  readonly #timer: Timer;
  readonly #log: OutlierEventLog;
  readonly #monitors = new Map<DetectedHost, Monitor>();
  #ejected = 0;
  #rates: Record<Origin, SuccessRates> = { external: unknown, local: unknown };

  constructor(settings: OutlierSettings, options: DetectorOptions) {
    this.#settings = settings;
    this.#options = options;
    const scope = options.scope.scope("outlier_detection.");
    this.#counters = Object.fromEntries(counterNames.map((name) => [name, scope.counter(name)])) as Record<(typeof counterNames)[number], Counter>;
    this.#active = scope.gauge("ejections_active");
    this.#log = new OutlierEventLog(options.eventLog, options.cluster, () => options.timers.clock.wall());
    this.#timer = options.timers.createTimer(() => this.#onInterval());
    this.#arm();
  }

  get rates(): Readonly<Record<Origin, SuccessRates>> {
    return this.#rates;
  }

  /** Of the last interval, percent; -1: not known. */
  successRate(host: DetectedHost, origin: Origin): number {
    return this.#monitors.get(host)?.successRate[origin] ?? -1;
  }

  add(host: DetectedHost): void {
    if (this.#monitors.has(host)) return;
    this.#monitors.set(host, {
      host,
      ejections: 0,
      backoff: 0,
      ejectedAtMs: undefined,
      unejectedAtMs: undefined,
      jitterMs: 0,
      degradedAtMs: 0,
      degradedBackoff: 0,
      degradedJitterMs: 0,
      successRate: { external: -1, local: -1 },
      volume: { external: { successes: 0, total: 0 }, local: { successes: 0, total: 0 } },
    });
  }

  remove(host: DetectedHost): void {
    if (!this.#monitors.delete(host)) return;
    if (isEjected(host)) this.#count(-1);
  }

  close(): void {
    this.#timer.disable();
    for (const host of [...this.#monitors.keys()]) this.remove(host);
  }

  /** A worker has seen too much of something. */
  report(host: DetectedHost, type: ReportedType): void {
    const monitor = this.#monitors.get(host);
    if (monitor === undefined) return;
    if (type === "degradation") {
      this.#degrade(monitor);
      return;
    }
    if (isEjected(host)) return;
    this.#counters[`ejections_detected_${type}`].inc();
    this.#eject(monitor, type);
    if (type === "consecutive_5xx") this.#counters.ejections_consecutive_5xx.inc();
    // The next row of failures counts from the beginning, also where this one had no consequence.
    host.cells.set(consecutiveColumns[type], 0);
  }

  /** It passes all its health checks. */
  onHealthCheckPassed(host: DetectedHost): void {
    const monitor = this.#monitors.get(host);
    if (monitor === undefined || !this.#settings.healthCheckUnejects || !isEjected(host) || (host.flags & healthFlags.failed_active_hc) !== 0) return;
    this.#uneject(monitor);
  }

  // ---- the interval ----------------------------------------------------------------------------------------------------------------

  #onInterval(): void {
    for (const monitor of this.#monitors.values()) {
      this.#checkForEnd(monitor);
      const { cells } = monitor.host;
      monitor.volume.external = { successes: cells.take(column.externalSuccesses), total: cells.take(column.externalTotal) };
      monitor.volume.local = { successes: cells.take(column.localSuccesses), total: cells.take(column.localTotal) };
      monitor.successRate.external = -1;
      monitor.successRate.local = -1;
    }
    this.#compareRates("external");
    this.#compareRates("local");
    const intervalMs = this.#number("interval_ms", this.#settings.intervalMs);
    for (const monitor of this.#monitors.values()) {
      const { unejectedAtMs } = monitor;
      if (isEjected(monitor.host) || monitor.backoff === 0 || unejectedAtMs === undefined) continue;
      if (this.#now - unejectedAtMs >= intervalMs) monitor.backoff--;
    }
    this.#arm();
  }

  #checkForEnd(monitor: Monitor): void {
    const { host } = monitor;
    if (isEjected(host) && this.#isOver(monitor.ejectedAtMs ?? 0, monitor.backoff, monitor.jitterMs)) this.#uneject(monitor);
    if ((host.flags & healthFlags.degraded_outlier_detection) === 0) {
      if (monitor.degradedBackoff > 0) monitor.degradedBackoff--;
      return;
    }
    if (!this.#isOver(monitor.degradedAtMs, monitor.degradedBackoff, monitor.degradedJitterMs)) return;
    host.flags &= ~healthFlags.degraded_outlier_detection;
    this.#options.onChange(host);
    this.#logEnd(monitor);
  }

  #isOver(sinceMs: number, backoff: number, jitterMs: number): boolean {
    return Math.min(this.#baseMs * backoff, this.#maxMs) + jitterMs <= this.#now - sinceMs;
  }

  #compareRates(origin: Origin): void {
    const settings = this.#settings;
    const minimumHosts = this.#number("success_rate_minimum_hosts", settings.successRateMinimumHosts);
    const minimumVolume = this.#number("success_rate_request_volume", settings.successRateRequestVolume);
    const failureHosts = this.#number("failure_percentage_minimum_hosts", settings.failurePercentageMinimumHosts);
    const failureVolume = this.#number("failure_percentage_request_volume", settings.failurePercentageRequestVolume);
    this.#rates = { ...this.#rates, [origin]: unknown };
    if (this.#monitors.size < minimumHosts && this.#monitors.size < failureHosts) return;
    const byRate: { readonly monitor: Monitor; readonly rate: number }[] = [];
    const byFailures: { readonly monitor: Monitor; readonly rate: number }[] = [];
    for (const monitor of this.#monitors.values()) {
      const { successes, total } = monitor.volume[origin];
      if (isEjected(monitor.host) || total === 0) continue;
      const rate = (successes * 100) / total;
      if (total >= Math.min(minimumVolume, failureVolume)) monitor.successRate[origin] = rate;
      if (total >= minimumVolume) byRate.push({ monitor, rate });
      if (total >= failureVolume) byFailures.push({ monitor, rate });
    }
    if (byRate.length > 0 && byRate.length >= minimumHosts) {
      const factor = this.#number("success_rate_stdev_factor", settings.successRateStdevFactor) / 1000;
      const rates = successRates(
        byRate.map(({ rate }) => rate),
        factor,
      );
      this.#rates = { ...this.#rates, [origin]: rates };
      const type = origin === "external" ? "success_rate" : "local_origin_success_rate";
      for (const { monitor, rate } of byRate) {
        if (rate >= rates.threshold) continue;
        this.#counters.ejections_success_rate.inc();
        this.#counters[`ejections_detected_${type}`].inc();
        this.#eject(monitor, type);
      }
    }
    if (byFailures.length > 0 && byFailures.length >= failureHosts) {
      const threshold = this.#number("failure_percentage_threshold", settings.failurePercentageThreshold);
      const type = origin === "external" ? "failure_percentage" : "local_origin_failure_percentage";
      for (const { monitor, rate } of byFailures) {
        if (100 - rate < threshold) continue;
        this.#counters[`ejections_detected_${type}`].inc();
        this.#eject(monitor, type);
      }
    }
  }

  // ---- ejections -------------------------------------------------------------------------------------------------------------------

  #eject(monitor: Monitor, type: EjectionType): void {
    const { host } = monitor;
    const maxPercent = Math.min(100, this.#number("max_ejection_percent", this.#settings.maxEjectionPercent));
    const percent = (100 * (this.#ejected + 1)) / this.#monitors.size;
    if (percent > maxPercent && !(this.#settings.alwaysEjectOneHost && this.#ejected === 0)) {
      this.#counters.ejections_overflow.inc();
      return;
    }
    // Of old, before there were other kinds.
    if (type === "consecutive_5xx" || type === "success_rate") this.#counters.ejections_total.inc();
    const { runtime, random, onChange } = this.#options;
    const chance = { numerator: this.#settings.enforcing[type], denominator: 100 };
    const enforced = runtime.snapshot.featureEnabled(`outlier_detection.${enforcingKeys[type]}`, chance, random());
    if (enforced) {
      // Two kinds of one interval may name the same host: each counts, the host is out once.
      if (!isEjected(host)) this.#count(1);
      this.#counters.ejections_enforced_total.inc();
      this.#counters[`ejections_enforced_${type}`].inc();
      host.flags |= healthFlags.failed_outlier_check;
      monitor.ejections++;
      monitor.ejectedAtMs = this.#now;
      monitor.jitterMs = this.#jitter();
      monitor.backoff = this.#grown(monitor.backoff);
      onChange(host);
    }
    const origin = type.startsWith("local_origin") ? "local" : "external";
    const { average, threshold } = this.#rates[origin];
    this.#log.write({
      type,
      url: host.data.address.text,
      enforced,
      ejections: monitor.ejections,
      secondsSinceLastAction: this.#secondsSince(monitor.unejectedAtMs),
      successRate: monitor.successRate[origin],
      average,
      threshold,
    });
  }

  #uneject(monitor: Monitor): void {
    const { host } = monitor;
    this.#count(-1);
    host.flags &= ~healthFlags.failed_outlier_check;
    for (const at of Object.values(consecutiveColumns)) host.cells.set(at, 0);
    monitor.unejectedAtMs = this.#now;
    this.#options.onChange(host);
    this.#logEnd(monitor);
  }

  /** The host is given less, not nothing: it stays a member, behind those that are not degraded. */
  #degrade(monitor: Monitor): void {
    const { host } = monitor;
    if ((host.flags & healthFlags.degraded_outlier_detection) !== 0) return;
    this.#counters.ejections_detected_degradation.inc();
    host.flags |= healthFlags.degraded_outlier_detection;
    monitor.degradedAtMs = this.#now;
    monitor.degradedJitterMs = this.#jitter();
    monitor.degradedBackoff = this.#grown(monitor.degradedBackoff);
    this.#options.onChange(host);
    this.#log.write({
      type: "degraded",
      url: host.data.address.text,
      enforced: true,
      ejections: monitor.ejections,
      secondsSinceLastAction: this.#secondsSince(monitor.unejectedAtMs),
    });
  }

  #logEnd(monitor: Monitor): void {
    this.#log.write({
      type: undefined,
      url: monitor.host.data.address.text,
      enforced: false,
      ejections: monitor.ejections,
      secondsSinceLastAction: this.#secondsSince(monitor.ejectedAtMs),
    });
  }

  #jitter(): number {
    const most = this.#number("max_ejection_time_jitter_ms", this.#settings.maxEjectionTimeJitterMs);
    return this.#options.random() % (Math.floor(most) + 1);
  }

  /** One more, until the longest time is reached. */
  #grown(backoff: number): number {
    return backoff * this.#baseMs < this.#maxMs + this.#baseMs ? backoff + 1 : backoff;
  }

  #count(change: 1 | -1): void {
    this.#ejected += change;
    this.#active.set(this.#ejected);
  }

  #secondsSince(ms: number | undefined): number | undefined {
    return ms === undefined ? undefined : Math.floor((this.#now - ms) / 1000);
  }
  get #now(): number {
    return this.#options.timers.clock.now();
  }
  get #baseMs(): number {
    return this.#number("base_ejection_time_ms", this.#settings.baseEjectionTimeMs);
  }
  get #maxMs(): number {
    return this.#number("max_ejection_time_ms", this.#settings.maxEjectionTimeMs);
  }
  #number(key: string, fallback: number): number {
    return this.#options.runtime.snapshot.integer(`outlier_detection.${key}`, fallback);
  }
  #arm(): void {
    this.#timer.enable(Math.max(1, this.#number("interval_ms", this.#settings.intervalMs)));
  }
}

function isEjected(host: DetectedHost): boolean {
  return (host.flags & healthFlags.failed_outlier_check) !== 0;
}

/** The mean, and `factor` standard deviations below it. */
export function successRates(rates: readonly number[], factor: number): SuccessRates {
  const average = rates.reduce((sum, rate) => sum + rate, 0) / rates.length;
  const variance = rates.reduce((sum, rate) => sum + (rate - average) ** 2, 0) / rates.length;
  return { average, threshold: average - factor * Math.sqrt(variance) };
}
