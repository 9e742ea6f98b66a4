import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { testOverload } from "./testing.ts";

const floor = fc.oneof(
  fc.nat(100_000).map((minMs) => ({ minMs })),
  fc.double({ min: 0, max: 1, noNaN: true }).map((minShare) => ({ minShare })),
);

test("a timer is never longer than configured, nor shorter than its floor, and shrinks as pressure rises", () => {
  fc.assert(
    fc.property(floor, fc.nat(1_000_000), fc.double({ min: 0, max: 1, noNaN: true }), fc.double({ min: 0, max: 1, noNaN: true }), (least, ms, a, b) => {
      const overload = testOverload(undefined, new Map([["HTTP_DOWNSTREAM_CONNECTION_IDLE", least]]));
      const at = (value: number): number => {
        overload.set("envoy.overload_actions.reduce_timeouts", value);
        return overload.state.timeout("HTTP_DOWNSTREAM_CONNECTION_IDLE", ms);
      };
      const lowest = Math.min(ms, "minMs" in least ? least.minMs : ms * least.minShare);
      const [low, high] = [at(Math.min(a, b)), at(Math.max(a, b))];
      assert.ok(high <= low + 1e-6 && low <= ms + 1e-6 && high >= lowest - 1e-6);
      assert.equal(at(0), ms);
    }),
  );
});
