/** What one request counts: codes and times below its cluster, virtual cluster and route. The router filter builds on it. */
import type { RequestHeaders, ResponseHeaders } from "../../http/header-map.ts";
import type { StreamInfo } from "../../http/stream-info.ts";
import type { ClusterInfo, Host } from "../../upstream/upstream.ts";
import type { ForwardRoute, VirtualClusterStats } from "../route.ts";
import { type ClusterCounters, clusterCounters, type ResponseCounters } from "./code-stats.ts";
import type { RouterConfig } from "./router-config.ts";

export class RequestStats {
  readonly config: RouterConfig;
  counters!: ClusterCounters;
  protected virtualCluster: VirtualClusterStats | undefined = undefined;
  protected routeStats: VirtualClusterStats | undefined = undefined;
  protected alternative: ResponseCounters | undefined = undefined;
  #internal = false;
  /** Health checks and routers without dynamic stats count no codes. */
  #counts = true;
  #withoutCodes = false;

  constructor(config: RouterConfig) {
    this.config = config;
  }

  protected beginStats(cluster: ClusterInfo, route: ForwardRoute, headers: RequestHeaders, info: StreamInfo, isGrpc: boolean): void {
    const { config } = this;
    const { virtualHost } = route;
    this.counters = clusterCounters(cluster);
    this.routeStats = route.routeStats;
    if (virtualHost.otherVirtualCluster !== undefined) {
      const found = virtualHost.virtualCluster(headers);
      this.virtualCluster = found ?? virtualHost.otherVirtualCluster;
      info.virtualClusterName = found?.name;
    }
    this.#counts = config.dynamicStats && !info.isHealthCheck;
    this.#withoutCodes = isGrpc && config.suppressGrpcFailureCodes;
  }

  /** Reads what of the request's own x-envoy- fields stats depend on. */
  protected readStatFields(headers: RequestHeaders): void {
    const { names } = this.config;
    this.#internal = headers.get(names.internal) === "true";
    const alternative = headers.get(names.altStatName);
    if (alternative === undefined) return;
    headers.remove(names.altStatName);
    this.alternative = this.counters.alternative(alternative);
  }

  protected isCanary(headers: ResponseHeaders | undefined, host: Host | undefined): boolean {
    return host?.canary === true || headers?.get(this.config.names.upstreamCanary) === "true";
  }

  /** `headers`: the upstream's, undefined for an answer of our own. */
  protected chargeCode(status: number, headers: ResponseHeaders | undefined, host: Host | undefined): void {
    if (!this.#counts) return;
    const { counters } = this;
    const canary = this.isCanary(headers, host);
    this.#charge(counters, status, canary, this.#withoutCodes);
    if (this.alternative !== undefined) this.#charge(this.alternative, status, canary, this.#withoutCodes);
    this.virtualCluster?.onResponse(status);
    this.routeStats?.onResponse(status);
    if (host === undefined) return;
    const { zone } = host.locality;
    if (zone !== "" && this.config.zone !== "") counters.zone(this.config.zone, zone)?.charge(status);
    if (status >= 500 && status < 600) host.stats.rq_error.inc();
  }

  #charge(counters: ResponseCounters, status: number, canary: boolean, withoutCodes: boolean): void {
    counters.codes.charge(status, withoutCodes);
    if (canary) counters.canary.charge(status);
    (this.#internal ? counters.internal : counters.external).charge(status);
  }

  protected chargeTime(ms: number, canary: boolean, host: Host | undefined): void {
    if (!this.#counts) return;
    const { counters } = this;
    host?.monitor?.putResponseTime(ms);
    this.#chargeTime(counters, ms, canary);
    if (this.alternative !== undefined) this.#chargeTime(this.alternative, ms, canary);
    this.virtualCluster?.onResponseTime(ms);
    this.routeStats?.onResponseTime(ms);
    const zone = host?.locality.zone ?? "";
    if (zone !== "" && this.config.zone !== "") counters.zone(this.config.zone, zone)?.chargeTime(ms);
  }

  #chargeTime(counters: ResponseCounters, ms: number, canary: boolean): void {
    counters.codes.chargeTime(ms);
    if (canary) counters.canary.chargeTime(ms);
    (this.#internal ? counters.internal : counters.external).chargeTime(ms);
  }
}
