/**
 * Load reports (LRS): what requests the hosts of each cluster have had, told to a management server at the interval it asks for.
 * https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/load_stats/v3/lrs.proto
 */
import { encodeMessage } from "../config/binary-encode.ts";
import { emptyMessage, loadMessage } from "../config/load.ts";
import type { Duration } from "../config/message.ts";
import { durationMs } from "../config/message.ts";
import type { ClusterStats, UpstreamLocalityStats } from "../config/schema/types/envoy.config.endpoint.v3.d.ts";
import type { LoadStatsRequest, LoadStatsResponse } from "../config/schema/types/envoy.service.load_stats.v3.d.ts";
import type { GrpcClient, GrpcStream } from "../grpc/client.ts";
import { getLogger } from "../log/log.ts";
import type { Counter, StatsStore } from "../stats/stats.ts";
import { hostStatPrefix } from "../upstream/host.ts";
import type { HostData } from "../upstream/hosts.ts";
import type { ClusterView } from "../upstream/main-clusters.ts";

const log = getLogger("upstream");
const retryMs = 5000;

export interface LoadReporterOptions {
  readonly client: GrpcClient;
  readonly stats: StatsStore;
  node(): object;
  clusters(): readonly ClusterView[];
  /** A statistic of all threads by its name, 0 where there is none. */
  read(name: string): number;
  /** performance.now() */
  now(): number;
}

const counted = ["rq_success", "rq_error", "rq_total"] as const;
type Counts = Readonly<Record<(typeof counted)[number], number>>;

export class LoadReporter {
  readonly #options: LoadReporterOptions;
  readonly #requests: Counter;
  readonly #responses: Counter;
  readonly #errors: Counter;
  readonly #retries: Counter;
  #stream: GrpcStream | undefined;
  #timer: NodeJS.Timeout | undefined;
  /** What the server wants, as it said last. */
  #wanted: { readonly names: ReadonlySet<string> | undefined; readonly intervalMs: number } | undefined;
  /** What hosts had counted at the last report, by the prefix of their statistics. */
  #reported = new Map<string, Counts>();
  #reportedDrops = new Map<string, number>();
  #lastMs = 0;
  #closed = false;

  constructor(options: LoadReporterOptions) {
    this.#options = options;
    const scope = options.stats.scope("load_reporter.");
    this.#requests = scope.counter("requests");
    this.#responses = scope.counter("responses");
    this.#errors = scope.counter("errors");
    this.#retries = scope.counter("retries");
  }

  start(): void {
    if (this.#closed) return;
    this.#stream = this.#options.client.stream(
      "envoy.service.load_stats.v3.LoadReportingService",
      "StreamLoadStats",
      { timeoutMs: 0 },
      { onMessage: (bytes) => this.#onResponse(bytes), onClose: ({ code, message }) => this.#onClose(code, message) },
    );
    this.#send([]);
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#stream?.reset();
  }

  #onClose(code: number, message: string): void {
    if (this.#closed) return;
    log.warning(`load reports: the stream to the server was closed: ${code}, ${message}`);
    this.#errors.inc();
    this.#stream = undefined;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#retries.inc();
      this.start();
    }, retryMs);
    this.#timer.unref();
  }

  #onResponse(bytes: Buffer): void {
    const loaded = loadMessage<LoadStatsResponse>({ kind: "bytes", name: "a load stats response", bytes }, "envoy.service.load_stats.v3.LoadStatsResponse", {
      unknownFields: "ignore",
    });
    const response = loaded.message;
    if (response === undefined) {
      log.warning("load reports: the server has sent what is no LoadStatsResponse");
      return;
    }
    this.#responses.inc();
    // What happened before anybody asked is not reported.
    const isFirst = this.#wanted === undefined;
    this.#wanted = {
      names: response.sendAllClusters ? undefined : new Set(response.clusters),
      intervalMs: Math.max(1, durationMs(response.loadReportingInterval, 5000)),
    };
    if (isFirst) {
      this.#collect();
      this.#lastMs = this.#options.now();
    }
    this.#later();
  }

  #later(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => {
      this.#send(this.#collect());
      this.#later();
    }, this.#wanted?.intervalMs ?? 5000);
    this.#timer.unref();
  }

  #send(clusterStats: ClusterStats[]): void {
    const message: LoadStatsRequest = { ...emptyMessage("envoy.service.load_stats.v3.LoadStatsRequest"), node: this.#options.node() as never, clusterStats };
    this.#requests.inc();
    this.#stream?.send(encodeMessage(message));
  }

  /** What was counted since the last time. */
  #collect(): ClusterStats[] {
    const { clusters, read, now } = this.#options;
    const elapsed = durationOf(now() - this.#lastMs);
    this.#lastMs = now();
    const reported = new Map<string, Counts>();
    const drops = new Map<string, number>();
    const stats: ClusterStats[] = [];
    for (const { settings, hosts } of clusters()) {
      const { names } = this.#wanted ?? {};
      if (names !== undefined && !names.has(settings.name)) continue;
      const dropped = read(`${settings.scope.prefix}upstream_rq_drop_overload`);
      drops.set(settings.name, dropped);
      stats.push({
        ...emptyMessage("envoy.config.endpoint.v3.ClusterStats"),
        clusterName: settings.name,
        clusterServiceName: settings.eds?.serviceName ?? "",
        upstreamLocalityStats: this.#localities(settings.name, hosts, reported),
        totalDroppedRequests: BigInt(Math.max(0, dropped - (this.#reportedDrops.get(settings.name) ?? 0))),
        loadReportInterval: elapsed,
      });
    }
    this.#reported = reported;
    this.#reportedDrops = drops;
    return stats;
  }

  #localities(cluster: string, hosts: readonly HostData[], reported: Map<string, Counts>): UpstreamLocalityStats[] {
    const { read } = this.#options;
    const found = new Map<string, { readonly host: HostData; success: number; error: number; issued: number; active: number }>();
    for (const host of hosts) {
      const prefix = hostStatPrefix(cluster, host);
      const counts = Object.fromEntries(counted.map((name) => [name, read(prefix + name)])) as unknown as Counts;
      const before = this.#reported.get(prefix);
      reported.set(prefix, counts);
      const { region, zone, subZone } = host.locality;
      const key = JSON.stringify([host.priority, region, zone, subZone]);
      let sum = found.get(key);
      if (sum === undefined) found.set(key, (sum = { host, success: 0, error: 0, issued: 0, active: 0 }));
      sum.success += counts.rq_success - (before?.rq_success ?? 0);
      sum.error += counts.rq_error - (before?.rq_error ?? 0);
      sum.issued += counts.rq_total - (before?.rq_total ?? 0);
      sum.active += read(`${prefix}rq_active`);
    }
    return [...found.values()]
      .filter(({ success, error, issued, active }) => success + error + issued + active > 0)
      .map(({ host, success, error, issued, active }) => ({
        ...emptyMessage("envoy.config.endpoint.v3.UpstreamLocalityStats"),
        locality: { ...emptyMessage("envoy.config.core.v3.Locality"), ...host.locality },
        totalSuccessfulRequests: BigInt(success),
        totalRequestsInProgress: BigInt(active),
        totalErrorRequests: BigInt(error),
        totalIssuedRequests: BigInt(issued),
        priority: host.priority,
      }));
  }
}

function durationOf(ms: number): Duration {
  return { $typeName: "google.protobuf.Duration", seconds: BigInt(Math.floor(ms / 1000)), nanos: Math.round((ms % 1000) * 1e6) };
}
