/** A Cluster message, compiled and checked. Pure: nothing is resolved or connected. */

import { honours as fileHonours } from "../config/config-source.ts";
import { durationMs, isMessage } from "../config/message.ts";
import type { CircuitBreakers_Thresholds, Cluster } from "../config/schema/types/envoy.config.cluster.v3.d.ts";
import type {
  Address as AddressMessage,
  HttpProtocolOptions as CommonOptions,
  Http1ProtocolOptions,
  Http2ProtocolOptions,
  TransportSocket,
} from "../config/schema/types/envoy.config.core.v3.d.ts";
import type { ClusterConfig as AggregateConfig } from "../config/schema/types/envoy.extensions.clusters.aggregate.v3.d.ts";
import type { DnsCluster } from "../config/schema/types/envoy.extensions.clusters.dns.v3.d.ts";
import type { HttpProtocolOptions } from "../config/schema/types/envoy.extensions.upstreams.http.v3.d.ts";
import type { CompileContext, Honours, UpstreamTransportSocket } from "../extensions/extension.ts";
import { compileNameFormat, type H1Settings, h1Stats } from "../http/h1/settings.ts";
import { compileH2, honours as h2Honours } from "../http/h2/settings.ts";
import { parseAddressMessage } from "../net/address.ts";
import type { KeepAlive } from "../net/socket-connection.ts";
import type { StatsScope } from "../stats/stats.ts";
import { aggregateCluster, honours as aggregateHonours, compileAggregate } from "./aggregate.ts";
import { honours as balancerHonours, compileBalancer } from "./compile-balancer.ts";
import { compileDns, dnsCluster, honours as dnsHonours } from "./compile-dns.ts";
import { compileEndpoints, honours as endpointHonours } from "./compile-endpoints.ts";
import { honours as subsetHonours } from "./compile-subsets.ts";
import { compileEds, honours as edsHonours } from "./eds.ts";
import { compileHealthChecks, honours as healthHonours } from "./health/compile.ts";
import { compileOriginalDst, honours as originalDstHonours } from "./original-dst.ts";
import { compileOutlierDetection, honours as outlierHonours } from "./outlier/compile.ts";
import { honours as errorMatcherHonours } from "./outlier/error-matcher.ts";
import type { CompiledCluster, Thresholds } from "./settings.ts";

const pkg = "envoy.config.cluster.v3.";
const rawBuffer = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer";
const httpOptions = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";

export const honours: Honours = {
  [`${pkg}Cluster`]: [
    "name",
    "alt_stat_name",
    "type",
    "cluster_type",
    "connect_timeout",
    "per_connection_buffer_limit_bytes",
    "load_assignment",
    "max_requests_per_connection",
    "circuit_breakers",
    "upstream_http_protocol_options",
    "common_http_protocol_options",
    "http_protocol_options",
    "http2_protocol_options",
    "protocol_selection",
    "typed_extension_protocol_options",
    "dns_refresh_rate",
    "dns_jitter",
    "dns_failure_refresh_rate",
    "respect_dns_ttl",
    "dns_lookup_family",
    "dns_resolvers",
    "dns_resolution_config",
    "typed_dns_resolver_config",
    "wait_for_warm_on_init",
    "transport_socket",
    "transport_socket_matches",
    "metadata",
    "upstream_connection_options",
    "track_timeout_budgets",
    "track_cluster_stats",
    "upstream_bind_config",
    "ignore_health_on_host_removal",
    "close_connections_on_host_health_failure",
    "cleanup_interval",
    "preconnect_policy",
  ],
  [`${pkg}Cluster.CustomClusterType`]: "*",
  [`${pkg}Cluster.TransportSocketMatch`]: "*",
  [`${pkg}Cluster.PreconnectPolicy`]: ["per_upstream_preconnect_ratio", "predictive_preconnect_ratio"],
  [`${pkg}TrackClusterStats`]: ["timeout_budgets", "request_response_sizes"],
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
  [`${pkg}CircuitBreakers.Thresholds.RetryBudget`]: ["budget_percent", "min_retry_concurrency"],
  "envoy.config.core.v3.TcpKeepalive": "*",
  "envoy.config.core.v3.BindConfig": ["source_address"],
  "envoy.config.core.v3.UpstreamHttpProtocolOptions": ["auto_sni", "override_auto_sni_header", "auto_san_validation"],
  "envoy.config.core.v3.HttpProtocolOptions": ["max_response_headers_kb"],
  "envoy.config.core.v3.Http1ProtocolOptions": ["send_fully_qualified_url"],
  [httpOptions]: ["common_http_protocol_options", "upstream_http_protocol_options", "explicit_http_config", "use_downstream_protocol_config", "auto_config"],
  [`${httpOptions}.ExplicitHttpConfig`]: ["http_protocol_options", "http2_protocol_options"],
  [`${httpOptions}.UseDownstreamHttpConfig`]: ["http_protocol_options", "http2_protocol_options"],
  [`${httpOptions}.AutoHttpConfig`]: ["http_protocol_options", "http2_protocol_options"],
};

export const upstreamHonours: readonly Honours[] = [
  honours,
  h2Honours,
  balancerHonours,
  subsetHonours,
  endpointHonours,
  dnsHonours,
  aggregateHonours,
  originalDstHonours,
  edsHonours,
  fileHonours,
  healthHonours,
  outlierHonours,
  errorMatcherHonours,
];

export function compileCluster(message: Cluster, context: CompileContext): CompiledCluster {
  const observabilityName = message.altStatName === "" ? message.name : message.altStatName;
  const scope = context.stats.scope(`cluster.${observabilityName.replaceAll(":", "_")}.`);
  const discovery = compileDiscovery(message, context);
  const { hosts, targets } = compileEndpoints(message, discovery, context);
  const options = message.typedExtensionProtocolOptions[httpOptions] as unknown as HttpProtocolOptions | undefined;
  for (const [key, value] of Object.entries(message.typedExtensionProtocolOptions)) {
    if (key !== httpOptions)
      context.report(message, "typed_extension_protocol_options", { code: "OR4002", text: `protocol options '${key}' (${value.$typeName}) are not supported` });
  }
  const common = options?.commonHttpProtocolOptions ?? message.commonHttpProtocolOptions;
  const protocol = compileProtocol(message, options);
  const socketType = message.transportSocket?.configType.value?.$typeName ?? rawBuffer;
  if (protocol === "auto" && socketType === rawBuffer)
    context.report(options as object, "auto_config", {
      code: "OR3012",
      text: `ALPN configured for cluster ${message.name} which has a non-ALPN transport socket`,
      hint: "give the cluster an UpstreamTlsContext, or use explicit_http_config",
    });
  const upstream = options?.upstreamHttpProtocolOptions ?? message.upstreamHttpProtocolOptions;
  return {
    name: message.name,
    observabilityName,
    metadata: message.metadata?.filterMetadata ?? {},
    scope,
    staticHosts: hosts,
    discovery,
    eds: discovery === "eds" ? compileEds(message, context) : undefined,
    originalDst: discovery === "original_dst" ? compileOriginalDst(message, context) : undefined,
    aggregate: compileMembers(message, context),
    dns: targets.length === 0 ? undefined : compileDns(message, targets, discovery === "logical_dns", context),
    ...compileBalancer(message, context),
    panicThresholdPercent: message.commonLbConfig?.healthyPanicThreshold?.value ?? 50,
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
    protocol,
    h1: compileH1(http1Of(message, options), common, scope, context),
    h2: compileH2(
      http2Of(message, options),
      {
        maxHeadBytes: (common?.maxResponseHeadersKb ?? 60) * 1024,
        maxHeaderCount: common?.maxHeadersCount ?? 100,
        underscores: "allow",
        flushTimeoutMs: 0,
      },
      scope,
      context,
    ),
    transportSocket: compileTransportSocket(message.transportSocket, context, scope, upstream?.autoSanValidation ?? false),
    transportSocketMatches: message.transportSocketMatches.map(({ name, match, transportSocket }) => ({
      name,
      match: match ?? {},
      socket: compileTransportSocket(transportSocket, context, scope, upstream?.autoSanValidation ?? false),
    })),
    autoSni: upstream?.autoSni ?? false,
    autoSniHeader: upstream?.overrideAutoSniHeader.toLowerCase() ?? "",
    bindAddress: compileBind(message, context),
    keepAlive: compileKeepAlive(message),
    timeoutBudgets: message.trackTimeoutBudgets || (message.trackClusterStats?.timeoutBudgets ?? false),
    requestResponseSizes: message.trackClusterStats?.requestResponseSizes ?? false,
    preconnectRatio: compilePreconnect(message, context),
    healthChecks: compileHealthChecks(message, protocol !== "http1", scope, context),
    outlier: compileOutlierDetection(message, options, context),
    ignoreHealthOnRemoval: message.ignoreHealthOnHostRemoval,
    ignoreNewUntilChecked: message.commonLbConfig?.ignoreNewHostsUntilFirstHc ?? false,
    closeConnectionsOnHealthFailure: message.closeConnectionsOnHostHealthFailure,
    updateMergeWindowMs: durationMs(message.commonLbConfig?.updateMergeWindow, 1000),
    closeConnectionsOnChange: message.commonLbConfig?.closeConnectionsOnHostSetChange ?? false,
  };
}

function compileDiscovery(message: Cluster, context: CompileContext): CompiledCluster["discovery"] {
  const kind = message.clusterDiscoveryType;
  if (kind.case === "clusterType") {
    if (isMessage<AggregateConfig>(kind.value.typedConfig, aggregateCluster)) return "aggregate";
    if (isMessage<DnsCluster>(kind.value.typedConfig, dnsCluster)) return kind.value.typedConfig.allAddressesInSingleEndpoint ? "logical_dns" : "strict_dns";
    context.report(kind.value, "typed_config", {
      code: "OR4002",
      text: `Didn't find a registered cluster factory implementation for name: '${kind.value.name}' (${kind.value.typedConfig?.$typeName ?? "no typed_config"})`,
      hint: "supported: types STATIC, STRICT_DNS, LOGICAL_DNS and ORIGINAL_DST, envoy.clusters.dns and envoy.clusters.aggregate",
    });
    return "static";
  }
  const type = kind.value ?? 0;
  if (type === 3) {
    if (message.loadAssignment !== undefined && message.loadAssignment.endpoints.length > 0)
      context.report(message, "load_assignment", {
        code: "OR3031",
        text: `load_assignment of EDS cluster '${message.name}' is not used: its members come from eds_cluster_config`,
        severity: "warning",
        hint: "remove load_assignment",
      });
    return "eds";
  } else if (type === 4) return "original_dst";
  else if (message.loadAssignment === undefined)
    context.report(message, "load_assignment", {
      code: "OR3031",
      text: `cluster '${message.name}' has no load_assignment: no endpoint can be reached`,
      severity: "warning",
      hint: "add load_assignment.endpoints",
    });
  if (message.edsClusterConfig !== undefined)
    context.report(message, "eds_cluster_config", { code: "OR3038", text: "eds_cluster_config set in a non-EDS cluster", hint: "remove it, or use type: EDS" });
  return type === 1 ? "strict_dns" : type === 2 ? "logical_dns" : "static";
}

function compileMembers(message: Cluster, context: CompileContext): readonly string[] {
  const kind = message.clusterDiscoveryType;
  const config = kind.case === "clusterType" ? kind.value.typedConfig : undefined;
  return isMessage<AggregateConfig>(config, aggregateCluster) ? compileAggregate(message, config, context) : [];
}

/** Linux' own values where a part is not given. */
function compileKeepAlive(message: Cluster): KeepAlive | undefined {
  const given = message.upstreamConnectionOptions?.tcpKeepalive;
  if (given === undefined) return undefined;
  return { delayMs: (given.keepaliveTime ?? 7200) * 1000, intervalMs: (given.keepaliveInterval ?? 75) * 1000, probes: given.keepaliveProbes ?? 9 };
}

function compilePreconnect(message: Cluster, context: CompileContext): number {
  const policy = message.preconnectPolicy;
  if ((policy?.predictivePreconnectRatio ?? 0) > 1)
    context.report(policy as object, "predictive_preconnect_ratio", { code: "OR4003", text: "predictive_preconnect_ratio above 1 is not supported" });
  return policy?.perUpstreamPreconnectRatio ?? 1;
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

function compileProtocol(message: Cluster, options: HttpProtocolOptions | undefined): CompiledCluster["protocol"] {
  const chosen = options?.upstreamProtocolOptions;
  if (chosen?.case === "explicitHttpConfig") return chosen.value.protocolConfig.case === "http2ProtocolOptions" ? "http2" : "http1";
  if (chosen?.case === "useDownstreamProtocolConfig") return "downstream";
  if (chosen?.case === "autoConfig") return "auto";
  if (options !== undefined) return "http1";
  if (message.protocolSelection === 1) return "downstream";
  return message.http2ProtocolOptions === undefined ? "http1" : "http2";
}

function http2Of(message: Cluster, options: HttpProtocolOptions | undefined): Http2ProtocolOptions | undefined {
  const chosen = options?.upstreamProtocolOptions;
  if (chosen?.case === "explicitHttpConfig") return chosen.value.protocolConfig.case === "http2ProtocolOptions" ? chosen.value.protocolConfig.value : undefined;
  if (chosen?.case === "useDownstreamProtocolConfig" || chosen?.case === "autoConfig") return chosen.value.http2ProtocolOptions;
  return message.http2ProtocolOptions;
}

function http1Of(message: Cluster, options: HttpProtocolOptions | undefined): Http1ProtocolOptions | undefined {
  const chosen = options?.upstreamProtocolOptions;
  if (chosen?.case === "explicitHttpConfig") return chosen.value.protocolConfig.case === "httpProtocolOptions" ? chosen.value.protocolConfig.value : undefined;
  if (chosen?.case === "useDownstreamProtocolConfig" || chosen?.case === "autoConfig") return chosen.value.httpProtocolOptions;
  return message.httpProtocolOptions;
}

function compileH1(h1: Http1ProtocolOptions | undefined, common: CommonOptions | undefined, scope: StatsScope, context: CompileContext): H1Settings {
  const underscore = common?.headersWithUnderscoresAction ?? 0;
  return {
    acceptHttp10: true,
    defaultHost: "",
    enableTrailers: h1?.enableTrailers ?? false,
    nameFormat: compileNameFormat(h1, context),
    allowChunkedLength: h1?.allowChunkedLength ?? false,
    maxHeadBytes: (common?.maxResponseHeadersKb ?? 60) * 1024,
    maxHeaderCount: common?.maxHeadersCount ?? 100,
    underscores: underscore === 1 ? "reject" : underscore === 2 ? "drop" : "allow",
    absoluteTargets: h1?.sendFullyQualifiedUrl ?? false,
    stats: h1Stats(scope),
  };
}

function compileTransportSocket(
  socket: TransportSocket | undefined,
  context: CompileContext,
  scope: StatsScope,
  autoSanValidation: boolean,
): UpstreamTransportSocket | undefined {
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
  return extension.transportSocket.upstream(config, context, { clusterScope: scope, autoSanValidation });
}

function compileBind(message: Cluster, context: CompileContext): string | undefined {
  const source = (message.upstreamBindConfig ?? context.clusterDefaults?.upstreamBindConfig)?.sourceAddress;
  if (source === undefined) return undefined;
  const address = parseAddressMessage({ $typeName: "envoy.config.core.v3.Address", address: { case: "socketAddress", value: source } } as AddressMessage);
  if (address?.kind === "ip") return address.ip;
  context.report(source, "address", { code: "OR2111", text: `malformed IP address: ${source.address}` });
  return undefined;
}
