/** How long to wait before a service that has ended is started again, and when to give up. Time comes from the caller. */
import type { ServiceSettings } from "./settings.ts";

/** Least time between two starts, milliseconds; daemontools' second. */
export const START_PACE_MS = 1000;
/** A run shorter than this counts as a crash, longer ones end a series of them. */
const SHORT_RUN_MS = 10_000;
/** A crash loop is told of at this many short runs in a row, and again each time it has grown tenfold. */
const LOOP_LENGTH = 5;

export class Pacing {
  #shortRuns = 0;
  #loopSince = 0;
  #tellAt = LOOP_LENGTH;
  #ends: number[] = [];

  /** The service ended at `now` after `ranMs`; both milliseconds of one clock that never goes back. */
  noteEnd(now: number, ranMs: number, deathLimit: ServiceSettings["deathLimit"]): void {
    if (ranMs >= SHORT_RUN_MS) {
      this.#shortRuns = 0;
      this.#tellAt = LOOP_LENGTH;
    } else {
      if (this.#shortRuns === 0) this.#loopSince = now - ranMs;
      this.#shortRuns++;
    }
    if (deathLimit === undefined) {
      this.#ends = [];
      return;
    }
    this.#ends.push(now);
    this.#ends = this.#ends.filter((at) => at > now - deathLimit.within).slice(-deathLimit.count);
  }

  hasReached(deathLimit: ServiceSettings["deathLimit"]): boolean {
    return deathLimit !== undefined && this.#ends.length >= deathLimit.count;
  }

  /** Milliseconds from the last start to the next: a second, or with a back-off twice as long for every short run in a row. */
  pause(backoff: number): number {
    if (backoff === 0 || this.#shortRuns < 2) return START_PACE_MS;
    return Math.min(backoff, START_PACE_MS * 2 ** Math.min(this.#shortRuns - 1, 30));
  }

  /** "5 times in 6 seconds" when a crash loop has just become worth telling. */
  crashLoop(now: number): string | undefined {
    if (this.#shortRuns < this.#tellAt) return undefined;
    this.#tellAt *= 10;
    return `${this.#shortRuns} times in ${Math.max(1, Math.round((now - this.#loopSince) / 1000))} seconds`;
  }

  /** Somebody asked for a start: what was before no longer counts. */
  reset(): void {
    this.#shortRuns = 0;
    this.#tellAt = LOOP_LENGTH;
    this.#ends = [];
  }
}
