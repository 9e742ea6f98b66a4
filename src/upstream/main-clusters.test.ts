import assert from "node:assert/strict";
import { test } from "node:test";
import type { Clock } from "../net/timer-wheel.ts";
import { TimerWheel } from "../net/timer-wheel.ts";
import { RuntimeSnapshot, type RuntimeValue } from "../runtime/runtime.ts";
import { StatsStore } from "../stats/stats.ts";
import { testContext } from "../testing/compile-context.ts";
import type { Resolution, ResolveOptions } from "./dns.ts";
import type { HostUpdate } from "./hosts.ts";
import { MainClusters } from "./main-clusters.ts";
import { assignment, at, compiled } from "./testing.ts";

class Bed {
  nowMs = 0;
  readonly stats = new StatsStore();
  readonly clock: Clock = { now: () => this.nowMs, wall: () => this.nowMs };
  readonly timers = new TimerWheel(this.clock);
  readonly updates: HostUpdate[] = [];
  readonly asked: [string, ResolveOptions][] = [];
  /** Answers of the resolver, by name; an error is a failure. */
  answers: Record<string, Resolution | Error> = {};
  readonly runtime = { snapshot: new RuntimeSnapshot() };
  readonly clusters: MainClusters;

  constructor() {
    this.clusters = new MainClusters({
      stats: this.stats,
      timers: this.timers,
      runtime: this.runtime,
      threads: 2,
      onUpdate: (update) => this.updates.push(update),
      resolve: async (name, options) => {
        this.asked.push([name, options]);
        const answer = this.answers[name];
        if (answer === undefined || answer instanceof Error) throw answer ?? new Error("no answer");
        return answer;
      },
    });
  }

  add(json: object): void {
    this.clusters.add(compiled(json, Object.assign(testContext(), { stats: this.stats })));
  }
  async pass(ms: number): Promise<void> {
    this.nowMs += ms;
    this.timers.advance();
    await new Promise((resolve) => setImmediate(resolve));
  }
  get addresses(): string[] {
    return (this.updates.at(-1)?.hosts ?? []).map(({ address }) => address.text);
  }
  stat(name: string): number {
    return this.stats.counter(`cluster.service.${name}`).value;
  }
  gauge(name: string): number {
    return this.stats.gauge(name.startsWith("cluster_manager") ? name : `cluster.service.${name}`).value;
  }
  setRuntime(values: Record<string, RuntimeValue>): void {
    this.runtime.snapshot = new RuntimeSnapshot(new Map(Object.entries(values)));
  }
}

const dns = (host = "svc.test", more: object = {}): object => ({
  type: "STRICT_DNS",
  load_assignment: assignment(at(80, {}, host)),
  dns_refresh_rate: "5s",
  ...more,
});
const found = (...ips: string[]): Resolution => ({ ips, ttl: undefined });

test("static members are there at once", async () => {
  const bed = new Bed();
  bed.add({
    load_assignment: assignment(at(1), at(2, { health_status: "UNHEALTHY" }), at(3, { health_status: "DEGRADED" }), at(4, { health_status: "DRAINING" })),
  });
  await bed.clusters.initialized;
  assert.equal(bed.addresses.length, 4);
  assert.deepEqual(
    ["total", "healthy", "degraded", "excluded"].map((name) => bed.gauge(`membership_${name}`)),
    [4, 1, 1, 1],
  );
  assert.deepEqual([bed.stat("membership_change"), bed.stat("update_attempt"), bed.stat("default.total_match_count")], [1, 0, 4]);
  assert.deepEqual([bed.gauge("cluster_manager.active_clusters"), bed.gauge("cluster_manager.warming_clusters")], [1, 0]);
  assert.equal(bed.stats.counter("cluster_manager.cluster_added").value, 1);
  bed.clusters.remove("service");
  assert.equal(bed.stats.counter("cluster_manager.cluster_removed").value, 1);
});

test("names are resolved before anything begins, and again after the refresh rate", async () => {
  const bed = new Bed();
  bed.answers = { "svc.test": found("10.0.0.1", "10.0.0.2") };
  bed.add(dns());
  assert.deepEqual(bed.clusters.unready(), ["service"]);
  assert.equal(bed.gauge("cluster_manager.warming_clusters"), 1);
  await bed.clusters.initialized;
  assert.deepEqual(bed.clusters.unready(), []);
  assert.deepEqual(bed.addresses, ["10.0.0.1:80", "10.0.0.2:80"]);
  assert.equal(bed.updates[0].hosts[0].hostname, "svc.test");

  // The same addresses in another order are no change.
  bed.answers = { "svc.test": found("10.0.0.2", "10.0.0.1") };
  await bed.pass(5005);
  assert.deepEqual([bed.updates.length, bed.stat("update_no_rebuild"), bed.stat("update_success"), bed.stat("membership_change")], [1, 1, 2, 1]);

  bed.answers = { "svc.test": found("10.0.0.3") };
  await bed.pass(5005);
  assert.deepEqual(bed.addresses, ["10.0.0.3:80"]);
  assert.deepEqual([bed.stat("membership_change"), bed.gauge("membership_total"), bed.gauge("max_host_weight")], [2, 1, 1]);

  // A name that exists no longer has no members; a server that does not answer changes nothing.
  bed.answers = { "svc.test": found() };
  await bed.pass(5005);
  assert.deepEqual(bed.addresses, []);
  bed.answers = { "svc.test": found("10.0.0.4") };
  await bed.pass(5005);
  bed.answers = { "svc.test": new Error("timeout") };
  await bed.pass(5005);
  assert.deepEqual([bed.addresses, bed.stat("update_failure"), bed.stat("update_attempt")], [["10.0.0.4:80"], 1, 6]);
  bed.clusters.close();
  assert.equal(bed.timers.armed, 0);
});

test("failures wait as dns_failure_refresh_rate says, and initialization goes on without members", async () => {
  const bed = new Bed();
  bed.add(dns("svc.test", { dns_refresh_rate: "1000s", dns_failure_refresh_rate: { base_interval: "1s", max_interval: "2s" } }));
  await bed.clusters.initialized;
  assert.deepEqual([bed.updates.length, bed.stat("update_failure")], [0, 1]);
  await bed.pass(1005);
  await bed.pass(2005);
  await bed.pass(2005);
  assert.equal(bed.stat("update_failure"), 4);
});

test("TTLs rule where respect_dns_ttl says so, not below dns_min_refresh_rate", async () => {
  const bed = new Bed();
  bed.answers = { "svc.test": { ips: ["10.0.0.1"], ttl: 60 } };
  bed.add(dns("svc.test", { respect_dns_ttl: true }));
  await bed.clusters.initialized;
  await bed.pass(59_000);
  assert.equal(bed.stat("update_attempt"), 1);
  await bed.pass(1005);
  assert.equal(bed.stat("update_attempt"), 2);

  const custom = new Bed();
  custom.answers = { "svc.test": { ips: ["10.0.0.1"], ttl: 1 } };
  const config = {
    "@type": "type.googleapis.com/envoy.extensions.clusters.dns.v3.DnsCluster",
    respect_dns_ttl: true,
    dns_min_refresh_rate: "10s",
    dns_lookup_family: "V4_ONLY",
  };
  custom.add({ cluster_type: { name: "envoy.clusters.dns", typed_config: config }, load_assignment: assignment(at(80, {}, "svc.test")) });
  await custom.clusters.initialized;
  await custom.pass(9000);
  assert.equal(custom.stat("update_attempt"), 1);
  await custom.pass(1005);
  assert.equal(custom.stat("update_attempt"), 2);
  assert.equal(custom.asked[0][1].family, "v4");
});

test("a logical name is one member that changes its address; it keeps the last one it had", async () => {
  const bed = new Bed();
  bed.answers = { "svc.test": found("10.0.0.1", "10.0.0.2") };
  bed.add(dns("svc.test", { type: "LOGICAL_DNS" }));
  await bed.clusters.initialized;
  assert.deepEqual(bed.addresses, ["10.0.0.1:80"]);
  bed.answers = { "svc.test": found("10.0.0.9") };
  await bed.pass(5005);
  assert.deepEqual([bed.addresses, bed.stat("membership_change")], [["10.0.0.9:80"], 1]);
  bed.answers = { "svc.test": found() };
  await bed.pass(5005);
  assert.deepEqual(bed.addresses, ["10.0.0.9:80"]);
});

test("several names are members together; one that has an answer is enough to begin", async () => {
  const bed = new Bed();
  let answer: (resolution: Resolution) => void = () => {};
  const slow = new Promise<Resolution>((resolve) => {
    answer = resolve;
  });
  const clusters = new MainClusters({
    stats: bed.stats,
    timers: bed.timers,
    runtime: bed.runtime,
    threads: 1,
    onUpdate: (update) => bed.updates.push(update),
    resolve: (name) => (name === "slow.test" ? slow : Promise.resolve(found("10.0.0.1"))),
  });
  clusters.add(
    compiled(
      { type: "STRICT_DNS", load_assignment: assignment(at(80, {}, "slow.test"), at(81, {}, "quick.test")) },
      Object.assign(testContext(), { stats: bed.stats }),
    ),
  );
  await clusters.initialized;
  assert.deepEqual(bed.addresses, ["10.0.0.1:81"]);
  answer(found("10.0.0.1", "10.0.0.1"));
  await bed.pass(0);
  assert.deepEqual(bed.addresses, ["10.0.0.1:80", "10.0.0.1:81"]);
});

test("circuit breakers show what all threads hold together", () => {
  const bed = new Bed();
  bed.add({ load_assignment: assignment(1), circuit_breakers: { thresholds: [{ max_requests: 3, max_connections: 0, track_remaining: true }] } });
  const cells = new Int32Array(bed.clusters.snapshot()[0].cells);
  // Requests of both workers.
  cells[2 * 2] = 1;
  cells[2 * 2 + 1] = 2;
  bed.clusters.refresh();
  const at = (name: string): number => bed.gauge(`circuit_breakers.default.${name}`);
  assert.deepEqual([at("rq_open"), at("remaining_rq"), at("cx_open"), at("remaining_retries"), bed.gauge("circuit_breakers.high.rq_open")], [1, 0, 0, 3, 0]);
  bed.setRuntime({ "circuit_breakers.service.default.max_requests": 10 });
  bed.clusters.refresh();
  assert.deepEqual([at("rq_open"), at("remaining_rq")], [0, 7]);
  // The second worker is gone, and what it held is free.
  bed.clusters.clearWorker(1);
  bed.clusters.refresh();
  assert.equal(at("remaining_rq"), 9);
});

test("hosts choose their transport socket by their metadata", () => {
  const raw = { name: "raw", typed_config: { "@type": "type.googleapis.com/envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer" } };
  const bed = new Bed();
  const tagged = (value: unknown): object => ({ metadata: { filter_metadata: { "envoy.transport_socket_match": { mode: value } } } });
  bed.add({
    load_assignment: assignment(at(1, tagged("a")), at(2, tagged(["b", { c: [1] }])), at(3)),
    transport_socket_matches: [
      { name: "first", match: { mode: "a" }, transport_socket: raw },
      { name: "second", match: { mode: { c: [1] } }, transport_socket: raw },
    ],
  });
  assert.deepEqual(
    ["first", "second", "default"].map((name) => bed.stat(`${name}.total_match_count`)),
    [1, 1, 1],
  );
});
