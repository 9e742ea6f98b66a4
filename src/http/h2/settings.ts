/** HTTP/2 options of a listener or cluster, compiled from Http2ProtocolOptions and its neighbours, and the codec's statistics. */
import { durationMs } from "../../config/message.ts";
import type { Http2ProtocolOptions } from "../../config/schema/types/envoy.config.core.v3.d.ts";
import type { CompileContext } from "../../extensions/extension.ts";
import type { TimerWheel } from "../../net/timer-wheel.ts";
import type { Counter, Gauge, StatsScope } from "../../stats/stats.ts";
import { setting } from "./frames.ts";

export interface H2Settings {
  readonly hpackTableSize: number;
  readonly maxConcurrentStreams: number;
  readonly initialStreamWindowSize: number;
  readonly initialConnectionWindowSize: number;
  readonly allowConnect: boolean;
  /** custom_settings_parameters: identifier, value, ... */
  readonly customSettings: readonly number[];
  readonly maxOutboundFrames: number;
  readonly maxOutboundControlFrames: number;
  readonly maxConsecutiveEmptyFrames: number;
  readonly maxPriorityFramesPerStream: number;
  readonly maxWindowUpdatesPerDataFrame: number;
  /** A bad message costs its stream; otherwise the connection. */
  readonly streamErrorOnInvalidMessage: boolean;
  /** 0: no pings. */
  readonly pingIntervalMs: number;
  readonly pingTimeoutMs: number;
  /** Percent of the interval that it is lengthened by at most. */
  readonly pingJitterPercent: number;
  /** A connection that was idle so long is pinged before the next request; 0: never. */
  readonly pingAfterIdleMs: number;
  readonly huffman: boolean;
  /** Octets 0x80 to 0xff in values are refused. */
  readonly refusesObsText: boolean;
  /** Name and value of one field, octets; 0: none. */
  readonly maxFieldBytes: number;
  /** Resets by the peer: so many at once, and so many a second. */
  readonly resetBurst: number;
  readonly resetRate: number;
  /** Head, octets of names and values. */
  readonly maxHeadBytes: number;
  /** Fields in a head, pseudo-headers included, and in trailers. */
  readonly maxHeaderCount: number;
  readonly underscores: "allow" | "reject" | "drop";
  /** What is left of a response when its stream is over for everyone else is given up after this; 0: never. */
  readonly flushTimeoutMs: number;
  readonly stats: H2Stats;
  readonly timers: TimerWheel;
}

const counters = [
  "cookies_total_bytes_too_large",
  "dropped_headers_with_underscores",
  "goaway_sent",
  "header_list_size_too_large",
  "header_overflow",
  "headers_cb_no_stream",
  "inbound_empty_frames_flood",
  "inbound_priority_frames_flood",
  "inbound_window_update_frames_flood",
  "keepalive_timeout",
  "metadata_empty_frames",
  "nghttp2_downstream_connections",
  "nghttp2_upstream_connections",
  "oghttp2_downstream_connections",
  "oghttp2_upstream_connections",
  "outbound_control_flood",
  "outbound_flood",
  "requests_rejected_with_underscores_in_headers",
  "rx_messaging_error",
  "rx_reset",
  "stream_refused_errors",
  "trailers",
  "tx_flush_timeout",
  "tx_reset",
] as const;
const gauges = ["deferred_stream_close", "outbound_control_frames_active", "outbound_frames_active", "pending_send_bytes", "streams_active"] as const;

/** http2.*: names as Envoy's CodecStats. */
export type H2Stats = { readonly [K in (typeof counters)[number]]: Counter } & { readonly [K in (typeof gauges)[number]]: Gauge };

export function h2Stats(scope: StatsScope): H2Stats {
  const at = scope.scope("http2.");
  const made: Record<string, Counter | Gauge> = {};
  for (const name of counters) made[name] = at.counter(name);
  for (const name of gauges) made[name] = at.gauge(name);
  // Envoy has them, too, and records nothing.
  for (const name of ["cookie_count", "header_count"]) at.histogram(name, "none");
  for (const name of ["cookie_size", "header_list_size"]) at.histogram(name, "bytes");
  return made as unknown as H2Stats;
}

/** What is not of Http2ProtocolOptions. */
export type H2Limits = Pick<H2Settings, "maxHeadBytes" | "maxHeaderCount" | "underscores" | "flushTimeoutMs">;

export const honours: Readonly<Record<string, readonly string[] | "*">> = {
  "envoy.config.core.v3.Http2ProtocolOptions": [
    "hpack_table_size",
    "max_concurrent_streams",
    "initial_stream_window_size",
    "initial_connection_window_size",
    "allow_connect",
    "max_outbound_frames",
    "max_outbound_control_frames",
    "max_consecutive_inbound_frames_with_empty_payload",
    "max_inbound_priority_frames_per_stream",
    "max_inbound_window_update_frames_per_data_frame_sent",
    "stream_error_on_invalid_http_messaging",
    "override_stream_error_on_invalid_http_message",
    "custom_settings_parameters",
    "connection_keepalive",
    // There is one codec; both of Envoy's speak the same protocol.
    "use_oghttp2_codec",
    "enable_huffman_encoding",
    "max_header_field_size_kb",
    "disallow_obs_text",
    "stream_reset_burst",
    "stream_reset_rate",
  ],
  "envoy.config.core.v3.Http2ProtocolOptions.SettingsParameter": "*",
  "envoy.config.core.v3.KeepaliveSettings": ["interval", "timeout", "interval_jitter", "connection_idle_interval"],
};

/** `scope`: where http2.* stands; it is there once somebody speaks HTTP/2. */
export function compileH2(message: Http2ProtocolOptions | undefined, limits: H2Limits, scope: StatsScope, context: CompileContext): H2Settings {
  let stats: H2Stats | undefined;
  const keepAlive = message?.connectionKeepalive;
  return {
    hpackTableSize: message?.hpackTableSize ?? 4096,
    maxConcurrentStreams: message?.maxConcurrentStreams ?? 1024,
    initialStreamWindowSize: message?.initialStreamWindowSize ?? 16 * 1024 * 1024,
    initialConnectionWindowSize: message?.initialConnectionWindowSize ?? 24 * 1024 * 1024,
    allowConnect: message?.allowConnect ?? false,
    customSettings: message === undefined ? [] : compileCustomSettings(message, context),
    maxOutboundFrames: message?.maxOutboundFrames ?? 10_000,
    maxOutboundControlFrames: message?.maxOutboundControlFrames ?? 1000,
    maxConsecutiveEmptyFrames: message?.maxConsecutiveInboundFramesWithEmptyPayload ?? 1,
    maxPriorityFramesPerStream: message?.maxInboundPriorityFramesPerStream ?? 100,
    maxWindowUpdatesPerDataFrame: message?.maxInboundWindowUpdateFramesPerDataFrameSent ?? 10,
    streamErrorOnInvalidMessage: message?.overrideStreamErrorOnInvalidHttpMessage ?? message?.streamErrorOnInvalidHttpMessaging ?? false,
    pingIntervalMs: durationMs(keepAlive?.interval, 0),
    pingTimeoutMs: durationMs(keepAlive?.timeout, 0),
    pingJitterPercent: keepAlive?.intervalJitter?.value ?? 15,
    pingAfterIdleMs: durationMs(keepAlive?.connectionIdleInterval, 0),
    huffman: message?.enableHuffmanEncoding ?? true,
    refusesObsText: message?.disallowObsText ?? false,
    maxFieldBytes: (message?.maxHeaderFieldSizeKb ?? 0) * 1024,
    resetBurst: Number(message?.streamResetBurst ?? 1000n),
    resetRate: Number(message?.streamResetRate ?? 33n),
    timers: context.timers,
    get stats() {
      return (stats ??= h2Stats(scope));
    },
    ...limits,
  };
}

/** Settings that have fields of their own must be set there. */
const named: Readonly<Record<number, keyof Http2ProtocolOptions>> = {
  [setting.headerTableSize]: "hpackTableSize",
  [setting.maxConcurrentStreams]: "maxConcurrentStreams",
  [setting.initialWindowSize]: "initialStreamWindowSize",
};

function compileCustomSettings(message: Http2ProtocolOptions, context: CompileContext): number[] {
  const list: number[] = [];
  const seen = new Map<number, number>();
  for (const parameter of message.customSettingsParameters) {
    const identifier = parameter.identifier ?? 0;
    const value = parameter.value ?? 0;
    if (identifier === setting.enablePush || identifier === setting.enableConnectProtocol) {
      context.report(parameter, "identifier", {
        code: "OR3012",
        text:
          identifier === setting.enablePush
            ? "server push is not supported by Envoy and can not be enabled via a SETTINGS parameter."
            : `the "allow_connect" SETTINGS parameter must only be configured through the named field`,
      });
      continue;
    }
    const field = named[identifier];
    const before = seen.get(identifier) ?? (field === undefined ? undefined : (message[field] as number | undefined));
    if (before !== undefined && before !== value)
      context.report(parameter, "identifier", {
        code: "OR3012",
        text: `inconsistent HTTP/2 custom SETTINGS parameter(s) detected; identifiers = {0x${identifier.toString(16).padStart(2, "0")}}`,
      });
    if (!seen.has(identifier)) list.push(identifier, value);
    seen.set(identifier, value);
  }
  return list;
}
