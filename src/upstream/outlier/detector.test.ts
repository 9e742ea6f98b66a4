import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { ResponseHeaders } from "../../http/header-map.ts";
import { type Clock, TimerWheel } from "../../net/timer-wheel.ts";
import { RuntimeSnapshot, type RuntimeValue } from "../../runtime/runtime.ts";
import { StatsStore } from "../../stats/stats.ts";
import { testContext } from "../../testing/compile-context.ts";
import { column, HostCellTable } from "../host-cells.ts";
import { flagNames, healthFlags } from "../host-health.ts";
import { Member } from "../member.ts";
import { assignment, at, compiled } from "../testing.ts";
import type { OutlierResult } from "../upstream.ts";
import { OutlierDetector, successRates } from "./detector.ts";
import { WorkerHostMonitor } from "./monitor.ts";
import type { OutlierSettings } from "./settings.ts";

/** A detector, its hosts, and the monitors of several workers. */
class Bed {
  nowMs = 0;
  random = 0;
  readonly stats = new StatsStore();
  readonly clock: Clock = { now: () => this.nowMs, wall: () => this.nowMs };
  readonly timers = new TimerWheel(this.clock, 1);
  readonly runtime = { snapshot: new RuntimeSnapshot() };
  readonly lines: string[] = [];
  readonly changes: string[] = [];
  readonly hosts: Member[];
  readonly detector: OutlierDetector;
  readonly #monitors: WorkerHostMonitor[][];

  constructor(json: object = {}, hosts = 2, workers = 2) {
    const context = Object.assign(testContext(), { stats: this.stats });
    const ports = Array.from({ length: hosts }, (_, i) => at(i + 1));
    const settings = compiled({ load_assignment: assignment(...ports), outlier_detection: { max_ejection_percent: 100, ...json } }, context);
    assert.deepEqual(context.findings, []);
    const table = new HostCellTable();
    this.detector = new OutlierDetector(settings.outlier as OutlierSettings, {
      cluster: "service",
      scope: settings.scope,
      timers: this.timers,
      runtime: this.runtime,
      random: () => this.random,
      eventLog: { write: (line) => void this.lines.push(line) },
      onChange: (host) => this.changes.push(`${host.data.address.text.slice(-1)} ${flagNames(host.flags).join(",")}`),
    });
    this.hosts = settings.staticHosts.map((data) => {
      const row = table.allocate(0);
      return new Member(data, row, table.at(row), 0);
    });
    this.#monitors = this.hosts.map((host) => {
      this.detector.add(host);
      const options = { outlier: settings.outlier, checked: false, cells: table.at(host.row), runtime: this.runtime };
      return Array.from(
        { length: workers },
        () => new WorkerHostMonitor({ ...options, tell: (event) => event !== "unhealthy" && this.detector.report(host, event) }),
      );
    });
  }

  /** `count` exchanges with a host, over the workers in turn. */
  put(host: number, count: number, status: number | undefined, result: OutlierResult = "ext_origin_request_failed"): void {
    const monitors = this.#monitors[host];
    for (let i = 0; i < count; i++) monitors[i % monitors.length].putResult(result, status);
  }
  degraded(host: number): void {
    this.#monitors[host][0].putDegraded();
  }
  pass(ms: number): void {
    for (const end = this.nowMs + ms; this.nowMs < end; ) {
      this.nowMs = Math.min(end, this.nowMs + 10);
      this.timers.advance();
    }
  }
  isOut(host: number): boolean {
    return (this.hosts[host].flags & healthFlags.failed_outlier_check) !== 0;
  }
  /** How long a host stays out from now, milliseconds. */
  outFor(host: number): number {
    const since = this.nowMs;
    while (this.isOut(host)) this.pass(10);
    return this.nowMs - since;
  }
  /** Counters that are not 0, without their prefixes. */
  counts(): Record<string, number> {
    const found: Record<string, number> = {};
    const prefix = "cluster.service.outlier_detection.";
    for (const name of [
      "overflow",
      "total",
      "enforced_total",
      "success_rate",
      "consecutive_5xx",
      ...kinds.flatMap((kind) => [`detected_${kind}`, `enforced_${kind}`]),
    ]) {
      const { value } = this.stats.counter(`${prefix}ejections_${name}`);
      if (value > 0) found[name] = value;
    }
    return found;
  }
  get active(): number {
    return this.stats.gauge("cluster.service.outlier_detection.ejections_active").value;
  }
  setRuntime(values: Record<string, RuntimeValue>): void {
    this.runtime.snapshot = new RuntimeSnapshot(new Map(Object.entries(values)));
  }
}

const kinds = [
  "consecutive_5xx",
  "consecutive_gateway_failure",
  "consecutive_local_origin_failure",
  "success_rate",
  "local_origin_success_rate",
  "failure_percentage",
  "local_origin_failure_percentage",
];

test("failures in a row count over all workers; a success anywhere ends the row", () => {
  const bed = new Bed();
  bed.put(0, 4, 500);
  bed.put(0, 1, 200, "ext_origin_request_success");
  bed.put(0, 4, 500);
  assert.equal(bed.isOut(0), false);
  bed.put(0, 1, 503);
  assert.equal(bed.isOut(0), true);
  assert.equal(bed.active, 1);
  assert.deepEqual(bed.counts(), { total: 1, enforced_total: 1, consecutive_5xx: 1, detected_consecutive_5xx: 1, enforced_consecutive_5xx: 1 });
  assert.deepEqual(bed.changes, ["1 failed_outlier_check"]);
  // It is out: more of the same means nothing.
  bed.put(0, 20, 500);
  assert.deepEqual(bed.counts()["detected_consecutive_5xx"], 1);
});

test("gateway failures are 502, 503 and 504, and are only watched unless they are enforced", () => {
  const bed = new Bed({ consecutive_5xx: 100 });
  bed.put(0, 4, 502);
  bed.put(0, 1, 500);
  bed.put(0, 5, 504);
  assert.equal(bed.isOut(0), false);
  assert.deepEqual(bed.counts(), { detected_consecutive_gateway_failure: 1 });
  assert.equal(JSON.parse(bed.lines[0]).enforced, false);
  bed.setRuntime({ "outlier_detection.enforcing_consecutive_gateway_failure": 100, "outlier_detection.consecutive_gateway_failure": 3 });
  bed.put(0, 3, 503);
  assert.equal(bed.isOut(0), true);
});

test("a matcher decides which answers are failures, whatever their status", () => {
  const settings = compiled({
    load_assignment: assignment(at(1)),
    outlier_detection: {},
    typed_extension_protocol_options: {
      "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
        "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
        explicit_http_config: { http_protocol_options: {} },
        outlier_detection: {
          error_matcher: {
            or_match: {
              rules: [
                { http_response_headers_match: { headers: [{ name: "x-fault", present_match: true }] } },
                {
                  and_match: {
                    rules: [
                      { any_match: true },
                      { not_match: { http_response_headers_match: { headers: [{ name: ":status", string_match: { prefix: "5" } }] } } },
                    ],
                  },
                },
              ],
            },
          },
        },
      },
    },
  });
  const matches = settings.outlier?.errorMatcher;
  assert.ok(matches);
  assert.deepEqual(
    [matches(new ResponseHeaders(500)), matches(new ResponseHeaders(500, ["x-fault", "1"])), matches(new ResponseHeaders(200))],
    [false, true, true],
  );
  const table = new HostCellTable();
  const cells = table.at(table.allocate(0));
  const monitor = new WorkerHostMonitor({ outlier: settings.outlier, checked: false, cells, runtime: { snapshot: new RuntimeSnapshot() }, tell: () => {} });
  monitor.putResponse(new ResponseHeaders(200), 200);
  assert.deepEqual([cells.get(column.consecutive5xx), cells.get(column.consecutiveGatewayFailure)], [1, 0]);
  monitor.putResponse(new ResponseHeaders(503), 503);
  assert.equal(cells.get(column.consecutive5xx), 0);
});

test("unsplit, failures to connect are answers; split, they have a row of their own", () => {
  const together = new Bed({ consecutive_5xx: 3 });
  together.put(0, 1, undefined, "local_origin_connect_failed");
  together.put(0, 5, undefined, "local_origin_connect_success");
  together.put(0, 1, 504, "local_origin_timeout");
  together.put(0, 1, 500);
  assert.equal(together.isOut(0), true);
  const split = new Bed({ consecutive_5xx: 3, split_external_local_origin_errors: true, consecutive_local_origin_failure: 2 });
  split.put(0, 1, undefined, "local_origin_connect_failed");
  split.put(0, 2, 500);
  split.put(0, 1, undefined, "local_origin_connect_success");
  split.put(0, 1, undefined, "local_origin_timeout");
  assert.equal(split.isOut(0), false);
  split.put(0, 1, undefined, "local_origin_connect_failed");
  assert.equal(split.isOut(0), true);
  assert.equal(split.counts()["enforced_consecutive_local_origin_failure"], 1);
});

test("a host is out for longer each time, up to the longest time, and for less again after quiet intervals", () => {
  const bed = new Bed({ consecutive_5xx: 1, interval: "1s", base_ejection_time: "10s", max_ejection_time: "25s" });
  const times: number[] = [];
  for (let i = 0; i < 4; i++) {
    bed.put(0, 1, 500);
    times.push(bed.outFor(0));
  }
  assert.deepEqual(times, [10_000, 20_000, 25_000, 25_000]);
  assert.equal(bed.active, 0);
  bed.pass(10_000);
  bed.put(0, 1, 500);
  assert.equal(bed.outFor(0), 10_000);
});

test("max_ejection_time_jitter lengthens an ejection at random", () => {
  const bed = new Bed({ consecutive_5xx: 1, interval: "0.1s", base_ejection_time: "1s", max_ejection_time_jitter: "3s" });
  bed.random = 2500;
  bed.put(0, 1, 500);
  assert.equal(bed.outFor(0), 3500);
});

test("no more hosts are out than max_ejection_percent allows; always_eject_one_host allows one", () => {
  const bed = new Bed({ consecutive_5xx: 1, max_ejection_percent: 40 }, 5);
  for (let host = 0; host < 5; host++) bed.put(host, 1, 500);
  assert.equal(bed.active, 2);
  assert.equal(bed.counts()["overflow"], 3);
  assert.equal(bed.counts()["detected_consecutive_5xx"], 5);
  const none = new Bed({ consecutive_5xx: 1, max_ejection_percent: 0 });
  none.put(0, 1, 500);
  assert.equal(none.active, 0);
  const one = new Bed({ consecutive_5xx: 1, max_ejection_percent: 0, always_eject_one_host: true });
  one.put(0, 1, 500);
  one.put(1, 1, 500);
  assert.deepEqual([one.isOut(0), one.isOut(1)], [true, false]);
});

test("a host whose success rate is far below the others' is out; those with few requests are not looked at", () => {
  const bed = new Bed({ consecutive_5xx: 1000, success_rate_request_volume: 10, interval: "1s" }, 6);
  for (let host = 0; host < 5; host++) bed.put(host, 20, 200, "ext_origin_request_success");
  bed.put(4, 20, 500);
  bed.put(5, 9, 500);
  bed.pass(1000);
  assert.deepEqual([bed.isOut(4), bed.isOut(5), bed.active], [true, false, 1]);
  assert.deepEqual(bed.counts(), { total: 1, enforced_total: 1, success_rate: 1, detected_success_rate: 1, enforced_success_rate: 1 });
  assert.equal(bed.detector.successRate(bed.hosts[4], "external"), 50);
  assert.equal(bed.detector.successRate(bed.hosts[5], "external"), -1);
  assert.deepEqual(bed.detector.rates.external, successRates([100, 100, 100, 100, 50], 1.9));
  assert.deepEqual(JSON.parse(bed.lines[0]).eject_success_rate_event, {
    host_success_rate: 50,
    cluster_average_success_rate: 90,
    cluster_success_rate_ejection_threshold: 52,
  });
  // The next interval begins with nothing.
  bed.pass(1000);
  assert.equal(bed.detector.rates.external.average, -1);
  assert.equal(bed.detector.successRate(bed.hosts[4], "external"), -1);
});

test("too few hosts with enough requests: nobody is compared", () => {
  const bed = new Bed({ consecutive_5xx: 1000, success_rate_request_volume: 10, interval: "1s" }, 5);
  for (let host = 0; host < 4; host++) bed.put(host, 20, host === 0 ? 500 : 200);
  bed.pass(1000);
  assert.equal(bed.active, 0);
});

test("failure percentages are watched, and acted on where they are enforced; split, of each origin", () => {
  const common = {
    consecutive_5xx: 1000,
    consecutive_local_origin_failure: 1000,
    interval: "1s",
    failure_percentage_minimum_hosts: 2,
    failure_percentage_request_volume: 10,
    success_rate_minimum_hosts: 100,
  };
  const watched = new Bed(common);
  watched.put(0, 20, 500);
  watched.put(1, 20, 200);
  watched.pass(1000);
  assert.equal(watched.isOut(0), false);
  assert.deepEqual(watched.counts(), { detected_failure_percentage: 1 });
  const enforced = new Bed({ ...common, enforcing_failure_percentage: 100, failure_percentage_threshold: 50 });
  enforced.put(0, 10, 500);
  enforced.put(0, 10, 200);
  enforced.put(1, 20, 200);
  enforced.pass(1000);
  assert.equal(enforced.isOut(0), true);
  assert.deepEqual(JSON.parse(enforced.lines[0]).eject_failure_percentage_event, { host_success_rate: 50 });
  const local = new Bed({ ...common, split_external_local_origin_errors: true, enforcing_failure_percentage_local_origin: 100 });
  local.put(0, 20, undefined, "local_origin_connect_failed");
  local.put(1, 20, undefined, "local_origin_connect_success");
  local.pass(1000);
  assert.equal(local.isOut(0), true);
  assert.equal(local.counts()["enforced_local_origin_failure_percentage"], 1);
});

test("two kinds may name a host in one interval: each is counted, the host is out once", () => {
  const bed = new Bed(
    {
      consecutive_5xx: 1000,
      interval: "1s",
      success_rate_request_volume: 10,
      success_rate_stdev_factor: 1000,
      failure_percentage_request_volume: 10,
      enforcing_failure_percentage: 100,
      base_ejection_time: "1s",
    },
    5,
  );
  for (let host = 0; host < 5; host++) bed.put(host, 20, host === 0 ? 500 : 200);
  bed.pass(1000);
  assert.equal(bed.counts()["enforced_total"], 2);
  assert.equal(bed.active, 1);
  bed.outFor(0);
  assert.equal(bed.active, 0);
});

test("a chance of enforcement below 100 lets some through", () => {
  const bed = new Bed({ consecutive_5xx: 1, enforcing_consecutive_5xx: 30 });
  bed.random = 30;
  bed.put(0, 1, 500);
  assert.equal(bed.isOut(0), false);
  bed.random = 29;
  bed.put(0, 1, 500);
  assert.equal(bed.isOut(0), true);
});

test("a passed health check ends an ejection, unless it must not", () => {
  const bed = new Bed({ consecutive_5xx: 1 });
  bed.put(0, 1, 500);
  bed.hosts[0].flags |= healthFlags.failed_active_hc;
  bed.detector.onHealthCheckPassed(bed.hosts[0]);
  assert.equal(bed.isOut(0), true);
  bed.hosts[0].flags &= ~healthFlags.failed_active_hc;
  bed.detector.onHealthCheckPassed(bed.hosts[0]);
  assert.equal(bed.isOut(0), false);
  const stays = new Bed({ consecutive_5xx: 1, successful_active_health_check_uneject_host: false });
  stays.put(0, 1, 500);
  stays.detector.onHealthCheckPassed(stays.hosts[0]);
  assert.equal(stays.isOut(0), true);
});

test("a host that says it is degraded counts as that for a time that grows", () => {
  const bed = new Bed({ detect_degraded_hosts: true, interval: "1s", base_ejection_time: "2s", max_ejection_percent: 0 });
  bed.degraded(0);
  bed.degraded(0);
  assert.deepEqual(bed.changes, ["1 degraded_outlier_detection"]);
  assert.equal(bed.stats.counter("cluster.service.outlier_detection.ejections_detected_degradation").value, 1);
  bed.pass(1999);
  assert.equal(bed.changes.length, 1);
  bed.pass(1001);
  assert.deepEqual(bed.changes[1], "1 ");
  assert.deepEqual([bed.active, bed.lines.length], [0, 2]);
  const off = new Bed();
  off.degraded(0);
  assert.deepEqual(off.changes, []);
});

test("events are printed as Envoy prints them", () => {
  const bed = new Bed({ consecutive_5xx: 1, interval: "1s", base_ejection_time: "2s" });
  bed.put(0, 1, 500);
  bed.outFor(0);
  assert.deepEqual(bed.lines, [
    '{"type":"CONSECUTIVE_5XX","timestamp":"1970-01-01T00:00:00.000Z","cluster_name":"service","upstream_url":"127.0.0.1:1","action":"EJECT","num_ejections":1,"enforced":true,"eject_consecutive_event":{}}\n',
    '{"type":"CONSECUTIVE_5XX","timestamp":"1970-01-01T00:00:02.000Z","secs_since_last_action":"2","cluster_name":"service","upstream_url":"127.0.0.1:1","action":"UNEJECT","num_ejections":1,"enforced":false}\n',
  ]);
});

test("a host that goes is counted no more, and the timer ends with the detector", () => {
  const bed = new Bed({ consecutive_5xx: 1 });
  bed.put(0, 1, 500);
  bed.detector.remove(bed.hosts[0]);
  assert.equal(bed.active, 0);
  bed.put(0, 1, 500);
  assert.equal(bed.active, 0);
  bed.put(1, 1, 500);
  bed.detector.close();
  assert.deepEqual([bed.active, bed.timers.armed], [0, 0]);
});

test("whatever happens, the gauge is the number of hosts that are out, and within bounds", () => {
  const step = fc.oneof(
    fc.record({ kind: fc.constant("put" as const), host: fc.nat(4), count: fc.integer({ min: 1, max: 12 }), status: fc.constantFrom(200, 404, 500, 503) }),
    fc.record({ kind: fc.constant("pass" as const), ms: fc.integer({ min: 10, max: 5000 }) }),
  );
  fc.assert(
    fc.property(fc.array(step, { maxLength: 40 }), fc.nat(100), (steps, maxPercent) => {
      const bed = new Bed(
        {
          consecutive_5xx: 3,
          interval: "1s",
          base_ejection_time: "2s",
          max_ejection_percent: maxPercent,
          success_rate_request_volume: 5,
          enforcing_failure_percentage: 100,
        },
        5,
        3,
      );
      for (const one of steps) {
        if (one.kind === "put") bed.put(one.host, one.count, one.status);
        else bed.pass(one.ms);
        assert.equal(bed.active, bed.hosts.filter((_, i) => bed.isOut(i)).length);
        assert.ok(bed.active * 20 <= maxPercent);
      }
      bed.pass(400_000);
      assert.equal(bed.active, 0);
    }),
    { numRuns: 30 },
  );
});
