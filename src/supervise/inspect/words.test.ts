import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { duration, exitReason, fit, percent, printable, printableBytes, signalName, size, width } from "./words.ts";

test("durations have two units at most", () => {
  const s = 1000;
  const cases: [number, string][] = [
    [-5, "0 s"],
    [0, "0 s"],
    [0.4, "0 ms"],
    [12, "12 ms"],
    [999.9, "999 ms"],
    [3 * s, "3 s"],
    [59.99 * s, "59 s"],
    [60 * s, "1 min"],
    [245 * s, "4 min 5 s"],
    [3600 * s, "1 h"],
    [11_045 * s, "3 h 4 min"],
    [86_400 * s, "1 d"],
    [5 * 86_400 * s + 3 * 3600 * s + 59 * s, "5 d 3 h"],
    [1000 * 86_400 * s, "1000 d"],
    [Number.NaN, "0 s"],
  ];
  for (const [ms, text] of cases) assert.equal(duration(ms), text);
});

test("sizes and shares are short", () => {
  assert.deepEqual([0, 999, 1000, 45_123_456, 999_960, 1_250_000_000, 5e15].map(size), ["0 B", "999 B", "1.0 kB", "45.1 MB", "1.0 MB", "1.3 GB", "5000.0 TB"]);
  assert.deepEqual([0, 0.04, 9.94, 9.96, 123.4].map(percent), ["0.0%", "0.0%", "9.9%", "10%", "123%"]);
});

test("an end is told in plain words", () => {
  const now = new Date("2026-01-01T00:00:10Z");
  const at = new Date("2026-01-01T00:00:07Z");
  assert.equal(exitReason({ code: 1, signal: null, at, ranMs: 12 }, now), "exit code 1, 3 s ago after 12 ms");
  assert.equal(exitReason({ code: null, signal: "SIGKILL", at, ranMs: 90_000 }, now), "killed by SIGKILL, 3 s ago after 1 min 30 s");
  assert.equal(exitReason({ code: 127, signal: null }, now), "exit code 127 (command not found)");
  assert.equal(exitReason({ code: 137, signal: null, ranMs: 5 }, now), "exit code 137 (its child was killed by SIGKILL), after 5 ms");
  assert.match(exitReason({ code: null, signal: null, at, adopted: true }, now), /not known.*killed.*3 s ago/);
  assert.deepEqual([signalName(15), signalName(250)], ["SIGTERM", "signal 250"]);
});

const unsafe = /[\0-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/;

test("nothing that steers a terminal gets through", () => {
  assert.equal(printable("\u001b[31mred\u0007\u009b1m\u202egnp.exe\r\n\ttab é 日本"), "\\x1b[31mred\\x07\\x9b1m\\u202egnp.exe\\x0d\\x0a\ttab é 日本");
  assert.equal(printable("\ud800 \udc00 😀"), "\\ud800 \\udc00 😀");
  assert.equal(printableBytes(Buffer.from("caf\xe9 \x1b[0m", "latin1")), "caf\\xe9 \\x1b[0m");
  assert.equal(printableBytes(Buffer.concat([Buffer.from("日"), Buffer.from([0xe6, 0x97]), Buffer.from("é\x9b")])), "日\\xe6\\x97é\\x9b");
  fc.assert(fc.property(fc.uint8Array({ maxLength: 60 }), (bytes) => !unsafe.test(printableBytes(bytes))));
  fc.assert(
    fc.property(fc.string({ unit: "binary" }), (text) => {
      const safe = printable(text);
      assert.ok(!unsafe.test(safe));
      assert.equal(printable(safe), safe);
      assert.equal(printableBytes(Buffer.from(text.toWellFormed())), printable(text.toWellFormed()));
    }),
  );
});

test("text is cut to columns, wide characters count twice", () => {
  assert.deepEqual([width("abc"), width("日本"), width("e\u0301"), width("😀"), width("é…")], [3, 4, 1, 2, 2]);
  assert.deepEqual([fit("abc", 3), fit("abcd", 3), fit("日本語", 5), fit("日本語", 4), fit("abc", 0), fit("abc", 1)], ["abc", "ab…", "日本…", "日…", "", "…"]);
  fc.assert(fc.property(fc.string({ unit: "grapheme" }), fc.nat(40), (text, columns) => width(fit(printable(text), columns)) <= columns));
});
