/** A Cluster message, compiled: what pools and balancers of every thread share. */

import type { XdsSource } from "../config/config-source.ts";
import type { JsonObject } from "../config/message.ts";
import type { UpstreamTransportSocket } from "../extensions/extension.ts";
import type { H1Settings } from "../http/h1/settings.ts";
import type { H2Settings } from "../http/h2/settings.ts";
import type { KeepAlive } from "../net/socket-connection.ts";
import type { StatsScope } from "../stats/stats.ts";
import type { Resource } from "../xds/resource.ts";
import type { HealthCheckSettings } from "./health/settings.ts";
import type { HostData } from "./hosts.ts";
import type { OutlierSettings } from "./outlier/settings.ts";

export interface Thresholds {
  readonly maxConnections: number;
  readonly maxPendingRequests: number;
  readonly maxRequests: number;
  readonly maxRetries: number;
  /** Percent of active requests and the least number of retries; undefined: maxRetries counts. */
  readonly retryBudget: { readonly percent: number; readonly minConcurrency: number } | undefined;
  readonly trackRemaining: boolean;
}

export interface TransportSocketMatch {
  readonly name: string;
  /** Every one of these must be in the host's metadata. */
  readonly match: JsonObject;
  readonly socket: UpstreamTransportSocket | undefined;
}

/** A number that a runtime key may override ("" for none). */
export interface RuntimeNumber {
  readonly value: number;
  readonly runtimeKey: string;
}

/** Ring hash and Maglev. */
export interface HashSettings {
  readonly kind: "ring_hash" | "maglev";
  readonly hashFunction: "xx_hash" | "murmur_hash_2";
  readonly minimumRingSize: number;
  readonly maximumRingSize: number;
  /** A prime number. */
  readonly tableSize: number;
  /** Hosts are hashed by their names instead of their addresses. */
  readonly byHostname: boolean;
}

export type SubsetFallback = "not_defined" | "no_fallback" | "any_endpoint" | "default_subset" | "keys_subset";

export interface SubsetSelector {
  /** In order, each once. */
  readonly keys: readonly string[];
  readonly singleHost: boolean;
  readonly fallback: SubsetFallback;
  /** For "keys_subset": fewer than `keys`. */
  readonly fallbackKeys: readonly string[];
}

export interface SubsetSettings {
  readonly fallback: SubsetFallback;
  readonly defaultSubset: JsonObject;
  readonly selectors: readonly SubsetSelector[];
  readonly localityWeightAware: boolean;
  readonly panicModeAny: boolean;
  /** A list in a host's metadata counts as each of its values. */
  readonly listAsAny: boolean;
}

/** New hosts get their share little by little. */
export interface SlowStart {
  readonly windowMs: number;
  readonly aggression: RuntimeNumber;
  readonly minWeightPercent: number;
}

/** A name to resolve, with what its hosts inherit. */
export interface DnsTarget {
  readonly name: string;
  readonly port: number;
  readonly template: Omit<HostData, "address">;
}

export interface DnsSettings {
  readonly targets: readonly DnsTarget[];
  /** LOGICAL_DNS: one host whatever the name resolves to; its connections outlive a change of address. */
  readonly logical: boolean;
  readonly family: "auto" | "v4" | "v6" | "v4_preferred" | "all";
  readonly refreshMs: number;
  /** A TTL below it counts as it. */
  readonly minRefreshMs: number;
  readonly failureRefreshMs: { readonly base: number; readonly max: number } | undefined;
  readonly respectTtl: boolean;
  readonly jitterMs: number;
  /** Addresses of resolvers ("127.0.0.1:53"); empty: the system's. */
  readonly servers: readonly string[];
  /** For one try, and how many tries a query gets. */
  readonly queryTimeoutMs: number;
  readonly queryTries: number;
}

export interface EdsSettings {
  readonly source: XdsSource;
  /** The cluster_name that its assignment has. */
  readonly serviceName: string;
  /** Undefined: there is no assignment. Throws an Error that says what is wrong with it. */
  membersOf(resources: readonly Resource[]): { readonly hosts: readonly HostData[]; readonly overprovisioningPercent: number } | undefined;
}

/** Where ORIGINAL_DST looks for the destination, in this order; then comes the address that the connection was redirected from. */
export interface OriginalDstSettings {
  /** Lower case. */
  readonly header: string | undefined;
  readonly metadata: { readonly namespace: string; readonly path: readonly string[] } | undefined;
  readonly portOverride: number | undefined;
  /** A host that was not used for so long is dropped. */
  readonly cleanupMs: number;
}

export interface CompiledCluster {
  readonly name: string;
  readonly observabilityName: string;
  readonly metadata: Record<string, JsonObject>;
  readonly scope: StatsScope;
  readonly staticHosts: readonly HostData[];
  readonly dns: DnsSettings | undefined;
  /** Where members come from: hosts of DNS clusters have a largest weight that is shown. */
  readonly discovery: "static" | "strict_dns" | "logical_dns" | "original_dst" | "aggregate" | "eds";
  /** Set for "eds". */
  readonly eds: EdsSettings | undefined;
  /** Set for "original_dst". */
  readonly originalDst: OriginalDstSettings | undefined;
  /** Names of member clusters, for "aggregate". */
  readonly aggregate: readonly string[];
  readonly balancer: "round_robin" | "random" | "least_request";
  /** Hosts are chosen by the hash of the request, where it has one. */
  readonly hash: HashSettings | undefined;
  /** Routes choose among subsets of the hosts. */
  readonly subsets: SubsetSettings | undefined;
  /** Hosts looked at by least_request. */
  readonly choiceCount: number;
  /** least_request looks at all hosts. */
  readonly fullScan: boolean;
  /** How much requests under way weigh against the weight of a host (least_request with weights). */
  readonly activeRequestBias: RuntimeNumber;
  readonly slowStart: SlowStart | undefined;
  /** Localities have weights of their own. */
  readonly localityWeighted: boolean;
  readonly panicThresholdPercent: number;
  readonly overprovisioningPercent: number;
  readonly failTrafficOnPanic: boolean;
  readonly connectTimeoutMs: number;
  readonly perConnectionBufferLimitBytes: number;
  readonly idleTimeoutMs: number;
  readonly maxConnectionDurationMs: number;
  readonly maxRequestsPerConnection: number;
  readonly maxResponseHeadersKb: number;
  readonly maxStreamDurationMs: number;
  readonly thresholds: { readonly default: Thresholds; readonly high: Thresholds };
  /** "downstream": as the request came; "auto": what ALPN says. */
  readonly protocol: "http1" | "http2" | "auto" | "downstream";
  readonly h1: H1Settings;
  readonly h2: H2Settings;
  readonly transportSocket: UpstreamTransportSocket | undefined;
  /** The first that fits a host's metadata (envoy.transport_socket_match) wins over `transportSocket`. */
  readonly transportSocketMatches: readonly TransportSocketMatch[];
  /** SNI follows the request's host. */
  readonly autoSni: boolean;
  readonly autoSniHeader: string;
  readonly bindAddress: string | undefined;
  readonly keepAlive: KeepAlive | undefined;
  readonly timeoutBudgets: boolean;
  readonly requestResponseSizes: boolean;
  /** Connections per request expected (preconnect_policy.per_upstream_preconnect_ratio), 1 to 3. */
  readonly preconnectRatio: number;
  readonly healthChecks: readonly HealthCheckSettings[];
  readonly outlier: OutlierSettings | undefined;
  /** A host that discovery drops goes at once, however healthy it is. */
  readonly ignoreHealthOnRemoval: boolean;
  /** New hosts count as no members until they were checked. */
  readonly ignoreNewUntilChecked: boolean;
  /** A host that fails its health checks, or is ejected, loses its TCP connections. */
  readonly closeConnectionsOnHealthFailure: boolean;
  /** Changes of health within it are told together; 0: each at once. */
  readonly updateMergeWindowMs: number;
  /** A change of membership ends all connections behind their responses. */
  readonly closeConnectionsOnChange: boolean;
}
