import assert from "node:assert/strict";
import { test } from "node:test";
import { formatUtc, isBefore, stampOf, timeOf, timeOfName } from "./stamps.ts";

const stamp = "@4000000037c219bf2ef02e94";

test("TAI64N stamps and svlogd's are read, with the space behind them", () => {
  assert.deepEqual(stampOf(Buffer.from(`${stamp} text`)), { time: { seconds: 935467445, nanoseconds: 787492500 }, length: 26 });
  assert.equal(stampOf(Buffer.from(stamp))?.length, 25);
  assert.equal(stampOf(Buffer.from(`${stamp}:x`))?.length, 25);
  assert.equal(formatUtc(stampOf(Buffer.from(stamp))!.time), "1999-08-24T04:04:05.787Z");
  const svlogd = stampOf(Buffer.from("2026-11-23_12:03:04.12345 text"));
  assert.deepEqual([svlogd?.length, formatUtc(svlogd!.time)], [26, "2026-11-23T12:03:04.123Z"]);
});

test("what only looks like a stamp is text", () => {
  for (const line of [
    "",
    "text",
    stamp.slice(0, 24),
    `${stamp}0 longer`,
    stamp.toUpperCase(),
    `x${stamp}`,
    "@4000000037c219bf2ef02e9g x",
    "2026-11-23 12:03:04.12345 x",
  ])
    assert.equal(stampOf(Buffer.from(line)), undefined, line);
});

test("the name of a finished file tells when it was finished", () => {
  assert.equal(timeOfName(`${stamp}.s`)?.seconds, 935467445);
  assert.equal(timeOfName("@short.s"), undefined);
});

test("times compare to the nanosecond", () => {
  assert.ok(isBefore({ seconds: 1, nanoseconds: 5 }, { seconds: 1, nanoseconds: 6 }));
  assert.ok(!isBefore({ seconds: 2, nanoseconds: 0 }, { seconds: 1, nanoseconds: 6 }));
  assert.deepEqual(timeOf(new Date(1500)), { seconds: 1, nanoseconds: 500_000_000 });
  assert.equal(formatUtc({ seconds: 2 ** 50, nanoseconds: 0 }), undefined);
});
