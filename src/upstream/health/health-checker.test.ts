import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { type Clock, TimerWheel } from "../../net/timer-wheel.ts";
import { RuntimeSnapshot, type RuntimeValue } from "../../runtime/runtime.ts";
import { StatsStore } from "../../stats/stats.ts";
import { testContext } from "../../testing/compile-context.ts";
import { flagNames, healthFlags } from "../host-health.ts";
import type { HostData } from "../hosts.ts";
import { assignment, at, compiled } from "../testing.ts";
import type { CheckedHost, Probe, ProbeCallbacks, Transition } from "./health-checker.ts";
import { HealthChecks } from "./health-checks.ts";

interface Asked {
  readonly name: string;
  readonly host: CheckedHost;
  readonly callbacks: ProbeCallbacks;
}

class Bed {
  nowMs = 1000;
  random = 0;
  hasTraffic = true;
  readonly stats = new StatsStore();
  readonly clock: Clock = { now: () => this.nowMs, wall: () => this.nowMs };
  readonly timers = new TimerWheel(this.clock, 1);
  readonly runtime = { snapshot: new RuntimeSnapshot() };
  readonly lines: string[] = [];
  readonly results: string[] = [];
  /** Checks under way, and moments at which they began. */
  asked: Asked[] = [];
  readonly starts: number[] = [];
  timeouts = 0;
  readonly hosts: { data: HostData; flags: number }[];
  readonly checks: HealthChecks;

  constructor(more: object = {}, cluster: object = {}) {
    const base = { timeout: "1s", interval: "10s", unhealthy_threshold: 2, healthy_threshold: 3, http_health_check: { path: "/" }, event_log_path: "/hc" };
    const context = Object.assign(testContext(), {
      stats: this.stats,
      workerIndex: -1,
      openLog: () => ({ write: (text: string) => void this.lines.push(text) }),
    });
    const settings = compiled({ load_assignment: assignment(at(1), at(2)), health_checks: [{ ...base, ...more }], ...cluster }, context);
    assert.deepEqual(context.findings, []);
    this.hosts = settings.staticHosts.map((data) => ({ data, flags: healthFlags.failed_active_hc }));
    this.checks = new HealthChecks(settings, {
      timers: this.timers,
      runtime: this.runtime,
      random: () => this.random,
      hasTraffic: () => this.hasTraffic,
      onResult: (host, transition: Transition, healthy) => this.results.push(`${transition} ${healthy} ${flagNames(host.flags).join(",")}`),
      probe: ({ name }, host, callbacks): Probe => ({
        start: () => {
          this.starts.push(this.nowMs);
          this.asked.push({ name, host, callbacks });
        },
        timedOut: () => this.timeouts++,
        close: () => {},
      }),
    });
  }

  pass(ms: number): void {
    for (const end = this.nowMs + ms; this.nowMs < end; ) {
      this.nowMs++;
      this.timers.advance();
    }
  }
  /** The answer to the check under way. */
  answer(how: (callbacks: ProbeCallbacks) => void): string {
    const [first] = this.asked.splice(0, 1);
    how(first.callbacks);
    return this.results.at(-1) ?? "";
  }
  ok = (): string => this.answer((callbacks) => callbacks.onSuccess(false));
  bad = (): string => this.answer((callbacks) => callbacks.onFailure("ACTIVE", { retriable: true, status: 500 }));
  stat(name: string): number {
    return this.stats.counter(`cluster.service.health_check.${name}`).value;
  }
  gauge(name: string): number {
    return this.stats.gauge(`cluster.service.health_check.${name}`).value;
  }
  events(): string[] {
    return this.lines.map((line) => Object.keys(JSON.parse(line) as object).find((key) => /event|degraded/.test(key)) ?? "");
  }
  setRuntime(values: Record<string, RuntimeValue>): void {
    this.runtime.snapshot = new RuntimeSnapshot(new Map(Object.entries(values)));
  }
}

test("the first check decides alone; later a host needs as many as the thresholds say", () => {
  const bed = new Bed();
  bed.checks.add(bed.hosts[0]);
  assert.equal(bed.ok(), "changed true ");
  assert.equal(bed.gauge("healthy"), 1);
  bed.pass(10_000);
  assert.equal(bed.bad(), "pending false ");
  bed.pass(10_000);
  assert.equal(bed.bad(), "changed false failed_active_hc");
  assert.equal(bed.gauge("healthy"), 0);
  for (const expected of ["pending true failed_active_hc", "pending true failed_active_hc", "changed true "]) {
    bed.pass(10_000);
    assert.equal(bed.ok(), expected);
  }
  assert.deepEqual([bed.stat("attempt"), bed.stat("success"), bed.stat("failure"), bed.stat("network_failure")], [6, 4, 2, 0]);
  assert.deepEqual(bed.events(), ["add_healthy_event", "eject_unhealthy_event", "add_healthy_event"]);
  assert.deepEqual(JSON.parse(bed.lines[1]).eject_unhealthy_event, { failure_type: "ACTIVE", http_status_code: 500 });
});

test("an answer that is wrong and not retriable fails a host at once; a failure in between starts the count anew", () => {
  const bed = new Bed({ unhealthy_threshold: 1000 });
  bed.checks.add(bed.hosts[0]);
  bed.ok();
  bed.pass(10_000);
  assert.equal(
    bed.answer((callbacks) => callbacks.onFailure("ACTIVE", { status: 404 })),
    "changed false failed_active_hc",
  );
  bed.pass(10_000);
  bed.ok();
  bed.pass(10_000);
  bed.ok();
  bed.pass(10_000);
  bed.bad();
  for (const expected of ["pending true failed_active_hc", "pending true failed_active_hc", "changed true "]) {
    bed.pass(10_000);
    assert.equal(bed.ok(), expected);
  }
});

test("no answer in time is a network failure, and shows", () => {
  const bed = new Bed({ unhealthy_threshold: 1 });
  bed.checks.add(bed.hosts[0]);
  bed.ok();
  bed.pass(10_999);
  assert.equal(bed.timeouts, 0);
  bed.pass(1);
  assert.equal(bed.timeouts, 1);
  assert.equal(bed.results.at(-1), "changed false failed_active_hc,active_hc_timeout");
  assert.equal(bed.stat("network_failure"), 1);
  bed.asked = [];
  bed.pass(10_000);
  // Failing for another reason takes the flag away.
  assert.equal(bed.bad(), "unchanged false failed_active_hc");
});

test("a degraded answer makes a healthy host degraded until another comes", () => {
  const bed = new Bed();
  bed.checks.add(bed.hosts[0]);
  assert.equal(
    bed.answer((callbacks) => callbacks.onSuccess(true)),
    "changed true degraded_active_hc",
  );
  bed.pass(10_000);
  assert.equal(bed.ok(), "changed true ");
  assert.deepEqual(bed.events(), ["add_healthy_event", "degraded_healthy_host", "no_longer_degraded_host"]);
});

test("a host may fail itself: passive, at once, and excluded until it passes", () => {
  const bed = new Bed({ healthy_threshold: 1 });
  bed.checks.add(bed.hosts[0]);
  bed.ok();
  bed.checks.failPassively(bed.hosts[0]);
  assert.equal(bed.results.at(-1), "changed false failed_active_hc,excluded_via_immediate_hc_fail");
  assert.equal(bed.stat("passive_failure"), 1);
  bed.pass(10_000);
  assert.equal(bed.ok(), "changed true ");
});

test("intervals: by health, at the edges, and slowly while nobody uses the cluster", () => {
  const intervals = {
    unhealthy_interval: "2s",
    unhealthy_edge_interval: "3s",
    healthy_edge_interval: "4s",
    no_traffic_interval: "20s",
    no_traffic_healthy_interval: "30s",
  };
  const bed = new Bed(intervals);
  bed.hasTraffic = false;
  bed.checks.add(bed.hosts[0]);
  const waited = (): number => {
    const before = bed.starts.length;
    const since = bed.nowMs;
    while (bed.starts.length === before) bed.pass(1);
    return bed.nowMs - since;
  };
  bed.ok();
  assert.equal(waited(), 30_000);
  bed.bad(); // pending: unhealthy
  assert.equal(waited(), 20_000);
  bed.hasTraffic = true;
  bed.bad(); // unhealthy
  assert.equal(waited(), 2000);
  bed.ok();
  assert.equal(waited(), 4000);
  bed.ok();
  waited();
  bed.ok(); // healthy
  assert.equal(waited(), 10_000);
  bed.bad();
  assert.equal(waited(), 3000);
});

test("jitter is below its bound, also the initial one; runtime bounds the interval", () => {
  fc.assert(
    fc.property(fc.nat(2 ** 32 - 1), fc.integer({ min: 1, max: 5000 }), fc.integer({ min: 0, max: 100 }), (random, jitter, percent) => {
      const bed = new Bed({ interval_jitter: `${jitter / 1000}s`, interval_jitter_percent: percent, initial_jitter: "0.5s" });
      bed.random = random;
      bed.checks.add(bed.hosts[0]);
      assert.equal(bed.starts.length, 0);
      bed.pass(500 + jitter);
      assert.equal(bed.starts.length, 1);
    }),
    { numRuns: 30 },
  );
  const bed = new Bed();
  bed.setRuntime({ "health_check.max_interval": 500 });
  bed.checks.add(bed.hosts[0]);
  bed.ok();
  bed.pass(500);
  assert.equal(bed.starts.length, 2);
  bed.setRuntime({ "health_check.min_interval": 60_000 });
  bed.ok();
  bed.pass(59_999);
  assert.equal(bed.starts.length, 2);
});

test("a host that goes is forgotten: no timer stays, the gauge goes down, and who waits for a first result hears", () => {
  const bed = new Bed();
  for (const host of bed.hosts) bed.checks.add(host);
  bed.ok();
  bed.checks.remove(bed.hosts[0]);
  bed.checks.remove(bed.hosts[1]);
  assert.equal(bed.gauge("healthy"), 0);
  assert.equal(bed.timers.armed, 0);
  assert.equal(bed.results.at(-1), "unchanged false failed_active_hc");
  // A late answer means nothing.
  bed.ok();
  assert.equal(bed.results.length, 2);
});

test("whatever the answers, gauges and counters agree with the flags", () => {
  fc.assert(
    fc.property(fc.array(fc.constantFrom("ok", "degraded", "bad", "network", "timeout", "passive"), { maxLength: 40 }), (answers) => {
      const bed = new Bed();
      const [host] = bed.hosts;
      bed.checks.add(host);
      for (const answer of answers) {
        if (answer === "passive") {
          bed.checks.failPassively(host);
          continue;
        }
        while (bed.asked.length === 0) bed.pass(100);
        if (answer === "ok") bed.ok();
        else if (answer === "degraded") bed.answer((callbacks) => callbacks.onSuccess(true));
        else if (answer === "bad") bed.bad();
        else if (answer === "network") bed.answer((callbacks) => callbacks.onFailure("NETWORK"));
        else {
          bed.pass(1000);
          bed.asked = [];
        }
        assert.equal(bed.gauge("healthy"), (host.flags & healthFlags.failed_active_hc) === 0 ? 1 : 0);
      }
      assert.equal(bed.stat("success") + bed.stat("failure"), answers.length);
      bed.checks.close();
      assert.equal(bed.timers.armed, 0);
      assert.equal(bed.gauge("healthy"), 0);
    }),
    { numRuns: 60 },
  );
});

test("with several checks a host is healthy when it passes each, and nothing is said before all have a result", () => {
  const one = { timeout: "1s", interval: "10s", unhealthy_threshold: 2, healthy_threshold: 1, tcp_health_check: {} };
  const bed = new Bed(
    {},
    {
      health_checks: [
        { ...one, name: "a" },
        { ...one, name: "b", interval: "7s" },
      ],
    },
  );
  bed.checks.add(bed.hosts[0]);
  bed.ok();
  assert.deepEqual(bed.results, []);
  assert.equal(bed.ok(), "changed true ");
  assert.deepEqual([bed.gauge("healthy"), bed.gauge("name.a.healthy"), bed.gauge("name.b.healthy")], [1, 1, 1]);
  bed.pass(7000);
  assert.equal(bed.bad(), "unchanged true ");
  bed.pass(3000);
  assert.equal(
    bed.answer((callbacks) => callbacks.onFailure("ACTIVE")),
    "changed false failed_active_hc",
  );
  assert.deepEqual([bed.gauge("healthy"), bed.gauge("name.a.healthy"), bed.gauge("name.b.healthy")], [0, 0, 1]);
  bed.checks.remove(bed.hosts[0]);
  assert.deepEqual([bed.gauge("healthy"), bed.gauge("name.b.healthy"), bed.timers.armed], [0, 0, 0]);
});
