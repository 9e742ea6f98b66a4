/** The sections of /config_dump as messages of envoy.admin.v3, in the order of their keys in Envoy. */
import type { Timestamp } from "../config/message.ts";
import type { FilterChain, Listener } from "../config/schema/types/envoy.config.listener.v3.d.ts";
import type { RouteConfiguration } from "../config/schema/types/envoy.config.route.v3.d.ts";
import type { HttpConnectionManager } from "../config/schema/types/envoy.extensions.filters.network.http_connection_manager.v3.d.ts";
import { endpointConfigs } from "./endpoint-configs.ts";
import { nodeMessage } from "./node.ts";
import type { AdminServer } from "./server.ts";
import { type Typed, typed } from "./typed.ts";

/** One element of ConfigDump.configs. */
export interface ConfigSection {
  /** Whole, with its items. */
  readonly message: Typed;
  /** The list that it consists of: proto name, property name and elements. */
  readonly items?: { readonly field: string; readonly property: string; readonly messages: readonly Typed[] };
}

const hcmType = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/** `keep`: which resources, by name. */
export function configSections(server: AdminServer, includeEds: boolean, keep: (name: string) => boolean): ConfigSection[] {
  const { bootstrap, bootstrapLoadedAt, updatedAt } = server.config;
  const resources = bootstrap.staticResources;
  const lastUpdated = timestamp(updatedAt);
  const sections: ConfigSection[] = [
    {
      message: typed("envoy.admin.v3.BootstrapConfigDump", {
        bootstrap: { ...bootstrap, node: nodeMessage(server) },
        lastUpdated: timestamp(bootstrapLoadedAt),
      }),
    },
  ];

  const clusters = (resources?.clusters ?? []).filter((cluster) => keep(cluster.name)).sort((a, b) => (a.name < b.name ? -1 : 1));
  sections.push(
    section(
      "ClustersConfigDump",
      "static_clusters",
      "staticClusters",
      clusters.map((cluster) => typed("envoy.admin.v3.ClustersConfigDump.StaticCluster", { cluster, lastUpdated })),
    ),
  );
  if (includeEds) {
    const configs = endpointConfigs(server, keep).map((endpointConfig) => typed("envoy.admin.v3.EndpointsConfigDump.StaticEndpointConfig", { endpointConfig }));
    sections.push(section("EndpointsConfigDump", "static_endpoint_configs", "staticEndpointConfigs", configs));
  }
  const listeners = (resources?.listeners ?? []).filter((listener) => keep(listener.name));
  sections.push(
    section(
      "ListenersConfigDump",
      "static_listeners",
      "staticListeners",
      listeners.map((listener) => typed("envoy.admin.v3.ListenersConfigDump.StaticListener", { listener, lastUpdated })),
    ),
  );
  sections.push(section("ScopedRoutesConfigDump", "inline_scoped_route_configs", "inlineScopedRouteConfigs", []));
  const routes = (resources?.listeners ?? []).flatMap(inlineRoutes).filter((route) => keep(route.name));
  sections.push(
    section(
      "RoutesConfigDump",
      "static_route_configs",
      "staticRouteConfigs",
      routes.map((routeConfig) => typed("envoy.admin.v3.RoutesConfigDump.StaticRouteConfig", { routeConfig, lastUpdated })),
    ),
  );
  const staticSecrets = (resources?.secrets ?? [])
    .filter((secret) => keep(secret.name))
    .map((secret) => typed("envoy.admin.v3.SecretsConfigDump.StaticSecret", { name: secret.name, secret }));
  const dynamicSecrets = server.config.dynamicSecrets
    .filter((secret) => keep(secret.name))
    .map(({ name, version, updatedAt: at, secret }) =>
      typed("envoy.admin.v3.SecretsConfigDump.DynamicSecret", { name, versionInfo: version, lastUpdated: timestamp(at), secret }),
    );
  const secrets = typed("envoy.admin.v3.SecretsConfigDump", { staticSecrets, dynamicActiveSecrets: dynamicSecrets });
  sections.push({
    message: secrets,
    items:
      dynamicSecrets.length === 0
        ? { field: "static_secrets", property: "staticSecrets", messages: staticSecrets }
        : { field: "dynamic_active_secrets", property: "dynamicActiveSecrets", messages: dynamicSecrets },
  });
  return sections;
}

function section(name: string, field: string, property: string, messages: readonly Typed[]): ConfigSection {
  return { message: typed(`envoy.admin.v3.${name}`, { [property]: messages }), items: { field, property, messages } };
}

export function timestamp(date: Date): Timestamp {
  const ms = date.getTime();
  return { $typeName: "google.protobuf.Timestamp", seconds: BigInt(Math.floor(ms / 1000)), nanos: (ms % 1000) * 1e6 };
}

/** Route configurations that stand in connection managers. */
function inlineRoutes(listener: Listener): RouteConfiguration[] {
  const chains: FilterChain[] = [...listener.filterChains];
  if (listener.defaultFilterChain !== undefined) chains.push(listener.defaultFilterChain);
  const found: RouteConfiguration[] = [];
  for (const chain of chains) {
    for (const filter of chain.filters) {
      if (filter.configType.case !== "typedConfig" || filter.configType.value.$typeName !== hcmType) continue;
      const { routeSpecifier } = filter.configType.value as HttpConnectionManager;
      if (routeSpecifier.case === "routeConfig") found.push(routeSpecifier.value);
    }
  }
  return found;
}
