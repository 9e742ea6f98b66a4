import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import { Pacing, START_PACE_MS } from "./pacing.ts";
import { parseInterval, parseSchedule } from "./schedule.ts";
import { readSettings } from "./settings.ts";

const scratch = mkdtempSync(join(tmpdir(), "outrider-settings-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

test("an empty directory asks for nothing", () => {
  const settings = readSettings(scratch);
  assert.deepEqual([settings.problems, settings.depends, settings.limits, settings.backoff], [[], [], [], 0]);
  assert.deepEqual(readSettings(join(scratch, "not there")), settings);
});

test("each file is read, and what is wrong in one leaves the others", () => {
  const directory = mkdtempSync(join(scratch, "all-"));
  mkdirSync(join(directory, "env"));
  const files = {
    "env/A": "1",
    "notification-fd": "3\n",
    "timeout-kill": "5000",
    "down-signal": "SIGQUIT",
    depends: "database cache\nqueue # and this\n",
    limits: "openfiles=1024\nmembytes: hard\n",
    backoff: "60",
    "death-limit": "5 30",
    every: "*/5 * * * *",
    "check-interval": "99",
  };
  for (const [name, text] of Object.entries(files)) writeFileSync(join(directory, name), text);
  const settings = readSettings(directory);
  assert.equal(settings.notificationFd, 3);
  assert.equal(settings.timeoutKill, 5000);
  assert.equal(settings.downSignal, "SIGQUIT");
  assert.deepEqual(settings.depends, ["database", "cache", "queue"]);
  assert.deepEqual(settings.limits, ["-o", "1024", "-m", "="]);
  assert.equal(settings.backoff, 60_000);
  assert.deepEqual(settings.deathLimit, { count: 5, within: 30_000 });
  assert.equal(settings.environment?.get("A"), "1");
  assert.deepEqual(settings.problems, ['check-interval: "99" is not a number of milliseconds from 100 to 604800000']);
  assert.equal(settings.checkInterval, 10_000);
});

test("signals by number, by name with and without SIG; anything else is refused", () => {
  const directory = mkdtempSync(join(scratch, "signal-"));
  const read = (text: string) => {
    writeFileSync(join(directory, "down-signal"), text);
    return readSettings(directory);
  };
  for (const text of ["2", "INT", "int", "SIGINT", "sigint\n"]) assert.equal(read(text).downSignal, "SIGINT", text);
  for (const text of ["", "0", "65", "signal", "INT TERM"]) assert.equal(read(text).problems.length, 1, text);
});

test("no content makes reading fail", () => {
  const directory = mkdtempSync(join(scratch, "any-"));
  const names = ["notification-fd", "timeout-kill", "down-signal", "depends", "limits", "every", "backoff", "death-limit", "check-failures"];
  fc.assert(
    fc.property(fc.constantFrom(...names), fc.oneof(fc.string(), fc.uint8Array(), fc.stringMatching(/^[0-9*/, -]{1,20}$/)), (name, content) => {
      writeFileSync(join(directory, name), content);
      const { problems } = readSettings(directory);
      rmSync(join(directory, name));
      return problems.length <= 1 && problems.every((problem) => problem.startsWith(`${name}: `) && !problem.includes("\n"));
    }),
    { numRuns: 300 },
  );
});

test("intervals and cron lines", () => {
  assert.deepEqual(["90", "90s", "1h30m", "1d", "0", "1w", "", "-5", "5 m"].map(parseInterval), [
    90_000,
    90_000,
    5_400_000,
    86_400_000,
    undefined,
    undefined,
    undefined,
    undefined,
    undefined,
  ]);
  const hourly = parseSchedule("1h");
  assert.equal(hourly.next(undefined, 5000), 5000, "at once the first time");
  assert.equal(hourly.next(5000, 6000), 3_605_000);
  assert.equal(hourly.next(5000, 4000), 4000, "not never when the clock was set back");
  const at = Date.parse("2026-03-04T05:06:07");
  assert.equal(new Date(parseSchedule("30 3 * * *").next(undefined, at)).toString().slice(4, 24), "Mar 05 2026 03:30:00");
  for (const text of ["soon", "61 * * * *", "0 0 31 2 *", "* * * *"]) assert.throws(() => parseSchedule(text), Error, text);
});

test("pauses double with short runs up to the back-off, and a long run ends that", () => {
  const pacing = new Pacing();
  const pauses = [];
  let at = 0;
  for (let i = 0; i < 7; i++) {
    pacing.noteEnd((at += 100), 50, undefined);
    pauses.push(pacing.pause(20_000));
  }
  assert.deepEqual(pauses, [1000, 2000, 4000, 8000, 16_000, 20_000, 20_000]);
  assert.equal(pacing.pause(0), START_PACE_MS, "without the file it is always a second");
  pacing.noteEnd(at + 60_000, 30_000, undefined);
  assert.equal(pacing.pause(20_000), START_PACE_MS);
});

test("a crash loop is told at five short runs, then at fifty", () => {
  const pacing = new Pacing();
  const told = [];
  for (let i = 1; i <= 60; i++) {
    pacing.noteEnd(i * 1000, 10, undefined);
    if (pacing.crashLoop(i * 1000) !== undefined) told.push(i);
  }
  assert.deepEqual(told, [5, 50]);
});

test("the death limit counts ends within its time only", () => {
  const limit = { count: 3, within: 10_000 };
  const pacing = new Pacing();
  const ends = [0, 6000, 12_000, 18_000, 19_000];
  assert.deepEqual(
    ends.map((at) => {
      pacing.noteEnd(at, 10, limit);
      return pacing.hasReached(limit);
    }),
    [false, false, false, false, true],
  );
});
