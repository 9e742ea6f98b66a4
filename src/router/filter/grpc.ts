/** What of gRPC the router must know: statuses, and how timeouts are written. */
import type { HeaderMap } from "../../http/header-map.ts";

/** grpc-status; -1 where it is no number of the protocol, undefined where there is none. */
export function grpcStatus(headers: HeaderMap): number | undefined {
  const value = headers.get("grpc-status");
  if (value === undefined || value === "") return undefined;
  const status = wholeNumber(value);
  return status === undefined || status > 16 ? -1 : status;
}

/** https://github.com/googleapis/googleapis/blob/master/google/rpc/code.proto, as Envoy's grpcToHttpStatus. */
const httpStatuses = [200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401];

export function grpcToHttpStatus(status: number): number {
  return httpStatuses[status] ?? 500;
}

/** A decimal without sign, at most 2^53. */
export function wholeNumber(text: string): number | undefined {
  const trimmed = text.trim();
  if (trimmed.length === 0 || trimmed.length > 16) return undefined;
  let value = 0;
  for (let i = 0; i < trimmed.length; i++) {
    const digit = trimmed.charCodeAt(i) - 48;
    if (digit < 0 || digit > 9) return undefined;
    value = value * 10 + digit;
  }
  return value <= Number.MAX_SAFE_INTEGER ? value : undefined;
}

const maxAmount = 99_999_999;

/** The shortest form of a timeout that fits eight digits (Envoy's toGrpcTimeout). */
export function toGrpcTimeout(ms: number): string {
  if (ms <= maxAmount) return `${ms}m`;
  const seconds = Math.floor(ms / 1000);
  if (seconds <= maxAmount) return `${seconds}S`;
  const minutes = Math.floor(seconds / 60);
  return minutes <= maxAmount ? `${minutes}M` : `${Math.min(maxAmount, Math.floor(minutes / 60))}H`;
}
