/**
 * Watches the event loops of all threads: `watchdogs` of the bootstrap (which thread stood still, and whether the process must end for it) and
 * `enable_dispatcher_stats` (how long a turn of a loop takes).
 *
 * Each thread has a cell in shared memory that it sets to the time of its last beat. A thread that was late counts that itself, once it goes on;
 * only the end of the process is decided by another thread: workers are watched by the main thread, the main thread by worker 0.
 */
import { writeSync } from "node:fs";
import { performance } from "node:perf_hooks";
import { durationMs } from "../config/message.ts";
import type { Bootstrap, Watchdog } from "../config/schema/types/envoy.config.bootstrap.v3.d.ts";
import type { Counter, Histogram, StatsStore } from "../stats/stats.ts";

/** Envoy's defaults; 0 stands for never. All in milliseconds. */
interface WatchdogSettings {
  readonly missMs: number;
  readonly megaMissMs: number;
  readonly killMs: number;
  readonly multiKillMs: number;
  /** Per cent of the threads watched. */
  readonly multiKillPercent: number;
}

export interface EventLoopSettings {
  readonly main: WatchdogSettings;
  readonly worker: WatchdogSettings;
  readonly dispatcherStats: boolean;
  /** Milliseconds since `origin` of the last beat: the main thread's, then each worker's. -1: does not run yet. */
  readonly beats: Int32Array;
  readonly origin: number;
}

export function compileEventLoops(bootstrap: Bootstrap, concurrency: number): EventLoopSettings {
  // The older `watchdog` is for all threads.
  const { watchdog, watchdogs } = bootstrap;
  return {
    main: compileWatchdog(watchdogs?.mainThreadWatchdog ?? watchdog),
    worker: compileWatchdog(watchdogs?.workerWatchdog ?? watchdog),
    dispatcherStats: bootstrap.enableDispatcherStats,
    beats: new Int32Array(new SharedArrayBuffer(4 * (concurrency + 1))).fill(-1),
    origin: performance.timeOrigin + performance.now(),
  };
}

function compileWatchdog(message: Watchdog | undefined): WatchdogSettings {
  const killMs = durationMs(message?.killTimeout, 0);
  return {
    missMs: durationMs(message?.missTimeout, 200),
    megaMissMs: durationMs(message?.megamissTimeout, 1000),
    // The jitter keeps a fleet from ending at once.
    killMs: killMs === 0 ? 0 : killMs + Math.random() * durationMs(message?.maxKillTimeoutJitter, 0),
    multiKillMs: durationMs(message?.multikillTimeout, 0),
    multiKillPercent: message?.multikillThreshold?.value ?? 0,
  };
}

/** How often a loop's turns are averaged. */
const sampleMs = 1000;

export class EventLoopWatch {
  readonly #settings: EventLoopSettings;
  readonly #cell: number;
  readonly #own: WatchdogSettings;
  readonly #miss: readonly Counter[];
  readonly #megaMiss: readonly Counter[];
  readonly #beat: NodeJS.Timeout;
  readonly #sample: NodeJS.Timeout | undefined;
  #last: number;

  /** `worker`: its index, -1 for the main thread. */
  constructor(settings: EventLoopSettings, worker: number, stats: StatsStore) {
    this.#settings = settings;
    this.#cell = worker + 1;
    this.#own = worker < 0 ? settings.main : settings.worker;
    const names = worker < 0 ? ["main_thread.", "server.main_thread."] : ["workers.", `server.worker_${worker}.`];
    this.#miss = names.map((name) => stats.counter(`${name}watchdog_miss`));
    this.#megaMiss = names.map((name) => stats.counter(`${name}watchdog_mega_miss`));
    this.#last = this.#now();
    const { missMs, megaMissMs, killMs, multiKillMs } = this.#own;
    const shortest = Math.min(...[missMs, megaMissMs, killMs, multiKillMs].filter((ms) => ms > 0));
    this.#beat = setInterval(() => this.#onBeat(), Math.min(1000, Math.max(10, shortest / 2))).unref();
    if (settings.dispatcherStats) {
      const scope = stats.scope(worker < 0 ? "server.dispatcher." : `listener_manager.worker_${worker}.dispatcher.`);
      this.#sample = sampleTurns(scope.histogram("loop_duration_us", "us"), scope.histogram("poll_delay_us", "us"));
    }
  }

  stop(): void {
    clearInterval(this.#beat);
    if (this.#sample !== undefined) clearInterval(this.#sample);
    Atomics.store(this.#settings.beats, this.#cell, -1);
  }

  #now(): number {
    return performance.timeOrigin + performance.now() - this.#settings.origin;
  }

  #onBeat(): void {
    const now = this.#now();
    const sinceMs = now - this.#last;
    this.#last = now;
    Atomics.store(this.#settings.beats, this.#cell, Math.trunc(now));
    if (sinceMs > this.#own.missMs) for (const counter of this.#miss) counter.inc();
    if (sinceMs > this.#own.megaMissMs) for (const counter of this.#megaMiss) counter.inc();
    if (this.#cell === 0) this.#watch(now, 1, this.#settings.beats.length, this.#settings.worker);
    else if (this.#cell === 1) this.#watch(now, 0, 1, this.#settings.main);
  }

  /** Looks at other threads' beats, and ends the process where one, or too many, stand still for too long. */
  #watch(now: number, from: number, to: number, settings: WatchdogSettings): void {
    const { killMs, multiKillMs, multiKillPercent } = settings;
    if (killMs === 0 && multiKillMs === 0) return;
    let still = 0;
    for (let cell = from; cell < to; cell++) {
      const beat = Atomics.load(this.#settings.beats, cell);
      if (beat < 0) continue;
      const sinceMs = now - beat;
      if (killMs > 0 && sinceMs > killMs) abort(`${nameOf(cell)} has not moved for ${Math.round(sinceMs)} ms`);
      if (multiKillMs > 0 && sinceMs > multiKillMs) still++;
    }
    // As in Envoy, two at least.
    if (multiKillMs > 0 && still >= Math.max(2, Math.ceil(((to - from) * multiKillPercent) / 100)))
      abort(`${still} threads have not moved for ${Math.round(multiKillMs)} ms`);
  }
}

function nameOf(cell: number): string {
  return cell === 0 ? "the main thread" : `worker_${cell - 1}`;
}

/** The log may belong to the thread that stands still: this goes to standard error, and a supervisor starts the process again. */
function abort(why: string): void {
  writeSync(2, `watchdog: ${why}: ending the process\n`);
  process.kill(process.pid, "SIGABRT");
}

/** libuv tells how many turns there were and how long they took in all; measuring each would cost more than many of them. */
function sampleTurns(duration: Histogram, delay: Histogram): NodeJS.Timeout {
  let turns = performance.nodeTiming.uvMetricsInfo.loopCount;
  let utilization = performance.eventLoopUtilization();
  let last = performance.now();
  return setInterval(() => {
    const now = performance.now();
    const count = performance.nodeTiming.uvMetricsInfo.loopCount;
    const next = performance.eventLoopUtilization();
    if (count > turns) duration.record(Math.round(((next.active - utilization.active) * 1000) / (count - turns)));
    delay.record(Math.max(0, Math.round((now - last - sampleMs) * 1000)));
    turns = count;
    utilization = next;
    last = now;
  }, sampleMs).unref();
}
