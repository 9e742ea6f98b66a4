/**
 * All that discovery brings to a running server. What is good is put in force resource by resource; what is refused leaves what was there.
 * Clusters come before listeners, so that no listener is opened whose clusters are still on their way.
 */
import type { XdsSource } from "../../config/config-source.ts";
import type { Listener } from "../../config/schema/types/envoy.config.listener.v3.d.ts";
import type { Subscription } from "../../xds/subscription.ts";
import { clusterType, DynamicClusters } from "./clusters.ts";
import type { DynamicEnvironment } from "./environment.ts";
import { DynamicListeners, listenerType } from "./listeners.ts";
import { DynamicRouteSet, wantedRoutes } from "./routes.ts";

export interface DynamicSources {
  readonly clusters: XdsSource | undefined;
  readonly listeners: XdsSource | undefined;
}

export class DynamicConfig {
  readonly clusters: DynamicClusters;
  readonly listeners: DynamicListeners;
  readonly routes: DynamicRouteSet;
  readonly #environment: DynamicEnvironment;
  readonly #subscriptions: Subscription[] = [];
  #staticListeners: readonly Listener[] = [];

  constructor(environment: DynamicEnvironment) {
    this.#environment = environment;
    this.clusters = new DynamicClusters(environment);
    this.routes = new DynamicRouteSet(environment);
    this.listeners = new DynamicListeners(environment, {
      need: (listener) => {
        const wanted = wantedRoutes(listener, environment);
        const ready = this.routes.need(wanted);
        return { isReady: this.routes.has(wanted), ready };
      },
      changed: () => void this.#dropUnused(),
    });
  }

  /** Resolves with the first answer, or when it is not waited for any longer. */
  startClusters(source: XdsSource): Promise<void> {
    return this.#start(source, clusterType, "cluster_manager.cds.", (update) => this.clusters.accept(update));
  }

  /** The same, and all listeners of the answer have what they need. */
  async startListeners(source: XdsSource): Promise<void> {
    this.#environment.stats.scope("listener_manager.lds.");
    await this.#start(source, listenerType, "listener_manager.lds.", (update) => this.listeners.accept(update));
    await Promise.all(this.listeners.warming.map(({ message }) => this.routes.need(wantedRoutes(message, this.#environment))));
  }

  /** What listeners of the bootstrap wait for; resolves when it is there, or not to be had. */
  async needOf(listeners: readonly Listener[]): Promise<void> {
    this.#staticListeners = listeners;
    await this.routes.need(listeners.flatMap((listener) => wantedRoutes(listener, this.#environment)));
    await this.#dropUnused();
  }

  close(): void {
    for (const subscription of this.#subscriptions) subscription.close();
    this.routes.close();
    this.listeners.close();
  }

  #start(source: XdsSource, typeName: string, prefix: string, accept: (update: Parameters<DynamicClusters["accept"]>[0]) => Promise<void>): Promise<void> {
    return new Promise((resolve) => {
      const { stats, setText, subscribe } = this.#environment;
      const subscription = subscribe(source, {
        typeName,
        scope: stats.scope(prefix),
        setText,
        accept: (update) => accept(update).finally(resolve),
        onFailure: resolve,
      });
      this.#subscriptions.push(subscription);
      subscription.start();
    });
  }

  async #dropUnused(): Promise<void> {
    const { active, warming } = this.listeners;
    const all = [...this.#staticListeners, ...active.map(({ message }) => message), ...warming.map(({ message }) => message)];
    await this.routes.keepOnly(new Set(all.flatMap((listener) => wantedRoutes(listener, this.#environment).map(({ key }) => key))));
  }
}
