/**
 * A compiled route table, as the connection manager and the router filter read it. Made by router/compile.ts from a
 * RouteConfiguration; immutable; a request never sees protobuf messages.
 */
import type { JsonObject } from "../config/message.ts";
import type { HeaderMap, RequestHeaders, ResponseHeaders } from "../http/header-map.ts";
import type { StreamInfo } from "../http/stream-info.ts";
import type { RateLimitEntry } from "./rate-limit.ts";

/** Settings of one named filter at one level (`typed_per_filter_config`), compiled by that filter. */
export interface PerFilterConfig {
  readonly disabled: boolean;
  readonly settings: unknown;
}

export interface VirtualHost {
  readonly name: string;
  readonly statName: string;
  readonly includeRequestAttemptCount: boolean;
  readonly includeAttemptCountInResponse: boolean;
  readonly includeIsTimeoutRetryHeader: boolean;
  /** Bytes, or undefined where it is not set. */
  readonly requestBodyBufferLimitBytes: number | undefined;
  readonly perFilter: ReadonlyMap<string, PerFilterConfig>;
  readonly metadata: Record<string, JsonObject>;
  readonly rateLimits: readonly RateLimitEntry[];
  /** The first virtual cluster whose matchers fit, for stats; undefined means "other". */
  virtualCluster(headers: RequestHeaders): VirtualClusterStats | undefined;
  /** Stats of requests that no virtual cluster takes ("other"); undefined when the virtual host has none configured. */
  readonly otherVirtualCluster: VirtualClusterStats | undefined;
}

/** vhost.<vhost>.vcluster.<name>.* and route stat_prefix stats share this. */
export interface VirtualClusterStats {
  readonly name: string;
  /** Counts upstream_rq_<code>, _xx, completed. */
  onResponse(status: number): void;
  /** Records upstream_rq_time, once the response is complete. */
  onResponseTime(ms: number): void;
  onRetry(): void;
  onRetrySuccess(): void;
  onRetryOverflow(): void;
  onRetryLimitExceeded(): void;
  onTimeout(): void;
  onRequest(): void;
}

interface RouteBase {
  readonly name: string;
  readonly statPrefix: string;
  readonly virtualHost: VirtualHost;
  readonly metadata: Record<string, JsonObject>;
  readonly perFilter: ReadonlyMap<string, PerFilterConfig>;
  readonly requestBodyBufferLimitBytes: number | undefined;
  readonly decorator: { readonly operation: string; readonly propagate: boolean } | undefined;
  readonly tracing: RouteTracing | undefined;
  /** Route stat_prefix stats (route.<prefix> below the vhost). */
  readonly routeStats: VirtualClusterStats | undefined;
  /** The text of the path matcher, for logs and %ROUTE_...%, tracing. */
  readonly matchText: string;
  /** Adds and removes response fields configured on route, virtual host and route configuration, in Envoy's order. */
  finalizeResponseHeaders(headers: ResponseHeaders, info: StreamInfo, requestHeaders: RequestHeaders): void;
  /** All levels' settings of one filter, least specific first. */
  perFilterSettings(filterName: string): readonly unknown[];
  /** Whether the most specific level that says something turns the filter off (true), on (false), or none does (undefined). */
  filterDisabled(filterName: string): boolean | undefined;
}

export interface RouteTracing {
  /** Percent 0..100, undefined where not set. */
  readonly clientSampling: number | undefined;
  readonly randomSampling: number | undefined;
  readonly overallSampling: number | undefined;
}

/** An answer made here: redirect or direct_response. */
export interface DirectRoute extends RouteBase {
  readonly kind: "direct";
  readonly status: number;
  /** Response code details: "direct_response". */
  readonly isRedirect: boolean;
  /** For a redirect: the Location. `headers` as they came, path not rewritten. */
  location(headers: RequestHeaders, info: StreamInfo): string | undefined;
  /** Body text; a format (%...%) is already compiled in. */
  body(headers: RequestHeaders, info: StreamInfo): string | Buffer | undefined;
  readonly contentType: string | undefined;
  /** Applies request header changes before the body is formatted (Envoy rewrites the path for logs). */
  finalizeRequestHeaders(headers: RequestHeaders, info: StreamInfo): void;
}

export type RetryOn =
  | "5xx"
  | "gateway-error"
  | "reset"
  | "reset-before-request"
  | "connect-failure"
  | "envoy-ratelimited"
  | "retriable-4xx"
  | "refused-stream"
  | "retriable-status-codes"
  | "retriable-headers"
  | "http3-post-connect-failure"
  | "cancelled"
  | "deadline-exceeded"
  | "internal"
  | "resource-exhausted"
  | "unavailable";

export interface RetryPolicy {
  readonly retryOn: ReadonlySet<RetryOn>;
  readonly numRetries: number;
  /** 0 = none. */
  readonly perTryTimeoutMs: number;
  readonly perTryIdleTimeoutMs: number;
  readonly retriableStatusCodes: readonly number[];
  readonly retriableHeaders: readonly ((headers: HeaderMap) => boolean)[];
  readonly retriableRequestHeaders: readonly ((headers: HeaderMap) => boolean)[];
  readonly baseIntervalMs: number;
  readonly maxIntervalMs: number;
  /** retry_back_off is not set: the runtime key upstream.base_retry_backoff_ms may give another base. */
  readonly defaultBackOff: boolean;
  readonly rateLimitedBackOff:
    | { readonly headers: readonly { readonly name: string; readonly format: "seconds" | "unix_timestamp" }[]; readonly maxIntervalMs: number }
    | undefined;
  /** envoy.retry_host_predicates.*: names and settings, for the upstream side to make per-request state from. */
  readonly hostPredicates: readonly { readonly $typeName: string }[];
  readonly priorityPredicate: { readonly $typeName: string } | undefined;
  readonly hostSelectionMaxAttempts: number;
}

export interface HedgePolicy {
  readonly initialRequests: number;
  readonly hedgeOnPerTryTimeout: boolean;
}

export interface MirrorPolicy {
  cluster(headers: RequestHeaders): string | undefined;
  readonly disableShadowHostSuffixAppend: boolean;
  /** Whether this request is mirrored (runtime fraction). */
  isEnabled(randomValue: number): boolean;
  mutateHeaders(headers: RequestHeaders, info: StreamInfo): void;
  readonly hostRewriteLiteral: string;
  readonly traceSampled: boolean | undefined;
}

/** Computes the hash for consistent load balancing; may add a Set-Cookie to the response. */
export interface HashPolicy {
  hash(headers: RequestHeaders, info: StreamInfo, addCookie: (setCookie: string) => void): bigint | undefined;
}

export interface InternalRedirectPolicy {
  readonly maxInternalRedirects: number;
  readonly responseCodes: ReadonlySet<number>;
  readonly allowCrossScheme: boolean;
  readonly predicates: readonly { readonly $typeName: string }[];
  readonly responseHeadersToCopy: readonly string[];
}

/** Forward to a cluster. For weighted clusters, `Route` objects are made per choice and share all else. */
export interface ForwardRoute extends RouteBase {
  readonly kind: "forward";
  /** The cluster for this request (weights, cluster_header and plugins already applied); "" where a header named none. */
  readonly clusterName: string;
  readonly clusterNotFoundStatus: number;
  /** 0 = none. Default 15000. */
  readonly timeoutMs: number;
  readonly idleTimeoutMs: number | undefined;
  readonly flushTimeoutMs: number | undefined;
  readonly maxStreamDuration:
    | { readonly maxMs: number | undefined; readonly grpcTimeoutHeaderMaxMs: number | undefined; readonly grpcTimeoutHeaderOffsetMs: number }
    | undefined;
  readonly maxGrpcTimeoutMs: number | undefined;
  readonly grpcTimeoutOffsetMs: number | undefined;
  readonly priority: "default" | "high";
  readonly retryPolicy: RetryPolicy | undefined;
  readonly hedgePolicy: HedgePolicy;
  readonly mirrors: readonly MirrorPolicy[];
  readonly hashPolicy: HashPolicy | undefined;
  readonly rateLimits: readonly RateLimitEntry[];
  /** The virtual host's rate limits count beside the route's own. */
  readonly includeVhRateLimits: boolean;
  readonly internalRedirect: InternalRedirectPolicy | undefined;
  /** metadata_match for subset load balancing. */
  readonly metadataMatch: JsonObject | undefined;
  /** auto_host_rewrite: set Host to the chosen host's name (and append x-forwarded-host if asked). */
  readonly autoHostRewrite: boolean;
  readonly appendXForwardedHost: boolean;
  /** Upgrade types this route decides on (lower case; "connect" for CONNECT): true allowed, false refused. */
  readonly upgrades: ReadonlyMap<string, boolean>;
  /** CONNECT is terminated here: forward the payload as raw TCP (with a PROXY header if configured). */
  readonly connectConfig: { readonly proxyProtocolVersion: 1 | 2 | undefined; readonly allowPost: boolean } | undefined;
  readonly earlyDataPolicy: { readonly $typeName: string } | undefined;
  /**
   * Rewrites path and host and applies request header changes of all levels; called by the router once per request.
   * Sets x-envoy-original-path etc. unless `suppressEnvoyHeaders`.
   */
  finalizeRequestHeaders(headers: RequestHeaders, info: StreamInfo, suppressEnvoyHeaders: boolean): void;
}

/** `non_forwarding_action` and `filter_action`. */
export interface NonForwardingRoute extends RouteBase {
  readonly kind: "non_forwarding";
}

export type Route = DirectRoute | ForwardRoute | NonForwardingRoute;

export interface RouteTable {
  readonly name: string;
  /**
   * The route of a request, or undefined (404). `randomValue` is a uint32 that stays the same over one stream, for weights and fractions.
   * `connectionTls`: for require_tls and tls_context matchers.
   */
  match(headers: RequestHeaders, info: StreamInfo, randomValue: number): Route | undefined;
  /** The virtual host a request belongs to (for 404s within one). */
  virtualHost(headers: RequestHeaders): VirtualHost | undefined;
  /** internal_only_headers: removed from external requests. */
  readonly internalOnlyHeaders: readonly string[];
  readonly usesVhds: boolean;
  readonly maxDirectResponseBodyBytes: number;
  readonly ignorePortInHostMatching: boolean;
  readonly perFilter: ReadonlyMap<string, PerFilterConfig>;
}
