/** load_assignment: members as they stand in the configuration, and names that DNS turns into members. */
import { isIPv4, isIPv6 } from "node:net";
import type { JsonObject } from "../config/message.ts";
import type { Cluster } from "../config/schema/types/envoy.config.cluster.v3.d.ts";
import type { Endpoint_HealthCheckConfig, LbEndpoint, LocalityLbEndpoints } from "../config/schema/types/envoy.config.endpoint.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import { parseAddressMessage } from "../net/address.ts";
import type { ConfiguredHealth, HostData } from "./hosts.ts";
import type { CompiledCluster, DnsTarget } from "./settings.ts";

const pkg = "envoy.config.endpoint.v3.";

export const honours: Honours = {
  [`${pkg}ClusterLoadAssignment`]: ["cluster_name", "endpoints", "policy"],
  [`${pkg}ClusterLoadAssignment.Policy`]: ["overprovisioning_factor"],
  [`${pkg}LocalityLbEndpoints`]: ["locality", "lb_endpoints", "load_balancer_endpoints", "priority", "load_balancing_weight"],
  [`${pkg}LocalityLbEndpoints.LbEndpointList`]: "*",
  [`${pkg}LbEndpoint`]: ["endpoint", "health_status", "metadata", "load_balancing_weight"],
  [`${pkg}Endpoint`]: ["address", "hostname", "health_check_config"],
  [`${pkg}Endpoint.HealthCheckConfig`]: "*",
  "envoy.config.core.v3.SocketAddress": ["resolver_name"],
};

/** HealthStatus: 0 UNKNOWN, 1 HEALTHY, 2 UNHEALTHY, 3 DRAINING, 4 TIMEOUT, 5 DEGRADED */
const healths: Readonly<Record<number, ConfiguredHealth>> = { 0: "healthy", 1: "healthy", 2: "unhealthy", 3: "draining", 4: "timeout", 5: "degraded" };

/** The largest sum of weights in a locality. */
const maxWeights = 4294967295;

export interface Endpoints {
  readonly hosts: readonly HostData[];
  readonly targets: readonly DnsTarget[];
}

export function compileEndpoints(message: Cluster, discovery: CompiledCluster["discovery"], context: CompileContext): Endpoints {
  const hosts: HostData[] = [];
  const targets: DnsTarget[] = [];
  const localities = discovery === "original_dst" || discovery === "aggregate" || discovery === "eds" ? [] : (message.loadAssignment?.endpoints ?? []);
  let count = 0;
  for (const locality of localities) {
    const endpoints: readonly LbEndpoint[] = locality.lbConfig.case === "loadBalancerEndpoints" ? locality.lbConfig.value.lbEndpoints : locality.lbEndpoints;
    count += endpoints.length;
    let weights = 0;
    for (const endpoint of endpoints) {
      weights += endpoint.loadBalancingWeight ?? 1;
      compileEndpoint(message, locality, endpoint, discovery, hosts, targets, context);
    }
    if (weights > maxWeights)
      context.report(locality, "lb_endpoints", {
        code: "OR3035",
        text: `The sum of weights of all upstream hosts in a locality exceeds max ${maxWeights}`,
      });
  }
  if (discovery === "logical_dns" && (localities.length !== 1 || count !== 1)) {
    context.report(message, "load_assignment", {
      code: "OR3032",
      text: "LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint",
      hint: "use STRICT_DNS for several names",
    });
  }
  return { hosts, targets };
}

function compileHealthCheckConfig(
  config: Endpoint_HealthCheckConfig | undefined,
  context: CompileContext,
): Pick<HostData, "healthCheckAddress" | "healthCheckPort" | "isNotChecked"> {
  if (config === undefined) return {};
  const address = config.address === undefined ? undefined : parseAddressMessage(config.address);
  if (config.address !== undefined && address === undefined)
    context.report(config, "address", { code: "OR2111", text: "malformed IP address of a health check", hint: "give an IP address or a pipe" });
  return {
    ...(address !== undefined && { healthCheckAddress: address }),
    ...(config.portValue !== 0 && { healthCheckPort: config.portValue }),
    ...(config.disableActiveHealthCheck && { isNotChecked: true }),
  };
}

function compileEndpoint(
  cluster: Cluster,
  locality: LocalityLbEndpoints,
  entry: LbEndpoint,
  discovery: CompiledCluster["discovery"],
  hosts: HostData[],
  targets: DnsTarget[],
  context: CompileContext,
): void {
  if (entry.hostIdentifier.case === "endpointName") return; // refused by `honours`
  const endpoint = entry.hostIdentifier.value;
  if (endpoint?.address === undefined) {
    context.report(endpoint ?? entry, undefined, {
      code: "OR2001",
      text: "an endpoint needs an address",
      hint: "give it address.socket_address or address.pipe",
    });
    return;
  }
  const template: Omit<HostData, "address"> = {
    hostname: endpoint.hostname,
    healthCheckHostname: endpoint.healthCheckConfig?.hostname ?? "",
    weight: entry.loadBalancingWeight ?? 1,
    priority: locality.priority,
    localityWeight: locality.loadBalancingWeight ?? 0,
    locality: { region: locality.locality?.region ?? "", zone: locality.locality?.zone ?? "", subZone: locality.locality?.subZone ?? "" },
    metadata: (entry.metadata?.filterMetadata ?? {}) as Record<string, JsonObject>,
    health: healths[entry.healthStatus] ?? "healthy",
    ...compileHealthCheckConfig(endpoint.healthCheckConfig, context),
  };
  const { address } = endpoint.address;
  if (address.case !== "socketAddress") {
    const pipe = parseAddressMessage(endpoint.address);
    if (pipe === undefined)
      context.report(endpoint.address, undefined, { code: "OR4003", text: "only socket_address and pipe addresses are supported for endpoints" });
    else hosts.push({ ...template, address: pipe });
    return;
  }
  const socket = address.value;
  if (socket.resolverName !== "") {
    const text =
      discovery === "static"
        ? `resolver_name '${socket.resolverName}' names no resolver`
        : `${discovery.toUpperCase()} clusters must NOT have a custom resolver name set`;
    context.report(socket, "resolver_name", { code: "OR3034", text, hint: "remove resolver_name" });
    return;
  }
  if (discovery === "static") {
    const ip = parseAddressMessage(endpoint.address);
    if (ip !== undefined) hosts.push({ ...template, address: ip });
    else
      context.report(socket, "address", {
        code: "OR2111",
        text: `malformed IP address: ${socket.address}. Consider setting resolver_name or setting cluster type to 'STRICT_DNS' or 'LOGICAL_DNS'`,
        hint: `set \`type: STRICT_DNS\` on cluster '${cluster.name}' to resolve host names`,
      });
    return;
  }
  // A name that is an IP is resolved too, to itself: such members come and go with the others.
  const name = isIPv4(socket.address) || isIPv6(socket.address) ? socket.address : socket.address.replace(/\.$/, "");
  const port = socket.portSpecifier.case === "portValue" ? socket.portSpecifier.value : 0;
  targets.push({ name, port, template: { ...template, hostname: template.hostname === "" ? socket.address : template.hostname } });
}
