/** The access log language (%OPERATOR(argument):length%), compiled. Made by formatter/compile.ts. */
import type { RequestHeaders, ResponseHeaders, Trailers } from "../http/header-map.ts";
import type { StreamInfo } from "../http/stream-info.ts";

export type AccessLogType =
  | "NotSet"
  | "TcpUpstreamConnected"
  | "TcpPeriodic"
  | "TcpConnectionStart"
  | "TcpConnectionEnd"
  | "DownstreamStart"
  | "DownstreamPeriodic"
  | "DownstreamEnd"
  | "UpstreamPoolReady"
  | "UpstreamPeriodic"
  | "UpstreamEnd"
  | "DownstreamTunnelSuccessfullyEstablished"
  | "UdpTunnelUpstreamConnected"
  | "UdpPeriodic"
  | "UdpSessionEnd"
  | "ProxyProtocolError";

export interface FormatContext {
  readonly info: StreamInfo;
  readonly requestHeaders: RequestHeaders | undefined;
  readonly responseHeaders: ResponseHeaders | undefined;
  readonly responseTrailers: Trailers | undefined;
  /** %LOCAL_REPLY_BODY% */
  readonly localReplyBody: string;
  readonly accessLogType: AccessLogType;
}

export interface Formatter {
  /** The text; absent values are `-`, or nothing where `omit_empty_values` is set. */
  format(context: FormatContext): string;
}

/** One operator: text, or undefined where there is no value. `json` gives typed values (numbers, objects) for JSON formats. */
export interface Operator {
  text(context: FormatContext): string | undefined;
  json?(context: FormatContext): unknown;
}
