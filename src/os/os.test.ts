/** One suite for both backends; the tools get the same from either. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { closeSync, mkdtempSync, openSync, readSync, rmSync, statSync, writeSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { createKoffiOs } from "./koffi.ts";
import type { Os } from "./os.ts";
import { findPortHolder, programName } from "./port-holder.ts";
import { isGroupAlive, processStartTime } from "./process-info.ts";
import { createProgramsOs } from "./programs.ts";

const scratch = mkdtempSync(join(tmpdir(), "outrider-os-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

function load(create: () => Os): Os | string {
  try {
    return create();
  } catch (error) {
    return `cannot be loaded here: ${String(error)}`;
  }
}

for (const [name, create] of [
  ["koffi", createKoffiOs],
  ["programs", createProgramsOs],
] as const) {
  const os = load(create);
  const skip = typeof os === "string" ? os : false;
  const use = (): Os => {
    assert.ok(typeof os !== "string");
    return os;
  };

  test(`${name}: a lock belongs to the open file, and EAGAIN tells that it is held`, { skip }, () => {
    const path = join(scratch, `${name}.lock`);
    const [first, second] = [openSync(path, "a"), openSync(path, "a")];
    use().flock(first, false);
    assert.throws(() => use().flock(second, false), { code: "EAGAIN" });
    closeSync(first);
    use().flock(second, true);
    closeSync(second);
  });

  test(`${name}: fifos and pipes`, { skip }, () => {
    const path = join(scratch, `${name}.fifo`);
    use().mkfifo(path, 0o600);
    assert.ok(statSync(path).isFIFO());
    assert.equal(statSync(path).mode & 0o777, 0o600);
    assert.throws(() => use().mkfifo(path, 0o600), { code: "EEXIST" });
    const [read, write] = use().pipe();
    writeSync(write, "through");
    closeSync(write);
    const bytes = Buffer.alloc(16);
    assert.equal(bytes.toString("utf8", 0, readSync(read, bytes)), "through");
    assert.equal(readSync(read, bytes), 0);
    closeSync(read);
  });

  test(`${name}: limits are read and set`, { skip }, () => {
    const { soft, hard } = use().getrlimit("core");
    use().setrlimit("core", 0n, hard);
    assert.deepEqual(use().getrlimit("core"), { soft: 0n, hard });
    use().setrlimit("core", soft, hard);
  });

  test(`${name}: exec keeps the process, with the arguments, the environment and the limits given`, { skip }, () => {
    const script = `
      const { createKoffiOs } = await import(${JSON.stringify(new URL("./koffi.ts", import.meta.url).href)});
      const { createProgramsOs } = await import(${JSON.stringify(new URL("./programs.ts", import.meta.url).href)});
      const os = ${name === "koffi" ? "createKoffiOs" : "createProgramsOs"}();
      console.log(process.pid);
      const { hard } = os.getrlimit("core");
      os.exec({
        file: "/bin/sh",
        argv: ["sh", "-c", 'echo $$ "$1" $MARK $(ulimit -Sc); kill -0 $$; trap - PIPE; exit 7', "x", "two words"],
        env: ["MARK=m", "PATH=/usr/bin:/bin"],
        limits: [{ name: "core", soft: 0n, hard }],
      }, true);`;
    const result = spawnSync(process.execPath, ["--disable-warning=ExperimentalWarning", "--input-type=module", "-e", script], { encoding: "utf8" });
    const [pid, line] = result.stdout.split("\n");
    assert.equal(line, `${pid} two words m 0`, result.stderr);
    assert.equal(result.status, 7);
  });
}

test("a process is known by its start time, a group by its members", () => {
  assert.match(processStartTime(process.pid) ?? "", /^[0-9]+$/);
  assert.equal(processStartTime(0x7fffffff), undefined);
  assert.ok(!isGroupAlive(0x7fffffff));
});

test("who listens on a port", async () => {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const address = server.address();
  assert.ok(typeof address === "object" && address !== null);
  assert.equal(findPortHolder(address.port)?.pid, process.pid);
  server.close();
  await once(server, "close");
  assert.equal(findPortHolder(address.port), undefined);
});

test("the holder of a port has the name of its program, not of what interprets it", () => {
  assert.equal(programName("/usr/sbin/apache2\0-f\0x.conf\0", "apache2"), "apache2");
  assert.equal(programName("/opt/node\0--max-semi-space-size=2\0/srv/bin/../src/cli/main.ts\0-c\0envoy.yaml\0", "MainThread"), "outrider");
  assert.equal(programName("/usr/bin/python3.12\0/srv/app.py\0", "python3.12"), "app.py");
  assert.equal(programName("node\0", "node"), "node");
});
