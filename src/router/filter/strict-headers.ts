/** strict_check_headers: requests whose control fields are malformed are refused with 400. */
import type { RequestHeaders } from "../../http/header-map.ts";
import { wholeNumber } from "./grpc.ts";
import type { RouterHeaderNames } from "./header-names.ts";

export interface StrictHeader {
  readonly name: string;
  readonly accepts: (value: string) => boolean;
}

const retryOn: ReadonlySet<string> = new Set([
  "5xx",
  "gateway-error",
  "connect-failure",
  "envoy-ratelimited",
  "retriable-4xx",
  "refused-stream",
  "retriable-status-codes",
  "retriable-headers",
  "reset",
  "reset-before-request",
  "http3-post-connect-failure",
]);
const retryGrpcOn: ReadonlySet<string> = new Set(["cancelled", "deadline-exceeded", "resource-exhausted", "unavailable", "internal"]);

const isNumber = (value: string): boolean => wholeNumber(value) !== undefined;
const isListOf =
  (known: ReadonlySet<string>) =>
  (value: string): boolean =>
    value.split(",").every((word) => word === "" || known.has(word.trim()));

/** The check of one configured field; undefined for a name it cannot check. */
export function strictHeader(name: string, names: RouterHeaderNames): StrictHeader | undefined {
  // The proto's rule admits the names with the usual prefix only; they stand for the fields with the configured one.
  switch (name.toLowerCase()) {
    case "x-envoy-upstream-rq-timeout-ms":
      return { name: names.timeout, accepts: isNumber };
    case "x-envoy-upstream-rq-per-try-timeout-ms":
      return { name: names.perTryTimeout, accepts: isNumber };
    case "x-envoy-max-retries":
      return { name: names.maxRetries, accepts: isNumber };
    case "x-envoy-retry-on":
      return { name: names.retryOn, accepts: isListOf(retryOn) };
    case "x-envoy-retry-grpc-on":
      return { name: names.retryGrpcOn, accepts: isListOf(retryGrpcOn) };
    default:
      return undefined;
  }
}

/** The first field that is malformed. */
export function findMalformed(checks: readonly StrictHeader[], headers: RequestHeaders): { readonly name: string; readonly value: string } | undefined {
  for (const { name, accepts } of checks) {
    const value = headers.get(name);
    if (value !== undefined && !accepts(value)) return { name, value };
  }
  return undefined;
}
