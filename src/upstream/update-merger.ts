/**
 * common_lb_config.update_merge_window: after an update, changes of health wait for each other, and reach the workers as one at the window's end.
 * A change of membership waits for nothing.
 */
import type { Timer, TimerWheel } from "../net/timer-wheel.ts";
import type { Counter } from "../stats/stats.ts";

export interface MergeStats {
  readonly cluster_updated: Counter;
  readonly cluster_updated_via_merge: Counter;
  readonly update_merge_cancelled: Counter;
  readonly update_out_of_merge_window: Counter;
}

export class UpdateMerger {
  readonly #windowMs: number;
  readonly #timers: TimerWheel;
  readonly #stats: MergeStats;
  readonly #deliver: () => void;
  readonly #timer: Timer;
  #lastMs = Number.NEGATIVE_INFINITY;
  #levels = 1;

  /** `windowMs`: 0 merges nothing. */
  constructor(windowMs: number, timers: TimerWheel, stats: MergeStats, deliver: () => void) {
    this.#windowMs = windowMs;
    this.#timers = timers;
    this.#stats = stats;
    this.#deliver = deliver;
    this.#timer = timers.createTimer(() => {
      this.#lastMs = this.#timers.clock.now();
      this.#stats.cluster_updated_via_merge.add(this.#levels);
      this.#deliver();
    });
  }

  /** Health or the like has changed. Each priority level counts as an update of its own. */
  changed(levels: number): void {
    const now = this.#timers.clock.now();
    this.#levels = levels;
    if (this.#windowMs > 0 && now - this.#lastMs <= this.#windowMs) {
      if (!this.#timer.enabled) this.#timer.enable(this.#windowMs);
      return;
    }
    if (this.#windowMs > 0) {
      this.#stats.update_out_of_merge_window.add(levels);
      this.#cancel(levels);
      this.#lastMs = now;
    }
    this.#stats.cluster_updated.add(levels);
    this.#deliver();
  }

  /** Members came or went, and the workers know. */
  replaced(): void {
    if (this.#windowMs === 0) return;
    this.#cancel(1);
    this.#lastMs = this.#timers.clock.now();
  }

  close(): void {
    this.#timer.disable();
  }

  #cancel(levels: number): void {
    if (!this.#timer.enabled) return;
    this.#timer.disable();
    this.#stats.update_merge_cancelled.add(levels);
  }
}
