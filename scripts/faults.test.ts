/** The fault harness for some seconds; docs/reliability.md has what longer runs have counted. */
import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { describe, test } from "node:test";
import { isGood, SCENARIOS } from "./faults.ts";

const skip = existsSync("/usr/bin/perl") ? false : "perl is not installed here";

describe("faults", { concurrency: 4, skip, timeout: 110_000 }, () => {
  for (const [name, seconds, services] of [
    ["all", 6, 4],
    ["djb-svscan", 6, 3],
    ["crashing", 4, 6],
    ["stubborn", 2, 3],
    ["disk-full", 8, 2],
  ] as const) {
    const scenario = SCENARIOS[name];
    test(`${name}: ${scenario.about}`, { skip: scenario.missing ?? false }, async () => {
      const counts = await scenario.run({ seed: 7, seconds, services });
      // A multilog that is killed may lose the one read that it has not written yet.
      assert.ok(counts.gaps <= counts.kills.log && isGood({ ...counts, lost: 0 }), JSON.stringify(counts));
    });
  }
});
