import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { forgetAllocatorSettings, sizeWorkers } from "./memory.ts";

const launcher = fileURLToPath(new URL("../../bin/outrider", import.meta.url));

test("children inherit none of the launcher's settings of the allocator, but the user's", () => {
  const env = { MALLOC_ARENA_MAX: "4", MALLOC_MMAP_THRESHOLD_: "65536", MALLOC_TRIM_THRESHOLD_: "65536", PATH: "/bin" };
  forgetAllocatorSettings(env);
  assert.deepEqual(env, { MALLOC_ARENA_MAX: "4", MALLOC_MMAP_THRESHOLD_: "65536", PATH: "/bin" });
});

test("the launcher's settings are the ones that are forgotten", () => {
  const child = spawnSync(launcher, ["fghack", "env"], { encoding: "utf8", env: { PATH: process.env.PATH, HOME: process.env.HOME } });
  assert.equal(child.status, 0, child.stderr);
  assert.doesNotMatch(child.stdout, /MALLOC_/);
});

test("a size of the young generation that cannot be is refused", () => {
  for (const text of ["", "0", "-1", "8.5", "eight", "257", "1000"]) assert.match(sizeWorkers({ OUTRIDER_SEMI_SPACE_MB: text }) ?? "", /from 1 to 256/);
});
