/** The filter of one stream: asks the service, and waits for what it says. */
import type { HeaderValue } from "../../../config/schema/types/envoy.config.core.v3.d.ts";
import type { RateLimitResponse } from "../../../config/schema/types/envoy.service.ratelimit.v3.d.ts";
import type { GrpcAnswer, GrpcClient } from "../../../grpc/client.ts";
import type { DecoderFilterCallbacks, FilterDataStatus, FilterHeadersStatus, FilterTrailersStatus, HttpFilter } from "../../../http/filter.ts";
import type { HeaderMap, RequestHeaders, ResponseHeaders } from "../../../http/header-map.ts";
import { toBytes } from "../../../matching/string-matcher.ts";
import { clusterCounters } from "../../../router/filter/code-stats.ts";
import { appendField, isModifiable } from "../../../router/header-mutation.ts";
import type { RateLimitDescriptor } from "../../../router/rate-limit.ts";
import type { StatsScope } from "../../../stats/stats.ts";
import { randomInteger } from "../common.ts";
import { addDescriptors, applicableRateLimits, isSwitchedOn } from "../rate-limits.ts";
import { decodeResponse, encodeRequest, resetSeconds, xRateLimitHeaders } from "./service.ts";
import type { RouteSettings, Settings } from "./settings.ts";

const service = "envoy.service.ratelimit.v3.RateLimitService";
const overLimit = 2;

export class RateLimitFilter implements HttpFilter {
  readonly #settings: Settings;
  readonly #client: GrpcClient;
  #decoder!: DecoderFilterCallbacks;
  #headers: RequestHeaders | undefined;
  #call: { cancel(): void } | undefined;
  /** For the answer, wherever it comes from. */
  #responseHeaders: readonly HeaderValue[] = [];
  #ownHeaders: (readonly [string, string])[] = [];

  constructor(settings: Settings, client: GrpcClient) {
    this.#settings = settings;
    this.#client = client;
  }

  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#decoder = callbacks;
  }

  decodeHeaders(headers: RequestHeaders): FilterHeadersStatus {
    const settings = this.#settings;
    if (!settings.enabled()) return "continue";
    this.#headers = headers;
    if (settings.requestType !== "both" && (headers.get("x-envoy-internal") === "true") !== (settings.requestType === "internal")) return "continue";
    const descriptors = this.#descriptors(headers, false);
    if (descriptors.length === 0) return "continue";
    this.#call = this.#ask(descriptors, (answer) => {
      this.#call = undefined;
      this.#answered(answer, descriptors);
    });
    return "stop_all_and_watermark";
  }

  decodeData(): FilterDataStatus {
    return "continue";
  }
  decodeTrailers(): FilterTrailersStatus {
    return "continue";
  }

  encodeHeaders(headers: ResponseHeaders): FilterHeadersStatus {
    this.#addResponseHeaders(headers);
    return "continue";
  }

  onStreamComplete(): void {
    const headers = this.#headers;
    if (this.#call !== undefined || headers === undefined) return;
    const descriptors = this.#descriptors(headers, true);
    // Nobody waits for what is said to this.
    if (descriptors.length > 0) this.#ask(descriptors, () => {});
  }

  onDestroy(): void {
    this.#call?.cancel();
    this.#call = undefined;
  }

  #ask(descriptors: readonly RateLimitDescriptor[], done: (answer: GrpcAnswer) => void): { cancel(): void } {
    const settings = this.#settings;
    const domain = this.#decoder.routeConfig<RouteSettings>()?.domain || settings.domain;
    const options = { timeoutMs: settings.timeoutMs, parentStreamInfo: this.#decoder.streamInfo };
    return this.#client.unary(service, "ShouldRateLimit", encodeRequest(domain, descriptors), options, done);
  }

  #descriptors(headers: RequestHeaders, onStreamDone: boolean): RateLimitDescriptor[] {
    const { stage, runtime, localCluster, rateLimits } = this.#settings;
    const callbacks = this.#decoder;
    const route = callbacks.route();
    const ofRoute = callbacks.routeConfig<RouteSettings>();
    const subject = { headers, info: callbacks.streamInfo, route, localCluster };
    const found: RateLimitDescriptor[] = [];
    const own = ofRoute?.rateLimits ?? rateLimits;
    if (own !== undefined) addDescriptors(found, own, subject, (entry) => entry.applyOnStreamDone === onStreamDone);
    else
      for (const entries of applicableRateLimits(route, ofRoute?.vhRateLimits ?? "override"))
        addDescriptors(
          found,
          entries,
          subject,
          (entry) => entry.stage === stage && entry.applyOnStreamDone === onStreamDone && isSwitchedOn(entry, runtime, randomInteger()),
        );
    return found;
  }

  #stats(): StatsScope | undefined {
    return this.#decoder.streamInfo.cluster?.scope.scope(this.#settings.statPrefix);
  }

  #answered(answer: GrpcAnswer, descriptors: readonly RateLimitDescriptor[]): void {
    const settings = this.#settings;
    const callbacks = this.#decoder;
    const response = answer.ok ? decodeResponse(answer.message) : undefined;
    if (response === undefined) {
      this.#failed();
      return;
    }
    this.#responseHeaders = response.responseHeadersToAdd;
    const isOver = response.overallCode === overLimit;
    if (isOver && settings.xEnvoyRateLimitedHeader) this.#ownHeaders.push(["x-envoy-ratelimited", "true"]);
    const told = response.statuses.filter((_, i) => descriptors[i]?.xRateLimitHeaders ?? settings.xRateLimitHeaders);
    const limits = told.length > 0 ? xRateLimitHeaders(told) : undefined;
    if (limits !== undefined)
      this.#ownHeaders.push(["x-ratelimit-limit", limits.limit], ["x-ratelimit-remaining", limits.remaining], ["x-ratelimit-reset", limits.reset]);
    const metadata = response.dynamicMetadata;
    if (metadata !== undefined && Object.keys(metadata).length > 0) callbacks.streamInfo.setDynamicMetadata(settings.metadataNamespace, metadata);
    if (!isOver) {
      this.#stats()?.counter("ok").inc();
      this.#goOn(response);
      return;
    }
    this.#stats()?.counter("over_limit").inc();
    this.#chargeCluster();
    if (settings.enforced()) this.#refuse(response);
    else this.#goOn(response);
  }

  #failed(): void {
    const { statusOnError } = this.#settings;
    const callbacks = this.#decoder;
    this.#stats()?.counter("error").inc();
    if (!this.#settings.deniesOnFailure()) {
      this.#stats()?.counter("failure_mode_allowed").inc();
      callbacks.continueDecoding();
      return;
    }
    callbacks.streamInfo.setFlag("RLSE");
    callbacks.sendLocalReply({ status: statusOnError, body: "", details: "rate_limiter_error" });
  }

  #goOn(response: RateLimitResponse): void {
    const headers = this.#headers;
    if (headers !== undefined) addAll(headers, response.requestHeadersToAdd);
    this.#decoder.continueDecoding();
  }

  #refuse(response: RateLimitResponse): void {
    const settings = this.#settings;
    const info = this.#decoder.streamInfo;
    if (settings.retryAfterHeader && settings.status === 429) {
      const seconds = Math.max(0, ...response.statuses.filter((status) => status.code === overLimit).map(resetSeconds));
      if (seconds > 0) this.#ownHeaders.push(["retry-after", String(seconds)]);
    }
    info.setFlag("RL");
    this.#decoder.sendLocalReply({
      status: settings.status,
      body: Buffer.from(response.rawBody).toString("latin1"),
      details: "request_rate_limited",
      modifyHeaders: (reply) => {
        this.#addResponseHeaders(reply);
        settings.responseMutation?.evaluate(reply, info, this.#headers, reply);
      },
      ...(settings.grpcStatus !== undefined && { grpcStatus: settings.grpcStatus }),
    });
  }

  /** As an answer of the cluster counts, though it never was asked. */
  #chargeCluster(): void {
    const { cluster } = this.#decoder.streamInfo;
    if (cluster === undefined) return;
    const counters = clusterCounters(cluster);
    counters.codes.charge(this.#settings.status);
    counters.internal.charge(this.#settings.status);
  }

  /** Once. */
  #addResponseHeaders(headers: ResponseHeaders): void {
    addAll(headers, this.#responseHeaders);
    for (const [name, value] of this.#ownHeaders) headers.set(name, value);
    this.#responseHeaders = [];
    this.#ownHeaders = [];
  }
}

/** What the service wants in a header map; pseudo-headers and Host are not for it to change. */
function addAll(to: HeaderMap, fields: readonly HeaderValue[]): void {
  for (const { key, value, rawValue } of fields) {
    const name = key.toLowerCase();
    if (!isModifiable(name) || !isName(name)) continue;
    const text = rawValue.length > 0 ? Buffer.from(rawValue).toString("latin1") : toBytes(value);
    if (!/[\0\r\n]/.test(text)) appendField(to, name, text);
  }
}

function isName(name: string): boolean {
  return /^[!#$%&'*+.^_`|~0-9a-z-]+$/.test(name);
}
