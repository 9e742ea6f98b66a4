/**
 * overload_manager of the bootstrap, checked and compiled.
 * https://www.envoyproxy.io/docs/envoy/latest/configuration/operations/overload_manager/overload_manager
 */
import { type AnyMessage, durationMs, isMessage } from "../config/message.ts";
import type { Bootstrap } from "../config/schema/types/envoy.config.bootstrap.v3.d.ts";
import type {
  LoadShedPoint,
  OverloadAction,
  ScaleTimersOverloadActionConfig,
  ShrinkHeapConfig,
  Trigger,
} from "../config/schema/types/envoy.config.overload.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import type { Runtime } from "../runtime/runtime.ts";
import { type ActionName, actionNames, type PointName, pointNames, type TimerName, timerNames } from "./names.ts";
import { type OverloadSettings, overloadCells, type TimerFloor } from "./thread-state.ts";

const pkg = "envoy.config.overload.v3.";

export const honours: Honours = {
  "envoy.config.bootstrap.v3.Bootstrap": ["overload_manager"],
  [`${pkg}OverloadManager`]: "*",
  [`${pkg}ResourceMonitor`]: "*",
  [`${pkg}OverloadAction`]: "*",
  [`${pkg}Trigger`]: "*",
  [`${pkg}ThresholdTrigger`]: "*",
  [`${pkg}ScaledTrigger`]: "*",
  [`${pkg}LoadShedPoint`]: "*",
  [`${pkg}BufferFactoryConfig`]: "*",
  [`${pkg}ScaleTimersOverloadActionConfig`]: "*",
  [`${pkg}ScaleTimersOverloadActionConfig.ScaleTimer`]: "*",
  [`${pkg}ShrinkHeapConfig`]: "*",
};

/** Watches one resource. */
export interface ResourceMonitor {
  /** Pressure, 0 (none) to 1 (all is used) and beyond. Throws an Error that says why it cannot be told. */
  read(): number;
  close?(): void;
}
export type ResourceMonitorFactory = (environment: { readonly runtime: Runtime }) => ResourceMonitor;

export interface ResourceMonitorExtension {
  /** undefined: a resource whose limit is asked at each use; nothing is to be read, and load shed points cannot ask for it. */
  compile?(message: AnyMessage, context: CompileContext): ResourceMonitorFactory | undefined;
}

/** How far a resource's pressure takes an action. */
export interface CompiledTrigger {
  readonly resource: string;
  /** 0..1. */
  valueAt(pressure: number): number;
}

export interface CompiledOverload {
  readonly refreshIntervalMs: number;
  readonly monitors: readonly { readonly name: string; readonly create: ResourceMonitorFactory | undefined }[];
  readonly actions: readonly { readonly name: ActionName; readonly triggers: readonly CompiledTrigger[] }[];
  /** Names that no version knows are counted, and never asked. */
  readonly points: readonly { readonly name: string; readonly triggers: readonly CompiledTrigger[] }[];
  /** shrink_heap: how often, and how much of free memory is left alone. */
  readonly shrink: { readonly intervalMs: number; readonly keepBytes: number };
  readonly settings: OverloadSettings;
}

const mebi = 1024 * 1024;

/** Points of Envoy's at places that this proxy does not have. */
const absentPoints: readonly string[] = [
  "envoy.load_shed_points.http3_server_go_away_on_dispatch",
  "envoy.load_shed_points.http3_server_go_away_and_close_on_dispatch",
];

export function compileOverload(bootstrap: Bootstrap, context: CompileContext): CompiledOverload {
  const message = bootstrap.overloadManager;
  const monitors = new Map<string, ResourceMonitorFactory | undefined>();
  for (const monitor of message?.resourceMonitors ?? []) {
    const config = monitor.configType.value;
    if (monitors.has(monitor.name)) refuse(context, monitor, "name", `Duplicate resource monitor ${monitor.name}`, "watch each resource once");
    const extension = context.extension("envoy.resource_monitors", config, monitor, "typed_config", monitor.name);
    monitors.set(monitor.name, config === undefined ? undefined : extension?.resourceMonitor?.compile?.(config, context));
  }
  const actions = new Map<ActionName, readonly CompiledTrigger[]>();
  let timers: ReadonlyMap<TimerName, TimerFloor> = new Map();
  let shrink = { intervalMs: 10_000, keepBytes: 100 * mebi };
  for (const action of message?.actions ?? []) {
    const name = actionNames.find((known) => known === action.name);
    if (name === undefined) {
      refuse(context, action, "name", `Unknown Overload Manager Action ${action.name}`, `actions are ${actionNames.join(", ")}`);
      continue;
    }
    if (actions.has(name)) refuse(context, action, "name", `Duplicate overload action ${name}`, "put all triggers into one");
    actions.set(
      name,
      compileTriggers(action, `overload action ${name}`, (resource) => monitors.has(resource), context),
    );
    if (name === "envoy.overload_actions.reduce_timeouts") timers = compileTimers(action, context);
    else if (name === "envoy.overload_actions.shrink_heap" && isMessage<ShrinkHeapConfig>(action.typedConfig, `${pkg}ShrinkHeapConfig`)) {
      const { timerInterval, maxUnfreedMemoryBytes } = action.typedConfig;
      shrink = { intervalMs: durationMs(timerInterval, 10_000), keepBytes: Number(maxUnfreedMemoryBytes ?? BigInt(100 * mebi)) };
    } else if (action.typedConfig !== undefined)
      refuse(context, action, "typed_config", `Overload action name "${name}" conflicts with its typed config`, "this action has no such settings");
    if (name === "envoy.overload_actions.reset_high_memory_stream" && message?.bufferFactoryConfig === undefined)
      refuse(
        context,
        action,
        "name",
        `Overload action "${name}" requires buffer_factory_config.`,
        "overload_manager: { buffer_factory_config: { minimum_account_to_track_power_of_two: 20 } }",
      );
  }
  const points = new Map<string, readonly CompiledTrigger[]>();
  for (const point of message?.loadshedPoints ?? []) {
    const { name } = point;
    if (points.has(name)) refuse(context, point, "name", `Duplicate loadshed point ${name}`, "put all triggers into one");
    points.set(
      name,
      compileTriggers(point, `loadshed point ${name}`, (resource) => monitors.get(resource) !== undefined, context),
    );
    if (absentPoints.includes(name)) context.report(point, "name", { code: "OR4003", text: `load shed point ${name} is not supported` });
    else if (!(pointNames as readonly string[]).includes(name))
      context.report(point, "name", {
        code: "OR3061",
        severity: "warning",
        text: `load shed point ${name} is none: no load is shed there`,
        hint: `points are ${pointNames.join(", ")}`,
      });
  }
  return {
    refreshIntervalMs: Math.max(1, durationMs(message?.refreshInterval, 1000)),
    monitors: [...monitors].map(([name, create]) => ({ name, create })),
    actions: [...actions].map(([name, triggers]) => ({ name, triggers })),
    points: [...points].map(([name, triggers]) => ({ name, triggers })),
    shrink,
    settings: {
      cells: overloadCells(),
      points: pointNames.filter((name: PointName) => points.has(name)),
      timers,
      minimumAccountPower: message?.bufferFactoryConfig?.minimumAccountToTrackPowerOfTwo ?? 20,
    },
  };
}

function refuse(context: CompileContext, at: object, field: string, text: string, hint: string): void {
  context.report(at, field, { code: "OR3061", text, hint });
}

function compileTriggers(
  owner: OverloadAction | LoadShedPoint,
  what: string,
  known: (resource: string) => boolean,
  context: CompileContext,
): CompiledTrigger[] {
  const resources = new Set<string>();
  return owner.triggers.map((trigger) => {
    const { name } = trigger;
    if (resources.has(name)) refuse(context, trigger, "name", `Duplicate trigger resource for ${what}`, "give each resource one trigger");
    resources.add(name);
    if (!known(name)) refuse(context, trigger, "name", `Unknown trigger resource ${name} for ${what}`, "name a resource monitor of this overload manager");
    return { resource: name, valueAt: compileTrigger(trigger, context) };
  });
}

function compileTrigger(trigger: Trigger, context: CompileContext): (pressure: number) => number {
  const { triggerOneof } = trigger;
  if (triggerOneof.case !== "scaled") {
    const threshold = triggerOneof.value?.value ?? 1;
    return (pressure) => (pressure >= threshold ? 1 : 0);
  }
  const { scalingThreshold: from, saturationThreshold: to } = triggerOneof.value;
  if (from >= to)
    refuse(context, triggerOneof.value, "scaling_threshold", "scaling_threshold must be less than saturation_threshold", "begin to scale at a lower pressure");
  return (pressure) => (pressure <= from ? 0 : pressure >= to ? 1 : Math.fround((pressure - from) / (to - from)));
}

function compileTimers(action: OverloadAction, context: CompileContext): ReadonlyMap<TimerName, TimerFloor> {
  const floors = new Map<TimerName, TimerFloor>();
  const config = action.typedConfig;
  if (config === undefined) {
    refuse(
      context,
      action,
      "typed_config",
      `Overload action "${action.name}" requires typed_config`,
      "give it a ScaleTimersOverloadActionConfig that says which timers are shortened, and how far",
    );
    return floors;
  }
  if (!isMessage<ScaleTimersOverloadActionConfig>(config, `${pkg}ScaleTimersOverloadActionConfig`)) {
    refuse(
      context,
      action,
      "typed_config",
      `Overload action name "${action.name}" conflicts with its typed config`,
      "it has a ScaleTimersOverloadActionConfig",
    );
    return floors;
  }
  for (const factor of config.timerScaleFactors) {
    const name = timerNames[factor.timer];
    if (floors.has(name)) refuse(context, factor, "timer", `Found duplicate entry for timer type ${name}`, "say it once");
    const { overloadAdjust } = factor;
    floors.set(
      name,
      overloadAdjust.case === "minTimeout" ? { minMs: durationMs(overloadAdjust.value, 0) } : { minShare: (overloadAdjust.value?.value ?? 0) / 100 },
    );
  }
  return floors;
}
