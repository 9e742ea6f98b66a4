/** envoy.filters.network.tcp_proxy: settings. */
import { durationMs, type JsonObject } from "../../../config/message.ts";
import type { TcpProxy } from "../../../config/schema/types/envoy.extensions.filters.network.tcp_proxy.v3.d.ts";
import type { HashPolicy } from "../../../config/schema/types/envoy.type.v3.d.ts";
import { compileAccessLogs, noAccessLog } from "../../../formatter/access-log.ts";
import type { StreamInfo } from "../../../http/stream-info.ts";
import { hashBytes } from "../../../router/hash-policy.ts";
import type { Counter, Gauge, StatsScope } from "../../../stats/stats.ts";
import type { AccessLogger, CompileContext, ListenerFacts } from "../../extension.ts";
import { compileTunneling, type Tunneling } from "./tunneling.ts";

/** Filter state under which filters in front say which cluster to take. */
export const clusterFilterState = "envoy.tcp_proxy.cluster";

const hourMs = 3_600_000;

export interface TcpProxyStats {
  readonly downstream_cx_total: Counter;
  readonly downstream_cx_no_route: Counter;
  readonly downstream_cx_drain_close: Counter;
  readonly downstream_cx_overload_close: Counter;
  readonly downstream_cx_tx_bytes_total: Counter;
  readonly downstream_cx_tx_bytes_buffered: Gauge;
  readonly downstream_cx_rx_bytes_total: Counter;
  readonly downstream_cx_rx_bytes_buffered: Gauge;
  readonly downstream_flow_control_paused_reading_total: Counter;
  readonly downstream_flow_control_resumed_reading_total: Counter;
  readonly early_data_received_count_total: Counter;
  readonly idle_timeout: Counter;
  readonly max_downstream_connection_duration: Counter;
  readonly route_delayed_total: Counter;
  readonly upstream_flush_total: Counter;
  readonly upstream_flush_active: Gauge;
}

/** Where a connection may go. */
export interface Target {
  readonly cluster: string;
  readonly weight: number;
  readonly metadataMatch: JsonObject | undefined;
}

export interface TcpProxySettings {
  readonly context: CompileContext;
  readonly listener: ListenerFacts;
  readonly stats: TcpProxyStats;
  readonly targets: readonly Target[];
  readonly totalWeight: number;
  /** 0: none. */
  readonly idleTimeoutMs: number;
  readonly maxConnectAttempts: number;
  /** Before another attempt; 0: at once. */
  readonly backoff: { readonly baseMs: number; readonly maxMs: number } | undefined;
  readonly maxDurationMs: number;
  /** Share of the duration, 0..100. */
  readonly durationJitterPercent: number;
  readonly accessLog: AccessLogger;
  readonly logsAccess: boolean;
  readonly logOnStart: boolean;
  readonly logOnConnected: boolean;
  readonly logIntervalMs: number;
  readonly hash: ((info: StreamInfo) => bigint | undefined) | undefined;
  /** Connect when the client has said something, keeping at most this much of it; undefined: connect at once. */
  readonly earlyDataBytes: number | undefined;
  readonly tunneling: Tunneling | undefined;
}

export function compileTcpProxy(message: TcpProxy, context: CompileContext, listener: ListenerFacts): TcpProxySettings {
  const { clusterSpecifier } = message;
  const base = message.metadataMatch?.filterMetadata["envoy.lb"];
  const targets: Target[] = [];
  if (clusterSpecifier.case === "cluster") targets.push({ cluster: clusterSpecifier.value, weight: 1, metadataMatch: base });
  else if (clusterSpecifier.case === "weightedClusters") {
    for (const { name, weight, metadataMatch } of clusterSpecifier.value.clusters) {
      const own = metadataMatch?.filterMetadata["envoy.lb"];
      targets.push({ cluster: name, weight, metadataMatch: own === undefined ? base : { ...base, ...own } });
    }
  }
  const backoffMs = durationMs(message.backoffOptions?.baseInterval);
  const maxBackoffMs = durationMs(message.backoffOptions?.maxInterval, (backoffMs ?? 0) * 10);
  if (backoffMs !== undefined && maxBackoffMs < backoffMs)
    context.report(message.backoffOptions ?? message, "max_interval", { code: "OR2112", text: "max_backoff must be greater or equal to base_backoff" });
  const maxDurationMs = durationMs(message.maxDownstreamConnectionDuration, 0);
  if (message.maxDownstreamConnectionDuration !== undefined && maxDurationMs < 1)
    context.report(message, "max_downstream_connection_duration", { code: "OR2112", text: "max_downstream_connection_duration must be at least 1ms" });
  const accessLog = compileAccessLogs(message.accessLog, context);
  const options = message.accessLogOptions;
  if (message.upstreamConnectMode !== 0 && message.maxEarlyDataBytes === undefined)
    context.report(message, "upstream_connect_mode", {
      code: "OR3040",
      text: "max_early_data_bytes must be set when upstream_connect_mode is not IMMEDIATE",
      hint: "say how much may be kept until the upstream is connected",
    });
  return {
    context,
    listener,
    stats: tcpProxyStats(context.stats.scope(`tcp.${message.statPrefix}.`)),
    targets,
    totalWeight: targets.reduce((sum, { weight }) => sum + weight, 0),
    idleTimeoutMs: durationMs(message.idleTimeout, hourMs),
    maxConnectAttempts: message.maxConnectAttempts ?? 1,
    backoff: backoffMs === undefined ? undefined : { baseMs: backoffMs, maxMs: maxBackoffMs },
    maxDurationMs,
    durationJitterPercent: message.maxDownstreamConnectionDurationJitterPercentage?.value ?? 0,
    accessLog,
    logsAccess: accessLog !== noAccessLog,
    logOnStart: options?.flushAccessLogOnStart ?? false,
    logOnConnected: options?.flushAccessLogOnConnected ?? message.flushAccessLogOnConnected,
    logIntervalMs: durationMs(options?.accessLogFlushInterval ?? message.accessLogFlushInterval, 0),
    hash: compileHash(message.hashPolicy),
    // After the TLS handshake is when filters start here anyway.
    earlyDataBytes: message.upstreamConnectMode === 1 ? (message.maxEarlyDataBytes ?? 0) : undefined,
    tunneling: message.tunnelingConfig === undefined ? undefined : compileTunneling(message.tunnelingConfig, context),
  };
}

function compileHash(policies: readonly HashPolicy[]): ((info: StreamInfo) => bigint | undefined) | undefined {
  // Envoy takes one.
  const specifier = policies[0]?.policySpecifier;
  if (specifier?.case === "sourceIp")
    return (info) => {
      const address = info.downstreamRemoteAddress;
      return address?.kind === "ip" ? hashBytes(address.ip) : undefined;
    };
  if (specifier?.case !== "filterState") return undefined;
  const { key } = specifier.value;
  return (info) => {
    const text = info.getFilterState(key)?.serializeAsString();
    return text === undefined ? undefined : hashBytes(text);
  };
}

function tcpProxyStats(scope: StatsScope): TcpProxyStats {
  return {
    downstream_cx_total: scope.counter("downstream_cx_total"),
    downstream_cx_no_route: scope.counter("downstream_cx_no_route"),
    downstream_cx_drain_close: scope.counter("downstream_cx_drain_close"),
    downstream_cx_overload_close: scope.counter("downstream_cx_overload_close"),
    downstream_cx_tx_bytes_total: scope.counter("downstream_cx_tx_bytes_total"),
    downstream_cx_tx_bytes_buffered: scope.gauge("downstream_cx_tx_bytes_buffered"),
    downstream_cx_rx_bytes_total: scope.counter("downstream_cx_rx_bytes_total"),
    downstream_cx_rx_bytes_buffered: scope.gauge("downstream_cx_rx_bytes_buffered"),
    downstream_flow_control_paused_reading_total: scope.counter("downstream_flow_control_paused_reading_total"),
    downstream_flow_control_resumed_reading_total: scope.counter("downstream_flow_control_resumed_reading_total"),
    early_data_received_count_total: scope.counter("early_data_received_count_total"),
    idle_timeout: scope.counter("idle_timeout"),
    max_downstream_connection_duration: scope.counter("max_downstream_connection_duration"),
    route_delayed_total: scope.counter("route_delayed_total"),
    upstream_flush_total: scope.counter("upstream_flush_total"),
    upstream_flush_active: scope.gauge("upstream_flush_active"),
  };
}
