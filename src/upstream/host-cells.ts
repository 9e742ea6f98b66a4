/**
 * Numbers of each host that all threads share: its health (written by the main thread) and what outlier detection counts (added to by the
 * workers, as if they were one). Hosts have a row in slabs that live as long as the cluster.
 */

/** Columns of a row. */
export const column = {
  flags: 0,
  consecutive5xx: 1,
  consecutiveGatewayFailure: 2,
  consecutiveLocalOriginFailure: 3,
  /** Since the last interval of the detector. */
  externalSuccesses: 4,
  externalTotal: 5,
  localSuccesses: 6,
  localTotal: 7,
} as const;
export type Column = (typeof column)[keyof typeof column];

const columns = 8;
const rowsPerSlab = 256;
/** Requests to a host that is gone may still end and be counted in its row: it is given to another host only after this long. */
const quarantineMs = 600_000;

/** One host's row. */
export class HostCells {
  readonly #slab: Int32Array;
  readonly #base: number;

  constructor(slab: Int32Array, base: number) {
    this.#slab = slab;
    this.#base = base;
  }

  get(at: Column): number {
    return Atomics.load(this.#slab, this.#base + at);
  }
  set(at: Column, value: number): void {
    Atomics.store(this.#slab, this.#base + at, value);
  }
  /** The value before. */
  add(at: Column, delta: number): number {
    return Atomics.add(this.#slab, this.#base + at, delta);
  }
  /** The value, which becomes 0. */
  take(at: Column): number {
    return Atomics.exchange(this.#slab, this.#base + at, 0);
  }
}

export function cellsAt(slabs: readonly Int32Array[], row: number): HostCells {
  return new HostCells(slabs[Math.floor(row / rowsPerSlab)], (row % rowsPerSlab) * columns);
}

/** The main thread's: gives rows to hosts. */
export class HostCellTable {
  readonly buffers: SharedArrayBuffer[] = [];
  readonly #slabs: Int32Array[] = [];
  readonly #free: { readonly row: number; readonly sinceMs: number }[] = [];
  #used = 0;

  /** A row of zeros. */
  allocate(nowMs: number): number {
    if (this.#free.length > 0 && nowMs - this.#free[0].sinceMs >= quarantineMs) {
      const { row } = this.#free.shift() as { row: number };
      const cells = this.at(row);
      for (const at of Object.values(column)) cells.set(at, 0);
      return row;
    }
    if (this.#used === this.#slabs.length * rowsPerSlab) {
      const buffer = new SharedArrayBuffer(rowsPerSlab * columns * Int32Array.BYTES_PER_ELEMENT);
      this.buffers.push(buffer);
      this.#slabs.push(new Int32Array(buffer));
    }
    return this.#used++;
  }

  release(row: number, nowMs: number): void {
    this.#free.push({ row, sinceMs: nowMs });
  }

  at(row: number): HostCells {
    return cellsAt(this.#slabs, row);
  }
}
