import assert from "node:assert/strict";
import { test } from "node:test";
import { parseSince } from "./since.ts";

const now = new Date(2026, 10, 23, 12, 0, 0);
const at = (text: string): number | undefined => parseSince(text, now)?.seconds;
const unix = (date: Date): number => date.getTime() / 1000;

test("times ago", () => {
  const base = unix(now);
  for (const [text, ago] of [
    ["10m", 600],
    ["1h30m", 5400],
    ["2 d", 172_800],
    ["90s", 90],
    ["1.5h", 5400],
    ["1w", 604_800],
    ["5min ago", 300],
  ] as const)
    assert.equal(at(text), base - ago, text);
});

test("a time of day that is yet to come was yesterday's", () => {
  assert.equal(at("11:30"), unix(new Date(2026, 10, 23, 11, 30)));
  assert.equal(at("14:30:05"), unix(new Date(2026, 10, 22, 14, 30, 5)));
});

test("dates are local unless they name a zone", () => {
  assert.equal(at("2026-11-20"), unix(new Date(2026, 10, 20)));
  assert.equal(at("2026-11-20 08:15"), unix(new Date(2026, 10, 20, 8, 15)));
  assert.equal(at("2026-11-20T08:15:00Z"), Date.UTC(2026, 10, 20, 8, 15) / 1000);
  assert.equal(at("2026-11-20T08:15:00+01:00"), Date.UTC(2026, 10, 20, 7, 15) / 1000);
});

test("anything else is no time", () => {
  for (const text of ["", "soon", "10", "10 parsecs", "25:00", "12:60", "2026-13-01", "2026-11", "-5m"]) assert.equal(at(text), undefined, text);
});
