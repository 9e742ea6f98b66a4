import assert from "node:assert/strict";
import { test } from "node:test";
import { encodeMessage } from "../config/binary-encode.ts";
import { emptyMessage, loadMessage } from "../config/load.ts";
import type { LoadStatsRequest } from "../config/schema/types/envoy.service.load_stats.v3.d.ts";
import type { GrpcClient, GrpcStreamEvents } from "../grpc/client.ts";
import { StatsStore } from "../stats/stats.ts";
import { hostStatPrefix } from "../upstream/host.ts";
import type { HostData } from "../upstream/hosts.ts";
import type { ClusterView } from "../upstream/main-clusters.ts";
import { LoadReporter } from "./load-reporter.ts";

test("what was counted since the last report is told by locality, from the moment that the server asks", async () => {
  const sent: LoadStatsRequest[] = [];
  let heard: (() => void) | undefined;
  let events: GrpcStreamEvents | undefined;
  const stream = {
    send(bytes: Uint8Array) {
      sent.push(loadMessage({ kind: "bytes", name: "x", bytes }, "envoy.service.load_stats.v3.LoadStatsRequest").message as unknown as LoadStatsRequest);
      heard?.();
    },
    reset() {},
  };
  const client = {
    stream: (_service: string, _method: string, _options: object, given: GrpcStreamEvents) => {
      events = given;
      return stream;
    },
  } as unknown as GrpcClient;
  const host = {
    address: { kind: "ip", ip: "10.0.0.1", port: 1, text: "10.0.0.1:1" },
    priority: 0,
    locality: { region: "r", zone: "z", subZone: "" },
  } as HostData;
  const counts = new Map<string, number>();
  const prefix = hostStatPrefix("service", host);
  const view = { settings: { name: "service", scope: { prefix: "cluster.service." }, eds: undefined }, hosts: [host] } as unknown as ClusterView;
  const other = { settings: { name: "other", scope: { prefix: "cluster.other." }, eds: undefined }, hosts: [] } as unknown as ClusterView;
  let now = 0;
  const reporter = new LoadReporter({
    client,
    stats: new StatsStore(),
    node: () => ({ ...emptyMessage("envoy.config.core.v3.Node"), id: "me" }),
    clusters: () => [view, other],
    read: (name) => counts.get(name) ?? 0,
    now: () => now,
  });
  counts.set(`${prefix}rq_total`, 5);
  reporter.start();
  assert.deepEqual([sent[0].node?.id, sent[0].clusterStats], ["me", []]);
  const interval = { $typeName: "google.protobuf.Duration", seconds: 0n, nanos: 1_000_000 } as const;
  const report = new Promise<void>((resolve) => {
    heard = resolve;
  });
  const response = { ...emptyMessage("envoy.service.load_stats.v3.LoadStatsResponse"), clusters: ["service"], loadReportingInterval: interval };
  events?.onMessage(encodeMessage(response));
  counts.set(`${prefix}rq_total`, 8).set(`${prefix}rq_success`, 2).set(`${prefix}rq_error`, 1);
  now = 1500;
  await report;
  reporter.close();
  const [cluster, ...more] = sent[1].clusterStats;
  assert.deepEqual([cluster.clusterName, more.length], ["service", 0]);
  assert.deepEqual([cluster.loadReportInterval?.seconds, cluster.loadReportInterval?.nanos], [1n, 500_000_000]);
  const [locality] = cluster.upstreamLocalityStats;
  assert.deepEqual([locality.locality?.zone, locality.totalSuccessfulRequests, locality.totalErrorRequests, locality.totalIssuedRequests], ["z", 2n, 1n, 3n]);
});
