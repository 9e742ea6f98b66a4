/**
 * The tries of one request: which are under way, when another one is made, when all are given up. What their answers say to the client is
 * filter.ts.
 */
import type { BytesMeter, StreamResetReason } from "../../http/codec.ts";
import type { DownstreamWatermarkCallbacks } from "../../http/filter.ts";
import type { ResponseHeaders, Trailers } from "../../http/header-map.ts";
import type { ResponseFlag, UpstreamInfo } from "../../http/stream-info.ts";
import { Timer, type TimerWheel } from "../../net/timer-wheel.ts";
import type { Host, OutlierResult } from "../../upstream/upstream.ts";
import { ConnectSource } from "./connect-upstream.ts";
import { resetBody, resetDetails, resetMeaning } from "./reset-reason.ts";
import type { RetryStatus } from "./retry-state.ts";
import { RoutedRequest } from "./routed-request.ts";
import type { ShadowStreams } from "./shadow.ts";
import { percentOfTimeout, setTimeoutHeaders } from "./timeouts.ts";
import { UpstreamLogEntry } from "./upstream-log.ts";
import { type StreamSource, UpstreamRequest } from "./upstream-request.ts";

/** The timeout of the whole exchange. It carries its request, so that none needs a closure for it. */
class ResponseTimer extends Timer {
  readonly request: RequestTries;
  constructor(wheel: TimerWheel, request: RequestTries) {
    super(wheel, onResponseTimer);
    this.request = request;
  }
}

function onResponseTimer(this: ResponseTimer): void {
  this.request.onResponseTimeout();
}

export abstract class RequestTries extends RoutedRequest implements DownstreamWatermarkCallbacks {
  protected isGrpc = false;
  protected hedges = false;
  protected timeoutStatus = 504;
  protected attempts = 0;
  protected requestCompleteMs = 0;
  protected readonly requests: UpstreamRequest[] = [];
  protected pendingRetries = 0;
  protected shadows: ShadowStreams | undefined = undefined;
  /** The request's body as far as it came, kept for another try. */
  protected body: Buffer[] | undefined = undefined;
  protected trailers: Trailers | undefined = undefined;
  protected watchesDownstream = false;
  #requestStarted = false;
  #responseTimer: ResponseTimer | undefined = undefined;

  abstract onUpstream1xxHeaders(request: UpstreamRequest, headers: ResponseHeaders): void;
  abstract onUpstreamHeaders(request: UpstreamRequest, headers: ResponseHeaders, endStream: boolean): void;
  abstract onUpstreamData(request: UpstreamRequest, data: Buffer, endStream: boolean): void;
  abstract onUpstreamTrailers(request: UpstreamRequest, trailers: Trailers): void;
  abstract onWebSocketRefused(request: UpstreamRequest, headers: ResponseHeaders): void;

  protected setTimeoutHeaders(elapsedMs: number): void {
    const { config } = this;
    const name = config.suppressEnvoyHeaders ? undefined : config.names.expectedTimeout;
    setTimeoutHeaders(elapsedMs, this.timeouts, this.forwardRoute, this.headers, this.isGrpc, this.hedges, name);
  }

  protected chooseSource(): StreamSource | undefined {
    const { forwardRoute: route, headers } = this;
    const cluster = this.cluster;
    const { connectConfig } = route;
    if (connectConfig !== undefined && (headers.method === "CONNECT" || (connectConfig.allowPost && headers.method === "POST")))
      return ConnectSource.open(cluster, route, this);
    return cluster.httpPool(route.priority, this.callbacks.downstreamProtocol, this);
  }

  protected logEntry(): UpstreamLogEntry | undefined {
    const { upstreamLog } = this.config;
    return upstreamLog === undefined ? undefined : new UpstreamLogEntry(upstreamLog, this.callbacks.streamInfo, this.headers, this.timers);
  }

  protected onRequestComplete(): void {
    this.requestComplete = true;
    this.requestCompleteMs = this.now();
    if (this.requests.length === 0) return;
    const { globalMs } = this.timeouts;
    if (globalMs > 0) {
      this.#responseTimer = new ResponseTimer(this.timers, this);
      this.#responseTimer.enable(globalMs);
    }
    for (const request of this.requests) request.onRequestComplete();
  }

  // ---- flow control --------------------------------------------------------------------------------------------------

  /** A try cannot take more of the request. */
  pauseClient(): void {
    this.counters.flowBackedUp.inc();
    this.callbacks.onDecoderFilterAboveWriteBufferHighWatermark();
  }

  resumeClient(): void {
    this.counters.flowDrained.inc();
    this.callbacks.onDecoderFilterBelowWriteBufferLowWatermark();
  }

  /** The client cannot take more of the response. */
  onAboveWriteBufferHighWatermark(): void {
    for (const request of this.requests) request.pauseReading();
  }

  onBelowWriteBufferLowWatermark(): void {
    for (const request of this.requests) request.resumeReading();
  }

  isOnlyRequest(request: UpstreamRequest): boolean {
    return this.responseStarted || (this.requests.length === 1 && this.requests[0] === request);
  }

  // ---- tries report --------------------------------------------------------------------------------------------------

  onHostSelected(host: Host, upstream: UpstreamInfo, meter: BytesMeter): void {
    const info = this.callbacks.streamInfo;
    host.monitor?.putResult("local_origin_connect_success", undefined);
    info.upstream = upstream;
    // The try that counts in the end names the host that was tried.
    info.attemptedHosts = [{ host, connectionId: upstream.connectionId }];
    const before = info.upstreamMeter;
    if (before !== undefined) addBytes(meter, before);
    info.upstreamMeter = meter;
    this.retryState?.onHostAttempted(host);
    this.virtualCluster?.onRequest();
    this.routeStats?.onRequest();
    if (this.watchesDownstream) return;
    this.watchesDownstream = true;
    this.callbacks.addDownstreamWatermarkCallbacks(this);
  }

  onHostFailed(host: Host | undefined, upstream: UpstreamInfo): void {
    const info = this.callbacks.streamInfo;
    info.upstream = upstream;
    info.attemptedHosts = undefined;
    if (host !== undefined) this.retryState?.onHostAttempted(host);
  }

  /** Data of a CONNECT request that came before the tunnel stood (reject_connect_request_early_data). */
  onEarlyConnectData(): void {
    this.resetAll();
    this.shadows?.cancel();
    this.cleanup();
    this.reply(400, "", "early_connect_data", undefined);
  }

  onUpstreamReset(request: UpstreamRequest, reason: StreamResetReason, transportFailure: string): void {
    // A circuit breaker speaks of the cluster, not of this host.
    if (reason !== "overflow") this.#putResult(request, "local_origin_connect_failed", undefined);
    if (this.#maybeRetryReset(reason, request, false)) return;
    const { status, flag } = resetMeaning(reason);
    const dropped = reason === "overflow";
    this.#chargeAbort(status, request);
    this.remove(request);
    request.finish();
    if (this.mayStillAnswer(undefined)) return;
    this.#abort(status, flag, resetBody(reason, this.isRetry), resetDetails(reason, transportFailure, this.responseStarted), dropped);
  }

  onPerTryTimeout(request: UpstreamRequest): void {
    if (this.hedges) this.#hedge(request);
    else {
      this.counters.perTryTimeout.inc();
      this.#tryTimedOut(request, "upstream_per_try_timeout");
    }
  }

  onPerTryIdleTimeout(request: UpstreamRequest): void {
    if (this.hedges) this.#hedge(request);
    else {
      this.counters.perTryIdleTimeout.inc();
      this.#tryTimedOut(request, "upstream_per_try_idle_timeout");
    }
  }

  onStreamMaxDuration(request: UpstreamRequest): void {
    this.counters.maxDurationReached.inc();
    request.reset();
    if (this.#maybeRetryReset("local_reset", request, false)) return;
    this.remove(request);
    this.cleanup();
    this.reply(504, "upstream max stream duration reached", "upstream_max_stream_duration_reached", "UMSDR");
  }

  onResponseTimeout(): void {
    const requests = this.requests.splice(0);
    for (const request of requests) {
      // Counted also where the head was seen: long answers may be cut off, too.
      this.counters.timeout.inc();
      this.virtualCluster?.onTimeout();
      this.routeStats?.onTimeout();
      request.host?.stats.rq_timeout.inc();
      if (request.awaitingHeaders) {
        request.recordsBudget = false;
        if (!request.outlierTimeoutRecorded) this.#putResult(request, "local_origin_timeout", this.timeoutStatus);
        this.#chargeAbort(this.timeoutStatus, request);
      }
      request.reset();
    }
    this.#timeoutAbort("response_timeout");
  }

  recordPerTryBudget(request: UpstreamRequest): void {
    this.counters.perTryBudgetPercent?.record(percentOfTimeout(this.now() - request.startMs, this.timeouts.perTryMs));
  }

  // ---- retries -------------------------------------------------------------------------------------------------------

  #maybeRetryReset(reason: StreamResetReason, request: UpstreamRequest, isTimeout: boolean): boolean {
    const retryState = this.retryState;
    if (this.responseStarted || retryState === undefined || request.retried) return false;
    this.#requestStarted ||= request.requestStarted;
    const verdict = retryState.shouldRetryReset(reason, this.#requestStarted, () => this.doRetry(isTimeout));
    if (verdict !== "yes") {
      this.noteRefusal(verdict);
      return false;
    }
    this.pendingRetries++;
    request.host?.stats.rq_error.inc();
    this.remove(request);
    request.finish();
    return true;
  }

  /** Sets the flag of a retry that was wanted and not allowed; true if it was wanted. */
  protected noteRefusal(verdict: RetryStatus): boolean {
    if (verdict === "no_overflow") this.callbacks.streamInfo.setFlag("UO");
    else if (verdict === "no_limit_exceeded") this.callbacks.streamInfo.setFlag("URX");
    else return false;
    return true;
  }

  #hedge(request: UpstreamRequest): void {
    this.#putResult(request, "local_origin_timeout", this.timeoutStatus);
    request.outlierTimeoutRecorded = true;
    if (this.responseStarted || this.retryState === undefined || request.retried) return;
    const verdict = this.retryState.shouldHedge(() => this.doRetry(true));
    if (verdict === "yes") {
      this.pendingRetries++;
      request.retried = true;
    } else this.noteRefusal(verdict);
  }

  #tryTimedOut(request: UpstreamRequest, details: string): void {
    request.host?.stats.rq_timeout.inc();
    request.reset();
    this.#putResult(request, "local_origin_timeout", this.timeoutStatus);
    if (this.#maybeRetryReset("local_reset", request, true)) return;
    this.#chargeAbort(this.timeoutStatus, request);
    this.remove(request);
    this.#timeoutAbort(details);
  }

  protected doRetry(afterTimeout: boolean): void {
    const { callbacks, config, forwardRoute: route, headers } = this;
    const info = callbacks.streamInfo;
    this.isRetry = true;
    this.attempts++;
    info.attemptCount = this.attempts;
    this.pendingRetries--;
    // The cluster may be gone meanwhile, or be another one of the same name.
    const cluster = callbacks.clusters.get(route.clusterName);
    if (cluster !== undefined) this.cluster = cluster;
    const source = cluster === undefined ? undefined : this.chooseSource();
    if (source === undefined) {
      this.resetAll();
      this.noHealthyUpstream();
      this.cleanup();
      return;
    }
    const { virtualHost } = route;
    if (virtualHost.includeRequestAttemptCount) headers.set(config.names.attemptCount, String(this.attempts));
    if (virtualHost.includeIsTimeoutRetryHeader) headers.set(config.names.isTimeoutRetry, String(afterTimeout));
    this.setTimeoutHeaders(this.requestComplete ? this.now() - this.requestCompleteMs : 0);
    const request = new UpstreamRequest(this, source, this.logEntry());
    this.requests.push(request);
    const body = this.body;
    const trailers = this.trailers;
    request.start(body === undefined && trailers === undefined && this.requestComplete);
    if (body !== undefined) {
      const end = trailers === undefined && this.requestComplete;
      for (let i = 0; i < body.length && this.newest === request; i++) request.sendData(body[i], end && i === body.length - 1, true);
    }
    if (trailers !== undefined && this.newest === request) request.sendTrailers(trailers);
  }

  // ---- ends ----------------------------------------------------------------------------------------------------------

  #chargeAbort(status: number, request: UpstreamRequest): void {
    const { host } = request;
    if (this.responseStarted) {
      if (request.grpcSuccessDeferred) {
        host?.stats.rq_error.inc();
        this.config.stats.rq_reset_after_downstream_response_started.inc();
      }
      return;
    }
    this.chargeCode(status, undefined, host);
    if (status < 500) host?.stats.rq_error.inc();
  }

  #timeoutAbort(details: string): void {
    const { counters, timeouts } = this;
    if (counters.budgetPercent !== undefined) counters.budgetPercent.record(percentOfTimeout(this.now() - this.requestCompleteMs, timeouts.globalMs));
    this.#abort(this.timeoutStatus, "UT", this.timeoutStatus === 504 ? "upstream request timeout" : "", details, false);
  }

  #abort(status: number, flag: ResponseFlag, body: string, details: string, dropped: boolean): void {
    const { config } = this;
    this.callbacks.streamInfo.setFlag(flag);
    this.resetAll();
    this.cleanup();
    this.callbacks.sendLocalReply({
      status,
      body,
      details,
      modifyHeaders: (headers) => {
        if (dropped && !config.suppressEnvoyHeaders) headers.set(config.names.overloaded, "true");
        this.modifyHeaders(headers);
      },
    });
  }

  protected noHealthyUpstream(): void {
    this.chargeCode(503, undefined, undefined);
    this.reply(503, "no healthy upstream", "no_healthy_upstream", "UH");
  }

  protected reply(status: number, body: string, details: string, flag: ResponseFlag | undefined): void {
    if (flag !== undefined) this.callbacks.streamInfo.setFlag(flag);
    this.callbacks.sendLocalReply({ status, body, details, modifyHeaders: (headers) => this.modifyHeaders(headers) });
  }

  protected modifyHeaders(headers: ResponseHeaders): void {
    if (this.attempts > 0 && this.forwardRoute.virtualHost.includeAttemptCountInResponse) headers.set(this.config.names.attemptCount, String(this.attempts));
  }

  #putResult(request: UpstreamRequest, result: OutlierResult, status: number | undefined): void {
    request.host?.monitor?.putResult(result, status);
  }

  /** Whether a try other than `except` may still bring an answer. */
  protected mayStillAnswer(except: UpstreamRequest | undefined): boolean {
    if (this.pendingRetries > 0) return true;
    for (const request of this.requests) if (request !== except && request.awaitingHeaders) return true;
    return false;
  }

  protected get newest(): UpstreamRequest | undefined {
    return this.requests[this.requests.length - 1];
  }

  protected remove(request: UpstreamRequest): void {
    const at = this.requests.indexOf(request);
    if (at >= 0) this.requests.splice(at, 1);
  }

  protected resetOthers(keep: UpstreamRequest): void {
    if (this.requests.length <= 1) return;
    for (const request of this.requests.splice(0)) if (request !== keep) request.reset();
    this.requests.push(keep);
  }

  protected resetAll(): void {
    if (this.requests.length === 0) return;
    for (const request of this.requests.splice(0)) request.reset();
  }

  protected dropRetryState(): void {
    this.retryState?.dispose();
    this.retryState = undefined;
    this.pendingRetries = 0;
  }

  protected cleanup(): void {
    this.dropRetryState();
    this.#responseTimer?.disable();
    this.#responseTimer = undefined;
    this.body = undefined;
  }
}

/** The bytes of a request are those of all its tries. */
function addBytes(to: BytesMeter, from: BytesMeter): void {
  to.wireBytesReceived += from.wireBytesReceived;
  to.wireBytesSent += from.wireBytesSent;
  to.headerBytesReceived += from.headerBytesReceived;
  to.headerBytesSent += from.headerBytesSent;
}
