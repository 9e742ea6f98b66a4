/**
 * The router: the last HTTP filter of nearly every chain. Picks the host, sends the request, retries, and hands the response back.
 * The order of what happens is Envoy's (source/common/router/router.cc).
 */
import type { JsonObject } from "../../config/message.ts";
import type { BytesMeter, StreamResetReason } from "../../http/codec.ts";
import type {
  DecoderFilterCallbacks,
  DownstreamWatermarkCallbacks,
  FilterDataStatus,
  FilterHeadersStatus,
  FilterTrailersStatus,
  HttpFilter,
} from "../../http/filter.ts";
import type { RequestHeaders, ResponseHeaders, Trailers } from "../../http/header-map.ts";
import { isGrpcRequest } from "../../http/manager/messages.ts";
import type { ResponseFlag, StreamInfo, UpstreamInfo } from "../../http/stream-info.ts";
import type { Connection } from "../../net/connection.ts";
import { Timer, type TimerWheel } from "../../net/timer-wheel.ts";
import type { Host, LoadBalancerContext, OutlierResult, ThreadLocalCluster } from "../../upstream/upstream.ts";
import type { DirectRoute, ForwardRoute } from "../route.ts";
import { ConnectSource } from "./connect-upstream.ts";
import { grpcStatus, grpcToHttpStatus, wholeNumber } from "./grpc.ts";
import { internalRedirect } from "./internal-redirect.ts";
import { RequestStats } from "./request-stats.ts";
import { resetBody, resetDetails, resetMeaning } from "./reset-reason.ts";
import { createRetryState, type RetryState, type RetryStatus } from "./retry-state.ts";
import type { RouterConfig } from "./router-config.ts";
import { ShadowStreams } from "./shadow.ts";
import { findMalformed } from "./strict-headers.ts";
import { finalTimeouts, percentOfTimeout, setTimeoutHeaders, type Timeouts } from "./timeouts.ts";
import { UpstreamLogEntry } from "./upstream-log.ts";
import { type StreamSource, UpstreamRequest } from "./upstream-request.ts";

const noTimeouts: Timeouts = { globalMs: 0, perTryMs: 0, perTryIdleMs: 0 };

/** The timeout of the whole exchange. It carries its filter, so that a request needs no closure for it. */
class ResponseTimer extends Timer {
  readonly filter: RouterFilter;
  constructor(wheel: TimerWheel, filter: RouterFilter) {
    super(wheel, onResponseTimer);
    this.filter = filter;
  }
}

function onResponseTimer(this: ResponseTimer): void {
  this.filter.onResponseTimeout();
}

export class RouterFilter extends RequestStats implements HttpFilter, LoadBalancerContext, DownstreamWatermarkCallbacks {
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
  #cluster!: ThreadLocalCluster;
  #isGrpc = false;
  #hasEnvoyFields = false;
  #hedges = false;
  #timeoutStatus = 504;
  #attempts = 0;
  #isRetry = false;
  #requestStarted = false;
  #requestCompleteMs = 0;
  readonly #requests: UpstreamRequest[] = [];
  #pendingRetries = 0;
  #retryState: RetryState | undefined = undefined;
  #responseTimer: ResponseTimer | undefined = undefined;
  #shadows: ShadowStreams | undefined = undefined;
  /** The request's body as far as it came, kept for another try. */
  #body: Buffer[] | undefined = undefined;
  #bodyBytes = 0;
  #bodyOverflowed = false;
  #trailers: Trailers | undefined = undefined;
  #watchesDownstream = false;
  #cookies: string[] | undefined = undefined;
  #hashKnown = false;
  #hash: bigint | undefined = undefined;

  constructor(config: RouterConfig) {
    super(config);
  }

  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.callbacks = callbacks;
    this.timers = callbacks.timers;
  }

  now(): number {
    return this.timers.clock.now();
  }

  // ---- the request comes ---------------------------------------------------------------------------------------------

  decodeHeaders(headers: RequestHeaders, endStream: boolean): FilterHeadersStatus {
    const { callbacks, config } = this;
    const info = callbacks.streamInfo;
    this.headers = headers;
    config.stats.rq_total.inc();
    const route = callbacks.route();
    if (route === undefined) {
      config.stats.no_route.inc();
      this.#reply(404, "", "route_not_found", "NR");
      return "stop";
    }
    if (route.kind === "direct") {
      this.#directResponse(route);
      return "stop";
    }
    const cluster = route.kind === "forward" ? callbacks.clusters.get(route.clusterName) : undefined;
    if (route.kind !== "forward" || cluster === undefined) {
      config.stats.no_cluster.inc();
      this.#reply(route.kind === "forward" ? route.clusterNotFoundStatus : 503, "", "cluster_not_found", "NC");
      return "stop";
    }
    this.forwardRoute = route;
    this.#cluster = cluster;
    info.cluster = cluster.info;
    info.upstreamClusterName = cluster.info.name;
    this.#scan(headers);
    this.beginStats(cluster.info, route, headers, info, this.#isGrpc);
    if (config.strictHeaders.length > 0) {
      const malformed = findMalformed(config.strictHeaders, headers);
      if (malformed !== undefined) {
        info.setFlag("IH");
        callbacks.sendLocalReply({
          status: 400,
          body: `invalid header '${malformed.name}' with value '${malformed.value}'`,
          details: `request_headers_failed_strict_check{${malformed.name}}`,
        });
        return "stop";
      }
    }
    if (this.#hasEnvoyFields) this.readStatFields(headers);
    if (cluster.info.refuses !== undefined && this.#refused(cluster)) return "stop";
    this.#attempts = 1;
    info.attemptCount = 1;
    this.bufferLimit = callbacks.decoderBufferLimit;
    this.#setTimeouts(headers);
    const fields = headers.list.length;
    route.finalizeRequestHeaders(headers, info, config.suppressEnvoyHeaders);
    // Header changes of the route may have brought fields of ours.
    if (headers.list.length !== fields) this.#scan(headers);
    const source = this.#chooseSource();
    if (source === undefined) {
      this.#noHealthyUpstream();
      return "stop";
    }
    this.#prepare(headers, endStream);
    const request = new UpstreamRequest(this, source, this.#logEntry());
    this.#requests.push(request);
    request.start(endStream);
    if (endStream) this.#onRequestComplete();
    return "stop";
  }

  decodeData(data: Buffer, endStream: boolean): FilterDataStatus {
    let keeps = this.#retryState?.enabled === true || this.forwardRoute.internalRedirect !== undefined;
    if (keeps && !this.#bodyOverflowed && this.bufferLimit > 0 && this.#bodyBytes + data.length > this.bufferLimit) {
      this.counters.retryOrShadowAbandoned.inc();
      this.#dropRetryState();
      this.#bodyOverflowed = true;
      this.#body = undefined;
      if (this.#requests.length === 0) {
        // The only try has failed, and what the next one needs is gone.
        this.#cleanup();
        this.#reply(507, "exceeded request buffer limit while retrying upstream", "request_payload_exceeded_retry_buffer_limit", undefined);
        return "stop_no_buffer";
      }
    }
    keeps &&= !this.#bodyOverflowed;
    this.#shadows?.sendData(data, endStream);
    let chunk = data;
    if (keeps && data.length > 0) {
      chunk = Buffer.from(data);
      (this.#body ??= []).push(chunk);
      this.#bodyBytes += chunk.length;
    }
    this.#newest?.sendData(chunk, endStream, keeps);
    if (endStream) this.#onRequestComplete();
    return "stop_no_buffer";
  }

  decodeTrailers(trailers: Trailers): FilterTrailersStatus {
    this.#trailers = trailers;
    this.#shadows?.sendTrailers(trailers);
    this.#newest?.sendTrailers(trailers);
    this.#onRequestComplete();
    return "stop";
  }

  onDestroy(): void {
    this.#resetAll();
    this.#shadows?.cancel();
    this.#cleanup();
    if (this.#watchesDownstream) this.callbacks.removeDownstreamWatermarkCallbacks(this);
  }

  /** One pass over the fields instead of one lookup for each that might be there. */
  #scan(headers: RequestHeaders): void {
    const { list } = headers;
    const { prefix } = this.config.names;
    const first = prefix.charCodeAt(0);
    let upgrades = false;
    let wanted: string | undefined;
    for (let i = 0; i < list.length; i += 2) {
      const name = list[i];
      const code = name.charCodeAt(0);
      if (code === first && !this.#hasEnvoyFields && name.startsWith(prefix)) this.#hasEnvoyFields = true;
      if (code === 99 /* c */) {
        if (name === "content-type") this.#isGrpc = headers.path !== undefined && isGrpcRequest(list[i + 1]);
        else if (name === "connection") upgrades = list[i + 1].toLowerCase().includes("upgrade");
      } else if (code === 117 /* u */ && name === "upgrade") wanted = list[i + 1];
    }
    const upgrade = headers.protocol ?? (upgrades ? wanted : undefined);
    if (upgrade !== undefined) this.upgrade = upgrade.toLowerCase();
  }

  #directResponse(route: DirectRoute): void {
    const { callbacks, config, headers } = this;
    const info = callbacks.streamInfo;
    config.stats.rq_direct_response.inc();
    const { status } = route;
    // The path is rewritten for logs; where to go follows from what the client asked for.
    const location = status === 201 || (status >= 300 && status < 400) ? route.location(headers, info) : undefined;
    route.finalizeRequestHeaders(headers, info);
    const body = route.body(headers, info);
    callbacks.sendLocalReply({
      status,
      body: typeof body === "string" ? body : body?.toString("latin1"),
      contentType: route.contentType,
      details: "direct_response",
      modifyHeaders: (response) => {
        if (location !== undefined && location !== "") response.set("location", location);
        route.finalizeResponseHeaders(response, info, headers);
      },
    });
  }

  #refused(cluster: ThreadLocalCluster): boolean {
    const { config } = this;
    const why = cluster.info.refuses?.(Math.floor(config.random() * 0x1_0000_0000));
    if (why === undefined) return false;
    const maintenance = why === "maintenance_mode";
    const info = this.callbacks.streamInfo;
    info.setFlag(maintenance ? "UO" : "DO");
    this.chargeCode(503, undefined, undefined);
    this.callbacks.sendLocalReply({
      status: 503,
      body: maintenance ? "maintenance mode" : "drop overload",
      details: why,
      modifyHeaders: (headers) => {
        if (!config.suppressEnvoyHeaders) headers.set(config.names.overloaded, "true");
        this.#modifyHeaders(headers);
      },
    });
    return true;
  }

  #setTimeouts(headers: RequestHeaders): void {
    const { config, forwardRoute: route } = this;
    const { names } = config;
    const hasFields = this.#hasEnvoyFields;
    this.#hedges = route.hedgePolicy.hedgeOnPerTryTimeout;
    if (hasFields) {
      const hedge = headers.get(names.hedgeOnPerTryTimeout);
      if (hedge === "true" || hedge === "false") this.#hedges = hedge === "true";
    }
    this.timeouts = finalTimeouts(route, headers, this.#isGrpc, hasFields, { names, respectExpected: config.respectExpectedTimeout });
    this.#setTimeoutHeaders(0);
    this.maxStreamDurationMs = this.#cluster.info.maxStreamDurationMs ?? 0;
    if (hasFields) {
      const duration = headers.get(names.streamDuration);
      if (duration !== undefined) {
        this.maxStreamDurationMs = wholeNumber(duration) ?? this.maxStreamDurationMs;
        headers.remove(names.streamDuration);
      }
      if (headers.remove(names.timeoutAltResponse) > 0) this.#timeoutStatus = 204;
    }
    if (route.virtualHost.includeRequestAttemptCount) headers.set(names.attemptCount, "1");
  }

  /** All that the first try needs, once there is a host to try. */
  #prepare(headers: RequestHeaders, endStream: boolean): void {
    const { config, forwardRoute: route, callbacks } = this;
    if (this.#hasEnvoyFields || route.retryPolicy !== undefined)
      this.#retryState = createRetryState(route.retryPolicy, headers, this.#hasEnvoyFields, {
        names: config.names,
        timers: this.timers,
        runtime: config.context.runtime,
        random: config.random,
        resources: this.#cluster.info.resourceManager(route.priority),
        counters: this.counters,
        virtualCluster: this.virtualCluster,
        routeStats: this.routeStats,
      });
    if (route.mirrors.length > 0) {
      this.#shadows = ShadowStreams.start(route, headers, callbacks, config, this.timeouts.globalMs);
      this.#shadows?.sendHeaders(endStream);
    }
  }

  #setTimeoutHeaders(elapsedMs: number): void {
    const { config } = this;
    const name = config.suppressEnvoyHeaders ? undefined : config.names.expectedTimeout;
    setTimeoutHeaders(elapsedMs, this.timeouts, this.forwardRoute, this.headers, this.#isGrpc, this.#hedges, name);
  }

  #chooseSource(): StreamSource | undefined {
    const { forwardRoute: route, headers } = this;
    const cluster = this.#cluster;
    const { connectConfig } = route;
    if (connectConfig !== undefined && (headers.method === "CONNECT" || (connectConfig.allowPost && headers.method === "POST")))
      return ConnectSource.open(cluster, route, this);
    return cluster.httpPool(route.priority, this.callbacks.downstreamProtocol, this);
  }

  #logEntry(): UpstreamLogEntry | undefined {
    const { upstreamLog } = this.config;
    return upstreamLog === undefined ? undefined : new UpstreamLogEntry(upstreamLog, this.callbacks.streamInfo, this.headers, this.timers);
  }

  #onRequestComplete(): void {
    this.requestComplete = true;
    this.#requestCompleteMs = this.now();
    if (this.#requests.length === 0) return;
    const { globalMs } = this.timeouts;
    if (globalMs > 0) {
      this.#responseTimer = new ResponseTimer(this.timers, this);
      this.#responseTimer.enable(globalMs);
    }
    for (const request of this.#requests) request.onRequestComplete();
  }

  // ---- LoadBalancerContext -------------------------------------------------------------------------------------------

  get hash(): bigint | undefined {
    if (!this.#hashKnown) {
      this.#hashKnown = true;
      const policy = this.forwardRoute.hashPolicy;
      if (policy !== undefined) this.#hash = policy.hash(this.headers, this.callbacks.streamInfo, (cookie) => (this.#cookies ??= []).push(cookie));
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
    return this.#isRetry ? (this.#retryState?.hostSelectionMaxAttempts ?? 1) : 1;
  }
  get overrideHost(): { readonly address: string; readonly strict: boolean } | undefined {
    return this.#isRetry ? undefined : this.callbacks.streamInfo.overrideHost;
  }
  get triedPriorities(): readonly number[] {
    return this.#isRetry ? (this.#retryState?.triedPriorities ?? []) : [];
  }
  shouldSelectAnotherHost(host: Host): boolean {
    return this.#isRetry && this.#retryState?.shouldSelectAnotherHost(host) === true;
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
    for (const request of this.#requests) request.pauseReading();
  }
  onBelowWriteBufferLowWatermark(): void {
    for (const request of this.#requests) request.resumeReading();
  }
  isOnlyRequest(request: UpstreamRequest): boolean {
    return this.responseStarted || (this.#requests.length === 1 && this.#requests[0] === request);
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
    this.#retryState?.onHostAttempted(host);
    this.virtualCluster?.onRequest();
    this.routeStats?.onRequest();
    if (this.#watchesDownstream) return;
    this.#watchesDownstream = true;
    this.callbacks.addDownstreamWatermarkCallbacks(this);
  }

  onHostFailed(host: Host | undefined, upstream: UpstreamInfo): void {
    const info = this.callbacks.streamInfo;
    info.upstream = upstream;
    info.attemptedHosts = undefined;
    if (host !== undefined) this.#retryState?.onHostAttempted(host);
  }

  /** Data of a CONNECT request that came before the tunnel stood (reject_connect_request_early_data). */
  onEarlyConnectData(): void {
    this.#resetAll();
    this.#shadows?.cancel();
    this.#cleanup();
    this.#reply(400, "", "early_connect_data", undefined);
  }

  /** The upstream would not speak WebSocket: its head goes back, and nothing else. */
  onWebSocketRefused(request: UpstreamRequest, headers: ResponseHeaders): void {
    this.#dropRetryState();
    this.#remove(request);
    request.reset();
    this.#cleanup();
    this.callbacks.sendLocalReply({
      status: headers.status,
      details: "websocket_handshake_unsuccessful",
      modifyHeaders: (reply) => {
        headers.forEach((name, value) => {
          if (name !== "content-length" && name !== "transfer-encoding" && name !== "content-type") reply.add(name, value);
        });
      },
    });
  }

  onUpstream1xxHeaders(request: UpstreamRequest, headers: ResponseHeaders): void {
    this.chargeCode(headers.status, headers, request.host);
    this.responseStarted = true;
    this.#resetOthers(request);
    // The client has seen part of this try's answer: there is no other one any more.
    this.#dropRetryState();
    this.callbacks.encode1xxHeaders(headers);
  }

  onUpstreamHeaders(request: UpstreamRequest, headers: ResponseHeaders, endStream: boolean): void {
    const { callbacks, config, forwardRoute: route } = this;
    const info = callbacks.streamInfo;
    const host = request.host as Host;
    const { status } = headers;
    const grpc = this.#isGrpc ? grpcStatus(headers) : undefined;
    const grpcHttp = grpc === undefined ? 0 : grpcToHttpStatus(grpc);
    if (host.monitor !== undefined) {
      const code = grpc === undefined ? status : grpcHttp;
      host.monitor.putResult(code >= 500 ? "ext_origin_request_failed" : "ext_origin_request_success", code);
      if (headers.get(config.names.immediateHealthCheckFail) !== undefined) host.monitor.setUnhealthy();
    }
    let couldNotRetry = false;
    const retryState = this.#retryState;
    if (retryState !== undefined) {
      if (request.retried) couldNotRetry = retryState.wouldRetryFromHeaders(headers);
      else {
        const verdict = retryState.shouldRetryHeaders(headers, () => this.#doRetry(false));
        if (verdict === "yes") {
          this.#pendingRetries++;
          host.stats.rq_error.inc();
          this.counters.retried.charge(status);
          this.#remove(request);
          if (!endStream || !request.encodeComplete) request.reset();
          else request.finish();
          return;
        }
        couldNotRetry = this.#noteRefusal(verdict);
      }
    }
    if (route.internalRedirect?.responseCodes.has(status) === true && this.#redirect(headers)) return;
    if (couldNotRetry && this.#mayStillAnswer(request)) {
      // A bad answer, and others may do better: this one is dropped.
      host.stats.rq_error.inc();
      this.#remove(request);
      request.reset();
      return;
    }
    this.#dropRetryState();
    if (this.requestComplete && !config.suppressEnvoyHeaders)
      headers.set(config.names.serviceTime, String(Math.max(0, Math.floor(this.now() - this.#requestCompleteMs))));
    request.canary = this.isCanary(headers, host);
    this.chargeCode(status, headers, host);
    if (status < 500 || status > 599) {
      if (!this.#isGrpc) host.stats.rq_success.inc();
      else if (!endStream) request.grpcSuccessDeferred = true;
      else if (grpc !== undefined && grpcHttp < 500) host.stats.rq_success.inc();
      else host.stats.rq_error.inc();
    }
    if (this.#cookies !== undefined) for (const cookie of this.#cookies) headers.add("set-cookie", cookie);
    info.responseCode = status;
    info.responseCodeDetails = "via_upstream";
    route.finalizeResponseHeaders(headers, info, this.headers);
    this.#modifyHeaders(headers);
    this.responseStarted = true;
    info.upstream = request.upstream;
    this.#resetOthers(request);
    if (
      this.upgrade !== undefined ? status === 101 || (this.headers.protocol !== undefined && status === 200) : this.headers.method === "CONNECT" && status < 300
    )
      callbacks.upgradeAccepted();
    if (endStream) this.#onUpstreamComplete(request);
    callbacks.encodeHeaders(headers, endStream, "via_upstream");
  }

  onUpstreamData(request: UpstreamRequest, data: Buffer, endStream: boolean): void {
    if (endStream) {
      // A gRPC response ends with trailers, or has failed.
      if (request.grpcSuccessDeferred) request.host?.stats.rq_error.inc();
      this.#onUpstreamComplete(request);
    }
    this.callbacks.encodeData(data, endStream);
  }

  onUpstreamTrailers(request: UpstreamRequest, trailers: Trailers): void {
    if (request.grpcSuccessDeferred) {
      const status = grpcStatus(trailers);
      const stats = request.host?.stats;
      if (status !== undefined && grpcToHttpStatus(status) < 500) stats?.rq_success.inc();
      else stats?.rq_error.inc();
    }
    this.#onUpstreamComplete(request);
    this.callbacks.encodeTrailers(trailers);
  }

  onUpstreamReset(request: UpstreamRequest, reason: StreamResetReason, transportFailure: string): void {
    this.#putResult(request, "local_origin_connect_failed", undefined);
    if (this.#maybeRetryReset(reason, request, false)) return;
    const { status, flag } = resetMeaning(reason);
    const dropped = reason === "overflow";
    this.#chargeAbort(status, request);
    this.#remove(request);
    request.finish();
    if (this.#mayStillAnswer(undefined)) return;
    this.#abort(status, flag, resetBody(reason, this.#isRetry), resetDetails(reason, transportFailure, this.responseStarted), dropped);
  }

  onPerTryTimeout(request: UpstreamRequest): void {
    if (this.#hedges) this.#hedge(request);
    else {
      this.counters.perTryTimeout.inc();
      this.#tryTimedOut(request, "upstream_per_try_timeout");
    }
  }

  onPerTryIdleTimeout(request: UpstreamRequest): void {
    if (this.#hedges) this.#hedge(request);
    else {
      this.counters.perTryIdleTimeout.inc();
      this.#tryTimedOut(request, "upstream_per_try_idle_timeout");
    }
  }

  onStreamMaxDuration(request: UpstreamRequest): void {
    this.counters.maxDurationReached.inc();
    request.reset();
    if (this.#maybeRetryReset("local_reset", request, false)) return;
    this.#remove(request);
    this.#cleanup();
    this.#reply(504, "upstream max stream duration reached", "upstream_max_stream_duration_reached", "UMSDR");
  }

  onResponseTimeout(): void {
    const requests = this.#requests.splice(0);
    for (const request of requests) {
      // Counted also where the head was seen: long answers may be cut off, too.
      this.counters.timeout.inc();
      this.virtualCluster?.onTimeout();
      this.routeStats?.onTimeout();
      request.host?.stats.rq_timeout.inc();
      if (request.awaitingHeaders) {
        request.recordsBudget = false;
        if (!request.outlierTimeoutRecorded) this.#putResult(request, "local_origin_timeout", this.#timeoutStatus);
        this.#chargeAbort(this.#timeoutStatus, request);
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
    const retryState = this.#retryState;
    if (this.responseStarted || retryState === undefined || request.retried) return false;
    this.#requestStarted ||= request.requestStarted;
    const verdict = retryState.shouldRetryReset(reason, this.#requestStarted, () => this.#doRetry(isTimeout));
    if (verdict !== "yes") {
      this.#noteRefusal(verdict);
      return false;
    }
    this.#pendingRetries++;
    request.host?.stats.rq_error.inc();
    this.#remove(request);
    request.finish();
    return true;
  }

  /** Sets the flag of a retry that was wanted and not allowed; true if it was wanted. */
  #noteRefusal(verdict: RetryStatus): boolean {
    if (verdict === "no_overflow") this.callbacks.streamInfo.setFlag("UO");
    else if (verdict === "no_limit_exceeded") this.callbacks.streamInfo.setFlag("URX");
    else return false;
    return true;
  }

  #hedge(request: UpstreamRequest): void {
    this.#putResult(request, "local_origin_timeout", this.#timeoutStatus);
    request.outlierTimeoutRecorded = true;
    if (this.responseStarted || this.#retryState === undefined || request.retried) return;
    const verdict = this.#retryState.shouldHedge(() => this.#doRetry(true));
    if (verdict === "yes") {
      this.#pendingRetries++;
      request.retried = true;
    } else this.#noteRefusal(verdict);
  }

  #tryTimedOut(request: UpstreamRequest, details: string): void {
    request.host?.stats.rq_timeout.inc();
    request.reset();
    this.#putResult(request, "local_origin_timeout", this.#timeoutStatus);
    if (this.#maybeRetryReset("local_reset", request, true)) return;
    this.#chargeAbort(this.#timeoutStatus, request);
    this.#remove(request);
    this.#timeoutAbort(details);
  }

  #doRetry(afterTimeout: boolean): void {
    const { callbacks, config, forwardRoute: route, headers } = this;
    const info = callbacks.streamInfo;
    this.#isRetry = true;
    this.#attempts++;
    info.attemptCount = this.#attempts;
    this.#pendingRetries--;
    // The cluster may be gone meanwhile, or be another one of the same name.
    const cluster = callbacks.clusters.get(route.clusterName);
    if (cluster !== undefined) this.#cluster = cluster;
    const source = cluster === undefined ? undefined : this.#chooseSource();
    if (source === undefined) {
      this.#resetAll();
      this.#noHealthyUpstream();
      this.#cleanup();
      return;
    }
    const { virtualHost } = route;
    if (virtualHost.includeRequestAttemptCount) headers.set(config.names.attemptCount, String(this.#attempts));
    if (virtualHost.includeIsTimeoutRetryHeader) headers.set(config.names.isTimeoutRetry, String(afterTimeout));
    this.#setTimeoutHeaders(this.requestComplete ? this.now() - this.#requestCompleteMs : 0);
    const request = new UpstreamRequest(this, source, this.#logEntry());
    this.#requests.push(request);
    const body = this.#body;
    const trailers = this.#trailers;
    request.start(body === undefined && trailers === undefined && this.requestComplete);
    if (body !== undefined) {
      const end = trailers === undefined && this.requestComplete;
      for (let i = 0; i < body.length && this.#newest === request; i++) request.sendData(body[i], end && i === body.length - 1, true);
    }
    if (trailers !== undefined && this.#newest === request) request.sendTrailers(trailers);
  }

  // ---- ends ----------------------------------------------------------------------------------------------------------

  #onUpstreamComplete(request: UpstreamRequest): void {
    this.#remove(request);
    if (!this.requestComplete) request.reset();
    else {
      const ms = Math.floor(this.now() - this.#requestCompleteMs);
      this.counters.budgetPercent?.record(percentOfTimeout(ms, this.timeouts.globalMs));
      this.chargeTime(ms, request.canary, request.host);
      request.finish();
    }
    this.#cleanup();
  }

  #redirect(response: ResponseHeaders): boolean {
    const { counters, callbacks } = this;
    // A body that is still to come, or that was too large to keep, cannot be sent again.
    if (this.requestComplete && !this.#bodyOverflowed) {
      const body = this.#body;
      const verdict = internalRedirect(this.forwardRoute, this.headers, response, callbacks, this.config);
      if (verdict === "same_body" && body !== undefined) callbacks.setDecodingBuffer(Buffer.concat(body));
      const info = callbacks.streamInfo;
      if (verdict !== undefined) {
        info.responseCode = response.status;
        info.responseCodeDetails = "internal_redirect";
      }
      if (verdict !== undefined && callbacks.recreateStream()) {
        counters.redirectSucceeded.inc();
        return true;
      }
    }
    counters.redirectFailed.inc();
    return false;
  }

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
    if (counters.budgetPercent !== undefined) counters.budgetPercent.record(percentOfTimeout(this.now() - this.#requestCompleteMs, timeouts.globalMs));
    this.#abort(this.#timeoutStatus, "UT", this.#timeoutStatus === 504 ? "upstream request timeout" : "", details, false);
  }

  #abort(status: number, flag: ResponseFlag, body: string, details: string, dropped: boolean): void {
    const { config } = this;
    this.callbacks.streamInfo.setFlag(flag);
    this.#resetAll();
    this.#cleanup();
    this.callbacks.sendLocalReply({
      status,
      body,
      details,
      modifyHeaders: (headers) => {
        if (dropped && !config.suppressEnvoyHeaders) headers.set(config.names.overloaded, "true");
        this.#modifyHeaders(headers);
      },
    });
  }

  #noHealthyUpstream(): void {
    this.chargeCode(503, undefined, undefined);
    this.#reply(503, "no healthy upstream", "no_healthy_upstream", "UH");
  }

  #reply(status: number, body: string, details: string, flag: ResponseFlag | undefined): void {
    if (flag !== undefined) this.callbacks.streamInfo.setFlag(flag);
    this.callbacks.sendLocalReply({ status, body, details, modifyHeaders: (headers) => this.#modifyHeaders(headers) });
  }

  #modifyHeaders(headers: ResponseHeaders): void {
    if (this.#attempts > 0 && this.forwardRoute.virtualHost.includeAttemptCountInResponse) headers.set(this.config.names.attemptCount, String(this.#attempts));
  }

  #putResult(request: UpstreamRequest, result: OutlierResult, status: number | undefined): void {
    request.host?.monitor?.putResult(result, status);
  }

  /** Whether a try other than `except` may still bring an answer. */
  #mayStillAnswer(except: UpstreamRequest | undefined): boolean {
    if (this.#pendingRetries > 0) return true;
    for (const request of this.#requests) if (request !== except && request.awaitingHeaders) return true;
    return false;
  }

  get #newest(): UpstreamRequest | undefined {
    return this.#requests[this.#requests.length - 1];
  }

  #remove(request: UpstreamRequest): void {
    const at = this.#requests.indexOf(request);
    if (at >= 0) this.#requests.splice(at, 1);
  }

  #resetOthers(keep: UpstreamRequest): void {
    if (this.#requests.length <= 1) return;
    for (const request of this.#requests.splice(0)) if (request !== keep) request.reset();
    this.#requests.push(keep);
  }

  #resetAll(): void {
    if (this.#requests.length === 0) return;
    for (const request of this.#requests.splice(0)) request.reset();
  }

  #dropRetryState(): void {
    this.#retryState?.dispose();
    this.#retryState = undefined;
    this.#pendingRetries = 0;
  }

  #cleanup(): void {
    this.#dropRetryState();
    this.#responseTimer?.disable();
    this.#responseTimer = undefined;
    this.#body = undefined;
  }
}

/** The bytes of a request are those of all its tries. */
function addBytes(to: BytesMeter, from: BytesMeter): void {
  to.wireBytesReceived += from.wireBytesReceived;
  to.wireBytesSent += from.wireBytesSent;
  to.headerBytesReceived += from.headerBytesReceived;
  to.headerBytesSent += from.headerBytesSent;
}
