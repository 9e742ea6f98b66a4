/** health_checks: compiled and checked. */
import { durationMs, isMessage } from "../../config/message.ts";
import type { Cluster } from "../../config/schema/types/envoy.config.cluster.v3.d.ts";
import type {
  HealthCheck,
  HealthCheck_GrpcHealthCheck,
  HealthCheck_HttpHealthCheck,
  HealthCheck_Payload,
  HealthCheck_TcpHealthCheck,
} from "../../config/schema/types/envoy.config.core.v3.d.ts";
import type { HealthCheckEventFileSink } from "../../config/schema/types/envoy.extensions.health_check.event_sinks.file.v3.d.ts";
import type { Redis } from "../../config/schema/types/envoy.extensions.health_checkers.redis.v3.d.ts";
import type { UdpHealthCheck } from "../../config/schema/types/envoy.extensions.health_checkers.udp.v3.d.ts";
import type { Int64Range } from "../../config/schema/types/envoy.type.v3.d.ts";
import type { CompileContext, Honours, LogWriter } from "../../extensions/extension.ts";
import { compileStringMatcher } from "../../matching/string-matcher.ts";
import { compileHeaderMutation, compileRequestMutation } from "../../router/header-mutation.ts";
import type { StatsScope } from "../../stats/stats.ts";
import { compilePayload } from "./payload.ts";
import type {
  GrpcCheckSettings,
  HealthCheckSettings,
  HttpCheckSettings,
  RedisCheckSettings,
  StatusRange,
  TcpCheckSettings,
  UdpCheckSettings,
} from "./settings.ts";

const core = "envoy.config.core.v3.";
const udp = "envoy.extensions.health_checkers.udp.v3.UdpHealthCheck";
const redis = "envoy.extensions.health_checkers.redis.v3.Redis";
const fileSink = "envoy.extensions.health_check.event_sinks.file.v3.HealthCheckEventFileSink";

export const honours: Honours = {
  "envoy.config.cluster.v3.Cluster": ["health_checks"],
  [`${core}HealthCheck`]: [
    "name",
    "timeout",
    "interval",
    "initial_jitter",
    "interval_jitter",
    "interval_jitter_percent",
    "unhealthy_threshold",
    "healthy_threshold",
    // Envoy reads it no more than we do: a warning says so.
    "alt_port",
    "reuse_connection",
    "http_health_check",
    "tcp_health_check",
    "grpc_health_check",
    "custom_health_check",
    "no_traffic_interval",
    "no_traffic_healthy_interval",
    "unhealthy_interval",
    "unhealthy_edge_interval",
    "healthy_edge_interval",
    "event_log_path",
    "event_logger",
    "always_log_health_check_failures",
    "always_log_health_check_success",
    "tls_options",
    "transport_socket_match_criteria",
  ],
  [`${core}HealthCheck.Payload`]: "*",
  [`${core}HealthCheck.HttpHealthCheck`]: [
    "host",
    "path",
    "send",
    "receive",
    "response_buffer_size",
    "request_headers_to_add",
    "request_headers_to_remove",
    "expected_statuses",
    "retriable_statuses",
    "codec_client_type",
    "service_name_matcher",
    "method",
  ],
  [`${core}HealthCheck.TcpHealthCheck`]: ["send", "receive", "proxy_protocol_config"],
  [`${core}HealthCheck.GrpcHealthCheck`]: "*",
  [`${core}HealthCheck.CustomHealthCheck`]: "*",
  [redis]: ["key"],
  [udp]: "*",
  [`${core}HealthCheck.TlsOptions`]: "*",
  [`${core}ProxyProtocolConfig`]: ["version"],
  "envoy.type.v3.Int64Range": "*",
  [fileSink]: "*",
};

const methods = ["GET", "GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"] as const;
/** Methods whose requests have no body. */
const bodiless: ReadonlySet<string> = new Set(["GET", "HEAD", "DELETE", "TRACE"]);
/** Checks of one cluster. */
const maxChecks = 8;
const defaultResponseBufferBytes = 1024;

/** `http2`: what the cluster speaks. */
export function compileHealthChecks(message: Cluster, http2: boolean, scope: StatsScope, context: CompileContext): readonly HealthCheckSettings[] {
  const { healthChecks } = message;
  const names = new Set<string>();
  if (healthChecks.length > maxChecks)
    context.report(message, "health_checks", {
      code: "OR3051",
      text: `cluster '${message.name}' has ${healthChecks.length} health checks: at most ${maxChecks}`,
    });
  return healthChecks.flatMap((check, i) => {
    if (healthChecks.length > 1 && check.name === "")
      context.report(check, "name", {
        code: "OR3051",
        text: `health check at index ${i} is missing a name; all health checks must have a name when multiple health checks are configured`,
      });
    else if (names.has(check.name))
      context.report(check, "name", {
        code: "OR3051",
        text: `duplicate health check name '${check.name}' at index ${i}; all health check names must be unique within a cluster`,
      });
    names.add(check.name);
    const settings = compileHealthCheck(message, check, http2, scope, context);
    return settings === undefined ? [] : [settings];
  });
}

function compileHealthCheck(cluster: Cluster, check: HealthCheck, http2: boolean, scope: StatsScope, context: CompileContext): HealthCheckSettings | undefined {
  const kind = compileKind(cluster, check, http2, scope, context);
  if (kind === undefined) return undefined;
  if (check.altPort !== undefined)
    context.report(check, "alt_port", {
      code: "OR3052",
      severity: "warning",
      text: "alt_port has no effect, as with Envoy",
      hint: "give endpoints a health_check_config.port_value",
    });
  const intervalMs = durationMs(check.interval, 0);
  const noTrafficIntervalMs = durationMs(check.noTrafficInterval, 60_000);
  const unhealthyIntervalMs = durationMs(check.unhealthyInterval, intervalMs);
  return {
    name: check.name,
    check: kind,
    timeoutMs: durationMs(check.timeout, 0),
    intervalMs,
    noTrafficIntervalMs,
    noTrafficHealthyIntervalMs: durationMs(check.noTrafficHealthyInterval, noTrafficIntervalMs),
    unhealthyIntervalMs,
    unhealthyEdgeIntervalMs: durationMs(check.unhealthyEdgeInterval, unhealthyIntervalMs),
    healthyEdgeIntervalMs: durationMs(check.healthyEdgeInterval, intervalMs),
    initialJitterMs: durationMs(check.initialJitter, 0),
    intervalJitterMs: durationMs(check.intervalJitter, 0),
    intervalJitterPercent: check.intervalJitterPercent,
    unhealthyThreshold: check.unhealthyThreshold ?? 1,
    healthyThreshold: check.healthyThreshold ?? 1,
    reuseConnection: check.reuseConnection ?? true,
    alwaysLogFailures: check.alwaysLogHealthCheckFailures,
    alwaysLogSuccess: check.alwaysLogHealthCheckSuccess,
    eventLogs: compileEventLogs(check, context),
    alpn: check.tlsOptions?.alpnProtocols ?? [],
    transportSocketMatch: check.transportSocketMatchCriteria,
  };
}

function compileKind(
  cluster: Cluster,
  check: HealthCheck,
  http2: boolean,
  scope: StatsScope,
  context: CompileContext,
): HealthCheckSettings["check"] | undefined {
  const { healthChecker } = check;
  if (healthChecker.case === "httpHealthCheck") return compileHttp(cluster, healthChecker.value, context);
  if (healthChecker.case === "tcpHealthCheck") return compileTcp(healthChecker.value, context);
  if (healthChecker.case === "grpcHealthCheck") return compileGrpc(cluster, check, healthChecker.value, http2, context);
  if (healthChecker.case === "customHealthCheck") {
    const { name, configType } = healthChecker.value;
    if (isMessage<Redis>(configType.value, redis)) return compileRedis(configType.value, scope);
    if (isMessage<UdpHealthCheck>(configType.value, udp)) return compileUdp(configType.value, context);
    context.report(healthChecker.value, "typed_config", {
      code: "OR4002",
      text: `Didn't find a registered implementation for '${name}' with type URL: '${configType.value?.$typeName ?? ""}'`,
      hint: "supported: envoy.health_checkers.redis, envoy.health_checkers.udp",
    });
  }
  return undefined;
}

/** What is not given is an empty datagram. */
function compileUdp({ send, receive }: UdpHealthCheck, context: CompileContext): UdpCheckSettings {
  const payload = (given: HealthCheck_Payload | undefined): Buffer => (given === undefined ? Buffer.alloc(0) : compilePayload(given, context));
  return { kind: "udp", send: payload(send), receive: payload(receive) };
}

/** A key that exists says that the host is to get no traffic. */
function compileRedis({ key }: Redis, scope: StatsScope): RedisCheckSettings {
  const existsFailure = scope.counter("health_check.redis.exists_failure");
  const words = key === "" ? ["PING"] : ["EXISTS", key];
  const text = words.map((word) => `$${Buffer.byteLength(word)}\r\n${word}\r\n`).join("");
  return {
    kind: "redis",
    command: Buffer.from(`*${words.length}\r\n${text}`),
    answer: key === "" ? "+PONG" : ":0",
    existsFailure: key === "" ? undefined : existsFailure,
  };
}

function compileGrpc(cluster: Cluster, at: HealthCheck, grpc: HealthCheck_GrpcHealthCheck, http2: boolean, context: CompileContext): GrpcCheckSettings {
  if (!http2)
    context.report(at, "grpc_health_check", {
      code: "OR3053",
      text: `${cluster.name} cluster must support HTTP/2 for gRPC healthchecking`,
      hint: "set http2_protocol_options in the cluster's HttpProtocolOptions",
    });
  const service = Buffer.from(grpc.serviceName);
  return {
    kind: "grpc",
    // Field 1, a string.
    request: service.length === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0a, ...lengthOf(service.length)]), service]),
    authority: grpc.authority === "" ? cluster.name : grpc.authority,
    metadata:
      grpc.initialMetadata.length === 0
        ? undefined
        : compileHeaderMutation({ add: grpc.initialMetadata, remove: [], at: grpc, removeField: "initial_metadata" }, context),
  };
}

/** A varint. */
function lengthOf(octets: number): number[] {
  const bytes: number[] = [];
  for (; octets >= 0x80; octets >>>= 7) bytes.push((octets & 0x7f) | 0x80);
  return [...bytes, octets];
}

function compileHttp(cluster: Cluster, http: HealthCheck_HttpHealthCheck, context: CompileContext): HttpCheckSettings {
  const method = methods[http.method] ?? "GET";
  if (http.codecClientType === 2)
    context.report(http, "codec_client_type", {
      code: "OR4003",
      text: "health checks over HTTP/3 are not supported",
      hint: "use codec_client_type: HTTP1 or HTTP2",
    });
  if (http.send !== undefined && bodiless.has(method))
    context.report(http, "send", {
      code: "OR3053",
      text: `HTTP health check cannot specify a request payload with method '${method}'. Only methods that support a request body (POST, PUT, PATCH, OPTIONS) can be used with payload.`,
    });
  const receive = http.receive.map((payload) => compilePayload(payload, context));
  const responseBufferBytes = http.responseBufferSize === undefined ? defaultResponseBufferBytes : Number(http.responseBufferSize);
  const total = receive.reduce((sum, bytes) => sum + bytes.length, 0);
  if (responseBufferBytes !== 0 && total > responseBufferBytes)
    context.report(http, "receive", {
      code: "OR3053",
      text: `The expected response length '${total}' is over than http health response buffer size '${responseBufferBytes}'`,
      hint: "raise response_buffer_size",
    });
  const expected = http.expectedStatuses.map((range) => compileRange(range, "expected", context));
  return {
    kind: "http",
    http2: http.codecClientType === 1,
    method,
    path: http.path,
    host: http.host === "" ? cluster.name : http.host,
    body: http.send === undefined ? undefined : compilePayload(http.send, context),
    receive,
    responseBufferBytes,
    expected: expected.length === 0 ? [{ start: 200, end: 201 }] : expected,
    retriable: http.retriableStatuses.map((range) => compileRange(range, "retriable", context)),
    headers: compileRequestMutation(http, context),
    serviceName: http.serviceNameMatcher === undefined ? undefined : compileStringMatcher(http.serviceNameMatcher, context),
    names: {
      immediateFail: `${context.headerPrefix}-immediate-health-check-fail`,
      degraded: `${context.headerPrefix}-degraded`,
      checkedCluster: `${context.headerPrefix}-upstream-healthchecked-cluster`,
    },
  };
}

function compileRange(range: Int64Range, kind: string, context: CompileContext): StatusRange {
  const start = Number(range.start);
  const end = Number(range.end);
  const problem =
    start >= end
      ? `expecting start < end, but found start=${start} and end=${end}`
      : start < 100
        ? `expecting start >= 100, but found start=${start}`
        : end > 600
          ? `expecting end <= 600, but found end=${end}`
          : undefined;
  if (problem !== undefined) context.report(range, undefined, { code: "OR3053", text: `Invalid http ${kind} status range: ${problem}` });
  return { start, end };
}

function compileTcp(tcp: HealthCheck_TcpHealthCheck, context: CompileContext): TcpCheckSettings {
  const proxy = tcp.proxyProtocolConfig;
  return {
    kind: "tcp",
    send: tcp.send === undefined ? undefined : compilePayload(tcp.send, context),
    receive: tcp.receive.map((payload) => compilePayload(payload, context)),
    proxyProtocol: proxy === undefined ? undefined : proxy.version === 0 ? 1 : 2,
  };
}

function compileEventLogs(check: HealthCheck, context: CompileContext): readonly LogWriter[] {
  const sinks = check.eventLogger.map((sink) => {
    const config = sink.typedConfig;
    if (isMessage<HealthCheckEventFileSink>(config, fileSink)) return { path: config.eventLogPath, at: config as object, field: "event_log_path" };
    context.report(sink, "typed_config", {
      code: "OR4002",
      text: `Didn't find a registered implementation for '${sink.name}' with type URL: '${config?.$typeName ?? ""}'`,
      hint: "supported: envoy.health_check.event_sinks.file",
    });
    return undefined;
  });
  if (check.eventLogPath !== "") sinks.push({ path: check.eventLogPath, at: check, field: "event_log_path" });
  // Only the main thread checks, so only it logs.
  if (context.workerIndex >= 0) return [];
  return sinks.flatMap((sink) => {
    const writer = sink === undefined ? undefined : context.openLog({ kind: "file", path: sink.path }, sink.at, sink.field);
    return writer === undefined ? [] : [writer];
  });
}
