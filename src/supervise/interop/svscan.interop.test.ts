/** svscan and supervise of the one side with svc, svstat, svok, supervise and multilog of the other. */
import assert from "node:assert/strict";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import {
  bothStates,
  environment,
  isAlive,
  kill,
  logContent,
  OURS,
  run,
  scratchFolder,
  service,
  start,
  statusOf,
  THEIRS,
  until,
  untilDown,
  untilStatus,
  untilUp,
  withoutTheirs,
} from "./testing.ts";

const scratch = scratchFolder();
after(() => scratch.remove());

/** A service that says its pid and waits, with a log. */
function loggedService(path: string): string {
  service(path, 'echo "begins $$"; trap "echo hup" HUP; trap "echo int" INT; trap "echo alarm" ALRM; trap "exit 0" TERM; while :; do sleep 0.02; done');
  service(join(path, "log"), "exec multilog t ./main");
  return path;
}

const counts = (text: string, what: string): number => text.split("\n").filter((line) => line.includes(what)).length;

describe("both ways", { concurrency: 6, skip: withoutTheirs }, () => {
  for (const { name, svscan, path, svc, svok } of [
    { name: "DJB's svscan with our supervise and multilog, controlled by ours", svscan: THEIRS, path: [OURS], svc: OURS, svok: OURS },
    { name: "DJB's svscan with our supervise, DJB's multilog and DJB's svc", svscan: THEIRS, path: ["mixed"], svc: THEIRS, svok: THEIRS },
    { name: "our svscan with DJB's multilog, controlled by DJB's", svscan: OURS, path: [THEIRS], svc: THEIRS, svok: THEIRS },
    { name: "our svscan and multilog, controlled by DJB's", svscan: OURS, path: [OURS], svc: THEIRS, svok: THEIRS },
  ]) {
    test(name, async () => {
      const root = join(scratch.path, name.replaceAll(/[^a-zA-Z]+/g, "-"));
      const folders = path.map((folder) => {
        if (folder !== "mixed") return folder;
        const mixed = join(root, "bin");
        mkdirSync(mixed, { recursive: true });
        symlinkSync(`${OURS}supervise`, join(mixed, "supervise"));
        symlinkSync(`${THEIRS}multilog`, join(mixed, "multilog"));
        return mixed;
      });
      const tree = join(root, "service");
      const web = loggedService(join(tree, "web"));
      const idle = service(join(tree, "idle"), "exec sleep 1000");
      writeFileSync(join(idle, "down"), "");
      const scan = start(`${svscan}svscan`, [tree], { env: environment(...folders) });
      const control = (letters: string, ...services: string[]): Promise<unknown> => run(`${svc}svc`, [`-${letters}`, ...services]);
      const log = (): string => logContent(join(web, "log/main"));
      try {
        const first = await untilUp(web);
        await untilUp(join(web, "log"));
        await untilDown(idle);
        assert.equal((await run(`${svok}svok`, [web])).code, 0);
        await until("the first line", () => log().includes(`begins ${first.pid}`));

        for (const [letter, line] of [
          ["h", "hup"],
          ["i", "int"],
          ["a", "alarm"],
        ]) {
          await control(letter, web);
          await until(`${line} in the log`, () => log().includes(` ${line}\n`));
        }
        await control("p", web);
        await untilStatus(web, ({ paused }) => paused, "paused");
        const states = await bothStates(["web", "web/log", "idle", "nothing"], { cwd: tree });
        assert.equal(states.ours, states.theirs);
        assert.match(
          states.ours,
          new RegExp(`^web: up \\(pid ${first.pid}\\) \\d+ seconds, paused\nweb/log: up .*\nidle: down \\d+ seconds\nnothing: unable to chdir`),
        );
        await control("c", web);
        await untilStatus(web, ({ paused }) => !paused, "continued");

        await control("t", web);
        const second = await untilUp(web, first.pid);
        await until("the second start", () => log().includes(`begins ${second.pid}`));
        process.kill(second.pid, "SIGKILL");
        const third = await untilUp(web, second.pid);
        await until("the third start", () => log().includes(`begins ${third.pid}`));
        assert.equal(counts(log(), "begins"), 3);

        await control("d", web);
        await untilDown(web);
        await control("u", web, idle);
        const [fourth] = await Promise.all([untilUp(web), untilUp(idle)]);
        const again = await bothStates(["web", "idle"], { cwd: tree });
        assert.equal(again.ours, again.theirs);
        assert.match(again.ours, /^web: up \(pid \d+\) \d+ seconds\nidle: up \(pid \d+\) \d+ seconds, normally down\n$/);

        await control("o", web);
        await untilStatus(web, ({ want }) => want === "once", "run once");
        await control("t", web);
        await untilDown(web);
        assert.ok(!isAlive(fourth.pid));
        // Gone for good: renamed to a name that svscan does not look at, then told to leave.
        rmSync(join(web, "log/run"));
        const hidden = join(tree, ".web");
        renameSync(web, hidden);
        await control("dx", hidden, join(hidden, "log"), idle);
        await until("both supervises have left", async () => {
          const [main, itsLog] = await Promise.all([run(`${svok}svok`, [hidden]), run(`${svok}svok`, [join(hidden, "log")])]);
          return main.code === 100 && itsLog.code === 100;
        });
        assert.equal(counts(logContent(join(hidden, "log/main")), "begins"), 4);
      } finally {
        process.kill(scan.pid, "SIGTERM");
        await scan.ended;
        // DJB's svscan leaves everything running.
        for (const left of [web, join(web, "log"), join(tree, ".web"), join(tree, ".web/log"), idle]) {
          if (existsSync(join(left, "supervise/control"))) await run(`${OURS}svc`, ["-dxk", left]);
        }
        await until("everything has left", async () => {
          const codes = await Promise.all([web, join(web, "log"), idle].map((left) => run(`${OURS}svok`, [left])));
          return codes.every(({ code }) => code !== 0);
        });
        const pid = statusOf(idle)?.pid ?? 0;
        if (pid !== 0) await kill(pid);
      }
    });
  }

  for (const [from, to] of [
    [THEIRS, OURS],
    [OURS, THEIRS],
  ]) {
    test(`a service directory goes from the supervise in ${from === OURS ? "ours" : "DJB's"} to the other after x`, async () => {
      const path = service(join(scratch.path, `hand-over-${from === OURS ? "theirs" : "ours"}`), "exec sleep 1000");
      const pids: number[] = [];
      for (const [bin, other] of [
        [from, to],
        [to, from],
        [from, to],
      ]) {
        const supervise = start(`${bin}supervise`, [path]);
        const { pid } = await untilUp(path, pids.at(-1));
        pids.push(pid);
        // One at a time, whoever made the lock.
        const second = await run(`${other}supervise`, [path]);
        assert.equal(second.code, 111);
        assert.equal(second.stderr, `supervise: fatal: unable to acquire ${path}/supervise/lock: temporary failure\n`);
        await run(`${other}svc`, ["-dx", path]);
        assert.equal(await supervise.ended, 0);
        assert.ok(!isAlive(pid));
      }
      assert.equal(readFileSync(join(path, "supervise/status")).length, 18);
    });
  }
});
