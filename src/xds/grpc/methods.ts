/** The streams of the discovery services: by what is asked for. */

export interface DiscoveryMethod {
  readonly service: string;
  readonly method: string;
}

interface Streams {
  readonly service: string;
  readonly suffix: string;
}

const v3 = (service: string, suffix: string): Streams => ({ service: `envoy.service.${service}`, suffix });

const methods: Readonly<Record<string, Streams>> = {
  "envoy.config.cluster.v3.Cluster": v3("cluster.v3.ClusterDiscoveryService", "Clusters"),
  "envoy.config.endpoint.v3.ClusterLoadAssignment": v3("endpoint.v3.EndpointDiscoveryService", "Endpoints"),
  "envoy.config.listener.v3.Listener": v3("listener.v3.ListenerDiscoveryService", "Listeners"),
  "envoy.config.route.v3.RouteConfiguration": v3("route.v3.RouteDiscoveryService", "Routes"),
  "envoy.config.route.v3.ScopedRouteConfiguration": v3("route.v3.ScopedRoutesDiscoveryService", "ScopedRoutes"),
  "envoy.config.route.v3.VirtualHost": v3("route.v3.VirtualHostDiscoveryService", "VirtualHosts"),
  "envoy.extensions.transport_sockets.tls.v3.Secret": v3("secret.v3.SecretDiscoveryService", "Secrets"),
  "envoy.service.runtime.v3.Runtime": v3("runtime.v3.RuntimeDiscoveryService", "Runtime"),
  "envoy.config.core.v3.TypedExtensionConfig": v3("extension.v3.ExtensionConfigDiscoveryService", "ExtensionConfigs"),
};
const aggregated = v3("discovery.v3.AggregatedDiscoveryService", "AggregatedResources");

/** `typeName` undefined: the aggregated stream of all types. undefined: there is no such service. */
export function discoveryMethod(typeName: string | undefined, isDelta: boolean): DiscoveryMethod | undefined {
  const found = typeName === undefined ? aggregated : methods[typeName];
  return found && { service: found.service, method: `${isDelta ? "Delta" : "Stream"}${found.suffix}` };
}
