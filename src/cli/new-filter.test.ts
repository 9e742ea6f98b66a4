import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, symlinkSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const root = fileURLToPath(new URL("../../", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "outrider-new-filter-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

function outrider(...words: string[]): { readonly code: number | null; readonly output: string } {
  const { status, stdout, stderr } = spawnSync("/bin/sh", [join(root, "bin/outrider"), ...words], { cwd: scratch, encoding: "utf8" });
  return { code: status, output: stdout + stderr };
}

test("what it makes is valid, and its test passes", () => {
  const made = outrider("new-filter", "greeter");
  assert.equal(made.code, 0, made.output);
  const validated = outrider("--mode", "validate", "-c", "greeter/envoy.yaml");
  assert.equal(validated.code, 0, validated.output);
  // As `npm install` would link the checkout.
  mkdirSync(join(scratch, "greeter/node_modules"));
  symlinkSync(root, join(scratch, "greeter/node_modules/outrider"));
  const env = { ...process.env };
  // Its tests are run by a test runner of their own.
  delete env["NODE_TEST_CONTEXT"];
  const tested = spawnSync(process.execPath, ["--conditions=outrider-source", "--test"], { cwd: join(scratch, "greeter"), encoding: "utf8", env });
  assert.equal(tested.status, 0, tested.stdout + tested.stderr);
  assert.match(tested.stdout, /pass 2/);
});

test("what is there is not overwritten; names that could be no folder are refused", () => {
  assert.match(outrider("new-filter", "greeter").output, /exists already: give another name, or --dir/);
  for (const name of ["../x", "A", "", "a b"]) assert.equal(outrider("new-filter", name).code, 1, name);
  assert.match(outrider("new-filter").output, /a name is missing/);
  assert.match(outrider("new-filter", "--dri", "x").output, /no such flag: --dri/);
});
