/** envoy.filters.http.health_check: answers health checks for the service, or passes them through and remembers the answer for a while. */
import { type AnyMessage, durationMs, isMessage } from "../../../config/message.ts";
import type { HealthCheck } from "../../../config/schema/types/envoy.extensions.filters.http.health_check.v3.d.ts";
import type { DecoderFilterCallbacks, FilterDataStatus, FilterHeadersStatus, FilterTrailersStatus, HttpFilter } from "../../../http/filter.ts";
import type { RequestHeaders, ResponseHeaders } from "../../../http/header-map.ts";
import { compileHeaderMatchers, type HeaderMatcher, matchesAllHeaders } from "../../../matching/header-matcher.ts";
import type { ThreadLocalClusters } from "../../../upstream/upstream.ts";
import type { Extension } from "../../extension.ts";
import { sharedCells } from "../../shared-cells.ts";

const typeName = "envoy.extensions.filters.http.health_check.v3.HealthCheck";

/** The last answer of the service, for all workers: until when it counts (milliseconds of the wall clock), its status, whether it was degraded. */
class AnswerCache {
  readonly #cells: Float64Array;
  readonly #keepMs: number;

  constructor(message: object, keepMs: number) {
    this.#cells = new Float64Array(sharedCells(message, 24));
    this.#keepMs = keepMs;
  }
  get(nowMs: number): { readonly status: number; readonly isDegraded: boolean } | undefined {
    const [until, status, degraded] = this.#cells;
    return nowMs < until ? { status, isDegraded: degraded === 1 } : undefined;
  }
  set(nowMs: number, status: number, isDegraded: boolean): void {
    this.#cells[1] = status;
    this.#cells[2] = isDegraded ? 1 : 0;
    this.#cells[0] = nowMs + this.#keepMs;
  }
}

interface Settings {
  readonly passesThrough: boolean;
  readonly headers: readonly HeaderMatcher[];
  readonly cache: AnswerCache | undefined;
  /** Percent of healthy hosts that each cluster has to have. */
  readonly clusters: readonly (readonly [name: string, percent: number])[];
  readonly health: { readonly healthFailed: boolean };
  readonly localCluster: string;
  readonly lookup: ThreadLocalClusters;
}

class HealthCheckFilter implements HttpFilter {
  readonly #settings: Settings;
  #callbacks!: DecoderFilterCallbacks;
  #isHealthCheck = false;
  /** It is answered here. */
  #handles = false;

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#callbacks = callbacks;
  }

  decodeHeaders(headers: RequestHeaders, endStream: boolean): FilterHeadersStatus {
    const { headers: matchers, passesThrough, health } = this.#settings;
    if (!matchesAllHeaders(matchers, headers)) return "continue";
    this.#isHealthCheck = true;
    this.#callbacks.streamInfo.isHealthCheck = true;
    this.#handles = !passesThrough || health.healthFailed || this.#cached() !== undefined;
    if (!this.#handles) return "continue";
    if (endStream) this.#answer();
    return "stop";
  }

  decodeData(_data: Buffer, endStream: boolean): FilterDataStatus {
    if (!this.#handles) return "continue";
    if (endStream) this.#answer();
    return "stop_no_buffer";
  }

  decodeTrailers(): FilterTrailersStatus {
    if (!this.#handles) return "continue";
    this.#answer();
    return "stop";
  }

  encodeHeaders(headers: ResponseHeaders): FilterHeadersStatus {
    const { cache, health, localCluster } = this.#settings;
    if (this.#isHealthCheck) {
      if (!this.#handles) cache?.set(this.#now(), headers.status, headers.get("x-envoy-degraded") !== undefined);
      headers.set("x-envoy-upstream-healthchecked-cluster", localCluster);
    }
    if (health.healthFailed) headers.set("x-envoy-immediate-health-check-fail", "true");
    return "continue";
  }

  #now(): number {
    return this.#callbacks.timers.clock.wall();
  }

  #cached(): ReturnType<AnswerCache["get"]> {
    return this.#settings.passesThrough ? this.#settings.cache?.get(this.#now()) : undefined;
  }

  #answer(): void {
    const { health } = this.#settings;
    const { streamInfo } = this.#callbacks;
    let status = 200;
    let isDegraded = false;
    let details = "health_check_ok";
    const cached = this.#cached();
    if (health.healthFailed) {
      status = 503;
      details = "health_check_failed";
    } else if (cached !== undefined) {
      status = cached.status;
      isDegraded = cached.isDegraded;
      details = "health_check_cached";
    } else {
      const unhealthy = this.#unhealthyCluster();
      if (unhealthy !== undefined) {
        status = 503;
        details = unhealthy;
      } else if (this.#settings.clusters.length > 0) details = "health_check_ok_cluster_healthy";
    }
    if (status !== 200) streamInfo.setFlag("LH");
    this.#callbacks.sendLocalReply({
      status,
      body: "",
      details,
      ...(isDegraded && { modifyHeaders: (headers: ResponseHeaders) => headers.set("x-envoy-degraded", "") }),
    });
  }

  /** The detail of the first cluster that has too few healthy hosts. */
  #unhealthyCluster(): string | undefined {
    for (const [name, percent] of this.#settings.clusters) {
      const hosts = this.#settings.lookup.get(name)?.hosts();
      if (hosts === undefined) return "health_check_failed_no_cluster_found";
      if (hosts.length === 0) {
        // None of nothing is enough where nothing is asked for.
        if (percent === 0) continue;
        return "health_check_failed_cluster_empty";
      }
      const well = hosts.filter((host) => host.health !== "unhealthy").length;
      if (100 * well < hosts.length * percent) return "health_check_failed_cluster_unhealthy";
    }
    return undefined;
  }
}

export default {
  honours: { [typeName]: "*", "envoy.type.v3.Percent": "*" },
  httpFilter: {
    compile(message: AnyMessage, context) {
      if (!isMessage<HealthCheck>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      const passesThrough = message.passThroughMode ?? false;
      const keepMs = durationMs(message.cacheTime, 0);
      if (!passesThrough && keepMs > 0)
        context.report(message, "cache_time", {
          code: "OR3740",
          text: "cache_time_ms must not be set when path_through_mode is disabled",
          hint: "only answers of the service are remembered: set pass_through_mode, or leave cache_time out",
        });
      const settings: Settings = {
        passesThrough,
        headers: compileHeaderMatchers(message.headers, context),
        cache: keepMs > 0 ? new AnswerCache(message, keepMs) : undefined,
        clusters: Object.entries(message.clusterMinHealthyPercentages).map(([name, { value }]) => [name, value] as const),
        health: context.health ?? { healthFailed: false },
        localCluster: context.node.cluster,
        lookup: context.clusters,
      };
      return () => new HealthCheckFilter(settings);
    },
  },
} satisfies Extension;
