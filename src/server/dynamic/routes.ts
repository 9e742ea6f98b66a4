/** Route configurations that discovery brings (RDS): fetched once for all connection managers that name them. */
import { compileConfigSource, type XdsSource } from "../../config/config-source.ts";
import { fingerprint } from "../../config/fingerprint.ts";
import type { ConfigSource } from "../../config/schema/types/envoy.config.core.v3.d.ts";
import type { RouteConfiguration } from "../../config/schema/types/envoy.config.route.v3.d.ts";
import type { HttpConnectionManager } from "../../config/schema/types/envoy.extensions.filters.network.http_connection_manager.v3.d.ts";
import { walkMessages } from "../../config/walk.ts";
import { getLogger } from "../../log/log.ts";
import { compileRouteConfiguration } from "../../router/compile.ts";
import { routeConfigurationType, routesKey } from "../../router/route-tables.ts";
import type { Counter } from "../../stats/stats.ts";
import type { ResourceUpdate, Subscription } from "../../xds/subscription.ts";
import type { DynamicEnvironment } from "./environment.ts";

const log = getLogger("router");

export interface DynamicRoutes {
  readonly message: RouteConfiguration;
  readonly version: string;
  readonly updatedAt: Date;
  readonly files: ReadonlyMap<string, Uint8Array>;
}

export const managerType = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/** Route configurations that a listener waits for. */
export interface WantedRoutes {
  readonly key: string;
  readonly name: string;
  readonly statPrefix: string;
  /** Where it comes from; undefined: nowhere that is known. */
  source(): XdsSource | undefined;
}

/** A route configuration that is named with its source. */
export function wantedRoutesOf(configSource: ConfigSource | undefined, name: string, statPrefix: string, environment: DynamicEnvironment): WantedRoutes {
  const source = (): XdsSource | undefined =>
    configSource === undefined ? undefined : compileConfigSource(configSource, "config_source", configSource, environment.context());
  return { key: routesKey(configSource, name), name, statPrefix, source };
}

export function wantedRoutes(listener: object, environment: DynamicEnvironment): WantedRoutes[] {
  const wanted: WantedRoutes[] = [];
  walkMessages(listener, ({ message }) => {
    if (message.$typeName !== managerType) return true;
    const { routeSpecifier, statPrefix } = message as unknown as HttpConnectionManager;
    const { case: kind, value } = routeSpecifier;
    if (kind === "rds") wanted.push(wantedRoutesOf(value.configSource, value.routeConfigName, statPrefix, environment));
    if (kind !== "scopedRoutes" || value.configSpecifier.case !== "scopedRouteConfigurationsList") return true;
    for (const scope of value.configSpecifier.value.scopedRouteConfigurations)
      if (scope.routeConfiguration === undefined) wanted.push(wantedRoutesOf(value.rdsConfigSource, scope.routeConfigurationName, statPrefix, environment));
    return true;
  });
  return wanted;
}

/** One route configuration. */
class RouteSubscription {
  readonly name: string;
  /** Resolves when there are routes, or there is no use waiting for them. */
  readonly ready: Promise<void>;
  current: DynamicRoutes | undefined;
  readonly #key: string;
  readonly #environment: DynamicEnvironment;
  readonly #subscription: Subscription;
  readonly #reloads: Counter;
  readonly #empty: Counter;
  #becomeReady: () => void = () => {};

  constructor(wanted: WantedRoutes, source: XdsSource, environment: DynamicEnvironment) {
    this.name = wanted.name;
    this.#key = wanted.key;
    this.#environment = environment;
    this.ready = new Promise((resolve) => {
      this.#becomeReady = resolve;
    });
    const scope = environment.stats.scope(`http.${wanted.statPrefix}.rds.${wanted.name}.`);
    this.#reloads = scope.counter("config_reload");
    this.#empty = scope.counter("update_empty");
    scope.gauge("config_reload_time_ms");
    this.#subscription = environment.subscribe(source, {
      typeName: routeConfigurationType,
      scope,
      names: [wanted.name],
      setText: environment.setText,
      accept: (update) => this.#accept(update),
      onFailure: () => this.#becomeReady(),
    });
  }

  start(): void {
    this.#subscription.start();
  }

  close(): void {
    this.#subscription.close();
    this.#becomeReady();
  }

  async #accept({ resources, removed }: ResourceUpdate): Promise<void> {
    if (resources.length === 0) {
      // A route configuration cannot be taken away while listeners need it.
      if (removed?.includes(this.name) === true) log.error(`Server sent a delta RDS update attempting to remove a resource (name: ${this.name}). Ignoring.`);
      else this.#empty.inc();
      this.#becomeReady();
      return;
    }
    if (resources.length > 1) throw new Error(`Unexpected RDS resource length: ${resources.length}`);
    const [resource] = resources;
    const message = resource.message as RouteConfiguration;
    if (message.name !== this.name) throw new Error(`Unexpected RDS configuration (expecting ${this.name}): ${message.name}`);
    const files = await this.#environment.validate(
      resource,
      (context) => void compileRouteConfiguration(message, context, { validateClustersByDefault: false }),
    );
    const before = this.current;
    const isSame = before !== undefined && fingerprint(before.message, before.files) === fingerprint(message, files);
    this.current = { message, version: resource.version, updatedAt: isSame ? before.updatedAt : new Date(), files };
    if (!isSame) {
      await this.#environment.apply({ routes: [[this.#key, message]], files });
      this.#reloads.inc();
    }
    this.#becomeReady();
  }
}

export class DynamicRouteSet {
  readonly #environment: DynamicEnvironment;
  readonly #subscriptions = new Map<string, RouteSubscription>();

  constructor(environment: DynamicEnvironment) {
    this.#environment = environment;
  }

  /** Subscribes to what is new among them; resolves when all are there, or not to be had. */
  async need(wanted: readonly WantedRoutes[]): Promise<void> {
    await Promise.all(
      wanted.map((one) => {
        let found = this.#subscriptions.get(one.key);
        const source = found === undefined ? one.source() : undefined;
        if (source !== undefined) {
          this.#subscriptions.set(one.key, (found = new RouteSubscription(one, source, this.#environment)));
          found.start();
        }
        return found?.ready;
      }),
    );
  }

  /** Whether all are there. */
  has(wanted: readonly WantedRoutes[]): boolean {
    return wanted.every(({ key }) => this.#subscriptions.get(key)?.current !== undefined);
  }

  /** Ends the subscriptions that nobody needs any more. */
  async keepOnly(keys: ReadonlySet<string>): Promise<void> {
    const gone = [...this.#subscriptions].filter(([key]) => !keys.has(key));
    for (const [key, subscription] of gone) {
      subscription.close();
      this.#subscriptions.delete(key);
    }
    // Connections that drain may still ask for them: the workers keep the tables that are in use.
    if (gone.length > 0) await this.#environment.apply({ routes: gone.map(([key]) => [key, undefined]) });
  }

  /** Those that have come, by key. */
  current(): Map<string, DynamicRoutes> {
    return new Map([...this.#subscriptions].flatMap(([key, { current }]) => (current === undefined ? [] : [[key, current] as const])));
  }

  close(): void {
    for (const subscription of this.#subscriptions.values()) subscription.close();
    this.#subscriptions.clear();
  }
}
