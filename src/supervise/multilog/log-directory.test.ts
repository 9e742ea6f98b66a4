import assert from "node:assert/strict";
import { type SpawnSyncReturns, spawnSync } from "node:child_process";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { LogDirectory } from "./log-directory.ts";
import { Script } from "./script.ts";

const scratch = mkdtempSync(join(tmpdir(), "outrider-multilog-"));
after(() => rmSync(scratch, { recursive: true, force: true }));
const settings = { maxBytes: 4096, maxFiles: 100, processor: undefined };
let count = 0;
const fresh = (): string => join(scratch, `log${++count}`);

function old(directory: string, suffix = ""): string[] {
  return readdirSync(directory)
    .filter((name) => name.startsWith("@") && name.endsWith(suffix))
    .sort();
}

function everything(directory: string): string {
  return [...old(directory), "current"].map((name) => readFileSync(join(directory, name), "latin1")).join("");
}

test("rotates at the end of a line near the size, splits longer lines at the size, and keeps every byte", () => {
  const directory = fresh();
  const log = new LogDirectory(directory, settings);
  const text = `${"short line\n".repeat(500)}${"x".repeat(10_000)}\n${"end\n".repeat(10)}`;
  for (let at = 0; at < text.length; at += 777) {
    const part = Buffer.from(text.slice(at, at + 777));
    log.append(part, 0, part.length);
    log.flush();
  }
  log.close();
  assert.equal(everything(directory), text);
  for (const name of old(directory)) {
    const { size, mode } = statSync(join(directory, name));
    assert.ok(size > 4096 - 2000 && size <= 4096, `${name} has ${size} bytes`);
    assert.equal(mode & 0o777, 0o744);
  }
  assert.equal(statSync(join(directory, "current")).mode & 0o777, 0o744);
});

test("the same input in any pieces gives the same lines in the same files", () => {
  const input = Buffer.from(Array.from({ length: 400 }, (_, i) => `${i % 3 === 0 ? "err" : "info"} ${"y".repeat((i * 37) % 1500)}\n`).join(""));
  const results = [1, 7, 1000, 1_000_000].map((size) => {
    const [all, errors] = [fresh(), fresh()];
    const script = new Script(["s16777215", all, "-*", "+err *", errors]);
    for (let at = 0; at < input.length; at += size) script.feed(input.subarray(at, at + size));
    script.close();
    return [everything(all), everything(errors)];
  });
  for (const result of results) assert.deepEqual(result, results[0]);
  assert.equal(results[0][0], input.toString("latin1"));
});

test("what a crash left is kept under a name of its own; a link that was already made is not doubled", () => {
  const directory = fresh();
  mkdirSync(directory);
  writeFileSync(join(directory, "current"), "unfinished\n");
  chmodSync(join(directory, "current"), 0o644);
  writeFileSync(join(directory, "previous"), "older\n");
  writeFileSync(join(directory, "processed"), "half");
  chmodSync(join(directory, "processed"), 0o644);
  const log = new LogDirectory(directory, settings);
  log.close();
  assert.deepEqual(
    old(directory, ".u").map((name) => readFileSync(join(directory, name), "latin1")),
    ["older\n", "unfinished\n"],
  );
  assert.ok(!existsSync(join(directory, "previous")) && !existsSync(join(directory, "processed")));
});

test("a directory belongs to one writer", () => {
  const directory = fresh();
  new LogDirectory(directory, settings);
  assert.throws(() => new LogDirectory(directory, settings), /unable to lock directory/);
});

test("o prints selected lines whole and without their stamps, and a reader that goes away is no loss to the files", async () => {
  const directory = fresh();
  const long = "z".repeat(3000);
  const run = (script: string): SpawnSyncReturns<string> => spawnSync("/bin/sh", ["-c", script], { encoding: "utf8", input: `one\n${long}\nsecret\nlast` });
  const multilog = fileURLToPath(new URL("../../../bin/daemontools/multilog", import.meta.url));
  const both = run(`exec ${multilog} t o '-* secret' ${directory} 's99999'`);
  assert.deepEqual([both.status, both.stdout, both.stderr], [0, `one\n${long}\nsecret\nlast\n`, ""]);
  assert.match(readFileSync(join(directory, "current"), "latin1"), /^@\w{24} one\n@\w{24} z{3000}\n@\w{24} last\n$/);
  const gone = fresh();
  assert.equal(run(`{ ${multilog} o ${gone}; echo $? >&2; } | exec sh -c 'exec <&-; sleep 0.2'`).stderr, "0\n");
  assert.equal(readFileSync(join(gone, "current"), "latin1"), `one\n${long}\nsecret\nlast\n`);
});
