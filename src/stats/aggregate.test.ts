import assert from "node:assert/strict";
import { test } from "node:test";
import { StatsAggregate } from "./aggregate.ts";
import { type PrometheusSelection, prometheusText } from "./prometheus.ts";
import { StatsStore } from "./stats.ts";

const everything: PrometheusSelection = { counters: true, gauges: true, textReadouts: true, histograms: true, usedOnly: false, accepts: () => true };
const text = (aggregate: StatsAggregate, selection: Partial<PrometheusSelection> = {}, summaries = false): string =>
  [...prometheusText(aggregate, { ...everything, ...selection }, { summaries, native: false })].join("");

function threads(count: number): {
  readonly aggregate: StatsAggregate;
  readonly stores: readonly StatsStore[];
  readonly links: readonly ReturnType<StatsAggregate["attach"]>[];
} {
  const aggregate = new StatsAggregate();
  const links = Array.from({ length: count }, (_, i) => aggregate.attach(`worker_${i}`));
  return { aggregate, links, stores: links.map((link) => new StatsStore(link, 4)) };
}

test("counters and gauges are sums over the threads", () => {
  const { aggregate, stores } = threads(2);
  stores[0].counter("cluster.a.upstream_rq_total").add(3);
  stores[1].counter("cluster.a.upstream_rq_total").add(4);
  stores[0].gauge("cluster.a.upstream_rq_active").set(2);
  stores[1].gauge("cluster.a.upstream_rq_active").set(1);
  assert.equal(aggregate.value("cluster.a.upstream_rq_total"), 7);
  assert.equal(aggregate.value("cluster.a.upstream_rq_active"), 3);
  assert.equal(aggregate.value("nobody.has.it"), 0);
});

test("a store that outgrows its memory takes its values along", () => {
  const { aggregate, stores } = threads(1);
  const counters = Array.from({ length: 50 }, (_, i) => stores[0].counter(`c.${i}`));
  for (const [i, counter] of counters.entries()) counter.add(i);
  counters[0].inc();
  for (let i = 0; i < 50; i++) assert.equal(aggregate.value(`c.${i}`), i === 0 ? 1 : i);
});

test("of a thread that ended the counts stay and the gauges go; its successor adds to them", () => {
  const { aggregate, stores, links } = threads(1);
  stores[0].counter("requests").add(5);
  stores[0].gauge("active").set(5);
  links[0].detach();
  assert.equal(aggregate.value("requests"), 5);
  assert.equal(aggregate.value("active"), 0);
  const next = new StatsStore(aggregate.attach("worker_0"), 4);
  next.counter("requests").inc();
  assert.equal(aggregate.value("requests"), 6);
  assert.match(text(aggregate, { usedOnly: true }), /envoy_active\{\} 0/);
});

test("reset counters begin at zero while the threads go on", () => {
  const { aggregate, stores } = threads(1);
  const requests = stores[0].counter("requests");
  requests.add(5);
  stores[0].gauge("active").set(2);
  aggregate.resetCounters();
  assert.equal(aggregate.value("requests"), 0);
  requests.inc();
  assert.equal(aggregate.value("requests"), 1);
  assert.equal(aggregate.value("active"), 2);
});

test("histograms have the last interval and everything", () => {
  const { aggregate, stores, links } = threads(2);
  const times = stores.map((store) => store.histogram("http.in.downstream_rq_time"));
  const send = (): void => times.forEach((histogram, i) => void links[i].recordHistograms([[histogram.name, histogram.unit, histogram.take()]]));
  times[0].record(1);
  times[1].record(20);
  send();
  aggregate.flush();
  times[0].record(3);
  send();
  aggregate.flush();
  const [view] = [...aggregate.histograms()];
  assert.equal(view.interval.count, 1);
  assert.equal(view.cumulative.count, 3);
});

test("refused names are counted nowhere", () => {
  const { aggregate, stores } = threads(1);
  stores[0].setMatcher((name) => !name.startsWith("cluster."));
  stores[0].counter("cluster.a.x").inc();
  stores[0].gauge("cluster.a.y").inc();
  stores[0].histogram("cluster.a.z").record(1);
  stores[0].counter("http.x").inc();
  assert.deepEqual([...aggregate.names()], ["http.x"]);
});

test("the text of Prometheus: a type once for each name, labels escaped, buckets that rise", () => {
  const { aggregate, stores, links } = threads(1);
  stores[0].counter("cluster.b.upstream_rq_total").inc();
  stores[0].counter('cluster.a"\\.upstream_rq_total').inc();
  stores[0].gauge("server.live").set(1);
  stores[0].counter("unused.total");
  const time = stores[0].histogram("cluster.b.upstream_rq_time");
  for (const ms of [0, 3, 7, 7, 4_000_000]) time.record(ms);
  links[0].recordHistograms([[time.name, time.unit, time.take()]]);
  aggregate.flush();
  aggregate.setText("control_plane.identifier", "one");
  const lines = text(aggregate).split("\n");
  assert.equal(lines.filter((line) => line === "# TYPE envoy_cluster_upstream_rq_total counter").length, 1);
  assert.ok(lines.includes('envoy_cluster_upstream_rq_total{envoy_cluster_name="b"} 1'));
  assert.ok(lines.includes('envoy_cluster_upstream_rq_total{envoy_cluster_name="a\\"\\\\"} 1'));
  assert.ok(lines.includes("envoy_unused_total{} 0"));
  assert.ok(lines.includes('envoy_control_plane_identifier{text_value="one"} 0'));
  const buckets = lines.filter((line) => line.startsWith("envoy_cluster_upstream_rq_time_bucket"));
  assert.deepEqual(
    buckets.map((line) => line.replace(/^.*le="/, "").replace('"}', "")).filter((_, i) => [0, 2, 3, 18, 19].includes(i)),
    ["0.5 1", "5 2", "10 4", "3600000 4", "+Inf 5"],
  );
  assert.ok(lines.includes('envoy_cluster_upstream_rq_time_count{envoy_cluster_name="b"} 5'));
  assert.doesNotMatch(text(aggregate, { usedOnly: true }), /unused/);
  assert.doesNotMatch(text(aggregate, { counters: false }), /upstream_rq_total/);
  assert.match(text(aggregate, {}, true), /# TYPE envoy_cluster_upstream_rq_time summary\n[^#]*quantile="0.5"\} 7/);
});
