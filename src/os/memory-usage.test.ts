import assert from "node:assert/strict";
import { test } from "node:test";
import { memoryUsage } from "./memory-usage.ts";

test("without a free descriptor the memory that was known is told", () => {
  const known = memoryUsage();
  assert.ok(known.rss > 0);
  const failing = (): never => {
    throw Object.assign(new Error("EMFILE: too many open files, uv_resident_set_memory"), { code: "EMFILE" });
  };
  assert.deepEqual(memoryUsage(failing), known);
});
