/** What the admin interface asks of the server it belongs to. The server implements it; all of it runs on the main thread. */
import type { JsonObject } from "../config/message.ts";
import type { Bootstrap } from "../config/schema/types/envoy.config.bootstrap.v3.d.ts";
import type { Secret } from "../config/schema/types/envoy.extensions.transport_sockets.tls.v3.d.ts";
import type { Component, Level } from "../log/log.ts";
import type { Address } from "../net/connection.ts";
import type { RuntimeLayers } from "../runtime/layers.ts";
import type { StatsSource } from "./stats-view.ts";

export type AdminState = "LIVE" | "DRAINING" | "PRE_INITIALIZING" | "INITIALIZING";

/** The command line, as /server_info shows it (envoy.admin.v3.CommandLineOptions). cli/options.ts has this shape. */
export interface AdminOptions {
  readonly baseId: number;
  readonly useDynamicBaseId: boolean;
  readonly baseIdPath: string;
  readonly concurrency: number;
  readonly configPath: string;
  readonly configYaml: string;
  readonly allowUnknownStaticFields: boolean;
  readonly rejectUnknownDynamicFields: boolean;
  readonly ignoreUnknownDynamicFields: boolean;
  readonly adminAddressPath: string;
  readonly localAddressIpVersion: "v4" | "v6";
  readonly logLevel: Level;
  readonly componentLogLevelText: string;
  readonly logFormat: string;
  readonly logFormatEscaped: boolean;
  readonly logPath: string;
  readonly serviceCluster: string;
  readonly serviceNode: string;
  readonly serviceZone: string;
  readonly fileFlushIntervalMs: number;
  readonly fileFlushMinSizeKb: number;
  readonly drainTimeS: number;
  readonly drainStrategy: "Gradual" | "Immediate";
  readonly parentShutdownTimeS: number;
  readonly mode: "serve" | "validate";
  readonly disableHotRestart: boolean;
  readonly enableMutexTracing: boolean;
  readonly restartEpoch: number;
  readonly cpusetThreads: boolean;
  readonly disabledExtensions: readonly string[];
  readonly enableFineGrainLogging: boolean;
  readonly socketPath: string;
  readonly socketMode: number;
  readonly enableCoreDump: boolean;
  readonly statsTags: readonly { readonly name: string; readonly value: string }[];
  readonly skipHotRestartOnNoParent: boolean;
  readonly skipHotRestartParentStats: boolean;
  readonly skipDeprecatedLogs: boolean;
  readonly logStacktraceSingleEntry: boolean;
}

/** A resource of discovery as it is in force, or about to be. */
export interface AdminResource {
  readonly message: { readonly $typeName: string };
  readonly version: string;
  readonly updatedAt: Date;
}

export interface AdminDynamic {
  readonly clusters: { readonly version: string; readonly active: readonly AdminResource[]; readonly warming: readonly AdminResource[] };
  readonly listeners: {
    readonly version: string;
    readonly entries: readonly {
      readonly name: string;
      readonly active: AdminResource | undefined;
      readonly warming: AdminResource | undefined;
      /** The newest update of it was refused. */
      readonly failure: { readonly message: object; readonly version: string; readonly details: string; readonly at: Date } | undefined;
    }[];
  };
  readonly routes: readonly AdminResource[];
}

/** A configuration that is in force, and since when. */
export interface AdminConfig {
  readonly bootstrap: Bootstrap;
  /** When the process read its first configuration. */
  readonly bootstrapLoadedAt: Date;
  /** When listeners and clusters were last replaced (the start, or the last reload that changed something). */
  readonly updatedAt: Date;
  /** Contents of the files that the configuration names, by path: /certs reads certificates from here. */
  readonly files: ReadonlyMap<string, Uint8Array>;
  /** Secrets that files have brought. */
  /** What discovery has brought. */
  readonly dynamic: AdminDynamic;
  readonly dynamicSecrets: readonly { readonly name: string; readonly version: string; readonly updatedAt: Date; readonly secret: Secret }[];
}

export interface AdminThresholds {
  readonly maxConnections: number;
  readonly maxPendingRequests: number;
  readonly maxRequests: number;
  readonly maxRetries: number;
}

/** Why a host gets no traffic, in the words of /clusters. */
export type AdminHealthFlag =
  | "failed_active_hc"
  | "failed_outlier_check"
  | "failed_eds_health"
  | "degraded_active_hc"
  | "degraded_eds_health"
  | "pending_dynamic_removal"
  | "pending_active_hc"
  | "excluded_via_immediate_hc_fail"
  | "active_hc_timeout"
  | "eds_status_draining"
  | "degraded_outlier_detection";

/** What a host has served, all threads together. */
export interface AdminHostStats {
  readonly cx_active: number;
  readonly cx_connect_fail: number;
  readonly cx_total: number;
  readonly rq_active: number;
  readonly rq_error: number;
  readonly rq_pending_active: number;
  readonly rq_success: number;
  readonly rq_timeout: number;
  readonly rq_total: number;
}

export interface AdminHost {
  readonly address: Address;
  readonly stats: AdminHostStats;
  readonly hostname: string;
  /** filter_metadata; absent where the host was given none. */
  readonly metadata?: Record<string, JsonObject>;
  /** Of health checks, where it is not that of the host. */
  readonly healthCheckHostname?: string;
  readonly healthCheckPort?: number;
  /** Empty: healthy. */
  readonly healthFlags: readonly AdminHealthFlag[];
  readonly weight: number;
  readonly locality: { readonly region: string; readonly zone: string; readonly subZone: string };
  readonly canary: boolean;
  readonly priority: number;
  /** Percent; -1 (also when absent): not enough requests to say. */
  readonly successRate?: number;
  readonly localOriginSuccessRate?: number;
}

export interface AdminCluster {
  readonly name: string;
  readonly observabilityName: string;
  readonly addedViaApi: boolean;
  readonly edsServiceName?: string;
  readonly circuitBreakers: { readonly default: AdminThresholds; readonly high: AdminThresholds };
  /** Present where outlier detection looks at success rates: averages and thresholds in percent, -1 where unknown. */
  readonly outlier?: {
    readonly successRateAverage: number;
    readonly successRateEjectionThreshold: number;
    readonly localOriginSuccessRateAverage: number;
    readonly localOriginSuccessRateEjectionThreshold: number;
  };
  readonly hosts: readonly AdminHost[];
}

/** What /drain_listeners was asked for. */
export interface AdminDrain {
  readonly graceful: boolean;
  readonly inboundOnly: boolean;
  readonly skipExit: boolean;
}

/** Ends a profile of a thread; its result is V8's JSON (.cpuprofile, .heapprofile), undefined when the thread has ended meanwhile. */
export interface ThreadProfile {
  readonly thread: string;
  stop(): Promise<string | undefined>;
}

export interface AdminServer {
  readonly state: AdminState;
  readonly healthFailed: boolean;
  /** "commit/version/state/build/tls", as --version prints it. */
  readonly version: string;
  readonly hotRestartVersion: string;
  readonly options: AdminOptions;
  /** Seconds since this process started, and since the first of a chain of hot restarts did. */
  readonly uptimeS: number;
  readonly uptimeAllEpochsS: number;
  readonly stats: StatsSource;
  readonly runtime: RuntimeLayers;
  readonly config: AdminConfig;
  /** Where the interface is bound, formatted; undefined before that. */
  readonly adminAddress: string | undefined;
  clusters(): readonly AdminCluster[];
  /** Bound addresses of listeners that accept, formatted ("127.0.0.1:80", "[::1]:80" or a path). */
  listeners(): readonly { readonly name: string; readonly address: string }[];
  /** What initialization still waits for: a component ("Cluster service") and the names of its targets. */
  unready(): readonly { readonly name: string; readonly targets: readonly string[] }[];
  /** V8 heaps of the worker threads, in bytes. */
  workerHeaps(): Promise<readonly { readonly used_heap_size: number; readonly total_heap_size: number }[]>;
  /** Begins a profile of every worker thread. */
  profileWorkers(kind: "cpu" | "heap"): Promise<readonly ThreadProfile[]>;
  /** Brings gauges up to date that are read, not counted (server.uptime, memory). Called before statistics are printed. */
  refreshStats(): void;
  /** Merges histograms now; resolves when it is done. For `stats_flush_on_admin`. */
  flushStats(): Promise<void>;
  /** Sets levels on all threads. */
  setLogLevels(changes: readonly (readonly [Component, Level])[]): void;
  /** "" removes a key's override. Throws a RuntimeRefusal, having changed nothing. */
  modifyRuntime(changes: ReadonlyMap<string, string>): void;
  drainListeners(drain: AdminDrain): void;
  setHealthFailed(failed: boolean): void;
  reopenLogs(): void;
  /** Ends the process in good order; returns at once. */
  quit(): void;
}
