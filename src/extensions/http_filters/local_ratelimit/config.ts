/** envoy.filters.http.local_ratelimit: refuses requests for which no token is left, without asking anyone. */
import { type AnyMessage, isMessage } from "../../../config/message.ts";
import type { LocalRateLimit } from "../../../config/schema/types/envoy.extensions.filters.http.local_ratelimit.v3.d.ts";
import type { DecoderFilterCallbacks, FilterHeadersStatus, HttpFilter } from "../../../http/filter.ts";
import type { RequestHeaders, ResponseHeaders } from "../../../http/header-map.ts";
import type { Connection } from "../../../net/connection.ts";
import { compileHeaderMutation, type HeaderMutation } from "../../../router/header-mutation.ts";
import { compileRateLimits, type RateLimitDescriptor, type RateLimitEntry } from "../../../router/rate-limit.ts";
import type { Runtime } from "../../../runtime/runtime.ts";
import type { Counter } from "../../../stats/stats.ts";
import type { CompileContext, Extension } from "../../extension.ts";
import { honours as bucketHonours } from "../../token-bucket.ts";
import { compileEnabled, randomInteger } from "../common.ts";
import { addDescriptors, applicableRateLimits, isSwitchedOn, type VhRateLimits, vhRateLimits } from "../rate-limits.ts";
import { LimiterSettings, type LimitResult, type LocalRateLimiter } from "./limiter.ts";

const typeName = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit";
const common = "envoy.extensions.common.ratelimit.v3.";
const grpcResourceExhausted = 8;

interface Settings {
  enabled(): boolean;
  enforced(): boolean;
  readonly limiter: LimiterSettings;
  /** undefined: each connection has its own. */
  readonly shared: LocalRateLimiter | undefined;
  readonly status: number;
  readonly grpcStatus: number | undefined;
  readonly stage: number;
  readonly vhRateLimits: VhRateLimits;
  /** The filter's own; undefined: those of routes and virtual hosts count. */
  readonly rateLimits: readonly RateLimitEntry[] | undefined;
  readonly xRateLimitHeaders: boolean;
  readonly retryAfterHeader: boolean;
  readonly requestMutation: HeaderMutation | undefined;
  readonly responseMutation: HeaderMutation | undefined;
  readonly stats: { readonly enabled: Counter; readonly enforced: Counter; readonly rateLimited: Counter; readonly ok: Counter; readonly shadow: Counter };
}

function compile(message: LocalRateLimit, context: CompileContext): Settings {
  const scope = context.stats.scope(`${message.statPrefix}.http_local_rate_limit.`);
  const limiter = new LimiterSettings(message, context);
  const status = message.status?.code ?? 0;
  return {
    enabled: compileEnabled(message.filterEnabled, false, context),
    enforced: compileEnabled(message.filterEnforced, false, context),
    limiter,
    shared: message.localRateLimitPerDownstreamConnection ? undefined : limiter.create(true),
    status: status >= 400 ? status : 429,
    grpcStatus: message.rateLimitedAsResourceExhausted ? grpcResourceExhausted : undefined,
    stage: message.stage,
    vhRateLimits: vhRateLimits[message.vhRateLimits] ?? "override",
    rateLimits: message.rateLimits.length === 0 ? undefined : compileRateLimits(message.rateLimits, context, true),
    xRateLimitHeaders: message.enableXRatelimitHeaders === 1,
    retryAfterHeader: message.enableRetryAfterHeader,
    requestMutation: compileHeaderMutation({ add: message.requestHeadersToAddWhenNotEnforced, remove: [], at: message, removeField: "" }, context),
    responseMutation: compileHeaderMutation({ add: message.responseHeadersToAdd, remove: [], at: message, removeField: "" }, context),
    stats: {
      enabled: scope.counter("enabled"),
      enforced: scope.counter("enforced"),
      rateLimited: scope.counter("rate_limited"),
      ok: scope.counter("ok"),
      shadow: scope.counter("shadow_mode"),
    },
  };
}

interface Shared {
  readonly runtime: Runtime;
  readonly localCluster: string;
  /** Limiters of connections, for all requests that come over one. */
  readonly ofConnections: WeakMap<Connection, LocalRateLimiter>;
}

class LocalRateLimitFilter implements HttpFilter {
  readonly #own: Settings;
  readonly #shared: Shared;
  #settings: Settings;
  #decoder!: DecoderFilterCallbacks;
  #result: LimitResult | undefined;

  constructor(own: Settings, shared: Shared) {
    this.#own = own;
    this.#settings = own;
    this.#shared = shared;
  }

  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#decoder = callbacks;
  }

  decodeHeaders(headers: RequestHeaders): FilterHeadersStatus {
    const callbacks = this.#decoder;
    const settings = callbacks.routeConfig<Settings>() ?? this.#own;
    this.#settings = settings;
    if (!settings.enabled()) return "continue";
    const { stats } = settings;
    stats.enabled.inc();
    const descriptors = settings.limiter.hasDescriptors ? this.#descriptors(headers) : [];
    const result = this.#limiter().request(descriptors);
    this.#result = result;
    if (result.isAllowed && !result.isShadow) {
      stats.ok.inc();
      return "continue";
    }
    stats.rateLimited.inc();
    if (result.isShadow) {
      stats.shadow.inc();
      return "continue";
    }
    const info = callbacks.streamInfo;
    if (!settings.enforced()) {
      settings.requestMutation?.evaluate(headers, info, headers, undefined);
      return "continue";
    }
    stats.enforced.inc();
    info.setFlag("RL");
    callbacks.sendLocalReply({
      status: settings.status,
      body: "local_rate_limited",
      details: "local_rate_limited",
      modifyHeaders: (reply) => {
        settings.responseMutation?.evaluate(reply, info, headers, reply);
        if (settings.retryAfterHeader && settings.status === 429 && result.bucket !== undefined) reply.set("retry-after", String(secondsToNextToken(result)));
      },
      ...(settings.grpcStatus !== undefined && { grpcStatus: settings.grpcStatus }),
    });
    return "stop_all_and_watermark";
  }

  encodeHeaders(headers: ResponseHeaders): FilterHeadersStatus {
    const result = this.#result;
    if (result?.bucket === undefined || !(result.descriptor?.xRateLimitHeaders ?? this.#settings.xRateLimitHeaders)) return "continue";
    headers.set("x-ratelimit-limit", String(result.bucket.rule.maxTokens));
    headers.set("x-ratelimit-remaining", String(Math.floor(result.bucket.available)));
    headers.set("x-ratelimit-reset", String(secondsToNextToken(result)));
    return "continue";
  }

  #limiter(): LocalRateLimiter {
    const { shared, limiter } = this.#settings;
    if (shared !== undefined) return shared;
    const { connection } = this.#decoder;
    if (connection === undefined) return limiter.create(false);
    let own = this.#shared.ofConnections.get(connection);
    if (own === undefined) {
      own = limiter.create(false);
      this.#shared.ofConnections.set(connection, own);
    }
    return own;
  }

  #descriptors(headers: RequestHeaders): RateLimitDescriptor[] {
    const settings = this.#settings;
    const { runtime, localCluster } = this.#shared;
    const route = this.#decoder.route();
    const subject = { headers, info: this.#decoder.streamInfo, route, localCluster };
    const found: RateLimitDescriptor[] = [];
    if (settings.rateLimits !== undefined) addDescriptors(found, settings.rateLimits, subject, () => true);
    else
      for (const entries of applicableRateLimits(route, settings.vhRateLimits))
        addDescriptors(found, entries, subject, (entry) => entry.stage === settings.stage && isSwitchedOn(entry, runtime, randomInteger()));
    return found;
  }
}

/** 0 while there is one. */
function secondsToNextToken({ bucket }: LimitResult): number {
  if (bucket === undefined || bucket.available >= 1) return 0;
  return Math.ceil(((1 - bucket.available) * bucket.rule.nsPerToken) / 1e9);
}

export default {
  honours: {
    ...bucketHonours,
    [typeName]: [
      "stat_prefix",
      "status",
      "token_bucket",
      "filter_enabled",
      "filter_enforced",
      "request_headers_to_add_when_not_enforced",
      "response_headers_to_add",
      "descriptors",
      "stage",
      "local_rate_limit_per_downstream_connection",
      "enable_x_ratelimit_headers",
      "vh_rate_limits",
      "always_consume_default_token_bucket",
      "rate_limited_as_resource_exhausted",
      "rate_limits",
      "max_dynamic_descriptors",
      "enable_retry_after_header",
    ],
    [`${common}LocalRateLimitDescriptor`]: "*",
    [`${common}RateLimitDescriptor.Entry`]: "*",
    "envoy.type.v3.HttpStatus": "*",
  },
  httpFilter: {
    compile(message, context) {
      if (!isMessage<LocalRateLimit>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      const settings = compile(message, context);
      const shared: Shared = { runtime: context.runtime, localCluster: context.node.cluster, ofConnections: new WeakMap() };
      return () => new LocalRateLimitFilter(settings, shared);
    },
    compileRoute(message: AnyMessage, context): Settings {
      if (!isMessage<LocalRateLimit>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      if (message.tokenBucket === undefined)
        context.report(message, "token_bucket", {
          code: "OR3644",
          text: "local rate limit token bucket must be set for per filter configs",
        });
      return compile(message, context);
    },
  },
} satisfies Extension;
