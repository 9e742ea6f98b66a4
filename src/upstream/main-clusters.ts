/** Members of all clusters, on the main thread: static ones and those that DNS gives; workers are told of each change. */
import type { Address } from "../net/connection.ts";
import type { Counter, Gauge } from "../stats/stats.ts";
import type { HostData, HostUpdate } from "./hosts.ts";
import { MainCluster, type MainClustersOptions } from "./main-cluster.ts";
import type { OutlierDetector } from "./outlier/detector.ts";
import type { HostEvent } from "./outlier/monitor.ts";
import { clearThread } from "./resource-manager.ts";
import type { CompiledCluster } from "./settings.ts";
import type { MergeStats } from "./update-merger.ts";

export type { HostData, HostUpdate } from "./hosts.ts";
export type { MainClustersOptions } from "./main-cluster.ts";

/** One cluster as the admin interface shows it. */
export interface ClusterView {
  readonly settings: CompiledCluster;
  readonly hosts: readonly HostData[];
  /** What is known against a host, see host-health.ts. */
  flags(host: HostData): number;
  /** Where outlier detection is configured: percent, -1 where unknown. */
  readonly outlier: OutlierDetector["rates"] | undefined;
  successRate(host: HostData, origin: "external" | "local"): number;
}

type ManagerStats = MergeStats & { readonly [name: string]: Counter };

export class MainClusters {
  readonly #options: MainClustersOptions;
  readonly #clusters = new Map<string, MainCluster>();
  readonly #manager: ManagerStats;
  readonly #active: Gauge;
  readonly #warming: Gauge;
  #closed = false;

  constructor(options: MainClustersOptions) {
    this.#options = options;
    const scope = options.stats.scope("cluster_manager.");
    const manager: Record<string, Counter> = {};
    for (const name of [
      "cluster_added",
      "cluster_modified",
      "cluster_removed",
      "cluster_updated",
      "cluster_updated_via_merge",
      "update_merge_cancelled",
      "update_out_of_merge_window",
    ])
      manager[name] = scope.counter(name);
    this.#manager = manager as ManagerStats;
    this.#active = scope.gauge("active_clusters");
    this.#warming = scope.gauge("warming_clusters");
  }

  add(settings: CompiledCluster): void {
    const before = this.#clusters.get(settings.name);
    before?.close();
    // A cluster that replaces another is told to the workers whole, when it is ready: until then they serve with the old one's members.
    const isSilent = (): boolean => before !== undefined && cluster.warming;
    const onUpdate = (update: HostUpdate): void => {
      if (!cluster.warming) this.#manager.cluster_updated.inc();
      if (!isSilent()) this.#options.onUpdate(update);
    };
    const onHealth = (name: string): void => {
      if (!isSilent()) this.#options.onHealth?.(name);
    };
    const onHealthFailure = (name: string, host: number): void => {
      if (!isSilent()) this.#options.onHealthFailure?.(name, host);
    };
    const options = { ...this.#options, onUpdate, onHealth, onHealthFailure };
    const cluster: MainCluster = new MainCluster(settings, options, this.#manager, () => this.#count());
    this.#clusters.set(settings.name, cluster);
    (before === undefined ? this.#manager.cluster_added : this.#manager.cluster_modified).inc();
    cluster.start();
    this.#count();
  }

  remove(name: string): void {
    const cluster = this.#clusters.get(name);
    if (cluster === undefined) return;
    cluster.close();
    this.#clusters.delete(name);
    const { prefix } = cluster.settings.scope;
    // Two clusters may count under one alt_stat_name.
    if (![...this.#clusters.values()].some((other) => other.settings.scope.prefix === prefix)) this.#options.forget?.(prefix);
    this.#manager.cluster_removed.inc();
    this.#count();
  }

  /** When every cluster known now has its first members, or knows that it has none. */
  get initialized(): Promise<void> {
    return Promise.all([...this.#clusters.values()].map((cluster) => cluster.ready)).then(() => {});
  }

  /** Names of clusters that still wait for their first members. */
  unready(): string[] {
    return [...this.#clusters.values()].filter((cluster) => cluster.warming).map((cluster) => cluster.settings.name);
  }

  /** When this cluster has its first members, or knows that it has none. */
  ready(name: string): Promise<void> {
    return this.#clusters.get(name)?.ready ?? Promise.resolve();
  }

  isWarming(name: string): boolean {
    return this.#clusters.get(name)?.warming ?? false;
  }

  /** Members as they are now, of all clusters or of those named. */
  snapshot(names: Iterable<string> = this.#clusters.keys()): HostUpdate[] {
    return [...names].flatMap((name) => this.#clusters.get(name)?.update() ?? []);
  }

  views(): ClusterView[] {
    return [...this.#clusters.values()].map((cluster) => ({
      settings: cluster.settings,
      hosts: cluster.hosts,
      flags: (host) => cluster.flags(host),
      outlier: cluster.detector?.rates,
      successRate: (host, origin) => cluster.successRate(host, origin),
    }));
  }

  /** Brings gauges up to date that are computed, not counted: circuit breakers. */
  refresh(): void {
    for (const cluster of this.#clusters.values()) cluster.refresh();
  }

  /** What a worker says of hosts that came up there (ORIGINAL_DST), and of those that it has used lately. */
  hostsUsed(cluster: string, fresh: readonly Address[], used: readonly Address[]): void {
    this.#clusters.get(cluster)?.hostsUsed(fresh, used);
  }

  /** What a worker has found out about a host. */
  hostEvent(cluster: string, id: number, event: HostEvent): void {
    this.#clusters.get(cluster)?.hostEvent(id, event);
  }

  /** A worker died: what it held of circuit breakers is free. */
  clearWorker(index: number): void {
    for (const cluster of this.#clusters.values()) clearThread(cluster.cells, index, this.#options.threads);
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    for (const cluster of this.#clusters.values()) cluster.close();
  }

  #count(): void {
    const warming = this.unready().length;
    this.#warming.set(warming);
    this.#active.set(this.#clusters.size - warming);
  }
}
