/** RetryPolicy and HedgePolicy of routes and virtual hosts, compiled. */
import { durationMs } from "../config/message.ts";
import type { HedgePolicy as HedgePolicyMessage, RetryPolicy as RetryPolicyMessage } from "../config/schema/types/envoy.config.route.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import type { HeaderMap } from "../http/header-map.ts";
import { compileHeaderMatcher } from "../matching/header-matcher.ts";
import type { HedgePolicy, RetryOn, RetryPolicy } from "./route.ts";

export const honours: Honours = {
  "envoy.config.route.v3.RetryPolicy": [
    "retry_on",
    "num_retries",
    "per_try_timeout",
    "per_try_idle_timeout",
    "retry_priority",
    "retry_host_predicate",
    "host_selection_retry_max_attempts",
    "retriable_status_codes",
    "retry_back_off",
    "rate_limited_retry_back_off",
    "retriable_headers",
    "retriable_request_headers",
  ],
  "envoy.config.route.v3.RetryPolicy.RetryPriority": "*",
  "envoy.config.route.v3.RetryPolicy.RetryHostPredicate": "*",
  "envoy.config.route.v3.RetryPolicy.RetryBackOff": "*",
  "envoy.config.route.v3.RetryPolicy.RateLimitedRetryBackOff": "*",
  "envoy.config.route.v3.RetryPolicy.ResetHeader": "*",
  "envoy.config.route.v3.HedgePolicy": ["hedge_on_per_try_timeout", "initial_requests"],
};

const conditions: ReadonlySet<string> = new Set<RetryOn>([
  "5xx",
  "gateway-error",
  "reset",
  "reset-before-request",
  "connect-failure",
  "envoy-ratelimited",
  "retriable-4xx",
  "refused-stream",
  "retriable-status-codes",
  "retriable-headers",
  "http3-post-connect-failure",
  "cancelled",
  "deadline-exceeded",
  "internal",
  "resource-exhausted",
  "unavailable",
]);

/** The conditions in a retry_on text; words it does not know are passed over, as Envoy does (x-envoy-retry-on comes from clients). */
export function parseRetryOn(text: string): ReadonlySet<RetryOn> {
  const found = new Set<RetryOn>();
  for (const word of text.split(",")) {
    const condition = word.trim();
    if (conditions.has(condition)) found.add(condition as RetryOn);
  }
  return found;
}

export function compileRetryPolicy(message: RetryPolicyMessage, context: CompileContext): RetryPolicy {
  let baseIntervalMs = 25;
  let maxIntervalMs = 250;
  const backOff = message.retryBackOff;
  if (backOff !== undefined) {
    const base = durationMs(backOff.baseInterval);
    // "sub-millisecond values round up to 1 ms": the timers have no finer grain.
    baseIntervalMs = Math.max(1, base ?? 25);
    maxIntervalMs = durationMs(backOff.maxInterval) ?? baseIntervalMs * 10;
    if (backOff.maxInterval !== undefined) maxIntervalMs = Math.max(1, maxIntervalMs);
    if (maxIntervalMs < baseIntervalMs) {
      context.report(backOff, "max_interval", {
        code: "OR3301",
        text: `retry_policy.max_interval must greater than or equal to the base_interval (${maxIntervalMs} ms < ${baseIntervalMs} ms)`,
      });
      maxIntervalMs = baseIntervalMs;
    }
  }
  const limited = message.rateLimitedRetryBackOff;
  const headerTest = (messages: RetryPolicyMessage["retriableHeaders"]): ((headers: HeaderMap) => boolean)[] =>
    messages.map((one) => {
      const matcher = compileHeaderMatcher(one, context);
      return (headers) => matcher.matches(headers);
    });
  const predicates: { readonly $typeName: string }[] = [];
  for (const predicate of message.retryHostPredicate) {
    if (predicate.configType.case === "typedConfig") predicates.push(predicate.configType.value);
    else context.report(predicate, "typed_config", { code: "OR3302", text: `retry host predicate ${predicate.name} has no typed_config` });
  }
  return {
    retryOn: parseRetryOn(message.retryOn),
    numRetries: message.numRetries ?? 1,
    perTryTimeoutMs: durationMs(message.perTryTimeout, 0),
    perTryIdleTimeoutMs: durationMs(message.perTryIdleTimeout, 0),
    retriableStatusCodes: message.retriableStatusCodes,
    retriableHeaders: headerTest(message.retriableHeaders),
    retriableRequestHeaders: headerTest(message.retriableRequestHeaders),
    baseIntervalMs,
    maxIntervalMs,
    defaultBackOff: backOff === undefined,
    rateLimitedBackOff:
      limited === undefined
        ? undefined
        : {
            headers: limited.resetHeaders.map((header) => ({ name: header.name.toLowerCase(), format: header.format === 1 ? "unix_timestamp" : "seconds" })),
            maxIntervalMs: durationMs(limited.maxInterval, 300_000),
          },
    hostPredicates: predicates,
    priorityPredicate: message.retryPriority?.configType.case === "typedConfig" ? message.retryPriority.configType.value : undefined,
    hostSelectionMaxAttempts: message.hostSelectionRetryMaxAttempts === 0n ? 1 : Number(message.hostSelectionRetryMaxAttempts),
  };
}

const noHedge: HedgePolicy = { initialRequests: 1, hedgeOnPerTryTimeout: false };

export function compileHedgePolicy(message: HedgePolicyMessage | undefined): HedgePolicy {
  if (message === undefined) return noHedge;
  return { initialRequests: message.initialRequests ?? 1, hedgeOnPerTryTimeout: message.hedgeOnPerTryTimeout };
}
