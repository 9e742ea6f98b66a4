/** Which timeouts a request gets: route, request fields, gRPC. Envoy's FilterUtility::finalTimeout and setTimeoutHeaders. */
import type { RequestHeaders } from "../../http/header-map.ts";
import { grpcTimeoutMs } from "../../http/manager/messages.ts";
import type { ForwardRoute } from "../route.ts";
import { toGrpcTimeout, wholeNumber } from "./grpc.ts";
import type { RouterHeaderNames } from "./header-names.ts";

/** Milliseconds; 0 is none. */
export interface Timeouts {
  globalMs: number;
  perTryMs: number;
  perTryIdleMs: number;
}

export interface TimeoutOptions {
  readonly names: RouterHeaderNames;
  readonly respectExpected: boolean;
}

/** The timeouts of a request. Takes the fields that set them out of `headers` where `hasFields` says that there may be any. */
export function finalTimeouts(route: ForwardRoute, headers: RequestHeaders, isGrpc: boolean, hasFields: boolean, options: TimeoutOptions): Timeouts {
  const { names } = options;
  let globalMs = 0;
  // With max_stream_duration the connection manager keeps the time of the whole stream, and the route's timeout does not count.
  if (route.maxStreamDuration === undefined) {
    if (isGrpc && route.maxGrpcTimeoutMs !== undefined) {
      globalMs = grpcTimeoutMs(headers.get("grpc-timeout")) ?? 0;
      // The offset must not turn a timeout into none.
      if (route.grpcTimeoutOffsetMs !== undefined && route.grpcTimeoutOffsetMs < globalMs) globalMs -= route.grpcTimeoutOffsetMs;
      if (route.maxGrpcTimeoutMs !== 0 && (globalMs === 0 || globalMs > route.maxGrpcTimeoutMs)) globalMs = route.maxGrpcTimeoutMs;
    } else globalMs = route.timeoutMs;
  }
  let perTryMs = route.retryPolicy?.perTryTimeoutMs ?? 0;
  const perTryIdleMs = route.retryPolicy?.perTryIdleTimeoutMs ?? 0;
  if (hasFields) {
    const expected = options.respectExpected ? headers.get(names.expectedTimeout) : undefined;
    const asked = expected ?? headers.get(names.timeout);
    if (asked !== undefined) {
      globalMs = wholeNumber(asked) ?? globalMs;
      if (expected === undefined) headers.remove(names.timeout);
    }
    const perTry = headers.get(names.perTryTimeout);
    if (perTry !== undefined) {
      perTryMs = wholeNumber(perTry) ?? perTryMs;
      headers.remove(names.perTryTimeout);
    }
  }
  if (globalMs !== 0 && perTryMs >= globalMs) perTryMs = 0;
  return { globalMs, perTryMs, perTryIdleMs };
}

/** Tells the upstream how long it has: x-envoy-expected-rq-timeout-ms and grpc-timeout. `elapsedMs` since the request was complete. */
export function setTimeoutHeaders(
  elapsedMs: number,
  timeouts: Timeouts,
  route: ForwardRoute,
  headers: RequestHeaders,
  isGrpc: boolean,
  hedges: boolean,
  expectedName: string | undefined,
): void {
  const { globalMs, perTryMs } = timeouts;
  // A hedged try goes on after its per-try timeout.
  let expected = perTryMs === 0 || hedges ? globalMs : perTryMs;
  if (expected === 0) return;
  // Out of time already; 0 would say "no limit".
  if (globalMs > 0) expected = elapsedMs >= globalMs ? 1 : Math.min(expected, globalMs - elapsedMs);
  expected = Math.ceil(expected);
  if (expectedName !== undefined) headers.set(expectedName, String(expected));
  if (isGrpc && route.maxStreamDuration === undefined && route.maxGrpcTimeoutMs !== undefined) headers.set("grpc-timeout", toGrpcTimeout(expected));
}

/** How much of a timeout was used, percent; 0 where there is none. */
export function percentOfTimeout(usedMs: number, timeoutMs: number): number {
  return timeoutMs === 0 ? 0 : Math.floor((usedMs / timeoutMs) * 100);
}
