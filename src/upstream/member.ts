/** A member of a cluster on the main thread, where hosts are watched: who it is for the workers, and what is known against it. */
import { column, type HostCells } from "./host-cells.ts";
import { coarseHealth, healthFlags, isExcluded } from "./host-health.ts";
import type { HostData } from "./hosts.ts";

let nextId = 1;

/** What a host adds to membership statistics. */
export type Counted = "healthy" | "degraded" | "unhealthy" | "healthy excluded" | "degraded excluded" | "unhealthy excluded";

export function countedAs(flags: number): Counted {
  const health = coarseHealth(flags);
  return isExcluded(flags) ? `${health} excluded` : health;
}

export class Member {
  /** Never given twice: what workers say late of a host that is gone reaches nobody. */
  readonly id = nextId++;
  readonly row: number;
  readonly cells: HostCells;
  data: HostData;
  /** How it was counted last: membership statistics. */
  counted: Counted | undefined = undefined;

  constructor(data: HostData, row: number, cells: HostCells, flags: number) {
    this.data = data;
    this.row = row;
    this.cells = cells;
    this.flags = flags;
  }

  /** See host-health.ts. Workers read them when they are told to. */
  get flags(): number {
    return this.cells.get(column.flags);
  }
  set flags(flags: number) {
    this.cells.set(column.flags, flags);
  }

  has(flag: keyof typeof healthFlags): boolean {
    return (this.flags & healthFlags[flag]) !== 0;
  }
}
