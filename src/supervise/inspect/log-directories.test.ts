import assert from "node:assert/strict";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { directoriesOfScript, logDirectories } from "./log-directories.ts";

const scratch = mkdtempSync(join(tmpdir(), "outrider-logdirs-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

test("a run script names the folders of its logger", () => {
  const cases: [string, string[]][] = [
    ["#!/bin/sh\nexec multilog t ./main", ["./main"]],
    ["exec setuidgid log multilog t s1000000 n10 ./main/", ["./main"]],
    ["exec /usr/bin/multilog t '-*' '+*error*' ./errors '+*' /var/log/web", ["./errors", "/var/log/web"]],
    ['exec setuidgid log \\\n  multilog t \\\n  "/var/log/my web"', ["/var/log/my web"]],
    ["exec 'multilog' t ../../logs/web", ["../../logs/web"]],
    ["exec app 2>&1 | multilog t ./main; echo ./not", ["./main"]],
    ["exec svlogd -tt main ./other", ["main", "./other"]],
    ["# multilog t ./not\nexec multilog t $DIR/main ./main", ["./main"]],
    ["exec cat > got", []],
  ];
  for (const [script, found] of cases) assert.deepEqual(directoriesOfScript(script), found, script);
});

test("without a logger that runs, the script and then the usual places are looked at", () => {
  const log = (path: string): string => {
    mkdirSync(path, { recursive: true });
    writeFileSync(join(path, "current"), "");
    return path;
  };
  const service = join(scratch, "service", "web");
  mkdirSync(join(service, "log"), { recursive: true });
  assert.deepEqual(logDirectories(service, "web", []), []);
  const beside = log(join(scratch, "logs", "web"));
  assert.deepEqual(logDirectories(service, "web", []), [beside]);
  const main = log(join(service, "log", "main"));
  assert.deepEqual(logDirectories(service, "web", []), [main]);
  writeFileSync(join(service, "log", "run"), "exec multilog t ./missing ../../../logs/web");
  assert.deepEqual(logDirectories(service, "web", []), [beside]);
});
