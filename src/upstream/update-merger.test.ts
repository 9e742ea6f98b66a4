import assert from "node:assert/strict";
import { test } from "node:test";
import { TimerWheel } from "../net/timer-wheel.ts";
import { StatsStore } from "../stats/stats.ts";
import { UpdateMerger } from "./update-merger.ts";

class Bed {
  nowMs = 0;
  delivered: number[] = [];
  readonly stats = new StatsStore();
  readonly timers = new TimerWheel({ now: () => this.nowMs, wall: () => this.nowMs }, 1);
  readonly merger: UpdateMerger;
  readonly names = ["cluster_updated", "cluster_updated_via_merge", "update_merge_cancelled", "update_out_of_merge_window"] as const;
  constructor(windowMs: number) {
    const [cluster_updated, cluster_updated_via_merge, update_merge_cancelled, update_out_of_merge_window] = this.names.map((name) => this.stats.counter(name));
    const stats = { cluster_updated, cluster_updated_via_merge, update_merge_cancelled, update_out_of_merge_window };
    this.merger = new UpdateMerger(windowMs, this.timers, stats, () => this.delivered.push(this.nowMs));
  }
  pass(ms: number): void {
    for (const end = this.nowMs + ms; this.nowMs < end; ) {
      this.nowMs++;
      this.timers.advance();
    }
  }
  counts(): number[] {
    return this.names.map((name) => this.stats.counter(name).value);
  }
}

test("the first change is told at once; those of the window that it opens are told together when it ends", () => {
  const bed = new Bed(1000);
  bed.merger.changed(1);
  bed.pass(100);
  bed.merger.changed(1);
  bed.pass(500);
  bed.merger.changed(1);
  bed.pass(3000);
  assert.deepEqual(bed.delivered, [0, 1100]);
  assert.deepEqual(bed.counts(), [1, 1, 0, 1]);
  bed.merger.changed(2);
  assert.deepEqual(bed.counts(), [3, 1, 0, 3]);
});

test("a change of membership tells what waited, too, and opens a window", () => {
  const bed = new Bed(1000);
  bed.merger.changed(1);
  bed.pass(10);
  bed.merger.changed(1);
  bed.merger.replaced();
  bed.pass(2000);
  assert.deepEqual(bed.delivered, [0]);
  assert.deepEqual(bed.counts(), [1, 0, 1, 1]);
});

test("a window of 0 merges nothing", () => {
  const bed = new Bed(0);
  bed.merger.changed(1);
  bed.merger.changed(1);
  bed.merger.replaced();
  assert.deepEqual(bed.delivered, [0, 0]);
  assert.deepEqual(bed.counts(), [2, 0, 0, 0]);
});
