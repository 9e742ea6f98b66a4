/** Endpoints as they are now (addresses resolved, health known), as envoy.config.endpoint.v3.ClusterLoadAssignment: /config_dump?include_eds. */
import type { Address } from "../net/connection.ts";
import type { AdminCluster, AdminHost, AdminServer } from "./server.ts";
import { type Typed, typed } from "./typed.ts";

export function endpointConfigs(server: AdminServer, keep: (name: string) => boolean): Typed[] {
  const configured = new Map((server.config.bootstrap.staticResources?.clusters ?? []).map((cluster) => [cluster.name, cluster]));
  return [...server.clusters()]
    .filter((cluster) => keep(cluster.edsServiceName || cluster.name))
    .sort((a, b) => (a.name < b.name ? -1 : 1))
    .map((cluster) => assignment(cluster, configured.get(cluster.name)?.loadAssignment?.policy?.overprovisioningFactor ?? 140));
}

function assignment(cluster: AdminCluster, overprovisioningFactor: number): Typed {
  const groups = new Map<string, AdminHost[]>();
  for (const host of cluster.hosts) {
    const { region, zone, subZone } = host.locality;
    const key = JSON.stringify([host.priority, region, zone, subZone]);
    const group = groups.get(key);
    if (group === undefined) groups.set(key, [host]);
    else group.push(host);
  }
  return typed("envoy.config.endpoint.v3.ClusterLoadAssignment", {
    clusterName: cluster.edsServiceName || cluster.name,
    endpoints: [...groups.values()].map(locality),
    policy: typed("envoy.config.endpoint.v3.ClusterLoadAssignment.Policy", { overprovisioningFactor }),
  });
}

function locality(hosts: readonly AdminHost[]): Typed {
  const { locality: place, priority } = hosts[0];
  return typed("envoy.config.endpoint.v3.LocalityLbEndpoints", {
    locality: typed("envoy.config.core.v3.Locality", place),
    lbEndpoints: hosts.map((host) =>
      typed("envoy.config.endpoint.v3.LbEndpoint", {
        hostIdentifier: {
          case: "endpoint",
          value: typed("envoy.config.endpoint.v3.Endpoint", {
            address: addressMessage(host.address),
            healthCheckConfig: typed("envoy.config.endpoint.v3.Endpoint.HealthCheckConfig", {
              portValue: host.healthCheckPort ?? 0,
              hostname: host.healthCheckHostname ?? "",
            }),
            hostname: host.hostname,
          }),
        },
        healthStatus: healthStatus(host),
        ...(host.metadata !== undefined && { metadata: typed("envoy.config.core.v3.Metadata", { filterMetadata: host.metadata }) }),
        loadBalancingWeight: host.weight,
      }),
    ),
    priority,
    loadBalancingWeight: 0,
  });
}

function addressMessage(address: Address): Typed {
  const value =
    address.kind === "pipe"
      ? { case: "pipe", value: typed("envoy.config.core.v3.Pipe", { path: address.path }) }
      : {
          case: "socketAddress",
          value: typed("envoy.config.core.v3.SocketAddress", { address: address.ip, portSpecifier: { case: "portValue", value: address.port } }),
        };
  return typed("envoy.config.core.v3.Address", { address: value });
}

/** envoy.config.core.v3.HealthStatus: 1 HEALTHY, 2 UNHEALTHY, 5 DEGRADED. */
function healthStatus(host: AdminHost): number {
  const flags = host.healthFlags;
  if (flags.some((flag) => flag.startsWith("failed_") || flag === "active_hc_timeout" || flag === "eds_status_draining")) return 2;
  return flags.some((flag) => flag.startsWith("degraded_")) ? 5 : 1;
}
