/** A request on its way through the router: its route and cluster, and what a balancer may see of it. */
import type { JsonObject } from "../../config/message.ts";
import type { DecoderFilterCallbacks } from "../../http/filter.ts";
import type { RequestHeaders } from "../../http/header-map.ts";
import type { StreamInfo } from "../../http/stream-info.ts";
import type { Connection } from "../../net/connection.ts";
import type { TimerWheel } from "../../net/timer-wheel.ts";
import type { Host, LoadBalancerContext, ThreadLocalCluster } from "../../upstream/upstream.ts";
import type { ForwardRoute } from "../route.ts";
import { RequestStats } from "./request-stats.ts";
import type { RetryState } from "./retry-state.ts";
import type { Timeouts } from "./timeouts.ts";

const noTimeouts: Timeouts = { globalMs: 0, perTryMs: 0, perTryIdleMs: 0 };

export class RoutedRequest extends RequestStats implements LoadBalancerContext {
  callbacks!: DecoderFilterCallbacks;
  timers!: TimerWheel;
  headers!: RequestHeaders;
  forwardRoute!: ForwardRoute;
  timeouts: Timeouts = noTimeouts;
  /** Milliseconds, 0 is none: what one try's stream may take in all. */
  maxStreamDurationMs = 0;
  /** What kind of upgrade this request asks for, lower case. */
  upgrade: string | undefined = undefined;
  requestComplete = false;
  /** The client has been given part of the answer. */
  responseStarted = false;
  /** How much of a body may be held, bytes; 0 is without limit. */
  bufferLimit = 0;
  protected cluster!: ThreadLocalCluster;
  protected isRetry = false;
  protected retryState: RetryState | undefined = undefined;
  /** Set-Cookie values that the hash policy wants in the response. */
  protected cookies: string[] | undefined = undefined;
  #hashKnown = false;
  #hash: bigint | undefined = undefined;

  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.callbacks = callbacks;
    this.timers = callbacks.timers;
  }

  now(): number {
    return this.timers.clock.now();
  }

  get hash(): bigint | undefined {
    if (!this.#hashKnown) {
      this.#hashKnown = true;
      const policy = this.forwardRoute.hashPolicy;
      if (policy !== undefined) this.#hash = policy.hash(this.headers, this.callbacks.streamInfo, (cookie) => (this.cookies ??= []).push(cookie));
    }
    return this.#hash;
  }
  get metadataMatch(): JsonObject | undefined {
    const { metadataMatch } = this.forwardRoute;
    const info = this.callbacks.streamInfo;
    const own = info.hasDynamicMetadata ? info.dynamicMetadata["envoy.lb"] : undefined;
    return own === undefined ? metadataMatch : { ...metadataMatch, ...own };
  }
  get requestHeaders(): RequestHeaders {
    return this.headers;
  }
  get downstreamConnection(): Connection | undefined {
    return this.callbacks.connection;
  }
  get streamInfo(): StreamInfo {
    return this.callbacks.streamInfo;
  }
  get hostSelectionMaxAttempts(): number {
    return this.isRetry ? (this.retryState?.hostSelectionMaxAttempts ?? 1) : 1;
  }
  get overrideHost(): { readonly address: string; readonly strict: boolean } | undefined {
    return this.isRetry ? undefined : this.callbacks.streamInfo.overrideHost;
  }
  get triedPriorities(): readonly number[] {
    return this.isRetry ? (this.retryState?.triedPriorities ?? []) : [];
  }
  shouldSelectAnotherHost(host: Host): boolean {
    return this.isRetry && this.retryState?.shouldSelectAnotherHost(host) === true;
  }
}
