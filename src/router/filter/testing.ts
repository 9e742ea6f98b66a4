/** A router filter between a fake stream and a fake upstream, with a clock of its own. */
import type { RequestEncoder, ResponseDecoder, Stream, StreamCallbacks, StreamResetReason } from "../../http/codec.ts";
import type { DecoderFilterCallbacks, DownstreamWatermarkCallbacks, LocalReply } from "../../http/filter.ts";
import { RequestHeaders, ResponseHeaders, Trailers } from "../../http/header-map.ts";
import { FakeClock } from "../../http/manager/testing.ts";
import { emptyUpstreamInfo, StreamInfo } from "../../http/stream-info.ts";
import { ipAddress } from "../../net/address.ts";
import { type Timer, TimerWheel } from "../../net/timer-wheel.ts";
import { loadExtensions, message, testContext } from "../../testing/compile-context.ts";
import type {
  AsyncStream,
  ClusterInfo,
  ClusterStats,
  Host,
  HostMonitor,
  HttpPool,
  LoadBalancerContext,
  PoolCallbacks,
  PoolRequest,
  TcpPoolCallbacks,
  ThreadLocalCluster,
} from "../../upstream/upstream.ts";
import { compileRouteConfiguration } from "../compile.ts";
import type { Route, RouteTable } from "../route.ts";
import { compileRouter } from "./config.ts";
import { RouterFilter } from "./filter.ts";

const retryExtensions = await loadExtensions("envoy.extensions.filters.http.router.v3.Router");

/** One try as the upstream sees it. */
export class FakeStream implements RequestEncoder, Stream {
  readonly decoder: ResponseDecoder;
  readonly host: Host;
  headers: RequestHeaders | undefined = undefined;
  body = "";
  trailers: Trailers | undefined = undefined;
  ended = false;
  resetWith: StreamResetReason | undefined = undefined;
  readDisabled = 0;
  tunnels = false;
  callbacks: StreamCallbacks[] = [];
  readonly bytesMeter = { wireBytesReceived: 0, wireBytesSent: 0, headerBytesReceived: 0, headerBytesSent: 0 };
  readonly responseDetails = "";

  constructor(decoder: ResponseDecoder, host: Host) {
    this.decoder = decoder;
    this.host = host;
  }
  get stream(): Stream {
    return this;
  }
  encodeHeaders(headers: RequestHeaders, endStream: boolean): void {
    this.headers = headers.clone();
    this.ended = endStream;
  }
  encodeData(chunk: Buffer, endStream: boolean): void {
    this.body += chunk.toString("latin1");
    if (endStream) this.ended = true;
  }
  encodeTrailers(trailers: Trailers): void {
    this.trailers = trailers;
    this.ended = true;
  }
  enableTcpTunneling(): void {
    this.tunnels = true;
  }
  addCallbacks(callbacks: StreamCallbacks): void {
    this.callbacks.push(callbacks);
  }
  removeCallbacks(callbacks: StreamCallbacks): void {
    this.callbacks = this.callbacks.filter((one) => one !== callbacks);
  }
  resetStream(reason: StreamResetReason): void {
    this.resetWith = reason;
  }
  readDisable(disable: boolean): void {
    this.readDisabled += disable ? 1 : -1;
  }

  // ---- what the upstream does
  answer(status: number, fields: Record<string, string> = {}, body: string | undefined = undefined): void {
    this.decoder.decodeHeaders(responseHeaders(status, fields), body === undefined);
    if (body !== undefined) this.decoder.decodeData(Buffer.from(body), true);
  }
  fail(reason: StreamResetReason, details = ""): void {
    for (const callbacks of this.callbacks.slice()) callbacks.onResetStream(reason, details);
  }
  header(name: string): string | undefined {
    return this.headers?.get(name);
  }
}

export function responseHeaders(status: number, fields: Record<string, string> = {}): ResponseHeaders {
  return new ResponseHeaders(status, Object.entries(fields).flat());
}

/** How pools of a harness behave: ready at once, when told, or failing. */
export type PoolMode = "ready" | "wait" | Parameters<PoolCallbacks["onPoolFailure"]>[0];

interface Waiting {
  readonly decoder: ResponseDecoder;
  readonly callbacks: PoolCallbacks;
  cancelled: boolean;
}

export interface HarnessOptions {
  /** RouteAction fields. */
  readonly action?: object;
  /** Route fields other than `match` and `route`. */
  readonly route?: object;
  readonly virtualHost?: object;
  /** Router fields. */
  readonly router?: object;
  readonly hosts?: readonly Partial<Host>[];
  readonly cluster?: Partial<ClusterInfo>;
  readonly bufferLimit?: number;
  readonly maxRetries?: number;
  readonly random?: () => number;
  readonly zone?: string;
  readonly missingClusters?: boolean;
}

export class RouterHarness {
  readonly clock = new FakeClock();
  readonly timers = new TimerWheel(this.clock);
  readonly context = testContext({ timers: this.timers, clusters: ["service", "mirror"], extensions: retryExtensions });
  readonly routes: RouteTable;
  readonly filter: RouterFilter;
  readonly info: StreamInfo;
  /** Every try that got a stream. */
  readonly tries: FakeStream[] = [];
  readonly waiting: Waiting[] = [];
  readonly mirrors: FakeMirror[] = [];
  readonly monitorCalls: string[] = [];
  poolMode: PoolMode = "ready";
  transportFailure = "";
  noHosts = false;
  headers: RequestHeaders | undefined = undefined;

  localReply: LocalReply | undefined = undefined;
  response: ResponseHeaders | undefined = undefined;
  interim: number[] = [];
  body = "";
  trailers: Trailers | undefined = undefined;
  ended = false;
  resets = 0;
  clientPaused = 0;
  upgraded = false;
  recreated: Buffer | true | undefined = undefined;
  recreates = true;
  retriesHeld = 0;
  balancer: LoadBalancerContext | undefined = undefined;
  tcpCallbacks: TcpPoolCallbacks | undefined = undefined;
  watermarks: DownstreamWatermarkCallbacks[] = [];
  #decodingBuffer: Buffer | undefined = undefined;
  readonly #options: HarnessOptions;
  readonly hosts: Host[];
  #route: Route | undefined = undefined;
  #next = 0;

  constructor(options: HarnessOptions = {}) {
    this.#options = options;
    const { context } = this;
    const { route = {}, action } = options;
    const target = "direct_response" in route || "redirect" in route || "non_forwarding_action" in route ? {} : { route: { cluster: "service", ...action } };
    this.routes = compileRouteConfiguration(
      message("envoy.config.route.v3.RouteConfiguration", {
        name: "local",
        virtual_hosts: [{ name: "v", domains: ["*"], routes: [{ match: { prefix: "/" }, ...target, ...route }], ...options.virtualHost }],
      }),
      context,
    );
    const config = compileRouter(message("envoy.extensions.filters.http.router.v3.Router", options.router ?? {}), context, {
      name: "envoy.filters.http.router",
      statPrefix: "http.test.",
      scope: context.stats.scope("http.test."),
    });
    if (context.findings.length > 0) throw new Error(context.findings.join("\n"));
    const cluster = this.#cluster("service");
    const mirror = this.#cluster("mirror");
    const clusters = { get: (name: string) => (options.missingClusters ? undefined : name === "service" ? cluster : name === "mirror" ? mirror : undefined) };
    this.hosts = (options.hosts ?? [{}]).map((fields, i) => this.#host(cluster.info, i, fields));
    this.filter = new RouterFilter({
      ...config,
      context: { runtime: context.runtime, clusters },
      random: options.random ?? (() => 0.999),
      zone: options.zone ?? "",
    });
    this.info = new StreamInfo(this.clock.now(), this.clock.wall());
    this.filter.setDecoderCallbacks(this.#callbacks(clusters));
  }

  // ---- what the client does

  /** A whole request, or its head where `body` is null. */
  request(fields: Record<string, string> = {}, options: { method?: string; path?: string; body?: string | null } = {}): this {
    const headers = new RequestHeaders(options.method ?? "GET", options.path ?? "/", "a.test", "http", []);
    for (const [name, value] of Object.entries(fields)) headers.add(name, value);
    this.headers = headers;
    this.filter.decodeHeaders(headers, options.body === undefined);
    if (typeof options.body === "string") this.data(options.body, true);
    return this;
  }
  data(text: string, end = false): this {
    this.filter.decodeData(Buffer.from(text), end);
    return this;
  }
  /** Moves the clock and fires what is due. */
  pass(ms: number): this {
    for (let left = ms; left > 0; left -= 5) {
      this.clock.ms += Math.min(5, left);
      this.timers.advance();
    }
    return this;
  }
  destroy(): void {
    this.filter.onDestroy();
  }

  // ---- what came of it

  get last(): FakeStream {
    const found = this.tries[this.tries.length - 1];
    if (found === undefined) throw new Error("no try was made");
    return found;
  }
  get status(): number | undefined {
    return this.localReply?.status ?? this.response?.status;
  }
  get details(): string | undefined {
    return this.localReply?.details ?? this.info.responseCodeDetails;
  }
  /** Response flags in Envoy's short form, in the order in which they were set. */
  get flags(): string {
    return this.info.flagNames?.join(",") ?? "";
  }
  /** A field of the response, also of a local reply. */
  field(name: string): string | undefined {
    if (this.localReply === undefined) return this.response?.get(name);
    const headers = new ResponseHeaders(this.localReply.status);
    this.localReply.modifyHeaders?.(headers);
    return headers.get(name);
  }
  stat(name: string): number {
    return this.context.stats.counter(name).value;
  }
  cluster(name: string): number {
    return this.stat(`cluster.service.${name}`);
  }
  /** Lets a request that waits for a connection have it. */
  connect(at = 0): FakeStream {
    const [waiting] = this.waiting.splice(at, 1);
    return this.#ready(waiting.decoder, waiting.callbacks, this.hosts[0]);
  }

  #ready(decoder: ResponseDecoder, callbacks: PoolCallbacks, host: Host): FakeStream {
    const stream = new FakeStream(decoder, host);
    this.tries.push(stream);
    const upstream = { ...emptyUpstreamInfo(), host, connectionId: this.tries.length, connectionStreams: 1 };
    callbacks.onPoolReady(stream, host, upstream);
    return stream;
  }

  #host(cluster: ClusterInfo, index: number, fields: Partial<Host>): Host {
    const { stats } = this.context;
    const scope = stats.scope(`host.${index}.`);
    const monitor: HostMonitor = {
      putResult: (result, status) => this.monitorCalls.push(`${result}${status === undefined ? "" : ` ${status}`}`),
      putResponse: (_headers, status) => this.monitorCalls.push(`ext_origin_request_${status >= 500 ? "failed" : "success"} ${status}`),
      putResponseTime: () => {},
      putDegraded: () => this.monitorCalls.push("degraded"),
      setUnhealthy: () => this.monitorCalls.push("unhealthy"),
    };
    return {
      address: ipAddress(`10.0.0.${index + 1}`, 80),
      hostname: "",
      healthCheckHostname: "",
      weight: 1,
      priority: 0,
      locality: { region: "", zone: "", subZone: "" },
      metadata: {},
      canary: false,
      cluster,
      health: "healthy",
      monitor,
      stats: {
        cx_total: scope.counter("cx_total"),
        cx_active: scope.gauge("cx_active"),
        cx_connect_fail: scope.counter("cx_connect_fail"),
        rq_total: scope.counter("rq_total"),
        rq_timeout: scope.counter("rq_timeout"),
        rq_success: scope.counter("rq_success"),
        rq_error: scope.counter("rq_error"),
        rq_active: scope.gauge("rq_active"),
      },
      ...fields,
    };
  }

  #cluster(name: string): ThreadLocalCluster {
    const scope = this.context.stats.scope(`cluster.${name}.`);
    const maxRetries = this.#options.maxRetries ?? 3;
    const info: ClusterInfo = {
      name,
      observabilityName: name,
      metadata: {},
      stats: {} as ClusterStats,
      scope,
      perConnectionBufferLimitBytes: 1 << 20,
      maxResponseHeadersKb: 60,
      maxRequestsPerConnection: 0,
      connectTimeoutMs: 5000,
      timeoutBudgets: false,
      features: { http2: false },
      typeName: "",
      resourceManager: () => ({
        inUse: () => 0,
        tryAcquireRequest: () => true,
        releaseRequest() {},
        tryAcquirePending: () => true,
        releasePending() {},
        tryAcquireConnection: () => true,
        releaseConnection() {},
        tryAcquireRetry: () => {
          if (this.retriesHeld >= maxRetries) {
            scope.counter("upstream_rq_retry_overflow").inc();
            return false;
          }
          this.retriesHeld++;
          return true;
        },
        releaseRetry: () => {
          this.retriesHeld--;
        },
      }),
      ...this.#options.cluster,
    };
    return {
      info,
      hosts: () => this.hosts,
      httpPool: (_priority, _protocol, context) => this.#pool(context),
      tcpConnection: (_priority, _context, callbacks) => {
        if (this.noHosts) return undefined;
        this.tcpCallbacks = callbacks;
        return { cancel() {} };
      },
      httpClient: {
        send: () => {
          throw new Error("the router streams its mirrors");
        },
        start: (options, decoder) => {
          const mirror = new FakeMirror(options.timeoutMs, () => decoder.onResetStream("remote_reset", ""));
          this.mirrors.push(mirror);
          return mirror;
        },
      },
    };
  }

  #pool(context: LoadBalancerContext): HttpPool | undefined {
    this.balancer = context;
    if (this.noHosts) return undefined;
    let host = this.hosts[this.#next++ % this.hosts.length];
    for (let i = 1; i < context.hostSelectionMaxAttempts && context.shouldSelectAnotherHost(host); i++) host = this.hosts[this.#next++ % this.hosts.length];
    return {
      host,
      newStream: (decoder, callbacks): PoolRequest | undefined => {
        const mode = this.poolMode;
        if (mode === "ready") this.#ready(decoder, callbacks, host);
        else if (mode === "wait") {
          const waiting: Waiting = { decoder, callbacks, cancelled: false };
          this.waiting.push(waiting);
          return {
            cancel: () => {
              waiting.cancelled = true;
            },
          };
        } else callbacks.onPoolFailure(mode, this.transportFailure, host);
        return undefined;
      },
    };
  }

  #callbacks(clusters: { get(name: string): ThreadLocalCluster | undefined }): DecoderFilterCallbacks {
    const self = this;
    const { info, timers } = this;
    return {
      streamInfo: info,
      connection: undefined,
      timers,
      clusters,
      downstreamProtocol: "HTTP/1.1",
      get requestHeaders() {
        return self.headers;
      },
      get responseHeaders() {
        return self.response;
      },
      get downstreamEnded() {
        return false;
      },
      get decoderBufferLimit() {
        return self.#options.bufferLimit ?? 1024;
      },
      route(): Route | undefined {
        self.#route ??= self.routes.match(self.headers as RequestHeaders, info, 0);
        return self.#route;
      },
      clearRouteCache(): void {
        self.#route = undefined;
      },
      routeConfig: () => undefined,
      routeConfigs: () => [],
      createTimer: (callback: () => void): Timer => timers.createTimer(callback),
      resetStream(): void {
        self.resets++;
        self.filter.onDestroy();
      },
      continueDecoding(): void {},
      sendLocalReply(reply: LocalReply): void {
        info.responseCodeDetails = reply.details;
        if (self.response !== undefined) {
          self.resets++;
          self.filter.onDestroy();
        } else self.localReply = reply;
      },
      continueDecodingHead(): void {},
      takeDecodingBuffer: () => undefined,
      decodingBuffer: () => self.#decodingBuffer,
      setDecodingBuffer(data: Buffer): void {
        self.#decodingBuffer = data;
      },
      replaceDecodedChunk(): void {},
      addDecodedData(): void {},
      injectDecodedData(): void {},
      addDecodedTrailers: () => new Trailers(),
      setDecoderBufferLimit(): void {},
      encode1xxHeaders(headers: ResponseHeaders): void {
        self.interim.push(headers.status);
      },
      encodeHeaders(headers: ResponseHeaders, endStream: boolean, details: string): void {
        self.response = headers;
        info.responseCodeDetails = details;
        self.ended = endStream;
      },
      encodeData(data: Buffer, endStream: boolean): void {
        self.body += data.toString("latin1");
        if (endStream) self.ended = true;
      },
      encodeTrailers(trailers: Trailers): void {
        self.trailers = trailers;
        self.ended = true;
      },
      onDecoderFilterAboveWriteBufferHighWatermark(): void {
        self.clientPaused++;
      },
      onDecoderFilterBelowWriteBufferLowWatermark(): void {
        self.clientPaused--;
      },
      addDownstreamWatermarkCallbacks(callbacks: DownstreamWatermarkCallbacks): void {
        self.watermarks.push(callbacks);
      },
      removeDownstreamWatermarkCallbacks(callbacks: DownstreamWatermarkCallbacks): void {
        self.watermarks = self.watermarks.filter((one) => one !== callbacks);
      },
      recreateStream(): boolean {
        if (!self.recreates) return false;
        self.recreated = self.#decodingBuffer ?? true;
        self.filter.onDestroy();
        return true;
      },
      upgradeAccepted(): void {
        self.upgraded = true;
      },
    };
  }
}

export class FakeMirror implements AsyncStream {
  readonly isAboveWriteBufferHighWatermark = false;
  readonly timeoutMs: number | undefined;
  readonly fail: () => void;
  headers: RequestHeaders | undefined = undefined;
  body = "";
  ended = false;
  wasReset = false;
  constructor(timeoutMs: number | undefined, fail: () => void) {
    this.timeoutMs = timeoutMs;
    this.fail = fail;
  }
  sendHeaders(headers: RequestHeaders, endStream: boolean): void {
    this.headers = headers;
    this.ended = endStream;
  }
  sendData(data: Buffer, endStream: boolean): void {
    this.body += data.toString("latin1");
    this.ended ||= endStream;
  }
  sendTrailers(): void {
    this.ended = true;
  }
  reset(): void {
    this.wasReset = true;
  }
}
