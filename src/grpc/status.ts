/** Statuses of gRPC (google.rpc.Code), and how they stand in headers. */
import type { HeaderMap } from "../http/header-map.ts";

export const grpcCode = {
  ok: 0,
  canceled: 1,
  unknown: 2,
  invalidArgument: 3,
  deadlineExceeded: 4,
  notFound: 5,
  permissionDenied: 7,
  resourceExhausted: 8,
  unimplemented: 12,
  internal: 13,
  unavailable: 14,
  unauthenticated: 16,
} as const;

export interface GrpcStatus {
  readonly code: number;
  readonly message: string;
}

/** What a head or trailers say; undefined: they say nothing. A status that is no number counts as UNKNOWN. */
export function statusOf(headers: HeaderMap): GrpcStatus | undefined {
  const text = headers.get("grpc-status");
  if (text === undefined) return undefined;
  return { code: /^\d{1,9}$/.test(text) ? Number(text) : grpcCode.unknown, message: decodeMessage(headers.get("grpc-message") ?? "") };
}

/** grpc-message: UTF-8 in percent-encoding; what is none stays as it is. */
function decodeMessage(text: string): string {
  if (!text.includes("%")) return text;
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}
