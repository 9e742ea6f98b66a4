import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import type { JsonObject } from "../config/message.ts";
import { RuntimeSnapshot } from "./runtime.ts";
import { entryOfText, flatten, shortNumber } from "./values.ts";

test("any text is taken as it is, or refused with a reason", () => {
  fc.assert(
    fc.property(fc.oneof(fc.string(), fc.string({ unit: "binary" }), fc.json(), fc.double().map(String)), (text) => {
      try {
        assert.equal(entryOfText(text).raw, text);
      } catch (error) {
        assert.match((error as Error).message, /^no YAML at character \d+: ./);
      }
    }),
  );
});

test("numbers read back within what is printed of them", () => {
  fc.assert(
    fc.property(fc.double({ noNaN: true, noDefaultInfinity: true }), (value) => {
      assert.ok(Math.abs(Number(shortNumber(value)) - value) <= Math.abs(value) * 1e-5);
    }),
  );
});

test("a fraction is drawn as often as it says, whatever stands under the key", () => {
  const key = fc.oneof(fc.nat(300), fc.constantFrom<JsonObject[string]>("x", true, "50", 12.5, { numerator: 1, denominator: "MILLION" }));
  fc.assert(
    fc.property(key, fc.nat(100), fc.nat(999_999), (value, numerator, random) => {
      const entries = [...flatten({ k: value })].map(([name, entry]) => [name, entry.value] as const);
      const on = (at: number): boolean => new RuntimeSnapshot(new Map(entries)).featureEnabled("k", { numerator, denominator: 100 }, at);
      // Whoever is in at one number is in at every smaller one of the same hundred.
      if (on(random) && random % 1_000_000 > 0 && random % 100 > 0 && random % 10_000 > 0) assert.ok(on(random - 1));
    }),
  );
});
