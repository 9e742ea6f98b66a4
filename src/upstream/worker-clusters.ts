/** All clusters of one worker, by name. */
import { ClusterCore, type ClusterEnvironment } from "./cluster-core.ts";
import type { HostUpdate } from "./hosts.ts";
import type { CompiledCluster } from "./settings.ts";
import type { ThreadLocalCluster, ThreadLocalClusters } from "./upstream.ts";

export class WorkerClusters implements ThreadLocalClusters {
  readonly #environment: ClusterEnvironment;
  readonly #clusters = new Map<string, ClusterCore>();
  /** Replaced or removed clusters whose last requests are still under way. */
  readonly #retired = new Set<ClusterCore>();

  constructor(environment: ClusterEnvironment) {
    this.#environment = { ...environment, cluster: (name) => this.#clusters.get(name) };
  }

  /** Adds a cluster, or replaces one of the same name; it has no hosts until `updateHosts`. */
  add(settings: CompiledCluster): void {
    const before = this.#clusters.get(settings.name);
    this.#clusters.set(settings.name, new ClusterCore(settings, this.#environment));
    if (before !== undefined) this.#retire(before);
  }

  updateHosts(update: HostUpdate): void {
    this.#clusters.get(update.cluster)?.update(update);
  }

  refreshHealth(cluster: string): void {
    this.#clusters.get(cluster)?.refreshHealth();
  }
  onHealthFailure(cluster: string, id: number): void {
    this.#clusters.get(cluster)?.onHealthFailure(id);
  }

  remove(name: string): void {
    const cluster = this.#clusters.get(name);
    if (cluster === undefined) return;
    this.#clusters.delete(name);
    this.#retire(cluster);
  }

  get(name: string): ThreadLocalCluster | undefined {
    return this.#clusters.get(name);
  }

  close(): void {
    for (const cluster of this.#clusters.values()) cluster.close();
    for (const cluster of this.#retired) cluster.close();
  }

  #retire(cluster: ClusterCore): void {
    cluster.drain();
    this.#retired.add(cluster);
    // Requests that began on it may last; only memory is at stake here.
    this.#environment.timers.createTimer(() => this.#retired.delete(cluster)).enable(600_000);
  }
}
