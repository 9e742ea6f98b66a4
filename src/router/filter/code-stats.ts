/**
 * upstream_rq_<code>, upstream_rq_<class>xx, upstream_rq_completed and upstream_rq_time below a cluster, in its canary, internal,
 * external and zone categories. Envoy's CodeStats. Counters of codes are made when a code is first seen, as Envoy makes them.
 */
import type { Counter, Histogram, StatsScope } from "../../stats/stats.ts";
import type { ClusterInfo } from "../../upstream/upstream.ts";

export class CodeCounters {
  readonly #scope: StatsScope;
  #completed: Counter | undefined = undefined;
  #time: Histogram | undefined = undefined;
  readonly #classes: (Counter | undefined)[] = [undefined, undefined, undefined, undefined, undefined, undefined];
  /** By status; one array index instead of a name lookup per response. */
  readonly #codes: (Counter | undefined)[] = [];

  constructor(scope: StatsScope) {
    this.#scope = scope;
  }

  charge(status: number, withoutCodes = false): void {
    this.#completed ??= this.#scope.counter("upstream_rq_completed");
    this.#completed.inc();
    if (withoutCodes) return;
    const group = Math.floor(status / 100);
    if (group >= 1 && group <= 5) {
      let counter = this.#classes[group];
      if (counter === undefined) {
        counter = this.#scope.counter(`upstream_rq_${group}xx`);
        this.#classes[group] = counter;
      }
      counter.inc();
    }
    // A peer may answer any three digits: beyond the known classes they share one name.
    const index = group >= 1 && group <= 5 ? status : 0;
    let code = this.#codes[index];
    if (code === undefined) {
      code = this.#scope.counter(index === 0 ? "upstream_rq_unknown" : `upstream_rq_${status}`);
      this.#codes[index] = code;
    }
    code.inc();
  }

  chargeTime(ms: number): void {
    this.#time ??= this.#scope.histogram("upstream_rq_time", "ms");
    this.#time.record(ms);
  }
}

/** Answers below one prefix, split by who asked and who answered. */
export class ResponseCounters {
  readonly codes: CodeCounters;
  readonly internal: CodeCounters;
  readonly external: CodeCounters;
  protected readonly scope: StatsScope;
  #canary: CodeCounters | undefined = undefined;

  constructor(scope: StatsScope) {
    this.scope = scope;
    this.codes = new CodeCounters(scope);
    this.internal = new CodeCounters(scope.scope("internal."));
    this.external = new CodeCounters(scope.scope("external."));
  }

  get canary(): CodeCounters {
    this.#canary ??= new CodeCounters(this.scope.scope("canary."));
    return this.#canary;
  }
}

/** At most this many prefixes that requests or hosts name are counted below one cluster. */
const maxPrefixes = 256;

/** What the router counts below cluster.<name>., resolved once per cluster. */
export class ClusterCounters extends ResponseCounters {
  #retry: CodeCounters | undefined = undefined;
  #zones: Map<string, CodeCounters> | undefined = undefined;
  #alternatives: Map<string, ResponseCounters> | undefined = undefined;
  readonly timeout: Counter;
  readonly perTryTimeout: Counter;
  readonly perTryIdleTimeout: Counter;
  readonly maxDurationReached: Counter;
  readonly retryBackOffExponential: Counter;
  readonly retryBackOffRateLimited: Counter;
  readonly retryLimitExceeded: Counter;
  readonly retrySuccess: Counter;
  readonly retries: Counter;
  readonly retryOrShadowAbandoned: Counter;
  readonly redirectSucceeded: Counter;
  readonly redirectFailed: Counter;
  readonly flowBackedUp: Counter;
  readonly flowDrained: Counter;
  readonly flowPausedReading: Counter;
  readonly flowResumedReading: Counter;
  readonly maintenanceMode: Counter;
  /** Runtime key of the share of requests to refuse. */
  readonly maintenanceKey: string;
  readonly budgetPercent: Histogram | undefined;
  readonly perTryBudgetPercent: Histogram | undefined;

  constructor(name: string, scope: StatsScope, timeoutBudgets: boolean) {
    super(scope);
    this.maintenanceKey = `upstream.maintenance_mode.${name}`;
    this.maintenanceMode = scope.counter("upstream_rq_maintenance_mode");
    this.timeout = scope.counter("upstream_rq_timeout");
    this.perTryTimeout = scope.counter("upstream_rq_per_try_timeout");
    this.perTryIdleTimeout = scope.counter("upstream_rq_per_try_idle_timeout");
    this.maxDurationReached = scope.counter("upstream_rq_max_duration_reached");
    this.retryBackOffExponential = scope.counter("upstream_rq_retry_backoff_exponential");
    this.retryBackOffRateLimited = scope.counter("upstream_rq_retry_backoff_ratelimited");
    this.retryLimitExceeded = scope.counter("upstream_rq_retry_limit_exceeded");
    this.retrySuccess = scope.counter("upstream_rq_retry_success");
    this.retries = scope.counter("upstream_rq_retry");
    this.retryOrShadowAbandoned = scope.counter("retry_or_shadow_abandoned");
    this.redirectSucceeded = scope.counter("upstream_internal_redirect_succeeded_total");
    this.redirectFailed = scope.counter("upstream_internal_redirect_failed_total");
    this.flowBackedUp = scope.counter("upstream_flow_control_backed_up_total");
    this.flowDrained = scope.counter("upstream_flow_control_drained_total");
    this.flowPausedReading = scope.counter("upstream_flow_control_paused_reading_total");
    this.flowResumedReading = scope.counter("upstream_flow_control_resumed_reading_total");
    this.budgetPercent = timeoutBudgets ? scope.histogram("upstream_rq_timeout_budget_percent_used", "percent") : undefined;
    this.perTryBudgetPercent = timeoutBudgets ? scope.histogram("upstream_rq_timeout_budget_per_try_percent_used", "percent") : undefined;
  }

  /** retry.*: answers that were thrown away for another try. */
  get retried(): CodeCounters {
    this.#retry ??= new CodeCounters(this.scope.scope("retry."));
    return this.#retry;
  }

  /** zone.<from>.<to>.*; undefined where there are too many zones. */
  zone(from: string, to: string): CodeCounters | undefined {
    this.#zones ??= new Map();
    return named(this.#zones, `zone.${from}.${to}.`, (prefix) => new CodeCounters(this.scope.scope(prefix)));
  }

  /** The answers once more, below a name that the request gave (x-envoy-upstream-alt-stat-name); undefined where there are too many names. */
  alternative(name: string): ResponseCounters | undefined {
    this.#alternatives ??= new Map();
    return named(this.#alternatives, `${name}.`, (prefix) => new ResponseCounters(this.scope.scope(prefix)));
  }
}

function named<T>(known: Map<string, T>, prefix: string, make: (prefix: string) => T): T | undefined {
  let found = known.get(prefix);
  if (found === undefined && known.size < maxPrefixes) {
    found = make(prefix);
    known.set(prefix, found);
  }
  return found;
}

const byCluster = new WeakMap<ClusterInfo, ClusterCounters>();

export function clusterCounters(cluster: ClusterInfo): ClusterCounters {
  let found = byCluster.get(cluster);
  if (found === undefined) {
    found = new ClusterCounters(cluster.name, cluster.scope, cluster.timeoutBudgets);
    byCluster.set(cluster, found);
  }
  return found;
}
