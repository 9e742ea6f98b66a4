/**
 * Circuit breakers. Limits hold for the whole process, as Envoy's: each worker counts in its own cells of shared memory and looks at the sum.
 * Two workers that look at the same moment may both take the last place; a limit is exceeded by less than the number of workers.
 */
import type { Runtime } from "../runtime/runtime.ts";
import type { Counter } from "../stats/stats.ts";
import type { Thresholds } from "./settings.ts";
import type { ResourceManager, ResourceName } from "./upstream.ts";

export const resourceNames = ["connections", "pending", "requests", "retries"] as const;
const connections = 0;
const pending = 1;
const requests = 2;
const retries = 3;
const perPriority = resourceNames.length;

/** Bytes for both priorities and `threads` threads. */
export function cellsSize(threads: number): number {
  return 2 * perPriority * threads * 4;
}

/** Sum over all threads of one resource. */
export function readCells(cells: Int32Array, priority: 0 | 1, resource: number, threads: number): number {
  const from = (priority * perPriority + resource) * threads;
  let sum = 0;
  for (let i = 0; i < threads; i++) sum += cells[from + i];
  return sum;
}

/** What a dead worker held is free again. */
export function clearThread(cells: Int32Array, thread: number, threads: number): void {
  for (let i = 0; i < 2 * perPriority; i++) cells[i * threads + thread] = 0;
}

export class CellsResourceManager implements ResourceManager {
  #cells: Int32Array;
  readonly #threads: number;
  readonly #thread: number;
  readonly #priority: 0 | 1;
  readonly #limits: Thresholds;
  readonly #runtime: Runtime;
  readonly #keys: readonly string[];
  readonly #budgetKeys: readonly [string, string];
  readonly #overflow: { readonly connections: Counter; readonly pending: Counter; readonly requests: Counter; readonly retries: Counter };

  constructor(options: {
    readonly cells: SharedArrayBuffer;
    readonly threads: number;
    readonly thread: number;
    readonly priority: 0 | 1;
    readonly limits: Thresholds;
    readonly runtime: Runtime;
    readonly cluster: string;
    readonly overflow: { readonly connections: Counter; readonly pending: Counter; readonly requests: Counter; readonly retries: Counter };
  }) {
    this.#cells = new Int32Array(options.cells);
    this.#threads = options.threads;
    this.#thread = options.thread;
    this.#priority = options.priority;
    this.#limits = options.limits;
    this.#runtime = options.runtime;
    this.#overflow = options.overflow;
    const prefix = `circuit_breakers.${options.cluster}.${options.priority === 0 ? "default" : "high"}`;
    this.#keys = ["max_connections", "max_pending_requests", "max_requests", "max_retries"].map((name) => `${prefix}.${name}`);
    this.#budgetKeys = [`${prefix}.retry_budget.budget_percent`, `${prefix}.retry_budget.min_retry_concurrency`];
  }

  #take(resource: number, limit: number): boolean {
    const at = (this.#priority * perPriority + resource) * this.#threads;
    const cells = this.#cells;
    let sum = 0;
    for (let i = 0; i < this.#threads; i++) sum += cells[at + i];
    if (sum >= this.#runtime.snapshot.integer(this.#keys[resource], limit)) return false;
    cells[at + this.#thread]++;
    return true;
  }
  #give(resource: number): void {
    this.#cells[(this.#priority * perPriority + resource) * this.#threads + this.#thread]--;
  }
  #sum(resource: number): number {
    return readCells(this.#cells, this.#priority, resource, this.#threads);
  }

  inUse(resource: ResourceName): number {
    return this.#sum(resourceNames.indexOf(resource));
  }

  tryAcquireRequest(): boolean {
    if (this.#take(requests, this.#limits.maxRequests)) return true;
    this.#overflow.requests.inc();
    return false;
  }
  releaseRequest(): void {
    this.#give(requests);
  }
  tryAcquirePending(): boolean {
    if (this.#take(pending, this.#limits.maxPendingRequests)) return true;
    this.#overflow.pending.inc();
    return false;
  }
  releasePending(): void {
    this.#give(pending);
  }
  tryAcquireConnection(): boolean {
    if (this.#take(connections, this.#limits.maxConnections)) return true;
    this.#overflow.connections.inc();
    return false;
  }
  /** Beyond the limit: a pool that has no connection at all may have one. */
  acquireConnection(): void {
    this.#cells[(this.#priority * perPriority + connections) * this.#threads + this.#thread]++;
  }
  releaseConnection(): void {
    this.#give(connections);
  }
  tryAcquireRetry(): boolean {
    let limit = this.#limits.maxRetries;
    const budget = this.#limits.retryBudget;
    const { snapshot } = this.#runtime;
    if (budget !== undefined) {
      const active = this.#sum(requests) + this.#sum(pending);
      limit = Math.max(
        Math.floor((active * snapshot.number(this.#budgetKeys[0], budget.percent)) / 100),
        snapshot.integer(this.#budgetKeys[1], budget.minConcurrency),
      );
    }
    if (this.#take(retries, limit)) return true;
    this.#overflow.retries.inc();
    return false;
  }
  releaseRetry(): void {
    this.#give(retries);
  }
}
