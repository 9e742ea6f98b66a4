/** Settings of the ratelimit filter, and of routes for it. */
import { durationMs } from "../../../config/message.ts";
import type { RuntimeFractionalPercent } from "../../../config/schema/types/envoy.config.core.v3.d.ts";
import type { RateLimit } from "../../../config/schema/types/envoy.extensions.filters.http.ratelimit.v3.d.ts";
import { compileHeaderMutation, type HeaderMutation } from "../../../router/header-mutation.ts";
import { compileRateLimits, type RateLimitEntry } from "../../../router/rate-limit.ts";
import type { Runtime } from "../../../runtime/runtime.ts";
import type { CompileContext } from "../../extension.ts";
import { compileEnabled, randomInteger } from "../common.ts";
import type { VhRateLimits } from "../rate-limits.ts";

export interface Settings {
  readonly domain: string;
  readonly stage: number;
  readonly requestType: "internal" | "external" | "both";
  readonly timeoutMs: number;
  enabled(): boolean;
  enforced(): boolean;
  deniesOnFailure(): boolean;
  readonly xRateLimitHeaders: boolean;
  readonly xEnvoyRateLimitedHeader: boolean;
  readonly retryAfterHeader: boolean;
  readonly status: number;
  readonly statusOnError: number;
  readonly grpcStatus: number | undefined;
  /** "ratelimit." or "ratelimit.<stat_prefix>.", below the cluster that the route names. */
  readonly statPrefix: string;
  readonly responseMutation: HeaderMutation | undefined;
  /** The filter's own; undefined: those of routes and virtual hosts count. */
  readonly rateLimits: readonly RateLimitEntry[] | undefined;
  readonly metadataNamespace: string;
  readonly runtime: Runtime;
  readonly localCluster: string;
}

export interface RouteSettings {
  readonly vhRateLimits: VhRateLimits;
  readonly rateLimits: readonly RateLimitEntry[] | undefined;
  /** "" for the filter's own. */
  readonly domain: string;
}

const grpcResourceExhausted = 8;
const defaultTimeoutMs = 20;

function errorStatus(code: number | undefined, fallback: number): number {
  return code !== undefined && code >= 400 ? code : fallback;
}

export function compileSettings(message: RateLimit, context: CompileContext): Settings {
  const { runtime } = context;
  /** A fraction of the configuration, or a runtime key of old. */
  const switched = (fraction: RuntimeFractionalPercent | undefined, key: string): (() => boolean) =>
    fraction !== undefined
      ? compileEnabled(fraction, true, context)
      : () => runtime.snapshot.featureEnabled(key, { numerator: 100, denominator: 100 }, randomInteger());
  const denies = message.failureModeDenyPercent;
  return {
    domain: message.domain,
    stage: message.stage,
    requestType: message.requestType === "internal" || message.requestType === "external" ? message.requestType : "both",
    timeoutMs: durationMs(message.timeout, defaultTimeoutMs),
    enabled: switched(message.filterEnabled, "ratelimit.http_filter_enabled"),
    enforced: switched(message.filterEnforced, "ratelimit.http_filter_enforcing"),
    deniesOnFailure: denies === undefined ? () => message.failureModeDeny : compileEnabled(denies, false, context),
    xRateLimitHeaders: message.enableXRatelimitHeaders === 1,
    xEnvoyRateLimitedHeader: !message.disableXEnvoyRatelimitedHeader,
    retryAfterHeader: message.enableRetryAfterHeader,
    status: errorStatus(message.rateLimitedStatus?.code, 429),
    statusOnError: errorStatus(message.statusOnError?.code, 500),
    grpcStatus: message.rateLimitedAsResourceExhausted ? grpcResourceExhausted : undefined,
    statPrefix: message.statPrefix === "" ? "ratelimit." : `ratelimit.${message.statPrefix}.`,
    responseMutation: compileHeaderMutation({ add: message.responseHeadersToAdd, remove: [], at: message, removeField: "" }, context),
    rateLimits: message.rateLimits.length === 0 ? undefined : compileRateLimits(message.rateLimits, context, true),
    metadataNamespace: message.metadataNamespace === "" ? "envoy.filters.http.ratelimit" : message.metadataNamespace,
    runtime,
    localCluster: context.node.cluster,
  };
}
