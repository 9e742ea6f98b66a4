/** Log directories read and followed while they are rotated, step by step as multilog does it. */
import assert from "node:assert/strict";
import { appendFileSync, linkSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { gzipSync, zstdCompressSync } from "node:zlib";
import fc from "fast-check";
import { stamp } from "../tai64n.ts";
import { type CursorStart, LogCursor, lastLine } from "./log-cursor.ts";
import { LogSource, Merge } from "./log-source.ts";

const scratch = mkdtempSync(join(tmpdir(), "outrider-log-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

const at = (seconds: number): string => stamp({ seconds, nanoseconds: 0 });

/** A directory that multilog would leave, changed one system call at a time. */
class Log {
  readonly path = mkdtempSync(join(scratch, "log-"));
  #finished = 0;
  readonly #keep: number;
  /** What a processor makes of a file. */
  readonly #process: ((content: Buffer) => Buffer) | undefined;

  constructor(keep = 1000, process?: (content: Buffer) => Buffer) {
    this.#keep = keep;
    this.#process = process;
    writeFileSync(this.#file("current"), "");
    writeFileSync(this.#file("state"), "");
  }

  #file(name: string): string {
    return join(this.path, name);
  }

  write(text: string): void {
    appendFileSync(this.#file("current"), text);
  }

  /** The steps of one rotation. */
  *rotation(code = "s"): Generator<void> {
    renameSync(this.#file("current"), this.#file("previous"));
    yield;
    writeFileSync(this.#file("current"), "");
    yield;
    const name = this.#file(`${at(1_000_000 + 10 * this.#finished++)}.${code}`);
    if (this.#process === undefined) {
      linkSync(this.#file("previous"), name);
      yield;
      unlinkSync(this.#file("previous"));
      yield;
    } else {
      writeFileSync(this.#file("processed"), this.#process(readFileSync(this.#file("previous"))));
      writeFileSync(this.#file("newstate"), "");
      yield;
      unlinkSync(this.#file("previous"));
      yield;
      renameSync(this.#file("newstate"), this.#file("state"));
      yield;
      linkSync(this.#file("processed"), name);
      yield;
      unlinkSync(this.#file("processed"));
      yield;
    }
    const old = readdirSync(this.path)
      .filter((one) => one.startsWith("@"))
      .sort();
    while (old.length >= this.#keep) unlinkSync(this.#file(old.shift() as string));
  }

  rotate(code = "s"): void {
    for (const _ of this.rotation(code));
  }
}

function text(source: LogSource): string[] {
  const lines: string[] = [];
  new Merge([source]).drain((_, piece) => lines.push(piece.bytes.toString().slice(piece.stamp?.length ?? 0)));
  return lines;
}

function read(log: Log, start: CursorStart = {}): string[] {
  const source = new LogSource("x", log.path, start);
  try {
    const lines = text(source);
    source.finish();
    return [...lines, ...text(source)];
  } finally {
    source.close();
  }
}

test("old files and current are one stream, in the order of their names", () => {
  const log = new Log();
  log.write("one\ntwo\n");
  log.rotate();
  log.write("three\n");
  log.rotate("u");
  log.write("four\nfive");
  assert.deepEqual(read(log), ["one", "two", "three", "four", "five"]);
  assert.equal(lastLine(log.path)?.toString(), "five");
  for (const [lines, first] of [
    [0, 5],
    [1, 4],
    [2, 3],
    [3, 2],
    [4, 1],
    [5, 0],
    [9, 0],
  ] as const)
    assert.deepEqual(read(log, { lines }), ["one", "two", "three", "four", "five"].slice(first), `last ${lines}`);
  log.write("\n");
  log.rotate();
  assert.deepEqual(read(log, { lines: 2 }), ["four", "five"]);
  assert.equal(lastLine(log.path)?.toString(), "five");
});

test("a line that a rotation has cut is joined, unless the next file begins with a stamp", () => {
  const log = new Log();
  log.write("begin ");
  log.rotate();
  log.write("end\n");
  assert.deepEqual(read(log), ["begin end"]);
  const crashed = new Log();
  crashed.write(`${at(5)} cut off`);
  crashed.rotate("u");
  crashed.write(`${at(6)} next\n`);
  assert.deepEqual(read(crashed), ["cut off", "next"]);
});

test("very long lines come in pieces of one line", () => {
  const log = new Log();
  const long = "x".repeat(3_000_000);
  log.write(`${at(1)} ${long}\nshort\n`);
  const source = new LogSource("x", log.path, {});
  let line = "";
  const lines: string[] = [];
  new Merge([source]).drain((_, piece) => {
    assert.equal(piece.startsLine, line === "");
    line += piece.bytes.toString().slice(piece.stamp?.length ?? 0);
    if (!piece.endsLine) return;
    lines.push(line);
    line = "";
  });
  source.close();
  assert.deepEqual(lines, [long, "short"]);
});

test("--since leaves out older files and older lines", () => {
  const log = new Log();
  log.write(`${at(999_990)} a\n`);
  log.rotate();
  log.write(`${at(1_000_000)} b\n${at(1_000_005)} c\nno stamp\n`);
  log.rotate();
  log.write(`${at(1_000_010)} d\n`);
  assert.deepEqual(read(log, { since: { seconds: 1_000_005, nanoseconds: 0 } }), ["c", "no stamp", "d"]);
  assert.deepEqual(read(log, { since: { seconds: 0, nanoseconds: 0 } }), ["a", "b", "c", "no stamp", "d"]);
  assert.deepEqual(read(log, { since: { seconds: 2_000_000, nanoseconds: 0 } }), []);
  assert.deepEqual(read(log, { since: { seconds: 1_000_005, nanoseconds: 0 }, lines: 1 }), ["d"]);
});

test("what a processor has compressed is unpacked", () => {
  for (const pack of [gzipSync, zstdCompressSync]) {
    const log = new Log(1000, (content) => pack(content));
    log.write("one\ntwo\n");
    log.rotate();
    log.write("three\n");
    assert.deepEqual(read(log), ["one", "two", "three"]);
    assert.deepEqual(read(log, { lines: 2 }), ["two", "three"]);
  }
  const damaged = new Log(1000, (content) => gzipSync(content).subarray(0, 12));
  damaged.write("one\n");
  damaged.rotate();
  assert.match(read(damaged)[0], /damaged/);
});

test("a directory without a log is refused", () => {
  assert.throws(() => new LogCursor(scratch), { code: "ENOENT" });
  assert.throws(() => new LogCursor(join(scratch, "missing")), { code: "ENOENT" });
  assert.equal(lastLine(scratch), undefined);
});

const processors: readonly [string, ((content: Buffer) => Buffer) | undefined][] = [
  ["plain", undefined],
  ["copied by a processor", (content) => content],
  ["compressed by a processor", (content) => gzipSync(content)],
];
for (const [name, process] of processors) {
  test(`following loses and doubles nothing, whenever it looks (${name})`, () => {
    // Between any two system calls of the logger the follower may look, or not.
    const looks = fc.array(fc.boolean(), { minLength: 40, maxLength: 120 });
    fc.assert(
      fc.property(looks, fc.integer({ min: 1, max: 4 }), (looksAt, every) => {
        const log = new Log(1000, process);
        const written: string[] = [];
        const say = (): void => {
          const line = `line ${written.length}`;
          written.push(line);
          log.write(`${line}\n`);
        };
        say();
        const source = new LogSource("x", log.path, {});
        const got: string[] = [];
        let steps: Generator<void> | undefined;
        for (const [i, looksNow] of looksAt.entries()) {
          if (steps?.next().done !== false) {
            steps = undefined;
            say();
            if (i % every === 0) steps = log.rotation();
          }
          if (looksNow) got.push(...text(source));
        }
        for (; steps?.next().done === false; );
        got.push(...text(source));
        source.close();
        // Where a processor remakes files, one look a rotation is needed to know which is which: more than that is lost or doubled by nobody.
        if (process === undefined) assert.deepEqual(got, written);
        else
          assert.deepEqual(
            got.filter((line, i) => got.indexOf(line) !== i),
            [],
          );
      }),
      { numRuns: 60 },
    );
  });

  test(`one look a rotation is enough (${name})`, () => {
    const log = new Log(3, process);
    const source = new LogSource("x", log.path, {});
    const got: string[] = [];
    const written: string[] = [];
    for (let i = 0; i < 40; i++) {
      written.push(`${i}`);
      log.write(`${i}\n`);
      got.push(...text(source));
      log.rotate();
    }
    got.push(...text(source));
    source.close();
    assert.deepEqual(got, written);
  });
}

test("a follower that was away goes on with what has been kept", () => {
  const log = new Log(3);
  log.write("1\n");
  const source = new LogSource("x", log.path, {});
  assert.deepEqual(text(source), ["1"]);
  for (let i = 2; i < 10; i++) {
    log.rotate();
    log.write(`${i}\n`);
  }
  assert.deepEqual(text(source), ["7", "8", "9"]);
  source.close();
});

test("several logs are merged by time; lines without one stay behind their own", () => {
  const one = new Log();
  const two = new Log();
  one.write(`${at(1)} a\n${at(4)} b\ncontinued\n`);
  two.write(`${at(2)} c\n${at(3)} d\n${at(5)} e\n`);
  const sources = [new LogSource("one", one.path, {}), new LogSource("two", two.path, {})];
  const got: string[] = [];
  const merge = new Merge(sources);
  const drain = (): void => merge.drain((source, piece) => got.push(`${source.name}:${piece.bytes.toString().slice(piece.stamp?.length ?? 0)}`));
  drain();
  assert.deepEqual(got.splice(0), ["one:a", "two:c", "two:d", "one:b", "one:continued", "two:e"]);
  one.write(`${at(6)} f\npart`);
  drain();
  assert.deepEqual(got.splice(0), ["one:f"]);
  one.write("ly\n");
  drain();
  assert.deepEqual(got, ["one:partly"]);
  for (const source of sources) source.close();
});
