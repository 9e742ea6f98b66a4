import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { join, resolve } from "node:path";
import { test } from "node:test";

const bin = resolve(import.meta.dirname, "..", "bin");

test("bin/node does not take itself for the system's Node where bin/ is on the PATH", async () => {
  // A group of its own: in case it does ask itself without end, all of it can be ended.
  const child = spawn(join(bin, "node"), ["--version"], { env: { PATH: `${bin}:/usr/bin:/bin` }, detached: true });
  const timer = setTimeout(() => process.kill(-(child.pid as number), "SIGKILL"), 5000);
  let text = "";
  child.stdout.setEncoding("utf8").on("data", (part: string) => {
    text += part;
  });
  const [code] = await once(child, "close");
  clearTimeout(timer);
  assert.equal(code, 0);
  assert.match(text, /^v\d+\.\d+\.\d+\n$/);
});
