import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { now, stamp } from "../tai64n.ts";
import { Script } from "./script.ts";
import { STAMP_BYTES, StampWriter } from "./stamp-writer.ts";

const scratch = mkdtempSync(join(tmpdir(), "outrider-multilog-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

test("a stamp written in place is the stamp as text, also after the second changes, forth and back", () => {
  const writer = new StampWriter();
  const into = Buffer.alloc(40);
  for (const [seconds, nanoseconds] of [
    [0, 0],
    [1_790_000_000, 999_999_999],
    [1_790_000_001, 7],
    [1_790_000_000, 255],
    [-1, 0x12345678 % 1_000_000_000],
    [2 ** 32, 1000],
  ]) {
    assert.equal(writer.write(into, 3, { seconds, nanoseconds }), 3 + STAMP_BYTES);
    assert.equal(into.toString("latin1", 3, 3 + STAMP_BYTES), `${stamp({ seconds, nanoseconds })} `);
  }
});

test("stamped lines of any length, in any pieces, to more than one log: one stamp each, of the time the line was read", () => {
  const lengths = [0, 1, 998, 999, 1000, 1001, 65_509, 65_510, 65_511, 200_000, 0, ...Array.from({ length: 3000 }, (_, i) => i % 7)];
  const input = Buffer.from(`${lengths.map((length) => "y".repeat(length)).join("\n")}\nno newline`);
  for (const size of [101, 65_536, 1_000_000]) {
    const logs = [join(scratch, `a${size}`), join(scratch, `b${size}`)];
    const script = new Script(["t", "s16777215", ...logs]);
    const before = stamp({ seconds: now().seconds - 1, nanoseconds: 0 });
    for (let at = 0; at < input.length; at += size) script.feed(input.subarray(at, at + size));
    script.close();
    const end = stamp({ seconds: now().seconds + 1, nanoseconds: 0 });
    const [text, other] = logs.map((log) => readFileSync(join(log, "current"), "latin1"));
    assert.equal(text, other);
    assert.ok(text.endsWith("\n"));
    const lines = text.slice(0, -1).split("\n");
    assert.equal(lines.map((line) => line.slice(STAMP_BYTES)).join("\n"), input.toString("latin1"));
    for (const line of lines) {
      assert.match(line.slice(0, STAMP_BYTES), /^@[0-9a-f]{24} $/);
      const time = line.slice(0, STAMP_BYTES - 1);
      assert.ok(time >= before && time <= end, time);
    }
  }
});
