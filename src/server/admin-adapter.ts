/** The server as the admin interface sees it. */
import type { AdminConfig, AdminDynamic, AdminServer, ThreadProfile } from "../admin/server.ts";
import { adminClusters } from "./admin-clusters.ts";
import { StatsOfAggregate } from "./admin-stats.ts";
import type { DynamicConfig } from "./dynamic/dynamic-config.ts";
import type { Server } from "./server.ts";
import { hotRestartVersion, versionString } from "./version.ts";

function adminDynamic(dynamic: DynamicConfig | undefined): AdminDynamic {
  return {
    clusters: { version: dynamic?.clusters.version ?? "", active: dynamic?.clusters.active ?? [], warming: dynamic?.clusters.warming ?? [] },
    listeners: { version: dynamic?.listeners.version ?? "", entries: dynamic?.listeners.entries ?? [] },
    routes: [...(dynamic?.routes.current().values() ?? [])],
  };
}

export function adminServerOf(server: Server): AdminServer {
  const startedAt = new Date();
  const stats = new StatsOfAggregate(server.aggregate);
  return {
    get state() {
      return server.state;
    },
    get healthFailed() {
      return server.healthFailed;
    },
    version: versionString(),
    hotRestartVersion,
    options: server.options,
    get uptimeS() {
      return (performance.now() - server.startedMs) / 1000;
    },
    get uptimeAllEpochsS() {
      return (performance.now() - server.startedMs) / 1000;
    },
    stats,
    get runtime() {
      return server.runtime;
    },
    get config(): AdminConfig {
      const prepared = server.prepared;
      if (prepared === undefined) throw new Error("no configuration is in force");
      return {
        bootstrap: prepared.bootstrap,
        bootstrapLoadedAt: startedAt,
        updatedAt: server.lastUpdated,
        files: prepared.files,
        dynamicSecrets: server.dynamicSecrets,
        dynamic: adminDynamic(server.dynamic),
      };
    },
    get adminAddress() {
      return server.adminAddress;
    },
    clusters: () =>
      adminClusters(
        server.clusters?.views() ?? [],
        (name) => server.dynamic?.clusters.has(name) === true,
        server.runtime.snapshot,
        (name) => stats.value(name),
      ),
    listeners: () => [...server.listenerAddresses].map(([name, address]) => ({ name, address })),
    unready() {
      const clusters = server.clusters?.unready() ?? [];
      return clusters.map((name) => ({ name: `Cluster ${name}`, targets: [`Cluster ${name}`] }));
    },
    async workerHeaps() {
      const heaps = await Promise.all(server.workers.map((link) => link.heapStatistics()));
      return heaps.filter((heap) => heap !== undefined);
    },
    async profileWorkers(kind) {
      const profiles = await Promise.all(server.workers.map((link) => link.startProfile(kind)));
      return profiles.filter((profile): profile is ThreadProfile => profile !== undefined);
    },
    refreshStats: () => server.refreshStats(),
    flushStats: () => server.flushStats(),
    setLogLevels: (changes) => server.setLogLevels(changes),
    modifyRuntime: (changes) => server.modifyRuntime(changes),
    // Draining without end needs no end: skip_exit includes the gentle way.
    drainListeners: (drain) => server.drainListeners({ ...drain, graceful: drain.graceful || drain.skipExit }),
    setHealthFailed: (failed) => server.setHealthFailed(failed),
    reopenLogs: () => server.reopenLogs(),
    // The answer that is being written leaves first.
    quit: () => void setImmediate(() => server.onQuit()),
  };
}
