/**
 * The overload manager as one thread sees it: how far each action is to go, 0 (not at all) to 1 (fully). The main thread writes, workers read
 * shared memory; asking costs no more than a look at it.
 */
import type { Counter, StatsStore } from "../stats/stats.ts";
import { type ActionName, actionNames, type PointName, pointNames, type TimerName } from "./names.ts";

/** The least a timer is shortened to: milliseconds, or a share of what is configured. */
export type TimerFloor = { readonly minMs: number } | { readonly minShare: number };

/** What every thread is told of the configuration. */
export interface OverloadSettings {
  /** A Float64 for each action, then one for each load shed point. */
  readonly cells: SharedArrayBuffer;
  /** Load shed points that are configured. */
  readonly points: readonly PointName[];
  readonly timers: ReadonlyMap<TimerName, TimerFloor>;
  /** Streams that hold fewer bytes than two to this power are not ended for the memory they hold. */
  readonly minimumAccountPower: number;
}

export function overloadCells(): SharedArrayBuffer {
  return new SharedArrayBuffer((actionNames.length + pointNames.length) * 8);
}
export const cellOfAction = (name: ActionName): number => actionNames.indexOf(name);
export const cellOfPoint = (name: PointName): number => actionNames.length + pointNames.indexOf(name);

/** At most so many streams are ended at once. */
const maxResets = 50;
/** Streams are told apart by powers of two of the bytes they hold: so many classes. */
const memoryClasses = 8;

/** A stream with what it holds in memory. */
export interface MemoryHolder {
  readonly bytes: number;
  reset(): void;
}

export class OverloadState {
  readonly #cells: Float64Array;
  readonly #settings: OverloadSettings;
  readonly #shed: readonly (Counter | undefined)[];
  readonly #resets: Counter | undefined;
  readonly #random: () => number;
  readonly #hasPoints: boolean;
  /** Whether timers may be shortened: they are then to be looked at now and then. */
  readonly scalesTimers: boolean;

  constructor(settings: OverloadSettings, stats: StatsStore | undefined, random: () => number = Math.random) {
    this.#settings = settings;
    this.#cells = new Float64Array(settings.cells);
    this.#shed = pointNames.map((name) => (settings.points.includes(name) ? stats?.counter(`overload.${name}.shed_load_count`) : undefined));
    this.#resets = stats?.counter("envoy.overload_actions.reset_high_memory_stream.count");
    this.#random = random;
    this.#hasPoints = settings.points.length > 0;
    this.scalesTimers = settings.timers.size > 0;
  }

  value(action: ActionName): number {
    return this.#cells[cellOfAction(action)];
  }

  get stopsRequests(): boolean {
    return this.#happens(0);
  }
  get disablesKeepAlive(): boolean {
    return this.#happens(1);
  }
  /** Only when fully active: an accepting socket cannot be half open. */
  get stopsConnections(): boolean {
    return this.#cells[2] >= 1;
  }
  get rejectsConnections(): boolean {
    return this.#happens(3);
  }

  /** Whether load is to be shed at this point now; counts when it is. */
  sheds(point: PointName): boolean {
    if (!this.#hasPoints) return false;
    const index = pointNames.indexOf(point);
    if (!this.#happens(actionNames.length + index)) return false;
    this.#shed[index]?.inc();
    return true;
  }

  /** What is left of a timeout (milliseconds; 0 stands for none) under the pressure of now. */
  timeout(timer: TimerName, ms: number): number {
    const floor = this.#settings.timers.get(timer);
    if (floor === undefined || ms <= 0) return ms;
    const least = Math.min(ms, "minMs" in floor ? floor.minMs : ms * floor.minShare);
    return least + (ms - least) * (1 - this.#cells[5]);
  }

  /** Ends streams that hold much memory, those that hold most first; how many. */
  resetHolders(holders: Iterable<MemoryHolder>): number {
    const pressure = this.#cells[6];
    if (pressure <= 0) return 0;
    const classesToReset = Math.min(memoryClasses, Math.floor(pressure * memoryClasses) + 1);
    const lowest = this.#settings.minimumAccountPower + memoryClasses - classesToReset;
    const found = [...holders].filter(({ bytes }) => bytes >= 2 ** lowest).sort((a, b) => b.bytes - a.bytes);
    const ended = found.slice(0, maxResets);
    for (const holder of ended) {
      this.#resets?.inc();
      holder.reset();
    }
    return ended.length;
  }

  #happens(cell: number): boolean {
    const value = this.#cells[cell];
    return value > 0 && (value >= 1 || this.#random() < value);
  }
}

/** Without an overload manager, and for the admin interface, which always answers. */
export const noOverload = new OverloadState({ cells: overloadCells(), points: [], timers: new Map(), minimumAccountPower: 20 }, undefined);
