/** envoy.filters.http.fault: delays, aborts and slow responses on purpose, to see what clients make of them. */
import { type AnyMessage, durationMs, isMessage, type JsonObject } from "../../../config/message.ts";
import type { HTTPFault } from "../../../config/schema/types/envoy.extensions.filters.http.fault.v3.d.ts";
import type {
  DecoderFilterCallbacks,
  EncoderFilterCallbacks,
  FilterDataStatus,
  FilterHeadersStatus,
  FilterTrailersStatus,
  HttpFilter,
} from "../../../http/filter.ts";
import type { RequestHeaders } from "../../../http/header-map.ts";
import { compileHeaderMatchers, type HeaderMatcher, matchesAllHeaders } from "../../../matching/header-matcher.ts";
import type { Timer } from "../../../net/timer-wheel.ts";
import type { Fraction, Runtime } from "../../../runtime/runtime.ts";
import type { Counter, Gauge, StatsScope } from "../../../stats/stats.ts";
import type { CompileContext, Extension } from "../../extension.ts";
import { compilePercentage, randomInteger } from "../common.ts";
import { Pacer } from "../rate-limiter.ts";

const pkg = "envoy.extensions.filters.http.fault.v3.";
const common = "envoy.extensions.filters.common.fault.v3.";
const typeName = `${pkg}HTTPFault`;
const metadataName = "envoy.filters.http.fault";
/** How often a slowed response gets its share. */
const tickMs = 50;

interface Settings {
  readonly delay: { readonly fixedMs: number | undefined; readonly percentage: Fraction } | undefined;
  readonly abort:
    | {
        readonly httpStatus: number | undefined;
        readonly grpcStatus: number | undefined;
        readonly byHeader: boolean;
        readonly percentage: Fraction;
        readonly body: string;
      }
    | undefined;
  readonly rate: { readonly fixedKbps: number | undefined; readonly percentage: Fraction } | undefined;
  readonly upstreamCluster: string;
  readonly headers: readonly HeaderMatcher[];
  readonly nodes: ReadonlySet<string>;
  readonly maxActive: number;
  readonly countsClusters: boolean;
  readonly metadata: JsonObject | undefined;
  readonly keys: {
    readonly delayPercent: string;
    readonly abortPercent: string;
    readonly delayDuration: string;
    readonly abortHttpStatus: string;
    readonly abortGrpcStatus: string;
    readonly maxActive: string;
    readonly ratePercent: string;
  };
}

const or = (given: string, fallback: string): string => (given === "" ? fallback : given);

function compileSettings(message: AnyMessage, context: CompileContext): Settings {
  if (!isMessage<HTTPFault>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
  const { delay, abort, responseRateLimit: rate } = message;
  return {
    delay: delay && {
      fixedMs: delay.faultDelaySecifier.case === "fixedDelay" ? durationMs(delay.faultDelaySecifier.value) : undefined,
      percentage: compilePercentage(delay.percentage),
    },
    abort: abort && {
      httpStatus: abort.errorType.case === "httpStatus" ? abort.errorType.value : undefined,
      grpcStatus: abort.errorType.case === "grpcStatus" ? abort.errorType.value : undefined,
      byHeader: abort.errorType.case === "headerAbort",
      percentage: compilePercentage(abort.percentage),
      body: abort.responseBody === "" ? "fault filter abort" : abort.responseBody,
    },
    rate: rate && {
      fixedKbps: rate.limitType.case === "fixedLimit" ? Number(rate.limitType.value.limitKbps) : undefined,
      percentage: compilePercentage(rate.percentage),
    },
    upstreamCluster: message.upstreamCluster,
    headers: compileHeaderMatchers(message.headers, context),
    nodes: new Set(message.downstreamNodes),
    maxActive: message.maxActiveFaults ?? Number.POSITIVE_INFINITY,
    countsClusters: !message.disableDownstreamClusterStats,
    metadata: message.filterMetadata,
    keys: {
      delayPercent: or(message.delayPercentRuntime, "fault.http.delay.fixed_delay_percent"),
      abortPercent: or(message.abortPercentRuntime, "fault.http.abort.abort_percent"),
      delayDuration: or(message.delayDurationRuntime, "fault.http.delay.fixed_duration_ms"),
      abortHttpStatus: or(message.abortHttpStatusRuntime, "fault.http.abort.http_status"),
      abortGrpcStatus: or(message.abortGrpcStatusRuntime, "fault.http.abort.grpc_status"),
      maxActive: or(message.maxActiveFaultsRuntime, "fault.http.max_active_faults"),
      ratePercent: or(message.responseRateLimitPercentRuntime, "fault.http.rate_limit.response_percent"),
    },
  };
}

interface Shared {
  readonly runtime: Runtime;
  readonly scope: StatsScope;
  readonly delays: Counter;
  readonly aborts: Counter;
  readonly slowed: Counter;
  readonly overflow: Counter;
  readonly active: Gauge;
}

/** A whole number in a header. */
function numberIn(headers: RequestHeaders, name: string): number | undefined {
  const text = headers.get(name);
  return text !== undefined && /^[0-9]{1,15}$/.test(text) ? Number(text) : undefined;
}

/** A header may ask for fewer requests than the configuration allows, not for more. */
function limitedBy(percentage: Fraction, headers: RequestHeaders, name: string): Fraction {
  const asked = numberIn(headers, name);
  return asked === undefined ? percentage : { numerator: Math.min(asked, percentage.numerator), denominator: percentage.denominator };
}

class FaultFilter implements HttpFilter {
  readonly #own: Settings;
  readonly #shared: Shared;
  #settings!: Settings;
  #decoder!: DecoderFilterCallbacks;
  #encoder!: EncoderFilterCallbacks;
  #delay: Timer | undefined;
  #pacer: Pacer | undefined;
  #isActive = false;
  #downstreamCluster = "";

  constructor(own: Settings, shared: Shared) {
    this.#own = own;
    this.#shared = shared;
  }

  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#decoder = callbacks;
  }
  setEncoderCallbacks(callbacks: EncoderFilterCallbacks): void {
    this.#encoder = callbacks;
  }

  decodeHeaders(headers: RequestHeaders): FilterHeadersStatus {
    const settings = this.#decoder.routeConfig<Settings>() ?? this.#own;
    this.#settings = settings;
    if (settings.upstreamCluster !== "") {
      const route = this.#decoder.route();
      if (route?.kind !== "forward" || route.clusterName !== settings.upstreamCluster) return "continue";
    }
    if (settings.nodes.size > 0 && !settings.nodes.has(headers.get("x-envoy-downstream-service-node") ?? "")) return "continue";
    if (!matchesAllHeaders(settings.headers, headers)) return "continue";
    this.#downstreamCluster = headers.get("x-envoy-downstream-service-cluster") ?? "";
    this.#slowDown(headers);
    const delayMs = this.#delayOf(headers);
    if (delayMs > 0 && this.#activate()) {
      this.#delay = this.#decoder.createTimer(() => {
        this.#delay = undefined;
        if (!this.#abort(headers)) this.#decoder.continueDecoding();
      });
      this.#delay.enable(delayMs);
      this.#count("delays_injected", this.#shared.delays);
      this.#decoder.streamInfo.setFlag("DI");
      this.#leaveMetadata();
      return "stop";
    }
    return this.#abort(headers) ? "stop_all_and_watermark" : "continue";
  }

  decodeData(): FilterDataStatus {
    return this.#delay === undefined ? "continue" : "stop_and_watermark";
  }
  decodeTrailers(): FilterTrailersStatus {
    return this.#delay === undefined ? "continue" : "stop";
  }

  encodeData(_data: Buffer, endStream: boolean): FilterDataStatus {
    if (this.#pacer === undefined) return "continue";
    this.#pacer.onData(endStream);
    return "stop_and_watermark";
  }
  encodeTrailers(): FilterTrailersStatus {
    return this.#pacer?.onTrailers() === true ? "stop" : "continue";
  }

  onDestroy(): void {
    this.#delay?.disable();
    this.#pacer?.close();
    if (this.#isActive) this.#shared.active.dec();
    this.#isActive = false;
  }

  /** Key of a fault for one downstream cluster, which wins over that for all. */
  #keyOf(key: string): string {
    return this.#downstreamCluster === "" ? "" : key.replace(/^fault\.http\./, `fault.http.${this.#downstreamCluster}.`);
  }

  #isEnabled(key: string, percentage: Fraction): boolean {
    const { snapshot } = this.#shared.runtime;
    const random = randomInteger();
    if (snapshot.featureEnabled(key, percentage, random)) return true;
    const own = this.#keyOf(key);
    return own !== "" && snapshot.get(own) !== undefined && snapshot.featureEnabled(own, percentage, random);
  }

  #integer(key: string, fallback: number): number {
    const { snapshot } = this.#shared.runtime;
    const own = this.#keyOf(key);
    const general = snapshot.integer(key, fallback);
    return own === "" ? general : snapshot.integer(own, general);
  }

  #delayOf(headers: RequestHeaders): number {
    const { delay, keys } = this.#settings;
    if (delay === undefined || !this.#isEnabled(keys.delayPercent, limitedBy(delay.percentage, headers, "x-envoy-fault-delay-request-percentage"))) return 0;
    if (delay.fixedMs === undefined) return numberIn(headers, "x-envoy-fault-delay-request") ?? 0;
    return this.#integer(keys.delayDuration, delay.fixedMs);
  }

  #abort(headers: RequestHeaders): boolean {
    const { abort, keys } = this.#settings;
    if (abort === undefined || !this.#isEnabled(keys.abortPercent, limitedBy(abort.percentage, headers, "x-envoy-fault-abort-request-percentage")))
      return false;
    let status: number | undefined;
    let grpcStatus: number | undefined;
    if (abort.byHeader) {
      status = numberIn(headers, "x-envoy-fault-abort-request");
      if (status !== undefined && (status < 200 || status >= 600)) status = undefined;
      if (status === undefined) grpcStatus = numberIn(headers, "x-envoy-fault-abort-grpc-request");
    } else {
      if (abort.httpStatus !== undefined) status = this.#integer(keys.abortHttpStatus, abort.httpStatus);
      if (abort.grpcStatus !== undefined) grpcStatus = this.#integer(keys.abortGrpcStatus, abort.grpcStatus);
    }
    if ((status === undefined && grpcStatus === undefined) || !this.#activate()) return false;
    this.#count("aborts_injected", this.#shared.aborts);
    this.#decoder.streamInfo.setFlag("FI");
    this.#leaveMetadata();
    this.#decoder.sendLocalReply({
      status: grpcStatus === undefined ? (status as number) : 200,
      body: abort.body,
      details: "fault_filter_abort",
      ...(grpcStatus !== undefined && { grpcStatus }),
    });
    return true;
  }

  #slowDown(headers: RequestHeaders): void {
    const { rate, keys } = this.#settings;
    if (rate === undefined) return;
    const kbps = rate.fixedKbps ?? numberIn(headers, "x-envoy-fault-throughput-response") ?? 0;
    if (kbps === 0 || !this.#isEnabled(keys.ratePercent, limitedBy(rate.percentage, headers, "x-envoy-fault-throughput-response-percentage"))) return;
    if (!this.#activate()) return;
    this.#shared.slowed.inc();
    this.#pacer = new Pacer(
      {
        now: () => this.#encoder.timers.clock.now(),
        createTimer: (callback) => this.#encoder.createTimer(callback),
        held: () => this.#encoder.encodingBuffer(),
        setHeld: (data) => this.#encoder.setEncodingBuffer(data),
        inject: (data, endStream) => this.#encoder.injectEncodedData(data, endStream),
        goOn: () => this.#encoder.continueEncoding(),
      },
      kbps,
      tickMs,
    );
  }

  /** False: there are as many faults as there may be. */
  #activate(): boolean {
    if (this.#isActive) return true;
    const { active, overflow } = this.#shared;
    const { keys, maxActive } = this.#settings;
    if (active.value >= this.#shared.runtime.snapshot.integer(keys.maxActive, maxActive)) {
      overflow.inc();
      return false;
    }
    active.inc();
    this.#isActive = true;
    return true;
  }

  #count(name: string, counter: Counter): void {
    counter.inc();
    if (this.#settings.countsClusters && this.#downstreamCluster !== "") this.#shared.scope.counter(`${this.#downstreamCluster}.${name}`).inc();
  }

  #leaveMetadata(): void {
    const { metadata } = this.#settings;
    if (metadata !== undefined) this.#decoder.streamInfo.setDynamicMetadata(metadataName, metadata);
  }
}

export default {
  honours: {
    [typeName]: "*",
    [`${pkg}FaultAbort`]: "*",
    [`${pkg}FaultAbort.HeaderAbort`]: "*",
    [`${common}FaultDelay`]: ["fixed_delay", "header_delay", "percentage"],
    [`${common}FaultDelay.HeaderDelay`]: "*",
    [`${common}FaultRateLimit`]: "*",
    [`${common}FaultRateLimit.FixedLimit`]: "*",
    [`${common}FaultRateLimit.HeaderLimit`]: "*",
  },
  httpFilter: {
    compile(message: AnyMessage, context, { scope: parent }) {
      const settings = compileSettings(message, context);
      const scope = parent.scope("fault.");
      const shared: Shared = {
        runtime: context.runtime,
        scope,
        delays: scope.counter("delays_injected"),
        aborts: scope.counter("aborts_injected"),
        slowed: scope.counter("response_rl_injected"),
        overflow: scope.counter("faults_overflow"),
        active: scope.gauge("active_faults"),
      };
      return () => new FaultFilter(settings, shared);
    },
    compileRoute: compileSettings,
  },
} satisfies Extension;
