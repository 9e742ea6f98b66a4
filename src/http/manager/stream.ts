/** One request and its response, from the codec through the filters and back: Envoy's ConnectionManagerImpl::ActiveStream. */
import type { AccessLogType, FormatContext } from "../../formatter/formatter.ts";
import { getLogger } from "../../log/log.ts";
import type { Connection } from "../../net/connection.ts";
import type { TimerWheel } from "../../net/timer-wheel.ts";
import type { Route } from "../../router/route.ts";
import type { ThreadLocalClusters } from "../../upstream/upstream.ts";
import type { RequestDecoder, ResponseEncoder, StreamCallbacks, StreamResetReason } from "../codec.ts";
import type { LocalReply } from "../filter.ts";
import { type RequestHeaders, ResponseHeaders, type Trailers } from "../header-map.ts";
import { StreamInfo } from "../stream-info.ts";
import type { ConnectionManager } from "./connection-manager.ts";
import { FilterManager } from "./filter-manager.ts";
import { FilterSlot } from "./filter-slot.ts";
import { connectionTokens, grpcStatusOf, grpcTimeoutMs, isGrpcRequest, percentEncode } from "./messages.ts";
import { mutateRequest, normalizePath, stripHost } from "./request-mutation.ts";
import { finalizeResponse } from "./response-mutation.ts";
import type { ChainFilter, ManagerSettings } from "./settings.ts";

const log = getLogger("http");

export class ActiveStream extends FilterManager implements RequestDecoder, StreamCallbacks, FormatContext {
  readonly manager: ConnectionManager;
  readonly settings: ManagerSettings;
  readonly info: StreamInfo;
  encoder: ResponseEncoder | undefined;
  /** Absolute moments (clock of the timer wheel) at which something is due; Infinity: never. */
  idleTimeoutMs: number;
  lastActivityMs: number;
  durationDueMs = Number.POSITIVE_INFINITY;
  requestDueMs = Number.POSITIVE_INFINITY;
  nextLogMs = Number.POSITIVE_INFINITY;
  /** The exchange asks for the connection to end behind it (its own field, or HTTP/1.0). */
  closeAfter = false;
  isUpgrade = false;
  /** An internal redirect has put another stream in its place. */
  isReplaced = false;
  localReplyBody = "";
  accessLogType: AccessLogType = "NotSet";
  #random = -1;
  #routeKnown = false;
  #route: Route | undefined = undefined;
  #chainMade = false;
  #isHead = false;
  #isGrpc = false;
  #localComplete = false;
  /** Made by an internal redirect: its head has been through all of our changes before. */
  #recreated = false;
  #downstreamPauses = 0;

  constructor(manager: ConnectionManager, encoder: ResponseEncoder, nowMs: number) {
    super();
    this.manager = manager;
    this.settings = manager.settings;
    this.encoder = encoder;
    this.info = new StreamInfo(nowMs, Date.now());
    this.lastActivityMs = nowMs;
    this.idleTimeoutMs = this.settings.streamIdleTimeoutMs;
    this.decoderBufferLimit = manager.bufferLimit;
    this.encoderBufferLimit = manager.bufferLimit;
    if (this.settings.maxStreamDurationMs > 0) this.durationDueMs = nowMs + this.settings.maxStreamDurationMs;
    if (this.settings.requestTimeoutMs > 0) this.requestDueMs = nowMs + this.settings.requestTimeoutMs;
    this.info.downstreamMeter = encoder.stream.bytesMeter;
    manager.describeConnection(this.info);
    encoder.stream.addCallbacks(this);
  }

  get connection(): Connection {
    return this.manager.connection;
  }
  get timers(): TimerWheel {
    return this.settings.context.timers;
  }
  get clusters(): ThreadLocalClusters {
    return this.settings.context.clusters;
  }

  // ---- from the codec --------------------------------------------------------------------------------------------------

  decodeHeaders(headers: RequestHeaders, endStream: boolean): void {
    const { settings, info, manager } = this;
    this.#touch();
    this.requestHeaders = headers;
    info.protocol = manager.protocol;
    // Other fields may hold secrets and are not logged.
    if (log.debugEnabled)
      log.debug(
        `[C${manager.connection.id}] request headers complete (end_stream=${endStream}): ${headers.method} ${headers.authority ?? ""} ${headers.path ?? ""}`,
      );
    if (endStream) this.#requestEnds();
    this.#isHead = headers.method === "HEAD";
    if (this.#refusedForOverload()) return;
    const { list } = headers;
    let upgrade = false;
    let expects = false;
    for (let i = 0; i < list.length; i += 2) {
      const name = list[i];
      if (name === "connection" || name === "proxy-connection") {
        const tokens = connectionTokens(list[i + 1]);
        if (tokens.close) this.closeAfter = true;
        if (tokens.upgrade) upgrade = true;
      } else if (name === "expect") expects = true;
      else if (name === "content-type") this.#isGrpc = isGrpcRequest(list[i + 1]);
    }
    if (info.protocol === "HTTP/1.0" && !/keep-alive/i.test(headers.get("connection") ?? "")) this.closeAfter = true;
    this.isUpgrade = headers.method === "CONNECT" || (upgrade && headers.get("upgrade") !== undefined);
    if (expects && !settings.proxy100Continue && /^100-continue$/i.test(headers.get("expect") ?? "")) {
      this.#count(100);
      this.encoder?.encode1xxHeaders(new ResponseHeaders(100));
      headers.remove("expect");
    }
    if (headers.authority === undefined) {
      this.closeAfter = true;
      this.sendLocalReply({ status: 400, details: "missing_host_header" });
      return;
    }
    if (headers.method !== "CONNECT") {
      const { path } = headers;
      if (path === undefined || path === "") {
        this.sendLocalReply({ status: 404, details: "missing_path_rejected" });
        return;
      }
      if (path.charCodeAt(0) !== 47) {
        settings.stats.downstream_rq_non_relative_path.inc();
        this.sendLocalReply({ status: 404, details: "absolute_path_rejected" });
        return;
      }
      // A fragment is no part of a request target (RFC 9112 3.2), and what reads it differently further on must not see one.
      if (path.includes("#")) {
        settings.stats.downstream_rq_failed_path_normalization.inc();
        this.closeAfter = true;
        this.sendLocalReply({ status: 400, details: "path_normalization_failed" });
        return;
      }
      if (settings.changesPaths) {
        const normal = normalizePath(path, settings);
        if (normal.action === "reject") {
          settings.stats.downstream_rq_failed_path_normalization.inc();
          this.closeAfter = true;
          this.sendLocalReply({ status: 400, details: "path_normalization_failed" });
          return;
        }
        if (normal.action === "redirect") {
          settings.stats.downstream_rq_redirected_with_normalized_path.inc();
          this.sendLocalReply({ status: 307, details: "path_normalization_failed", modifyHeaders: (reply) => reply.set("location", normal.path) });
          return;
        }
        headers.path = normal.path;
      }
    }
    if (settings.changesHosts) stripHost(headers, settings, manager.localPort);
    mutateRequest(headers, manager.connection, settings, info, this.isUpgrade);
    if (settings.logFlushIntervalMs > 0) this.nextLogMs = info.startMs + settings.logFlushIntervalMs;
    const route = this.route();
    this.#applyRouteTimeouts(route);
    // Without a route the router says 404; one that does not allow the upgrade says 403.
    if (!this.#createChain(route) && route !== undefined) {
      settings.stats.downstream_rq_ws_on_non_ws_route.inc();
      this.sendLocalReply({ status: 403, details: "upgrade_failed" });
      return;
    }
    if (settings.flushLogOnNewRequest) {
      this.accessLogType = "DownstreamStart";
      settings.accessLog.log(this);
    }
    manager.watch(this);
    if (settings.overload.sheds("envoy.load_shed_points.http_downstream_filter_check")) {
      settings.context.stats.counter(`${settings.statPrefix}rq_overload_local_reply`).inc();
      this.sendLocalReply({ status: 503, body: "envoy overloaded", details: "overload", modifyHeaders: (reply) => reply.set(this.#overloadedName(), "true") });
      return;
    }
    this.decodeHeadersFrom(0, headers, endStream);
  }

  /** Under overload a request is answered before anything is made for it. */
  #refusedForOverload(): boolean {
    const { overload, stats } = this.settings;
    if (!this.manager.multiplexes && overload.sheds("envoy.load_shed_points.http1_server_abort_dispatch")) {
      stats.downstream_rq_overload_close.inc();
      stats.downstream_rq_rx_reset.inc();
      this.info.setFlag("DPE");
      this.manager.onOverloadAbort();
      this.closeAfter = true;
      this.#chainMade = true;
      this.#localReply({ status: 500, body: "Internal Server Error", details: "overload" });
      return true;
    }
    if (!overload.sheds("envoy.load_shed_points.http_connection_manager_decode_headers") && !overload.stopsRequests) return false;
    stats.downstream_rq_overload_close.inc();
    this.#chainMade = true;
    this.#localReply({ status: 503, body: "envoy overloaded", details: "overload", modifyHeaders: (reply) => reply.set(this.#overloadedName(), "true") });
    return true;
  }

  #overloadedName(): string {
    return `${this.settings.headerPrefix}-local-overloaded`;
  }

  /** Bytes that are kept for this stream: held by filters, and on their way to the client. */
  get heldBytes(): number {
    return this.decoded.length + this.encoded.length + this.manager.connection.writeBuffered;
  }

  /** The overload manager ends it. */
  resetForMemory(): void {
    this.info.setFlag("OM");
    this.info.responseCodeDetails = "overload_manager_reset";
    this.resetDownstream("local_reset");
  }

  decodeData(chunk: Buffer, endStream: boolean): void {
    this.#touch();
    this.info.bytesReceived += chunk.length;
    if (endStream) this.#requestEnds();
    this.decodeDataFrom(0, chunk, endStream, false);
  }

  decodeTrailers(trailers: Trailers): void {
    this.#touch();
    this.requestTrailers = trailers;
    this.#requestEnds();
    this.decodeTrailersFrom(0, trailers);
  }

  /** Also of RequestDecoder: the codec refuses the request. */
  sendLocalReply(reply: LocalReply): void;
  sendLocalReply(status: number, body: string, details: string): void;
  sendLocalReply(reply: LocalReply | number, body = "", details = ""): void {
    if (typeof reply !== "number") {
      this.#localReply(reply);
      return;
    }
    if (reply !== 408) {
      this.manager.onProtocolError();
      this.info.setFlag("DPE");
    }
    this.info.protocol ??= this.manager.protocol;
    this.closeAfter = true;
    this.#localReply({ status: reply, body, details });
  }

  onResetStream(reason: StreamResetReason, details: string): void {
    const { info, settings } = this;
    settings.stats.downstream_rq_rx_reset.inc();
    if (reason === "connection_termination") {
      info.setFlag("DC");
      info.responseCodeDetails = details === "" ? "downstream_remote_disconnect" : details;
    } else if (details !== "") {
      info.responseCodeDetails = details;
      if (reason === "local_reset" || reason === "protocol_error") info.setFlag("DPE");
    }
    info.protocol ??= this.manager.protocol;
    if (reason === "remote_reset" || reason === "remote_refused_stream_reset") info.setFlag("DR");
    this.#finish();
  }

  onAboveWriteBufferHighWatermark(): void {
    this.aboveDownstreamHighWatermark();
  }
  onBelowWriteBufferLowWatermark(): void {
    this.belowDownstreamLowWatermark();
  }

  // ---- timeouts: called by the connection manager's one timer --------------------------------------------------------------

  /** The next moment at which this stream must be looked at. */
  get dueMs(): number {
    const idle = this.idleTimeoutMs > 0 ? this.#idleEndsMs() : Number.POSITIVE_INFINITY;
    return Math.min(idle, this.durationDueMs, this.requestDueMs, this.nextLogMs);
  }

  #idleEndsMs(): number {
    const { overload } = this.settings;
    return this.lastActivityMs + (overload.scalesTimers ? overload.timeout("HTTP_DOWNSTREAM_STREAM_IDLE", this.idleTimeoutMs) : this.idleTimeoutMs);
  }

  onDue(nowMs: number): void {
    const { stats } = this.settings;
    if (this.nextLogMs <= nowMs) {
      this.nextLogMs = nowMs + this.settings.logFlushIntervalMs;
      this.accessLogType = "DownstreamPeriodic";
      this.settings.accessLog.log(this);
    }
    if (this.requestDueMs <= nowMs) {
      this.requestDueMs = Number.POSITIVE_INFINITY;
      stats.downstream_rq_timeout.inc();
      this.sendLocalReply({ status: this.#timeoutStatus(), body: "request timeout", details: "request_overall_timeout" });
    } else if (this.durationDueMs <= nowMs) {
      this.durationDueMs = Number.POSITIVE_INFINITY;
      stats.downstream_rq_max_duration_reached.inc();
      this.sendLocalReply({
        status: this.#timeoutStatus(),
        body: "downstream duration timeout",
        details: "max_duration_timeout",
        grpcStatus: 4,
      });
    } else if (this.idleTimeoutMs > 0 && this.#idleEndsMs() <= nowMs) {
      stats.downstream_rq_idle_timeout.inc();
      this.info.setFlag("SI");
      if (this.headersSent) {
        this.info.responseCodeDetails = "stream_idle_timeout";
        this.#end();
      } else this.sendLocalReply({ status: this.#timeoutStatus(), body: "stream timeout", details: "stream_idle_timeout" });
    }
  }

  #timeoutStatus(): number {
    return this.requestComplete ? 504 : 408;
  }

  // ---- FilterManager -----------------------------------------------------------------------------------------------------------

  route(): Route | undefined {
    if (this.#routeKnown) return this.#route;
    this.#routeKnown = true;
    const headers = this.requestHeaders;
    const routes = headers === undefined ? undefined : this.settings.routes.of(headers);
    if (routes === undefined || headers === undefined) return undefined;
    if (this.#random < 0) this.#random = Math.floor(Math.random() * 0x1_0000_0000);
    const { info } = this;
    const route = routes.match(headers, info, this.#random);
    this.#route = route;
    info.route = route;
    info.routeResolutionCount++;
    info.routeName = route?.name ?? "";
    info.virtualHostName = route?.virtualHost.name ?? "";
    if (route?.kind === "forward") {
      info.upstreamClusterName = route.clusterName;
      info.cluster = this.settings.context.clusters.get(route.clusterName)?.info;
    }
    const limit = route?.requestBodyBufferLimitBytes ?? route?.virtualHost.requestBodyBufferLimitBytes;
    if (limit !== undefined) this.decoderBufferLimit = limit;
    return route;
  }

  clearRouteCache(): void {
    this.#routeKnown = false;
    this.#route = undefined;
  }

  resetDownstream(reason: StreamResetReason): void {
    if (this.destroyed) return;
    const { stats } = this.settings;
    stats.downstream_rq_tx_reset.inc();
    // The codec reports our own reset back, and Envoy counts that as one received.
    stats.downstream_rq_rx_reset.inc();
    const { encoder } = this;
    encoder?.stream.removeCallbacks(this);
    this.#finish();
    encoder?.stream.resetStream(reason);
    this.manager.afterStream(this);
  }

  onUpgradeAccepted(): void {
    // A tunnel has no end of its own to wait for.
    this.requestDueMs = Number.POSITIVE_INFINITY;
  }

  pauseDownstream(): void {
    if (this.encoder === undefined) return;
    this.#downstreamPauses++;
    this.settings.stats.downstream_flow_control_paused_reading_total.inc();
    this.encoder.stream.readDisable(true);
  }

  resumeDownstream(): void {
    if (this.#downstreamPauses === 0 || this.encoder === undefined || this.destroyed) return;
    this.#downstreamPauses--;
    this.settings.stats.downstream_flow_control_resumed_reading_total.inc();
    this.encoder.stream.readDisable(false);
  }

  recreateStream(): boolean {
    if (!this.requestComplete || this.encoder === undefined || this.requestHeaders === undefined || this.headersSent) return false;
    const { encoder } = this;
    const body = this.decoded.take();
    encoder.stream.removeCallbacks(this);
    this.encoder = undefined;
    this.isReplaced = true;
    const next = this.manager.replaceStream(this, encoder);
    next.#adopt(this);
    const headers = this.requestHeaders;
    this.#finish();
    next.#restart(headers, body);
    return true;
  }

  protected send1xx(headers: ResponseHeaders): void {
    if (!this.settings.proxy100Continue) return;
    this.#count(headers.status);
    finalizeResponse(headers, this.requestHeaders, this, true);
    this.encoder?.encode1xxHeaders(headers);
  }

  protected sendHeaders(headers: ResponseHeaders, endStream: boolean): void {
    const { info, encoder, manager } = this;
    this.#touch();
    this.headersSent = true;
    info.responseCode = headers.status;
    info.firstDownstreamTxByteMs = this.lastActivityMs;
    finalizeResponse(headers, this.requestHeaders, this, false);
    manager.beforeResponse(this, headers, this.isUpgrade);
    this.#count(headers.status);
    if (encoder === undefined) return;
    if (endStream) this.#localComplete = true;
    if (log.debugEnabled) log.debug(`[C${this.manager.connection.id}] encoding headers via codec (end_stream=${endStream}): ${headers.status}`);
    encoder.encodeHeaders(headers, endStream);
    if (endStream) this.#end();
  }

  protected sendData(data: Buffer, endStream: boolean): void {
    const { encoder } = this;
    if (encoder === undefined) return;
    this.#touch();
    this.info.bytesSent += data.length;
    if (endStream) this.#localComplete = true;
    encoder.encodeData(data, endStream);
    if (endStream) this.#end();
  }

  protected sendTrailers(trailers: Trailers): void {
    const { encoder } = this;
    if (encoder === undefined) return;
    this.#touch();
    this.#localComplete = true;
    encoder.encodeTrailers(trailers);
    this.#end();
  }

  protected onRequestTooLarge(): void {
    this.settings.stats.downstream_rq_too_large.inc();
    this.sendLocalReply({ status: 413, body: "Payload Too Large", details: "request_payload_too_large" });
  }

  protected onResponseTooLarge(): void {
    this.settings.stats.rs_too_large.inc();
    if (this.headersSent) {
      this.info.responseCodeDetails = "response_payload_too_large";
      this.resetDownstream("local_reset");
    } else this.sendLocalReply({ status: 500, body: "Internal Server Error", details: "response_payload_too_large" });
  }

  // ---- replies of our own --------------------------------------------------------------------------------------------------

  #localReply(reply: LocalReply): void {
    if (this.destroyed || this.#localComplete) return;
    const { info, settings } = this;
    this.decodeAborted = true;
    this.decoded.clear();
    info.responseCodeDetails = reply.details;
    // A request that was refused before filters saw it still meets those that look at responses, and the access log.
    if (!this.#chainMade) this.#createChain(undefined);
    for (const slot of this.slots) slot.filter.onLocalReply?.(reply.status, reply.details);
    if (this.destroyed) return;
    if (this.headersSent) {
      this.resetDownstream("local_reset");
      return;
    }
    const started = this.responseHeaders !== undefined;
    const headers = new ResponseHeaders(reply.status);
    // Whoever answers a routed request, its route's response fields go with the answer. (A direct response adds its own.)
    const { route } = info;
    if (route !== undefined && route.kind !== "direct" && this.requestHeaders !== undefined) route.finalizeResponseHeaders(headers, info, this.requestHeaders);
    reply.modifyHeaders?.(headers);
    this.responseHeaders = headers;
    info.responseCode = reply.status;
    let body = reply.body ?? "";
    let contentType = reply.contentType ?? "text/plain";
    const typeBefore = headers.get("content-type");
    if (settings.localReplies !== undefined) {
      this.localReplyBody = body;
      const rewritten = settings.localReplies.rewrite(this as FormatContext & { readonly responseHeaders: ResponseHeaders }, body);
      body = rewritten.body;
      if (rewritten.contentType !== "text/plain") contentType = rewritten.contentType;
    }
    this.localReplyBody = body;
    // As text of latin1 code units or, from formats with other characters, UTF-8.
    const bytes = body === "" ? undefined : Buffer.from(body, isLatin1(body) ? "latin1" : "utf8");
    if (this.#isGrpc) {
      const status = headers.status;
      headers.status = 200;
      headers.set("content-type", "application/grpc");
      if (headers.get("grpc-status") === undefined) headers.set("grpc-status", String(reply.grpcStatus ?? grpcStatusOf(status)));
      if (bytes !== undefined && !this.#isHead) headers.set("grpc-message", percentEncode(bytes));
      headers.remove("content-length");
      this.#reply(headers, undefined, started);
      return;
    }
    if (bytes !== undefined) {
      headers.set("content-length", String(bytes.length));
      const type = headers.get("content-type");
      if (type === undefined || (settings.localReplies !== undefined && type === typeBefore)) headers.set("content-type", contentType);
    } else {
      headers.remove("content-length");
      headers.remove("content-type");
    }
    this.#reply(headers, this.#isHead ? undefined : bytes, started);
  }

  #reply(headers: ResponseHeaders, body: Buffer | undefined, started: boolean): void {
    if (started) {
      // Filters are at work on another response: this one goes past them.
      this.encodeAborted = true;
      this.encoded.clear();
      this.responseComplete = true;
      this.sendHeaders(headers, body === undefined);
      if (body !== undefined && !this.destroyed) this.sendData(body, true);
      return;
    }
    this.responseComplete = body === undefined;
    this.encodeHeadersFrom(this.slots.length - 1, headers, body === undefined);
    if (body === undefined || this.destroyed || this.encodeAborted) return;
    this.responseComplete = true;
    this.encodeDataFrom(this.slots.length - 1, body, true, true);
  }

  // ---- chain -----------------------------------------------------------------------------------------------------------------

  /** False: an upgrade that neither route nor configuration allows. */
  #createChain(route: Route | undefined): boolean {
    this.#chainMade = true;
    const { settings } = this;
    let filters: readonly ChainFilter[] = settings.filters;
    let allowed = true;
    const headers = this.requestHeaders;
    if (this.isUpgrade && headers !== undefined) {
      const kind = headers.method === "CONNECT" ? "connect" : (headers.get("upgrade") ?? "").toLowerCase();
      const configured = settings.upgrades.get(kind);
      const byRoute = route?.kind === "forward" ? route.upgrades.get(kind) : undefined;
      allowed = byRoute ?? configured?.enabled ?? false;
      if (allowed && configured?.filters !== undefined) filters = configured.filters;
      if (allowed) this.manager.onUpgrade(this);
    }
    const { slots } = this;
    for (const filter of filters) {
      if (filters.length > 1 || filter.disabled) if (route?.filterDisabled(filter.name) ?? filter.disabled) continue;
      const made = filter.factory();
      const slot = new FilterSlot(made, filter.name, slots.length, this);
      slots.push(slot);
      made.setDecoderCallbacks?.(slot);
      made.setEncoderCallbacks?.(slot);
    }
    return allowed;
  }

  #applyRouteTimeouts(route: Route | undefined): void {
    if (route?.kind !== "forward") return;
    if (route.idleTimeoutMs !== undefined) this.idleTimeoutMs = route.idleTimeoutMs;
    const duration = route.maxStreamDuration;
    if (duration === undefined) return;
    let limit = duration.maxMs;
    if (duration.grpcTimeoutHeaderMaxMs !== undefined) {
      const asked = grpcTimeoutMs(this.requestHeaders?.get("grpc-timeout")) ?? 0;
      limit = asked;
      if (duration.grpcTimeoutHeaderMaxMs !== 0 && (asked > duration.grpcTimeoutHeaderMaxMs || asked === 0)) limit = duration.grpcTimeoutHeaderMaxMs;
      if (duration.grpcTimeoutHeaderOffsetMs > 0 && limit > duration.grpcTimeoutHeaderOffsetMs) limit -= duration.grpcTimeoutHeaderOffsetMs;
    }
    if (limit === undefined) return;
    this.durationDueMs = limit > 0 ? this.lastActivityMs + limit : Number.POSITIVE_INFINITY;
  }

  // ---- internal redirects --------------------------------------------------------------------------------------------------

  #adopt(before: ActiveStream): void {
    const { info } = this;
    const old = before.info;
    this.#recreated = true;
    this.#isHead = before.#isHead;
    this.#isGrpc = before.#isGrpc;
    this.isUpgrade = before.isUpgrade;
    this.closeAfter = before.closeAfter;
    info.startMs = old.startMs;
    info.startWallMs = old.startWallMs;
    info.protocol = old.protocol;
    info.bytesReceived = old.bytesReceived;
    info.lastDownstreamRxByteMs = old.lastDownstreamRxByteMs;
    info.downstreamRemoteAddress = old.downstreamRemoteAddress;
    info.isInternalRequest = old.isInternalRequest;
    info.requestId = old.requestId;
    info.streamId = old.streamId;
    if (old.filterState !== undefined) for (const [key, value] of old.filterState) info.setFilterState(key, value);
  }

  #restart(headers: RequestHeaders, body: Buffer | undefined): void {
    this.requestHeaders = headers;
    this.requestComplete = true;
    const route = this.route();
    this.#applyRouteTimeouts(route);
    this.#createChain(route);
    this.manager.watch(this);
    const withBody = body !== undefined && body.length > 0;
    this.decodeHeadersFrom(0, headers, !withBody);
    if (withBody) this.decodeDataFrom(0, body, true, true);
  }

  get isRecreated(): boolean {
    return this.#recreated;
  }

  // ---- the end ---------------------------------------------------------------------------------------------------------------

  #requestEnds(): void {
    this.requestComplete = true;
    this.requestDueMs = Number.POSITIVE_INFINITY;
    this.info.lastDownstreamRxByteMs = this.lastActivityMs;
  }

  #touch(): void {
    this.lastActivityMs = this.timers.clock.now();
  }

  #count(status: number): void {
    this.settings.stats.downstream_rq_completed.inc();
    this.settings.listenerStats.downstream_rq_completed.inc();
    const index = Math.floor(status / 100);
    this.settings.stats.byClass[index]?.inc();
    this.settings.listenerStats.byClass[index]?.inc();
  }

  /** The response is out, or never will be: account, log, and let the connection go on or end. */
  #end(): void {
    if (this.destroyed) return;
    const { encoder } = this;
    this.info.lastDownstreamTxByteMs = this.lastActivityMs;
    const complete = this.requestComplete && this.#localComplete;
    this.#finish();
    if (!complete && encoder !== undefined) {
      const { stats } = this.settings;
      stats.downstream_rq_rx_reset.inc();
      if (!this.#localComplete) stats.downstream_rq_tx_reset.inc();
      encoder.stream.removeCallbacks(this);
      // An answer that is whole goes out before the connection ends; a torn one says so by a reset.
      if (!this.#localComplete || this.manager.multiplexes) encoder.stream.resetStream("local_reset");
    }
    this.manager.afterStream(this);
  }

  #finish(): void {
    if (this.destroyed) return;
    this.destroyed = true;
    const { info, settings, slots } = this;
    info.endMs = this.timers.clock.now();
    settings.stats.downstream_rq_active.dec();
    settings.stats.downstream_rq_time.record(Math.round(info.endMs - info.startMs));
    for (const slot of slots) slot.filter.onStreamComplete?.();
    if (settings.logsAccess) {
      this.accessLogType = "DownstreamEnd";
      settings.accessLog.log(this);
    }
    for (const slot of slots) slot.filter.onDestroy?.();
    this.decoded.clear();
    this.encoded.clear();
    this.manager.forget(this);
  }
}

function isLatin1(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 0xff) return false;
  return true;
}
