/**
 * All that discovery brings to a running server. What is good is put in force resource by resource; what is refused leaves what was there.
 * Clusters come before listeners, so that no listener is opened whose clusters are still on their way.
 */
import type { GrpcSource, XdsSource } from "../../config/config-source.ts";
import type { Subscription } from "../../xds/subscription.ts";
import { clusterType, DynamicClusters } from "./clusters.ts";
import type { DynamicEnvironment, Needs } from "./environment.ts";
import { DynamicListeners, listenerType } from "./listeners.ts";
import { DynamicRouteSet, wantedRoutes } from "./routes.ts";
import { DynamicScopes, wantedScopes } from "./scopes.ts";
import { DynamicSecrets, wantedSecrets } from "./secrets.ts";

export interface DynamicSources {
  readonly clusters: XdsSource | undefined;
  readonly listeners: XdsSource | undefined;
  /** ads_config */
  readonly ads: GrpcSource | undefined;
}

export class DynamicConfig {
  readonly clusters: DynamicClusters;
  readonly listeners: DynamicListeners;
  readonly routes: DynamicRouteSet;
  readonly scopes: DynamicScopes;
  readonly secrets: DynamicSecrets;
  readonly #environment: DynamicEnvironment;
  readonly #subscriptions: Subscription[] = [];
  #static: readonly object[] = [];

  constructor(environment: DynamicEnvironment) {
    this.#environment = environment;
    this.routes = new DynamicRouteSet(environment);
    this.scopes = new DynamicScopes(environment, (wanted) => this.routes.need(wanted));
    this.secrets = new DynamicSecrets(environment);
    this.clusters = new DynamicClusters(environment, (cluster) => this.#need(cluster));
    this.listeners = new DynamicListeners(environment, { need: (listener) => this.#need(listener), changed: () => void this.#dropUnused() });
  }

  /** Resolves with the first answer, or when it is not waited for any longer. */
  startClusters(source: XdsSource): Promise<void> {
    return this.#start(source, clusterType, "cluster_manager.cds.", (update) => this.clusters.accept(update));
  }

  /** The same, and all listeners of the answer have what they need. */
  async startListeners(source: XdsSource): Promise<void> {
    this.#environment.stats.scope("listener_manager.lds.");
    await this.#start(source, listenerType, "listener_manager.lds.", (update) => this.listeners.accept(update));
    await Promise.all(this.listeners.warming.map(({ message }) => this.#need(message).ready));
  }

  /** What resources of the bootstrap wait for; resolves when it is there, or not to be had. */
  async needOf(resources: readonly object[]): Promise<void> {
    this.#static = resources;
    await Promise.all(resources.map((resource) => this.#need(resource).ready));
    await this.#dropUnused();
  }

  /** Subscribes to what a listener or cluster names. */
  #need(resource: object): Needs {
    const routes = wantedRoutes(resource, this.#environment);
    const secrets = wantedSecrets(resource, this.#environment);
    const scopes = wantedScopes(resource, this.#environment);
    const ready = Promise.all([this.routes.need(routes), this.scopes.need(scopes), this.secrets.need(secrets)]).then(() => {});
    return { isReady: this.routes.has(routes) && this.scopes.has(scopes) && this.secrets.has(secrets), ready };
  }

  close(): void {
    for (const subscription of this.#subscriptions) subscription.close();
    this.routes.close();
    this.scopes.close();
    this.secrets.close();
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
    const dynamic = [this.listeners, this.clusters].flatMap(({ active, warming }) => [...active, ...warming].map(({ message }) => message as object));
    const all = [...this.#static, ...dynamic];
    this.secrets.keepOnly(new Set(all.flatMap((resource) => wantedSecrets(resource, this.#environment).map(({ key }) => key))));
    const scopes = all.flatMap((resource) => wantedScopes(resource, this.#environment));
    await this.scopes.keepOnly(new Set(scopes.map(({ key }) => key)));
    const routes = [...all.flatMap((resource) => wantedRoutes(resource, this.#environment)), ...this.scopes.routesOf(scopes)];
    await this.routes.keepOnly(new Set(routes.map(({ key }) => key)));
  }
}
