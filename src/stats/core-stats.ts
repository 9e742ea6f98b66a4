/** server.*, runtime.*, listener_manager.* and what else the main thread counts about the process itself. */
import { memoryUsage } from "../os/memory-usage.ts";
import type { RuntimeLayers } from "../runtime/layers.ts";
import type { Counter, Gauge, Histogram, StatsStore } from "./stats.ts";

export interface ServerState {
  readonly state: "PRE_INITIALIZING" | "INITIALIZING" | "LIVE" | "DRAINING";
  readonly healthFailed: boolean;
  readonly concurrency: number;
  readonly uptimeS: number;
  readonly epoch: number;
  readonly runtime: RuntimeLayers;
  readonly listeners: number;
  readonly clusters: number;
  readonly workersStarted: boolean;
}

export interface ServerStats {
  /** Workers that died and were replaced. */
  readonly worker_restarts: Counter;
  /** Brings gauges up to date. */
  update(state: ServerState): void;
  /** The listeners of the bootstrap are open in every worker. */
  started(listeners: number, concurrency: number): void;
  /** The listeners stopped accepting. */
  listeners_stopped(): void;
  /** A new configuration is in force. */
  reloaded(listeners: Changes, clusters: Changes): void;
  /** From the start of the process until it serves, milliseconds. */
  readonly initialization_time_ms: Histogram;
}

interface Changes {
  readonly added: readonly unknown[];
  readonly updated: readonly unknown[];
  readonly removed: readonly unknown[];
}

/** ServerInfo.State, as server.state shows it. */
const stateNumbers = { LIVE: 0, DRAINING: 1, PRE_INITIALIZING: 2, INITIALIZING: 3 } as const;
/** What Envoy shows where no certificate is loaded. */
const noCertificate = 4294967295;
/** Kept at zero: things that other counters of ours say, or that cannot happen here; dashboards ask for them. */
const zeroCounters = [
  "server.debug_assertion_failures",
  "server.dropped_stat_flushes",
  "server.dynamic_unknown_fields",
  "server.envoy_bug_failures",
  "server.envoy_notifications",
  "server.static_unknown_fields",
  "server.wip_protos",
  "server.main_thread.watchdog_mega_miss",
  "server.main_thread.watchdog_miss",
  "main_thread.watchdog_mega_miss",
  "main_thread.watchdog_miss",
  "workers.watchdog_mega_miss",
  "workers.watchdog_miss",
  "listener_manager.listener_create_failure",
  "listener_manager.listener_in_place_updated",
  "runtime.deprecated_feature_use",
  "envoy.overload_actions.reset_high_memory_stream.count",
] as const;

/** `versionOverride`: stats_server_version_override, 0 where it is unset. */
export function serverStats(store: StatsStore, versionOverride = 0): ServerStats {
  for (const name of zeroCounters) store.counter(name);
  const server = store.scope("server.");
  const manager = store.scope("listener_manager.");
  const runtime = store.scope("runtime.");
  const clusterManagers = store.scope("thread_local_cluster_manager.");
  const gauges: Record<string, Gauge> = {};
  const set = (scope: typeof server, name: string, value: number): void => {
    const key = scope.prefix + name;
    (gauges[key] ??= scope.gauge(name)).set(value);
  };
  const listenerAdded = manager.counter("listener_added");
  const createSuccess = manager.counter("listener_create_success");
  const listenerModified = manager.counter("listener_modified");
  const listenerRemoved = manager.counter("listener_removed");
  const listenerStopped = manager.counter("listener_stopped");
  const loadSuccess = runtime.counter("load_success");
  const loadError = runtime.counter("load_error");
  const overrideFolder = runtime.counter("override_dir_exists");
  const noOverrideFolder = runtime.counter("override_dir_not_exists");
  let counted = { success: 0, error: 0, overrideDirExists: 0, overrideDirNotExists: 0 };
  const initialization = server.histogram("initialization_time_ms", "ms");
  let watchdogs = 0;
  for (const name of ["total_listeners_warming", "total_listeners_draining", "total_filter_chains_draining", "workers_pinned"]) set(manager, name, 0);
  set(server, "compilation_settings.fips_mode", 0);
  set(server, "days_until_first_cert_expiring", noCertificate);
  set(server, "seconds_until_first_ocsp_response_expiring", 0);
  for (const name of ["parent_connections", "total_connections", "stats_recent_lookups"]) set(server, name, 0);
  set(server, "hot_restart_generation", 1);
  // The first three bytes of the commit that --version names, as Envoy's number is made.
  set(server, "version", versionOverride || 0x9e5580);
  return {
    worker_restarts: server.counter("worker_restarts"),
    initialization_time_ms: initialization,
    update(state) {
      const memory = memoryUsage();
      set(server, "concurrency", state.concurrency);
      set(server, "uptime", Math.floor(state.uptimeS));
      set(server, "live", state.state === "LIVE" && !state.healthFailed ? 1 : 0);
      set(server, "state", state.healthFailed ? stateNumbers.DRAINING : stateNumbers[state.state]);
      set(server, "hot_restart_epoch", state.epoch);
      set(server, "memory_allocated", memory.heapUsed + memory.external);
      set(server, "memory_heap_size", memory.heapTotal + memory.external);
      set(server, "memory_physical_size", memory.rss);
      set(clusterManagers, "main_thread.clusters_inflated", state.clusters);
      for (let worker = 0; worker < state.concurrency; worker++) set(clusterManagers, `worker_${worker}.clusters_inflated`, state.clusters);
      for (; watchdogs < state.concurrency; watchdogs++) {
        server.counter(`worker_${watchdogs}.watchdog_mega_miss`);
        server.counter(`worker_${watchdogs}.watchdog_miss`);
      }
      const { loads } = state.runtime;
      loadSuccess.add(loads.success - counted.success);
      loadError.add(loads.error - counted.error);
      overrideFolder.add(loads.overrideDirExists - counted.overrideDirExists);
      noOverrideFolder.add(loads.overrideDirNotExists - counted.overrideDirNotExists);
      counted = { ...loads };
      set(runtime, "num_keys", state.runtime.merged.size);
      set(runtime, "num_layers", state.runtime.numLayers);
      set(runtime, "admin_overrides_active", state.runtime.adminOverrides > 0 ? 1 : 0);
      set(runtime, "deprecated_feature_seen_since_process_start", 0);
      set(manager, "workers_started", state.workersStarted ? 1 : 0);
      set(manager, "total_listeners_active", state.workersStarted ? state.listeners : 0);
    },
    started(listeners, concurrency) {
      listenerAdded.add(listeners);
      createSuccess.add(listeners * concurrency);
    },
    listeners_stopped() {
      listenerStopped.inc();
    },
    reloaded(changes) {
      listenerAdded.add(changes.added.length);
      listenerModified.add(changes.updated.length);
      listenerRemoved.add(changes.removed.length);
    },
  };
}
