import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { binBounds, Distribution } from "./log-linear.ts";
import { binKey, Histogram } from "./stats.ts";

function distribution(values: readonly number[]): Distribution {
  const histogram = new Histogram("h", "ms");
  for (const value of values) histogram.record(value);
  const made = new Distribution();
  made.add(histogram.take());
  return made;
}
const value = fc.oneof(fc.nat(200), fc.nat(10_000_000), fc.double({ min: 1e-9, max: 1e15, noNaN: true }));

test("a value lies in its bin, which is a hundredth to a tenth of it wide", () => {
  fc.assert(
    fc.property(value, (v) => {
      const { lower, width } = binBounds(binKey(v));
      assert.ok(lower <= v * (1 + 1e-9) && v < (lower + width) * (1 + 1e-9) + (v === 0 ? 1 : 0), `${v} in [${lower}, ${lower + width})`);
      assert.ok(width <= v / 10 + 1e-9 * v);
    }),
  );
  for (const odd of [-1, Number.NaN, -0]) assert.equal(binKey(odd), 0);
  assert.equal(binKey(Number.POSITIVE_INFINITY), 25599);
});

test("quantiles as Envoy tells them", () => {
  assert.deepEqual(distribution([]).quantiles([0, 1]), [Number.NaN, Number.NaN]);
  assert.deepEqual(distribution([0]).quantiles([0, 0.5, 1]), [0, 0, 0]);
  // Envoy shows P0(1.05,..) for a single 1, P50(14.5,..) for a single 14.
  assert.deepEqual(distribution([1]).quantiles([0, 1]), [1.05, 1.05]);
  assert.deepEqual(distribution([14]).quantiles([0.5]), [14.5]);
});

test("quantiles rise, and lie between the smallest and the largest bin", () => {
  fc.assert(
    fc.property(fc.array(value, { minLength: 1, maxLength: 200 }), (values) => {
      const made = distribution(values);
      const found = made.quantiles([0, 0.25, 0.5, 0.9, 0.99, 1]);
      for (let i = 1; i < found.length; i++) assert.ok(found[i] >= found[i - 1]);
      const last = binBounds(binKey(Math.max(...values)));
      assert.ok(found[0] >= binBounds(binKey(Math.min(...values))).lower && found[5] <= last.lower + last.width);
      assert.equal(made.count, values.length);
    }),
  );
});

test("merged distributions are the distribution of all values", () => {
  fc.assert(
    fc.property(fc.array(value, { maxLength: 50 }), fc.array(value, { maxLength: 50 }), (a, b) => {
      const merged = distribution(a);
      merged.add(distribution(b).entries);
      const whole = distribution([...a, ...b]);
      assert.deepEqual(merged.bins, whole.bins);
      assert.equal(merged.sum, whole.sum);
    }),
  );
});

test("counts below bounds never fall", () => {
  fc.assert(
    fc.property(fc.array(value, { maxLength: 50 }), (values) => {
      const counts = distribution(values).countsBelow([0, 1, 10, 100, 1e6, 1e16]);
      for (let i = 1; i < counts.length; i++) assert.ok(counts[i] >= counts[i - 1]);
      assert.equal(counts[5], values.length);
    }),
  );
});
