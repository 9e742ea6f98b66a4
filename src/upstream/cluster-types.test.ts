/** Clusters whose members are not their own: ORIGINAL_DST and the aggregate. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { RequestHeaders } from "../http/header-map.ts";
import { ipAddress } from "../net/address.ts";
import type { Address } from "../net/connection.ts";
import { TimerWheel } from "../net/timer-wheel.ts";
import { RuntimeSnapshot } from "../runtime/runtime.ts";
import { StatsStore } from "../stats/stats.ts";
import { testContext } from "../testing/compile-context.ts";
import { MainClusters } from "./main-clusters.ts";
import { originalDestination } from "./original-dst.ts";
import { anyHost, assignment, at, compiled } from "./testing.ts";
import type { LoadBalancerContext } from "./upstream.ts";
import { WorkerClusters } from "./worker-clusters.ts";

/** Main thread and one worker, joined by calls instead of messages. */
class Bed {
  nowMs = 0;
  readonly stats = new StatsStore();
  readonly timers = new TimerWheel({ now: () => this.nowMs, wall: () => this.nowMs });
  readonly main: MainClusters;
  readonly worker: WorkerClusters;

  constructor(...clusters: object[]) {
    const runtime = { snapshot: new RuntimeSnapshot() };
    const { stats, timers } = this;
    this.worker = new WorkerClusters({
      stats,
      timers,
      runtime,
      threads: 1,
      workerIndex: 0,
      onHostsUsed: (cluster, fresh, used) => this.main.hostsUsed(cluster, fresh, used),
    });
    this.main = new MainClusters({ stats, timers, runtime, threads: 1, onUpdate: (update) => this.worker.updateHosts(update) });
    for (const json of clusters) {
      const settings = compiled(json, Object.assign(testContext({ timers }), { stats }));
      this.worker.add(settings);
      this.main.add(settings);
    }
  }

  /** The host that a request would go to. */
  choose(cluster: string, context: Partial<LoadBalancerContext> = {}): string | undefined {
    return this.worker.get(cluster)?.httpPool("default", undefined, { ...anyHost, ...context })?.host.address.text;
  }
  pass(ms: number): void {
    this.nowMs += ms;
    this.timers.advance();
  }
  members(cluster: string): string[] {
    return (this.main.views().find(({ settings }) => settings.name === cluster)?.hosts ?? []).map(({ address }) => address.text);
  }
}

const withHeader = (value: string, name = "x-envoy-original-dst-host"): Partial<LoadBalancerContext> => {
  const requestHeaders = new RequestHeaders("GET", "/", "svc.test", "http");
  requestHeaders.set(name, value);
  return { requestHeaders };
};

const original = (config: object = { use_http_header: true }): object => ({
  type: "ORIGINAL_DST",
  lb_policy: "CLUSTER_PROVIDED",
  cleanup_interval: "10s",
  original_dst_lb_config: config,
});

test("original destination: a host comes up where it is used, stays one, and goes when nobody uses it", () => {
  const bed = new Bed(original());
  assert.equal(bed.choose("service", withHeader("127.0.0.1:8001")), "127.0.0.1:8001");
  const host = bed.worker.get("service")?.hosts()[0];
  assert.equal(host?.hostname, "service127.0.0.1:8001");
  assert.equal(bed.choose("service", withHeader("127.0.0.1:8001")), "127.0.0.1:8001");
  assert.equal(bed.worker.get("service")?.hosts()[0], host, "the same host after the main thread has told of it");
  assert.deepEqual(bed.members("service"), ["127.0.0.1:8001"]);
  bed.pass(9000);
  assert.equal(bed.choose("service", withHeader("[::1]:8002")), "[::1]:8002");
  bed.pass(1000);
  assert.deepEqual(bed.members("service"), ["127.0.0.1:8001", "[::1]:8002"]);
  bed.pass(2000);
  bed.choose("service", withHeader("[::1]:8002"));
  bed.pass(8000);
  assert.deepEqual(bed.members("service"), ["[::1]:8002"]);
  bed.pass(10_000);
  bed.pass(10_000);
  assert.deepEqual(bed.members("service"), []);
  assert.deepEqual(bed.worker.get("service")?.hosts(), []);
});

test("original destination: header, metadata, redirected connection in that order; malformed ones count", () => {
  const stats = new StatsStore();
  const invalid = stats.counter("invalid");
  const find = (config: object, context: Partial<LoadBalancerContext>): string | undefined =>
    originalDestination(compiled(original(config)).originalDst as never, { ...anyHost, ...context }, invalid)?.text;
  const connection = (localAddress: Address, isLocalAddressRestored: boolean) =>
    ({ downstreamConnection: { localAddress, isLocalAddressRestored } }) as unknown as Partial<LoadBalancerContext>;
  const streamInfo = { dynamicMetadata: { here: { to: "10.0.0.1:80", odd: "somewhere" } } } as never;

  assert.equal(find({}, connection(ipAddress("10.0.0.9", 443), true)), "10.0.0.9:443");
  assert.equal(find({}, connection(ipAddress("10.0.0.9", 443), false)), undefined, "not redirected: it was meant for us");
  assert.equal(find({}, withHeader("10.0.0.2:1")), undefined, "the header counts only where it is asked for");
  const both = { use_http_header: true, http_header_name: "X-To", metadata_key: { key: "here", path: [{ key: "to" }] } };
  assert.equal(find(both, { ...withHeader("10.0.0.2:81, 10.0.0.3:81", "x-to"), streamInfo }), "10.0.0.2:81");
  assert.equal(find(both, { streamInfo }), "10.0.0.1:80");
  assert.equal(find({ ...both, upstream_port_override: 8443 }, { streamInfo }), "10.0.0.1:8443");
  assert.equal(invalid.value, 0);
  for (const text of ["", "name:80", "10.0.0.1", "10.0.0.1:0", "10.0.0.1:99999", "/a/socket"])
    assert.equal(find(both, withHeader(text, "x-to")), undefined, text);
  assert.equal(invalid.value, 6);
  assert.equal(find({ metadata_key: { key: "here", path: [{ key: "odd" }] } }, { streamInfo }), undefined);
  assert.equal(invalid.value, 7);
  for (const path of [["to", "deeper"], ["toString"], ["absent"]])
    assert.equal(find({ metadata_key: { key: "here", path: path.map((key) => ({ key })) } }, { streamInfo }), undefined);
});

test("original destination: what cannot be is refused as Envoy words it", () => {
  const findings = (json: object): string[] => {
    const context = testContext();
    compiled(json, context);
    return [...context.findings];
  };
  assert.match(findings({ type: "ORIGINAL_DST" })[0], /LB policy ROUND_ROBIN is not valid for Cluster type ORIGINAL_DST. Only 'CLUSTER_PROVIDED'/);
  assert.match(findings({ ...original(), load_assignment: assignment(80) })[0], /ORIGINAL_DST clusters must have no load assignment configured/);
  assert.match(findings(original({ http_header_name: "x-to" }))[0], /use_http_header is false/);
  assert.match(findings({ ...original(), lb_subset_config: { subset_selectors: [{ keys: ["a"] }] } })[0], /cannot be combined with lb_subset_config/);
  assert.deepEqual(findings(original()), []);
});

const aggregate = (name: string, ...clusters: string[]): object => ({
  name,
  lb_policy: "CLUSTER_PROVIDED",
  cluster_type: {
    name: "envoy.clusters.aggregate",
    typed_config: { "@type": "type.googleapis.com/envoy.extensions.clusters.aggregate.v3.ClusterConfig", clusters },
  },
});

const member = (name: string, ...endpoints: object[]): object => ({ name, load_assignment: assignment(...endpoints) });

test("an aggregate takes the first member that is healthy, whatever its levels", () => {
  const sick = { health_status: "UNHEALTHY" };
  const bed = new Bed(
    aggregate("all", "none", "gone", "first", "second"),
    member("none"),
    { name: "first", load_assignment: { cluster_name: "first", endpoints: [{ lb_endpoints: [at(1, sick)] }, { priority: 1, lb_endpoints: [at(2)] }] } },
    member("second", at(3)),
  );
  assert.equal(bed.choose("all"), "127.0.0.1:2");
  const update = (hosts: readonly object[]): void => bed.worker.updateHosts({ cluster: "first", hosts: hosts as never, cells: new SharedArrayBuffer(4096) });
  const known = bed.main.views().find(({ settings }) => settings.name === "first")?.hosts ?? [];
  update(known.map((host) => ({ ...host, health: "unhealthy" })));
  assert.equal(bed.choose("all"), "127.0.0.1:3");
  update(known.map((host) => ({ ...host, health: "healthy" })));
  assert.equal(bed.choose("all"), "127.0.0.1:1");
  bed.worker.remove("first");
  assert.equal(bed.choose("all"), "127.0.0.1:3");
  bed.worker.remove("second");
  assert.equal(bed.choose("all"), undefined);
});

test("an aggregate in an aggregate counts for nothing, as with Envoy, so that circles end", () => {
  const bed = new Bed(
    aggregate("outer", "inner", "plain"),
    aggregate("inner", "other"),
    member("plain", at(7)),
    member("other", at(8)),
    aggregate("self", "self"),
  );
  assert.equal(bed.choose("self"), undefined);
  assert.equal(bed.choose("outer"), "127.0.0.1:7");
});
