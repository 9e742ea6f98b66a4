import assert from "node:assert/strict";
import { test } from "node:test";
import { shrinkHeap } from "./shrink-heap.ts";

test("the heap is shrunk where enough of it is free", () => {
  const usage = { rss: 0, heapTotal: 100, heapUsed: 40, external: 0, arrayBuffers: 0 };
  assert.equal(
    shrinkHeap(60, () => usage),
    false,
  );
  assert.equal(
    shrinkHeap(59, () => usage),
    true,
  );
  assert.equal((globalThis as { gc?: unknown }).gc, undefined);
});
