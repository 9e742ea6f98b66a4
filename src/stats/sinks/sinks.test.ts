import assert from "node:assert/strict";
import { createSocket } from "node:dgram";
import { once } from "node:events";
import { test } from "node:test";
import { StatsAggregate } from "../aggregate.ts";
import { maxKeptValues, StatsStore } from "../stats.ts";
import type { StatsPicture } from "./sink.ts";
import { datagrams, type StatsdFormat, statsdLines } from "./statsd.ts";
import { TcpSink } from "./tcp-sink.ts";
import { UdpSink } from "./udp-sink.ts";

const plain: StatsdFormat = { prefix: "envoy", tags: "none", scaleToMilliseconds: false };

const to = (port: number) => ({ kind: "ip", ip: "127.0.0.1", port, family: 4, text: `127.0.0.1:${port}` }) as const;

const picture: StatsPicture = {
  counters: [{ name: "cluster.a.rq", delta: 2 }],
  gauges: [
    { name: "live", value: 1 },
    { name: "odd", value: -2.5 },
  ],
  histograms: [
    { name: "time", unit: "ms", values: [3, 1234], seen: 2 },
    { name: "loop", unit: "us", values: [1500], seen: 4 },
    { name: "share", unit: "percent", values: [0.25], seen: 1 },
  ],
  tagged: (name) =>
    name === "cluster.a.rq"
      ? {
          name: "cluster.rq",
          tags: [
            { name: "envoy.cluster_name", value: "a" },
            { name: "x", value: "y" },
          ],
        }
      : { name, tags: [] },
};

test("lines of statsd: deltas, values, one timer for each value", () => {
  assert.deepEqual(statsdLines(picture, plain), {
    counters: ["envoy.cluster.a.rq:2|c"],
    gauges: ["envoy.live:1|g", "envoy.odd:0|g"],
    timers: ["envoy.time:3|ms", "envoy.time:1234|ms", "envoy.loop:1500|ms|@0.25", "envoy.share:0.25|h"],
  });
  assert.deepEqual(statsdLines(picture, { ...plain, scaleToMilliseconds: true }).timers.slice(2, 3), ["envoy.loop:1.5|ms|@0.25"]);
});

test("tags behind the line, and in the name", () => {
  assert.deepEqual(statsdLines(picture, { ...plain, tags: "dog" }).counters, ["envoy.cluster.rq:2|c|#envoy.cluster_name:a,x:y"]);
  assert.deepEqual(statsdLines(picture, { ...plain, tags: "graphite", prefix: "my" }).counters, ["my.cluster.rq;envoy.cluster_name=a;x=y:2|c"]);
  assert.deepEqual(statsdLines(picture, { ...plain, tags: "dog" }).gauges[0], "envoy.live:1|g");
});

test("datagrams are filled, and never beyond their size", () => {
  assert.deepEqual(datagrams(["aa", "bb", "cc"], 0), ["aa", "bb", "cc"]);
  assert.deepEqual(datagrams(["aa", "bb", "cc"], 5), ["aa\nbb", "cc"]);
  assert.deepEqual(datagrams(["aa", "bbbbbbb", "cc"], 5).toSorted(), ["aa\ncc", "bbbbbbb"]);
  assert.deepEqual(datagrams([], 5), []);
});

test("a picture has deltas since the last one, through resets and threads that end", () => {
  const aggregate = new StatsAggregate();
  const link = aggregate.attach("worker_0");
  const store = new StatsStore(link, 4);
  store.keepValues();
  store.counter("unused");
  const count = store.counter("count");
  const time = store.histogram("time");
  const flush = (): StatsPicture => {
    link.recordHistograms([[time.name, time.unit, time.take(), time.takeValues()]]);
    aggregate.flush();
    return aggregate.takePicture();
  };
  count.add(3);
  store.gauge("level").set(5);
  time.record(1234);
  const first = flush();
  assert.deepEqual(first.counters, [{ name: "count", delta: 3 }]);
  assert.deepEqual(first.gauges, [{ name: "level", value: 5 }]);
  assert.deepEqual(first.histograms, [{ name: "time", unit: "ms", values: [1234], seen: 1 }]);
  count.inc();
  aggregate.resetCounters();
  count.inc();
  assert.deepEqual(flush().counters, [{ name: "count", delta: 2 }]);
  const idle = flush();
  assert.deepEqual([idle.counters, idle.histograms], [[{ name: "count", delta: 0 }], []]);
  count.inc();
  link.detach();
  assert.deepEqual(aggregate.takePicture().counters, [{ name: "count", delta: 1 }]);
});

test("of very many values a sample is kept, and said to be one", () => {
  const store = new StatsStore();
  const time = store.histogram("time");
  time.record(1);
  assert.equal(time.takeValues(), undefined);
  store.keepValues();
  for (let i = 0; i < maxKeptValues * 2; i++) time.record(i);
  const kept = time.takeValues();
  assert.equal(kept?.values.length, maxKeptValues);
  assert.equal(kept?.seen, maxKeptValues * 2);
  assert.ok(kept.values.some((value) => value >= maxKeptValues));
});

test("values wait for a picture that nobody asks for, but not for ever", () => {
  const aggregate = new StatsAggregate();
  const link = aggregate.attach("worker_0");
  const values = new Array(maxKeptValues).fill(1);
  for (let i = 0; i < 10; i++) link.recordHistograms([["time", "ms", [], { values, seen: maxKeptValues * 2 }]]);
  const [kept, ...others] = aggregate.takePicture().histograms;
  assert.deepEqual([kept.values.length, kept.seen, others.length], [4 * maxKeptValues, 20 * maxKeptValues, 0]);
});

test("over UDP", async (t) => {
  const receiver = createSocket("udp4");
  receiver.bind(0, "127.0.0.1");
  await once(receiver, "listening");
  t.after(() => receiver.close());
  const got: string[] = [];
  const all = new Promise<void>((resolve) => {
    receiver.on("message", (data) => {
      got.push(data.toString());
      if (got.length === 6) resolve();
    });
  });
  const sink = new UdpSink(to(receiver.address().port), plain, 64, { sendToCluster: () => {}, warn: () => {} });
  t.after(() => sink.close());
  await sink.flush(picture);
  await all;
  assert.deepEqual(got.slice(4), ["envoy.cluster.a.rq:2|c", "envoy.live:1|g\nenvoy.odd:0|g"]);
});

test("nobody listening, and a closed sink, are borne", async () => {
  const free = createSocket("udp4");
  free.bind(0, "127.0.0.1");
  await once(free, "listening");
  const { port } = free.address();
  free.close();
  const sink = new UdpSink(to(port), plain, 0, { sendToCluster: () => {}, warn: () => {} });
  await sink.flush(picture);
  await sink.flush(picture);
  sink.close();
  await sink.flush(picture);
});

test("to a cluster: one text of lines", async () => {
  const sent: string[][] = [];
  const sink = new TcpSink("statsd", plain, { sendToCluster: (...text) => void sent.push(text), warn: () => {} });
  await sink.flush({ ...picture, histograms: [] });
  await sink.flush({ counters: [], gauges: [], histograms: [], tagged: picture.tagged });
  assert.deepEqual(sent, [["statsd", "envoy.cluster.a.rq:2|c\nenvoy.live:1|g\nenvoy.odd:0|g\n"]]);
});
