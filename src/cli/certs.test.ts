import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const outrider = fileURLToPath(new URL("../../bin/outrider", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "outrider-certs-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

const run = (...argv: string[]): { stdout: string; stderr: string; status: number | null } =>
  spawnSync(outrider, ["certs", ...argv], { encoding: "utf8", cwd: scratch, timeout: 30_000 });

test("a folder for a server on localhost and a client, and the same again", () => {
  const first = run();
  assert.equal(first.status, 0, first.stderr);
  assert.match(
    first.stdout,
    /^made {2}certs\/ca\.crt .*\nmade {2}certs\/server\.crt .* 36\d days left .*localhost, 127\.0\.0\.1, ::1\nmade {2}certs\/client\.crt .*spiffe:\/\/local\/client\n$/,
  );
  const again = run("--json");
  const { certificates } = JSON.parse(again.stdout);
  assert.deepEqual(
    certificates.map((one: { name: string; done: string }) => `${one.name} ${one.done}`),
    ["ca kept", "server kept", "client kept"],
  );
  assert.deepEqual(certificates[1].names, ["localhost", "127.0.0.1", "::1"]);
});

test("what was asked for wrongly is said, and nothing is written", () => {
  const refuses = (argv: string[], said: RegExp): void => {
    const { status, stderr } = run(join(scratch, "none"), ...argv);
    assert.equal(status, 1);
    assert.match(stderr, said);
    assert.throws(() => readFileSync(join(scratch, "none", "ca.crt")), /ENOENT/);
  };
  refuses(["--server", "localhost"], /--server 'localhost': NAME=NAMES is needed/);
  refuses(["--server", "a=b c"], /'b c' is no DNS name, address, URI or e-mail address/);
  refuses(["--server", "ca=a"], /'ca' is the authority's name/);
  refuses(["--server", "a=a", "--client", "a=a"], /there is a 'a' already; a certificate for both is --peer/);
  refuses(["--server", "../a=a"], /NAME=NAMES is needed/);
  refuses(["--days", "0"], /--days '0' is no number of days from 1/);
  refuses(["--key", "dsa"], /must be one of ec, rsa/);
  refuses(["more"], /takes one folder/);
});

test("a folder that cannot be written to", () => {
  const { status, stderr } = run(join(scratch, "certs", "ca.crt"));
  assert.equal(status, 1);
  assert.match(stderr, /^certs: E[A-Z]+: .*ca\.crt/);
});
