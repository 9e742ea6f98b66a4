/** Clusters, hosts and pools as the router, tcp_proxy and filters with calls of their own see them. */
import type { JsonObject } from "../config/message.ts";
import type { RequestEncoder, ResponseDecoder, StreamCallbacks, StreamResetReason } from "../http/codec.ts";
import type { RequestHeaders, ResponseHeaders, Trailers } from "../http/header-map.ts";
import type { StreamInfo, UpstreamInfo } from "../http/stream-info.ts";
import type { Address, Connection } from "../net/connection.ts";
import type { Counter, Gauge, Histogram, StatsScope } from "../stats/stats.ts";

export type Priority = "default" | "high";

export interface Host {
  readonly address: Address;
  /** Hostname of the endpoint (`hostname`, or the DNS name it came from). */
  readonly hostname: string;
  readonly healthCheckHostname: string;
  weight: number;
  readonly priority: number;
  readonly locality: { readonly region: string; readonly zone: string; readonly subZone: string };
  readonly metadata: Record<string, JsonObject>;
  readonly canary: boolean;
  readonly cluster: ClusterInfo;
  readonly stats: HostStats;
  /** Health as the balancer sees it. */
  readonly health: "healthy" | "degraded" | "unhealthy" | "timeout";
  /** Is told how exchanges with this host ended; absent where nobody listens. */
  readonly monitor?: HostMonitor;
}

/** Outlier detection and health checking, as the router informs them (Envoy's DetectorHostMonitor and HealthCheckHostMonitor). */
export interface HostMonitor {
  /** `httpStatus`: what stands for it (the status of a timeout's reply). */
  putResult(result: OutlierResult, httpStatus: number | undefined): void;
  /** An answer's head has come. `httpStatus`: its status, or what a gRPC status stands for. */
  putResponse(headers: ResponseHeaders, httpStatus: number): void;
  putResponseTime(ms: number): void;
  /** The host says that it works with less than it should (x-envoy-degraded). */
  putDegraded(): void;
  /** The host itself asks to be taken out (x-envoy-immediate-health-check-fail). */
  setUnhealthy(): void;
}

export type OutlierResult =
  | "local_origin_connect_success"
  /** As above, where nothing more will be told: the exchange is no request. */
  | "local_origin_connect_success_final"
  | "local_origin_connect_failed"
  | "local_origin_timeout"
  | "ext_origin_request_success"
  | "ext_origin_request_failed";

export interface HostStats {
  readonly cx_total: Counter;
  readonly cx_active: Gauge;
  readonly cx_connect_fail: Counter;
  readonly rq_total: Counter;
  readonly rq_timeout: Counter;
  readonly rq_success: Counter;
  readonly rq_error: Counter;
  readonly rq_active: Gauge;
}

/** Circuit breaker resources of one priority on this worker. `try...` counts the overflow stat itself when it answers false. */
export type ResourceName = "connections" | "pending" | "requests" | "retries";
export interface ResourceManager {
  /** How many the whole process has of one kind. */
  inUse(resource: ResourceName): number;
  tryAcquireRequest(): boolean;
  releaseRequest(): void;
  tryAcquirePending(): boolean;
  releasePending(): void;
  tryAcquireConnection(): boolean;
  releaseConnection(): void;
  tryAcquireRetry(): boolean;
  releaseRetry(): void;
}

export interface ClusterInfo {
  readonly name: string;
  /** alt_stat_name or name. */
  readonly observabilityName: string;
  readonly metadata: Record<string, JsonObject>;
  readonly stats: ClusterStats;
  readonly scope: StatsScope;
  readonly perConnectionBufferLimitBytes: number;
  readonly maxResponseHeadersKb: number;
  readonly maxRequestsPerConnection: number;
  readonly connectTimeoutMs: number;
  resourceManager(priority: Priority): ResourceManager;
  readonly timeoutBudgets: boolean;
  /** common_http_protocol_options.max_stream_duration of the cluster; absent or 0: none. */
  readonly maxStreamDurationMs?: number;
  /** drop_overloads of the load assignment, 0..1: the share of requests to refuse. Absent: none. */
  readonly dropOverload?: number;
  /** Set where a request's own timeout or the pool learn whether upstream speaks HTTP/2. */
  readonly features: { readonly http2: boolean };
  /** Codec and pool behaviour: the cluster's HttpProtocolOptions, compiled. */
  readonly typeName: string;
}

/** cluster.<name>.*: Envoy's names as properties (the list in upstream/cluster-stats.ts). */
export type ClusterStats = { readonly [name: string]: Counter | Gauge | Histogram } & { readonly [K in `upstream_${string}`]: Counter | Gauge | Histogram };

/** What a balancer may look at for one request. */
export interface LoadBalancerContext {
  readonly hash: bigint | undefined;
  readonly metadataMatch: JsonObject | undefined;
  readonly requestHeaders: RequestHeaders | undefined;
  readonly downstreamConnection: Connection | undefined;
  readonly streamInfo: StreamInfo | undefined;
  /** Retry host predicates: true means pick another. */
  shouldSelectAnotherHost(host: Host): boolean;
  readonly hostSelectionMaxAttempts: number;
  /** override_host from stateful sessions: "ip:port" and strictness. */
  readonly overrideHost: { readonly address: string; readonly strict: boolean } | undefined;
  /** x-envoy-... retries: priorities already tried, where a retry priority is configured. */
  readonly triedPriorities: readonly number[];
}

export interface PoolCallbacks {
  onPoolReady(encoder: RequestEncoder, host: Host, upstream: UpstreamInfo): void;
  onPoolFailure(
    reason: "overflow" | "local_connection_failure" | "remote_connection_failure" | "timeout",
    transportFailureReason: string,
    host: Host | undefined,
  ): void;
}

/** A request that waits for a connection; cancel it when the downstream goes away. */
export interface PoolRequest {
  cancel(): void;
}

export interface HttpPool {
  readonly host: Host;
  /** Calls back at once when a connection is free (then answers undefined). */
  newStream(
    decoder: ResponseDecoder,
    callbacks: PoolCallbacks,
    options: { readonly canSendEarlyData: boolean; readonly upgrade: string | undefined },
  ): PoolRequest | undefined;
}

export interface TcpPoolCallbacks {
  onPoolReady(connection: Connection, host: Host): void;
  onPoolFailure(
    reason: "overflow" | "local_connection_failure" | "remote_connection_failure" | "timeout",
    transportFailureReason: string,
    host: Host | undefined,
  ): void;
}

export interface ThreadLocalCluster {
  readonly info: ClusterInfo;
  /** Picks a host and its HTTP pool; undefined: no healthy upstream. */
  httpPool(priority: Priority, downstreamProtocol: string | undefined, context: LoadBalancerContext): HttpPool | undefined;
  /** A new raw connection for TCP proxying or CONNECT; undefined: no healthy upstream. Calls back later. */
  tcpConnection(priority: Priority, context: LoadBalancerContext, callbacks: TcpPoolCallbacks): PoolRequest | undefined;
  readonly httpClient: AsyncHttpClient;
  /** All hosts, for admin and tests. */
  hosts(): readonly Host[];
}

export interface ThreadLocalClusters {
  get(name: string): ThreadLocalCluster | undefined;
}

/** Requests that the proxy makes itself (mirrors, ext_authz over HTTP, JWKS, Lua httpCall): through the cluster, with its stats and retries. */
export interface AsyncHttpClient {
  /** A whole exchange; the response body is bounded by `maxResponseBytes`. */
  send(request: { headers: RequestHeaders; body?: Buffer }, options: AsyncRequestOptions, done: (result: AsyncResult) => void): { cancel(): void };
  /** A stream of which the caller writes body pieces; for mirroring and streaming filters. */
  start(options: AsyncRequestOptions, decoder: ResponseDecoder & Pick<StreamCallbacks, "onResetStream">): AsyncStream;
}
export interface AsyncStream {
  sendHeaders(headers: RequestHeaders, endStream: boolean): void;
  sendData(data: Buffer, endStream: boolean): void;
  sendTrailers(trailers: Trailers): void;
  reset(): void;
  /** What was written is not taken as fast as it comes. */
  readonly isAboveWriteBufferHighWatermark: boolean;
}
export interface AsyncRequestOptions {
  readonly timeoutMs?: number;
  readonly maxResponseBytes?: number;
  readonly discardResponse?: boolean;
  readonly isShadow?: boolean;
  readonly parentStreamInfo?: StreamInfo;
  /** false: x-forwarded-for is left as it is. */
  readonly sendXff?: boolean;
  /** false: x-envoy-internal is not set. */
  readonly sendInternal?: boolean;
}
export type AsyncResult =
  | { readonly ok: true; readonly headers: ResponseHeaders; readonly body: Buffer; readonly trailers: Trailers | undefined }
  | { readonly ok: false; readonly reason: "reset" | "timeout" | "no_healthy_upstream" | "response_too_large"; readonly resetReason?: StreamResetReason };
