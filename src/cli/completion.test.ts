/** The scripts, run by the shells they are for. */
import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { TOOLS } from "../supervise/tools.ts";
import { completionTable } from "./completion.ts";
import { proxyFlags } from "./options.ts";
import { VERBS } from "./verbs.ts";

const outrider = fileURLToPath(new URL("../../bin/outrider", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "outrider-completion-"));
after(() => rmSync(scratch, { recursive: true, force: true }));
const services = join(scratch, "service");
for (const name of ["web", "worker", "it's odd"]) {
  mkdirSync(join(services, name), { recursive: true });
  writeFileSync(join(services, name, "run"), "#!/bin/sh\n", { mode: 0o755 });
}
const work = join(scratch, "work");
mkdirSync(join(work, "folder"), { recursive: true });
writeFileSync(join(work, "file.yaml"), "");
const env = { ...process.env, SVDIR: services, XDG_RUNTIME_DIR: scratch, HOME: scratch };

const has = (shell: string): boolean => spawnSync(shell, ["-c", "exit 0"], { timeout: 20_000 }).status === 0;
const missing = (shell: string): string | false => (has(shell) ? false : `${shell} is not installed here`);

function script(shell: string): string {
  const { stdout, stderr, status } = spawnSync(outrider, ["completion", shell], { encoding: "utf8", env, timeout: 30_000 });
  assert.equal(status, 0, stderr);
  const path = join(scratch, `outrider.${shell}`);
  writeFileSync(path, stdout);
  return path;
}

function run(shell: string, text: string): string[] {
  const { stdout, stderr, status } = spawnSync(shell, shell === "zsh" ? ["-f", "-c", text] : ["-c", text], {
    encoding: "utf8",
    env,
    cwd: work,
    timeout: 60_000,
    stdio: ["ignore", "pipe", "pipe"],
  });
  assert.equal(stderr, "");
  assert.equal(status, 0);
  return stdout.split("\n").filter((line) => line !== "");
}

/** What each shell has to offer for the words; the last is the one that is being typed. */
const cases: readonly [words: readonly string[], offered: readonly string[], notOffered?: readonly string[]][] = [
  [["st"], ["status"], ["pod", "logs"]],
  [["sv"], ["svc", "svstat", "svscan"], ["status"]],
  [["status", "--"], ["--watch", "--json", "--help"], ["--follow"]],
  [["logs", "--"], ["--follow", "--since", "--utc"], ["--watch"]],
  [["logs", "w"], ["web", "worker"], ["folder"]],
  [["logs", "-f", "we"], ["web"], ["worker"]],
  [
    ["completion", ""],
    ["bash", "zsh", "fish"],
  ],
  [["--mode", ""], ["serve", "validate"], ["file.yaml"]],
  [["-l", "w"], ["warning"], ["info"]],
  [["--conc"], ["--concurrency"]],
  [["-c", "fi"], ["file.yaml"]],
  [
    ["pod", "--web", ""],
    ["auto", "apache", "embedded"],
  ],
  [["pod", "--root", "fo"], ["folder"], ["file.yaml"]],
  [["svstat", "fo"], ["folder"]],
];

function check(words: readonly string[], got: readonly string[], offered: readonly string[], notOffered: readonly string[] = []): void {
  const said = `outrider ${words.join(" ")} => ${got.join(" ")}`;
  for (const one of offered) assert.ok(got.includes(one), `${said}: no ${one}`);
  for (const one of notOffered) assert.ok(!got.includes(one), `${said}: ${one}`);
}

test("completion in bash", { skip: missing("bash") }, () => {
  const path = script("bash");
  const quoted = (words: readonly string[]): string => [outrider, ...words].map((word) => `'${word}'`).join(" ");
  const text = cases.map(([words]) => `COMP_WORDS=(${quoted(words)}); COMP_CWORD=${words.length}; _outrider; printf '%s ' "\${COMPREPLY[@]}"; echo .`);
  const lines = run("bash", `source '${path}'; complete -p outrider >/dev/null || exit 1\n${text.join("\n")}`);
  assert.equal(lines.length, cases.length);
  for (const [i, [words, offered, notOffered]] of cases.entries()) check(words, lines[i].split(" "), offered, notOffered);
  // A name that the shell would take apart comes quoted.
  assert.deepEqual(run("bash", `source '${path}'; COMP_WORDS=('${outrider}' logs it); COMP_CWORD=2; _outrider; printf '%s\\n' "\${COMPREPLY[@]}"`), [
    "it\\'s\\ odd",
  ]);
});

test("completion in fish", { skip: missing("fish") }, () => {
  const path = script("fish");
  for (const [words, offered, notOffered] of cases) {
    const line = [outrider, ...words].join(" ");
    const got = run("fish", `source '${path}'; complete -C '${line}'`).map((one) => one.split("\t")[0].replace(/\/$/, ""));
    check(words, got, offered, notOffered);
  }
});

test("completion in zsh", { skip: missing("zsh") }, () => {
  const path = script("zsh");
  run("zsh", `autoload -Uz compinit && compinit -u -D && source '${path}' && [[ $_comps[outrider] == _outrider ]]`);
  // Completion needs a terminal, and zsh brings one: its output says what is inserted and listed. After each line ^T tells what became of it.
  const lines = cases.map(([words]) => JSON.stringify([outrider, ...words].join(" "))).join(" ");
  const setup = [
    "stty -echo columns 400 rows 100; PS1=; autoload -Uz compinit; compinit -u -D",
    `source '${path}'`,
    "LISTMAX=10000; setopt nobeep noautomenu autolist nolistambiguous",
    String.raw`function finished { print -r - \"<<\$BUFFER>>\"; BUFFER= }; zle -N finished; bindkey '^T' finished`,
    "print -r - rea''dy",
  ].join("; ");
  const shown = run(
    "zsh",
    `zmodload zsh/zpty
    zpty z 'TERM=dumb PS1= zsh -f -i'
    zpty -w z "${setup}"
    local out= all=
    while zpty -r z out '*ready*'; do all+=$out; [[ $all == *ready* ]] && break; done
    for line in ${lines}; do
      zpty -w -n z "$line"$'\t\x14'
      all=; while zpty -r z out; do all+=$out; [[ $all == *'>>'* ]] && break; done
      print -r - "$all"
      print -r - @@@
    done`,
  );
  const answers = shown.join("\n").split("@@@");
  for (const [i, [words, offered, notOffered]] of cases.entries()) {
    const got = answers[i].replaceAll(/\x1b\[[0-9;?]*[A-Za-z]/g, " ").split(/[\s<>]+/);
    check(
      words,
      got.map((one) => one.replace(/\/$/, "")),
      offered,
      notOffered,
    );
  }
});

test("every verb, command and flag is in the table", async () => {
  const table = await completionTable();
  assert.deepEqual(
    table.verbs.map((verb) => verb.name),
    Object.keys(VERBS),
  );
  assert.deepEqual(table.tools, Object.keys(TOOLS));
  assert.equal(table.flags, proxyFlags);
  assert.ok(table.flags.length > 40);
});

test("an unknown shell is refused", () => {
  const { stderr, status } = spawnSync(outrider, ["completion", "tcsh"], { encoding: "utf8", env, timeout: 30_000 });
  assert.equal(status, 100);
  assert.match(stderr, /tcsh.*\n.*bash\|zsh\|fish/);
});
