/** envoy.filters.http.grpc_stats: counts calls, messages and outcomes by method. */
import { isMessage } from "../../../config/message.ts";
import type { FilterConfig } from "../../../config/schema/types/envoy.extensions.filters.http.grpc_stats.v3.d.ts";
import type { DecoderFilterCallbacks, FilterDataStatus, FilterHeadersStatus, FilterTrailersStatus, HttpFilter } from "../../../http/filter.ts";
import type { RequestHeaders, ResponseHeaders, Trailers } from "../../../http/header-map.ts";
import type { FilterStateObject } from "../../../http/stream-info.ts";
import type { Extension } from "../../extension.ts";
import { isGrpcRequest } from "../../grpc/content-types.ts";
import { FrameCounter } from "../../grpc/frame-counter.ts";
import { type MethodStats, methodOf, methodStats } from "../../grpc/method-stats.ts";

const pkg = "envoy.extensions.filters.http.grpc_stats.v3.";
const typeName = `${pkg}FilterConfig`;
const stateKey = "envoy.filters.http.grpc_stats";

interface Settings {
  readonly emitFilterState: boolean;
  readonly allMethods: boolean;
  /** "service/method" of those that are counted by name. */
  readonly allowed: ReadonlySet<string>;
  readonly upstreamStats: boolean;
  readonly replaceDots: boolean;
}

/** Filter state: how many messages went each way. */
class MessageCounts implements FilterStateObject {
  request = 0;
  response = 0;
  serializeAsString(): string {
    return `${this.request},${this.response}`;
  }
  serializeAsJson(): unknown {
    return {
      ...(this.request > 0 && { requestMessageCount: String(this.request) }),
      ...(this.response > 0 && { responseMessageCount: String(this.response) }),
    };
  }
  field(name: string): number | undefined {
    return name === "request_message_count" ? this.request : name === "response_message_count" ? this.response : undefined;
  }
}

class GrpcStatsFilter implements HttpFilter {
  readonly #settings: Settings;
  #callbacks!: DecoderFilterCallbacks;
  #isGrpc = false;
  #stats: MethodStats | undefined = undefined;
  #counts: MessageCounts | undefined = undefined;
  readonly #requests = new FrameCounter();
  readonly #responses = new FrameCounter();

  constructor(settings: Settings) {
    this.#settings = settings;
  }
  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#callbacks = callbacks;
  }

  decodeHeaders(headers: RequestHeaders): FilterHeadersStatus {
    this.#isGrpc = isGrpcRequest(headers);
    if (!this.#isGrpc) return "continue";
    const { allMethods, allowed, replaceDots } = this.#settings;
    const route = this.#callbacks.route();
    const cluster = route?.kind === "forward" ? this.#callbacks.clusters.get(route.clusterName) : undefined;
    if (cluster === undefined) return "continue";
    const called = methodOf(headers.path);
    if (allMethods && called === undefined) return "continue";
    const counted = called !== undefined && (allMethods || allowed.has(`${called.service}/${called.method}`)) ? called : undefined;
    const named = counted !== undefined && replaceDots ? { service: counted.service.replaceAll(".", "_"), method: counted.method } : counted;
    this.#stats = methodStats(cluster.info.scope, "grpc", named);
    return "continue";
  }
  decodeData(data: Buffer): FilterDataStatus {
    if (!this.#isGrpc) return "continue";
    const begun = this.#requests.feed(data);
    if (begun > 0) {
      this.#note().request = this.#requests.count;
      this.#stats?.chargeRequestMessages(begun);
    }
    return "continue";
  }
  encodeHeaders(headers: ResponseHeaders, endStream: boolean): FilterHeadersStatus {
    this.#stats?.chargeStatus(headers);
    if (endStream) this.#chargeTime();
    return "continue";
  }
  encodeData(data: Buffer): FilterDataStatus {
    if (!this.#isGrpc) return "continue";
    const begun = this.#responses.feed(data);
    if (begun > 0) {
      this.#note().response = this.#responses.count;
      this.#stats?.chargeResponseMessages(begun);
    }
    return "continue";
  }
  encodeTrailers(trailers: Trailers): FilterTrailersStatus {
    this.#stats?.chargeStatus(trailers);
    this.#chargeTime();
    return "continue";
  }

  #note(): MessageCounts {
    if (this.#counts === undefined) {
      this.#counts = new MessageCounts();
      if (this.#settings.emitFilterState) this.#callbacks.streamInfo.setFilterState(stateKey, this.#counts);
    }
    return this.#counts;
  }
  #chargeTime(): void {
    const upstream = this.#callbacks.streamInfo.upstream;
    if (!this.#settings.upstreamStats || this.#stats === undefined || upstream?.lastTxByteMs === undefined) return;
    this.#stats.chargeUpstreamTime(Math.max(0, Math.floor((upstream.lastRxByteMs ?? performance.now()) - upstream.lastTxByteMs)));
  }
}

export default {
  honours: { [typeName]: "*", "envoy.config.core.v3.GrpcMethodList": "*", "envoy.config.core.v3.GrpcMethodList.Service": "*" },
  httpFilter: {
    compile(message) {
      if (!isMessage<FilterConfig>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      const { perMethodStatSpecifier: specifier } = message;
      const allowed = new Set<string>();
      if (specifier.case === "individualMethodStatsAllowlist")
        for (const service of specifier.value.services) for (const method of service.methodNames) allowed.add(`${service.name}/${method}`);
      const settings: Settings = {
        emitFilterState: message.emitFilterState,
        allMethods: specifier.case === "statsForAllMethods" && specifier.value,
        allowed,
        upstreamStats: message.enableUpstreamStats,
        replaceDots: message.replaceDotsInGrpcServiceName,
      };
      return () => new GrpcStatsFilter(settings);
    },
  },
} satisfies Extension;
