/** Whether and when a request is tried again. Envoy's RetryStateImpl. One per request that may be retried at all. */
import type { StreamResetReason } from "../../http/codec.ts";
import type { HeaderMap, RequestHeaders, ResponseHeaders } from "../../http/header-map.ts";
import type { Timer, TimerWheel } from "../../net/timer-wheel.ts";
import type { Runtime } from "../../runtime/runtime.ts";
import type { Host, ResourceManager } from "../../upstream/upstream.ts";
import { parseRetryOn } from "../retry-policy.ts";
import type { RetryOn, RetryPolicy, VirtualClusterStats } from "../route.ts";
import type { ClusterCounters } from "./code-stats.ts";
import { grpcStatus, wholeNumber } from "./grpc.ts";
import type { RouterHeaderNames } from "./header-names.ts";
import { resetMeaning } from "./reset-reason.ts";
import { type PreviousPriorities, type RetryHostPredicate, retryHosts } from "./retry-hosts.ts";

export type RetryStatus = "yes" | "no" | "no_overflow" | "no_limit_exceeded";
type Decision = "no" | "with_back_off" | "at_once";

export interface RetryStateOptions {
  readonly names: RouterHeaderNames;
  readonly timers: TimerWheel;
  readonly runtime: Runtime;
  /** A random number in [0, 1). */
  readonly random: () => number;
  readonly resources: ResourceManager;
  readonly counters: ClusterCounters;
  readonly virtualCluster: VirtualClusterStats | undefined;
  readonly routeStats: VirtualClusterStats | undefined;
}

const grpcConditions: readonly (readonly [RetryOn, number])[] = [
  ["cancelled", 1],
  ["deadline-exceeded", 4],
  ["internal", 13],
  ["resource-exhausted", 8],
  ["unavailable", 14],
];

const grpcConditionNames: ReadonlySet<RetryOn> = new Set(grpcConditions.map(([name]) => name));
const none: ReadonlySet<RetryOn> = new Set();

/** Bounds what a request may ask for in its own fields. */
const maxNamedInFields = 32;

/** Undefined where neither route nor request ask for retries. Takes the request's retry fields away. */
export function createRetryState(
  policy: RetryPolicy | undefined,
  headers: RequestHeaders,
  hasFields: boolean,
  options: RetryStateOptions,
): RetryState | undefined {
  const { names } = options;
  if (!hasFields) return policy === undefined || policy.retryOn.size === 0 ? undefined : new RetryState(policy, headers, false, options);
  const asked = headers.get(names.retryOn) !== undefined || headers.get(names.retryGrpcOn) !== undefined;
  const state = asked || (policy !== undefined && policy.retryOn.size > 0) ? new RetryState(policy, headers, true, options) : undefined;
  headers.remove(names.retryOn);
  headers.remove(names.retryGrpcOn);
  headers.remove(names.maxRetries);
  headers.remove(names.hedgeOnPerTryTimeout);
  headers.remove(names.retriableHeaderNames);
  headers.remove(names.retriableStatusCodes);
  headers.remove(names.perTryTimeout);
  return state;
}

export class RetryState {
  readonly #options: RetryStateOptions;
  readonly #policy: RetryPolicy | undefined;
  readonly #retryOn: ReadonlySet<RetryOn>;
  #retriesLeft: number;
  readonly #statusCodes: readonly number[];
  readonly #headerTests: readonly ((headers: HeaderMap) => boolean)[];
  readonly #predicates: readonly RetryHostPredicate[];
  readonly #priorities: PreviousPriorities | undefined;
  #nextIntervalMs: number;
  readonly #maxIntervalMs: number;
  #rateLimitedMs = 0;
  #timer: Timer | undefined = undefined;
  /** A retry was scheduled and holds a place in the retry circuit breaker until its outcome is known. */
  #holdsResource = false;
  #retry: (() => void) | undefined = undefined;
  /** What the retry that waits is counted as. */
  #backOff: "retryBackOffExponential" | "retryBackOffRateLimited" | "none" = "none";

  constructor(policy: RetryPolicy | undefined, headers: RequestHeaders, hasFields: boolean, options: RetryStateOptions) {
    const { names } = options;
    this.#options = options;
    this.#policy = policy;
    let retryOn = policy?.retryOn ?? none;
    this.#retriesLeft = policy?.numRetries ?? 1;
    let statusCodes = policy?.retriableStatusCodes ?? [];
    let headerTests = policy?.retriableHeaders ?? [];
    if (policy === undefined || policy.defaultBackOff) {
      const base = Math.max(1, options.runtime.snapshot.integer("upstream.base_retry_backoff_ms", 25));
      this.#nextIntervalMs = base;
      this.#maxIntervalMs = base * 10;
    } else {
      this.#nextIntervalMs = policy.baseIntervalMs;
      this.#maxIntervalMs = policy.maxIntervalMs;
    }
    if (hasFields) {
      const asked = headers.get(names.retryOn);
      const grpcAsked = headers.get(names.retryGrpcOn);
      if (asked !== undefined) retryOn = union(retryOn, parseRetryOn(asked), (name) => !grpcConditionNames.has(name));
      if (grpcAsked !== undefined) retryOn = union(retryOn, parseRetryOn(grpcAsked), (name) => grpcConditionNames.has(name));
    }
    if (policy !== undefined && policy.retriableRequestHeaders.length > 0 && !policy.retriableRequestHeaders.some((test) => test(headers))) retryOn = none;
    if (hasFields) {
      const maxRetries = headers.get(names.maxRetries);
      if (maxRetries !== undefined && retryOn.size > 0) this.#retriesLeft = wholeNumber(maxRetries) ?? this.#retriesLeft;
      const codes = headers.get(names.retriableStatusCodes);
      if (codes !== undefined) {
        const more = codes.split(",", maxNamedInFields).map(wholeNumber);
        statusCodes = [...statusCodes, ...more.filter((code) => code !== undefined)];
      }
      const headerNames = headers.get(names.retriableHeaderNames);
      if (headerNames !== undefined) {
        const tests = headerNames.split(",", maxNamedInFields).map((name) => {
          const wanted = name.trim().toLowerCase();
          return (response: HeaderMap): boolean => wanted !== "" && response.get(wanted) !== undefined;
        });
        headerTests = [...headerTests, ...tests];
      }
    }
    this.#retryOn = retryOn;
    this.#statusCodes = statusCodes;
    this.#headerTests = headerTests;
    const hosts = policy === undefined ? undefined : retryHosts(policy);
    this.#predicates = hosts === undefined ? [] : hosts.predicates.map((make) => make());
    this.#priorities = hosts?.priorities?.();
  }

  /** Whether anything is left to retry on: only then must the request be kept. */
  get enabled(): boolean {
    return this.#retryOn.size > 0;
  }

  get hostSelectionMaxAttempts(): number {
    return this.#policy?.hostSelectionMaxAttempts ?? 1;
  }

  get triedPriorities(): readonly number[] {
    return this.#priorities?.excluded ?? [];
  }

  shouldSelectAnotherHost(host: Host): boolean {
    for (const predicate of this.#predicates) if (predicate.shouldSelectAnotherHost(host)) return true;
    return false;
  }

  onHostAttempted(host: Host): void {
    for (const predicate of this.#predicates) predicate.onHostAttempted(host);
    this.#priorities?.onHostAttempted(host);
  }

  /** `retry` is called later when the answer is "yes"; it is told whether early data must not be used. */
  shouldRetryHeaders(headers: ResponseHeaders, retry: () => void): RetryStatus {
    const decision = this.#decideHeaders(headers);
    if (decision === "with_back_off") this.#rateLimitedMs = this.#resetIntervalMs(headers);
    return this.#shouldRetry(decision, retry);
  }

  wouldRetryFromHeaders(headers: ResponseHeaders): boolean {
    return this.#decideHeaders(headers) !== "no";
  }

  shouldRetryReset(reason: StreamResetReason, requestStarted: boolean, retry: () => void): RetryStatus {
    return this.#shouldRetry(this.#decideReset(reason, requestStarted), retry);
  }

  /** A hedged try is always allowed while retries are left: nothing has failed yet that retry_on could name. */
  shouldHedge(retry: () => void): RetryStatus {
    return this.#shouldRetry("with_back_off", retry);
  }

  /** The request is over: no retry happens any more. */
  dispose(): void {
    this.#timer?.disable();
    this.#release();
  }

  #decideHeaders(headers: ResponseHeaders): Decision {
    const retryOn = this.#retryOn;
    const { names } = this.#options;
    // An upstream Envoy has limited the rate: other conditions must not retry into that.
    if (headers.get(names.rateLimited) !== undefined) return retryOn.has("envoy-ratelimited") ? "with_back_off" : "no";
    const { status } = headers;
    if (retryOn.has("5xx") && status >= 500 && status < 600) return "with_back_off";
    if (retryOn.has("gateway-error") && status >= 502 && status <= 504) return "with_back_off";
    if (retryOn.has("retriable-4xx") && status === 409) return "with_back_off";
    // 425 (RFC 8470): the same request again, without early data; nothing has to calm down first.
    if (retryOn.has("retriable-status-codes") && this.#statusCodes.includes(status)) return status === 425 ? "at_once" : "with_back_off";
    if (retryOn.has("retriable-headers")) for (const test of this.#headerTests) if (test(headers)) return "with_back_off";
    for (const [name, code] of grpcConditions) if (retryOn.has(name) && grpcStatus(headers) === code) return "with_back_off";
    return "no";
  }

  #decideReset(reason: StreamResetReason, requestStarted: boolean): Decision {
    const retryOn = this.#retryOn;
    if (reason === "overflow") return "no";
    if (retryOn.has("reset")) return "with_back_off";
    if (retryOn.has("reset-before-request") && !requestStarted) return "with_back_off";
    if (retryOn.has("5xx") || retryOn.has("gateway-error")) return "with_back_off";
    if (retryOn.has("refused-stream") && reason === "remote_refused_stream_reset") return "with_back_off";
    if (retryOn.has("connect-failure") && resetMeaning(reason).connectFailure) return "with_back_off";
    return "no";
  }

  #shouldRetry(decision: Decision, retry: () => void): RetryStatus {
    const { counters, virtualCluster, routeStats, resources, runtime } = this.#options;
    // An earlier retry was made and this is its outcome.
    if (this.#holdsResource && decision === "no") {
      counters.retrySuccess.inc();
      virtualCluster?.onRetrySuccess();
      routeStats?.onRetrySuccess();
    }
    this.#release();
    if (decision === "no") return "no";
    if (this.#retriesLeft === 0) {
      counters.retryLimitExceeded.inc();
      virtualCluster?.onRetryLimitExceeded();
      routeStats?.onRetryLimitExceeded();
      return "no_limit_exceeded";
    }
    this.#retriesLeft--;
    if (!resources.tryAcquireRetry()) {
      virtualCluster?.onRetryOverflow();
      routeStats?.onRetryOverflow();
      return "no_overflow";
    }
    this.#holdsResource = true;
    if (!runtime.snapshot.featureEnabled("upstream.use_retry", { numerator: 100, denominator: 100 }, Math.floor(this.#options.random() * 0x1_0000_0000))) {
      this.#release();
      return "no";
    }
    this.#retry = retry;
    this.#timer ??= this.#options.timers.createTimer(() => this.#onTimer());
    this.#backOff = "none";
    this.#timer.enable(decision === "at_once" ? 0 : this.#backOffMs());
    return "yes";
  }

  #onTimer(): void {
    const retry = this.#retry;
    if (retry === undefined) return;
    this.#retry = undefined;
    const { counters, virtualCluster, routeStats } = this.#options;
    if (this.#backOff !== "none") counters[this.#backOff].inc();
    counters.retries.inc();
    virtualCluster?.onRetry();
    routeStats?.onRetry();
    retry();
  }

  /** Fully jittered exponential back-off, or the time that the upstream asked for plus up to half of it. */
  #backOffMs(): number {
    const { random } = this.#options;
    if (this.#rateLimitedMs > 1) {
      const lower = this.#rateLimitedMs;
      this.#rateLimitedMs = 0;
      this.#backOff = "retryBackOffRateLimited";
      return lower + random() * (lower / 2);
    }
    this.#backOff = "retryBackOffExponential";
    const interval = this.#nextIntervalMs;
    this.#nextIntervalMs = Math.min(interval * 2, this.#maxIntervalMs);
    return Math.floor(random() * interval);
  }

  /** When the upstream says that its limit resets, in milliseconds from now; 0 where it does not, or too late. */
  #resetIntervalMs(headers: ResponseHeaders): number {
    const limited = this.#policy?.rateLimitedBackOff;
    if (limited === undefined) return 0;
    for (const { name, format } of limited.headers) {
      const value = headers.get(name);
      const number = value === undefined ? undefined : wholeNumber(value);
      if (number === undefined) continue;
      const ms = format === "seconds" ? number * 1000 : number * 1000 - Math.floor(this.#options.timers.clock.wall());
      if (ms > 0 && ms <= limited.maxIntervalMs) return ms;
    }
    return 0;
  }

  #release(): void {
    this.#retry = undefined;
    if (!this.#holdsResource) return;
    this.#holdsResource = false;
    this.#options.resources.releaseRetry();
  }
}

function union(a: ReadonlySet<RetryOn>, b: ReadonlySet<RetryOn>, accept: (name: RetryOn) => boolean): ReadonlySet<RetryOn> {
  const all = new Set(a);
  for (const name of b) if (accept(name)) all.add(name);
  return all;
}
