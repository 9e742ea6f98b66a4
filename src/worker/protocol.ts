/** What the main thread and a worker say to each other: plain data only. */
import type { Cluster } from "../config/schema/types/envoy.config.cluster.v3.d.ts";
import type { Listener } from "../config/schema/types/envoy.config.listener.v3.d.ts";
import type { RouteConfiguration } from "../config/schema/types/envoy.config.route.v3.d.ts";
import type { Secret } from "../config/schema/types/envoy.extensions.transport_sockets.tls.v3.d.ts";
import type { ClusterDefaults } from "../extensions/extension.ts";
import type { GlobalLimitSettings } from "../listener/global-limit.ts";
import type { Component, Level, LogRecord } from "../log/log.ts";
import type { Address } from "../net/connection.ts";
import type { OverloadSettings } from "../overload/thread-state.ts";
import type { ScopeSet } from "../router/route-tables.ts";
import type { RuntimeValue } from "../runtime/runtime.ts";
import type { EventLoopSettings } from "../server/event-loop.ts";
import type { HistogramUnit, KeptValues, StatKind } from "../stats/stats.ts";
import type { HostUpdate } from "../upstream/main-clusters.ts";
import type { HostEvent } from "../upstream/outlier/monitor.ts";

/** What all threads are told of the configuration; sent whole to a worker that starts. */
export interface WorkerConfig {
  readonly listeners: readonly Listener[];
  readonly clusters: readonly Cluster[];
  readonly clusterDefaults: ClusterDefaults;
  /** Contents of DataSource files by path, as the main thread read them. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** Secrets that TLS contexts name, by secretKey. */
  readonly secrets: ReadonlyMap<string, Secret>;
  /** Route configurations that discovery has brought, by key (see router/route-tables.ts). */
  readonly routes: ReadonlyMap<string, RouteConfiguration>;
  /** Scopes of routes that discovery has brought, by key. */
  readonly scopes: ReadonlyMap<string, ScopeSet>;
  readonly node: { readonly id: string; readonly cluster: string; readonly zone: string };
  readonly headerPrefix: string;
}

/** What changes in a running configuration. All of it is in force when the worker answers. */
export interface ConfigUpdate {
  /** New ones, and those that take another's place. */
  readonly clusters: readonly Cluster[];
  readonly removedClusters: readonly string[];
  /** Members of `clusters`. */
  readonly hosts: readonly HostUpdate[];
  /** New ones, and those that take another's place: they keep its port and its connections. */
  readonly listeners: readonly Listener[];
  readonly removedListeners: readonly string[];
  /** undefined: no listener needs it any more. */
  readonly routes: readonly (readonly [key: string, message: RouteConfiguration | undefined])[];
  readonly scopes: readonly (readonly [key: string, set: ScopeSet | undefined])[];
  /** Contents of files that are new or have changed. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** All of them; undefined: as before. */
  readonly secrets: ReadonlyMap<string, Secret> | undefined;
}

export interface WorkerStart {
  readonly index: number;
  readonly concurrency: number;
  readonly config: WorkerConfig;
  readonly hosts: readonly HostUpdate[];
  readonly runtime: ReadonlyMap<string, RuntimeValue>;
  readonly logLevels: readonly (readonly [Component, Level])[];
  readonly fileFlushIntervalMs: number;
  readonly fileFlushMinBytes: number;
  /** stats_config of the bootstrap: the worker needs its matcher. */
  readonly statsConfig: unknown;
  /** Whether histograms keep values for sinks. */
  readonly keepsValues: boolean;
  readonly drainTimeMs: number;
  readonly drainStrategy: "Gradual" | "Immediate";
  readonly eventLoops: EventLoopSettings;
  readonly globalLimit: GlobalLimitSettings;
  readonly overload: OverloadSettings;
}

export type ToWorker =
  /** The first message that counts; what comes before it is part of it. */
  | { readonly type: "start"; readonly start: WorkerStart }
  | { readonly type: "listen"; readonly ports: ReadonlyMap<string, number>; readonly reusePort: boolean }
  | { readonly type: "hosts"; readonly update: HostUpdate }
  /** The health of a cluster's hosts has changed: it stands in shared memory. */
  | { readonly type: "host_health"; readonly cluster: string }
  /** A host has failed its health checks, or was ejected. */
  | { readonly type: "host_failed"; readonly cluster: string; readonly host: number }
  | { readonly type: "runtime"; readonly values: ReadonlyMap<string, RuntimeValue> }
  | { readonly type: "log_levels"; readonly levels: readonly (readonly [Component, Level])[] }
  | { readonly type: "update"; readonly update: ConfigUpdate; readonly ports: ReadonlyMap<string, number>; readonly reusePort: boolean }
  | { readonly type: "health_failed"; readonly failed: boolean }
  | { readonly type: "drain"; readonly kind: "gradual" | "immediate"; readonly inboundOnly: boolean }
  | { readonly type: "stop_listeners"; readonly inboundOnly: boolean }
  | { readonly type: "flush_histograms" }
  /** Text of a statistics sink, over a connection to a cluster. */
  | { readonly type: "sink_text"; readonly cluster: string; readonly text: string }
  /** Actions of the overload manager go further or less far than before: shared memory says how far. */
  | { readonly type: "overload" }
  /** Free memory is to be given back, all but so many bytes. */
  | { readonly type: "shrink_heap"; readonly keepBytes: number }
  | { readonly type: "reopen_logs" }
  | { readonly type: "stop" };

export type FromWorker =
  | { readonly type: "memory"; readonly memory: SharedArrayBuffer }
  | { readonly type: "stats"; readonly entries: readonly (readonly [index: number, kind: StatKind, name: string, unit: HistogramUnit])[] }
  | {
      readonly type: "histograms";
      readonly batch: readonly (readonly [name: string, unit: HistogramUnit, bins: readonly (readonly [number, number])[], kept: KeptValues | undefined])[];
    }
  | { readonly type: "compiled" }
  | { readonly type: "listening"; readonly addresses: readonly (readonly [listener: string, address: string])[] }
  | { readonly type: "listen_failed"; readonly listener: string; readonly address: string; readonly code: string; readonly message: string }
  /** The answer to `update`. */
  | { readonly type: "updated" }
  | { readonly type: "log"; readonly record: LogRecord }
  | { readonly type: "connections"; readonly active: number }
  /** ORIGINAL_DST: hosts that came up here, and those used since the last such message. */
  | { readonly type: "hosts_used"; readonly cluster: string; readonly fresh: readonly Address[]; readonly used: readonly Address[] }
  /** What a worker has found out about a host that is watched. */
  | { readonly type: "host_event"; readonly cluster: string; readonly host: number; readonly event: HostEvent }
  | { readonly type: "stopped" };
