/** Health from the checks on the main thread to the balancers of two workers. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { TimerWheel } from "../net/timer-wheel.ts";
import { RuntimeSnapshot } from "../runtime/runtime.ts";
import { StatsStore } from "../stats/stats.ts";
import { testContext } from "../testing/compile-context.ts";
import type { Resolution } from "./dns.ts";
import type { ProbeCallbacks } from "./health/health-checker.ts";
import type { HostImpl } from "./host.ts";
import { flagNames } from "./host-health.ts";
import { MainClusters } from "./main-clusters.ts";
import { anyHost, assignment, at, compiled } from "./testing.ts";
import { WorkerClusters } from "./worker-clusters.ts";

class Bed {
  nowMs = 0;
  readonly stats = new StatsStore();
  readonly timers = new TimerWheel({ now: () => this.nowMs, wall: () => this.nowMs }, 1);
  readonly runtime = { snapshot: new RuntimeSnapshot() };
  readonly workers: WorkerClusters[];
  readonly clusters: MainClusters;
  readonly failures: string[] = [];
  /** Messages to the workers, in order. */
  readonly told: string[] = [];
  /** The check of each port that is under way. */
  readonly asked = new Map<number, ProbeCallbacks>();
  /** Checks are passed at once, without being answered. */
  isPassing = false;
  answer: Resolution = { ips: [], ttl: undefined };

  constructor() {
    const { stats, timers, runtime } = this;
    this.workers = [0, 1].map(
      (workerIndex) =>
        new WorkerClusters({
          stats,
          timers,
          runtime,
          threads: 2,
          workerIndex,
          onHostEvent: (cluster, id, event) => this.clusters.hostEvent(cluster, id, event),
        }),
    );
    this.clusters = new MainClusters({
      stats,
      timers,
      runtime,
      threads: 2,
      random: () => 0,
      onUpdate: (update) => {
        this.told.push("members");
        for (const worker of this.workers) worker.updateHosts(structuredClone(update));
      },
      onHealth: (cluster) => {
        this.told.push("health");
        for (const worker of this.workers) worker.refreshHealth(cluster);
      },
      onHealthFailure: (cluster, id) => {
        this.failures.push(this.port(id));
        for (const worker of this.workers) worker.onHealthFailure(cluster, id);
      },
      resolve: async () => this.answer,
      probe: (_settings, host, callbacks) => ({
        start: () => {
          this.asked.set(portOf(host.data.address.text), callbacks);
          if (this.isPassing) callbacks.onSuccess(false);
        },
        timedOut: () => {},
        close: () => this.asked.delete(portOf(host.data.address.text)),
      }),
    });
  }

  add(json: object, workersToo = true): void {
    const settings = (): ReturnType<typeof compiled> => compiled(json, Object.assign(testContext(), { stats: this.stats }));
    if (workersToo) for (const worker of this.workers) worker.add(settings());
    this.clusters.add(settings());
  }
  hosts(worker = 0): readonly HostImpl[] {
    return (this.workers[worker].get("service")?.hosts() ?? []) as readonly HostImpl[];
  }
  port(id: number): string {
    return (
      this.hosts()
        .find((host) => host.id === id)
        ?.address.text.split(":")[1] ?? ""
    );
  }
  /** Health of each host as a worker sees it. */
  seen(worker = 0): Record<string, string> {
    return Object.fromEntries(this.hosts(worker).map((host) => [host.address.text.split(":")[1], host.health]));
  }
  /** Flags as /clusters shows them. */
  flags(): string[] {
    const [view] = this.clusters.views();
    return view.hosts.map((host) => `${portOf(host.address.text)} ${flagNames(view.flags(host)).join(",")}`.trim());
  }
  pick(worker = 0): number | undefined {
    const pool = this.workers[worker].get("service")?.httpPool("default", "HTTP/1.1", anyHost);
    return pool === undefined ? undefined : portOf(pool.host.address.text);
  }
  ok(port: number): void {
    this.asked.get(port)?.onSuccess(false);
  }
  bad(port: number): void {
    this.asked.get(port)?.onFailure("ACTIVE");
  }
  async pass(ms: number): Promise<void> {
    for (const end = this.nowMs + ms; this.nowMs < end; ) {
      this.nowMs = Math.min(end, this.nowMs + 10);
      this.timers.advance();
    }
    await new Promise((resolve) => setImmediate(resolve));
  }
  gauges(): number[] {
    return ["total", "healthy", "degraded", "excluded"].map((name) => this.stats.gauge(`cluster.service.membership_${name}`).value);
  }
}

function portOf(address: string): number {
  return Number(address.split(":").at(-1));
}

const check = { timeout: "1s", interval: "1s", unhealthy_threshold: 1, healthy_threshold: 1, http_health_check: { path: "/" } };
const checked = (more: object = {}): object => ({
  load_assignment: assignment(at(1), at(2)),
  health_checks: [check],
  common_lb_config: { healthy_panic_threshold: { value: 0 } },
  ...more,
});

test("a cluster begins when each host has had its first check; until then nobody is healthy", async () => {
  const bed = new Bed();
  bed.add(checked());
  assert.deepEqual(bed.clusters.unready(), ["service"]);
  assert.deepEqual(bed.seen(), { 1: "unhealthy", 2: "unhealthy" });
  assert.deepEqual(bed.gauges(), [2, 0, 0, 0]);
  bed.ok(1);
  assert.deepEqual(bed.clusters.unready(), ["service"]);
  bed.bad(2);
  assert.deepEqual(bed.clusters.unready(), []);
  await bed.clusters.initialized;
  assert.deepEqual(
    [bed.seen(0), bed.seen(1)],
    [
      { 1: "healthy", 2: "unhealthy" },
      { 1: "healthy", 2: "unhealthy" },
    ],
  );
  assert.deepEqual([bed.pick(0), bed.pick(1)], [1, 1]);
  assert.deepEqual(bed.gauges(), [2, 1, 0, 0]);
  assert.equal(bed.stats.counter("cluster_manager.cluster_updated").value, 0);
  bed.clusters.close();
  assert.equal(bed.timers.armed, 0);
});

test("workers hear of the first change at once, of the next when the merge window ends", async () => {
  const bed = new Bed();
  bed.add(checked());
  bed.ok(1);
  bed.ok(2);
  await bed.pass(1000);
  bed.bad(1);
  assert.deepEqual([bed.seen(), bed.failures], [{ 1: "unhealthy", 2: "healthy" }, ["1"]]);
  bed.bad(2);
  assert.deepEqual(bed.gauges(), [2, 0, 0, 0]);
  assert.deepEqual(bed.seen(), { 1: "unhealthy", 2: "healthy" });
  await bed.pass(1000);
  assert.deepEqual(bed.seen(1), { 1: "unhealthy", 2: "unhealthy" });
  assert.deepEqual(bed.flags(), ["1 failed_active_hc", "2 failed_active_hc"]);
});

test("hosts that are not checked are healthy from the start, and wait for nobody", () => {
  const bed = new Bed();
  const exempt = {
    endpoint: { address: { socket_address: { address: "127.0.0.1", port_value: 7 } }, health_check_config: { disable_active_health_check: true } },
  };
  bed.add(checked({ load_assignment: assignment(exempt) }));
  assert.deepEqual(bed.clusters.unready(), []);
  assert.deepEqual(bed.seen(), { 7: "healthy" });
});

const dns = (more: object = {}): object =>
  checked({ type: "STRICT_DNS", load_assignment: assignment(at(80, {}, "svc.test")), dns_refresh_rate: "5s", ...more });

test("a host that DNS drops stays while it passes its checks, and goes with the next answer when it fails", async () => {
  const bed = new Bed();
  bed.answer = { ips: ["127.0.0.1"], ttl: undefined };
  bed.add(dns());
  await bed.pass(10);
  bed.isPassing = true;
  bed.ok(80);
  bed.answer = { ips: [], ttl: undefined };
  await bed.pass(5000);
  assert.deepEqual(bed.flags(), ["80 pending_dynamic_removal"]);
  assert.deepEqual(bed.seen(), { 80: "healthy" });
  bed.answer = { ips: ["127.0.0.1"], ttl: undefined };
  await bed.pass(5000);
  assert.deepEqual(bed.flags(), ["80"]);
  bed.answer = { ips: [], ttl: undefined };
  await bed.pass(5000);
  bed.isPassing = false;
  bed.bad(80);
  assert.deepEqual(bed.flags(), ["80 failed_active_hc,pending_dynamic_removal"]);
  await bed.pass(5000);
  assert.deepEqual([bed.flags(), bed.asked.size, bed.gauges()], [[], 0, [0, 0, 0, 0]]);
  bed.clusters.close();
  assert.equal(bed.timers.armed, 0);
});

test("a logical host is believed until it fails", async () => {
  const bed = new Bed();
  bed.answer = { ips: ["127.0.0.1"], ttl: undefined };
  bed.add(dns({ type: "LOGICAL_DNS" }));
  await bed.pass(10);
  assert.deepEqual([bed.flags(), bed.clusters.unready()], [["80"], ["service"]]);
  bed.bad(80);
  assert.deepEqual([bed.flags(), bed.clusters.unready()], [["80 failed_active_hc"], []]);
});

test("ignore_health_on_host_removal drops it at once", async () => {
  const bed = new Bed();
  bed.answer = { ips: ["127.0.0.1"], ttl: undefined };
  bed.add(dns({ ignore_health_on_host_removal: true }));
  await bed.pass(10);
  bed.ok(80);
  bed.answer = { ips: [], ttl: undefined };
  await bed.pass(5000);
  assert.deepEqual(bed.flags(), []);
});

test("ignore_new_hosts_until_first_hc: a new host is no member in shares until it was checked", async () => {
  const bed = new Bed();
  bed.answer = { ips: ["127.0.0.1"], ttl: undefined };
  bed.add(dns({ common_lb_config: { ignore_new_hosts_until_first_hc: true } }));
  await bed.pass(10);
  assert.deepEqual(bed.gauges(), [1, 0, 0, 1]);
  assert.deepEqual(bed.flags(), ["80 failed_active_hc,pending_active_hc"]);
  bed.bad(80);
  assert.deepEqual(bed.gauges(), [1, 0, 0, 0]);
});

test("a cluster that replaces another tells the workers nothing before it is ready", () => {
  const bed = new Bed();
  bed.add(checked());
  bed.ok(1);
  bed.ok(2);
  bed.told.length = 0;
  bed.add(checked({ load_assignment: assignment(at(3)) }), false);
  assert.deepEqual(bed.told, []);
  assert.deepEqual(bed.seen(), { 1: "healthy", 2: "healthy" });
  bed.ok(3);
  assert.deepEqual(bed.clusters.unready(), []);
  for (const update of bed.clusters.snapshot()) bed.workers[0].updateHosts(update);
  assert.deepEqual(bed.seen(), { 3: "healthy" });
});

test("failures on two workers eject a host on both; the host can also ask for it", async () => {
  const bed = new Bed();
  bed.add(checked({ outlier_detection: { consecutive_5xx: 4, max_ejection_percent: 100, base_ejection_time: "5s", interval: "1s" } }));
  bed.ok(1);
  bed.ok(2);
  await bed.pass(1);
  for (const worker of [0, 1, 0, 1]) bed.hosts(worker)[0].monitor?.putResult("ext_origin_request_failed", 500);
  assert.deepEqual(
    [bed.seen(0), bed.seen(1)],
    [
      { 1: "unhealthy", 2: "healthy" },
      { 1: "unhealthy", 2: "healthy" },
    ],
  );
  assert.deepEqual(bed.flags(), ["1 failed_outlier_check", "2"]);
  bed.hosts(1)[1].monitor?.setUnhealthy();
  assert.deepEqual(bed.flags(), ["1 failed_outlier_check", "2 failed_active_hc,excluded_via_immediate_hc_fail"]);
  assert.deepEqual(bed.failures, ["1", "2"]);
  // A check that the host passes ends its ejection.
  await bed.pass(1000);
  bed.ok(1);
  assert.equal(bed.flags()[0], "1");
});

test("a host that went and came again is another one: nothing is known against it, late news of the old one reach nobody", async () => {
  const bed = new Bed();
  bed.answer = { ips: ["127.0.0.1"], ttl: undefined };
  const plain = { health_checks: [], outlier_detection: { consecutive_5xx: 1, max_ejection_percent: 100, base_ejection_time: "100s" } };
  bed.add(dns(plain));
  await bed.pass(10);
  const [before] = bed.hosts();
  before.monitor?.putResult("ext_origin_request_failed", 500);
  assert.deepEqual(bed.flags(), ["80 failed_outlier_check"]);
  bed.answer = { ips: [], ttl: undefined };
  await bed.pass(5000);
  bed.answer = { ips: ["127.0.0.1"], ttl: undefined };
  await bed.pass(5000);
  assert.deepEqual(bed.flags(), ["80"]);
  before.monitor?.putResult("ext_origin_request_failed", 500);
  assert.deepEqual(bed.flags(), ["80"]);
  assert.notEqual(bed.hosts()[0], before);
});

test("slow start begins when a host passes its checks", async () => {
  const bed = new Bed();
  bed.add(checked({ round_robin_lb_config: { slow_start_config: { slow_start_window: "10s" } } }));
  bed.ok(1);
  bed.ok(2);
  await bed.pass(3000);
  bed.bad(1);
  await bed.pass(1000);
  bed.ok(1);
  await bed.pass(1000);
  const [host, other] = bed.hosts();
  assert.ok(host.sinceMs >= 4000, String(host.sinceMs));
  assert.equal(other.sinceMs, 0);
});
