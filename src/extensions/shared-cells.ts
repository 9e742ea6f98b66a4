/**
 * Memory that all workers share, for limits that hold for the whole proxy: connection counts, token buckets. The main thread makes it when it
 * validates a message, and it travels to the workers inside that message (structuredClone keeps shared memory shared).
 */

interface Holder {
  $cells?: SharedArrayBuffer;
}

/** The memory of this message: the same in every thread, zeroed at first. A message has one. */
export function sharedCells(message: object, bytes: number): SharedArrayBuffer {
  const holder = message as Holder;
  return (holder.$cells ??= new SharedArrayBuffer(bytes));
}

/** A count that may not exceed a limit. What a worker that died still held is given back by the one that takes its place. */
export class SharedCount {
  /** The sum, then each worker's share. */
  readonly #cells: Int32Array;
  readonly #own: number;

  /** `workerIndex` -1: the main thread, which only makes the memory. */
  constructor(message: object, concurrency: number, workerIndex: number) {
    this.#cells = new Int32Array(sharedCells(message, (concurrency + 1) * 4));
    this.#own = workerIndex + 1;
    if (workerIndex < 0) return;
    const left = Atomics.exchange(this.#cells, this.#own, 0);
    if (left !== 0) Atomics.sub(this.#cells, 0, left);
  }

  tryAdd(limit: number): boolean {
    if (Atomics.add(this.#cells, 0, 1) >= limit) {
      Atomics.sub(this.#cells, 0, 1);
      return false;
    }
    if (this.#own > 0) Atomics.add(this.#cells, this.#own, 1);
    return true;
  }

  remove(): void {
    Atomics.sub(this.#cells, 0, 1);
    if (this.#own > 0) Atomics.sub(this.#cells, this.#own, 1);
  }

  get value(): number {
    return Atomics.load(this.#cells, 0);
  }
}

/** A bucket that fills evenly over time, as Envoy's AtomicTokenBucketImpl: one number, the moment since which it would have filled. */
export class SharedTokenBucket {
  readonly #cells: BigInt64Array;
  readonly #nsPerToken: number;
  readonly #maxTokens: number;
  readonly #now: () => bigint;

  /** `now`: nanoseconds of a clock that all threads share. */
  constructor(message: object, maxTokens: number, tokensPerFill: number, fillIntervalMs: number, now: () => bigint = () => process.hrtime.bigint()) {
    this.#cells = new BigInt64Array(sharedCells(message, 8));
    this.#nsPerToken = (fillIntervalMs * 1e6) / tokensPerFill;
    this.#maxTokens = maxTokens;
    this.#now = now;
  }

  take(): boolean {
    for (;;) {
      const now = this.#now();
      const since = Atomics.load(this.#cells, 0);
      // Nothing was taken yet: it is full.
      const tokens = since === 0n ? this.#maxTokens : Math.min(this.#maxTokens, Number(now - since) / this.#nsPerToken);
      if (tokens < 1) return false;
      const next = now - BigInt(Math.round((tokens - 1) * this.#nsPerToken));
      if (Atomics.compareExchange(this.#cells, 0, since, next) === since) return true;
    }
  }
}
