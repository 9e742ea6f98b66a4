import assert from "node:assert/strict";
import { test } from "node:test";
import type { Bootstrap } from "../config/schema/types/envoy.config.bootstrap.v3.d.ts";
import { RuntimeSnapshot } from "../runtime/runtime.ts";
import { StatsStore } from "../stats/stats.ts";
import { loadExtensions, message, testContext } from "../testing/compile-context.ts";
import { type CompiledOverload, compileOverload } from "./compile.ts";
import { OverloadManager } from "./manager.ts";
import { type ActionName, actionNames } from "./names.ts";
import { cellOfAction, cellOfPoint, type MemoryHolder, OverloadState, overloadCells } from "./thread-state.ts";

const monitor = (name: string, type: string, config: object = {}): object => ({
  name,
  typed_config: { "@type": `type.googleapis.com/envoy.extensions.resource_monitors.${type}`, ...config },
});
const injected = (name = "r"): object => monitor(name, "injected_resource.v3.InjectedResourceConfig", { filename: "/nowhere/pressure" });
const threshold = (value: number, name = "r"): object => ({ name, threshold: { value } });
const scaled = (from: number, to: number, name = "r"): object => ({ name, scaled: { scaling_threshold: from, saturation_threshold: to } });
const action = (name: string, triggers: object[], more: object = {}): object => ({ name: `envoy.overload_actions.${name}`, triggers, ...more });
const point = (name: string, ...triggers: object[]): object => ({ name: `envoy.load_shed_points.${name}`, triggers });
const timers = (...factors: object[]): object => ({
  typed_config: { "@type": "type.googleapis.com/envoy.config.overload.v3.ScaleTimersOverloadActionConfig", timer_scale_factors: factors },
});

const extensions = await loadExtensions(
  "envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig",
  "envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
  "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
);

function compile(config: object): { readonly compiled: CompiledOverload; readonly findings: string[] } {
  const context = testContext({ extensions });
  const bootstrap: Bootstrap = message("envoy.config.bootstrap.v3.Bootstrap", { overload_manager: config });
  return { compiled: compileOverload(bootstrap, context), findings: context.findings };
}

function running(config: object) {
  const { compiled, findings } = compile(config);
  assert.deepEqual(findings, []);
  const stats = new StatsStore();
  const bed = { now: 0, pressures: new Map<string, number>(), changes: [] as string[][], shrunk: [] as number[] };
  const faked: CompiledOverload = {
    ...compiled,
    monitors: compiled.monitors.map(({ name }) => ({
      name,
      create: () => ({
        read: () => {
          const pressure = bed.pressures.get(name);
          if (pressure === undefined) throw new Error("nobody knows");
          return pressure;
        },
      }),
    })),
  };
  const manager = new OverloadManager(faked, {
    stats,
    runtime: { snapshot: new RuntimeSnapshot() },
    now: () => bed.now,
    onChange: (actions) => bed.changes.push([...actions].map((name) => name.replace("envoy.overload_actions.", ""))),
    shrinkHeap: (keep) => bed.shrunk.push(keep),
  });
  const state = new OverloadState(compiled.settings, stats, () => 0.5);
  const refresh = (pressures: Record<string, number>): void => {
    bed.pressures = new Map(Object.entries(pressures));
    bed.now += compiled.refreshIntervalMs;
    manager.refresh();
  };
  return { bed, state, stats, refresh, manager };
}

test("thresholds and scales; an action goes as far as its furthest trigger", () => {
  const { bed, state, stats, refresh } = running({
    resource_monitors: [injected("r"), injected("s")],
    actions: [action("stop_accepting_requests", [scaled(0.5, 0.9), threshold(0.8, "s")]), action("stop_accepting_connections", [scaled(0.5, 0.9)])],
  });
  const of = (name: string): number => stats.gauge(`overload.envoy.overload_actions.stop_accepting_requests.${name}`).value;
  refresh({ r: 0.5, s: 0.1 });
  assert.deepEqual([state.stopsRequests, of("active"), of("scale_percent"), bed.changes.length], [false, 0, 0, 0]);
  refresh({ r: 0.6, s: 0.1 });
  assert.deepEqual([of("active"), of("scale_percent")], [0, 25]);
  assert.equal(state.stopsRequests, false, "0.5 is not below 0.25");
  assert.deepEqual(bed.changes, [["stop_accepting_requests", "stop_accepting_connections"]]);
  assert.equal(state.stopsConnections, false, "only when fully active");
  refresh({ r: 0.8, s: 0.1 });
  assert.deepEqual([of("active"), of("scale_percent"), state.stopsRequests], [0, 75, true]);
  refresh({ r: 0.6, s: 0.8 });
  assert.deepEqual([of("active"), of("scale_percent"), state.stopsRequests], [1, 100, true]);
  refresh({ r: 0.95, s: 0 });
  assert.deepEqual([of("active"), state.stopsConnections], [1, true]);
  refresh({ r: 0, s: 0 });
  assert.deepEqual([of("active"), of("scale_percent"), state.stopsRequests], [0, 0, false]);
  assert.equal(stats.gauge("overload.r.pressure").value, 0);
});

test("a resource that cannot be read counts, and what was known goes on", () => {
  const { state, stats, refresh } = running({ resource_monitors: [injected()], actions: [action("reject_incoming_connections", [threshold(0.9)])] });
  refresh({ r: 0.95 });
  refresh({});
  assert.deepEqual([state.rejectsConnections, stats.gauge("overload.r.pressure").value, stats.counter("overload.r.failed_updates").value], [true, 95, 1]);
});

test("load shed points: counted when load is shed", () => {
  const { state, stats, refresh } = running({
    resource_monitors: [injected()],
    loadshed_points: [point("tcp_listener_accept", scaled(0, 1))],
  });
  const name = "envoy.load_shed_points.tcp_listener_accept";
  refresh({ r: 0.4 });
  assert.equal(state.sheds(name), false);
  refresh({ r: 0.6 });
  assert.equal(state.sheds(name), true);
  assert.equal(state.sheds("envoy.load_shed_points.hcm_ondata_creating_codec"), false);
  assert.deepEqual([stats.counter(`overload.${name}.shed_load_count`).value, stats.gauge(`overload.${name}.scale_percent`).value], [1, 60]);
});

test("timers shrink to their floors", () => {
  const { state, refresh } = running({
    resource_monitors: [injected()],
    actions: [
      action(
        "reduce_timeouts",
        [scaled(0.5, 1)],
        timers({ timer: "HTTP_DOWNSTREAM_CONNECTION_IDLE", min_timeout: "2s" }, { timer: "HTTP_DOWNSTREAM_STREAM_IDLE", min_scale: { value: 10 } }),
      ),
    ],
  });
  const of = (timer: Parameters<typeof state.timeout>[0], ms: number): number => state.timeout(timer, ms);
  assert.equal(of("HTTP_DOWNSTREAM_CONNECTION_IDLE", 10_000), 10_000);
  refresh({ r: 0.75 });
  assert.equal(of("HTTP_DOWNSTREAM_CONNECTION_IDLE", 10_000), 6000);
  refresh({ r: 1 });
  assert.equal(of("HTTP_DOWNSTREAM_CONNECTION_IDLE", 10_000), 2000);
  assert.equal(of("HTTP_DOWNSTREAM_CONNECTION_IDLE", 1000), 1000, "never longer than configured");
  assert.equal(of("HTTP_DOWNSTREAM_CONNECTION_IDLE", 0), 0, "0 stands for none");
  assert.equal(of("HTTP_DOWNSTREAM_STREAM_IDLE", 10_000), 1000);
  assert.equal(of("TRANSPORT_SOCKET_CONNECT", 10_000), 10_000);
});

test("heaps are shrunk at their own interval while the action is active", () => {
  const shrink = {
    typed_config: { "@type": "type.googleapis.com/envoy.config.overload.v3.ShrinkHeapConfig", timer_interval: "3s", max_unfreed_memory_bytes: 5 },
  };
  const { bed, stats, refresh } = running({ resource_monitors: [injected()], actions: [action("shrink_heap", [threshold(0.9)], shrink)] });
  for (let i = 0; i < 3; i++) refresh({ r: 0.1 });
  assert.deepEqual(bed.shrunk, []);
  for (let i = 0; i < 6; i++) refresh({ r: 0.95 });
  assert.deepEqual(bed.shrunk, [5, 5]);
  assert.equal(stats.counter("overload.envoy.overload_actions.shrink_heap.shrink_count").value, 2);
});

test("streams that hold most end first, as many classes as the pressure says", () => {
  const cells = overloadCells();
  const stats = new StatsStore();
  const state = new OverloadState({ cells, points: [], timers: new Map(), minimumAccountPower: 10 }, stats);
  const reset: number[] = [];
  const holders = (...sizes: number[]): MemoryHolder[] => sizes.map((bytes) => ({ bytes, reset: () => reset.push(bytes) }));
  const at = (pressure: number): number[] => {
    new Float64Array(cells)[cellOfAction("envoy.overload_actions.reset_high_memory_stream")] = pressure;
    reset.length = 0;
    state.resetHolders(holders(100, 1024, 2 ** 16, 2 ** 17, 2 ** 20));
    return [...reset];
  };
  assert.deepEqual(at(0), []);
  assert.deepEqual(at(0.1), [2 ** 20, 2 ** 17]);
  assert.deepEqual(at(0.2), [2 ** 20, 2 ** 17, 2 ** 16]);
  assert.deepEqual(at(1), [2 ** 20, 2 ** 17, 2 ** 16, 1024]);
  assert.equal(state.resetHolders(holders(...new Array(80).fill(2 ** 20))), 50);
  assert.equal(stats.counter("envoy.overload_actions.reset_high_memory_stream.count").value, 9 + 50);
});

test("cells of actions and points are their own", () => {
  const cells = [...actionNames.map((name: ActionName) => cellOfAction(name)), cellOfPoint("envoy.load_shed_points.tcp_listener_accept")];
  assert.equal(new Set(cells).size, cells.length);
  assert.ok(Math.max(...cells) < overloadCells().byteLength / 8);
});

test("what Envoy refuses is refused", () => {
  const one = (config: object): string => compile({ resource_monitors: [injected()], ...config }).findings.join("|");
  const heap = monitor("heap", "fixed_heap.v3.FixedHeapConfig", { max_heap_size_bytes: 0 });
  const connections = monitor("cx", "downstream_connections.v3.DownstreamConnectionsConfig", { max_active_downstream_connections: 5 });
  const idle = { timer: "HTTP_DOWNSTREAM_CONNECTION_IDLE", min_timeout: "1s" };
  for (const [config, text] of [
    [{ actions: [action("foo", [threshold(0.5)])] }, "name: Unknown Overload Manager Action envoy.overload_actions.foo"],
    [{ resource_monitors: [injected(), injected()] }, "name: Duplicate resource monitor r"],
    [
      { actions: [action("shrink_heap", [threshold(0.5)]), action("shrink_heap", [threshold(0.5)])] },
      "name: Duplicate overload action envoy.overload_actions.shrink_heap",
    ],
    [{ actions: [action("shrink_heap", [threshold(0.5, "x")])] }, "name: Unknown trigger resource x for overload action envoy.overload_actions.shrink_heap"],
    [
      { actions: [action("shrink_heap", [threshold(0.5), threshold(0.6)])] },
      "name: Duplicate trigger resource for overload action envoy.overload_actions.shrink_heap",
    ],
    [{ actions: [action("shrink_heap", [scaled(0.5, 0.5)])] }, "scaling_threshold: scaling_threshold must be less than saturation_threshold"],
    [
      { actions: [action("reduce_timeouts", [threshold(0.5)])] },
      'typed_config: Overload action "envoy.overload_actions.reduce_timeouts" requires typed_config',
    ],
    [
      { actions: [action("reduce_timeouts", [threshold(0.5)], timers(idle, idle))] },
      "timer: Found duplicate entry for timer type HTTP_DOWNSTREAM_CONNECTION_IDLE",
    ],
    [
      { actions: [action("shrink_heap", [threshold(0.5)], timers(idle))] },
      'typed_config: Overload action name "envoy.overload_actions.shrink_heap" conflicts with its typed config',
    ],
    [
      { actions: [action("reset_high_memory_stream", [threshold(0.5)])] },
      'name: Overload action "envoy.overload_actions.reset_high_memory_stream" requires buffer_factory_config.',
    ],
    [
      { loadshed_points: [point("tcp_listener_accept", threshold(0.5)), point("tcp_listener_accept", threshold(0.5))] },
      "name: Duplicate loadshed point envoy.load_shed_points.tcp_listener_accept",
    ],
    [
      { loadshed_points: [point("http3_server_go_away_on_dispatch", threshold(0.5))] },
      "name: load shed point envoy.load_shed_points.http3_server_go_away_on_dispatch is not supported",
    ],
    [
      { resource_monitors: [connections], loadshed_points: [point("tcp_listener_accept", threshold(0.5, "cx"))] },
      "name: Unknown trigger resource cx for loadshed point envoy.load_shed_points.tcp_listener_accept",
    ],
    [{ resource_monitors: [connections], actions: [action("shrink_heap", [threshold(0.5, "cx")])] }, ""],
    [{ resource_monitors: [heap] }, "max_heap_size_bytes: fixed_heap: max heap size must be greater than 0"],
  ] as const)
    assert.equal(one(config), text);
});
