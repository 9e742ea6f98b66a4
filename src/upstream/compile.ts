/** A Cluster message, compiled and checked. Pure: nothing is resolved or connected. */
import { durationMs, type JsonObject } from "../config/message.ts";
import type { CircuitBreakers_Thresholds, Cluster } from "../config/schema/types/envoy.config.cluster.v3.d.ts";
import type {
  Address as AddressMessage,
  HttpProtocolOptions as CommonOptions,
  Http1ProtocolOptions,
  UpstreamHttpProtocolOptions,
} from "../config/schema/types/envoy.config.core.v3.d.ts";
import type { LbEndpoint, LocalityLbEndpoints } from "../config/schema/types/envoy.config.endpoint.v3.d.ts";
import type { HttpProtocolOptions } from "../config/schema/types/envoy.extensions.upstreams.http.v3.d.ts";
import type { CompileContext, Honours, UpstreamTransportSocket } from "../extensions/extension.ts";
import { type H1Settings, h1Stats } from "../http/h1/settings.ts";
import { parseAddressMessage } from "../net/address.ts";
import type { StatsScope } from "../stats/stats.ts";
import type { ConfiguredHealth, HostData } from "./hosts.ts";
import type { CompiledCluster, DnsSettings, DnsTarget, Thresholds } from "./settings.ts";

const pkg = "envoy.config.cluster.v3.";
const httpOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

export const honours: Honours = {
  [`${pkg}Cluster`]: [
    "name",
    "alt_stat_name",
    "type",
    "connect_timeout",
    "per_connection_buffer_limit_bytes",
    "lb_policy",
    "load_assignment",
    "max_requests_per_connection",
    "circuit_breakers",
    "upstream_http_protocol_options",
    "common_http_protocol_options",
    "http_protocol_options",
    "typed_extension_protocol_options",
    "dns_refresh_rate",
    "dns_jitter",
    "dns_failure_refresh_rate",
    "respect_dns_ttl",
    "dns_lookup_family",
    "dns_resolvers",
    "wait_for_warm_on_init",
    "least_request_lb_config",
    "round_robin_lb_config",
    "common_lb_config",
    "transport_socket",
    "metadata",
    "upstream_connection_options",
    "track_timeout_budgets",
    "track_cluster_stats",
    "load_balancing_policy",
    "upstream_bind_config",
    "ignore_health_on_host_removal",
    "close_connections_on_host_health_failure",
  ],
  [`${pkg}Cluster.RefreshRate`]: "*",
  [`${pkg}Cluster.LeastRequestLbConfig`]: ["choice_count"],
  [`${pkg}Cluster.RoundRobinLbConfig`]: [],
  [`${pkg}Cluster.CommonLbConfig`]: ["healthy_panic_threshold", "update_merge_window"],
  [`${pkg}TrackClusterStats`]: ["timeout_budgets"],
  [`${pkg}UpstreamConnectionOptions`]: ["tcp_keepalive"],
  [`${pkg}CircuitBreakers`]: ["thresholds"],
  [`${pkg}CircuitBreakers.Thresholds`]: [
    "priority",
    "max_connections",
    "max_pending_requests",
    "max_requests",
    "max_retries",
    "retry_budget",
    "track_remaining",
  ],
  [`${pkg}CircuitBreakers.Thresholds.RetryBudget`]: "*",
  [`${pkg}LoadBalancingPolicy`]: "*",
  [`${pkg}LoadBalancingPolicy.Policy`]: "*",
  "envoy.config.core.v3.TypedExtensionConfig": "*",
  "envoy.config.core.v3.TcpKeepalive": ["keepalive_time"],
  "envoy.config.core.v3.BindConfig": ["source_address"],
  "envoy.config.core.v3.UpstreamHttpProtocolOptions": ["auto_sni", "override_auto_sni_header"],
  "envoy.config.core.v3.HttpProtocolOptions": ["max_response_headers_kb"],
  "envoy.config.core.v3.Http1ProtocolOptions": ["send_fully_qualified_url"],
  "envoy.config.endpoint.v3.ClusterLoadAssignment": ["cluster_name", "endpoints", "policy"],
  "envoy.config.endpoint.v3.ClusterLoadAssignment.Policy": ["overprovisioning_factor"],
  "envoy.config.endpoint.v3.LocalityLbEndpoints": ["locality", "lb_endpoints", "load_balancer_endpoints", "priority", "load_balancing_weight"],
  "envoy.config.endpoint.v3.LocalityLbEndpoints.LbEndpointList": "*",
  "envoy.config.endpoint.v3.LbEndpoint": ["endpoint", "health_status", "metadata", "load_balancing_weight"],
  "envoy.config.endpoint.v3.Endpoint": ["address", "hostname", "health_check_config"],
  "envoy.config.endpoint.v3.Endpoint.HealthCheckConfig": ["hostname"],
  "envoy.config.core.v3.SocketAddress": ["resolver_name"],
  "envoy.type.v3.Percent": "*",
  [httpOptions]: ["common_http_protocol_options", "upstream_http_protocol_options", "explicit_http_config", "use_downstream_protocol_config"],
  [`${httpOptions}.ExplicitHttpConfig`]: ["http_protocol_options"],
  [`${httpOptions}.UseDownstreamHttpConfig`]: ["http_protocol_options"],
  "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin": [],
  "envoy.extensions.load_balancing_policies.random.v3.Random": [],
  "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest": ["choice_count"],
};

const dnsFamilies = { 0: "auto", 1: "v4", 2: "v6", 3: "v4_preferred", 4: "all" } as const;
/** HealthStatus: 0 UNKNOWN, 1 HEALTHY, 2 UNHEALTHY, 3 DRAINING, 4 TIMEOUT, 5 DEGRADED */
const healths: Readonly<Record<number, ConfiguredHealth>> = { 0: "healthy", 1: "healthy", 2: "unhealthy", 3: "draining", 4: "timeout", 5: "degraded" };

export function compileCluster(message: Cluster, context: CompileContext): CompiledCluster {
  const observabilityName = message.altStatName === "" ? message.name : message.altStatName;
  const scope = context.stats.scope(`cluster.${observabilityName.replaceAll(":", "_")}.`);
  const type =
    message.clusterDiscoveryType.case === "type" ? message.clusterDiscoveryType.value : message.clusterDiscoveryType.case === undefined ? 0 : undefined;
  if (type === 3) {
    // edsClusterConfig itself is refused as a field; a cluster without it says what Envoy says.
    if (message.edsClusterConfig === undefined)
      context.report(message, "eds_cluster_config", {
        code: "OR3030",
        text: `cannot create an EDS cluster without an EDS config: cluster '${message.name}'`,
        hint: "add eds_cluster_config",
      });
    else context.report(message, "type", { code: "OR4003", text: "cluster type EDS is not supported yet", hint: "list the endpoints in load_assignment" });
  } else if (type === 4) context.report(message, "type", { code: "OR4003", text: "cluster type ORIGINAL_DST is not supported yet" });
  if (message.loadAssignment === undefined && (type === 0 || type === 1 || type === 2)) {
    context.report(message, "load_assignment", {
      code: "OR3031",
      text: `cluster '${message.name}' has no load_assignment: no endpoint can be reached`,
      severity: "warning",
      hint: "add load_assignment.endpoints",
    });
  }
  const isDns = type === 1 || type === 2;
  const staticHosts: HostData[] = [];
  const targets: DnsTarget[] = [];
  for (const locality of message.loadAssignment?.endpoints ?? []) compileLocality(message, locality, isDns, staticHosts, targets, context);
  if (type === 2 && staticHosts.length + targets.length !== 1) {
    context.report(message, "load_assignment", {
      code: "OR3032",
      text: "LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint",
      hint: "use STRICT_DNS for several names",
    });
  }
  const options = message.typedExtensionProtocolOptions[httpOptions] as unknown as HttpProtocolOptions | undefined;
  for (const [key, value] of Object.entries(message.typedExtensionProtocolOptions)) {
    if (key !== httpOptions)
      context.report(message, "typed_extension_protocol_options", { code: "OR4002", text: `protocol options '${key}' (${value.$typeName}) are not supported` });
  }
  const common = options?.commonHttpProtocolOptions ?? message.commonHttpProtocolOptions;
  const upstream = options?.upstreamHttpProtocolOptions ?? message.upstreamHttpProtocolOptions;
  const balancer = compileBalancer(message, context);
  const panic = message.commonLbConfig?.healthyPanicThreshold?.value;
  return {
    name: message.name,
    observabilityName,
    metadata: message.metadata?.filterMetadata ?? {},
    scope,
    // Addresses in a DNS cluster that are IPs need no resolving, but are members as the resolved ones are.
    staticHosts,
    dns: targets.length === 0 ? undefined : compileDns(message, targets, type === 2, context),
    balancer: balancer.policy,
    choiceCount: balancer.choiceCount,
    panicThresholdPercent: panic ?? 50,
    overprovisioningPercent: message.loadAssignment?.policy?.overprovisioningFactor ?? 140,
    failTrafficOnPanic: false,
    connectTimeoutMs: durationMs(message.connectTimeout, 5000),
    perConnectionBufferLimitBytes: message.perConnectionBufferLimitBytes ?? 1024 * 1024,
    idleTimeoutMs: durationMs(common?.idleTimeout, 3_600_000),
    maxConnectionDurationMs: durationMs(common?.maxConnectionDuration, 0),
    maxRequestsPerConnection: common?.maxRequestsPerConnection ?? message.maxRequestsPerConnection ?? 0,
    maxResponseHeadersKb: common?.maxResponseHeadersKb ?? 60,
    maxStreamDurationMs: durationMs(common?.maxStreamDuration, 0),
    thresholds: { default: compileThresholds(message, 0, context), high: compileThresholds(message, 1, context) },
    h1: compileH1(http1Of(message, options), common, scope),
    transportSocket: compileTransportSocket(message, context, scope),
    autoSni: upstream?.autoSni ?? false,
    autoSniHeader: (upstream as UpstreamHttpProtocolOptions | undefined)?.overrideAutoSniHeader.toLowerCase() ?? "",
    bindAddress: compileBind(message, context),
    keepAliveMs:
      message.upstreamConnectionOptions?.tcpKeepalive === undefined ? undefined : (message.upstreamConnectionOptions.tcpKeepalive.keepaliveTime ?? 7200) * 1000,
    timeoutBudgets: message.trackTimeoutBudgets || (message.trackClusterStats?.timeoutBudgets ?? false),
    cleanupOnRemoval: true,
  };
}

function compileLocality(
  cluster: Cluster,
  locality: LocalityLbEndpoints,
  isDns: boolean,
  hosts: HostData[],
  targets: DnsTarget[],
  context: CompileContext,
): void {
  const endpoints: readonly LbEndpoint[] = locality.lbConfig.case === "loadBalancerEndpoints" ? locality.lbConfig.value.lbEndpoints : locality.lbEndpoints;
  const where = { region: locality.locality?.region ?? "", zone: locality.locality?.zone ?? "", subZone: locality.locality?.subZone ?? "" };
  for (const entry of endpoints) {
    if (entry.hostIdentifier.case === "endpointName") continue; // refused by `honours`
    const endpoint = entry.hostIdentifier.value;
    if (endpoint?.address === undefined) {
      context.report(endpoint ?? entry, undefined, { code: "OR2001", text: "an endpoint needs an address", hint: "give it address.socket_address or address.pipe" });
      continue;
    }
    const template: Omit<HostData, "address"> = {
      hostname: endpoint.hostname,
      healthCheckHostname: endpoint.healthCheckConfig?.hostname ?? "",
      weight: entry.loadBalancingWeight ?? 1,
      priority: locality.priority,
      locality: where,
      metadata: (entry.metadata?.filterMetadata ?? {}) as Record<string, JsonObject>,
      health: healths[entry.healthStatus] ?? "healthy",
    };
    const address = parseAddressMessage(endpoint.address);
    if (address !== undefined) {
      if (isDns && address.kind === "ip") hosts.push({ ...template, hostname: template.hostname === "" ? address.ip : template.hostname, address });
      else hosts.push({ ...template, address });
      continue;
    }
    const socket = endpoint.address?.address.case === "socketAddress" ? endpoint.address.address.value : undefined;
    if (socket === undefined) {
      if (endpoint.address !== undefined)
        context.report(endpoint.address, undefined, { code: "OR4003", text: "only socket_address and pipe addresses are supported for endpoints" });
      continue;
    }
    if (!isDns) {
      context.report(socket, "address", {
        code: "OR2111",
        text: `malformed IP address: ${socket.address}. Consider setting resolver_name or setting cluster type to 'STRICT_DNS' or 'LOGICAL_DNS'`,
        hint: `set \`type: STRICT_DNS\` on cluster '${cluster.name}' to resolve host names`,
      });
      continue;
    }
    const port = socket.portSpecifier.case === "portValue" ? socket.portSpecifier.value : 0;
    targets.push({ name: socket.address, port, template: { ...template, hostname: template.hostname === "" ? socket.address : template.hostname } });
  }
}

function compileDns(message: Cluster, targets: readonly DnsTarget[], logical: boolean, context: CompileContext): DnsSettings {
  const servers: string[] = [];
  for (const resolver of message.dnsResolvers) {
    const address = parseAddressMessage(resolver as AddressMessage);
    if (address?.kind === "ip") servers.push(address.text);
    else context.report(message, "dns_resolvers", { code: "OR2111", text: "dns_resolvers must be IP addresses with a port" });
  }
  const failure = message.dnsFailureRefreshRate;
  return {
    targets,
    logical,
    family: dnsFamilies[message.dnsLookupFamily],
    refreshMs: durationMs(message.dnsRefreshRate, 5000),
    failureRefreshMs:
      failure === undefined
        ? undefined
        : { base: durationMs(failure.baseInterval, 5000), max: durationMs(failure.maxInterval, durationMs(failure.baseInterval, 5000) * 10) },
    respectTtl: message.respectDnsTtl,
    jitterMs: durationMs(message.dnsJitter, 0),
    servers,
  };
}

function compileBalancer(message: Cluster, context: CompileContext): { readonly policy: CompiledCluster["balancer"]; readonly choiceCount: number } {
  const listed = message.loadBalancingPolicy;
  if (listed !== undefined) {
    for (const { typedExtensionConfig } of listed.policies) {
      const config = typedExtensionConfig?.typedConfig;
      switch (config?.$typeName) {
        case "envoy.extensions.load_balancing_policies.round_robin.v3.RoundRobin":
          return { policy: "round_robin", choiceCount: 2 };
        case "envoy.extensions.load_balancing_policies.random.v3.Random":
          return { policy: "random", choiceCount: 2 };
        case "envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest":
          return { policy: "least_request", choiceCount: (config as { choiceCount?: number }).choiceCount ?? 2 };
      }
    }
    const names = listed.policies.map(({ typedExtensionConfig }) => typedExtensionConfig?.name ?? "").join(", ");
    context.report(message, "load_balancing_policy", {
      code: "OR4002",
      text: `cluster: didn't find a registered load balancer factory for cluster: '${message.name}' with policies: [${names}]`,
      hint: "supported: round_robin, random, least_request",
    });
    return { policy: "round_robin", choiceCount: 2 };
  }
  switch (message.lbPolicy) {
    case 0:
      return { policy: "round_robin", choiceCount: 2 };
    case 1:
      return { policy: "least_request", choiceCount: message.lbConfig.case === "leastRequestLbConfig" ? (message.lbConfig.value.choiceCount ?? 2) : 2 };
    case 3:
      return { policy: "random", choiceCount: 2 };
    default: {
      const names: Readonly<Record<number, string>> = { 2: "RING_HASH", 5: "MAGLEV", 6: "CLUSTER_PROVIDED", 7: "LOAD_BALANCING_POLICY_CONFIG" };
      context.report(message, "lb_policy", {
        code: "OR4003",
        text: `lb_policy ${names[message.lbPolicy] ?? message.lbPolicy} is not supported yet`,
        hint: "supported: ROUND_ROBIN, RANDOM, LEAST_REQUEST",
      });
      return { policy: "round_robin", choiceCount: 2 };
    }
  }
}

/** Envoy's defaults: 1024, 1024, 1024, 3. */
function compileThresholds(message: Cluster, priority: 0 | 1, context: CompileContext): Thresholds {
  let found: CircuitBreakers_Thresholds | undefined;
  for (const threshold of message.circuitBreakers?.thresholds ?? []) {
    if (threshold.priority !== priority) continue;
    if (found !== undefined)
      context.report(threshold, "priority", {
        code: "OR3033",
        text: `cluster '${message.name}' has two circuit breaker thresholds for one priority: the first counts`,
        severity: "warning",
      });
    else found = threshold;
  }
  const budget = found?.retryBudget;
  return {
    maxConnections: found?.maxConnections ?? 1024,
    maxPendingRequests: found?.maxPendingRequests ?? 1024,
    maxRequests: found?.maxRequests ?? 1024,
    maxRetries: found?.maxRetries ?? 3,
    retryBudget: budget === undefined ? undefined : { percent: budget.budgetPercent?.value ?? 20, minConcurrency: budget.minRetryConcurrency ?? 3 },
    trackRemaining: found?.trackRemaining ?? false,
  };
}

function http1Of(message: Cluster, options: HttpProtocolOptions | undefined): Http1ProtocolOptions | undefined {
  const chosen = options?.upstreamProtocolOptions;
  if (chosen?.case === "explicitHttpConfig") return chosen.value.protocolConfig.case === "httpProtocolOptions" ? chosen.value.protocolConfig.value : undefined;
  if (chosen?.case === "useDownstreamProtocolConfig") return chosen.value.httpProtocolOptions;
  return message.httpProtocolOptions;
}

function compileH1(h1: Http1ProtocolOptions | undefined, common: CommonOptions | undefined, scope: StatsScope): H1Settings {
  const format = h1?.headerKeyFormat?.headerFormat;
  const underscore = common?.headersWithUnderscoresAction ?? 0;
  return {
    acceptHttp10: true,
    defaultHost: "",
    enableTrailers: h1?.enableTrailers ?? false,
    nameFormat: format?.case === "properCaseWords" ? "proper" : format?.case === "statefulFormatter" ? "preserve" : "lower",
    allowChunkedLength: h1?.allowChunkedLength ?? false,
    maxHeadBytes: (common?.maxResponseHeadersKb ?? 60) * 1024,
    maxHeaderCount: common?.maxHeadersCount ?? 100,
    underscores: underscore === 1 ? "reject" : underscore === 2 ? "drop" : "allow",
    absoluteTargets: h1?.sendFullyQualifiedUrl ?? false,
    stats: h1Stats(scope),
  };
}

function compileTransportSocket(message: Cluster, context: CompileContext, scope: StatsScope): UpstreamTransportSocket | undefined {
  const socket = message.transportSocket;
  if (socket === undefined) return undefined;
  const config = socket.configType.value;
  const extension = context.extension("envoy.transport_sockets.upstream", config, socket, "typed_config", socket.name);
  if (extension === undefined || config === undefined) return undefined;
  if (extension.transportSocket?.upstream === undefined) {
    context.report(socket, "typed_config", {
      code: "OR3024",
      text: `transport socket '${socket.name}' (${config.$typeName}) is not for clusters`,
      hint: "a cluster needs an UpstreamTlsContext",
    });
    return undefined;
  }
  return extension.transportSocket.upstream(config, context, { clusterScope: scope });
}

function compileBind(message: Cluster, context: CompileContext): string | undefined {
  const source = message.upstreamBindConfig?.sourceAddress;
  if (source === undefined) return undefined;
  const address = parseAddressMessage({ $typeName: "envoy.config.core.v3.Address", address: { case: "socketAddress", value: source } } as AddressMessage);
  if (address?.kind === "ip") return address.ip;
  context.report(source, "address", { code: "OR2111", text: `malformed IP address: ${source.address}` });
  return undefined;
}
