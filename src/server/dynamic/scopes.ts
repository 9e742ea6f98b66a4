/** Scopes of routes that discovery brings (SRDS). */
import { compileConfigSource, type XdsSource } from "../../config/config-source.ts";
import type { ConfigSource } from "../../config/schema/types/envoy.config.core.v3.d.ts";
import type { ScopedRouteConfiguration } from "../../config/schema/types/envoy.config.route.v3.d.ts";
import type { HttpConnectionManager } from "../../config/schema/types/envoy.extensions.filters.network.http_connection_manager.v3.d.ts";
import { walkMessages } from "../../config/walk.ts";
import { compileRouteConfiguration } from "../../router/compile.ts";
import { type ScopeSet, scopesKey } from "../../router/route-tables.ts";
import { scopeKey } from "../../router/scope-key.ts";
import type { ResourceUpdate, Subscription } from "../../xds/subscription.ts";
import { type DynamicEnvironment, firstDuplicate } from "./environment.ts";
import { managerType, type WantedRoutes, wantedRoutesOf } from "./routes.ts";

const scopeType = "envoy.config.route.v3.ScopedRouteConfiguration";

/** A set of scopes that a listener waits for. */
export interface WantedScopes {
  readonly key: string;
  /** ScopedRoutes.name, for statistics. */
  readonly name: string;
  readonly statPrefix: string;
  readonly routes: ConfigSource | undefined;
  /** Where it comes from; undefined: nowhere that is known. */
  source(): XdsSource | undefined;
}

export function wantedScopes(listener: object, environment: DynamicEnvironment): WantedScopes[] {
  const wanted: WantedScopes[] = [];
  walkMessages(listener, ({ message }) => {
    if (message.$typeName !== managerType) return true;
    const { routeSpecifier, statPrefix } = message as unknown as HttpConnectionManager;
    if (routeSpecifier.case !== "scopedRoutes") return true;
    const { configSpecifier, name, rdsConfigSource } = routeSpecifier.value;
    if (configSpecifier.case !== "scopedRds") return true;
    const { scopedRdsConfigSource } = configSpecifier.value;
    wanted.push({
      key: scopesKey(scopedRdsConfigSource, rdsConfigSource),
      name,
      statPrefix,
      routes: rdsConfigSource,
      source: () => compileConfigSource(configSpecifier.value, "scoped_rds_config_source", scopedRdsConfigSource, environment.context()),
    });
    return true;
  });
  return wanted;
}

interface Scope {
  readonly message: ScopedRouteConfiguration;
  readonly files: ReadonlyMap<string, Uint8Array>;
}

/** What is to be had of one set. */
interface Entry {
  readonly wanted: WantedScopes;
  readonly subscription: Subscription;
  readonly ready: Promise<void>;
  scopes: Map<string, Scope>;
  version: string;
}

export class DynamicScopes {
  readonly #environment: DynamicEnvironment;
  /** Subscribes to the routes that scopes name; resolves when they are there, or not to be had. */
  readonly #needRoutes: (wanted: readonly WantedRoutes[]) => Promise<void>;
  readonly #entries = new Map<string, Entry>();

  constructor(environment: DynamicEnvironment, needRoutes: (wanted: readonly WantedRoutes[]) => Promise<void>) {
    this.#environment = environment;
    this.#needRoutes = needRoutes;
  }

  async need(wanted: readonly WantedScopes[]): Promise<void> {
    await Promise.all(wanted.map((one) => (this.#entries.get(one.key) ?? this.#subscribe(one))?.ready));
  }

  has(wanted: readonly WantedScopes[]): boolean {
    return wanted.every(({ key }) => (this.#entries.get(key)?.version ?? "") !== "");
  }

  /** The routes that the scopes of these sets name. */
  routesOf(wanted: readonly WantedScopes[]): WantedRoutes[] {
    return wanted.flatMap((one) => this.#routesOf(one, this.#entries.get(one.key)?.scopes ?? new Map()));
  }

  /** Sets by key, for workers that start. */
  current(): Map<string, ScopeSet> {
    return new Map([...this.#entries].map(([key, entry]) => [key, setOf(entry)]));
  }

  async keepOnly(keys: ReadonlySet<string>): Promise<void> {
    const gone = [...this.#entries].filter(([key]) => !keys.has(key));
    for (const [key, { subscription }] of gone) {
      subscription.close();
      this.#entries.delete(key);
    }
    if (gone.length > 0) await this.#environment.apply({ scopes: gone.map(([key]) => [key, undefined]) });
  }

  close(): void {
    for (const { subscription } of this.#entries.values()) subscription.close();
  }

  #routesOf({ routes, statPrefix }: WantedScopes, scopes: ReadonlyMap<string, Scope>): WantedRoutes[] {
    const named = [...scopes.values()].filter(({ message }) => message.routeConfiguration === undefined);
    return named.map(({ message }) => wantedRoutesOf(routes, message.routeConfigurationName, statPrefix, this.#environment));
  }

  #subscribe(wanted: WantedScopes): Entry | undefined {
    const source = wanted.source();
    if (source === undefined) return undefined;
    const { stats, subscribe, setText } = this.#environment;
    const scope = stats.scope(`http.${wanted.statPrefix}.scoped_rds.${wanted.name}.`);
    for (const name of ["config_reload", "update_empty"]) scope.counter(name);
    for (const name of ["all_scopes", "on_demand_scopes", "active_scopes", "config_reload_time_ms"]) scope.gauge(name);
    let becomeReady: () => void = () => {};
    const ready = new Promise<void>((resolve) => {
      becomeReady = resolve;
    });
    const subscription = subscribe(source, {
      typeName: scopeType,
      scope,
      setText,
      accept: async (update) => {
        await this.#accept(entry, update);
        scope.counter("config_reload").inc();
        scope.gauge("all_scopes").set(entry.scopes.size);
        scope.gauge("active_scopes").set(entry.scopes.size);
        becomeReady();
      },
      onFailure: () => becomeReady(),
    });
    const entry: Entry = { wanted, subscription, ready, scopes: new Map(), version: "" };
    this.#entries.set(wanted.key, entry);
    subscription.start();
    return entry;
  }

  async #accept(entry: Entry, { resources, removed, version }: ResourceUpdate): Promise<void> {
    const twice = firstDuplicate(resources);
    if (twice !== undefined) throw new Error(`duplicate scoped route configuration '${twice}' found`);
    const scopes = removed === undefined ? new Map<string, Scope>() : new Map(entry.scopes);
    for (const name of removed ?? []) scopes.delete(name);
    for (const resource of resources) {
      const message = resource.message as ScopedRouteConfiguration;
      const files = await this.#environment.validate(resource, (context) => {
        if (message.routeConfiguration !== undefined) compileRouteConfiguration(message.routeConfiguration, context);
      });
      scopes.set(message.name, { message, files });
    }
    const byKey = new Map<string, string>();
    for (const { message } of scopes.values()) {
      const first = byKey.get(scopeKey(message.key));
      if (first !== undefined) throw new Error(`scope key conflict found, first scope is '${first}', second scope is '${message.name}'`);
      byKey.set(scopeKey(message.key), message.name);
    }
    // Requests of a scope are not to meet it before its routes.
    await this.#needRoutes(this.#routesOf(entry.wanted, scopes));
    entry.scopes = scopes;
    entry.version = version === "" ? "-" : version;
    await this.#environment.apply({ scopes: [[entry.wanted.key, setOf(entry)]], files: new Map([...scopes.values()].flatMap(({ files }) => [...files])) });
  }
}

function setOf({ scopes, wanted }: Entry): ScopeSet {
  return { scopes: [...scopes.values()].map(({ message }) => message), routes: wanted.routes };
}
