/** Whether a connection should be wound up now: one decision object per worker, asked at each response and accept. */
import type { Clock } from "../net/timer-wheel.ts";

export interface DrainSettings {
  readonly drainTimeMs: number;
  readonly strategy: "Gradual" | "Immediate";
}

/**
 * not_draining -> draining (gradual: ever more likely over the drain time; immediate: at once). Apart from that, a failed health
 * check (/healthcheck/fail) closes every connection after its response, except on MODIFY_ONLY listeners.
 */
export class DrainState {
  readonly #settings: DrainSettings;
  readonly #clock: Clock;
  readonly #random: () => number;
  #startedMs: number | undefined = undefined;
  #immediate = false;
  healthFailed = false;

  constructor(settings: DrainSettings, clock: Clock, random: () => number = Math.random) {
    this.#settings = settings;
    this.#clock = clock;
    this.#random = random;
  }

  get draining(): boolean {
    return this.#startedMs !== undefined;
  }

  start(kind: "gradual" | "immediate"): void {
    this.#startedMs ??= this.#clock.now();
    this.#immediate ||= kind === "immediate" || this.#settings.strategy === "Immediate";
  }

  drainClose(modifyOnly = false): boolean {
    if (this.healthFailed && !modifyOnly) return true;
    if (this.#startedMs === undefined) return false;
    if (this.#immediate) return true;
    const elapsed = this.#clock.now() - this.#startedMs;
    return elapsed >= this.#settings.drainTimeMs || this.#random() < elapsed / this.#settings.drainTimeMs;
  }
}
