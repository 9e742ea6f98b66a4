/** envoy.filters.http.cors: answers preflight requests, and tells browsers whose scripts may read a response. The policy stands at the route. */
import { type AnyMessage, isMessage } from "../../../config/message.ts";
import type { CorsPolicy } from "../../../config/schema/types/envoy.extensions.filters.http.cors.v3.d.ts";
import type { DecoderFilterCallbacks, FilterHeadersStatus, HttpFilter } from "../../../http/filter.ts";
import { type RequestHeaders, ResponseHeaders } from "../../../http/header-map.ts";
import { compileStringMatcher, type StringMatcher } from "../../../matching/string-matcher.ts";
import type { Counter } from "../../../stats/stats.ts";
import type { CompileContext, Extension } from "../../extension.ts";
import { compileEnabled } from "../common.ts";

const pkg = "envoy.extensions.filters.http.cors.v3.";
const typeName = `${pkg}Cors`;
const perRoute = `${pkg}CorsPolicy`;

interface Policy {
  readonly origins: readonly StringMatcher[];
  readonly allowMethods: string;
  readonly allowHeaders: string;
  readonly exposeHeaders: string;
  readonly maxAge: string;
  readonly allowCredentials: boolean;
  readonly allowPrivateNetwork: boolean;
  readonly forwardNotMatchingPreflights: boolean;
  enabled(): boolean;
  shadowEnabled(): boolean;
}

function compilePolicy(message: CorsPolicy, context: CompileContext): Policy {
  return {
    origins: message.allowOriginStringMatch.map((matcher) => compileStringMatcher(matcher, context)),
    allowMethods: message.allowMethods,
    allowHeaders: message.allowHeaders,
    exposeHeaders: message.exposeHeaders,
    maxAge: message.maxAge,
    allowCredentials: message.allowCredentials ?? false,
    allowPrivateNetwork: message.allowPrivateNetworkAccess ?? false,
    forwardNotMatchingPreflights: message.forwardNotMatchingPreflights ?? true,
    enabled: compileEnabled(message.filterEnabled, true, context),
    shadowEnabled: compileEnabled(message.shadowEnabled, false, context),
  };
}

interface Counts {
  readonly valid: Counter;
  readonly invalid: Counter;
}

class CorsFilter implements HttpFilter {
  readonly #counts: Counts;
  #callbacks!: DecoderFilterCallbacks;
  /** Set where the response has to tell. */
  #policy: Policy | undefined;
  #origin = "";

  constructor(counts: Counts) {
    this.#counts = counts;
  }

  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#callbacks = callbacks;
  }

  decodeHeaders(headers: RequestHeaders): FilterHeadersStatus {
    const origin = headers.get("origin");
    if (origin === undefined || origin === "") return "continue";
    const policy = this.#callbacks.routeConfig<Policy>();
    if (policy === undefined) return "continue";
    const enabled = policy.enabled();
    if (!enabled && !policy.shadowEnabled()) return "continue";
    const isPreflight = headers.method === "OPTIONS" && (headers.get("access-control-request-method") ?? "") !== "";
    if (!policy.origins.some((matcher) => matcher.matches("*") || matcher.matches(origin))) {
      this.#counts.invalid.inc();
      if (!enabled || !isPreflight || policy.forwardNotMatchingPreflights) return "continue";
      this.#callbacks.encodeHeaders(new ResponseHeaders(200), true, "cors_response");
      return "stop_all_and_watermark";
    }
    this.#counts.valid.inc();
    if (!enabled) return "continue";
    this.#policy = policy;
    this.#origin = origin;
    if (!isPreflight) return "continue";
    const response = new ResponseHeaders(200);
    response.set("access-control-allow-origin", origin);
    if (policy.allowCredentials) response.set("access-control-allow-credentials", "true");
    if (policy.allowMethods !== "") response.set("access-control-allow-methods", policy.allowMethods);
    if (policy.allowHeaders !== "") response.set("access-control-allow-headers", policy.allowHeaders);
    if (policy.maxAge !== "") response.set("access-control-max-age", policy.maxAge);
    if (policy.allowPrivateNetwork && headers.get("access-control-request-private-network") === "true")
      response.set("access-control-allow-private-network", "true");
    this.#callbacks.encodeHeaders(response, true, "cors_response");
    return "stop_all_and_watermark";
  }

  encodeHeaders(headers: ResponseHeaders): FilterHeadersStatus {
    const policy = this.#policy;
    if (policy === undefined) return "continue";
    // The upstream's own word on this does not count.
    headers.set("access-control-allow-origin", this.#origin);
    if (policy.allowCredentials) headers.set("access-control-allow-credentials", "true");
    if (policy.exposeHeaders !== "") headers.set("access-control-expose-headers", policy.exposeHeaders);
    return "continue";
  }
}

export default {
  honours: { [typeName]: "*", [perRoute]: "*" },
  httpFilter: {
    compile(_message: AnyMessage, _context, { scope }) {
      const own = scope.scope("cors.");
      const counts: Counts = { valid: own.counter("origin_valid"), invalid: own.counter("origin_invalid") };
      return () => new CorsFilter(counts);
    },
    compileRoute(message: AnyMessage, context): Policy {
      if (!isMessage<CorsPolicy>(message, perRoute)) throw new Error(`${message.$typeName} is no ${perRoute}`);
      return compilePolicy(message, context);
    },
  },
} satisfies Extension;
