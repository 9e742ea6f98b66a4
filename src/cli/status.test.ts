/** `outrider status`, `logs` and the commands of daemontools as verbs, on small trees under our svscan, DJB's and runit's. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";

const bin = fileURLToPath(new URL("../../bin/", import.meta.url));
const scratch = mkdtempSync(join(tmpdir(), "outrider-status-"));
const children: ChildProcess[] = [];
const trees: string[] = [];
/** Of the services that are supervised, so that none is left. */
const svc = (tree: string, letters: string): void => {
  const names = existsSync(tree) ? listServices(tree) : [];
  spawnSync(join(bin, "daemontools/svc"), [letters, ...names], { stdio: "ignore" });
};
after(async () => {
  for (const child of children) {
    if (child.exitCode !== null || child.signalCode !== null) continue;
    const ended = once(child, "exit");
    child.kill("SIGTERM");
    await ended;
  }
  for (const tree of trees) svc(tree, "-dxk");
  rmSync(scratch, { recursive: true, force: true, maxRetries: 20, retryDelay: 50 });
});

function listServices(tree: string): string[] {
  return ["web", "off", "broken", "plain"].flatMap((name) => [join(tree, name), join(tree, name, "log")]).filter((path) => existsSync(join(path, "supervise")));
}

/** Nothing of the machine that runs the test: no pod, no SVDIR of its user, UTC, no colour. */
const env = { ...process.env, SVDIR: "", XDG_RUNTIME_DIR: join(scratch, "run"), XDG_STATE_HOME: join(scratch, "state"), TZ: "Asia/Kolkata", NO_COLOR: "1" };

interface Result {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

function outrider(args: string[], more: { env?: NodeJS.ProcessEnv; cwd?: string } = {}): Result {
  const { status, stdout, stderr } = spawnSync(join(bin, "outrider"), args, {
    encoding: "utf8",
    env: { ...env, ...more.env },
    cwd: more.cwd ?? scratch,
    timeout: 60_000,
  });
  return { code: status, stdout, stderr };
}

function service(path: string, script: string): string {
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, "run"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return path;
}

/** A web server with a log, one that stays down, and, asked for, one that ends. */
function makeTree(name: string, multilog: string): string {
  const tree = join(scratch, name);
  service(join(tree, "web"), "echo one; printf 'two \\033[31mred\\n'; exec sleep 1000");
  service(join(tree, "web", "log"), `exec ${multilog} t ./main`);
  service(join(tree, "off"), "exec sleep 1000");
  writeFileSync(join(tree, "off", "down"), "");
  trees.push(tree);
  return tree;
}

interface Told {
  readonly name: string;
  readonly state: string;
  readonly asWanted: boolean;
  readonly problem?: string;
  readonly pid: number;
  readonly memory?: { readonly residentBytes: number };
  readonly lastLine?: { readonly text: string; readonly at: string };
  readonly lastExit?: { readonly code: number | null; readonly signal: string | null };
  readonly log?: Told;
}

/** Looks until the services are as `is` says. */
async function until(tree: string, is: (services: ReadonlyMap<string, Told>) => boolean): Promise<ReadonlyMap<string, Told>> {
  const watch = start(join(bin, "outrider"), ["status", "--json", "--watch", tree], "pipe");
  let text = "";
  try {
    for await (const chunk of watch.stdout ?? []) {
      text += chunk;
      for (let newline = text.indexOf("\n"); newline >= 0; newline = text.indexOf("\n")) {
        const { services } = JSON.parse(text.slice(0, newline)) as { services: Told[] };
        text = text.slice(newline + 1);
        const byName = new Map(services.map((one) => [one.name, one]));
        if (is(byName)) return byName;
      }
    }
    throw new Error(`status ended: ${text}`);
  } finally {
    const ended = once(watch, "exit");
    watch.kill();
    await ended;
  }
}

function start(program: string, args: string[], stdout: "ignore" | "pipe" = "ignore", cwd = scratch): ChildProcess {
  const child = spawn(program, args, { stdio: ["ignore", stdout, "ignore"], env, cwd });
  children.push(child);
  return child;
}

const theirs = ["svscan", "supervise", "multilog"].every((name) => existsSync(`/usr/bin/${name}`));
const supervisors: readonly [string, string, string[], string, string | false][] = [
  ["our svscan", join(bin, "daemontools/svscan"), [], join(bin, "daemontools/multilog"), false],
  ["DJB's svscan", "/usr/bin/svscan", [], "/usr/bin/multilog", theirs ? false : "daemontools is not installed here"],
  ["runit's runsvdir", "/usr/bin/runsvdir", [], join(bin, "daemontools/multilog"), existsSync("/usr/bin/runsvdir") ? false : "runit is not installed here"],
];

for (const [who, program, args, multilog, skip] of supervisors) {
  test(`services under ${who}`, { skip }, async () => {
    const tree = makeTree(who.replace(/\W/g, "-"), multilog);
    start(program, [...args, tree]);
    const services = await until(
      tree,
      (all) => all.get("web")?.lastLine?.text === "two \u001b[31mred" && all.get("off")?.state === "down" && all.get("web")?.log?.state === "up",
    );
    const web = services.get("web");
    assert.deepEqual([web?.state, web?.asWanted, services.get("off")?.asWanted], ["up", true, true]);
    assert.ok((web?.memory?.residentBytes ?? 0) > 100_000);
    assert.equal(readFileSync(`/proc/${web?.pid}/comm`, "utf8"), "sleep\n");

    const shown = outrider(["status", tree]);
    assert.equal(shown.code, 0, shown.stdout + shown.stderr);
    assert.match(
      shown.stdout,
      /^.*: 2 services, all as wanted\nNAME .*\n(?:.*\n)*off +down .*\nweb +up +\d+ .* MB .*\n {2}log +up .*\d\d:\d\d:\d\d two \\x1b\[31mred\nMEMORY/,
    );

    // A service by itself, by name, and by $SVDIR.
    for (const words of [[join(tree, "web")], ["web"], ["."]]) {
      const one = outrider(["status", ...words], { env: { SVDIR: tree }, cwd: join(tree, "web") });
      assert.match(one.stdout, /: 1 service, all as wanted\n.*\nweb +up/, words.join());
    }
    assert.match(outrider(["status"], { env: { SVDIR: tree } }).stdout, /: 2 services/);

    // Its log, by every name that it has. India is 5:30 ahead.
    const expected = /^(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}) one\n\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3} two \x1b\[31mred\n$/;
    for (const word of ["web", tree, join(tree, "web"), join(tree, "web", "log", "main")]) {
      const printed = outrider(["logs", word], { env: { SVDIR: tree } });
      assert.equal(printed.code, 0, printed.stderr);
      assert.match(printed.stdout, expected, word);
    }
    const [, local] = expected.exec(outrider(["logs", join(tree, "web")]).stdout) ?? [];
    const utc = outrider(["logs", "--utc", "-n1", join(tree, "web")]).stdout;
    assert.match(utc, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z two/);
    assert.ok(Math.abs(Date.parse(`${local.replace(" ", "T")}+05:30`) - Date.parse(utc.split(" ")[0])) < 60_000);
    assert.match(outrider(["logs", "--raw", "--lines", "1", join(tree, "web")]).stdout, /^@[0-9a-f]{24} two/);
    assert.equal(outrider(["logs", "--since", "1h", "-n", "1", join(tree, "web")]).stdout.split("\n").length, 2);
    const none = outrider(["logs", "off"], { env: { SVDIR: tree } });
    assert.equal(none.code, 111);
    assert.match(none.stderr, /off has no log/);

    // What is stopped by hand is as wanted; what is killed comes back.
    const letters = who.startsWith("runit") ? "-t" : "-k";
    assert.equal(outrider(["svc", letters, join(tree, "web")]).code, 0);
    const again = (await until(tree, (all) => all.get("web")?.state === "up" && all.get("web")?.pid !== web?.pid && all.get("web")?.asWanted === true)).get(
      "web",
    );
    if (who.startsWith("our")) assert.deepEqual([again?.lastExit?.code, again?.lastExit?.signal], [null, "SIGKILL"]);
    outrider(["svc", "-d", join(tree, "web")]);
    await until(tree, (all) => all.get("web")?.state === "down" && all.get("web")?.asWanted === true);
  });
}

test("what is not as wanted says why, and the exit code tells", async () => {
  const tree = join(scratch, "wrong");
  service(join(tree, "plain"), "exec sleep 1000");
  service(join(tree, "broken"), "exit 3");
  writeFileSync(join(tree, "broken", "death-limit"), "2 60\n");
  trees.push(tree);
  const before = outrider(["status", tree]);
  assert.equal(before.code, 1);
  assert.match(before.stdout, /2 not as wanted\n.*\nbroken +unsupervised +no supervise runs here/);
  start(join(bin, "daemontools/svscan"), [tree]);
  await until(tree, (all) => all.get("broken")?.state === "failed" && all.get("plain")?.state === "up");
  const { code, stdout } = outrider(["status", tree]);
  assert.equal(code, 1);
  assert.match(stdout, /: 2 services, 1 not as wanted\n/);
  assert.match(stdout, /\nbroken +failed .*given up: .*exit code 3, .* ago after .*\nplain +up/);
});

const hasScript = spawnSync("script", ["--version"]).status === 0;
test("--watch draws over itself and gives the terminal back", { skip: hasScript ? false : "script (util-linux, bsdutils) is not installed here" }, async () => {
  const tree = join(scratch, "watched");
  service(join(tree, "plain"), "exec sleep 1000");
  for (const key of ["q", "\u0003"]) {
    const command = `stty cols 60 rows 10; '${join(bin, "outrider")}' status -w '${tree}'; echo "code $?"; stty -a`;
    const terminal = spawn("script", ["-qec", command, "/dev/null"], { env: { ...env, TERM: "xterm", SHELL: "/bin/sh" }, stdio: ["pipe", "pipe", "inherit"] });
    children.push(terminal);
    let text = "";
    let isAsked = false;
    for await (const chunk of terminal.stdout.setEncoding("utf8")) {
      text += chunk;
      if (isAsked || !text.includes("unsupervised")) continue;
      isAsked = true;
      terminal.stdin.write(key);
    }
    const [enter, frame, leave] = ["\u001b[?1049h", "\u001b[?2026h\u001b[H", "\u001b[?1049l"].map((sequence) => text.indexOf(sequence));
    assert.ok(enter >= 0 && enter < frame && frame < leave, JSON.stringify(text));
    assert.match(text.slice(leave), /code 0\r\n/);
    assert.match(text.slice(leave), /[ ;]icanon/);
    assert.match(text.slice(frame, leave), /1 not as wanted.*plain +unsupervised/s);
  }
});

test("no services: where it looked, and what to do", () => {
  const missing = join(scratch, "missing");
  const named = outrider(["status", missing]);
  assert.deepEqual([named.code, named.stdout], [111, ""]);
  assert.match(named.stderr, /missing: file does not exist/);
  const empty = join(scratch, "empty\u001b[31m");
  mkdirSync(empty);
  const asked = outrider(["status"], { env: { SVDIR: empty } });
  assert.equal(asked.code, 111);
  assert.match(asked.stderr, /Looked at\n.*no pod runs there\n.*\$SVDIR, .*empty\\x1b\[31m: no service directories in it/);
  assert.match(asked.stderr, /outrider pod/);
  assert.match(outrider(["logs", "nothing"], { env: { SVDIR: empty } }).stderr, /nothing: no such service or directory/);
  assert.equal(outrider(["logs", "nothing"], { env: { SVDIR: empty } }).code, 111);
});

test("wrong usage is refused with what is right", () => {
  for (const [args, said] of [
    [["status", "--jsn"], /--jsn.*--json/],
    [["logs", "-n", "few", "x"], /--lines few: must be a number/],
    [["logs", "--since", "soon", "x"], /--since soon: must be like 10m/],
  ] as const) {
    const { code, stderr } = outrider([...args]);
    assert.equal(code, 100, stderr);
    assert.match(stderr, said);
  }
  for (const verb of ["status", "logs", "completion"]) {
    const { code, stdout } = outrider([verb, "--help"]);
    assert.equal(code, 0);
    assert.match(stdout, new RegExp(`^USAGE: outrider ${verb}[^]*--help`));
  }
});

test("following logs goes on over rotations, loses and doubles nothing, with a name before each line", async () => {
  const tree = join(scratch, "follow");
  const lines = 1 + 19 * 30;
  const logOf = (name: string): string[] => ["t", "s4096", "n100", join(tree, name, "log", "main")];
  for (const name of ["a", "b"]) {
    service(join(tree, name, "log"), "exec multilog t s4096 n100 ./main");
    service(join(tree, name), "exit");
    spawnSync(join(bin, "daemontools/multilog"), logOf(name), { input: "0\n" });
  }
  const loggers = ["a", "b"].map((name) => spawn(join(bin, "daemontools/multilog"), logOf(name), { stdio: ["pipe", "ignore", "inherit"] }));
  children.push(...loggers);
  const follower = start(join(bin, "outrider"), ["logs", "-f", "-n", "10", join(tree, "a"), join(tree, "b")], "pipe");
  let text = "";
  follower.stdout?.setEncoding("utf8").on("data", (chunk: string) => (text += chunk));
  const got = (name: string): string[] => [...text.matchAll(new RegExp(`^${name} \\| \\S+ \\S+ (\\d+)$`, "gm"))].map((match) => match[1]);
  const seen = async (count: number): Promise<void> => {
    while (got("a").length < count || got("b").length < count) await once(follower.stdout!, "data");
  };
  await seen(1);
  for (let i = 1; i < lines; i += 19) {
    for (const logger of loggers) logger.stdin.write(Array.from({ length: 19 }, (_, j) => `${i + j}\n`).join(""));
    await seen(i); // some lines behind, and never a rotation that is too far
  }
  await seen(lines);
  const expected = Array.from({ length: got("a").length }, (_, i) => String(i));
  assert.deepEqual(got("a"), expected);
  assert.deepEqual(got("b"), expected);
  assert.equal(expected.length, lines);
  follower.kill();
  await once(follower, "exit");
  for (const logger of loggers) {
    const end = once(logger, "exit");
    logger.stdin.end();
    await end;
  }
});

test("the commands of daemontools are verbs: same output, same exit codes, the same process", () => {
  const direct = (name: string, args: string[]): Result => {
    const { status, stdout, stderr } = spawnSync(join(bin, "daemontools", name), args, { encoding: "utf8", env, cwd: scratch });
    return { code: status, stdout, stderr };
  };
  for (const [name, ...args] of [
    ["svstat", "missing"],
    ["svok", "missing"],
    ["svc", "-z"],
    ["envdir"],
    ["setlock"],
    ["softlimit", "-o", "100", "sh", "-c", "ulimit -n; exit 7"],
  ])
    assert.deepEqual(outrider([name, ...args]), direct(name, args), name);
  // What is started inherits nothing of ours, and has the pid that was started.
  const shell = spawnSync("sh", ["-c", `echo $$; exec '${join(bin, "outrider")}' pgrphack sh -c 'echo $$; env'`], {
    encoding: "utf8",
    env: { PATH: process.env["PATH"] },
  });
  const [before, pid, ...variables] = shell.stdout.trim().split("\n");
  assert.equal(pid, before);
  assert.deepEqual(
    variables.map((one) => one.split("=")[0]).filter((one) => !["PATH", "PWD", "OLDPWD", "SHLVL", "_"].includes(one)),
    [],
  );
});

test("somebody else's services are not to be seen, and that is said", { skip: process.getuid?.() === 0 ? false : "needs root to be somebody else" }, () => {
  const tree = join(scratch, "closed");
  service(join(tree, "web"), "exit");
  mkdirSync(join(tree, "web", "supervise"), { mode: 0o700 });
  for (const path of [scratch, tree, join(tree, "web")]) chmodSync(path, 0o755);
  const { status, stdout } = spawnSync(join(bin, "outrider"), ["status", tree], {
    encoding: "utf8",
    env: { ...env, HOME: "/nonexistent", NODE_COMPILE_CACHE: "" },
    uid: 65534,
    gid: 65534,
  });
  assert.equal(status, 1, stdout);
  assert.match(stdout, /web +unknown +access denied: .*supervise \(look as the user that supervise runs as, or as root\)/);
});
