/** Stats of virtual clusters and of routes with a stat_prefix: vhost.<vhost>.vcluster.<name>.* and vhost.<vhost>.route.<prefix>.* */
import type { Counter, Histogram, StatsScope } from "../stats/stats.ts";
import type { VirtualClusterStats } from "./route.ts";

export class VirtualClusterCounters implements VirtualClusterStats {
  readonly name: string;
  readonly #scope: StatsScope;
  readonly #upstream_rq_total: Counter;
  readonly #upstream_rq_retry: Counter;
  readonly #upstream_rq_retry_limit_exceeded: Counter;
  readonly #upstream_rq_retry_overflow: Counter;
  readonly #upstream_rq_retry_success: Counter;
  readonly #upstream_rq_timeout: Counter;
  #upstream_rq_completed: Counter | undefined = undefined;
  #upstream_rq_time: Histogram | undefined = undefined;
  /** Counters of classes (index 1..5) and single codes, made when first seen. */
  readonly #classes: (Counter | undefined)[] = [undefined, undefined, undefined, undefined, undefined, undefined];
  readonly #codes = new Map<number, Counter>();

  constructor(name: string, scope: StatsScope) {
    this.name = name;
    this.#scope = scope;
    this.#upstream_rq_total = scope.counter("upstream_rq_total");
    this.#upstream_rq_retry = scope.counter("upstream_rq_retry");
    this.#upstream_rq_retry_limit_exceeded = scope.counter("upstream_rq_retry_limit_exceeded");
    this.#upstream_rq_retry_overflow = scope.counter("upstream_rq_retry_overflow");
    this.#upstream_rq_retry_success = scope.counter("upstream_rq_retry_success");
    this.#upstream_rq_timeout = scope.counter("upstream_rq_timeout");
  }

  onRequest(): void {
    this.#upstream_rq_total.inc();
  }

  onResponse(status: number): void {
    this.#upstream_rq_completed ??= this.#scope.counter("upstream_rq_completed");
    this.#upstream_rq_completed.inc();
    const group = Math.floor(status / 100);
    if (group >= 1 && group <= 5) {
      let counter = this.#classes[group];
      if (counter === undefined) {
        counter = this.#scope.counter(`upstream_rq_${group}xx`);
        this.#classes[group] = counter;
      }
      counter.inc();
    }
    let code = this.#codes.get(status);
    if (code === undefined) {
      code = this.#scope.counter(`upstream_rq_${status}`);
      this.#codes.set(status, code);
    }
    code.inc();
  }

  onResponseTime(ms: number): void {
    this.#upstream_rq_time ??= this.#scope.histogram("upstream_rq_time", "ms");
    this.#upstream_rq_time.record(ms);
  }

  onRetry(): void {
    this.#upstream_rq_retry.inc();
  }
  onRetrySuccess(): void {
    this.#upstream_rq_retry_success.inc();
  }
  onRetryOverflow(): void {
    this.#upstream_rq_retry_overflow.inc();
  }
  onRetryLimitExceeded(): void {
    this.#upstream_rq_retry_limit_exceeded.inc();
  }
  onTimeout(): void {
    this.#upstream_rq_timeout.inc();
  }
}
