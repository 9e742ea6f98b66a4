/** Clusters and their hosts as /clusters shows them: members from the main thread, statistics of hosts from all threads. */
import type { AdminCluster, AdminHost, AdminHostStats, AdminThresholds } from "../admin/server.ts";
import type { RuntimeSnapshot } from "../runtime/runtime.ts";
import { healthCheckAddress } from "../upstream/health/dial.ts";
import { hostStatPrefix } from "../upstream/host.ts";
import { flagNames } from "../upstream/host-health.ts";
import type { HostData } from "../upstream/hosts.ts";
import type { ClusterView } from "../upstream/main-clusters.ts";
import type { Thresholds } from "../upstream/settings.ts";

const statNames = [
  "cx_active",
  "cx_connect_fail",
  "cx_total",
  "rq_active",
  "rq_error",
  "rq_pending_active",
  "rq_success",
  "rq_timeout",
  "rq_total",
] as const satisfies readonly (keyof AdminHostStats)[];

/** `read`: a statistic of all threads by its name, 0 where there is none. */
export function adminClusters(
  views: readonly ClusterView[],
  isDynamic: (name: string) => boolean,
  runtime: RuntimeSnapshot,
  read: (name: string) => number,
): AdminCluster[] {
  return views.map((view) => {
    const { settings, hosts, outlier } = view;
    return {
      name: settings.name,
      observabilityName: settings.observabilityName,
      addedViaApi: isDynamic(settings.name),
      circuitBreakers: {
        default: thresholds(settings.name, "default", settings.thresholds.default, runtime),
        high: thresholds(settings.name, "high", settings.thresholds.high, runtime),
      },
      ...(outlier !== undefined && {
        outlier: {
          successRateAverage: outlier.external.average,
          successRateEjectionThreshold: outlier.external.threshold,
          localOriginSuccessRateAverage: outlier.local.average,
          localOriginSuccessRateEjectionThreshold: outlier.local.threshold,
        },
      }),
      hosts: hosts.map((host) => adminHost(view, host, read)),
    };
  });
}

/** Limits as they are now: runtime keys win over the configuration. */
function thresholds(cluster: string, priority: string, limits: Thresholds, runtime: RuntimeSnapshot): AdminThresholds {
  const prefix = `circuit_breakers.${cluster}.${priority}.`;
  return {
    maxConnections: runtime.number(`${prefix}max_connections`, limits.maxConnections),
    maxPendingRequests: runtime.number(`${prefix}max_pending_requests`, limits.maxPendingRequests),
    maxRequests: runtime.number(`${prefix}max_requests`, limits.maxRequests),
    maxRetries: runtime.number(`${prefix}max_retries`, limits.maxRetries),
  };
}

function adminHost(view: ClusterView, host: HostData, read: (name: string) => number): AdminHost {
  const prefix = hostStatPrefix(view.settings.name, host);
  const stats = Object.fromEntries(statNames.map((name) => [name, read(prefix + name)])) as unknown as AdminHostStats;
  return {
    address: host.address,
    stats,
    hostname: host.hostname,
    // As with Envoy, members that come from DNS have metadata, be it empty.
    ...((Object.keys(host.metadata).length > 0 || view.settings.dns !== undefined) && { metadata: host.metadata }),
    healthCheckHostname: host.healthCheckHostname,
    healthCheckPort: checkPort(host),
    healthFlags: flagNames(view.flags(host)),
    successRate: view.successRate(host, "external"),
    localOriginSuccessRate: view.successRate(host, "local"),
    weight: host.weight,
    locality: host.locality,
    canary: host.metadata["envoy.lb"]?.["canary"] === true,
    priority: host.priority,
  };
}

/** The port that health checks go to, where it is not the host's. */
function checkPort(host: HostData): number {
  const address = healthCheckAddress(host);
  return address.kind === "ip" && host.address.kind === "ip" && address.port !== host.address.port ? address.port : 0;
}
