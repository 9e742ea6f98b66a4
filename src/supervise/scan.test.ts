/** svscan and the small commands as real processes, against DJB's own where they are installed. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, watch, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { type Status, unpackStatus } from "./service-directory.ts";

const bin = fileURLToPath(new URL("../../bin/daemontools/", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "outrider-svscan-"));
after(() => rmSync(scratch, { recursive: true, force: true }));
const theirs = (name: string): string => `/usr/bin/${name}`;
const hasTheirs = ["svc", "svstat", "svok", "supervise"].every((name) => existsSync(theirs(name)));

function service(path: string, script: string): string {
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, "run"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return path;
}

function start(program: string, args: string[]): ChildProcess {
  return spawn(program, args, { stdio: "ignore" });
}

/** Waits for the status record to satisfy `is`; woken by the directory, not by the clock. */
async function until(path: string, is: (status: Status) => boolean): Promise<Status> {
  const directory = join(path, "supervise");
  mkdirSync(directory, { recursive: true, mode: 0o700 });
  const watcher = watch(directory);
  try {
    for (;;) {
      const status = existsSync(join(directory, "status")) ? unpackStatus(readFileSync(join(directory, "status"))) : undefined;
      if (status !== undefined && is(status)) return status;
      await once(watcher, "change");
    }
  } finally {
    watcher.close();
  }
}

test("TERM to svscan takes services down first and lets their logs read to the end", async () => {
  const directory = join(scratch, "scan");
  const one = service(join(directory, "one"), "trap 'echo last words; exit' TERM; echo first words; echo > ready; while :; do sleep 0.1; done");
  service(join(one, "log"), "exec cat > got");
  const scan = start(`${bin}svscan`, [directory]);
  const ready = watch(one);
  while (!existsSync(join(one, "ready"))) await once(ready, "change");
  ready.close();
  const { pid } = await until(one, (status) => status.pid !== 0);
  scan.kill("SIGTERM");
  const [code] = (await once(scan, "exit")) as [number];
  assert.equal(code, 0);
  assert.equal(readFileSync(join(one, "log/got"), "utf8"), "first words\nlast words\n");
  assert.throws(() => process.kill(pid, 0), { code: "ESRCH" });
});

test("DJB's svc, svstat and svok control our supervise", { skip: hasTheirs ? false : "daemontools is not installed here" }, async () => {
  const path = service(join(scratch, "ours"), "exec sleep 1000");
  const supervise = start(`${bin}supervise`, [path]);
  const up = await until(path, (status) => status.pid !== 0);
  assert.match(spawnSync(theirs("svstat"), [path], { encoding: "utf8" }).stdout, new RegExp(`: up \\(pid ${up.pid}\\) \\d+ seconds\n$`));
  spawnSync(theirs("svc"), ["-p", path]);
  await until(path, (status) => status.paused);
  spawnSync(theirs("svc"), ["-d", path]);
  await until(path, (status) => status.pid === 0);
  assert.match(spawnSync(theirs("svstat"), [path], { encoding: "utf8" }).stdout, /: down \d+ seconds, normally up\n$/);
  assert.equal(spawnSync(theirs("svok"), [path]).status, 0);
  spawnSync(theirs("svc"), ["-x", path]);
  await once(supervise, "exit");
  assert.equal(spawnSync(theirs("svok"), [path]).status, 100);
});

test("our svc, svstat and svok control DJB's supervise", { skip: hasTheirs ? false : "daemontools is not installed here" }, async () => {
  const path = service(join(scratch, "theirs"), "exec sleep 1000");
  const supervise = start(theirs("supervise"), [path]);
  const up = await until(path, (status) => status.pid !== 0);
  assert.match(spawnSync(`${bin}svstat`, [path], { encoding: "utf8" }).stdout, new RegExp(`: up \\(pid ${up.pid}\\) \\d+ seconds\n$`));
  assert.equal(spawnSync(`${bin}svok`, [path]).status, 0);
  spawnSync(`${bin}svc`, ["-dx", path]);
  await once(supervise, "exit");
  assert.equal(spawnSync(`${bin}svok`, [path]).status, 100);
});
