import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { datagrams } from "./statsd.ts";

test("datagrams hold every line once, in at most their size unless a line alone is longer", () => {
  fc.assert(
    fc.property(fc.array(fc.stringMatching(/^[a-zé.|:]{1,12}$/)), fc.nat(40), (lines, maxBytes) => {
      const packed = datagrams(lines, maxBytes);
      assert.deepEqual(packed.flatMap((text) => text.split("\n")).toSorted(), lines.toSorted());
      for (const text of packed) assert.ok(!text.includes("\n") || Buffer.byteLength(text) <= maxBytes);
    }),
  );
});
