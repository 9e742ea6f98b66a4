/**
 * The router: the last HTTP filter of nearly every chain. Picks the host, sends the request, and hands the response back; how often it
 * tries is request-tries.ts. The order of what happens is Envoy's (source/common/router/router.cc).
 */

import { malformedRequest } from "../../http/field-rules.ts";
import type { FilterDataStatus, FilterHeadersStatus, FilterTrailersStatus, HttpFilter } from "../../http/filter.ts";
import type { RequestHeaders, ResponseHeaders, Trailers } from "../../http/header-map.ts";
import { isGrpcRequest } from "../../http/manager/messages.ts";
import type { ResponseFlag } from "../../http/stream-info.ts";
import type { Fraction } from "../../runtime/runtime.ts";
import type { Host } from "../../upstream/upstream.ts";
import type { DirectRoute } from "../route.ts";
import { grpcStatus, grpcToHttpStatus, wholeNumber } from "./grpc.ts";
import { internalRedirect } from "./internal-redirect.ts";
import { RequestTries } from "./request-tries.ts";
import { createRetryState } from "./retry-state.ts";
import { ShadowStreams } from "./shadow.ts";
import { findMalformed } from "./strict-headers.ts";
import { finalTimeouts, percentOfTimeout } from "./timeouts.ts";
import { UpstreamRequest } from "./upstream-request.ts";

const never: Fraction = { numerator: 0, denominator: 100 };

export class RouterFilter extends RequestTries implements HttpFilter {
  #hasEnvoyFields = false;
  #bodyBytes = 0;
  #bodyOverflowed = false;

  // ---- the request comes ---------------------------------------------------------------------------------------------

  decodeHeaders(headers: RequestHeaders, endStream: boolean): FilterHeadersStatus {
    const { callbacks, config } = this;
    const info = callbacks.streamInfo;
    this.headers = headers;
    config.stats.rq_total.inc();
    const route = callbacks.route();
    if (route === undefined) {
      config.stats.no_route.inc();
      this.reply(404, "", "route_not_found", "NR");
      return "stop";
    }
    if (route.kind === "direct") {
      this.#directResponse(route);
      return "stop";
    }
    const cluster = route.kind === "forward" ? callbacks.clusters.get(route.clusterName) : undefined;
    if (route.kind !== "forward" || cluster === undefined) {
      config.stats.no_cluster.inc();
      this.reply(route.kind === "forward" ? route.clusterNotFoundStatus : 503, "", "cluster_not_found", "NC");
      return "stop";
    }
    this.forwardRoute = route;
    this.cluster = cluster;
    info.cluster = cluster.info;
    info.upstreamClusterName = cluster.info.name;
    this.#scan(headers);
    this.beginStats(cluster.info, route, headers, info, this.isGrpc);
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
    if (this.#refused()) return "stop";
    this.attempts = 1;
    info.attemptCount = 1;
    this.bufferLimit = callbacks.decoderBufferLimit;
    this.#setTimeouts(headers);
    const fields = headers.list.length;
    route.finalizeRequestHeaders(headers, info, config.suppressEnvoyHeaders);
    if (headers.unchecked) {
      const malformed = malformedRequest(headers);
      if (malformed !== undefined) {
        info.setFlag("DPE");
        callbacks.sendLocalReply({
          status: 503,
          body: malformed,
          details: `filter_removed_required_request_headers{${malformed.replace(/\s/g, "_")}}`,
        });
        return "stop";
      }
    }
    // Header changes of the route may have brought fields of ours.
    if (headers.list.length !== fields) this.#scan(headers);
    const source = this.chooseSource();
    if (source === undefined) {
      this.noHealthyUpstream();
      return "stop";
    }
    this.#prepare(headers, endStream);
    const request = new UpstreamRequest(this, source, this.logEntry());
    this.requests.push(request);
    request.start(endStream);
    if (endStream) this.onRequestComplete();
    return "stop";
  }

  decodeData(data: Buffer, endStream: boolean): FilterDataStatus {
    let keeps = this.retryState?.enabled === true || this.forwardRoute.internalRedirect !== undefined;
    if (keeps && !this.#bodyOverflowed && this.bufferLimit > 0 && this.#bodyBytes + data.length > this.bufferLimit) {
      this.counters.retryOrShadowAbandoned.inc();
      this.dropRetryState();
      this.#bodyOverflowed = true;
      this.body = undefined;
      if (this.requests.length === 0) {
        // The only try has failed, and what the next one needs is gone.
        this.cleanup();
        this.reply(507, "exceeded request buffer limit while retrying upstream", "request_payload_exceeded_retry_buffer_limit", undefined);
        return "stop_no_buffer";
      }
    }
    keeps &&= !this.#bodyOverflowed;
    this.shadows?.sendData(data, endStream);
    let chunk = data;
    if (keeps && data.length > 0) {
      chunk = Buffer.from(data);
      (this.body ??= []).push(chunk);
      this.#bodyBytes += chunk.length;
    }
    this.newest?.sendData(chunk, endStream, keeps);
    if (endStream) this.onRequestComplete();
    return "stop_no_buffer";
  }

  decodeTrailers(trailers: Trailers): FilterTrailersStatus {
    this.trailers = trailers;
    this.shadows?.sendTrailers(trailers);
    this.newest?.sendTrailers(trailers);
    this.onRequestComplete();
    return "stop";
  }

  onDestroy(): void {
    this.resetAll();
    this.shadows?.cancel();
    this.cleanup();
    if (this.watchesDownstream) this.callbacks.removeDownstreamWatermarkCallbacks(this);
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
        if (name === "content-type") this.isGrpc = headers.path !== undefined && isGrpcRequest(list[i + 1]);
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

  /** A share of the requests is refused on purpose: maintenance (runtime), drop_overloads of the load assignment. */
  #refused(): boolean {
    const { config, counters } = this;
    const { names } = config;
    const random = config.random();
    if (config.context.runtime.snapshot.featureEnabled(counters.maintenanceKey, never, Math.floor(random * 0x1_0000_0000))) {
      counters.maintenanceMode.inc();
      this.#refuse("maintenance mode", "maintenance_mode", "UO", names.overloaded);
      return true;
    }
    const drop = this.cluster.info.dropOverload ?? 0;
    if (random >= drop) return false;
    if (drop >= 1) this.#refuse("unconditional drop overload", "unconditional_drop_overload", "UDO", names.unconditionalDropOverload);
    else this.#refuse("drop overload", "drop_overload", "DO", names.dropOverload);
    return true;
  }

  #refuse(body: string, details: string, flag: ResponseFlag, field: string): void {
    this.callbacks.streamInfo.setFlag(flag);
    this.chargeCode(503, undefined, undefined);
    this.callbacks.sendLocalReply({
      status: 503,
      body,
      details,
      modifyHeaders: (headers) => {
        if (!this.config.suppressEnvoyHeaders) headers.set(field, "true");
        this.modifyHeaders(headers);
      },
    });
  }

  #setTimeouts(headers: RequestHeaders): void {
    const { config, forwardRoute: route } = this;
    const { names } = config;
    const hasFields = this.#hasEnvoyFields;
    this.hedges = route.hedgePolicy.hedgeOnPerTryTimeout;
    if (hasFields) {
      const hedge = headers.get(names.hedgeOnPerTryTimeout);
      if (hedge === "true" || hedge === "false") this.hedges = hedge === "true";
    }
    this.timeouts = finalTimeouts(route, headers, this.isGrpc, hasFields, { names, respectExpected: config.respectExpectedTimeout });
    this.setTimeoutHeaders(0);
    this.maxStreamDurationMs = this.cluster.info.maxStreamDurationMs ?? 0;
    if (hasFields) {
      const duration = headers.get(names.streamDuration);
      if (duration !== undefined) {
        this.maxStreamDurationMs = wholeNumber(duration) ?? this.maxStreamDurationMs;
        headers.remove(names.streamDuration);
      }
      if (headers.remove(names.timeoutAltResponse) > 0) this.timeoutStatus = 204;
    }
    if (route.virtualHost.includeRequestAttemptCount) headers.set(names.attemptCount, "1");
  }

  /** All that the first try needs, once there is a host to try. */
  #prepare(headers: RequestHeaders, endStream: boolean): void {
    const { config, forwardRoute: route, callbacks } = this;
    if (this.#hasEnvoyFields || route.retryPolicy !== undefined)
      this.retryState = createRetryState(route.retryPolicy, headers, this.#hasEnvoyFields, {
        names: config.names,
        timers: this.timers,
        runtime: config.context.runtime,
        random: config.random,
        resources: this.cluster.info.resourceManager(route.priority),
        counters: this.counters,
        virtualCluster: this.virtualCluster,
        routeStats: this.routeStats,
      });
    if (route.mirrors.length > 0) {
      this.shadows = ShadowStreams.start(route, headers, callbacks, config, this.timeouts.globalMs);
      this.shadows?.sendHeaders(endStream);
    }
  }

  // ---- the response comes --------------------------------------------------------------------------------------------

  #onUpstreamComplete(request: UpstreamRequest): void {
    this.remove(request);
    if (!this.requestComplete) request.reset();
    else {
      const ms = Math.floor(this.now() - this.requestCompleteMs);
      this.counters.budgetPercent?.record(percentOfTimeout(ms, this.timeouts.globalMs));
      this.chargeTime(ms, request.canary, request.host);
      request.finish();
    }
    this.cleanup();
  }

  onUpstream1xxHeaders(request: UpstreamRequest, headers: ResponseHeaders): void {
    this.chargeCode(headers.status, headers, request.host);
    this.responseStarted = true;
    this.resetOthers(request);
    // The client has seen part of this try's answer: there is no other one any more.
    this.dropRetryState();
    this.callbacks.encode1xxHeaders(headers);
  }

  onUpstreamHeaders(request: UpstreamRequest, headers: ResponseHeaders, endStream: boolean): void {
    const { callbacks, config, forwardRoute: route } = this;
    const info = callbacks.streamInfo;
    const host = request.host as Host;
    const { status } = headers;
    const grpc = this.isGrpc ? grpcStatus(headers) : undefined;
    const grpcHttp = grpc === undefined ? 0 : grpcToHttpStatus(grpc);
    if (host.monitor !== undefined) {
      const code = grpc === undefined ? status : grpcHttp;
      host.monitor.putResponse(headers, code);
      if (headers.get(config.names.immediateHealthCheckFail) !== undefined) host.monitor.setUnhealthy();
      if (headers.get(config.names.degraded) !== undefined) host.monitor.putDegraded();
    }
    let couldNotRetry = false;
    const retryState = this.retryState;
    if (retryState !== undefined) {
      if (request.retried) couldNotRetry = retryState.wouldRetryFromHeaders(headers);
      else {
        const verdict = retryState.shouldRetryHeaders(headers, () => this.doRetry(false));
        if (verdict === "yes") {
          this.pendingRetries++;
          host.stats.rq_error.inc();
          this.counters.retried.charge(status);
          this.remove(request);
          if (!endStream || !request.encodeComplete) request.reset();
          else request.finish();
          return;
        }
        couldNotRetry = this.noteRefusal(verdict);
      }
    }
    if (route.internalRedirect?.responseCodes.has(status) === true && this.#redirect(headers)) return;
    if (couldNotRetry && this.mayStillAnswer(request)) {
      // A bad answer, and others may do better: this one is dropped.
      host.stats.rq_error.inc();
      this.remove(request);
      request.reset();
      return;
    }
    this.dropRetryState();
    if (this.requestComplete && !config.suppressEnvoyHeaders)
      headers.set(config.names.serviceTime, String(Math.max(0, Math.floor(this.now() - this.requestCompleteMs))));
    request.canary = this.isCanary(headers, host);
    this.chargeCode(status, headers, host);
    if (status < 500 || status > 599) {
      if (!this.isGrpc) host.stats.rq_success.inc();
      else if (!endStream) request.grpcSuccessDeferred = true;
      else if (grpc !== undefined && grpcHttp < 500) host.stats.rq_success.inc();
      else host.stats.rq_error.inc();
    }
    if (this.cookies !== undefined) for (const cookie of this.cookies) headers.add("set-cookie", cookie);
    info.responseCode = status;
    info.responseCodeDetails = "via_upstream";
    route.finalizeResponseHeaders(headers, info, this.headers);
    this.modifyHeaders(headers);
    this.responseStarted = true;
    info.upstream = request.upstream;
    this.resetOthers(request);
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

  /** The upstream would not speak WebSocket: its head goes back, and nothing else. */
  onWebSocketRefused(request: UpstreamRequest, headers: ResponseHeaders): void {
    this.dropRetryState();
    this.remove(request);
    request.reset();
    this.cleanup();
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

  #redirect(response: ResponseHeaders): boolean {
    const { counters, callbacks } = this;
    // A body that is still to come, or that was too large to keep, cannot be sent again.
    if (this.requestComplete && !this.#bodyOverflowed) {
      const body = this.body;
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
}
