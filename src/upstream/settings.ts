/** A Cluster message, compiled: what pools and balancers of every thread share. */
import type { JsonObject } from "../config/message.ts";
import type { UpstreamTransportSocket } from "../extensions/extension.ts";
import type { H1Settings } from "../http/h1/settings.ts";
import type { StatsScope } from "../stats/stats.ts";
import type { HostData } from "./hosts.ts";

export interface Thresholds {
  readonly maxConnections: number;
  readonly maxPendingRequests: number;
  readonly maxRequests: number;
  readonly maxRetries: number;
  /** Percent of active requests and the least number of retries; undefined: maxRetries counts. */
  readonly retryBudget: { readonly percent: number; readonly minConcurrency: number } | undefined;
  readonly trackRemaining: boolean;
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
  readonly failureRefreshMs: { readonly base: number; readonly max: number } | undefined;
  readonly respectTtl: boolean;
  readonly jitterMs: number;
  /** Addresses of resolvers; empty: the system's. */
  readonly servers: readonly string[];
}

export interface CompiledCluster {
  readonly name: string;
  readonly observabilityName: string;
  readonly metadata: Record<string, JsonObject>;
  readonly scope: StatsScope;
  readonly staticHosts: readonly HostData[];
  readonly dns: DnsSettings | undefined;
  readonly balancer: "round_robin" | "random" | "least_request";
  /** Hosts looked at by least_request. */
  readonly choiceCount: number;
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
  readonly h1: H1Settings;
  readonly transportSocket: UpstreamTransportSocket | undefined;
  /** SNI follows the request's host. */
  readonly autoSni: boolean;
  readonly autoSniHeader: string;
  readonly bindAddress: string | undefined;
  readonly keepAliveMs: number | undefined;
  readonly timeoutBudgets: boolean;
  readonly cleanupOnRemoval: boolean;
}
