/** The trees of this folder, unchanged but for the port, under our svscan and, where it is installed, under DJB's. */
import assert from "node:assert/strict";
import { cpSync, existsSync, mkdirSync, readdirSync, readFileSync, readlinkSync, renameSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { get } from "node:http";
import { type AddressInfo, createServer } from "node:net";
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
  type Started,
  scratchFolder,
  service,
  start,
  THEIRS,
  until,
  untilDown,
  untilStatus,
  untilUp,
  withoutRoot,
  withoutTheirs,
} from "../../src/supervise/interop/testing.ts";

const scratch = scratchFolder();
after(() => scratch.remove());
const withoutPerl: string | false = existsSync("/usr/bin/perl") ? false : "perl is not installed here";

/** Living processes at work in `folder`. */
function processesBelow(folder: string): number[] {
  return readdirSync("/proc")
    .filter((entry) => /^\d+$/.test(entry))
    .map(Number)
    .filter((pid) => {
      try {
        return `${readlinkSync(`/proc/${pid}/cwd`)}/`.startsWith(`${folder}/`) && isAlive(pid);
      } catch {
        return false;
      }
    });
}

/** Looks at a tree by both svstats until they agree. */
const TRIES = 5;

interface Tree {
  readonly folder: string;
  /** A path in the tree's `service`. */
  at(...names: string[]): string;
  svc(letters: string, ...paths: string[]): Promise<unknown>;
}

/** Copies a tree, runs it, and ends it; nothing may be left. */
async function withTree(name: string, bin: string, prepare: (folder: string) => void, check: (tree: Tree) => Promise<void>): Promise<void> {
  const folder = join(scratch.path, `${name}-${bin === OURS ? "ours" : "djb"}`);
  cpSync(join(import.meta.dirname, name), folder, { recursive: true, verbatimSymlinks: true });
  prepare(folder);
  const tree: Tree = {
    folder,
    at: (...names) => join(folder, "service", ...names),
    svc: (letters, ...paths) => run(`${bin}svc`, [`-${letters}`, ...paths]),
  };
  const scan: Started = start(`${bin}svscan`, [tree.at()], { env: environment(bin), stdio: "ignore" });
  try {
    await check(tree);
    // Both programs see the same, whoever supervises.
    const names = readdirSync(tree.at()).filter((entry) => !entry.startsWith("."));
    const paths = names.flatMap((entry) => (existsSync(tree.at(entry, "log")) ? [entry, `${entry}/log`] : [entry]));
    if (withoutTheirs === false) {
      let states = await bothStates(paths, { cwd: tree.at() });
      // They look one after the other: a state or a second may change in between.
      for (let tries = 1; tries < TRIES && states.ours !== states.theirs; tries++) states = await bothStates(paths, { cwd: tree.at() });
      assert.equal(states.ours, states.theirs);
    }
  } finally {
    scan.process.kill("SIGTERM");
    const code = await scan.ended;
    if (bin === OURS) assert.equal(code, 0);
    else {
      // DJB's svscan leaves all of it running: services first, then logs.
      const paths = readdirSync(tree.at()).map((entry) => tree.at(entry));
      await tree.svc("dx", ...paths);
      await tree.svc("x", ...paths.map((path) => join(path, "log")).filter((path) => existsSync(path)));
      await until("the end of the tree", () => processesBelow(folder).length === 0);
    }
    const left = processesBelow(folder);
    for (const pid of left) await kill(pid);
    assert.deepEqual(left, []);
  }
}

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((done) => server.listen(0, "127.0.0.1", done));
  const { port } = server.address() as AddressInfo;
  await new Promise((done) => server.close(done));
  return port;
}

function fetchFrom(port: number, path: string): Promise<{ status: number; site: string; body: string }> {
  return new Promise((done, failed) => {
    const sent = get({ host: "127.0.0.1", port, path, agent: false }, (response) => {
      let body = "";
      response.setEncoding("utf8").on("data", (part: string) => {
        body += part;
      });
      response.on("end", () => done({ status: response.statusCode ?? 0, site: String(response.headers.server), body }));
    });
    sent.on("error", failed);
  });
}

const count = (text: string, what: RegExp): number => text.split("\n").filter((line) => what.test(line)).length;

for (const [whose, bin] of [
  ["ours", OURS],
  ["DJB's", THEIRS],
] as const) {
  const without = bin === OURS ? false : withoutTheirs;

  describe(`service trees under ${whose}`, { concurrency: 3, timeout: 90_000 }, () => {
    test("web: a server behind setuidgid, envdir and softlimit, its log behind setuidgid and through a processor", {
      skip: without || withoutRoot || withoutPerl,
    }, async () => {
      const port = await freePort();
      const setPort = (folder: string): void => writeFileSync(join(folder, "service/httpd/env/PORT"), `${port}\n`);
      await withTree("web", bin, setPort, async ({ at, svc }) => {
        const main = at("httpd/log/main");
        const listening = (pid: number) => until(`the server ${pid}`, () => fetchFrom(port, "/").catch(() => undefined));
        const first = await untilUp(at("httpd"));
        const answer = await listening(first.pid);
        assert.deepEqual([answer.status, answer.site], [200, "Service trees"]);
        assert.match(answer.body, /It runs/);
        assert.equal((await fetchFrom(port, "/nothing")).status, 404);

        // The chain has become the server: who it is, what it may, what it was given.
        assert.match(readFileSync(`/proc/${first.pid}/cmdline`, "latin1"), /^perl\0/);
        const status = readFileSync(`/proc/${first.pid}/status`, "latin1");
        const { stdout: uid } = await run("id", ["-u", "nobody"]);
        const { stdout: gid } = await run("id", ["-g", "nobody"]);
        assert.equal(/^Uid:\s+(\d+)/m.exec(status)?.[1], uid.trim());
        assert.equal(/^Groups:\s*(.*?)\s*$/m.exec(status)?.[1], gid.trim());
        assert.match(readFileSync(`/proc/${first.pid}/limits`, "latin1"), /Max open files +200 /);

        await svc("h", at("httpd"));
        await until("the answer to HUP", () => / still here, as uid \d+\n/.test(logContent(main)));
        process.kill(first.pid, "SIGKILL");
        const second = await untilUp(at("httpd"), first.pid);
        await listening(second.pid);

        // Enough lines for a finished file, whose answers are counted.
        let asked = 0;
        await until("a finished file", async () => {
          for (let i = 0; i < 50; i++, asked++) await fetchFrom(port, "/style.css");
          return existsSync(join(main, "state")) && /^404 \d+$/m.test(readFileSync(join(main, "state"), "latin1"));
        });
        const log = await until("every request in the log", () => {
          const text = logContent(main);
          return count(text, / 404 GET \/style\.css$/) === asked && text;
        });
        assert.equal(count(log, /^@[0-9a-f]{24} starting$/), 2);
        const counted = Number(/^404 (\d+)$/m.exec(readFileSync(join(main, "state"), "latin1"))?.[1]);
        const inFinished = readdirSync(main)
          .filter((file) => file.startsWith("@"))
          .reduce((sum, file) => sum + count(readFileSync(join(main, file), "latin1"), / 404 /), 0);
        assert.equal(counted, inFinished);
        await svc("d", at("httpd"));
        await untilDown(at("httpd"));
        await until("the last word", () => / stopping\n$/.test(logContent(main)));
        await assert.rejects(fetchFrom(port, "/"));
      });
    });

    test("queue: a worker under a lock, one log for everything and one for errors", { skip: without }, async () => {
      await withTree(
        "queue",
        bin,
        (folder) => mkdirSync(join(folder, "spool/new"), { recursive: true }),
        async ({ folder, at, svc }) => {
          const submit = (name: string, text: string): void => {
            writeFileSync(join(folder, "spool", `.${name}`), `${text}\n`);
            renameSync(join(folder, "spool", `.${name}`), join(folder, "spool/new", name));
          };
          const inSpool = (state: string): string[] => readdirSync(join(folder, "spool", state)).sort();
          const [all, errors] = [at("worker/log/all"), at("worker/log/errors")];
          for (let i = 0; i < 40; i++) submit(`a${i}`, i % 10 === 3 ? "sing" : `add ${i} 1`);
          await untilUp(at("worker"));
          await until("the first jobs", () => existsSync(join(folder, "spool/failed")) && inSpool("done").length === 36 && inSpool("failed").length === 4);
          assert.equal(readFileSync(join(folder, "spool/done/a7"), "utf8"), "add 7 1\n8\n");
          await until("their lines", () => count(logContent(all), / (done|no such verb: sing)$/) === 40);
          assert.equal(count(logContent(errors), /^@[0-9a-f]{24} error a\d+: no such verb: sing$/), 4);
          assert.equal(logContent(errors).split("\n").length - 1, 4);
          // The last lines, each alone in a file of 1001 bytes.
          const last = readFileSync(at("worker/log/last-error"), "latin1");
          assert.equal(last.length, 1001);
          assert.equal(last.trimEnd(), logContent(errors).trimEnd().split("\n").at(-1));
          assert.equal(readFileSync(at("worker/log/status"), "latin1").trimEnd(), logContent(all).trimEnd().split("\n").at(-1));
          // In local time, by either program the same.
          const local = await Promise.all(
            [OURS, ...(withoutTheirs === false ? [THEIRS] : [])].map((folder) => run("/bin/sh", ["-c", `${folder}tai64nlocal <current`], { cwd: errors })),
          );
          for (const { stdout } of local) {
            assert.equal(stdout, local[0].stdout);
            assert.match(stdout, /^\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{9} error a\d+: no such verb: sing\n/);
          }

          // Worker and log are killed in the middle of the work; the job under way is done by the next one.
          for (let i = 0; i < 400; i++) submit(`b${i}`, `add ${i} 2`);
          const worker = await untilUp(at("worker"));
          const log = await untilUp(at("worker/log"));
          await until("some of the work", () => inSpool("done").length > 60);
          process.kill(worker.pid, "SIGKILL");
          await untilUp(at("worker"), worker.pid);
          process.kill(log.pid, "SIGKILL");
          await untilUp(at("worker/log"), log.pid);
          await until("all of the work", () => inSpool("done").length === 436);
          assert.deepEqual([inSpool("new"), inSpool("active")], [[], []]);
          assert.equal(readFileSync(join(folder, "spool/done/b399"), "utf8").split("\n")[1], "401");
          // A second worker would have to wait for the lock.
          const refused = await run(`${bin}setlock`, ["-n", join(folder, "spool/lock"), "true"]);
          assert.equal(refused.code, 111);
          await svc("d", at("worker"));
          await until("the worker's last word", () => / info worker \d+ ends\n$/.test(logContent(all)));
          await untilDown(at("worker"));
        },
      );
    });

    test("jobs: down files, svc -o, a service that is a symbolic link, services that come and go", { skip: without }, async () => {
      await withTree(
        "jobs",
        bin,
        () => {},
        async ({ folder, at, svc }) => {
          const report = at("nightly/report");
          await Promise.all([untilUp(at("clock")), untilUp(at("mailer")), untilDown(at("nightly")), untilDown(at("maintenance"))]);
          assert.ok(!existsSync(report));
          for (const times of [1, 2]) {
            await svc("o", at("nightly"));
            await until(`run ${times}`, () => existsSync(report) && readFileSync(report, "utf8").split("\n").length === times + 1);
            await untilStatus(at("nightly"), ({ pid, want }) => pid === 0 && want === "once", "down again");
          }
          const { stdout: nightly } = await run(`${OURS}svstat`, ["nightly"], { cwd: at() });
          assert.match(nightly, /^nightly: down \d+ seconds\n$/);

          await svc("u", at("maintenance"));
          await untilUp(at("maintenance"));
          const { stdout: maintenance } = await run(`${OURS}svstat`, ["maintenance"], { cwd: at() });
          assert.match(maintenance, /^maintenance: up \(pid \d+\) \d+ seconds, normally down\n$/);
          await svc("d", at("maintenance"));
          await untilDown(at("maintenance"));

          // The link's service runs in etc/, where its supervise and log folders are, too.
          const mailer = join(folder, "etc/mailer");
          const log = (): string => logContent(join(mailer, "log/main"));
          await until("the mailer", () => / mailer starts in etc\/mailer\n/.test(log()));
          await svc("h", at("mailer"));
          await until("HUP through the link", () => log().includes("reads its configuration again"));
          // Turned off as daemontools' FAQ has it: the link goes, then -dx to the service and its log.
          rmSync(at("mailer"));
          await svc("dx", mailer, join(mailer, "log"));
          await until("the mailer's supervises have left", async () => {
            const codes = await Promise.all([mailer, join(mailer, "log")].map((path) => run(`${OURS}svok`, [path])));
            return codes.every(({ code }) => code === 100);
          });
          // And on again; and a service that never was there before.
          symlinkSync("../etc/mailer", at("mailer"));
          service(at(".newcomer"), "echo here >proof; exec sleep 1000");
          renameSync(at(".newcomer"), at("newcomer"));
          await until("the mailer again", () => count(log(), / mailer starts /) === 2);
          await untilUp(at("newcomer"));
          renameSync(at("newcomer"), at(".newcomer"));
          await svc("dx", at(".newcomer"));
          await until("the newcomer has gone", async () => (await run(`${OURS}svok`, [at(".newcomer")])).code === 100);
          rmSync(at(".newcomer"), { recursive: true });

          // ALRM rotates; three files in all.
          const main = at("clock/log/main");
          const finished = (): string[] => readdirSync(main).filter((file) => file.startsWith("@"));
          for (let i = 0; i < 4; i++) {
            const before = finished();
            await until("a line to rotate", () => statSync(join(main, "current")).size > 0);
            await svc("a", at("clock/log"));
            await until("another file", () => finished().some((file) => !before.includes(file)));
          }
          assert.equal(finished().length, 2);
        },
      );
    });
  });
}
