/** What kills in an awkward order have broken before. scripts/faults.ts looks for more of the kind. */
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { after, test } from "node:test";
import { environment, isAlive, kill, logContent, OURS, run, scratchFolder, service, start, until, untilUp } from "./testing.ts";

const scratch = scratchFolder();
after(() => scratch.remove());

test("multilog notices the end of a named pipe whose last writer had gone before it began", { timeout: 20_000 }, async () => {
  // Descriptor 4 is what svscan gives a log; the writer leaves first, with a line in the pipe or without.
  for (const [name, line] of [
    ["with", "line"],
    ["without", ""],
  ]) {
    const script = `mkfifo ${name}; exec 3<>${name} 4<${name}; ${line === "" ? ":" : "echo line >&3"}; exec 3>&-; exec ${OURS}multilog ./log-${name} <&4`;
    const { code } = await run("/bin/sh", ["-c", script], { cwd: scratch.path });
    assert.equal(code, 0);
    assert.equal(logContent(join(scratch.path, `log-${name}`)), line === "" ? "" : "line\n");
  }
});

test("a service goes on while svscan and its log are dead, and the next log has every line", async () => {
  const tree = join(scratch.path, "service");
  const path = service(join(tree, "counter"), "n=0; while :; do echo $n; n=$((n + 1)); echo $n >count; sleep 0.01; done");
  service(join(path, "log"), "exec multilog n1000 ./main");
  const options = { env: environment(OURS) };
  const lines = (): string[] => logContent(join(path, "log/main")).split("\n").slice(0, -1);
  const first = start(`${OURS}svscan`, [tree], options);
  const { pid } = await untilUp(path);
  const log = await untilUp(join(path, "log"));
  await until("the first lines", () => lines().length > 10);
  await kill(first.pid);
  await kill(log.pid);
  const written = lines().length;
  const waiting = start("/bin/sh", ["-c", "until [ $(cat count) -gt $1 ] 2>/dev/null; do sleep 0.02; done", "sh", String(written + 20)], { cwd: path });
  assert.equal(await waiting.ended, 0);
  assert.ok(isAlive(pid), "a broken pipe has ended the service");
  const second = start(`${OURS}svscan`, [tree], options);
  await until("what was written meanwhile", () => lines().length > written + 20);
  second.process.kill("SIGTERM");
  assert.equal(await second.ended, 0);
  assert.deepEqual(
    lines(),
    Array.from({ length: lines().length }, (_, i) => String(i)),
  );
  assert.ok(!isAlive(pid));
});

test("a multilog that is killed again and again loses no line and has none twice", { timeout: 60_000 }, async () => {
  const cwd = scratch.path;
  await run("mkfifo", ["lines"], { cwd });
  const [write, read] = [openSync(join(cwd, "lines"), "r+"), openSync(join(cwd, "lines"), "r")]; // as svscan holds them
  const writer = spawn("/bin/sh", ["-c", "seq 120000 | sed 's/.*/& &/'"], { stdio: ["ignore", write, "inherit"] });
  const written = once(writer, "exit");
  const directory = join(cwd, "killed");
  const script = ["t", "s16777215", "n100", "./all", "s8192", "n5000", "./killed"];
  let isWritten = false;
  void written.then(() => {
    isWritten = true;
  });
  for (let kills = 0; kills < 15 && !isWritten; kills++) {
    const before = logContent(directory).length;
    const log = spawn(`${OURS}multilog`, script, { cwd, stdio: [read, "inherit", "inherit"] });
    const ended = once(log, "exit");
    await until("some progress", () => isWritten || logContent(directory).length > before + 3000);
    log.kill("SIGKILL");
    await ended;
  }
  const last = spawn(`${OURS}multilog`, script, { cwd, stdio: [read, "inherit", "inherit"] });
  const ended = once(last, "exit");
  closeSync(read);
  await written;
  closeSync(write);
  assert.deepEqual(await ended, [0, null]);
  for (const name of ["all", "killed"]) {
    const numbers = logContent(join(cwd, name))
      .split("\n")
      .slice(0, -1)
      .map((line) => Number(/^@[0-9a-f]{24} (\d+) \1$/.exec(line)?.[1]));
    assert.equal(numbers.length, 120000, name);
    assert.ok(
      numbers.every((n, i) => n === i + 1),
      `${name}: lines in order, each once`,
    );
  }
});
