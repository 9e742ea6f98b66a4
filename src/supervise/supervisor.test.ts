/** Taking over from a killed supervise, and the opt-in files of a service directory, with real processes. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, watch, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { processStartTime } from "../os/process-info.ts";
import type { Report } from "./service-directory.ts";

const bin = fileURLToPath(new URL("../../bin/daemontools/", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "outrider-supervisor-"));
const started: ChildProcess[] = [];
after(() => {
  for (const child of started) {
    child.kill("SIGKILL");
    child.stderr?.destroy(); // what it has left running would hold it open
  }
  rmSync(scratch, { recursive: true, force: true });
});

type Files = Readonly<Record<string, string>>;

/** A service directory; texts that begin with #! become executable. */
function service(path: string, files: Files): string {
  const directory = join(scratch, path);
  mkdirSync(join(directory, "supervise"), { recursive: true, mode: 0o700 });
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(join(directory, name, ".."), { recursive: true });
    writeFileSync(join(directory, name), text, { mode: text.startsWith("#!") ? 0o755 : 0o644 });
  }
  return directory;
}

interface Started extends ChildProcess {
  /** Waits until standard error has said it. */
  said(what: RegExp): Promise<void>;
}

function start(program: "svscan" | "supervise", ...args: string[]): Started {
  const child = spawn(`${bin}${program}`, args, { stdio: ["ignore", "ignore", "pipe"] });
  started.push(child);
  let errors = "";
  child.stderr.on("data", (bytes) => {
    errors += String(bytes);
  });
  return Object.assign(child, {
    async said(what: RegExp): Promise<void> {
      while (!what.test(errors)) await once(child.stderr, "data");
    },
  });
}

function report(directory: string): Report | undefined {
  try {
    return JSON.parse(readFileSync(join(directory, "supervise/status.json"), "utf8")) as Report;
  } catch {
    return undefined;
  }
}

/** Waits for the report to satisfy `is`; woken by the directory, not by the clock. */
async function until(directory: string, is: (report: Report) => boolean): Promise<Report> {
  const watcher = watch(join(directory, "supervise"));
  try {
    for (;;) {
      const found = report(directory);
      if (found !== undefined && is(found)) return found;
      await once(watcher, "change");
    }
  } finally {
    watcher.close();
  }
}

async function untilFile(path: string, is: (text: string) => boolean): Promise<string> {
  const watcher = watch(join(path, ".."));
  try {
    for (;;) {
      const text = existsSync(path) ? readFileSync(path, "utf8") : "";
      if (is(text)) return text;
      await once(watcher, "change");
    }
  } finally {
    watcher.close();
  }
}

function svc(letters: string, ...directories: string[]): void {
  assert.equal(spawnSync(`${bin}svc`, [`-${letters}`, ...directories]).status, 0);
}

async function end(child: ChildProcess, how: NodeJS.Signals = "SIGTERM"): Promise<number | null> {
  const over = once(child, "exit") as Promise<[number | null]>;
  child.kill(how);
  return (await over)[0];
}

const isAlive = (pid: number): boolean => processStartTime(pid) !== undefined;

// Most of their time is daemontools' second after a start.
describe("supervise", { concurrency: 6 }, () => {
  test("a supervise that follows a killed one ends what that has left before it starts the service again", async () => {
    const directory = service("replaced", { run: "#!/bin/sh\nexec sleep 1000\n" });
    const first = start("supervise", directory);
    const { pid } = await until(directory, (found) => found.pid !== 0);
    await end(first, "SIGKILL");
    const second = start("supervise", directory);
    await until(directory, (found) => found.pid !== 0 && found.pid !== pid);
    assert.ok(!isAlive(pid));
    await end(second);
  });

  test("with a file adopt a supervise that follows a killed one takes its service over and is told of its end", async () => {
    const directory = service("adopted", {
      adopt: "",
      run: "#!/bin/sh\nexec sleep 1000\n",
      finish: '#!/bin/sh\necho "$1 $2" >finished.new; mv finished.new finished\n',
    });
    const first = start("supervise", directory);
    const before = await until(directory, (found) => found.pid !== 0);
    await end(first, "SIGKILL");
    assert.ok(isAlive(before.pid));
    const second = start("supervise", directory);
    const after = await until(directory, (found) => found.supervisorPid === second.pid);
    assert.equal(after.pid, before.pid, "the same process");
    assert.equal(after.since, before.since, "and no new start");
    await second.said(/watching over it again/);
    svc("t", directory);
    const next = await until(directory, (found) => found.pid !== 0 && found.pid !== before.pid);
    assert.deepEqual({ ...next.lastExit, at: "", ranMs: 0 }, { code: null, signal: null, at: "", ranMs: 0, adopted: true });
    assert.equal(await untilFile(join(directory, "finished"), (text) => text !== ""), "-1 0\n");
    assert.equal(await end(second), 0);
    assert.ok(!isAlive(next.pid));
  });

  test("what was wanted of an adopted service stays so: once is not up, and a stop that was on its way arrives", async () => {
    const directory = service("adopted-once", { adopt: "", run: "#!/bin/sh\nexec sleep 1000\n", down: "" });
    const first = start("supervise", directory);
    await until(directory, (found) => found.state === "down");
    svc("o", directory);
    const { pid } = await until(directory, (found) => found.pid !== 0);
    await end(first, "SIGKILL");
    const second = start("supervise", directory);
    const again = await until(directory, (found) => found.supervisorPid === second.pid);
    assert.deepEqual([again.pid, again.want], [pid, "once"]);
    process.kill(pid, "SIGKILL");
    assert.equal((await until(directory, (found) => found.pid === 0)).state, "down");
    await end(second);
  });

  test("a kill of svscan loses no line and starts nothing twice: service and log go on, the next svscan has both", async () => {
    const tree = join(scratch, "tree");
    const one = service("tree/one", {
      run: '#!/bin/sh\ntrap "exit 0" TERM\ni=0\nwhile :; do i=$((i+1)); echo "line $i"; sleep 0.02; done\n',
      "log/run": "#!/bin/sh\nexec cat >>got\n",
    });
    mkdirSync(join(one, "log/supervise"));
    const first = start("svscan", tree);
    const before = { main: await until(one, (found) => found.pid !== 0), log: await until(join(one, "log"), (found) => found.pid !== 0) };
    await untilFile(join(one, "log/got"), (text) => text.includes("line 5\n"));
    await end(first, "SIGKILL");
    await untilFile(join(one, "log/got"), (text) => text.includes("line 20\n"));
    const second = start("svscan", tree);
    const main = await until(one, (found) => found.supervisorPid === second.pid);
    const log = await until(join(one, "log"), (found) => found.supervisorPid === second.pid);
    assert.deepEqual([main.pid, log.pid], [before.main.pid, before.log.pid]);
    process.kill(log.pid, "SIGTERM"); // a logger that is replaced reads on where the old one stopped
    await until(join(one, "log"), (found) => found.pid !== 0 && found.pid !== log.pid);
    await untilFile(join(one, "log/got"), (text) => text.includes("line 60\n"));
    assert.equal(await end(second), 0);
    const lines = readFileSync(join(one, "log/got"), "utf8").trimEnd().split("\n");
    const numbers = lines.map((line) => Number(line.slice("line ".length)));
    // cat dies with what it has read but not written: at most one piece, and none here unless it was caught in between.
    assert.deepEqual(
      numbers,
      [...numbers].sort((a, b) => a - b),
    );
    assert.equal(new Set(numbers).size, numbers.length, "none doubled");
    assert.ok(numbers.length >= numbers[numbers.length - 1] - 1, "none lost");
  });

  test("finish gets code and signal, 125 keeps the service down, and one that hangs is killed", async () => {
    const directory = service("finish", {
      run: "#!/bin/sh\n[ -e second ] && exec sleep 1000\necho >second\nexit 7\n",
      finish: '#!/bin/sh\necho "$1 $2" >>ends\n[ "$1" = 7 ] && exec sleep 1000\nexit 125\n',
      "timeout-finish": "200\n",
    });
    const supervise = start("supervise", directory);
    const { pid } = await until(directory, (found) => found.pid !== 0 && found.starts === 2);
    await supervise.said(/finish\/finish does not end within 200 ms \(timeout-finish\): killing it/);
    assert.equal(readFileSync(join(directory, "supervise/exit"), "utf8"), "7 0\n");
    process.kill(pid, "SIGKILL");
    const failed = await until(directory, (found) => found.state === "failed");
    assert.match(failed.reason ?? "", /exit code 125/);
    assert.equal(readFileSync(join(directory, "supervise/exit"), "utf8"), "-1 9\n");
    assert.equal(readFileSync(join(directory, "ends"), "utf8"), "7 0\n-1 9\n");
    svc("u", directory);
    await until(directory, (found) => found.pid !== 0);
    await end(supervise);
  });

  test("a newline on the notification descriptor makes it ready, across a kill of supervise, too", async () => {
    const directory = service("notify", {
      adopt: "",
      run: "#!/bin/sh\nwhile ! [ -e go ]; do sleep 0.02; done\necho >&7\nexec sleep 1000\n",
      "notification-fd": "7\n",
    });
    const first = start("supervise", directory);
    const { pid } = await until(directory, (found) => found.state === "up");
    await end(first, "SIGKILL");
    const second = start("supervise", directory);
    await until(directory, (found) => found.supervisorPid === second.pid && found.state === "up");
    writeFileSync(join(directory, "go"), "");
    const ready = await until(directory, (found) => found.state === "ready");
    assert.equal(ready.pid, pid);
    assert.ok(ready.readySince !== undefined);
    await end(second);
  });

  test("check says ready, then unhealthy, and with check-restart the service is restarted", async () => {
    const directory = service("check", {
      run: "#!/bin/sh\nexec sleep 1000\n",
      check: "#!/bin/sh\n[ -e well ]\n",
      "check-interval": "100\n",
      "check-failures": "2\n",
      "check-restart": "",
      well: "",
    });
    const supervise = start("supervise", directory);
    const ready = await until(directory, (found) => found.state === "ready");
    rmSync(join(directory, "well"));
    await until(directory, (found) => found.state === "unhealthy" || found.starts > 1);
    const again = await until(directory, (found) => found.pid !== 0 && found.pid !== ready.pid);
    assert.equal(again.lastExit?.signal, "SIGTERM");
    await end(supervise);
  });

  test("a service starts when those that it depends on are ready, and goes before them", async () => {
    const tree = join(scratch, "depends");
    const database = service("depends/database", {
      run: '#!/bin/sh\ntrap "echo database >>../order; exit 0" TERM\nwhile ! [ -e go ]; do sleep 0.02; done\necho >&3\nwhile :; do sleep 0.05; done\n',
      "notification-fd": "3",
    });
    const server = service("depends/a-server", {
      run: '#!/bin/sh\ntrap "echo server >>../order; exit 0" TERM\nwhile :; do sleep 0.05; done\n',
      depends: "database # it asks at its start\n",
    });
    const svscan = start("svscan", tree);
    const waiting = await until(server, (found) => found.state === "waiting");
    assert.deepEqual(waiting.waitingFor, ["database"]);
    writeFileSync(join(database, "go"), "");
    await until(server, (found) => found.pid !== 0);
    assert.equal(report(database)?.state, "ready");
    assert.equal(await end(svscan), 0);
    assert.equal(readFileSync(join(tree, "order"), "utf8"), "server\ndatabase\n");
  });

  test("down-signal and timeout-kill end the unwilling", async () => {
    const directory = service("unwilling", {
      run: '#!/bin/sh\ntrap "" TERM\ntrap "echo int >int" INT\necho >ready\nwhile :; do sleep 0.05; done\n',
      "down-signal": "int\n",
      "timeout-kill": "300\n",
    });
    const supervise = start("supervise", directory);
    await untilFile(join(directory, "ready"), (text) => text !== "");
    svc("d", directory);
    const down = await until(directory, (found) => found.pid === 0 && found.state === "down");
    assert.equal(down.lastExit?.signal, "SIGKILL");
    assert.equal(readFileSync(join(directory, "int"), "utf8"), "int\n");
    await supervise.said(/does not end within 300 ms \(timeout-kill\)/);
    svc("x", directory);
    await once(supervise, "exit");
  });

  test("env/ and limits hold for run and finish", async () => {
    const directory = service("surroundings", {
      run: '#!/bin/sh\n{ echo "$COLOUR ($HOME)"; ulimit -Sn; } >got.new; mv got.new got\nexec sleep 1000\n',
      "env/COLOUR": "red \nsecond line\n",
      "env/HOME": "",
      limits: "openfiles 123 # few\ncorebytes 0\n",
    });
    const supervise = start("supervise", directory);
    assert.equal(await untilFile(join(directory, "got"), (text) => text !== ""), "red ()\n123\n");
    await end(supervise);
  });

  test("death-limit gives a crash loop up, and wrong files are told and count as absent", async () => {
    const directory = service("crashing", { run: "#!/bin/sh\nexit 3\n", "death-limit": "2 60\n", backoff: "soon\n", limits: "opnfiles 3\n" });
    const supervise = start("supervise", directory);
    const failed = await until(directory, (found) => found.state === "failed");
    assert.match(failed.reason ?? "", /ended 2 times within 60 seconds \(death-limit\), last: exit code 3/);
    assert.deepEqual([failed.starts, failed.want, failed.problems?.length], [2, "down", 2]);
    assert.ok(failed.lastExit !== undefined && failed.lastExit.ranMs < 900, "how long it ran, without the second after a start");
    await supervise.said(/crashing\/limits: unknown limit "opnfiles"; there are allbytes/);
    await supervise.said(/crashing\/backoff: "soon" is not a number of seconds from 1 to 86400; going on without it/);
    await end(supervise);
  });

  test("every: a job runs, waits until it is due, and runs at once when asked to", async () => {
    const directory = service("job", { run: "#!/bin/sh\necho run >>runs\n", every: "1h\n" });
    const supervise = start("supervise", directory);
    const waiting = await until(directory, (found) => found.state === "waiting");
    const wait = Date.parse(waiting.nextStart ?? "") - Date.parse(waiting.since);
    assert.ok(wait > 3_500_000 && wait <= 3_600_000, `${wait} ms`);
    svc("u", directory);
    await until(directory, (found) => found.state === "waiting" && found.starts === 2);
    assert.equal(readFileSync(join(directory, "runs"), "utf8"), "run\nrun\n");
    await end(supervise);
  });

  const canUnshare = spawnSync("unshare", ["--pid", "--fork", "--mount-proc", "true"]).status === 0;
  test("as process 1 it collects orphans, and TERM ends all within its bound", {
    skip: canUnshare ? false : "a PID namespace cannot be made here (unshare, root)",
  }, async () => {
    const tree = join(scratch, "one");
    const orphans = service("one/orphans", {
      // Each leaves a child that outlives it; ps would need a package.
      run: `#!/bin/sh
i=0; while [ $i -lt 30 ]; do sh -c 'sleep 0.05 & sleep 0.1 & exit 0'; i=$((i+1)); done
left=1; while [ $left -gt 0 ]; do sleep 0.1; left=$(cat /proc/[0-9]*/stat 2>/dev/null | grep -c '^[0-9]* (sleep) Z'); done
cat /proc/1/comm >collected
exec sleep 1000
`,
    });
    service("one/unwilling", { run: '#!/bin/sh\ntrap "" TERM\nwhile :; do sleep 0.1; done\n' });
    const child = spawn("unshare", ["--pid", "--fork", "--mount-proc", "--kill-child", `${bin}svscan`, "--stop-timeout", "1", tree], {
      stdio: ["ignore", "ignore", "pipe"],
    });
    started.push(child);
    await untilFile(join(orphans, "collected"), (text) => text !== "");
    const [first] = readFileSync(`/proc/${child.pid}/task/${child.pid}/children`, "utf8").split(" ");
    const over = once(child, "exit");
    process.kill(Number(first), "SIGTERM");
    assert.deepEqual(await over, [0, null]);
    assert.equal(report(join(tree, "unwilling"))?.lastExit?.signal, "SIGKILL");
  });

  test("svc -w waits for a state and says by its exit code whether it came", async () => {
    const directory = service("wait", {
      run: "#!/bin/sh\nwhile ! [ -e go ]; do sleep 0.02; done\necho >&3\nexec sleep 1000\n",
      "notification-fd": "3\n",
      down: "",
    });
    const supervise = start("supervise", directory);
    await until(directory, (found) => found.state === "down");
    const run = async (...args: string[]): Promise<[number | null, string]> => {
      const child = spawn(`${bin}svc`, args, { stdio: ["ignore", "ignore", "pipe"] });
      let errors = "";
      child.stderr.on("data", (bytes) => {
        errors += String(bytes);
      });
      const [code] = (await once(child, "close")) as [number | null];
      return [code, errors];
    };
    assert.deepEqual(await run("-u", "-w", "up", directory), [0, ""]);
    assert.deepEqual(await run("-w", "ready", "-W", "0.1", directory), [99, `svc: warning: ${directory} is not ready after 0.1 seconds: up\n`]);
    const ready = run("-wready", directory);
    writeFileSync(join(directory, "go"), "");
    assert.deepEqual(await ready, [0, ""]);
    assert.deepEqual(await run("-dw", "finished", directory), [0, ""]);
    assert.deepEqual((await run("-w", "sideways", directory))[0], 100);
    assert.equal(await end(supervise), 0);
    assert.deepEqual(await run("-w", "ready", directory), [111, `svc: fatal: unable to wait for ${directory}: supervise not running\n`]);
  });

  test("--exit-with ends svscan with the code of a service, the others in order", async () => {
    const tree = join(scratch, "exit-with");
    service("exit-with/main", { run: "#!/bin/sh\nwhile ! [ -e ../beside/up ]; do sleep 0.02; done\nexit 42\n" });
    const beside = service("exit-with/beside", { run: "#!/bin/sh\necho >up\nexec sleep 1000\n" });
    const svscan = start("svscan", "--exit-with", "main", tree);
    assert.deepEqual(await once(svscan, "exit"), [42, null]);
    assert.equal(report(beside)?.pid, 0);
  });
});
