/** The sections of /config_dump as messages of envoy.admin.v3, in the order of their keys in Envoy. */
import type { Timestamp } from "../config/message.ts";
import type { FilterChain, Listener } from "../config/schema/types/envoy.config.listener.v3.d.ts";
import type { RouteConfiguration } from "../config/schema/types/envoy.config.route.v3.d.ts";
import type { HttpConnectionManager } from "../config/schema/types/envoy.extensions.filters.network.http_connection_manager.v3.d.ts";
import { endpointConfigs } from "./endpoint-configs.ts";
import { nodeFacts, nodeMessage } from "./node.ts";
import type { AdminDynamic, AdminResource, AdminServer } from "./server.ts";
import { type Typed, typed } from "./typed.ts";

/** One element of ConfigDump.configs. */
export interface ConfigSection {
  /** Whole, with its items. */
  readonly message: Typed;
  /** The lists that it consists of: proto name, property name and elements. */
  readonly items: readonly { readonly field: string; readonly property: string; readonly messages: readonly Typed[] }[];
}

const hcmType = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";

/** `keep`: which resources, by name. */
export function configSections(server: AdminServer, includeEds: boolean, keep: (name: string) => boolean): ConfigSection[] {
  const { bootstrap, bootstrapLoadedAt, updatedAt, dynamic } = server.config;
  const resources = bootstrap.staticResources;
  const lastUpdated = timestamp(updatedAt);
  const sections: ConfigSection[] = [
    {
      message: typed("envoy.admin.v3.BootstrapConfigDump", {
        bootstrap: { ...bootstrap, node: nodeMessage(nodeFacts(server)) },
        lastUpdated: timestamp(bootstrapLoadedAt),
      }),
      items: [],
    },
  ];

  const clusters = (resources?.clusters ?? []).filter((cluster) => keep(cluster.name)).sort((a, b) => (a.name < b.name ? -1 : 1));
  const dynamicCluster = ({ message, version, updatedAt: at }: AdminResource): Typed =>
    typed("envoy.admin.v3.ClustersConfigDump.DynamicCluster", { versionInfo: version, cluster: message, lastUpdated: timestamp(at) });
  const named = (all: readonly AdminResource[]): AdminResource[] =>
    all.filter(({ message }) => keep(nameOf(message))).sort((a, b) => (nameOf(a.message) < nameOf(b.message) ? -1 : 1));
  sections.push(
    section("ClustersConfigDump", dynamic.clusters.version, [
      ["static_clusters", "staticClusters", clusters.map((cluster) => typed("envoy.admin.v3.ClustersConfigDump.StaticCluster", { cluster, lastUpdated }))],
      ["dynamic_active_clusters", "dynamicActiveClusters", named(dynamic.clusters.active).map(dynamicCluster)],
      ["dynamic_warming_clusters", "dynamicWarmingClusters", named(dynamic.clusters.warming).map(dynamicCluster)],
    ]),
  );
  if (includeEds) {
    const configs = endpointConfigs(server, keep).map((endpointConfig) => typed("envoy.admin.v3.EndpointsConfigDump.StaticEndpointConfig", { endpointConfig }));
    sections.push(section("EndpointsConfigDump", "", [["static_endpoint_configs", "staticEndpointConfigs", configs]]));
  }
  const activeListeners = dynamic.listeners.entries.flatMap(({ active }) => (active === undefined ? [] : [active.message as unknown as Listener]));
  const listeners = (resources?.listeners ?? []).filter((listener) => keep(listener.name));
  sections.push(
    section("ListenersConfigDump", dynamic.listeners.version, [
      [
        "static_listeners",
        "staticListeners",
        listeners.map((listener) => typed("envoy.admin.v3.ListenersConfigDump.StaticListener", { listener, lastUpdated })),
      ],
      ["dynamic_listeners", "dynamicListeners", dynamic.listeners.entries.filter(({ name }) => keep(name)).map(dynamicListener)],
    ]),
  );
  sections.push(section("ScopedRoutesConfigDump", "", [["inline_scoped_route_configs", "inlineScopedRouteConfigs", []]]));
  const routes = [...(resources?.listeners ?? []), ...activeListeners].flatMap(inlineRoutes).filter((route) => keep(route.name));
  sections.push(
    section("RoutesConfigDump", "", [
      [
        "static_route_configs",
        "staticRouteConfigs",
        routes.map((routeConfig) => typed("envoy.admin.v3.RoutesConfigDump.StaticRouteConfig", { routeConfig, lastUpdated })),
      ],
      [
        "dynamic_route_configs",
        "dynamicRouteConfigs",
        named(dynamic.routes).map(({ message, version, updatedAt: at }) =>
          typed("envoy.admin.v3.RoutesConfigDump.DynamicRouteConfig", { versionInfo: version, routeConfig: message, lastUpdated: timestamp(at) }),
        ),
      ],
    ]),
  );
  const staticSecrets = (resources?.secrets ?? [])
    .filter((secret) => keep(secret.name))
    .map((secret) => typed("envoy.admin.v3.SecretsConfigDump.StaticSecret", { name: secret.name, secret }));
  const dynamicSecrets = server.config.dynamicSecrets
    .filter((secret) => keep(secret.name))
    .map(({ name, version, updatedAt: at, secret }) =>
      typed("envoy.admin.v3.SecretsConfigDump.DynamicSecret", { name, versionInfo: version, lastUpdated: timestamp(at), secret }),
    );
  sections.push(
    section("SecretsConfigDump", "", [
      ["static_secrets", "staticSecrets", staticSecrets],
      ["dynamic_active_secrets", "dynamicActiveSecrets", dynamicSecrets],
    ]),
  );
  return sections;
}

/** `versionInfo`: of the discovery response that brought it, "" where none did. */
function section(name: string, versionInfo: string, lists: readonly (readonly [field: string, property: string, messages: readonly Typed[]])[]): ConfigSection {
  const contents = Object.fromEntries(lists.map(([, property, messages]) => [property, messages]));
  return {
    message: typed(`envoy.admin.v3.${name}`, versionInfo === "" ? contents : { versionInfo, ...contents }),
    items: lists.map(([field, property, messages]) => ({ field, property, messages })),
  };
}

function nameOf(message: object): string {
  return (message as { readonly name?: string }).name ?? "";
}

function dynamicListener({ name, active, warming, failure }: AdminDynamic["listeners"]["entries"][number]): Typed {
  const state = ({ message, version, updatedAt }: AdminResource): Typed =>
    typed("envoy.admin.v3.ListenersConfigDump.DynamicListenerState", { versionInfo: version, listener: message, lastUpdated: timestamp(updatedAt) });
  return typed("envoy.admin.v3.ListenersConfigDump.DynamicListener", {
    name,
    ...(active !== undefined && { activeState: state(active) }),
    ...(warming !== undefined && { warmingState: state(warming) }),
    ...(failure !== undefined && {
      errorState: typed("envoy.admin.v3.UpdateFailureState", {
        failedConfiguration: failure.message,
        lastUpdateAttempt: timestamp(failure.at),
        details: failure.details,
        versionInfo: failure.version,
      }),
    }),
  });
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
