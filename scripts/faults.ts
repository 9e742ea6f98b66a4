/**
 * Kills what supervises, what is supervised and what logs, at random moments, and counts what that costs: lines lost or doubled, services that ran
 * twice at once, services that ended though nobody killed them.
 *
 *   bin/node scripts/faults.ts [--seed N] [--seconds N] [--services N] [--only SCENARIO] [--merciless] [--keep] [--json]
 *
 * Every service writes numbered lines and notes in a file how many it has written; a line counts as lost when that file says that it went into
 * the pipe and no log has it. A lock that dies with its process shows a second one beside the first. Ends with 1 when anything was lost,
 * doubled, ran twice or was killed without reason. Linux; needs perl; `disk-full` needs root, scenarios with DJB's programs need those.
 */
import { type ChildProcess, execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import {
  appendFileSync,
  closeSync,
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { pathToFileURL } from "node:url";
import { parseArgs } from "node:util";
import { unpackStatus } from "../src/supervise/service-directory.ts";

const ours = resolve(import.meta.dirname, "../bin/daemontools");
const theirs = ["/usr/bin", "/command"].find((folder) => existsSync(join(folder, "svscan")));
const SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/** After the last kill everything has this long to be up again, and later to end. Milliseconds. */
const RECOVERY_MS = 30_000;
const LOOK_MS = 25;
/** Of this run's folders. */
const PREFIX = `outrider-faults-${process.pid}-`;

export interface Settings {
  readonly seed: number;
  /** Of killing; starting, recovering and counting come on top. */
  readonly seconds: number;
  /** Services in the tree; a scenario has its own number when not given. */
  readonly services?: number;
  /** Kills also the last one that holds what stands in a pipe: see `holds`. */
  readonly merciless?: boolean;
  /** Leaves the folder for a look. */
  readonly keep?: boolean;
  /** The folder of our commands, when not this checkout's. */
  readonly bin?: string;
}

export interface Counts {
  readonly scenario: string;
  readonly services: number;
  readonly seconds: number;
  readonly kills: Record<Victim, number>;
  readonly starts: number;
  readonly lines: number;
  readonly lost: number;
  /** In how many pieces: a log that is killed loses what it has read and not yet written, one read at most. */
  readonly gaps: number;
  readonly doubled: number;
  /** Pieces of lines in the logs. The whole line is there as well, or counts as lost. */
  readonly cut: number;
  /** Lines that do not stand behind those written before them. */
  readonly disordered: number;
  readonly twice: number;
  readonly killedWrongly: number;
  /** Services and logs that did not run again in time, and processes left at the end. */
  readonly notRecovered: number;
  readonly left: number;
  /** Kills left out because nobody would have held what stood in a pipe: see `merciless`. */
  readonly spared: number;
  readonly notes: readonly string[];
}

export type Victim = "service" | "log" | "supervise" | "svscan";

/** Whether nothing happened that should not. */
export function isGood(counts: Counts): boolean {
  return (
    counts.lost + counts.doubled + counts.disordered + counts.twice + counts.killedWrongly + counts.notRecovered + counts.left === 0 &&
    counts.notes.length === 0
  );
}

/** mulberry32: the same choices for the same seed. */
function randomNumbers(seed: number): { below(limit: number): number; between(from: number, to: number): number } {
  let state = seed >>> 0;
  const next = (): number => {
    state = (state + 0x6d2b79f5) >>> 0;
    let mixed = Math.imul(state ^ (state >>> 15), state | 1);
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61);
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
  return { below: (limit) => Math.floor(next() * limit), between: (from, to) => from + next() * (to - from) };
}

/**
 * The service. `events`: a line for each start (alone or beside another), end by TERM, broken pipe. `sent/ID`: how many lines it has written for
 * sure. The pid and the start time make the ID, since pids come back.
 */
const WRITER = `#!/usr/bin/perl
use strict; use warnings; use Fcntl qw(:flock);
my ($pause_ms, $burst, $stubborn, $most) = map { $ARGV[$_] // 0 } 0 .. 3;
open(my $stat, '<', '/proc/self/stat') or die; my @fields = split ' ', <$stat>; close $stat;
my $id = "$$-$fields[21]";
open(my $events, '>>', 'events') or die;
sub note { syswrite $events, sprintf("%s %s %.6f\\n", $_[0], $id, time_now()) }
sub time_now { open(my $up, '<', '/proc/uptime') or return 0; my ($seconds) = split ' ', <$up>; return $seconds }
open(my $running, '>>', 'running') or die;
note(flock($running, LOCK_EX | LOCK_NB) ? 'start' : 'beside');
$SIG{TERM} = $stubborn ? 'IGNORE' : sub { note('term'); exit 0 };
$SIG{PIPE} = sub { note('pipe'); exit 1 };
open(my $sent, '>', "sent/$id") or die;
srand($$); my $n = 0;
while (1) {
  for (1 .. 1 + int(rand($burst))) {
    my $line = "$id $n " . ('x' x int(rand(100))) . "\\n";
    my $done = 0;
    while ($done < length $line) {
      my $now = syswrite(STDOUT, $line, length($line) - $done, $done);
      if (!defined $now) { next if $!{EINTR}; note("trouble-" . ($! + 0)); exit 1 }
      $done += $now;
    }
    $n++;
    sysseek($sent, 0, 0); syswrite($sent, sprintf("%010d", $n));
    if ($most && $n >= $most) { note('finished'); exit 0 }
  }
  select(undef, undef, undef, $pause_ms / 1000 * (0.5 + rand()));
}
`;

interface TreeOptions {
  readonly root: string;
  readonly names: readonly string[];
  /** Those with a log. */
  readonly isLogged?: (name: string) => boolean;
  /** Pause between bursts in milliseconds, lines in a burst, whether TERM is ignored, lines after which it ends (0: never). */
  readonly writer?: readonly [pauseMs: number, burst: number, stubborn?: number, most?: number];
  readonly multilog?: string;
}

/** Makes the service directories; the writer stands beside them. */
function makeTree(options: TreeOptions): string {
  const { root, names, isLogged = () => true, writer = [20, 4], multilog = "multilog t s50000 n100000 ./main" } = options;
  const scan = join(root, "service");
  mkdirSync(scan);
  const program = join(root, "writer");
  writeFileSync(program, WRITER, { mode: 0o755 });
  for (const name of names) {
    const path = join(scan, name);
    mkdirSync(join(path, "sent"), { recursive: true });
    const out = isLogged(name) ? "" : " >/dev/null";
    writeFileSync(join(path, "run"), `#!/bin/sh\nexec ${program} ${writer.join(" ")}${out}\n`, { mode: 0o755 });
    if (!isLogged(name)) continue;
    mkdirSync(join(path, "log"));
    writeFileSync(join(path, "log/run"), `#!/bin/sh\nexec ${multilog}\n`, { mode: 0o755 });
  }
  return scan;
}

const sleep = (ms: number): Promise<void> => new Promise((done) => setTimeout(done, ms));

async function becomes(isTrue: () => boolean, withinMs: number): Promise<boolean> {
  for (const until = performance.now() + withinMs; ; ) {
    if (isTrue()) return true;
    if (performance.now() > until) return false;
    await sleep(LOOK_MS);
  }
}

/** Start time of a living process, by which it is told from a later one of the same number. */
function startTimeOf(pid: number): string | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
    return "ZX".includes(fields[0]) ? undefined : fields[19];
  } catch {
    return undefined;
  }
}

/** Seconds, as in the services' events. */
function uptime(): string {
  return readFileSync("/proc/uptime", "latin1").split(" ")[0];
}

function workingDirectoryOf(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return undefined;
  }
}

/** The pid in the status record, when it is that of a living process of this directory. */
function pidOf(path: string): number {
  try {
    const pid = unpackStatus(readFileSync(join(path, "supervise/status")))?.pid ?? 0;
    const cwd = pid === 0 ? undefined : workingDirectoryOf(pid);
    return cwd === path || cwd === `${path}/main` ? pid : 0; // DJB's multilog stays in its log directory
  } catch {
    return 0;
  }
}

/** The pid of the svscan or supervise that reports on the service. */
function supervisorOf(path: string): number {
  try {
    return (JSON.parse(readFileSync(join(path, "supervise/status.json"), "utf8")) as { supervisorPid?: number }).supervisorPid ?? 0;
  } catch {
    return 0;
  }
}

function hasOpen(pid: number, path: string): boolean {
  try {
    return readdirSync(`/proc/${pid}/fd`).some((fd) => {
      try {
        return readlinkSync(`/proc/${pid}/fd/${fd}`) === path;
      } catch {
        return false; // closed meanwhile
      }
    });
  } catch {
    return false;
  }
}

function processesBelow(root: string): { pid: number; name: string; cwd: string }[] {
  const found: { pid: number; name: string; cwd: string }[] = [];
  for (const entry of readdirSync("/proc")) {
    if (!/^[0-9]+$/.test(entry)) continue;
    const cwd = workingDirectoryOf(Number(entry));
    if (cwd === undefined || !(cwd === root || cwd.startsWith(`${root}/`)) || startTimeOf(Number(entry)) === undefined) continue;
    let name = "?";
    try {
      name = readFileSync(`/proc/${entry}/cmdline`, "latin1").replaceAll("\0", " ").trim();
    } catch {
      // gone meanwhile
    }
    found.push({ pid: Number(entry), name, cwd });
  }
  return found;
}

/** svscan as an init keeps it: started again after it was killed, its output in one file. */
class Init {
  readonly #program: string;
  readonly #args: readonly string[];
  readonly #environment: NodeJS.ProcessEnv;
  readonly #output: number;
  readonly #cwd: string;
  child: ChildProcess | undefined;

  constructor(program: string, args: readonly string[], path: string, cwd: string, output: string) {
    this.#program = program;
    this.#args = args;
    this.#cwd = cwd;
    this.#environment = { ...process.env, PATH: path };
    this.#output = openSync(output, "a");
  }

  start(): void {
    this.child = spawn(this.#program, this.#args, { cwd: this.#cwd, env: this.#environment, stdio: ["ignore", this.#output, this.#output] });
  }

  get isRunning(): boolean {
    return this.child !== undefined && this.child.exitCode === null && this.child.signalCode === null;
  }

  async kill(): Promise<void> {
    const child = this.child;
    if (child === undefined || !this.isRunning) return;
    const ended = once(child, "exit");
    child.kill("SIGKILL");
    await ended;
  }

  /** How it ended: its exit code, or why there is none. */
  async stop(withinMs: number, hurryAfterMs?: number): Promise<number | string> {
    const child = this.child;
    if (child === undefined || !this.isRunning) return `${child?.exitCode ?? child?.signalCode}, before it was told to`;
    child.kill("SIGTERM");
    if (hurryAfterMs !== undefined) {
      await sleep(hurryAfterMs);
      if (this.isRunning) child.kill("SIGTERM");
    }
    if (await becomes(() => !this.isRunning, withinMs)) return child.exitCode ?? child.signalCode ?? "";
    await this.kill();
    return "SIGKILL: it did not stop";
  }

  close(): void {
    closeSync(this.#output);
  }
}

interface Events {
  readonly starts: { readonly id: string; readonly alone: boolean; readonly at: number }[];
  readonly others: { readonly what: string; readonly id: string }[];
}

function eventsOf(path: string): Events {
  const events: Events = { starts: [], others: [] };
  if (!existsSync(join(path, "events"))) return events;
  for (const line of readFileSync(join(path, "events"), "latin1").split("\n")) {
    const [what, id, at] = line.split(" ");
    if (what === "start" || what === "beside") events.starts.push({ id, alone: what === "start", at: Number(at) });
    else if (what !== "") events.others.push({ what, id });
  }
  return events;
}

interface LineCounts {
  lines: number;
  lost: number;
  gaps: number;
  doubled: number;
  cut: number;
  disordered: number;
  details: string[];
}

/** What a service has sent, against the files of its log. */
function countLines(path: string, logs: readonly string[], into: LineCounts): void {
  const seen = new Map<string, Uint8Array>();
  const sent = new Map<string, number>();
  for (const id of readdirSync(join(path, "sent"))) {
    const count = Number(readFileSync(join(path, "sent", id), "latin1") || 0);
    sent.set(id, count);
    seen.set(id, new Uint8Array(count + 1)); // one more: written, and killed before it could say so
    into.lines += count;
  }
  const last = new Map<string, number>();
  for (const directory of logs) {
    if (!existsSync(directory)) continue;
    const names = readdirSync(directory);
    const files = [...names.filter((name) => /^@[0-9a-f]{24}\.[su]$/.test(name)).sort(), ...["previous", "current"].filter((name) => names.includes(name))];
    for (const file of files) {
      for (const line of readFileSync(join(directory, file), "latin1").split("\n")) {
        if (line === "") continue;
        const match = /^(?:@[0-9a-f]{24} )?(\d+-\d+) (\d+) x*$/.exec(line);
        const numbers = match === null ? undefined : seen.get(match[1]);
        const n = Number(match?.[2]);
        if (match === null || numbers === undefined || n >= numbers.length) {
          into.cut++;
          into.details.push(`cut: ${directory}/${file}: ${line.slice(0, 80)}`);
          continue;
        }
        if (numbers[n]++ > 0) {
          into.doubled++;
          into.details.push(`doubled: ${directory}/${file}: ${match[1]} ${n}`);
        }
        if (n < (last.get(match[1]) ?? -1)) into.disordered++;
        last.set(match[1], n);
      }
    }
  }
  for (const [id, count] of sent) {
    const numbers = seen.get(id) as Uint8Array;
    const missing: number[] = [];
    for (let n = 0; n < count; n++) if (numbers[n] === 0) missing.push(n);
    into.lost += missing.length;
    into.gaps += missing.filter((n, i) => n !== missing[i - 1] + 1).length;
    if (missing.length > 0) into.details.push(`lost: ${path}: ${missing.length} of ${id}'s ${count} lines: ${missing[0]} to ${missing.at(-1)}`);
  }
}

interface Storm {
  readonly name: string;
  readonly services: number;
  readonly logged?: (index: number) => boolean;
  readonly writer?: TreeOptions["writer"];
  readonly svscan: "ours" | "theirs";
  readonly multilog: "ours" | "theirs";
  /** How often each is chosen. */
  readonly weights: Record<Victim, number>;
  /** Pause between two kills, milliseconds. */
  readonly pace: readonly [number, number];
  /** How long the init takes to start svscan again, milliseconds. */
  readonly restart: readonly [number, number];
}

/** Kills at random, waits until everything is up again, stops the tree, counts. */
async function storm(plan: Storm, settings: Settings): Promise<Counts> {
  const random = randomNumbers(settings.seed);
  const root = mkdtempSync(join(tmpdir(), PREFIX));
  const services = settings.services ?? plan.services;
  const bin = settings.bin ?? ours;
  const names = Array.from({ length: services }, (_, i) => `s${String(i).padStart(3, "0")}`);
  const logged = new Set(names.filter((_, i) => plan.logged?.(i) ?? true));
  const scan = makeTree({ root, names, isLogged: (name) => logged.has(name), writer: plan.writer });
  // supervise is always ours; svscan and multilog are those of the plan.
  const programs = join(root, "bin");
  mkdirSync(programs);
  symlinkSync(join(bin, "supervise"), join(programs, "supervise"));
  symlinkSync(join(plan.multilog === "ours" ? bin : (theirs as string), "multilog"), join(programs, "multilog"));
  const init = new Init(
    join(plan.svscan === "ours" ? bin : (theirs as string), "svscan"),
    [scan],
    `${programs}:${bin}:${SYSTEM_PATH}`,
    root,
    join(root, "svscan.out"),
  );
  const kills: Record<Victim, number> = { service: 0, log: 0, supervise: 0, svscan: 0 };
  const killed = new Set<string>();
  const notes: string[] = [];
  const all = [...names.map((name) => join(scan, name)), ...[...logged].map((name) => join(scan, name, "log"))];
  // Our svscan has the tree when its own pid stands in every report: until then a TERM finds nobody who would stop the services.
  const areUp = (): boolean => init.isRunning && all.every((path) => pidOf(path) !== 0 && (plan.svscan === "theirs" || supervisorOf(path) === init.child?.pid));
  /** Twice in a row: who was killed a moment ago may still look alive. */
  const allRun = async (): Promise<boolean> => {
    for (const until = performance.now() + RECOVERY_MS; performance.now() < until; ) {
      if (!(await becomes(areUp, RECOVERY_MS))) return false;
      await sleep(300);
      if (areUp()) return true;
    }
    return false;
  };

  /** For whoever looks at a kept folder; the clock is that of the events. */
  const note = (what: string): void => appendFileSync(join(root, "timeline"), `${uptime()} ${what}\n`);
  const start = (): void => {
    init.start();
    note(`svscan ${init.child?.pid} starts`);
  };
  const strike = (path: string, victim: Victim, pid = pidOf(path)): void => {
    const startTime = pid === 0 ? undefined : startTimeOf(pid);
    if (startTime === undefined) return;
    try {
      process.kill(pid, "SIGKILL");
    } catch {
      return;
    }
    killed.add(`${pid}-${startTime}`);
    kills[victim]++;
    note(`kill ${victim} ${pid}-${startTime} ${path}`);
  };
  /**
   * What stands in the pipe between a service and its log lives as long as one of svscan, the service and the log. Killing the last of the three
   * loses it, and no program can help it; so, unless merciless, one of them is spared until another is back.
   */
  const holds = (victim: Victim, name: string): boolean => {
    if (settings.merciless || !logged.has(name)) return true;
    const path = join(scan, name);
    const holders = {
      service: pidOf(path) !== 0,
      log: pidOf(join(path, "log")) !== 0,
      svscan: plan.svscan === "theirs" || (init.isRunning && hasOpen(init.child?.pid ?? 0, join(path, "supervise/log-pipe"))),
    };
    const remains = Object.entries(holders).some(([holder, isThere]) => holder !== victim && isThere);
    if (!remains) spared++;
    return remains;
  };
  const superviseOf = (path: string): number => {
    // DJB's svscan starts `supervise NAME` in its own directory, and `supervise log` in the service's; ours goes by the lock it holds.
    const wanted = path.endsWith("/log") ? { cwd: resolve(path, ".."), name: "log" } : { cwd: scan, name: path.slice(scan.length + 1) };
    return processesBelow(scan).find(({ cwd, name }) => cwd === wanted.cwd && /\bsupervise\b/.test(name) && name.endsWith(` ${wanted.name}`))?.pid ?? 0;
  };
  const weighted = (Object.keys(plan.weights) as Victim[]).flatMap((victim) => new Array<Victim>(plan.weights[victim]).fill(victim));

  let notRecovered = 0;
  let spared = 0;
  let left: ReturnType<typeof processesBelow> = [];
  let stopped = false;
  try {
    start();
    if (!(await allRun())) notes.push("the tree did not come up");
    const until = performance.now() + settings.seconds * 1000;
    let startAgainAt = 0;
    while (performance.now() < until) {
      await sleep(random.between(...plan.pace));
      if (!init.isRunning && performance.now() >= startAgainAt) start();
      const victim = weighted[random.below(weighted.length)];
      const name = names[random.below(names.length)];
      const log = [...logged][random.below(logged.size)];
      if (victim === "service") {
        if (holds(victim, name)) strike(join(scan, name), victim);
      } else if (victim === "log") {
        if (holds(victim, log)) strike(join(scan, log, "log"), victim);
      } else if (victim === "supervise") {
        const path = random.below(2) === 0 ? join(scan, name) : join(scan, log, "log");
        strike(path, victim, superviseOf(path));
      } else if (init.isRunning && [...logged].every((each) => holds(victim, each))) {
        await init.kill();
        kills.svscan++;
        note("kill svscan");
        startAgainAt = performance.now() + random.between(...plan.restart);
      }
    }
    if (!init.isRunning) start();
    if (!(await allRun())) {
      for (const path of all) {
        if (pidOf(path) !== 0) continue;
        notRecovered++;
        if (notes.length < 10) notes.push(`not up again: ${path}`);
      }
      if (notRecovered === 0) notes.push("the tree did not settle");
    }
    // Those that run now are ended by the harness.
    for (const name of names) {
      const pid = pidOf(join(scan, name));
      if (pid !== 0) killed.add(`${pid}-${startTimeOf(pid)}`);
    }
    if (plan.svscan === "theirs") {
      // Services, then logs, as DJB's svscan does not.
      const svc = (letters: string, paths: string[]): unknown => execFileSync(join(bin, "svc"), [letters, ...paths]);
      svc(
        "-dx",
        names.map((name) => join(scan, name)),
      );
      if (!(await becomes(() => names.every((name) => pidOf(join(scan, name)) === 0), RECOVERY_MS))) notes.push("services did not stop");
      init.child?.kill("SIGTERM");
      svc(
        "-ox",
        [...logged].map((name) => join(scan, name, "log")),
      );
      await becomes(() => processesBelow(scan).length === 0, RECOVERY_MS);
    } else {
      const code = await init.stop(RECOVERY_MS);
      if (code !== 0) notes.push(`svscan ended with ${code}`);
    }
    stopped = true;
  } finally {
    if (!stopped) await init.kill();
    left = processesBelow(scan);
    for (const { pid } of left) strike("", "service", pid);
    await becomes(() => processesBelow(scan).length === 0, 5000);
    init.close();
  }

  const counts: LineCounts = { lines: 0, lost: 0, gaps: 0, doubled: 0, cut: 0, disordered: 0, details: [] };
  let starts = 0;
  let twice = 0;
  let killedWrongly = 0;
  for (const name of names) {
    const path = join(scan, name);
    const events = eventsOf(path);
    starts += events.starts.length;
    for (const { id, alone } of events.starts) {
      if (!alone) {
        twice++;
        counts.details.push(`twice: ${path}: ${id} began beside another`);
      }
      if (killed.has(id)) continue;
      killedWrongly++;
      const why = events.others.filter((other) => other.id === id).map(({ what }) => what);
      counts.details.push(`killed wrongly: ${path}: ${id}${why.length > 0 ? ` (${why.join(", ")})` : ""}`);
    }
    if (logged.has(name)) countLines(path, [join(path, "log/main")], counts);
  }
  for (const { pid, name } of left) counts.details.push(`left: ${pid} ${name}`);
  if (counts.details.length > 0) {
    for (const line of counts.details.slice(0, 40)) console.error(line);
    if (counts.details.length > 40) console.error(`... and ${counts.details.length - 40} more`);
  }
  if (settings.keep) console.error(`kept: ${root}`);
  else rmSync(root, { recursive: true, force: true, maxRetries: 5 });
  return {
    scenario: plan.name,
    services,
    seconds: settings.seconds,
    kills,
    starts,
    lines: counts.lines,
    lost: counts.lost,
    gaps: counts.gaps,
    doubled: counts.doubled,
    cut: counts.cut,
    disordered: counts.disordered,
    twice,
    killedWrongly,
    notRecovered,
    left: left.length,
    spared,
    notes,
  };
}

const noKills: Record<Victim, number> = { service: 0, log: 0, supervise: 0, svscan: 0 };

/** Services that end at once, in four ways, beside one that must not notice: at most a start a second, each line logged. */
async function crashing(settings: Settings): Promise<Counts> {
  const root = mkdtempSync(join(tmpdir(), PREFIX));
  const bin = settings.bin ?? ours;
  const scan = makeTree({ root, names: ["steady"] });
  const crash = makeTreeFor(root, scan, "crash", [1, 5, 0, 5]); // five lines, then the end
  const run = (name: string, text: string | undefined, mode = 0o755): void => {
    mkdirSync(join(scan, name));
    if (text !== undefined) writeFileSync(join(scan, name, "run"), text, { mode });
  };
  run("fails", "#!/bin/sh\necho . >>starts\nexit 1\n");
  run("missing", undefined);
  run("not-executable", "#!/bin/sh\n", 0o644);
  run("no-interpreter", "#!/nonexistent/sh\n");
  const init = new Init(join(bin, "svscan"), [scan], `${bin}:${SYSTEM_PATH}`, root, join(root, "svscan.out"));
  const notes: string[] = [];
  const begin = performance.now();
  init.start();
  await becomes(() => pidOf(join(scan, "steady")) !== 0, RECOVERY_MS);
  const steady = pidOf(join(scan, "steady"));
  await sleep(settings.seconds * 1000);
  if (pidOf(join(scan, "steady")) !== steady) notes.push("the steady service did not go on");
  const code = await init.stop(RECOVERY_MS);
  if (code !== 0) notes.push(`svscan ended with ${code}`);
  const seconds = (performance.now() - begin) / 1000;
  const left = processesBelow(scan);
  init.close();
  const { starts, others } = eventsOf(crash);
  const failStarts = readFileSync(join(scan, "fails/starts"), "latin1").length / 2;
  for (const [name, count] of [
    ["crash", starts.length],
    ["fails", failStarts],
  ] as const) {
    if (count > seconds + 1) notes.push(`${name} started ${count} times in ${seconds.toFixed(1)} s`);
    if (count < Math.floor(settings.seconds * 0.7)) notes.push(`${name} started only ${count} times in ${seconds.toFixed(1)} s`);
  }
  const counts: LineCounts = { lines: 0, lost: 0, gaps: 0, doubled: 0, cut: 0, disordered: 0, details: [] };
  for (const path of [crash, join(scan, "steady")]) countLines(path, [join(path, "log/main")], counts);
  for (const line of counts.details.slice(0, 20)) console.error(line);
  if (others.some(({ what }) => what === "pipe")) notes.push("a service met a broken pipe");
  if (!settings.keep) rmSync(root, { recursive: true, force: true, maxRetries: 5 });
  return {
    scenario: "crashing",
    services: 6,
    seconds: settings.seconds,
    kills: noKills,
    starts: starts.length + failStarts,
    lines: counts.lines,
    lost: counts.lost,
    gaps: counts.gaps,
    doubled: counts.doubled,
    cut: counts.cut,
    disordered: counts.disordered,
    twice: starts.filter(({ alone }) => !alone).length,
    killedWrongly: 0,
    notRecovered: 0,
    left: left.length,
    spared: 0,
    notes,
  };
}

/** One more service in a tree that is there. */
function makeTreeFor(root: string, scan: string, name: string, writer: TreeOptions["writer"]): string {
  const path = join(scan, name);
  mkdirSync(join(path, "sent"), { recursive: true });
  mkdirSync(join(path, "log"));
  writeFileSync(join(path, "run"), `#!/bin/sh\nexec ${join(root, "writer")} ${(writer ?? []).join(" ")}\n`, { mode: 0o755 });
  writeFileSync(join(path, "log/run"), "#!/bin/sh\nexec multilog t s50000 n100000 ./main\n", { mode: 0o755 });
  return path;
}

/** A child that ignores TERM: svc -d waits for it, a second TERM to svscan does not; its lines are all there. */
async function stubborn(settings: Settings): Promise<Counts> {
  const root = mkdtempSync(join(tmpdir(), PREFIX));
  const bin = settings.bin ?? ours;
  const names = ["deaf", "deaf-too", "bounded"];
  const scan = makeTree({ root, names, writer: [10, 4, 1] });
  writeFileSync(join(scan, "bounded/timeout-kill"), "500\n");
  const init = new Init(join(bin, "svscan"), [scan], `${bin}:${SYSTEM_PATH}`, root, join(root, "svscan.out"));
  const notes: string[] = [];
  const path = (name: string): string => join(scan, name);
  init.start();
  await becomes(() => names.every((name) => eventsOf(path(name)).starts.length > 0), RECOVERY_MS);
  await sleep(1200); // the second after a start, in which commands wait
  const before = pidOf(path("deaf"));
  execFileSync(join(bin, "svc"), ["-d", path("deaf"), path("bounded")]);
  if (!(await becomes(() => pidOf(path("bounded")) === 0, 5000))) notes.push("timeout-kill did not end a service that ignores TERM");
  await sleep(Math.min(settings.seconds, 2) * 1000);
  if (pidOf(path("deaf")) !== before) notes.push("a service that ignores TERM did not stay");
  const { stdout } = { stdout: execFileSync(join(bin, "svstat"), [path("deaf")], { encoding: "utf8" }) };
  if (!stdout.includes(", want down")) notes.push(`svstat: ${stdout.trim()}`);
  execFileSync(join(bin, "svc"), ["-k", path("deaf")]);
  if (!(await becomes(() => pidOf(path("deaf")) === 0, 5000))) notes.push("svc -k did not end it");
  const begin = performance.now();
  const code = await init.stop(RECOVERY_MS, 1500);
  const tookMs = performance.now() - begin;
  if (code !== 0) notes.push(`svscan ended with ${code}`);
  if (tookMs < 1400) notes.push(`svscan ended after ${Math.round(tookMs)} ms, before its service did`);
  const left = processesBelow(scan);
  init.close();
  const counts: LineCounts = { lines: 0, lost: 0, gaps: 0, doubled: 0, cut: 0, disordered: 0, details: [] };
  let starts = 0;
  let twice = 0;
  for (const name of names) {
    countLines(path(name), [join(path(name), "log/main")], counts);
    const events = eventsOf(path(name));
    starts += events.starts.length;
    twice += events.starts.filter(({ alone }) => !alone).length;
  }
  for (const line of counts.details.slice(0, 20)) console.error(line);
  if (!settings.keep) rmSync(root, { recursive: true, force: true, maxRetries: 5 });
  return {
    scenario: "stubborn",
    services: names.length,
    seconds: settings.seconds,
    kills: noKills,
    starts,
    lines: counts.lines,
    lost: counts.lost,
    gaps: counts.gaps,
    doubled: counts.doubled,
    cut: counts.cut,
    disordered: counts.disordered,
    twice,
    killedWrongly: 0,
    notRecovered: 0,
    left: left.length,
    spared: 0,
    notes,
  };
}

/** Logs on a tmpfs of 512 kB that is full again and again: nobody loses a line, a log that is killed meanwhile can be continued. */
async function diskFull(settings: Settings): Promise<Counts> {
  const random = randomNumbers(settings.seed);
  const root = mkdtempSync(join(tmpdir(), PREFIX));
  const bin = settings.bin ?? ours;
  const names = ["a", "b"];
  const disk = join(root, "disk");
  const saved = join(root, "saved");
  mkdirSync(disk);
  mkdirSync(saved);
  execFileSync("mount", ["-t", "tmpfs", "-o", "size=512k,mode=755", "outrider-faults", disk]);
  const notes: string[] = [];
  const kills = { ...noKills };
  const killed = new Set<string>();
  let left: ReturnType<typeof processesBelow> = [];
  const counts: LineCounts = { lines: 0, lost: 0, gaps: 0, doubled: 0, cut: 0, disordered: 0, details: [] };
  let starts = 0;
  let twice = 0;
  let killedWrongly = 0;
  let timesFull = 0;
  try {
    const scan = makeTree({ root, names, writer: [5, 40], multilog: "multilog t s32768 n100000 ./main" });
    for (const name of names) {
      mkdirSync(join(disk, name));
      mkdirSync(join(saved, name));
      symlinkSync(join(disk, name), join(scan, name, "log/main"));
    }
    const init = new Init(join(bin, "svscan"), [scan], `${bin}:${SYSTEM_PATH}`, root, join(root, "svscan.out"));
    /** As an administrator would: finished files go elsewhere. */
    const makeRoom = (): void => {
      for (const name of names) {
        for (const file of readdirSync(join(disk, name)).filter((entry) => entry.startsWith("@"))) {
          copyFileSync(join(disk, name, file), join(saved, name, file));
          unlinkSync(join(disk, name, file));
        }
      }
    };
    const warnings = (): number => readFileSync(join(root, "svscan.out"), "latin1").split("out of disk space").length - 1;
    init.start();
    await becomes(() => names.every((name) => pidOf(join(scan, name, "log")) !== 0), RECOVERY_MS);
    const until = performance.now() + settings.seconds * 1000;
    while (performance.now() < until) {
      const before = warnings();
      if (!(await becomes(() => warnings() > before, Math.max(100, until - performance.now())))) break;
      timesFull++;
      // Full for a while; now and then somebody is killed in that state.
      await sleep(random.between(100, 1500));
      if (random.below(3) === 0) {
        const log = join(scan, names[random.below(names.length)], random.below(3) === 0 ? "" : "log");
        const pid = pidOf(log.replace(/\/$/, ""));
        const startTime = startTimeOf(pid);
        if (pid !== 0 && startTime !== undefined) {
          process.kill(pid, "SIGKILL");
          killed.add(`${pid}-${startTime}`);
          kills[log.endsWith("log") ? "log" : "service"]++;
        }
        await sleep(random.between(100, 2500));
      }
      makeRoom();
    }
    if (timesFull === 0) notes.push("the disk was never full");
    for (const name of names) {
      const pid = pidOf(join(scan, name));
      if (pid !== 0) killed.add(`${pid}-${startTimeOf(pid)}`);
    }
    const ended = init.stop(RECOVERY_MS);
    while (init.isRunning) {
      makeRoom();
      await sleep(100);
    }
    const code = await ended;
    if (code !== 0) notes.push(`svscan ended with ${code}`);
    left = processesBelow(scan);
    for (const { pid } of left) process.kill(pid, "SIGKILL");
    init.close();
    for (const name of names) {
      const path = join(scan, name);
      countLines(path, [join(saved, name), join(disk, name)], counts);
      const events = eventsOf(path);
      starts += events.starts.length;
      for (const { id, alone } of events.starts) {
        if (!alone) twice++;
        if (!killed.has(id)) killedWrongly++;
      }
    }
  } finally {
    await becomes(() => processesBelow(disk).length === 0, 5000);
    execFileSync("umount", ["-l", disk]);
  }
  for (const line of counts.details.slice(0, 20)) console.error(line);
  if (settings.keep) console.error(`kept: ${root}`);
  else rmSync(root, { recursive: true, force: true, maxRetries: 5 });
  console.error(`disk-full: full ${timesFull} times`);
  return {
    scenario: "disk-full",
    services: names.length,
    seconds: settings.seconds,
    kills,
    starts,
    lines: counts.lines,
    lost: counts.lost,
    gaps: counts.gaps,
    doubled: counts.doubled,
    cut: counts.cut,
    disordered: counts.disordered,
    twice,
    killedWrongly,
    notRecovered: 0,
    left: left.length,
    spared: 0,
    notes,
  };
}

export interface Scenario {
  readonly about: string;
  /** Why it cannot run here. */
  readonly missing?: string;
  run(settings: Settings): Promise<Counts>;
}

const needTheirs = theirs === undefined ? { missing: "DJB's daemontools are not installed (Debian package daemontools)" } : {};
const needRoot = process.getuid?.() === 0 ? {} : { missing: "needs root" };
const everything = { service: 5, log: 3, supervise: 0, svscan: 2 };
const normal = { services: 8, writer: [15, 8], pace: [20, 300], restart: [0, 1000] } as const;

function storming(about: string, plan: Storm, need: { missing?: string } = {}): Scenario {
  return { about, ...need, run: (settings) => storm(plan, settings) };
}

export const SCENARIOS: Readonly<Record<string, Scenario>> = {
  services: storming("our svscan and multilog; services and logs are killed", {
    ...normal,
    name: "services",
    svscan: "ours",
    multilog: "ours",
    weights: { ...everything, svscan: 0 },
  }),
  all: storming("our svscan and multilog; services, logs and svscan are killed", {
    ...normal,
    name: "all",
    svscan: "ours",
    multilog: "ours",
    weights: everything,
  }),
  "djb-multilog": storming(
    "our svscan, DJB's multilog; services, logs and svscan are killed",
    { ...normal, name: "djb-multilog", svscan: "ours", multilog: "theirs", weights: everything },
    needTheirs,
  ),
  "djb-svscan": storming(
    "DJB's svscan with our supervise and multilog; services, logs and supervises are killed",
    { ...normal, services: 6, name: "djb-svscan", svscan: "theirs", multilog: "ours", weights: { service: 4, log: 3, supervise: 4, svscan: 0 } },
    needTheirs,
  ),
  many: storming("200 services in one tree, every tenth logged; services, logs and svscan are killed", {
    ...normal,
    name: "many",
    services: 200,
    logged: (index) => index % 10 === 0,
    writer: [100, 4],
    svscan: "ours",
    multilog: "ours",
    weights: { service: 20, log: 3, supervise: 0, svscan: 1 },
    pace: [5, 100],
  }),
  crashing: { about: "services that end at once, in several ways, beside a steady one", run: crashing },
  stubborn: { about: "services that ignore TERM", run: stubborn },
  "disk-full": { about: "logs on a small file system that is full again and again, now and then killed meanwhile", ...needRoot, run: diskFull },
};

const COLUMNS = [
  "services",
  "seconds",
  "starts",
  "lines",
  "lost",
  "gaps",
  "doubled",
  "cut",
  "disordered",
  "twice",
  "killedWrongly",
  "notRecovered",
  "left",
  "spared",
] as const;

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seed: { type: "string", default: "1" },
      seconds: { type: "string", default: "10" },
      services: { type: "string" },
      only: { type: "string", multiple: true },
      merciless: { type: "boolean", default: false },
      keep: { type: "boolean", default: false },
      json: { type: "boolean", default: false },
    },
  });
  const names = values.only ?? Object.keys(SCENARIOS);
  for (const name of names) {
    if (Object.hasOwn(SCENARIOS, name)) continue;
    console.error(`no scenario is called ${name}; there are:`);
    for (const [known, { about }] of Object.entries(SCENARIOS)) console.error(`  ${known.padEnd(14)} ${about}`);
    return 100;
  }
  const settings: Settings = {
    seed: Number(values.seed),
    seconds: Number(values.seconds),
    merciless: values.merciless,
    keep: values.keep,
    ...(values.services === undefined ? {} : { services: Number(values.services) }),
  };
  let good = true;
  for (const name of names) {
    const scenario = SCENARIOS[name];
    if (scenario.missing !== undefined) {
      console.log(`${name}: skipped, ${scenario.missing}`);
      continue;
    }
    const counts = await scenario.run(settings);
    good &&= isGood(counts);
    if (values.json) {
      console.log(JSON.stringify({ seed: settings.seed, ...counts }));
      continue;
    }
    const kills = (Object.entries(counts.kills) as [Victim, number][]).filter(([, count]) => count > 0).map(([victim, count]) => `${count} ${victim}`);
    console.log(`${isGood(counts) ? "ok" : "NOT OK"} ${name}: ${scenario.about}`);
    console.log(`  killed: ${kills.join(", ") || "nobody"}; ${COLUMNS.map((column) => `${column} ${counts[column]}`).join(", ")}`);
    for (const note of counts.notes) console.log(`  ${note}`);
  }
  return good ? 0 : 1;
}

/** Nothing stays behind when a run is cut short. */
function cleanUp(): never {
  for (const entry of readdirSync(tmpdir()).filter((name) => name.startsWith(PREFIX))) {
    for (const { pid } of processesBelow(join(tmpdir(), entry))) process.kill(pid, "SIGKILL");
  }
  process.exit(1);
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  process.once("SIGTERM", cleanUp);
  process.once("SIGINT", cleanUp);
  process.exit(await main());
}
