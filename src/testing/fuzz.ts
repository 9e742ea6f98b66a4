/** What a fuzz target is: the default export of a `*.fuzz.ts` beside the parser it attacks. `npm run fuzz` runs them all for a bounded time. */

export interface FuzzTarget {
  /** Inputs to start from: each should reach another corner. */
  readonly seeds: readonly (string | Uint8Array)[];
  /** Pieces that mutation splices in. */
  readonly dictionary: readonly string[];
  /** Longest input tried, bytes. */
  readonly maxBytes: number;
  /** Throws when the parser breaks a promise; refusing an input is no fault. Must be deterministic. */
  run(input: Uint8Array): void;
}

/** Pseudo-random numbers that a seed repeats (xorshift32). */
export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0 || 1;
  }

  /** 0 <= n < limit. */
  below(limit: number): number {
    let x = this.#state;
    x ^= x << 13;
    x ^= x >>> 17;
    x ^= x << 5;
    this.#state = x >>> 0;
    return this.#state % limit;
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)];
  }
}

const interestingBytes = [0x00, 0x09, 0x0a, 0x0d, 0x20, 0x22, 0x25, 0x27, 0x28, 0x2c, 0x3a, 0x5b, 0x5c, 0x7b, 0x7f, 0x80, 0xc0, 0xff];

/** One to eight changes of an input; never longer than `maxBytes`. */
export function mutate(input: Uint8Array, others: readonly Uint8Array[], dictionary: readonly Uint8Array[], maxBytes: number, random: Random): Uint8Array {
  let bytes = Buffer.from(input);
  for (let changes = 1 + random.below(8); changes > 0; changes--) {
    const at = random.below(bytes.length + 1);
    const length = 1 + random.below(Math.max(1, Math.min(64, bytes.length - at)));
    switch (random.below(8)) {
      case 0: // another byte
        if (at < bytes.length) bytes[at] = random.below(2) === 0 ? random.below(256) : random.pick(interestingBytes);
        break;
      case 1: // a flipped bit
        if (at < bytes.length) bytes[at] ^= 1 << random.below(8);
        break;
      case 2: // a piece left out
        bytes = Buffer.concat([bytes.subarray(0, at), bytes.subarray(at + length)]);
        break;
      case 3: // a piece repeated
        bytes = Buffer.concat([bytes.subarray(0, at + length), bytes.subarray(at)]);
        break;
      case 4: // cut off
        bytes = bytes.subarray(0, at);
        break;
      case 5: {
        // the end of another input
        const other = random.pick(others);
        bytes = Buffer.concat([bytes.subarray(0, at), other.subarray(random.below(other.length + 1))]);
        break;
      }
      default: // a word of the language
        if (dictionary.length > 0)
          bytes = Buffer.concat([bytes.subarray(0, at), random.pick(dictionary), bytes.subarray(random.below(2) === 0 ? at : at + length)]);
    }
    if (bytes.length > maxBytes) bytes = bytes.subarray(0, maxBytes);
  }
  return bytes;
}
