/**
 * What is known of one stream (or TCP connection): the source of access logs, formatters, filter decisions and traces.
 * Response flags and details are Envoy's, letter for letter.
 */
import type { X509Certificate } from "node:crypto";
import type { JsonObject } from "../config/message.ts";
import type { Address, TlsInfo } from "../net/connection.ts";
import type { Route } from "../router/route.ts";
import type { ClusterInfo, Host } from "../upstream/upstream.ts";
import type { BytesMeter } from "./codec.ts";

/** Bit of each response flag; names as Envoy's access log prints (short) and %RESPONSE_FLAGS_LONG%. */
export const responseFlags = {
  LH: { bit: 0, long: "FailedLocalHealthCheck" },
  UH: { bit: 1, long: "NoHealthyUpstream" },
  UT: { bit: 2, long: "UpstreamRequestTimeout" },
  LR: { bit: 3, long: "LocalReset" },
  UR: { bit: 4, long: "UpstreamRemoteReset" },
  UF: { bit: 5, long: "UpstreamConnectionFailure" },
  UC: { bit: 6, long: "UpstreamConnectionTermination" },
  UO: { bit: 7, long: "UpstreamOverflow" },
  NR: { bit: 8, long: "NoRouteFound" },
  DI: { bit: 9, long: "DelayInjected" },
  FI: { bit: 10, long: "FaultInjected" },
  RL: { bit: 11, long: "RateLimited" },
  UAEX: { bit: 12, long: "UnauthorizedExternalService" },
  RLSE: { bit: 13, long: "RateLimitServiceError" },
  DC: { bit: 14, long: "DownstreamConnectionTermination" },
  URX: { bit: 15, long: "UpstreamRetryLimitExceeded" },
  SI: { bit: 16, long: "StreamIdleTimeout" },
  IH: { bit: 17, long: "InvalidEnvoyRequestHeaders" },
  DPE: { bit: 18, long: "DownstreamProtocolError" },
  UMSDR: { bit: 19, long: "UpstreamMaxStreamDurationReached" },
  RFCF: { bit: 20, long: "ResponseFromCacheFilter" },
  NFCF: { bit: 21, long: "NoFilterConfigFound" },
  DT: { bit: 22, long: "DurationTimeout" },
  UPE: { bit: 23, long: "UpstreamProtocolError" },
  NC: { bit: 24, long: "NoClusterFound" },
  OM: { bit: 25, long: "OverloadManagerTerminated" },
  DF: { bit: 26, long: "DnsResolutionFailed" },
  DO: { bit: 27, long: "DropOverLoad" },
  DR: { bit: 28, long: "DownstreamRemoteReset" },
  UDO: { bit: 29, long: "UnconditionalDropOverload" },
} as const satisfies Record<string, { bit: number; long: string }>;
export type ResponseFlag = keyof typeof responseFlags;

/** One try upstream, as operators name it. Times are performance.now() milliseconds, undefined until they happened. */
export interface UpstreamInfo {
  host: Host | undefined;
  localAddress: Address | undefined;
  remoteAddress: Address | undefined;
  connectionId: number | undefined;
  tls: TlsInfo | undefined;
  protocol: string | undefined;
  transportFailureReason: string;
  connectStartMs: number | undefined;
  connectedMs: number | undefined;
  tlsHandshakeDoneMs: number | undefined;
  firstTxByteMs: number | undefined;
  lastTxByteMs: number | undefined;
  firstRxByteMs: number | undefined;
  lastRxByteMs: number | undefined;
  /** How long the request waited for a connection, milliseconds. */
  poolReadyMs: number | undefined;
  /** Requests this connection had carried, this one included. */
  connectionStreams: number;
  /** performance.now() at the first byte of the answer's body. */
  firstRxBodyByteMs?: number;
  /** Why we closed the upstream connection, and how it was seen to close (for %UPSTREAM_LOCAL_CLOSE_REASON%, %UPSTREAM_DETECTED_CLOSE_TYPE%). */
  localCloseReason?: string;
  detectedCloseType?: string;
  /** For %UPSTREAM_FILTER_STATE%. */
  filterState?: ReadonlyMap<string, FilterStateObject>;
}

/** One host that was tried, in order, for %UPSTREAM_HOSTS_ATTEMPTED% and its kin. */
export interface AttemptedHost {
  readonly host: Host;
  readonly connectionId: number | undefined;
}

/** A value that filters leave for others; `serialize` is what %FILTER_STATE% prints. */
export interface FilterStateObject {
  serializeAsString(): string | undefined;
  serializeAsJson?(): unknown;
  field?(name: string): string | number | undefined;
}

export class StreamInfo {
  /** performance.now() at the first byte of the request; all other times are relative moments of the same clock. */
  startMs: number;
  /** Date.now() at the same moment. */
  startWallMs: number;
  protocol: string | undefined = undefined;
  responseCode: number | undefined = undefined;
  responseCodeDetails: string | undefined = undefined;
  connectionTerminationDetails: string | undefined = undefined;
  flags = 0;
  /** The flags in the order in which they were set, which is the order that logs print them in. */
  flagNames: ResponseFlag[] | undefined = undefined;
  /** Body bytes. */
  bytesReceived = 0;
  bytesSent = 0;
  bytesRetransmitted = 0;
  downstreamMeter: BytesMeter | undefined = undefined;
  upstreamMeter: BytesMeter | undefined = undefined;
  lastDownstreamRxByteMs: number | undefined = undefined;
  firstDownstreamTxByteMs: number | undefined = undefined;
  lastDownstreamTxByteMs: number | undefined = undefined;
  downstreamHandshakeCompleteMs: number | undefined = undefined;
  /** Set when the exchange is over. */
  endMs: number | undefined = undefined;
  upstream: UpstreamInfo | undefined = undefined;
  attemptCount = 0;
  attemptedHosts: AttemptedHost[] | undefined = undefined;
  /** The virtual cluster that the router chose stats of ("other" where none fits), undefined where there are none. */
  virtualClusterName: string | undefined = undefined;
  /** Names that filters leave for %CUSTOM_FLAGS%, comma separated. */
  customFlags = "";
  /** A filter asks for the connection to be closed once this exchange is over. */
  drainConnectionUponCompletion = false;
  downstreamLocalCloseReason = "";
  downstreamDetectedCloseType = "";
  routeResolutionCount = 0;
  routeResolutionMs = 0;
  route: Route | undefined = undefined;
  routeName = "";
  virtualHostName = "";
  cluster: ClusterInfo | undefined = undefined;
  upstreamClusterName: string | undefined = undefined;
  connectionId = 0;
  /** What is known of the connection itself; undefined where this is that. */
  connectionInfo: StreamInfo | undefined = undefined;
  /** The client as it is believed (XFF, PROXY protocol applied) and as it really connected. */
  downstreamRemoteAddress: Address | undefined = undefined;
  downstreamDirectRemoteAddress: Address | undefined = undefined;
  downstreamLocalAddress: Address | undefined = undefined;
  downstreamDirectLocalAddress: Address | undefined = undefined;
  downstreamTls: TlsInfo | undefined = undefined;
  downstreamTransportFailureReason = "";
  requestedServerName = "";
  ja3 = "";
  ja4 = "";
  requestId: string | undefined = undefined;
  streamId: string | undefined = undefined;
  isHealthCheck = false;
  isInternalRequest = false;
  isShadow = false;
  traceId = "";
  spanId = "";
  /** Whether this request is to be traced (the request id's decision). */
  traced = false;
  listenerName = "";
  /** Listener.metadata, FilterChain.name and metadata of this connection. */
  listenerMetadata: JsonObject | undefined = undefined;
  filterChainMetadata: JsonObject | undefined = undefined;
  filterChainName = "";
  /** Times a filter named for %COMMON_DURATION%: key to performance.now(). */
  customTimes: Map<string, number> | undefined = undefined;
  /** The host that a filter (stateful_session) asks for, "ip:port"; strict: no other will do. */
  overrideHost: { readonly address: string; readonly strict: boolean } | undefined = undefined;
  #dynamicMetadata: Record<string, JsonObject> | undefined = undefined;
  #filterState: Map<string, FilterStateObject> | undefined = undefined;
  /** Filter state of the connection, shared by its streams. */
  connectionFilterState: Map<string, FilterStateObject> | undefined = undefined;

  constructor(startMs: number, startWallMs: number) {
    this.startMs = startMs;
    this.startWallMs = startWallMs;
  }

  setFlag(flag: ResponseFlag): void {
    const bit = 1 << responseFlags[flag].bit;
    if ((this.flags & bit) !== 0) return;
    this.flags |= bit;
    if (this.flagNames === undefined) this.flagNames = [flag];
    else this.flagNames.push(flag);
  }

  hasFlag(flag: ResponseFlag): boolean {
    return (this.flags & (1 << responseFlags[flag].bit)) !== 0;
  }

  /** filter_metadata of this stream, by filter name. */
  get dynamicMetadata(): Record<string, JsonObject> {
    this.#dynamicMetadata ??= {};
    return this.#dynamicMetadata;
  }

  get hasDynamicMetadata(): boolean {
    return this.#dynamicMetadata !== undefined;
  }

  /** Merges keys into one filter's metadata. */
  setDynamicMetadata(filter: string, values: JsonObject): void {
    const all = this.dynamicMetadata;
    all[filter] = Object.assign(all[filter] ?? {}, values);
  }

  getFilterState(key: string): FilterStateObject | undefined {
    return this.#filterState?.get(key) ?? this.connectionFilterState?.get(key);
  }

  setFilterState(key: string, value: FilterStateObject): void {
    this.#filterState ??= new Map();
    this.#filterState.set(key, value);
  }

  get filterState(): ReadonlyMap<string, FilterStateObject> | undefined {
    return this.#filterState;
  }
}

export function emptyUpstreamInfo(): UpstreamInfo {
  return {
    host: undefined,
    localAddress: undefined,
    remoteAddress: undefined,
    connectionId: undefined,
    tls: undefined,
    protocol: undefined,
    transportFailureReason: "",
    connectStartMs: undefined,
    connectedMs: undefined,
    tlsHandshakeDoneMs: undefined,
    firstTxByteMs: undefined,
    lastTxByteMs: undefined,
    firstRxByteMs: undefined,
    lastRxByteMs: undefined,
    poolReadyMs: undefined,
    connectionStreams: 0,
  };
}

export type { X509Certificate };
