/**
 * Where connection managers find their routes. Route configurations that discovery brings (RDS) are looked up anew for each request, so that an
 * update touches neither listeners nor connections; so are scopes (SRDS), each of which has routes of its own.
 */
import { sourceKey } from "../config/config-source.ts";
import type { ConfigSource } from "../config/schema/types/envoy.config.core.v3.d.ts";
import type { RouteConfiguration, ScopedRouteConfiguration } from "../config/schema/types/envoy.config.route.v3.d.ts";
import type { CompileContext } from "../extensions/extension.ts";
import type { RequestHeaders } from "../http/header-map.ts";
import { compileRouteConfiguration } from "./compile.ts";
import type { RouteTable } from "./route.ts";
import { type ScopeKeyBuilder, scopeKey } from "./scope-key.ts";

export const routeConfigurationType = "envoy.config.route.v3.RouteConfiguration";

/** What tells a route configuration from others of its name: the source that it comes from. */
export function routesKey(source: ConfigSource | undefined, name: string): string {
  return `${sourceKey(source)}\u0000${name}`;
}

/** What tells a set of scopes from others: its source, and that of the routes which it only names. */
export function scopesKey(source: ConfigSource | undefined, routes: ConfigSource | undefined): string {
  return `${sourceKey(source)}\u0000${sourceKey(routes)}`;
}

/** Where a connection manager's routes come from. */
export interface RouteSource {
  /** undefined: there are none, or discovery has brought none yet. */
  of(headers: RequestHeaders): RouteTable | undefined;
}

/** The same for every request. */
export class RouteTableHolder implements RouteSource {
  current: RouteTable | undefined;
  constructor(current?: RouteTable) {
    this.current = current;
  }
  of(): RouteTable | undefined {
    return this.current;
  }
}

type Scopes = ReadonlyMap<string, RouteTableHolder>;

/** By a key that is made of the request. */
export class ScopedRouteSource implements RouteSource {
  readonly #key: ScopeKeyBuilder;
  readonly #scopes: { readonly current: Scopes };
  constructor(key: ScopeKeyBuilder, scopes: { readonly current: Scopes }) {
    this.#key = key;
    this.#scopes = scopes;
  }
  of(headers: RequestHeaders): RouteTable | undefined {
    const key = this.#key(headers);
    return key === undefined ? undefined : this.#scopes.current.get(key)?.current;
  }
}

/** Scopes, and where the routes are that they only name. */
export interface ScopeSet {
  readonly scopes: readonly ScopedRouteConfiguration[];
  readonly routes: ConfigSource | undefined;
}

/** Compiles scopes; `tables`: where discovery brings the routes that they name. The first of two with one key counts, as was checked before. */
export function compileScopes({ scopes, routes }: ScopeSet, tables: RouteTables | undefined, context: CompileContext): Scopes {
  const compiled = new Map<string, RouteTableHolder>();
  for (const { key, routeConfiguration, routeConfigurationName } of scopes) {
    const text = scopeKey(key);
    if (compiled.has(text)) continue;
    compiled.set(
      text,
      routeConfiguration === undefined
        ? (tables?.holder(routesKey(routes, routeConfigurationName)) ?? new RouteTableHolder())
        : new RouteTableHolder(compileRouteConfiguration(routeConfiguration, context)),
    );
  }
  return compiled;
}

/** What discovery has brought to one thread. */
export class RouteTables {
  readonly #holders = new Map<string, RouteTableHolder>();
  readonly #scopes = new Map<string, { current: Scopes }>();

  /** The same object for the same key, whether the routes have come or not. */
  holder(key: string): RouteTableHolder {
    let found = this.#holders.get(key);
    if (found === undefined) this.#holders.set(key, (found = new RouteTableHolder()));
    return found;
  }

  scopes(key: string): { readonly current: Scopes } {
    let found = this.#scopes.get(key);
    if (found === undefined) this.#scopes.set(key, (found = { current: new Map() }));
    return found;
  }

  /** The message is known to be good. undefined: no listener needs it any more; connections that still drain keep what they have. */
  set(key: string, message: RouteConfiguration | undefined, context: CompileContext): void {
    if (message === undefined) this.#holders.delete(key);
    else this.holder(key).current = compileRouteConfiguration(message, context, { validateClustersByDefault: false });
  }

  /** The same for scopes. */
  setScopes(key: string, set: ScopeSet | undefined, context: CompileContext): void {
    if (set === undefined) this.#scopes.delete(key);
    else (this.scopes(key) as { current: Scopes }).current = compileScopes(set, this, context);
  }
}
