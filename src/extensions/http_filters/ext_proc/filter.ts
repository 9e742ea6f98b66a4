/** A stream that an external processor looks at and changes. */
import { durationMs, type JsonObject } from "../../../config/message.ts";
import type { CommonResponse, ImmediateResponse, ProcessingRequest, ProcessingResponse } from "../../../config/schema/types/envoy.service.ext_proc.v3.d.ts";
import type { GrpcClient, GrpcStream } from "../../../grpc/client.ts";
import type { GrpcStatus } from "../../../grpc/status.ts";
import type {
  DecoderFilterCallbacks,
  EncoderFilterCallbacks,
  FilterDataStatus,
  FilterHeadersStatus,
  FilterTrailersStatus,
  HttpFilter,
} from "../../../http/filter.ts";
import type { HeaderMap, RequestHeaders, ResponseHeaders, Trailers } from "../../../http/header-map.ts";
import { getLogger } from "../../../log/log.ts";
import type { Timer } from "../../../net/timer-wheel.ts";
import { attributeJson } from "../../attributes.ts";
import { Direction, type Owner } from "./direction.ts";
import { decodeResponse, encodeRequest, headerMapMessage } from "./messages.ts";
import { applyMutation } from "./mutations.ts";
import { bodyMode, type ExtProcSettings, type Modes, modesOf, overrideModes, type RouteOverrides } from "./settings.ts";

const log = getLogger("ext_proc");
const pkg = "envoy.service.ext_proc.v3.";

export class ExtProcFilter implements HttpFilter, Owner {
  readonly #settings: ExtProcSettings;
  readonly #clientFor: (overrides: RouteOverrides | undefined) => GrpcClient;
  #decoder!: DecoderFilterCallbacks;
  #overrides: RouteOverrides | undefined = undefined;
  #modes: Modes | undefined = undefined;
  #request!: Direction;
  #response!: Direction;
  #stream: GrpcStream | undefined = undefined;
  #state: "new" | "open" | "done" = "new";
  #timer: Timer | undefined = undefined;
  #toldModes = false;
  #toldRequestAttributes = false;
  #toldResponseAttributes = false;
  #destroyed = false;
  /** Set while the filter is called: what answers at once must not continue a stream that has not stopped yet. */
  active = false;

  constructor(settings: ExtProcSettings, clientFor: (overrides: RouteOverrides | undefined) => GrpcClient) {
    this.#settings = settings;
    this.#clientFor = clientFor;
  }

  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#decoder = callbacks;
    this.#request = new Direction(true, this, {
      continue: () => callbacks.continueDecoding(),
      continueHead: () => callbacks.continueDecodingHead(),
      buffered: () => callbacks.decodingBuffer(),
      setBuffered: (data) => callbacks.setDecodingBuffer(data),
      takeBuffered: () => callbacks.takeDecodingBuffer(),
      add: (data) => callbacks.addDecodedData(data, true),
      inject: (data, endStream) => callbacks.injectDecodedData(data, endStream),
      replaceChunk: (data) => callbacks.replaceDecodedChunk(data),
      addTrailers: () => callbacks.addDecodedTrailers(),
      get bufferLimit() {
        return callbacks.decoderBufferLimit;
      },
    });
  }
  setEncoderCallbacks(callbacks: EncoderFilterCallbacks): void {
    this.#response = new Direction(false, this, {
      continue: () => callbacks.continueEncoding(),
      continueHead: () => callbacks.continueEncodingHead(),
      buffered: () => callbacks.encodingBuffer(),
      setBuffered: (data) => callbacks.setEncodingBuffer(data),
      takeBuffered: () => callbacks.takeEncodingBuffer(),
      add: (data) => callbacks.addEncodedData(data, true),
      inject: (data, endStream) => callbacks.injectEncodedData(data, endStream),
      replaceChunk: (data) => callbacks.replaceEncodedChunk(data),
      addTrailers: () => callbacks.addEncodedTrailers(),
      get bufferLimit() {
        return callbacks.encoderBufferLimit;
      },
    });
  }

  decodeHeaders(headers: RequestHeaders, endStream: boolean): FilterHeadersStatus {
    const routes = this.#decoder.routeConfigs<RouteOverrides>();
    this.#overrides = routes.length === 0 ? undefined : Object.assign({}, ...routes.map((one) => definedOf(one)));
    if (this.#overrides?.disabled === true) return "continue";
    this.#modes = this.#overrides?.modes ?? this.#settings.modes;
    this.active = true;
    this.#apply(this.#modes);
    const status = this.#request.onHeaders(headers, endStream);
    return this.#settings.observability ? "continue" : status;
  }
  decodeData(data: Buffer, endStream: boolean): FilterDataStatus {
    if (this.#modes === undefined) return "continue";
    if (this.#settings.observability) return this.#observeData(this.#request, data, endStream);
    return this.#request.onData(data, endStream);
  }
  decodeTrailers(trailers: Trailers): FilterTrailersStatus {
    if (this.#modes === undefined) return "continue";
    if (this.#settings.observability) {
      if (this.#request.sendsTrailers) this.sendTrailers(this.#request, trailers);
      return "continue";
    }
    return this.#request.onTrailers(trailers);
  }

  encodeHeaders(headers: ResponseHeaders, endStream: boolean): FilterHeadersStatus {
    if (this.#modes === undefined || !this.active) return "continue";
    const status = this.#response.onHeaders(headers, endStream);
    return this.#settings.observability ? "continue" : status;
  }
  encodeData(data: Buffer, endStream: boolean): FilterDataStatus {
    if (this.#modes === undefined) return "continue";
    if (this.#settings.observability) return this.#observeData(this.#response, data, endStream);
    return this.#response.onData(data, endStream);
  }
  encodeTrailers(trailers: Trailers): FilterTrailersStatus {
    if (this.#modes === undefined) return "continue";
    if (this.#settings.observability) {
      if (this.#response.sendsTrailers) this.sendTrailers(this.#response, trailers);
      return "continue";
    }
    return this.#response.onTrailers(trailers);
  }

  #observeData(direction: Direction, data: Buffer, endStream: boolean): FilterDataStatus {
    if (this.active && direction.body !== bodyMode.none && this.#stream?.isAboveWriteBufferHighWatermark !== true) this.sendBody(direction, data, endStream);
    return "continue";
  }

  onDestroy(): void {
    this.#destroyed = true;
    const { stats, observability, deferredCloseMs } = this.#settings;
    this.active = false;
    this.#timer?.disable();
    const stream = this.#stream;
    this.#stream = undefined;
    if (stream === undefined || this.#state !== "open") return;
    this.#state = "done";
    stats.streams_closed.inc();
    stream.end();
    if (!observability || deferredCloseMs === 0) stream.reset();
    else this.#decoder.createTimer(() => stream.reset()).enable(deferredCloseMs);
  }

  // ---- to the processor

  sendHeaders(direction: Direction, headers: HeaderMap, endOfStream: boolean): void {
    const value = {
      $typeName: `${pkg}HttpHeaders` as const,
      headers: headerMapMessage(headers, this.#settings.forwards),
      attributes: {},
      endOfStream,
    };
    this.#send(direction, { case: direction.isRequest ? "requestHeaders" : "responseHeaders", value });
  }
  sendBody(direction: Direction, body: Buffer, endOfStream: boolean): void {
    const value = {
      $typeName: `${pkg}HttpBody` as const,
      body,
      endOfStream,
      endOfStreamWithoutMessage: false,
      grpcMessageCompressed: false,
      drainComplete: false,
    };
    this.#send(direction, { case: direction.isRequest ? "requestBody" : "responseBody", value });
  }
  sendTrailers(direction: Direction, trailers: Trailers): void {
    const value = { $typeName: `${pkg}HttpTrailers` as const, trailers: headerMapMessage(trailers, this.#settings.forwards) };
    this.#send(direction, { case: direction.isRequest ? "requestTrailers" : "responseTrailers", value });
  }

  #send(direction: Direction, request: ProcessingRequest["request"]): void {
    if (!this.active || !this.#open()) return;
    const settings = this.#settings;
    const modes = this.#modes as Modes;
    const names = this.#overrides?.namespaces ?? settings.namespaces;
    const info = this.#decoder.streamInfo;
    const metadata: Record<string, JsonObject> = {};
    if (info.hasDynamicMetadata)
      for (const name of names.forwarding) if (Object.hasOwn(info.dynamicMetadata, name)) metadata[name] = info.dynamicMetadata[name];
    const bodyModes = this.#toldModes ? undefined : { request: modes.requestBody, response: modes.responseBody, withoutWaiting: settings.withoutWaiting };
    this.#toldModes = true;
    this.#stream?.send(encodeRequest(request, { metadata, attributes: this.#attributes(direction), observability: settings.observability, bodyModes }));
    settings.stats.stream_msgs_sent.inc();
    if (!settings.observability) this.#arm(settings.messageTimeoutMs);
  }

  /** Each direction's are told with its first message. */
  #attributes(direction: Direction): JsonObject | undefined {
    const wanted = direction.isRequest
      ? (this.#overrides?.requestAttributes ?? this.#settings.requestAttributes)
      : (this.#overrides?.responseAttributes ?? this.#settings.responseAttributes);
    const told = direction.isRequest ? this.#toldRequestAttributes : this.#toldResponseAttributes;
    if (direction.isRequest) this.#toldRequestAttributes = true;
    else this.#toldResponseAttributes = true;
    if (told || wanted.length === 0) return undefined;
    const { streamInfo, requestHeaders, responseHeaders } = this.#decoder;
    return attributeJson({ info: streamInfo, requestHeaders, responseHeaders, responseTrailers: this.#response.trailers }, wanted);
  }

  #open(): boolean {
    if (this.#state !== "new") return this.#state === "open";
    this.#state = "open";
    const { stats } = this.#settings;
    stats.streams_started.inc();
    this.#stream = this.#clientFor(this.#overrides).stream(
      "envoy.service.ext_proc.v3.ExternalProcessor",
      "Process",
      { parentStreamInfo: this.#decoder.streamInfo },
      {
        onMessage: (message) => this.#onMessage(message),
        onClose: (status) => this.#onClose(status),
      },
    );
    return true;
  }

  #arm(ms: number): void {
    if (ms <= 0) return;
    this.#timer ??= this.#decoder.createTimer(() => this.#onTimeout());
    this.#timer.enable(ms);
  }
  get #isWaiting(): boolean {
    return this.#request.waiting !== "none" || this.#response.waiting !== "none";
  }

  // ---- from the processor

  #onMessage(message: Buffer): void {
    const { stats, observability } = this.#settings;
    if (observability || this.#state !== "open" || this.#destroyed) return;
    const response = decodeResponse(message);
    if (response === undefined) {
      this.#onClose({ code: 13, message: "malformed answer" });
      return;
    }
    if (response.overrideMessageTimeout !== undefined) {
      this.#onNewTimeout(durationMs(response.overrideMessageTimeout, 0));
      return;
    }
    stats.stream_msgs_received.inc();
    this.#timer?.disable();
    this.#keepMetadata(response);
    this.#overrideModes(response);
    const { response: answer } = response;
    switch (answer.case) {
      case "requestHeaders":
        this.#request.onHeadersResponse(answer.value.response);
        break;
      case "responseHeaders":
        this.#response.onHeadersResponse(answer.value.response);
        break;
      case "requestBody":
        this.#request.onBodyResponse(answer.value.response);
        break;
      case "responseBody":
        this.#response.onBodyResponse(answer.value.response);
        break;
      case "requestTrailers":
        this.#request.onTrailersResponse(answer.value.headerMutation);
        break;
      case "responseTrailers":
        this.#response.onTrailersResponse(answer.value.headerMutation);
        break;
      case "immediateResponse":
        this.#onImmediate(answer.value);
        break;
      default:
        this.onSpurious();
    }
    if (!this.#destroyed && this.#isWaiting) this.#arm(this.#settings.messageTimeoutMs);
  }

  #onNewTimeout(ms: number): void {
    const { stats, maxMessageTimeoutMs } = this.#settings;
    if (!this.#isWaiting || ms < 1 || maxMessageTimeoutMs === 0 || ms > maxMessageTimeoutMs) {
      stats.override_message_timeout_ignored.inc();
      return;
    }
    stats.override_message_timeout_received.inc();
    this.#arm(ms);
  }

  #keepMetadata({ dynamicMetadata }: ProcessingResponse): void {
    if (dynamicMetadata === undefined) return;
    const { receiving } = this.#overrides?.namespaces ?? this.#settings.namespaces;
    for (const [name, values] of Object.entries(dynamicMetadata))
      if (receiving.has(name) && values !== null && typeof values === "object" && !Array.isArray(values))
        this.#decoder.streamInfo.setDynamicMetadata(name, values);
  }

  #overrideModes({ modeOverride, response }: ProcessingResponse): void {
    if (modeOverride === undefined || !this.#settings.allowModeOverride || this.#modes === undefined) return;
    // Heads only: a body that is under way is not looked at otherwise.
    if (response.case !== "requestHeaders" && response.case !== "responseHeaders") return;
    const { allowedOverrides } = this.#settings;
    if (allowedOverrides.length > 0) {
      const wanted = JSON.stringify({ ...modesOf(modeOverride), requestHeaders: true });
      if (!allowedOverrides.some((one) => JSON.stringify({ ...one, requestHeaders: true }) === wanted)) return;
    }
    this.#modes = overrideModes(this.#modes, modeOverride);
    this.#apply(this.#modes);
  }
  #apply(modes: Modes): void {
    this.#request.sendsHeaders = modes.requestHeaders;
    this.#request.body = modes.requestBody;
    this.#request.sendsTrailers = modes.requestTrailers;
    this.#response.sendsHeaders = modes.responseHeaders;
    this.#response.body = modes.responseBody;
    this.#response.sendsTrailers = modes.responseTrailers;
  }

  #onImmediate(response: ImmediateResponse): void {
    const { stats, disableImmediateResponse, rules } = this.#settings;
    if (disableImmediateResponse) {
      this.#fail(`immediate_response_disabled`);
      return;
    }
    stats.immediate_responses_sent.inc();
    const status = response.status?.code ?? 200;
    this.#close();
    this.active = false;
    this.#decoder.sendLocalReply({
      status: status < 200 ? 200 : status,
      body: Buffer.from(response.body).toString("latin1"),
      details: response.details === "" ? "ext_proc_immediate_response" : response.details.replace(/\s/g, "_"),
      ...(response.grpcStatus !== undefined && { grpcStatus: response.grpcStatus.status }),
      modifyHeaders: (headers) => {
        applyMutation(headers, response.headers, rules, () => stats.rejected_header_mutations.inc());
      },
    });
  }

  onSpurious(): void {
    const { stats } = this.#settings;
    stats.spurious_msgs_received.inc();
    stats.stream_msgs_received.add(-1);
    this.#close();
    if (this.#failureAllowed) this.#release(true);
    else this.#answer(this.#settings.statusOnError, "spurious_message");
  }

  mutate(direction: Direction, map: HeaderMap, mutation: CommonResponse["headerMutation"]): boolean {
    void direction;
    const { rules, stats } = this.#settings;
    if (applyMutation(map, mutation, rules, () => stats.rejected_header_mutations.inc())) return true;
    this.#fail("Header_mutation_operation_not_allowed");
    return false;
  }

  onHeadersChanged(direction: Direction, clear: boolean, changed: boolean): void {
    if (!direction.isRequest) {
      if (clear) this.#settings.stats.clear_route_cache_ignored.inc();
      return;
    }
    const { routeCache, stats } = this.#settings;
    if (routeCache === "clear" && changed) this.#decoder.clearRouteCache();
    else if (clear && routeCache === "retain") stats.clear_route_cache_disabled.inc();
    else if (clear && !changed) stats.clear_route_cache_ignored.inc();
    else if (clear) this.#decoder.clearRouteCache();
  }

  // ---- how it ends

  get #failureAllowed(): boolean {
    return this.#overrides?.failureModeAllow ?? this.#settings.failureModeAllow;
  }

  #onClose(status: GrpcStatus): void {
    if (this.#state !== "open") return;
    const { stats } = this.#settings;
    this.#state = "done";
    this.#timer?.disable();
    stats.streams_closed.inc();
    if (this.#destroyed) return;
    if (status.code === 0) {
      stats.server_half_closed.inc();
      this.#release(false);
      return;
    }
    stats.streams_failed.inc();
    log.debug(`external processing failed: gRPC status ${status.code} ${status.message}`);
    if (this.#settings.observability) return;
    if (this.#failureAllowed) {
      this.#release(true);
      return;
    }
    // Envoy has the details of the call's own response behind the message.
    const told = status.message === "" ? "" : `{${status.message}${ownFailure.test(status.message) ? "" : "{via_upstream}"}}`;
    this.#answer(this.#settings.statusOnError, `ext_proc_error_gRPC_error_${status.code}${told}`);
  }

  #onTimeout(): void {
    if (!this.#isWaiting || this.#state !== "open") return;
    const { stats } = this.#settings;
    stats.message_timeouts.inc();
    this.#close();
    if (this.#failureAllowed) this.#release(true);
    else this.#answer(504, "ext_proc_error_per-message_timeout_exceeded");
  }

  #fail(why: string): void {
    this.#close();
    if (this.#failureAllowed) this.#release(true);
    else this.#answer(this.#settings.statusOnError, `ext_proc_error_${why}`);
  }

  #answer(status: number, details: string): void {
    this.active = false;
    this.#settings.stats.immediate_responses_sent.inc();
    this.#decoder.sendLocalReply({ status, body: "", details: details.replace(/\s/g, "_") });
  }

  /** Everything goes on without the processor. */
  #release(failed: boolean): void {
    if (failed) this.#settings.stats.failure_mode_allowed.inc();
    this.active = false;
    this.#request.release();
    if (!this.#destroyed) this.#response.release();
  }

  #close(): void {
    this.#timer?.disable();
    if (this.#state !== "open") return;
    this.#state = "done";
    this.#settings.stats.streams_closed.inc();
    this.#stream?.reset();
    this.#stream = undefined;
  }
}

/** Messages of failures that no processor has sent. */
const ownFailure = /^(?:upstream (?:connect error|request timeout)|no healthy upstream|Cluster not available|malformed answer|received message)/;

function definedOf(overrides: RouteOverrides): Partial<RouteOverrides> {
  return Object.fromEntries(Object.entries(overrides).filter(([, value]) => value !== undefined));
}
