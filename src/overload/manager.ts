/** The overload manager on the main thread: reads resources at an interval, and sets how far each action goes. */
import type { Runtime } from "../runtime/runtime.ts";
import type { Counter, Gauge, Histogram, StatsStore } from "../stats/stats.ts";
import type { CompiledOverload, CompiledTrigger, ResourceMonitor } from "./compile.ts";
import { type ActionName, type PointName, pointNames } from "./names.ts";
import { cellOfAction, cellOfPoint } from "./thread-state.ts";

export interface OverloadManagerOptions {
  readonly stats: StatsStore;
  readonly runtime: Runtime;
  /** Milliseconds, monotonic. */
  readonly now: () => number;
  /** These actions go further or less far than before. Workers see it in shared memory; some things are to be done at once. */
  onChange(actions: ReadonlySet<ActionName>): void;
  /** Gives free memory back to the system, all but so many bytes. */
  shrinkHeap(keepBytes: number): void;
}

interface Resource {
  readonly monitor: ResourceMonitor;
  readonly pressure: Gauge;
  readonly failed: Counter;
  readonly users: readonly { readonly state: TriggeredState; readonly trigger: CompiledTrigger; readonly index: number }[];
}

/** An action or a load shed point, with what each of its triggers says. */
interface TriggeredState {
  readonly action: ActionName | undefined;
  readonly cell: number;
  readonly values: number[];
  value: number;
  readonly active: Gauge | undefined;
  readonly scale: Gauge;
}

export class OverloadManager {
  readonly #options: OverloadManagerOptions;
  readonly #compiled: CompiledOverload;
  readonly #cells: Float64Array;
  readonly #resources: readonly Resource[];
  readonly #shrinkable: TriggeredState | undefined;
  readonly #shrinks: Counter | undefined;
  readonly #delay: Histogram;
  #measuredAt: number;
  #shrunkAt: number;
  #timer: NodeJS.Timeout | undefined;

  constructor(compiled: CompiledOverload, options: OverloadManagerOptions) {
    const { stats } = options;
    this.#options = options;
    this.#compiled = compiled;
    this.#cells = new Float64Array(compiled.settings.cells);
    this.#measuredAt = options.now();
    this.#shrunkAt = this.#measuredAt;
    this.#delay = stats.histogram("overload.refresh_interval_delay", "ms");
    const states: { readonly state: TriggeredState; readonly triggers: readonly CompiledTrigger[] }[] = [];
    for (const { name, triggers } of compiled.actions) {
      const scope = stats.scope(`overload.${name}.`);
      const [active, scale] = [scope.gauge("active"), scope.gauge("scale_percent")];
      active.set(0);
      scale.set(0);
      states.push({ state: { action: name, cell: cellOfAction(name), values: triggers.map(() => 0), value: 0, active, scale }, triggers });
    }
    for (const { name, triggers } of compiled.points) {
      const known = (pointNames as readonly string[]).includes(name);
      const scale = stats.gauge(`overload.${name}.scale_percent`);
      scale.set(0);
      stats.counter(`overload.${name}.shed_load_count`);
      const cell = known ? cellOfPoint(name as PointName) : -1;
      states.push({ state: { action: undefined, cell, values: triggers.map(() => 0), value: 0, active: undefined, scale }, triggers });
    }
    this.#shrinkable = states.find(({ state }) => state.action === "envoy.overload_actions.shrink_heap")?.state;
    this.#shrinks = this.#shrinkable === undefined ? undefined : stats.counter("overload.envoy.overload_actions.shrink_heap.shrink_count");
    this.#resources = compiled.monitors.flatMap(({ name, create }) => {
      const scope = stats.scope(`overload.${name}.`);
      const pressure = scope.gauge("pressure");
      const failed = scope.counter("failed_updates");
      scope.counter("skipped_updates");
      pressure.set(0);
      const users = states.flatMap(({ state, triggers }) =>
        triggers.flatMap((trigger, index) => (trigger.resource === name ? [{ state, trigger, index }] : [])),
      );
      return create === undefined ? [] : [{ monitor: create({ runtime: options.runtime }), pressure, failed, users }];
    });
  }

  /** Refreshes at the interval; without resources there is nothing to do. */
  start(): void {
    if (this.#compiled.monitors.length === 0) return;
    this.#measuredAt = this.#options.now();
    this.#timer = setInterval(() => this.refresh(), this.#compiled.refreshIntervalMs);
    this.#timer.unref();
  }

  stop(): void {
    clearInterval(this.#timer);
    for (const { monitor } of this.#resources) monitor.close?.();
  }

  /** How far an action goes, 0..1. */
  value(action: ActionName): number {
    return this.#cells[cellOfAction(action)];
  }

  /** Reads all resources now. */
  refresh(): void {
    const changed = new Set<ActionName>();
    for (const resource of this.#resources) this.#read(resource, changed);
    const now = this.#options.now();
    this.#delay.record(Math.round(now - this.#measuredAt));
    this.#measuredAt = now;
    if (changed.size > 0) this.#options.onChange(changed);
    this.#shrink(now);
  }

  #read({ monitor, pressure, failed, users }: Resource, changed: Set<ActionName>): void {
    let value: number;
    try {
      value = monitor.read();
    } catch {
      // What was known last goes on.
      failed.inc();
      return;
    }
    pressure.set(Math.trunc(value * 100));
    for (const { state, trigger, index } of users) {
      state.values[index] = trigger.valueAt(value);
      const next = Math.max(...state.values);
      if (next === state.value) continue;
      state.value = next;
      if (state.cell >= 0) this.#cells[state.cell] = next;
      state.active?.set(next >= 1 ? 1 : 0);
      state.scale.set(Math.trunc(next * 100));
      if (state.action !== undefined) changed.add(state.action);
    }
  }

  #shrink(now: number): void {
    const { intervalMs, keepBytes } = this.#compiled.shrink;
    if (this.#shrinks === undefined || now - this.#shrunkAt < intervalMs) return;
    this.#shrunkAt = now;
    if (this.#shrinkable === undefined || this.#shrinkable.value < 1) return;
    this.#shrinks.inc();
    this.#options.shrinkHeap(keepBytes);
  }
}
