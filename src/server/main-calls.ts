/** Requests of the main thread itself, to management servers: the clusters they go through, as workers have them. */

import type { Cluster } from "../config/schema/types/envoy.config.cluster.v3.d.ts";
import type { CompileContext } from "../extensions/extension.ts";
import type { TimerWheel } from "../net/timer-wheel.ts";
import type { Runtime } from "../runtime/runtime.ts";
import type { StatsStore } from "../stats/stats.ts";
import { compileCluster } from "../upstream/compile.ts";
import type { HostUpdate, MainClusters } from "../upstream/main-clusters.ts";
import type { ThreadLocalCluster } from "../upstream/upstream.ts";
import { WorkerClusters } from "../upstream/worker-clusters.ts";

export interface MainCallsOptions {
  readonly stats: StatsStore;
  readonly timers: TimerWheel;
  readonly runtime: Runtime;
  readonly concurrency: number;
  readonly members: MainClusters;
  /** Of the bootstrap: management servers are reached through its clusters only. */
  message(name: string): Cluster | undefined;
  context(): CompileContext;
}

export class MainCalls {
  readonly #options: MainCallsOptions;
  readonly #clusters: WorkerClusters;

  constructor(options: MainCallsOptions) {
    const { stats, timers, runtime, concurrency } = options;
    this.#options = options;
    this.#clusters = new WorkerClusters({ stats, timers, runtime, threads: concurrency + 1, workerIndex: concurrency });
  }

  /** A cluster is made when it is first asked for: most of them never are. */
  cluster(name: string): ThreadLocalCluster | undefined {
    const found = this.#clusters.get(name);
    if (found !== undefined) return found;
    const message = this.#options.message(name);
    if (message === undefined) return undefined;
    this.#clusters.add(compileCluster(message, this.#options.context()));
    for (const update of this.#options.members.snapshot([name])) this.#clusters.updateHosts(update);
    return this.#clusters.get(name);
  }

  updateHosts(update: HostUpdate): void {
    this.#clusters.updateHosts(update);
  }
  refreshHealth(cluster: string): void {
    this.#clusters.refreshHealth(cluster);
  }

  close(): void {
    this.#clusters.close();
  }
}
