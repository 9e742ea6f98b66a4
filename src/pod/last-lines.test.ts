import assert from "node:assert/strict";
import { appendFileSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { lastLines } from "./last-lines.ts";

const directory = mkdtempSync(join(tmpdir(), "outrider-last-lines-"));
after(() => rmSync(directory, { recursive: true, force: true }));
const since = "@400000006a00000200000000";
const line = (second: number, text: string): string => `@400000006a00000${second}00000000 ${text}\n`;

test("a line that is written late is waited for; those of an earlier run are left out", async () => {
  writeFileSync(join(directory, "current"), line(1, "of the run before"));
  const lines = lastLines(directory, { count: 5, since, waitMs: 60_000 });
  setImmediate(() => appendFileSync(join(directory, "current"), line(2, "no such luck")));
  assert.deepEqual(await lines, ["no such luck"]);
});

test("only the last ones are shown", async () => {
  writeFileSync(join(directory, "current"), [2, 3, 4].map((second) => line(second, `number ${second}`)).join(""));
  assert.deepEqual(await lastLines(directory, { count: 2, since, waitMs: 0 }), ["number 3", "number 4"]);
});

test("silence and a log that does not exist have an end", async () => {
  writeFileSync(join(directory, "current"), "");
  assert.deepEqual(await lastLines(directory, { count: 2, since, waitMs: 1 }), []);
  assert.deepEqual(await lastLines(join(directory, "absent"), { count: 2, since, waitMs: 1 }), []);
});
