/** Log directories, locks and time stamps that go from DJB's programs to ours and back. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { environment, logContent, OURS, run, scratchFolder, THEIRS, until, withoutTheirs } from "./testing.ts";

const scratch = scratchFolder();
after(() => scratch.remove());

/** multilog of one side with a pipe to it. */
function multilog(bin: string, script: string[], cwd: string) {
  const child = spawn(`${bin}multilog`, script, { cwd, stdio: ["pipe", "inherit", "pipe"] });
  let complaints = "";
  child.stderr.setEncoding("utf8").on("data", (text: string) => {
    complaints += text;
  });
  child.stdin.on("error", () => {}); // it was killed
  const ended = once(child, "exit").then(([code, signal]) => (code ?? signal) as number | string);
  return { child, ended, complaints: () => complaints, write: (text: string) => child.stdin.write(text) };
}

/** Numbered lines, all different. */
const lines = (from: number, to: number): string => Array.from({ length: to - from }, (_, i) => `line ${from + i} ${"x".repeat((from + i) % 90)}\n`).join("");

const clean = (directory: string): boolean => (statSync(join(directory, "current")).mode & 0o100) !== 0;

describe("a log directory in mid-life", { concurrency: 4, skip: withoutTheirs }, () => {
  for (const [name, order] of [
    ["DJB's, ours, DJB's, ours", [THEIRS, OURS, THEIRS, OURS]],
    ["ours, DJB's, ours, DJB's", [OURS, THEIRS, OURS, THEIRS]],
  ] as const) {
    for (const end of ["EOF", "SIGTERM", "SIGKILL"] as const) {
      test(`${name}, each ended by ${end}: not a byte more or less`, async () => {
        const cwd = join(scratch.path, `${name}-${end}`.replaceAll(/[^a-zA-Z]+/g, "-"));
        const directory = join(cwd, "main");
        mkdirSync(cwd);
        let written = "";
        for (const [i, bin] of order.entries()) {
          const log = multilog(bin, ["s4096", "n1000", "./main"], cwd);
          // Enough for several files, and an unfinished one.
          const part = lines(i * 1000, i * 1000 + 260);
          log.write(part);
          written += part;
          await until("everything in the files", () => logContent(directory) === written);
          if (end === "EOF") log.child.stdin.end();
          else log.child.kill(end);
          assert.equal(await log.ended, end === "SIGKILL" ? "SIGKILL" : 0);
          assert.equal(clean(directory), end !== "SIGKILL");
          assert.equal(log.complaints(), "");
        }
        // The last one begins again, and ends well: everything is in one piece.
        const log = multilog(order[0], ["s4096", "n1000", "./main"], cwd);
        log.child.stdin.end();
        assert.equal(await log.ended, 0);
        assert.equal(logContent(directory), written);
        const names = readdirSync(directory);
        assert.deepEqual(
          names.filter((file) => !file.startsWith("@")),
          ["current", "lock", "state"],
        );
        assert.ok(names.filter((file) => file.startsWith("@")).length > 12);
        for (const file of names.filter((old) => old.endsWith(".s"))) assert.ok(statSync(join(directory, file)).size <= 4096);
      });
    }
  }

  test("what a killed one left half done is finished alike by either: previous and processed", async () => {
    for (const [i, bin] of [OURS, THEIRS].entries()) {
      const cwd = join(scratch.path, `half-${i}`);
      const contents: string[] = [];
      for (const [state, files] of [
        ["previous", { previous: ["old\n", 0o744], current: ["new\n", 0o644] }],
        ["processed", { previous: ["old\n", 0o744], processed: ["OLD\n", 0o744], newstate: ["1\n", 0o744], current: ["new\n", 0o644] }],
        ["half processed", { previous: ["old\n", 0o744], processed: ["OL", 0o644], newstate: ["1\n", 0o644], current: ["new\n", 0o644] }],
      ] as const) {
        const directory = join(cwd, state, "main");
        mkdirSync(directory, { recursive: true });
        for (const [file, [text, mode]] of Object.entries(files)) {
          writeFileSync(join(directory, file), text);
          chmodSync(join(directory, file), mode);
        }
        const log = multilog(bin, ["./main"], join(cwd, state));
        log.child.stdin.end("more\n");
        assert.equal(await log.ended, 0);
        contents.push(logContent(directory));
        assert.deepEqual(
          readdirSync(directory).filter((file) => /^(previous|processed|newstate)$/.test(file)),
          [],
        );
      }
      assert.deepEqual(contents, ["old\nnew\nmore\n", "OLD\nnew\nmore\n", "old\nnew\nmore\n"]);
    }
  });

  test("one lock for both, and one processor", async () => {
    for (const [first, second] of [
      [OURS, THEIRS],
      [THEIRS, OURS],
    ]) {
      const cwd = join(scratch.path, first === OURS ? "lock-ours" : "lock-theirs");
      mkdirSync(cwd);
      const script = ["s4096", "n100", "!tr x y; echo again >&5", "./main"];
      const log = multilog(first, script, cwd);
      log.write(lines(0, 200));
      await until("a file that was processed", () => logContent(join(cwd, "main")).includes("y"));
      const refused = multilog(second, script, cwd);
      assert.equal(await refused.ended, 111);
      assert.equal(refused.complaints(), "multilog: fatal: unable to lock directory ./main: temporary failure\n");
      log.child.stdin.end();
      assert.equal(await log.ended, 0);
      const next = multilog(second, script, cwd);
      next.write(lines(200, 400));
      next.child.stdin.end();
      assert.equal(await next.ended, 0);
      assert.equal(logContent(join(cwd, "main")).replaceAll("y", "x"), lines(0, 400));
      assert.equal(readFileSync(join(cwd, "main/state"), "utf8"), "again\n");
    }
  });
});

describe("small programs", { concurrency: 4, skip: withoutTheirs }, () => {
  const sh = (script: string, ...bins: string[]) =>
    run("/bin/sh", ["-c", script], { cwd: scratch.path, env: { ...environment(...bins), TZ: "Europe/Berlin" } });

  test("time stamps of either are read by the other's tai64nlocal, and say the same", async () => {
    for (const bin of [OURS, THEIRS]) {
      const { stdout } = await sh(`printf 'one\\ntwo' | ${bin}tai64n`);
      assert.match(stdout, /^(@[0-9a-f]{24} one\n)(@[0-9a-f]{24} two)$/);
      writeFileSync(join(scratch.path, "stamped"), stdout);
      const [theirs, ours] = await Promise.all([sh(`${THEIRS}tai64nlocal <stamped`), sh(`${OURS}tai64nlocal <stamped`)]);
      assert.equal(ours.stdout, theirs.stdout);
      const [, text] = /^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d)\.\d{9} one\n/.exec(theirs.stdout) ?? assert.fail(theirs.stdout);
      const { stdout: expected } = await sh(`date -d @${Math.floor(Date.now() / 1000)} '+%Y-%m-%d %H:%M'`);
      assert.ok(Math.abs(Date.parse(`${text}Z`) - Date.parse(`${expected.trim()}:00Z`)) < 120_000, `${text} is about ${expected}`);
    }
  });

  test("a lock of setlock keeps the other's out, and flock(1)'s", async () => {
    for (const [holder, other] of [
      [OURS, THEIRS],
      [THEIRS, OURS],
    ]) {
      const lock = join(scratch.path, holder === OURS ? "ours.lock" : "theirs.lock");
      const child = spawn(`${holder}setlock`, [lock, "/bin/sh", "-c", "echo held; exec cat"], { stdio: ["pipe", "pipe", "inherit"] });
      await once(child.stdout, "data");
      const [refused, quiet, flocked] = await Promise.all([
        run(`${other}setlock`, ["-n", lock, "echo", "in"]),
        run(`${other}setlock`, ["-nx", lock, "echo", "in"]),
        run("flock", ["-n", "-E", "7", lock, "true"]),
      ]);
      assert.deepEqual([refused.code, refused.stdout, refused.stderr], [111, "", `setlock: fatal: unable to lock ${lock}: temporary failure\n`]);
      assert.deepEqual([quiet.code, quiet.stdout, quiet.stderr], [0, "", ""]);
      assert.equal(flocked.code, 7);
      // One that waits gets it when the holder ends.
      const waiting = run(`${other}setlock`, [lock, "echo", "in"]);
      child.stdin.end();
      assert.equal((await waiting).stdout, "in\n");
    }
  });

  test("chains of both stay one process", async () => {
    mkdirSync(join(scratch.path, "env"));
    writeFileSync(join(scratch.path, "env/GREETING"), "good day  \n");
    const uid = (process.getuid?.() ?? 0) === 0 ? "nobody" : "";
    const drop = (bin: string): string => (uid === "" ? "" : `${bin}setuidgid ${uid}`);
    for (const [a, b] of [
      [OURS, THEIRS],
      [THEIRS, OURS],
    ]) {
      const chain = `${a}envdir env ${b}softlimit -o 77 ${a}setlock chain.lock ${b}pgrphack ${drop(a)}`;
      const { stdout } = await sh(`echo $$; exec ${chain} /bin/sh -c 'echo $$; echo "$GREETING"; ulimit -Sn; id -un'`);
      const [before, after, greeting, files, user] = stdout.split("\n");
      assert.equal(after, before);
      assert.deepEqual([greeting, files], ["good day", "77"]);
      if (uid !== "") assert.equal(user, uid);
    }
  });
});
