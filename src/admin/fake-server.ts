/** An AdminServer for tests: a small configuration, statistics that stand still, a record of what was asked for. */
import { loadBootstrap } from "../config/load.ts";
import { ipAddress } from "../net/address.ts";
import { RuntimeLayers } from "../runtime/layers.ts";
import type { AdminConfig, AdminHost, AdminServer } from "./server.ts";
import type { ShownDistribution, ShownHistogram, ShownStat, StatsSource } from "./stats-view.ts";

export interface FakeServer extends AdminServer {
  /** Calls that change something, in order. */
  readonly calls: string[];
}

const thresholds = { maxConnections: 1024, maxPendingRequests: 1024, maxRequests: 1024, maxRetries: 3 };

export function fakeHost(changes: Partial<AdminHost> = {}): AdminHost {
  return {
    address: ipAddress("127.0.0.1", 8080),
    stats: { cx_active: 1, cx_connect_fail: 0, cx_total: 1, rq_active: 0, rq_error: 1, rq_pending_active: 0, rq_success: 2, rq_timeout: 0, rq_total: 3 },
    hostname: "",
    metadata: {},
    healthFlags: [],
    weight: 1,
    locality: { region: "", zone: "", subZone: "" },
    canary: false,
    priority: 0,
    ...changes,
  };
}

export function distribution(changes: Partial<ShownDistribution> = {}): ShownDistribution {
  return { count: 0, quantileValues: Array.from({ length: 10 }, () => Number.NaN), bounds: [0.5, 1, 1_800_000], countsBelow: [0, 0, 0], bins: [], ...changes };
}

export function fakeStats(stats: readonly ShownStat[] = [], histograms: readonly ShownHistogram[] = []): StatsSource {
  const wanted = { counter: "counters", gauge: "gauges", text_readout: "textReadouts" } as const;
  return {
    stats: (s) => stats.filter((stat) => s[wanted[stat.kind]] && (!s.usedOnly || stat.used) && s.accepts(stat.name)),
    histograms: (s) => histograms.filter((h) => (!s.usedOnly || h.used) && s.accepts(h.name)),
    prometheus: () => ["# TYPE envoy_a counter\nenvoy_a{} 1\n"],
    names: () => new Set(stats.map((stat) => stat.name)),
    resetCounters: () => {},
  };
}

const adminYaml = "admin: {address: {socket_address: {address: 127.0.0.1, port_value: 9901}}}";

/** `yaml`: the bootstrap besides `admin`. */
const noDynamic: AdminConfig["dynamic"] = { clusters: { version: "", active: [], warming: [] }, listeners: { version: "", entries: [] }, routes: [] };

export function fakeServer(yaml = "", changes: Partial<AdminServer> = {}, admin = adminYaml): FakeServer {
  const calls: string[] = [];
  const { bootstrap, findings } = loadBootstrap({
    configYaml: `${admin}\n${yaml}`,
    allowUnknownStatic: false,
  });
  if (bootstrap === undefined) throw new Error(findings.map((finding) => finding.text).join("\n"));
  const at = new Date(Date.UTC(2026, 0, 2, 3, 4, 5, 678));
  const runtime = new RuntimeLayers(bootstrap.layeredRuntime);
  const server: AdminServer = {
    state: "LIVE",
    healthFailed: false,
    version: "9e5580933739775e8bce696a57a2e1bc99368f23/1.40.0/Clean/Outrider-0.1.0/OpenSSL-3",
    hotRestartVersion: "11.104",
    options: {
      baseId: 3,
      useDynamicBaseId: false,
      baseIdPath: "",
      concurrency: 2,
      configPath: "envoy.yaml",
      configYaml: "",
      allowUnknownStaticFields: false,
      rejectUnknownDynamicFields: false,
      ignoreUnknownDynamicFields: false,
      adminAddressPath: "",
      localAddressIpVersion: "v4",
      logLevel: "info",
      componentLogLevelText: "",
      logFormat: "%v",
      logFormatEscaped: false,
      logPath: "",
      serviceCluster: "",
      serviceNode: "",
      serviceZone: "",
      fileFlushIntervalMs: 50,
      fileFlushMinSizeKb: 64,
      drainTimeS: 600,
      drainStrategy: "Gradual",
      parentShutdownTimeS: 900,
      mode: "serve",
      disableHotRestart: false,
      enableMutexTracing: false,
      restartEpoch: 0,
      cpusetThreads: false,
      disabledExtensions: [],
      enableFineGrainLogging: false,
      socketPath: "@envoy_domain_socket",
      socketMode: 0,
      enableCoreDump: false,
      statsTags: [{ name: "a", value: "b" }],
      skipHotRestartOnNoParent: false,
      skipHotRestartParentStats: false,
      skipDeprecatedLogs: false,
      logStacktraceSingleEntry: false,
    },
    uptimeS: 4.7,
    uptimeAllEpochsS: 10,
    stats: fakeStats(),
    runtime,
    config: { bootstrap, bootstrapLoadedAt: at, updatedAt: at, files: new Map(), dynamicSecrets: [], dynamic: noDynamic },
    adminAddress: "127.0.0.1:9901",
    clusters: () => [
      { name: "service", observabilityName: "service", addedViaApi: false, circuitBreakers: { default: thresholds, high: thresholds }, hosts: [fakeHost()] },
    ],
    listeners: () => [{ name: "listener_0", address: "127.0.0.1:10000" }],
    unready: () => [],
    workerHeaps: async () => [{ used_heap_size: 100, total_heap_size: 200 }],
    profileWorkers: async () => [],
    refreshStats: () => {},
    flushStats: async () => void calls.push("flush"),
    setLogLevels: (levels) => void calls.push(`levels ${levels.map((change) => change.join("=")).join(",")}`),
    modifyRuntime: (values) => {
      calls.push(`runtime ${JSON.stringify([...values])}`);
      runtime.modify(values);
    },
    drainListeners: (drain) => void calls.push(`drain ${JSON.stringify(drain)}`),
    setHealthFailed: (failed) => void calls.push(`health_failed ${failed}`),
    reopenLogs: () => void calls.push("reopen"),
    quit: () => void calls.push("quit"),
    ...changes,
  };
  return { ...server, calls };
}
