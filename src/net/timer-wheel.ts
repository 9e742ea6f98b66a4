/**
 * Timers for a worker: any number of them on one `setTimeout`. Arming and disarming one is a few pointer writes.
 * Resolution is `tickMs` (a timer never fires early, and up to one tick late).
 * Cost against setTimeout per request: see timer-wheel.bench.ts.
 */
export interface Clock {
  /** Milliseconds, monotonic, fractions kept. */
  now(): number;
  /** Milliseconds since 1970. */
  wall(): number;
}

export const systemClock: Clock = { now: () => performance.now(), wall: () => Date.now() };

const slots = 512;
const mask = slots - 1;

export class Timer {
  readonly #wheel: TimerWheel;
  readonly callback: () => void;
  /** @internal */ next: Timer | undefined = undefined;
  /** @internal */ previous: Timer | undefined = undefined;
  /** @internal */ slot = -1;
  /** @internal */ dueTick = 0;

  constructor(wheel: TimerWheel, callback: () => void) {
    this.#wheel = wheel;
    this.callback = callback;
  }

  get enabled(): boolean {
    return this.slot >= 0;
  }

  /** Fires once after `ms` milliseconds; arming an armed timer moves it. */
  enable(ms: number): void {
    this.#wheel.arm(this, ms);
  }

  disable(): void {
    if (this.slot >= 0) this.#wheel.disarm(this);
  }
}

export class TimerWheel {
  readonly clock: Clock;
  readonly tickMs: number;
  readonly #heads: (Timer | undefined)[] = new Array(slots).fill(undefined);
  #tick: number;
  #armed = 0;
  #handle: NodeJS.Timeout | undefined = undefined;
  /** The tick at which #handle fires. */
  #handleTick = Number.POSITIVE_INFINITY;

  constructor(clock: Clock = systemClock, tickMs = 5) {
    this.clock = clock;
    this.tickMs = tickMs;
    this.#tick = Math.floor(clock.now() / tickMs);
  }

  /** How many timers are armed. Tests for leaks read it. */
  get armed(): number {
    return this.#armed;
  }

  createTimer(callback: () => void): Timer {
    return new Timer(this, callback);
  }

  /** @internal */
  arm(timer: Timer, ms: number): void {
    if (timer.slot >= 0) this.#unlink(timer);
    else this.#armed++;
    const due = Math.max(Math.ceil((this.clock.now() + ms) / this.tickMs), this.#tick + 1);
    timer.dueTick = due;
    const slot = due & mask;
    timer.slot = slot;
    const head = this.#heads[slot];
    timer.next = head;
    timer.previous = undefined;
    if (head !== undefined) head.previous = timer;
    this.#heads[slot] = timer;
    if (due < this.#handleTick) this.#schedule(due);
  }

  /** @internal */
  disarm(timer: Timer): void {
    this.#unlink(timer);
    timer.slot = -1;
    this.#armed--;
  }

  /** Fires all that is due at `clock.now()`. The wheel's own ticker calls it; tests with a fake clock do. */
  advance(): void {
    const target = Math.floor(this.clock.now() / this.tickMs);
    // After a long stall one turn over the slots finds everything that is due.
    if (target - this.#tick > slots) this.#tick = target - slots;
    while (this.#tick < target) {
      this.#tick++;
      let timer = this.#heads[this.#tick & mask];
      while (timer !== undefined) {
        const next: Timer | undefined = timer.next;
        if (timer.dueTick <= target) {
          this.disarm(timer);
          timer.callback();
          // The callback may have changed this slot's list: begin it again.
          timer = this.#heads[this.#tick & mask];
        } else timer = next;
      }
    }
  }

  /** Stops the ticker; armed timers never fire. */
  stop(): void {
    if (this.#handle !== undefined) clearTimeout(this.#handle);
    this.#handle = undefined;
    this.#handleTick = Number.POSITIVE_INFINITY;
  }

  #schedule(tick: number): void {
    if (this.clock !== systemClock) return; // a fake clock is stepped by its test
    if (this.#handle !== undefined) clearTimeout(this.#handle);
    this.#handleTick = tick;
    this.#handle = setTimeout(this.#onTick, Math.max(1, Math.ceil(tick * this.tickMs - this.clock.now())));
    this.#handle.unref();
  }

  /** The next occupied slot, at most one turn ahead: an idle worker sleeps. */
  #nextOccupied(): number {
    for (let ahead = 1; ahead < slots; ahead++) {
      if (this.#heads[(this.#tick + ahead) & mask] !== undefined) return this.#tick + ahead;
    }
    return this.#tick + slots;
  }

  readonly #onTick = (): void => {
    this.#handle = undefined;
    this.#handleTick = Number.POSITIVE_INFINITY;
    this.advance();
    if (this.#armed > 0) {
      const next = this.#nextOccupied();
      if (next < this.#handleTick) this.#schedule(next);
    }
  };

  #unlink(timer: Timer): void {
    if (timer.previous !== undefined) timer.previous.next = timer.next;
    else this.#heads[timer.slot] = timer.next;
    if (timer.next !== undefined) timer.next.previous = timer.previous;
    timer.next = undefined;
    timer.previous = undefined;
  }
}
