/**
 * Route configurations that discovery brings (RDS), on one thread: connection managers look up the newest each time, so that an update
 * touches neither listeners nor connections.
 */
import { sourceKey } from "../config/config-source.ts";
import type { RouteConfiguration } from "../config/schema/types/envoy.config.route.v3.d.ts";
import type { Rds } from "../config/schema/types/envoy.extensions.filters.network.http_connection_manager.v3.d.ts";
import type { CompileContext } from "../extensions/extension.ts";
import { compileRouteConfiguration } from "./compile.ts";
import type { RouteTable } from "./route.ts";

export const routeConfigurationType = "envoy.config.route.v3.RouteConfiguration";

/** What tells a route configuration from others of its name: the source that it comes from. */
export function routesKey(source: Rds["configSource"], name: string): string {
  return `${sourceKey(source)}\u0000${name}`;
}

/** Holds what is there now: undefined while discovery has brought nothing. */
export interface RouteTableHolder {
  readonly current: RouteTable | undefined;
}

export class RouteTables {
  readonly #holders = new Map<string, { current: RouteTable | undefined }>();

  /** The same object for the same key, whether the routes have come or not. */
  holder(key: string): RouteTableHolder {
    let found = this.#holders.get(key);
    if (found === undefined) this.#holders.set(key, (found = { current: undefined }));
    return found;
  }

  /** The message is known to be good. undefined: no listener needs it any more; connections that still drain keep what they have. */
  set(key: string, message: RouteConfiguration | undefined, context: CompileContext): void {
    if (message === undefined) {
      this.#holders.delete(key);
      return;
    }
    const holder = this.holder(key) as { current: RouteTable | undefined };
    holder.current = compileRouteConfiguration(message, context, { validateClustersByDefault: false });
  }
}
