/**
 * Memory that all workers share, for limits that hold for the whole proxy: connection counts, token buckets. The main thread makes it when it
 * validates a message, and it travels to the workers inside that message (structuredClone keeps shared memory shared).
 */
import { hash } from "node:crypto";

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

/**
 * How a bucket fills: evenly over time, as Envoy's AtomicTokenBucketImpl. The bucket itself is one cell: the moment since which it would have
 * filled up from nothing; 0 is a bucket that nothing was taken of yet, which is full.
 */
export class BucketRule {
  readonly maxTokens: number;
  readonly nsPerToken: number;

  constructor(maxTokens: number, tokensPerFill: number, fillIntervalMs: number) {
    this.maxTokens = maxTokens;
    this.nsPerToken = (fillIntervalMs * 1e6) / tokensPerFill;
  }

  /** Takes `count` tokens, or none at all. */
  take(cells: BigInt64Array, index: number, count: number, now: bigint): boolean {
    for (;;) {
      const since = Atomics.load(cells, index);
      const tokens = this.#tokens(since, now);
      if (tokens < count) return false;
      const next = now - BigInt(Math.round((tokens - count) * this.nsPerToken));
      if (Atomics.compareExchange(cells, index, since, next) === since) return true;
    }
  }

  /** Tokens that are there, with parts of one. */
  available(cells: BigInt64Array, index: number, now: bigint): number {
    return this.#tokens(Atomics.load(cells, index), now);
  }

  #tokens(since: bigint, now: bigint): number {
    return since === 0n ? this.maxTokens : Math.min(this.maxTokens, Number(now - since) / this.nsPerToken);
  }
}

/** A bucket of all workers. */
export class SharedTokenBucket {
  readonly rule: BucketRule;
  readonly #cells: BigInt64Array;
  readonly #now: () => bigint;

  /** `now`: nanoseconds of a clock that all threads share. `owner`: the message whose bucket it is; undefined: one of this thread alone. */
  constructor(owner: object | undefined, rule: BucketRule, now: () => bigint = () => process.hrtime.bigint()) {
    this.rule = rule;
    this.#cells = owner === undefined ? new BigInt64Array(1) : new BigInt64Array(sharedCells(owner, 8));
    this.#now = now;
  }

  take(count = 1): boolean {
    return this.rule.take(this.#cells, 0, count, this.#now());
  }

  get available(): number {
    return this.rule.available(this.#cells, 0, this.#now());
  }
}

/** Buckets to a set: a search looks at all of one set. */
const maxWays = 32;

/**
 * Buckets by name, of all workers, as many as there is room for: the one that was used least recently gives way. Names are kept as 64 bits of a
 * digest, so nobody can choose one that meets another's.
 */
export class SharedBucketTable {
  readonly #rule: BucketRule;
  readonly #now: () => bigint;
  readonly #ways: number;
  readonly #sets: number;
  /** The moments, one a slot. */
  readonly #cells: BigInt64Array;
  /** Name digests, one a slot; 0 is a free one. */
  readonly #names: BigInt64Array;
  /** When each was used last, in uses of the table; the last cell counts them. */
  readonly #used: Int32Array;

  constructor(owner: object, capacity: number, rule: BucketRule, now: () => bigint = () => process.hrtime.bigint()) {
    this.#rule = rule;
    this.#now = now;
    this.#ways = Math.min(capacity, maxWays);
    this.#sets = Math.ceil(capacity / this.#ways);
    const slots = this.#ways * this.#sets;
    const memory = sharedCells(owner, slots * 20 + 4);
    this.#cells = new BigInt64Array(memory, 0, slots);
    this.#names = new BigInt64Array(memory, slots * 8, slots);
    this.#used = new Int32Array(memory, slots * 16, slots + 1);
  }

  /** The bucket of a name. It may become another's once some other names have been asked for: do not keep it. */
  bucket(name: string): Pick<SharedTokenBucket, "rule" | "take" | "available"> {
    const digest = hash("sha256", name, "buffer").readBigInt64LE() || 1n;
    const index = this.#find(digest);
    const [rule, cells, now] = [this.#rule, this.#cells, this.#now];
    return {
      rule,
      take: (count = 1) => rule.take(cells, index, count, now()),
      get available() {
        return rule.available(cells, index, now());
      },
    };
  }

  #find(digest: bigint): number {
    const names = this.#names;
    const used = this.#used;
    const first = Number(BigInt.asUintN(32, digest) % BigInt(this.#sets)) * this.#ways;
    const end = first + this.#ways;
    const time = Atomics.add(used, used.length - 1, 1) + 1;
    let oldest = first;
    let age = -1;
    for (let i = first; i < end; i++) {
      const name = Atomics.load(names, i);
      if (name === digest) {
        Atomics.store(used, i, time);
        return i;
      }
      // The count wraps: what is asked is how long ago it was.
      const since = name === 0n ? 0x1_0000_0000 : (time - Atomics.load(used, i)) >>> 0;
      if (since > age) [oldest, age] = [i, since];
    }
    Atomics.store(names, oldest, digest);
    Atomics.store(this.#cells, oldest, 0n);
    Atomics.store(used, oldest, time);
    return oldest;
  }
}
