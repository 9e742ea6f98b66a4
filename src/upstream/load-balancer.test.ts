import assert from "node:assert/strict";
import { test } from "node:test";
import { RuntimeSnapshot, type RuntimeValue } from "../runtime/runtime.ts";
import { StatsStore } from "../stats/stats.ts";
import { HostImpl } from "./host.ts";
import { hostPicker, slowStartFactor } from "./host-pickers.ts";
import { LoadBalancer } from "./load-balancer.ts";
import { anyHost, at, TestCluster } from "./testing.ts";
import type { Host } from "./upstream.ts";

/** The same numbers in every run, spread as chance would. */
function chance(): () => number {
  let state = 12345;
  return () => {
    state = (Math.imul(state, 1103515245) + 12345) & 0x7fffffff;
    return (state >>> 8) / 0x800000;
  };
}

class Bed {
  readonly balancer: LoadBalancer;
  readonly hosts: HostImpl[];
  readonly panics = new StatsStore().counter("panics");
  snapshot = new RuntimeSnapshot();
  nowMs = 0;

  constructor(endpoints: readonly object[], more: object = {}) {
    const cluster = new TestCluster({ load_assignment: { cluster_name: "service", endpoints }, ...more });
    this.hosts = cluster.settings.staticHosts.map((host) => new HostImpl(cluster.core, host));
    const bed = this;
    const runtime = {
      get snapshot() {
        return bed.snapshot;
      },
    };
    this.balancer = new LoadBalancer(cluster.settings, {
      tableScope: cluster.stats.scope("lb"),
      panicCounter: this.panics,
      random: chance(),
      runtime,
      now: () => this.nowMs,
    });
    this.balancer.update(this.hosts);
  }

  setRuntime(values: Record<string, RuntimeValue>): void {
    this.snapshot = new RuntimeSnapshot(new Map(Object.entries(values)));
  }

  /** How often each host is chosen, in the order of the configuration. */
  spread(requests: number): number[] {
    const counts = new Map<Host | undefined, number>();
    for (let i = 0; i < requests; i++) {
      const host = this.balancer.choose(anyHost);
      counts.set(host, (counts.get(host) ?? 0) + 1);
    }
    return this.hosts.map((host) => counts.get(host) ?? 0);
  }
}

const group = (endpoints: readonly object[], more: object = {}): object => ({ lb_endpoints: endpoints, ...more });
const bad = { health_status: "UNHEALTHY" };

test("round robin takes turns", () => {
  assert.deepEqual(new Bed([group([at(1), at(2), at(3)])]).spread(9), [3, 3, 3]);
});

test("weights are kept exactly by round robin", () => {
  assert.deepEqual(new Bed([group([at(1, { load_balancing_weight: 1 }), at(2, { load_balancing_weight: 3 })])]).spread(400), [100, 300]);
});

test("random reaches everyone, whatever the weights", () => {
  const counts = new Bed([group([at(1, { load_balancing_weight: 9 }), at(2), at(3)])], { lb_policy: "RANDOM" }).spread(3000);
  for (const count of counts) assert.ok(count > 900 && count < 1100, String(counts));
});

test("least request avoids busy hosts", () => {
  const bed = new Bed([group([at(1), at(2)])], { lb_policy: "LEAST_REQUEST", least_request_lb_config: { choice_count: 20 } });
  bed.hosts[0].stats.rq_active.add(5);
  assert.deepEqual(bed.spread(50), [0, 50]);
});

test("a full scan finds the only idle host, and shares among equals", () => {
  const bed = new Bed([group([at(1), at(2), at(3), at(4)])], { load_balancing_policy: { policies: [leastRequest({ selection_method: "FULL_SCAN" })] } });
  bed.hosts[0].stats.rq_active.inc();
  const counts = bed.spread(300);
  assert.equal(counts[0], 0);
  for (const count of counts.slice(1)) assert.ok(count > 70, String(counts));
});

test("weighted least request divides weights by requests under way, as far as the bias says", () => {
  const endpoints = [group([at(1, { load_balancing_weight: 2 }), at(2, { load_balancing_weight: 1 })])];
  const bed = new Bed(endpoints, { lb_policy: "LEAST_REQUEST", least_request_lb_config: { active_request_bias: { default_value: 1, runtime_key: "bias" } } });
  bed.hosts[0].stats.rq_active.add(3); // weight 2 / 4 against 1 / 1
  bed.spread(10);
  assert.deepEqual(bed.spread(300), [100, 200]);
  bed.setRuntime({ bias: 0 });
  bed.spread(10);
  const [first] = bed.spread(300);
  assert.ok(first >= 199 && first <= 201, String(first));
});

test("unhealthy hosts get nothing; the next priority takes what the first cannot", () => {
  assert.deepEqual(new Bed([group([at(1), at(2, bad), at(3)])]).spread(10), [5, 0, 5]);
  assert.deepEqual(new Bed([group([at(1, bad)]), group([at(2)], { priority: 1 })]).spread(10), [0, 10]);
  // Two of four healthy: 140 % of 50 are 70 %.
  const counts = new Bed([group([at(1), at(2), at(3, bad), at(4, bad)]), group([at(5)], { priority: 1 })]).spread(1000);
  assert.deepEqual([counts[2], counts[3]], [0, 0]);
  assert.ok(counts[4] > 250 && counts[4] < 350, String(counts));
  // One of four unhealthy: 105 %, everything stays.
  assert.equal(new Bed([group([at(1), at(2), at(3), at(4, bad)]), group([at(5)], { priority: 1 })]).spread(100)[4], 0);
});

test("overprovisioning_factor moves the point of failover", () => {
  const endpoints = [group([at(1), at(2, bad)]), group([at(3)], { priority: 1 })];
  const cluster = { load_assignment: { cluster_name: "service", endpoints, policy: { overprovisioning_factor: 200 } } };
  assert.equal(new Bed(endpoints, cluster).spread(100)[2], 0);
});

test("with too few healthy hosts all get requests, and each counts", () => {
  const bed = new Bed([group([at(1), at(2, bad), at(3, bad)])]);
  assert.deepEqual(bed.spread(9), [3, 3, 3]);
  assert.equal(bed.panics.value, 9);
  bed.setRuntime({ "upstream.healthy_panic_threshold": 0 });
  assert.deepEqual(bed.spread(9), [9, 0, 0]);
  assert.equal(bed.panics.value, 9);
});

test("without any panic allowed nobody is chosen among unhealthy hosts", () => {
  const bed = new Bed([group([at(1, bad)])], { common_lb_config: { healthy_panic_threshold: { value: 0 } } });
  assert.equal(bed.balancer.choose(anyHost), undefined);
  assert.equal(bed.panics.value, 0);
});

test("no level panics while all levels together have enough", () => {
  const bed = new Bed([group([at(1), at(2, bad), at(3, bad), at(4, bad)]), group([at(5), at(6)], { priority: 1 })]);
  const counts = bed.spread(1000);
  assert.deepEqual(counts.slice(1, 4), [0, 0, 0]);
  assert.ok(counts[0] > 300 && counts[0] < 400, String(counts));
  assert.equal(bed.panics.value, 0);
});

test("when all levels panic each gets what it has hosts for", () => {
  const counts = new Bed([group([at(1, bad)]), group([at(2, bad), at(3, bad), at(4, bad)], { priority: 1 })]).spread(1000);
  assert.ok(counts[0] > 200 && counts[0] < 300, String(counts));
});

test("degraded hosts are used after healthy ones; draining hosts do not count as members", () => {
  const degraded = { health_status: "DEGRADED" };
  assert.deepEqual(new Bed([group([at(1), at(2, degraded)])]).spread(1000)[0] > 650, true);
  const bed = new Bed([group([at(1, { health_status: "DRAINING" }), at(2, degraded), at(3, { health_status: "TIMEOUT" })])]);
  assert.deepEqual(bed.spread(6), [0, 6, 0]);
  assert.equal(bed.panics.value, 0);
});

test("no members at all: panic, and nobody", () => {
  const bed = new Bed([]);
  assert.equal(bed.balancer.choose(anyHost), undefined);
  assert.equal(bed.panics.value, 1);
});

test("localities share by their weights, scaled by their health", () => {
  const weighted = { common_lb_config: { locality_weighted_lb_config: {} } };
  const zone = (name: string, weight: number): object => ({ locality: { zone: name }, load_balancing_weight: weight });
  assert.deepEqual(new Bed([group([at(1)], zone("a", 1)), group([at(2), at(3)], zone("b", 3))], weighted).spread(400), [100, 150, 150]);
  // Half of b is ill: 3 * 0.7 against 1.
  const [a] = new Bed([group([at(1)], zone("a", 1)), group([at(2), at(3, bad)], zone("b", 3))], weighted).spread(310);
  assert.ok(a >= 99 && a <= 101, String(a));
  assert.deepEqual(new Bed([group([at(1)], { locality: { zone: "a" } }), group([at(2)], zone("b", 1))], weighted).spread(10), [0, 10]);
});

test("a retry can turn hosts down, for as many attempts as it may", () => {
  const bed = new Bed([group([at(1), at(2)])]);
  const avoid = bed.hosts[0];
  for (let i = 0; i < 10; i++) {
    assert.equal(bed.balancer.choose({ ...anyHost, hostSelectionMaxAttempts: 3, shouldSelectAnotherHost: (host) => host === avoid }), bed.hosts[1]);
  }
  assert.notEqual(bed.balancer.choose({ ...anyHost, hostSelectionMaxAttempts: 3, shouldSelectAnotherHost: () => true }), undefined);
});

test("slow start gives a new host its share little by little", () => {
  const slow = { windowMs: 1000, aggression: { value: 1, runtimeKey: "aggression" }, minWeightPercent: 10 };
  const runtime = { snapshot: new RuntimeSnapshot() };
  assert.equal(slowStartFactor(slow, 0, runtime), 0.1);
  assert.equal(slowStartFactor(slow, 500, runtime), 0.5);
  assert.equal(slowStartFactor(slow, 2000, runtime), 1);
  assert.equal(slowStartFactor({ ...slow, aggression: { value: 2, runtimeKey: "" } }, 250, runtime), 0.5);

  const cluster = new TestCluster({ load_assignment: { cluster_name: "service", endpoints: [group([at(1), at(2)])] } });
  const [first, second] = cluster.settings.staticHosts.map((data) => new HostImpl(cluster.core, data));
  let nowMs = 100_000;
  const old = Object.assign(Object.create(first), { sinceMs: nowMs - 5000 });
  const young = Object.assign(Object.create(second), { sinceMs: nowMs });
  const picker = hostPicker([old, young], {
    settings: {
      balancer: "round_robin",
      choiceCount: 2,
      fullScan: false,
      activeRequestBias: { value: 1, runtimeKey: "" },
      slowStart: { ...slow, windowMs: 10_000 },
    },
    runtime,
    now: () => nowMs,
    random: () => 0,
  });
  const share = (): number => Array.from({ length: 100 }, () => picker.pick(0n, 0)).filter((host) => host === young).length;
  const early = share();
  assert.ok(early >= 10 && early <= 20, String(early)); // 10 % against 50 %
  nowMs += 10_000;
  assert.equal(share(), 50);
});

function leastRequest(config: object): object {
  return {
    typed_extension_config: {
      name: "envoy.load_balancing_policies.least_request",
      typed_config: { "@type": "type.googleapis.com/envoy.extensions.load_balancing_policies.least_request.v3.LeastRequest", ...config },
    },
  };
}
