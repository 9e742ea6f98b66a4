/** upstream_log: one access log entry per try, with a StreamInfo of its own. */
import type { AccessLogger } from "../../extensions/extension.ts";
import type { AccessLogType, FormatContext } from "../../formatter/formatter.ts";
import type { BytesMeter, StreamResetReason } from "../../http/codec.ts";
import type { RequestHeaders, ResponseHeaders, Trailers } from "../../http/header-map.ts";
import { type ResponseFlag, StreamInfo } from "../../http/stream-info.ts";
import type { Timer, TimerWheel } from "../../net/timer-wheel.ts";
import { resetMeaning } from "./reset-reason.ts";
import type { UpstreamRequest } from "./upstream-request.ts";

export interface UpstreamLogSettings {
  readonly logger: AccessLogger;
  /** flush_upstream_log_on_upstream_stream: an entry when the try gets its connection, too. */
  readonly onPoolReady: boolean;
  /** upstream_log_flush_interval, milliseconds; 0: entries only at the ends. */
  readonly intervalMs: number;
}

export class UpstreamLogEntry implements FormatContext {
  readonly info: StreamInfo;
  readonly requestHeaders: RequestHeaders;
  responseHeaders: ResponseHeaders | undefined = undefined;
  responseTrailers: Trailers | undefined = undefined;
  readonly localReplyBody = "";
  accessLogType: AccessLogType = "UpstreamEnd";
  readonly #settings: UpstreamLogSettings;
  readonly #timers: TimerWheel;
  #timer: Timer | undefined = undefined;

  constructor(settings: UpstreamLogSettings, parent: StreamInfo, requestHeaders: RequestHeaders, timers: TimerWheel) {
    this.#settings = settings;
    this.#timers = timers;
    this.requestHeaders = requestHeaders;
    const { clock } = timers;
    const info = new StreamInfo(clock.now(), clock.wall());
    this.info = info;
    info.route = parent.route;
    info.routeName = parent.routeName;
    info.virtualHostName = parent.virtualHostName;
    info.cluster = parent.cluster;
    info.upstreamClusterName = parent.upstreamClusterName;
    info.connectionId = parent.connectionId;
    info.downstreamRemoteAddress = parent.downstreamRemoteAddress;
    info.downstreamDirectRemoteAddress = parent.downstreamDirectRemoteAddress;
    info.downstreamLocalAddress = parent.downstreamLocalAddress;
    info.downstreamDirectLocalAddress = parent.downstreamDirectLocalAddress;
    info.downstreamTls = parent.downstreamTls;
    info.requestedServerName = parent.requestedServerName;
    info.requestId = parent.requestId;
    info.traceId = parent.traceId;
    info.spanId = parent.spanId;
    info.isHealthCheck = parent.isHealthCheck;
    info.isShadow = parent.isShadow;
    info.connectionFilterState = parent.connectionFilterState;
    if (parent.filterState !== undefined) for (const [key, value] of parent.filterState) info.setFilterState(key, value);
    if (parent.hasDynamicMetadata) for (const [filter, values] of Object.entries(parent.dynamicMetadata)) info.setDynamicMetadata(filter, values);
  }

  setFlag(flag: ResponseFlag): void {
    this.info.setFlag(flag);
  }

  onPoolReady(request: UpstreamRequest, meter: BytesMeter): void {
    const { info } = this;
    const { upstream } = request;
    info.upstream = upstream;
    info.upstreamMeter = meter;
    info.protocol = upstream?.protocol;
    if (upstream?.host !== undefined) info.attemptedHosts = [{ host: upstream.host, connectionId: upstream.connectionId }];
    const { onPoolReady, intervalMs } = this.#settings;
    if (onPoolReady) this.#write("UpstreamPoolReady");
    if (intervalMs > 0) {
      const timer = this.#timers.createTimer(() => {
        this.#write("UpstreamPeriodic");
        timer.enable(intervalMs);
      });
      this.#timer = timer;
      timer.enable(intervalMs);
    }
  }

  /** Bytes of the request's and of the response's body. */
  onSent(bytes: number): void {
    this.info.bytesSent += bytes;
  }
  onReceived(bytes: number): void {
    this.info.bytesReceived += bytes;
  }

  onHeaders(headers: ResponseHeaders): void {
    this.info.responseCode = headers.status;
    this.responseHeaders = headers.clone();
  }

  onTrailers(trailers: Trailers): void {
    this.responseTrailers = trailers;
  }

  onReset(reason: StreamResetReason): void {
    this.info.setFlag(resetMeaning(reason).flag);
  }

  end(request: UpstreamRequest): void {
    this.#timer?.disable();
    const { info } = this;
    info.upstream = request.upstream;
    info.endMs = this.#timers.clock.now();
    this.#write("UpstreamEnd");
  }

  #write(type: AccessLogType): void {
    this.accessLogType = type;
    this.#settings.logger.log(this);
  }
}
