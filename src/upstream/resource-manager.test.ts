import assert from "node:assert/strict";
import { test } from "node:test";
import { RuntimeSnapshot } from "../runtime/runtime.ts";
import { StatsStore } from "../stats/stats.ts";
import { CellsResourceManager, cellsSize, clearThread } from "./resource-manager.ts";
import type { Thresholds } from "./settings.ts";

const limits: Thresholds = { maxConnections: 2, maxPendingRequests: 2, maxRequests: 2, maxRetries: 1, retryBudget: undefined, trackRemaining: false };

function bed(thresholds: Partial<Thresholds> = {}) {
  const stats = new StatsStore();
  const cells = new SharedArrayBuffer(cellsSize(2));
  const runtime = { snapshot: new RuntimeSnapshot() };
  const overflow = { connections: stats.counter("cx"), pending: stats.counter("pending"), requests: stats.counter("rq"), retries: stats.counter("retry") };
  const workers = [0, 1].map(
    (thread) =>
      new CellsResourceManager({ cells, threads: 2, thread, priority: 0, limits: { ...limits, ...thresholds }, runtime, cluster: "service", overflow }),
  );
  return { workers, overflow, runtime, cells };
}

test("two workers share each limit", () => {
  const { workers, overflow, cells } = bed();
  const [a, b] = workers;
  assert.ok(a.tryAcquireRequest() && b.tryAcquireRequest());
  assert.equal(a.tryAcquireRequest(), false);
  assert.equal(overflow.requests.value, 1);
  b.releaseRequest();
  assert.ok(a.tryAcquireRequest());
  assert.ok(a.tryAcquirePending() && a.tryAcquireConnection());
  // The first worker dies: all it held is free.
  clearThread(new Int32Array(cells), 0, 2);
  assert.ok(b.tryAcquireRequest() && b.tryAcquireRequest());
  assert.equal(b.tryAcquireRequest(), false);
});

test("max_retries counts unless there is a budget: a share of what is active, and no less than its minimum", () => {
  const plain = bed().workers[0];
  assert.deepEqual([plain.tryAcquireRetry(), plain.tryAcquireRetry()], [true, false]);
  plain.releaseRetry();
  assert.ok(plain.tryAcquireRetry());

  const { workers, overflow, runtime } = bed({ maxRequests: 100, retryBudget: { percent: 20, minConcurrency: 2 } });
  const [a, b] = workers;
  assert.deepEqual([a.tryAcquireRetry(), b.tryAcquireRetry(), b.tryAcquireRetry()], [true, true, false]);
  for (let i = 0; i < 15; i++) a.tryAcquireRequest();
  assert.deepEqual([b.tryAcquireRetry(), b.tryAcquireRetry()], [true, false]);
  assert.equal(overflow.retries.value, 2);
  runtime.snapshot = new RuntimeSnapshot(new Map([["circuit_breakers.service.default.retry_budget.budget_percent", 40]]));
  assert.ok(b.tryAcquireRetry());
});
