/** What a stream's reset means to the client: text, response flag, status. Envoy's Http::Utility::resetReasonToString and its kin. */
import type { StreamResetReason } from "../../http/codec.ts";
import type { ResponseFlag } from "../../http/stream-info.ts";

interface ResetMeaning {
  readonly text: string;
  readonly flag: ResponseFlag;
  readonly status: number;
  readonly connectFailure: boolean;
}

const meanings: Readonly<Record<StreamResetReason, ResetMeaning>> = {
  local_reset: { text: "local reset", flag: "LR", status: 503, connectFailure: false },
  local_refused_stream_reset: { text: "local refused stream reset", flag: "LR", status: 503, connectFailure: false },
  remote_reset: { text: "remote reset", flag: "UR", status: 503, connectFailure: false },
  remote_refused_stream_reset: { text: "remote refused stream reset", flag: "UR", status: 503, connectFailure: false },
  local_connection_failure: { text: "local connection failure", flag: "UF", status: 503, connectFailure: true },
  remote_connection_failure: { text: "remote connection failure", flag: "UF", status: 503, connectFailure: true },
  connection_timeout: { text: "connection timeout", flag: "UF", status: 503, connectFailure: true },
  connection_termination: { text: "connection termination", flag: "UC", status: 503, connectFailure: false },
  overflow: { text: "overflow", flag: "UO", status: 503, connectFailure: false },
  connect_error: { text: "remote error with CONNECT request", flag: "UR", status: 503, connectFailure: false },
  protocol_error: { text: "protocol error", flag: "UPE", status: 502, connectFailure: false },
  overload_manager: { text: "overload manager reset", flag: "OM", status: 503, connectFailure: false },
  http1_premature_upstream_half_close: { text: "HTTP/1 premature upstream half close", flag: "LR", status: 503, connectFailure: false },
};

export function resetMeaning(reason: StreamResetReason): ResetMeaning {
  return meanings[reason];
}

/** The body of the answer to a request whose upstream failed before its response head. What the transport said is for logs, not for clients. */
export function resetBody(reason: StreamResetReason, isRetry: boolean): string {
  return `upstream connect error or disconnect/reset before headers. ${isRetry ? "retried and the latest " : ""}reset reason: ${meanings[reason].text}`;
}

/** Response code details; they hold no white space. */
export function resetDetails(reason: StreamResetReason, transportFailure: string, responseStarted: boolean): string {
  const details = `${responseStarted ? "upstream_reset_after_response_started" : "upstream_reset_before_response_started"}{${meanings[reason].text}${transportFailure === "" ? "" : `|${transportFailure}`}}`;
  return details.replace(/\s/g, "_");
}
