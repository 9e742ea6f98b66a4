import assert from "node:assert/strict";
import { test } from "node:test";
import { loadBootstrap } from "../config/load.ts";
import type { Bootstrap } from "../config/schema/types/envoy.config.bootstrap.v3.d.ts";
import { StatsStore } from "../stats/stats.ts";
import { compileEventLoops, EventLoopWatch } from "./event-loop.ts";

const settings = (yaml: string) => compileEventLoops(loadBootstrap({ configYaml: yaml }).bootstrap as Bootstrap, 2);

test("threads have Envoy's limits unless the bootstrap has others", () => {
  const { main, worker } = settings("watchdogs: { main_thread_watchdog: { miss_timeout: 0.3s, kill_timeout: 2s, max_kill_timeout_jitter: 1s } }");
  assert.deepEqual(worker, { missMs: 200, megaMissMs: 1000, killMs: 0, multiKillMs: 0, multiKillPercent: 0 });
  assert.equal(main.missMs, 300);
  assert.ok(main.killMs >= 2000 && main.killMs <= 3000, `${main.killMs}`);
});

test("a loop that stood still is counted once it goes on", async () => {
  const stats = new StatsStore();
  const watch = new EventLoopWatch(settings("watchdogs: { worker_watchdog: { miss_timeout: 0.02s, megamiss_timeout: 0.04s } }"), 1, stats);
  const missed = stats.counter("server.worker_1.watchdog_mega_miss");
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 60);
  // The late beat is the first thing that the loop does.
  await new Promise<void>((done) => setTimeout(done, 0));
  watch.stop();
  assert.equal(missed.value, 1);
  assert.equal(stats.counter("workers.watchdog_miss").value, 1);
});
