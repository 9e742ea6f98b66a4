import assert from "node:assert/strict";
import { test } from "node:test";
import { DrainState } from "./drain.ts";

const at = { now: () => now, wall: () => now };
let now = 0;

test("gradual draining closes ever more connections over the drain time", () => {
  now = 1000;
  let random = 0.4;
  const drain = new DrainState({ drainTimeMs: 100, strategy: "Gradual" }, at, () => random);
  assert.equal(drain.drainClose(), false);
  drain.start("gradual");
  assert.equal(drain.drainClose(), false);
  now += 50;
  assert.equal(drain.drainClose(), true, "0.4 < 50/100");
  random = 0.6;
  assert.equal(drain.drainClose(), false);
  now += 50;
  assert.equal(drain.drainClose(), true, "the drain time is over");
});

test("immediate draining and a failed health check close at once", () => {
  const drain = new DrainState({ drainTimeMs: 100, strategy: "Immediate" }, at, () => 0.99);
  drain.start("gradual");
  assert.equal(drain.drainClose(), true);
  const failed = new DrainState({ drainTimeMs: 100, strategy: "Gradual" }, at, () => 0.99);
  failed.healthFailed = true;
  assert.equal(failed.drainClose(), true);
  assert.equal(failed.drainClose(true), false, "MODIFY_ONLY listeners ignore it");
});
