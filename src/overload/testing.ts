/** An overload manager for tests of what asks it: actions and points by name, set by hand. */
import type { StatsStore } from "../stats/stats.ts";
import { type ActionName, actionNames, type PointName, pointNames, type TimerName } from "./names.ts";
import { cellOfAction, cellOfPoint, OverloadState, overloadCells, type TimerFloor } from "./thread-state.ts";

export interface TestOverload {
  readonly state: OverloadState;
  /** How far an action or a point goes, 0..1. */
  set(name: ActionName | PointName, value: number): void;
}

export function testOverload(stats?: StatsStore, timers: ReadonlyMap<TimerName, TimerFloor> = new Map()): TestOverload {
  const cells = overloadCells();
  return {
    state: new OverloadState({ cells, points: pointNames, timers, minimumAccountPower: 10 }, stats),
    set(name, value) {
      const action = actionNames.find((known) => known === name);
      new Float64Array(cells)[action === undefined ? cellOfPoint(name as PointName) : cellOfAction(action)] = value;
    },
  };
}
