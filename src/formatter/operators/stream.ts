/** Operators about the exchange as a whole: times, sizes, outcome, names and ids. */
import { randomUUID } from "node:crypto";
import { hostname } from "node:os";
import { responseFlags, type StreamInfo } from "../../http/stream-info.ts";
import type { FormatContext, Operator } from "../formatter.ts";
import { compileDefaultTimeFormat, compileTimeFormat, type TimeFormatter } from "../time-format.ts";
import { FormatError, nonEmpty, number, type OperatorRow, type OperatorTable, text, toBytes, truncate } from "./operator.ts";

/** The moment the request began, with what microseconds the monotonic clock knows of it. */
function startWall(info: StreamInfo): number {
  const below = performance.timeOrigin + info.startMs - info.startWallMs;
  return info.startWallMs + (below > 0 && below < 1 ? below : 0);
}

function time(read: (context: FormatContext) => number, local: boolean): OperatorRow {
  return {
    parameters: "optional",
    make(argument): Operator {
      const format: TimeFormatter =
        argument !== "" ? compileTimeFormat(argument, local) : local ? compileTimeFormat("%Y-%m-%dT%H:%M:%E3S%z", true) : compileDefaultTimeFormat();
      return { text: (context) => format(read(context)) };
    },
  };
}
const start = (context: FormatContext): number => startWall(context.info);
const now = (): number => performance.timeOrigin + performance.now();

/** Whole milliseconds between two moments; undefined unless both have happened. */
function between(from: number | undefined, to: number | undefined): number | undefined {
  return from === undefined || to === undefined ? undefined : Math.max(0, Math.floor(to - from));
}

/** Whole milliseconds of the exchange so far, or of all of it. */
export function durationOf(info: StreamInfo): number {
  return Math.max(0, Math.floor((info.endMs ?? performance.now()) - info.startMs));
}

const timePoints: Readonly<Record<string, (info: StreamInfo) => number | undefined>> = {
  DS_RX_BEG: (info) => info.startMs,
  DS_RX_END: (info) => info.lastDownstreamRxByteMs,
  US_CX_BEG: (info) => info.upstream?.connectStartMs,
  US_CX_END: (info) => info.upstream?.connectedMs,
  US_HS_END: (info) => info.upstream?.tlsHandshakeDoneMs,
  US_TX_BEG: (info) => info.upstream?.firstTxByteMs,
  US_TX_END: (info) => info.upstream?.lastTxByteMs,
  US_RX_BEG: (info) => info.upstream?.firstRxByteMs,
  US_RX_BODY_BEG: (info) => info.upstream?.firstRxBodyByteMs,
  US_RX_END: (info) => info.upstream?.lastRxByteMs,
  DS_TX_BEG: (info) => info.firstDownstreamTxByteMs,
  DS_TX_END: (info) => info.lastDownstreamTxByteMs,
  DS_HS_END: (info) => info.downstreamHandshakeCompleteMs,
};
const unitsPerMs: Readonly<Record<string, number>> = { ms: 1, us: 1e3, ns: 1e6 };

/** "URX,UF", in the order in which the flags were set. */
function flagText(info: StreamInfo, form: "short" | "long"): string {
  const names = info.flagNames;
  if (names === undefined) return "-";
  if (names.length === 1) return form === "short" ? names[0] : responseFlags[names[0]].long;
  return names.map((name) => (form === "short" ? name : responseFlags[name].long)).join(",");
}

const space = /[ \t\n\v\f\r]/g;
/** White space would break a log line into more fields than it has. */
export function underscoreSpaces(value: string): string {
  return value.replace(space, "_");
}

const grpcNames: readonly (readonly [camel: string, snake: string])[] = [
  ["OK", "OK"],
  ["Canceled", "CANCELLED"],
  ["Unknown", "UNKNOWN"],
  ["InvalidArgument", "INVALID_ARGUMENT"],
  ["DeadlineExceeded", "DEADLINE_EXCEEDED"],
  ["NotFound", "NOT_FOUND"],
  ["AlreadyExists", "ALREADY_EXISTS"],
  ["PermissionDenied", "PERMISSION_DENIED"],
  ["ResourceExhausted", "RESOURCE_EXHAUSTED"],
  ["FailedPrecondition", "FAILED_PRECONDITION"],
  ["Aborted", "ABORTED"],
  ["OutOfRange", "OUT_OF_RANGE"],
  ["Unimplemented", "UNIMPLEMENTED"],
  ["Internal", "INTERNAL"],
  ["Unavailable", "UNAVAILABLE"],
  ["DataLoss", "DATA_LOSS"],
  ["Unauthenticated", "UNAUTHENTICATED"],
];
/** HTTP status to gRPC status, for answers that carry none (gRPC's http-grpc-status-mapping.md). */
const grpcOfHttp: Readonly<Record<number, number>> = { 400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14 };

const grpcContentType = /^application\/grpc(?:$|[+;])/;
export function isGrpcContentType(value: string | undefined): boolean {
  return value !== undefined && grpcContentType.test(value);
}

/** grpc-status of trailers, else of the head, else what the HTTP status stands for; -1 where the field is not a number. */
export function grpcStatusOf(context: FormatContext): number | undefined {
  const sent = context.responseTrailers?.get("grpc-status") ?? context.responseHeaders?.get("grpc-status");
  if (sent !== undefined) return /^[0-9]{1,9}$/.test(sent) ? Number(sent) : -1;
  const status = context.info.responseCode;
  return status === undefined ? undefined : status === 200 ? undefined : (grpcOfHttp[status] ?? 2);
}

type GrpcForm = "CAMEL_STRING" | "SNAKE_STRING" | "NUMBER";
function grpc(form: GrpcForm): Operator {
  const read = (context: FormatContext): number | undefined =>
    isGrpcContentType(context.requestHeaders?.get("content-type")) ? grpcStatusOf(context) : undefined;
  const print = (status: number): string => (form === "NUMBER" ? String(status) : (grpcNames[status]?.[form === "CAMEL_STRING" ? 0 : 1] ?? String(status)));
  const asText = (context: FormatContext): string | undefined => {
    const status = read(context);
    return status === undefined ? undefined : print(status);
  };
  return form === "NUMBER" ? { text: asText, json: read } : { text: asText };
}

const hostName = toBytes(hostname());

export const streamOperators: OperatorTable = {
  START_TIME: time(start, false),
  START_TIME_LOCAL: time(start, true),
  EMIT_TIME: time(now, false),
  EMIT_TIME_LOCAL: time(now, true),
  DURATION: number(({ info }) => durationOf(info)),
  REQUEST_DURATION: number(({ info }) => between(info.startMs, info.lastDownstreamRxByteMs)),
  REQUEST_TX_DURATION: number(({ info }) => between(info.startMs, info.upstream?.lastTxByteMs)),
  RESPONSE_DURATION: number(({ info }) => between(info.startMs, info.upstream?.firstRxByteMs)),
  RESPONSE_TX_DURATION: number(({ info }) => between(info.upstream?.firstRxByteMs, info.lastDownstreamTxByteMs)),
  DOWNSTREAM_HANDSHAKE_DURATION: number(({ info }) => between(info.startMs, info.downstreamHandshakeCompleteMs)),
  ROUNDTRIP_DURATION: number(() => undefined),
  UPSTREAM_CONNECTION_POOL_READY_DURATION: number(({ info }) => between(0, info.upstream?.poolReadyMs)),
  COMMON_DURATION: {
    parameters: "required",
    make(argument): Operator {
      const parts = argument.split(":");
      if (parts.length < 2 || parts.length > 3) throw new FormatError(`Invalid common duration configuration: ${argument}.`);
      const [from, to, unit = "ms"] = parts;
      const scale = Object.hasOwn(unitsPerMs, unit) ? unitsPerMs[unit] : undefined;
      if (scale === undefined) throw new FormatError(`Invalid common duration precision: ${unit}.`);
      const point = (name: string): ((info: StreamInfo) => number | undefined) =>
        Object.hasOwn(timePoints, name) ? timePoints[name] : (info) => info.customTimes?.get(name);
      const first = point(from);
      const second = point(to);
      const read = ({ info }: FormatContext): number | undefined => {
        const begin = first(info);
        const end = second(info);
        if (begin === undefined || end === undefined || end < begin) return undefined;
        return Math.floor((end - begin) * scale + 1e-6);
      };
      return {
        text: (context) => {
          const value = read(context);
          return value === undefined ? undefined : String(value);
        },
        json: read,
      };
    },
  },

  PROTOCOL: text(({ info }) => info.protocol),
  RESPONSE_CODE: number(({ info }) => info.responseCode ?? 0),
  RESPONSE_CODE_DETAILS: {
    parameters: "optional",
    make: (argument) =>
      argument === "ALLOW_WHITESPACES"
        ? { text: ({ info }) => info.responseCodeDetails }
        : { text: ({ info }) => (info.responseCodeDetails === undefined ? undefined : underscoreSpaces(info.responseCodeDetails)) },
  },
  CONNECTION_TERMINATION_DETAILS: nonEmpty(({ info }) => info.connectionTerminationDetails),
  RESPONSE_FLAGS: text(({ info }) => flagText(info, "short")),
  RESPONSE_FLAGS_LONG: text(({ info }) => flagText(info, "long")),
  CUSTOM_FLAGS: nonEmpty(({ info }) => info.customFlags),
  LOCAL_REPLY_BODY: { parameters: "none", make: () => ({ text: (context) => context.localReplyBody }) },
  ACCESS_LOG_TYPE: text((context) => context.accessLogType),

  BYTES_RECEIVED: number(({ info }) => info.bytesReceived),
  BYTES_SENT: number(({ info }) => info.bytesSent),
  BYTES_RETRANSMITTED: number(({ info }) => info.bytesRetransmitted),
  PACKETS_RETRANSMITTED: number(() => 0),
  DOWNSTREAM_WIRE_BYTES_RECEIVED: number(({ info }) => info.downstreamMeter?.wireBytesReceived ?? 0),
  DOWNSTREAM_WIRE_BYTES_SENT: number(({ info }) => info.downstreamMeter?.wireBytesSent ?? 0),
  DOWNSTREAM_HEADER_BYTES_RECEIVED: number(({ info }) => info.downstreamMeter?.headerBytesReceived ?? 0),
  DOWNSTREAM_HEADER_BYTES_SENT: number(({ info }) => info.downstreamMeter?.headerBytesSent ?? 0),
  DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED: number((context) =>
    context.info.downstreamMeter === undefined ? 0 : (context.requestHeaders?.byteSize() ?? 0),
  ),
  DOWNSTREAM_DECOMPRESSED_HEADER_BYTES_SENT: number((context) => (context.info.downstreamMeter === undefined ? 0 : (context.responseHeaders?.byteSize() ?? 0))),
  UPSTREAM_WIRE_BYTES_RECEIVED: number(({ info }) => info.upstreamMeter?.wireBytesReceived ?? 0),
  UPSTREAM_WIRE_BYTES_SENT: number(({ info }) => info.upstreamMeter?.wireBytesSent ?? 0),
  UPSTREAM_HEADER_BYTES_RECEIVED: number(({ info }) => info.upstreamMeter?.headerBytesReceived ?? 0),
  UPSTREAM_HEADER_BYTES_SENT: number(({ info }) => info.upstreamMeter?.headerBytesSent ?? 0),
  UPSTREAM_DECOMPRESSED_HEADER_BYTES_RECEIVED: number((context) => (context.info.upstreamMeter === undefined ? 0 : (context.responseHeaders?.byteSize() ?? 0))),
  UPSTREAM_DECOMPRESSED_HEADER_BYTES_SENT: number((context) => (context.info.upstreamMeter === undefined ? 0 : (context.requestHeaders?.byteSize() ?? 0))),

  GRPC_STATUS: {
    parameters: "optional",
    make(argument) {
      const form = argument === "" ? "CAMEL_STRING" : argument;
      if (form !== "CAMEL_STRING" && form !== "SNAKE_STRING" && form !== "NUMBER")
        throw new FormatError(`GrpcStatusFormatter only supports CAMEL_STRING, SNAKE_STRING or NUMBER. Got: ${argument}`);
      return grpc(form);
    },
  },
  GRPC_STATUS_NUMBER: { parameters: "none", make: () => grpc("NUMBER") },

  ROUTE_NAME: nonEmpty(({ info }) => toBytes(info.routeName)),
  ROUTE_RESOLUTION_COUNT: number(({ info }) => info.routeResolutionCount),
  ROUTE_RESOLUTION_TIME_US: number(({ info }) => Math.floor(info.routeResolutionMs * 1e3)),
  VIRTUAL_CLUSTER_NAME: nonEmpty(({ info }) => (info.virtualClusterName === undefined ? undefined : toBytes(info.virtualClusterName))),
  FILTER_CHAIN_NAME: nonEmpty(({ info }) => toBytes(info.filterChainName)),
  LISTENER_NAME: nonEmpty(({ info }) => toBytes(info.listenerName)),
  HOSTNAME: text(() => hostName),
  ENVIRONMENT: {
    parameters: "required",
    length: true,
    make(argument, maxLength) {
      const found = process.env[argument];
      const value = found === undefined ? undefined : truncate(toBytes(found), maxLength);
      return { text: () => value };
    },
  },
  UNIQUE_ID: text(() => randomUUID()),
  STREAM_ID: nonEmpty(({ info }) => info.streamId ?? info.requestId),
  TRACE_ID: nonEmpty(({ info }) => info.traceId),
  SPAN_ID: nonEmpty(({ info }) => info.spanId),
};
