/**
 * Log-linear histograms as Envoy's (circllhist): a bin per two significant decimal digits. Bin keys: see `binKey` in stats.ts.
 * Within a bin of n values, the k-th is taken to lie at lower + width * k / (n + 1).
 */

/** Lower bound and width of a bin. */
export function binBounds(key: number): { readonly lower: number; readonly width: number } {
  if (key === 0) return { lower: 0, width: 0 };
  const exponent = Math.floor(key / 100) - 128;
  const digits = key % 100;
  // Powers of ten below one are not exact: divide by the exact one instead.
  const at = exponent - 1;
  return at >= 0 ? { lower: digits * 10 ** at, width: 10 ** at } : { lower: digits / 10 ** -at, width: 1 / 10 ** -at };
}

export interface Bin {
  readonly lower: number;
  readonly width: number;
  readonly count: number;
}

/** Recorded values over some time. */
export class Distribution {
  readonly #counts = new Map<number, number>();
  #sorted: readonly Bin[] | undefined = undefined;
  count = 0;

  add(bins: Iterable<readonly [number, number]>): void {
    for (const [key, count] of bins) {
      this.#counts.set(key, (this.#counts.get(key) ?? 0) + count);
      this.count += count;
    }
    this.#sorted = undefined;
  }

  get entries(): Iterable<readonly [number, number]> {
    return this.#counts;
  }

  /** Bins that hold something, ascending. */
  get bins(): readonly Bin[] {
    this.#sorted ??= [...this.#counts].sort(([a], [b]) => a - b).map(([key, count]) => ({ ...binBounds(key), count }));
    return this.#sorted;
  }

  /** Values at quantiles (0..1, ascending); NaN each where nothing was recorded. */
  quantiles(at: readonly number[]): number[] {
    const { bins, count: total } = this;
    if (total === 0) return at.map(() => Number.NaN);
    let index = 0;
    let before = 0;
    return at.map((q) => {
      const rank = Math.max(1, Math.ceil(q * total - 1e-9));
      while (index < bins.length - 1 && before + bins[index].count < rank) before += bins[index++].count;
      const { lower, width, count } = bins[index];
      return width === 0 ? lower : lower + (width * (rank - before)) / (count + 1);
    });
  }

  /** How many values lie at or below each bound (a bin counts as its lower bound). */
  countsBelow(bounds: readonly number[]): number[] {
    return bounds.map((bound) => {
      let below = 0;
      for (const { lower, count } of this.bins) {
        if (lower > bound) break;
        below += count;
      }
      return below;
    });
  }

  /** Sum by the bins' middles (between arithmetic and harmonic, as circllhist has it). */
  get sum(): number {
    let sum = 0;
    for (const { lower, width, count } of this.bins) if (lower > 0) sum += (lower + (width * lower) / (lower + lower + width)) * count;
    return sum;
  }
}
