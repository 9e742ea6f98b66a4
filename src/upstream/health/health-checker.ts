/**
 * Active health checks of one kind over the hosts of one cluster: when each host is checked, and what its results come to.
 * It runs on the main thread, so that a host sees each check once, however many workers there are.
 * https://www.envoyproxy.io/docs/envoy/latest/intro/arch_overview/upstream/health_checking
 */
import type { Clock, Timer, TimerWheel } from "../../net/timer-wheel.ts";
import type { Runtime } from "../../runtime/runtime.ts";
import type { Counter, Gauge, StatsScope } from "../../stats/stats.ts";
import { healthFlags } from "../host-health.ts";
import type { HostData } from "../hosts.ts";
import { type FailureType, HealthEventLog } from "./event-log.ts";
import type { HealthCheckSettings } from "./settings.ts";

/** A member that is checked; `flags` are those of this checker. */
export interface CheckedHost {
  readonly data: HostData;
  flags: number;
}

export type Transition = "unchanged" | "pending" | "changed";

/** Asks one host, again and again. It calls back once for each `start` unless `timedOut` or `close` came first. */
export interface Probe {
  start(): void;
  /** The answer did not come in time. */
  timedOut(): void;
  close(): void;
}

export interface ProbeCallbacks {
  onSuccess(degraded: boolean): void;
  /** `excluded`: the host asks not even to be counted. `status`: of an HTTP answer. */
  onFailure(type: "ACTIVE" | "NETWORK", more?: { readonly retriable?: boolean; readonly status?: number; readonly excluded?: boolean }): void;
}

export interface CheckerOptions {
  readonly cluster: string;
  /** Members come from DNS. */
  readonly isResolved: boolean;
  readonly timers: TimerWheel;
  readonly runtime: Runtime;
  /** An integer of at least 32 bits. */
  readonly random: () => number;
  /** Whether the cluster ever had a connection: hosts nobody uses are checked less often. */
  readonly hasTraffic: () => boolean;
  readonly probe: (host: CheckedHost, callbacks: ProbeCallbacks) => Probe;
  readonly onResult: (host: CheckedHost, transition: Transition, healthy: boolean) => void;
}

interface CheckerStats {
  readonly attempt: Counter;
  readonly success: Counter;
  readonly failure: Counter;
  readonly passive_failure: Counter;
  readonly network_failure: Counter;
  readonly verify_cluster: Counter;
  readonly healthy: Gauge;
  readonly degraded: Gauge;
}

/** health_check.* of a cluster. */
export function checkerStats(scope: StatsScope): CheckerStats {
  return {
    attempt: scope.counter("attempt"),
    success: scope.counter("success"),
    failure: scope.counter("failure"),
    passive_failure: scope.counter("passive_failure"),
    network_failure: scope.counter("network_failure"),
    verify_cluster: scope.counter("verify_cluster"),
    healthy: scope.gauge("healthy"),
    degraded: scope.gauge("degraded"),
  };
}

export class HealthChecker {
  readonly settings: HealthCheckSettings;
  readonly options: CheckerOptions;
  readonly stats: CheckerStats;
  readonly log: HealthEventLog;
  readonly #sessions = new Map<CheckedHost, Session>();

  constructor(settings: HealthCheckSettings, stats: CheckerStats, options: CheckerOptions) {
    this.settings = settings;
    this.options = options;
    this.stats = stats;
    const { clock } = options.timers;
    this.log = new HealthEventLog(settings.eventLogs, options.cluster, settings.check.kind.toUpperCase(), options.isResolved, () => clock.wall());
  }

  add(host: CheckedHost): void {
    if (this.#sessions.has(host)) return;
    const session = new Session(this, host);
    this.#sessions.set(host, session);
    session.begin();
  }

  remove(host: CheckedHost): void {
    const session = this.#sessions.get(host);
    if (session === undefined) return;
    this.#sessions.delete(host);
    session.end();
  }

  /** The host itself says that it is to get no more traffic, in an answer to some request. */
  failPassively(host: CheckedHost): void {
    this.#sessions.get(host)?.failPassively();
  }

  close(): void {
    for (const host of [...this.#sessions.keys()]) this.remove(host);
  }

  /** Milliseconds to the next check. */
  interval(healthy: boolean, transition: Transition): number {
    const { settings } = this;
    const pending = transition === "pending";
    let base: number;
    if (!this.options.hasTraffic()) base = healthy && !pending ? settings.noTrafficHealthyIntervalMs : settings.noTrafficIntervalMs;
    else if (healthy) base = pending ? settings.healthyEdgeIntervalMs : settings.intervalMs;
    else base = pending ? settings.unhealthyEdgeIntervalMs : settings.unhealthyIntervalMs;
    return this.withJitter(base, settings.intervalJitterMs);
  }

  withJitter(base: number, jitterMs: number): number {
    const { random, runtime } = this.options;
    let ms = base;
    const percent = Math.floor((this.settings.intervalJitterPercent * base) / 100);
    if (percent > 0) ms += random() % percent;
    if (jitterMs >= 1) ms += random() % Math.floor(jitterMs);
    const { snapshot } = runtime;
    ms = Math.min(ms, snapshot.number("health_check.max_interval", Number.POSITIVE_INFINITY));
    return Math.max(1, ms, snapshot.number("health_check.min_interval", 0));
  }

  get clock(): Clock {
    return this.options.timers.clock;
  }
}

/** One host under checks. */
class Session implements ProbeCallbacks {
  readonly #checker: HealthChecker;
  readonly #host: CheckedHost;
  readonly #intervalTimer: Timer;
  readonly #timeoutTimer: Timer;
  readonly #probe: Probe;
  #isFirst = true;
  #successes = 0;
  #failures = 0;
  #ended = false;

  constructor(checker: HealthChecker, host: CheckedHost) {
    this.#checker = checker;
    this.#host = host;
    const { timers, probe } = checker.options;
    this.#intervalTimer = timers.createTimer(() => this.#check());
    this.#timeoutTimer = timers.createTimer(() => this.#onTimeout());
    this.#probe = probe(host, this);
    if (!this.#has("failed_active_hc")) checker.stats.healthy.inc();
    if (this.#has("degraded_active_hc")) checker.stats.degraded.inc();
  }

  begin(): void {
    const { initialJitterMs } = this.#checker.settings;
    if (initialJitterMs === 0) this.#check();
    else this.#intervalTimer.enable(this.#checker.withJitter(0, initialJitterMs));
  }

  end(): void {
    this.#ended = true;
    this.#intervalTimer.disable();
    this.#timeoutTimer.disable();
    const { stats, options } = this.#checker;
    const healthy = !this.#has("failed_active_hc");
    if (healthy) stats.healthy.dec();
    if (this.#has("degraded_active_hc")) stats.degraded.dec();
    this.#probe.close();
    // Somebody may wait for a first result that never comes.
    if (this.#isFirst) options.onResult(this.#host, "unchanged", healthy);
  }

  #check(): void {
    // Armed first: a check may have its result at once.
    this.#timeoutTimer.enable(this.#checker.settings.timeoutMs);
    this.#checker.stats.attempt.inc();
    this.#probe.start();
  }

  #onTimeout(): void {
    this.#probe.timedOut();
    this.#fail("NETWORK_TIMEOUT", false, 0);
  }

  onSuccess(degraded: boolean): void {
    if (this.#ended) return;
    const { settings, stats, log, options } = this.#checker;
    const { data } = this.#host;
    this.#failures = 0;
    let transition: Transition = "unchanged";
    if (this.#has("failed_active_hc")) {
      // The first check of all decides alone, so that a start is fast.
      if (this.#isFirst || ++this.#successes === settings.healthyThreshold) {
        this.#clear("active_hc_timeout");
        this.#clear("excluded_via_immediate_hc_fail");
        this.#clear("failed_active_hc");
        stats.healthy.inc();
        transition = "changed";
        log.write(data, { kind: "add_healthy_event", firstCheck: this.#isFirst });
      } else transition = "pending";
    }
    if (transition !== "changed" && settings.alwaysLogSuccess) log.write(data, { kind: "successful_health_check_event" });
    transition = this.#clearPending(transition);
    if (degraded !== this.#has("degraded_active_hc")) {
      if (degraded) {
        this.#set("degraded_active_hc");
        stats.degraded.inc();
        log.write(data, { kind: "degraded_healthy_host" });
      } else {
        // Envoy's gauge of degraded hosts does not go down here.
        log.write(data, { kind: "no_longer_degraded_host" });
        this.#clear("degraded_active_hc");
      }
      if (transition === "unchanged") transition = "changed";
    }
    stats.success.inc();
    this.#isFirst = false;
    options.onResult(this.#host, transition, true);
    this.#next(true, transition);
  }

  onFailure(type: "ACTIVE" | "NETWORK", more: Parameters<ProbeCallbacks["onFailure"]>[1] = {}): void {
    if (this.#ended) return;
    if (more.excluded === true) this.#set("excluded_via_immediate_hc_fail");
    this.#fail(type, more.retriable ?? false, more.status ?? 0);
  }

  #fail(type: FailureType, retriable: boolean, status: number): void {
    const transition = this.#setUnhealthy(type, retriable, status);
    this.#next(false, transition);
  }

  failPassively(): void {
    this.#set("excluded_via_immediate_hc_fail");
    this.#setUnhealthy("PASSIVE", false, 0);
  }

  #setUnhealthy(type: FailureType, retriable: boolean, status: number): Transition {
    const { settings, stats, log, options } = this.#checker;
    const { data } = this.#host;
    const network = type === "NETWORK" || type === "NETWORK_TIMEOUT";
    this.#successes = 0;
    let transition: Transition = "unchanged";
    if (!this.#has("failed_active_hc")) {
      if ((!network && !retriable) || ++this.#failures === settings.unhealthyThreshold) {
        this.#set("failed_active_hc");
        stats.healthy.dec();
        transition = "changed";
        log.write(data, { kind: "eject_unhealthy_event", failure: type, status });
      } else transition = "pending";
    }
    if (type === "NETWORK_TIMEOUT" && this.#has("failed_active_hc")) this.#set("active_hc_timeout");
    else this.#clear("active_hc_timeout");
    transition = this.#clearPending(transition);
    if (this.#isFirst || settings.alwaysLogFailures) log.write(data, { kind: "health_check_failure_event", failure: type, firstCheck: this.#isFirst, status });
    stats.failure.inc();
    if (network) stats.network_failure.inc();
    else if (type === "PASSIVE") stats.passive_failure.inc();
    this.#isFirst = false;
    options.onResult(this.#host, transition, false);
    return transition;
  }

  /** A host that was not counted before its first check is from now on. */
  #clearPending(transition: Transition): Transition {
    if (!this.#has("pending_active_hc")) return transition;
    this.#clear("pending_active_hc");
    return "changed";
  }

  #next(healthy: boolean, transition: Transition): void {
    // The result may have removed the host.
    if (this.#ended) return;
    this.#timeoutTimer.disable();
    this.#intervalTimer.enable(this.#checker.interval(healthy, transition));
  }

  #has(flag: keyof typeof healthFlags): boolean {
    return (this.#host.flags & healthFlags[flag]) !== 0;
  }
  #set(flag: keyof typeof healthFlags): void {
    this.#host.flags |= healthFlags[flag];
  }
  #clear(flag: keyof typeof healthFlags): void {
    this.#host.flags &= ~healthFlags[flag];
  }
}
