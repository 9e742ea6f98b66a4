/**
 * A kill -9 after each system call that changes a log directory: while lines are written, files finished and processed, and while a successor
 * recovers. From every state the next multilog goes on, with what had been written, once and in order.
 */
import assert from "node:assert/strict";
import childProcess from "node:child_process";
import fs from "node:fs";
import { syncBuiltinESMExports } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { LogDirectory, type LogSettings } from "./log-directory.ts";

const scratch = fs.mkdtempSync(join(tmpdir(), "outrider-multilog-"));
after(() => fs.rmSync(scratch, { recursive: true, force: true }));

interface File {
  readonly names: string[];
  readonly mode: number;
  readonly content: Buffer;
}
interface State {
  readonly step: string;
  readonly files: File[];
  /** What the log had been given and taken by then. */
  readonly written: string;
}

/** `names` of one file are its links. */
function look(directory: string): File[] {
  const files = new Map<number, File>();
  for (const name of fs.existsSync(directory) ? fs.readdirSync(directory).sort() : []) {
    const path = join(directory, name);
    const { ino, mode } = fs.statSync(path);
    const known = files.get(ino);
    if (known === undefined) files.set(ino, { names: [name], mode: mode & 0o777, content: fs.readFileSync(path) });
    else known.names.push(name);
  }
  return [...files.values()];
}

let folders = 0;

function build(files: readonly File[]): string {
  const directory = join(scratch, String(++folders));
  fs.mkdirSync(directory);
  for (const { names, mode, content } of files) {
    const [first, ...others] = names.map((name) => join(directory, name));
    fs.writeFileSync(first, content);
    fs.chmodSync(first, mode);
    for (const other of others) fs.linkSync(first, other);
  }
  return directory;
}

const CHANGING = ["mkdirSync", "openSync", "writeSync", "fchmodSync", "chmodSync", "renameSync", "linkSync", "unlinkSync", "truncateSync"] as const;

/** Runs `work` and keeps the directory's state after each call that can change it. Writes are cut short, as a disk may. */
function trace(directory: string, before: string, work: () => void): State[] {
  const states: State[] = [];
  let written = before;
  let isLooking = false; // reading the state makes such calls, too
  const keep = (step: string, change: (files: File[]) => File[] = (files) => files): void => {
    isLooking = true;
    const files = change(look(directory));
    isLooking = false;
    if (states.length === 0 || JSON.stringify(states[states.length - 1].files) !== JSON.stringify(files)) states.push({ step, files, written });
  };
  const originals = Object.fromEntries(CHANGING.map((name) => [name, fs[name]]));
  const { fsyncSync } = fs;
  const { spawnSync } = childProcess;
  const replace = (name: string, call: (...parameters: unknown[]) => unknown): unknown => Object.assign(fs, { [name]: call });
  for (const name of CHANGING) {
    const original = originals[name] as (...parameters: unknown[]) => unknown;
    replace(name, (...parameters) => {
      if (isLooking) return original(...parameters);
      if (name === "writeSync" && parameters.length === 4) {
        const [fd, bytes, offset, length] = parameters as [number, Buffer, number, number];
        const count = original(fd, bytes, offset, Math.ceil(length / 2)) as number;
        written += bytes.toString("latin1", offset, offset + count);
        keep("writeSync");
        return count;
      }
      const result = original(...parameters);
      keep(`${name} ${String(parameters[0]).replace(/.*\//, "")}`);
      return result;
    });
  }
  Object.assign(fs, { fsyncSync: () => {} }); // a kill does not empty the page cache, and a disk takes its time
  Object.assign(childProcess, {
    spawnSync: (...parameters: Parameters<typeof spawnSync>) => {
      const result = spawnSync(...parameters);
      keep("half of the processor's output", (files) =>
        files.map((file) => (file.names.includes("processed") ? { ...file, content: file.content.subarray(0, file.content.length / 2) } : file)),
      );
      keep("the processor");
      return result;
    },
  });
  syncBuiltinESMExports();
  try {
    work();
  } finally {
    Object.assign(fs, originals, { fsyncSync });
    Object.assign(childProcess, { spawnSync });
    syncBuiltinESMExports();
  }
  return states;
}

function use(directory: string, settings: LogSettings, texts: readonly string[]): void {
  const log = new LogDirectory(directory, settings);
  for (const text of texts) {
    const bytes = Buffer.from(text);
    log.append(bytes, 0, bytes.length);
    log.flush();
  }
  log.close();
}

function content(directory: string): string {
  const names = fs.readdirSync(directory).sort();
  const others = names.filter((name) => !name.startsWith("@"));
  assert.deepEqual(others, ["current", "lock", "state"]);
  assert.equal(fs.statSync(join(directory, "current")).mode & 0o777, 0o744);
  return [...names.filter((name) => name.startsWith("@")), "current"].map((name) => fs.readFileSync(join(directory, name), "latin1")).join("");
}

for (const [name, processor] of [
  ["without a processor", undefined],
  ["with a processor", "tr a-z A-Z; cat <&4 >&5; echo more >&5"],
] as const) {
  test(`a kill after each step ${name}, and after each step of the recovery from it`, { timeout: 60_000 }, () => {
    const settings = { maxBytes: 4096, maxFiles: 100, processor };
    const texts = [0, 1, 2].map((i) => Array.from({ length: 40 }, (_, j) => `line ${i} ${j} ${"x".repeat(40)}\n`).join(""));
    const start = join(scratch, String(++folders));
    const states = trace(start, "", () => use(start, settings, texts));
    assert.equal(content(start).toUpperCase(), texts.join("").toUpperCase());
    assert.ok(states.length > 20, `${states.length} states`);
    let ends = 0;
    for (const state of states) {
      const second = build(state.files);
      const recovery = trace(second, state.written, () => use(second, settings, ["next\n"]));
      assert.equal(content(second).toUpperCase(), `${state.written}next\n`.toUpperCase(), `after ${state.step}`);
      for (const inner of recovery) {
        const third = build(inner.files);
        use(third, settings, ["last\n"]);
        assert.equal(content(third).toUpperCase(), `${inner.written}last\n`.toUpperCase(), `after ${state.step}, then ${inner.step}`);
        ends++;
        fs.rmSync(third, { recursive: true });
      }
      fs.rmSync(second, { recursive: true });
    }
    assert.ok(ends > states.length);
  });
}

test("what is no crash's doing is kept as well: a previous beside a clean current, other people's files, odd modes", () => {
  const directory = build([
    { names: ["current"], mode: 0o700, content: Buffer.from("new\n") },
    { names: ["previous"], mode: 0o400, content: Buffer.from("old\n") },
    { names: ["README"], mode: 0o444, content: Buffer.from("not a log") },
    { names: ["@short"], mode: 0o600, content: Buffer.from("not one of ours") },
  ]);
  use(directory, { maxBytes: 4096, maxFiles: 2, processor: undefined }, ["more\n"]);
  const old = fs.readdirSync(directory).filter((name) => name.endsWith(".u"));
  assert.deepEqual(
    [...old, "current", "README", "@short"].map((name) => fs.readFileSync(join(directory, name), "latin1")),
    ["old\n", "new\nmore\n", "not a log", "not one of ours"],
  );
});

test("with a clock that was set back the newest file is still the last by name, and the oldest is the one that goes", () => {
  const future = ["@5fffffffffffffff3b9ac9fe.s", "@5fffffffffffffff3b9ac9ff.u"];
  const foreign = "@zzzzzzzzzzzzzzzzzzzzzzzz.s";
  const files = [...future, foreign].map((name, i) => ({ names: [name], mode: 0o744, content: Buffer.from(`${i}\n`) }));
  const directory = build(files);
  const log = new LogDirectory(directory, { maxBytes: 4096, maxFiles: 5, processor: undefined });
  for (const text of ["one\n", "two\n"]) {
    log.append(Buffer.from(text), 0, text.length);
    log.rotateIfUsed();
  }
  log.close();
  const names = fs
    .readdirSync(directory)
    .filter((name) => name.startsWith("@"))
    .sort();
  assert.deepEqual(names, [future[1], "@600000000000000000000000.s", "@600000000000000000000001.s", foreign]);
  assert.equal(fs.readFileSync(join(directory, names[2]), "latin1"), "two\n");
});
