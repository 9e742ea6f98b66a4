/** All health checks of one cluster: where there are several, a host is healthy when it passes each. */
import type { TimerWheel } from "../../net/timer-wheel.ts";
import type { Runtime } from "../../runtime/runtime.ts";
import type { Gauge } from "../../stats/stats.ts";
import { healthFlags } from "../host-health.ts";
import type { CompiledCluster } from "../settings.ts";
import { transportSocketFor } from "../transport-socket-match.ts";
import { dialForCheck } from "./dial.ts";
import { GrpcProbe } from "./grpc-probe.ts";
import { type CheckedHost, checkerStats, HealthChecker, type Probe, type ProbeCallbacks, type Transition } from "./health-checker.ts";
import { HttpProbe, mutateCheck } from "./http-probe.ts";
import type { HealthCheckSettings } from "./settings.ts";
import { TcpProbe } from "./tcp-probe.ts";
import { UdpProbe } from "./udp-probe.ts";

/** The bits that checks decide. */
export const checkedFlags =
  healthFlags.failed_active_hc |
  healthFlags.degraded_active_hc |
  healthFlags.pending_active_hc |
  healthFlags.active_hc_timeout |
  healthFlags.excluded_via_immediate_hc_fail;

export interface HealthChecksOptions {
  readonly timers: TimerWheel;
  readonly runtime: Runtime;
  readonly random: () => number;
  readonly hasTraffic: () => boolean;
  /** A check has ended, or will never come. `host.flags` is what all checks together say. */
  readonly onResult: (host: CheckedHost, transition: Transition, healthy: boolean) => void;
  /** For tests. */
  readonly probe?: (settings: HealthCheckSettings, host: CheckedHost, callbacks: ProbeCallbacks) => Probe;
}

/** One host as each of several checks sees it. */
interface Views {
  readonly views: readonly CheckedHost[];
  /** Checks without a first result. */
  waiting: number;
  counted: boolean;
}

export class HealthChecks {
  readonly #options: HealthChecksOptions;
  readonly #checkers: readonly HealthChecker[];
  readonly #views = new Map<CheckedHost, Views>();
  /** Of all checks together; absent where there is one. */
  readonly #healthy: Gauge | undefined;
  readonly #degraded: Gauge | undefined;

  constructor(cluster: CompiledCluster, options: HealthChecksOptions) {
    this.#options = options;
    const scope = cluster.scope.scope("health_check.");
    const single = cluster.healthChecks.length === 1;
    this.#healthy = single ? undefined : scope.gauge("healthy");
    this.#degraded = single ? undefined : scope.gauge("degraded");
    this.#checkers = cluster.healthChecks.map((settings, i) => {
      const stats = checkerStats(settings.name === "" ? scope : scope.scope(`name.${settings.name}.`));
      return new HealthChecker(settings, stats, {
        cluster: cluster.name,
        isResolved: cluster.dns !== undefined,
        timers: options.timers,
        runtime: options.runtime,
        random: options.random,
        hasTraffic: options.hasTraffic,
        probe: (host, callbacks) => options.probe?.(settings, host, callbacks) ?? makeProbe(cluster, settings, host, callbacks, options, stats.verify_cluster),
        onResult: single ? options.onResult : (view, transition, healthy) => this.#onViewResult(view as View, i, transition, healthy),
      });
    });
  }

  add(host: CheckedHost): void {
    if (this.#checkers.length === 1) {
      this.#checkers[0].add(host);
      return;
    }
    if (this.#views.has(host)) return;
    const views = this.#checkers.map(() => new View(host));
    this.#views.set(host, { views, waiting: (1 << views.length) - 1, counted: false });
    this.#checkers.forEach((checker, i) => {
      checker.add(views[i]);
    });
  }

  remove(host: CheckedHost): void {
    if (this.#checkers.length === 1) {
      this.#checkers[0].remove(host);
      return;
    }
    const state = this.#views.get(host);
    if (state === undefined) return;
    this.#checkers.forEach((checker, i) => {
      checker.remove(state.views[i]);
    });
    this.#views.delete(host);
    if (!state.counted) return;
    if ((host.flags & healthFlags.failed_active_hc) === 0) this.#healthy?.dec();
    if ((host.flags & healthFlags.degraded_active_hc) !== 0) this.#degraded?.dec();
  }

  failPassively(host: CheckedHost): void {
    if (this.#checkers.length === 1) {
      this.#checkers[0].failPassively(host);
      return;
    }
    const state = this.#views.get(host);
    if (state === undefined) return;
    this.#checkers.forEach((checker, i) => {
      checker.failPassively(state.views[i]);
    });
  }

  close(): void {
    for (const host of [...this.#views.keys()]) this.remove(host);
    for (const checker of this.#checkers) checker.close();
  }

  #onViewResult(view: View, index: number, _transition: Transition, _healthy: boolean): void {
    const { host } = view;
    const state = this.#views.get(host);
    if (state === undefined) return;
    state.waiting &= ~(1 << index);
    if (state.waiting !== 0) return;
    const before = host.flags;
    const flags = (before & ~checkedFlags) | (state.views.reduce((all, { flags }) => all | flags, 0) & checkedFlags);
    host.flags = flags;
    const failed = (flags & healthFlags.failed_active_hc) !== 0;
    const degraded = (flags & healthFlags.degraded_active_hc) !== 0;
    if (!state.counted) {
      state.counted = true;
      if (!failed) this.#healthy?.inc();
      if (degraded) this.#degraded?.inc();
    } else {
      if (failed !== ((before & healthFlags.failed_active_hc) !== 0)) failed ? this.#healthy?.dec() : this.#healthy?.inc();
      if (degraded !== ((before & healthFlags.degraded_active_hc) !== 0)) degraded ? this.#degraded?.inc() : this.#degraded?.dec();
    }
    const decisive = healthFlags.failed_active_hc | healthFlags.degraded_active_hc | healthFlags.pending_active_hc;
    this.#options.onResult(host, (before & decisive) === (flags & decisive) ? "unchanged" : "changed", !failed);
  }
}

class View implements CheckedHost {
  readonly host: CheckedHost;
  flags: number;
  constructor(host: CheckedHost) {
    this.host = host;
    this.flags = host.flags & checkedFlags;
  }
  get data(): CheckedHost["data"] {
    return this.host.data;
  }
}

function makeProbe(
  cluster: CompiledCluster,
  settings: HealthCheckSettings,
  host: CheckedHost,
  callbacks: ProbeCallbacks,
  options: HealthChecksOptions,
  verifyCluster: ReturnType<typeof checkerStats>["verify_cluster"],
): Probe {
  const { check, reuseConnection } = settings;
  const { timers, runtime, random } = options;
  const dial = (data: CheckedHost["data"]): ReturnType<typeof dialForCheck> => dialForCheck(cluster, settings, data, timers);
  if (check.kind === "udp") return new UdpProbe(check, host, callbacks);
  if (check.kind !== "http" && check.kind !== "grpc") return new TcpProbe({ check, reuseConnection, dial }, host, callbacks);
  const http2 = check.kind === "grpc" || check.http2;
  const client = { http2, h1: cluster.h1, h2: cluster.h2, reuseConnection, dial: () => dial(host.data) };
  const secure = transportSocketFor(cluster, host.data).socket !== undefined;
  if (check.kind === "http") return new HttpProbe({ check, secure, clock: timers.clock, runtime, random, verifyCluster, client }, host, callbacks);
  return new GrpcProbe(
    { check, secure, addMetadata: (headers, { data }) => mutateCheck(check.metadata, headers, data, true, timers.clock), client },
    host,
    callbacks,
  );
}
