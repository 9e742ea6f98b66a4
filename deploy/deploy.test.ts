/** The files of this folder, as far as they can be checked without what they are for. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, existsSync, globSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";

const here = fileURLToPath(new URL("./", import.meta.url));
const outrider = join(here, "../bin/outrider");
const scratch = mkdtempSync(join(tmpdir(), "outrider-deploy-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

const has = (program: string): boolean => spawnSync("sh", ["-c", `command -v ${program}`]).status === 0;

for (const file of ["container/etc/envoy.yaml", "compose/envoy.yaml"]) {
  test(`${file} is a good configuration`, () => {
    const { status, stderr } = spawnSync(outrider, ["--mode", "validate", "-c", join(here, file)], { encoding: "utf8" });
    assert.deepEqual([status, stderr], [0, ""]);
  });
}

test("scripts are executable, and shells understand them", () => {
  const scripts = [...globSync("container/service/**/run", { cwd: here }), ...globSync("container/*.sh", { cwd: here })];
  assert.ok(scripts.length >= 6);
  for (const script of scripts) {
    if (script.endsWith("run")) assert.ok((statSync(join(here, script)).mode & 0o111) === 0o111, script);
    assert.equal(spawnSync("sh", ["-n", join(here, script)]).status, 0, script);
  }
});

test("the systemd unit is understood", { skip: has("systemd-analyze") ? false : "systemd-analyze is not installed" }, () => {
  // Programs and users are looked for: here those that are there.
  const program = join(scratch, "outrider");
  writeFileSync(program, "#!/bin/sh\n");
  chmodSync(program, 0o755);
  const unit = join(scratch, "outrider.service");
  writeFileSync(unit, readFileSync(join(here, "systemd/outrider.service"), "utf8").replaceAll("/usr/local/bin/outrider", program));
  const { status, stderr } = spawnSync("systemd-analyze", ["verify", "--man=no", unit], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  const ours = stderr.split("\n").filter((line) => line.includes("outrider.service"));
  assert.deepEqual(ours, []);
});

test("the compose file joins the two containers' networks and names files that are there", () => {
  const { services } = parse(readFileSync(join(here, "compose/compose.yaml"), "utf8")) as {
    services: Record<
      string,
      { readonly network_mode?: string; readonly ports?: readonly string[]; readonly volumes?: readonly string[]; readonly build?: string }
    >;
  };
  assert.equal(services["outrider"].network_mode, "service:web");
  assert.ok(services["web"].ports?.includes("10000:10000"));
  for (const volume of services["outrider"].volumes ?? []) assert.ok(existsSync(join(here, "compose", volume.split(":")[0])), volume);
  assert.ok(existsSync(join(here, "compose", services["outrider"].build ?? "", "Dockerfile")));
});
