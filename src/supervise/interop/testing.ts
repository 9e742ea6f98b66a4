/** For tests that put DJB's programs and ours together: where each is, service trees, and waiting for what they do. */
import { type ChildProcess, execFile, type SpawnOptions, spawn } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { type Status, unpackStatus } from "../service-directory.ts";

/** Ends in a slash. */
export const OURS = fileURLToPath(new URL("../../../bin/daemontools/", import.meta.url));
/** Where Debian and others put them, and where DJB's own installation does; ends in a slash. */
export const THEIRS = ["/usr/bin/", "/command/", "/usr/local/bin/"].find((folder) => existsSync(`${folder}svscan`)) ?? "/usr/bin/";

const SYSTEM_PATH = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";
const WAIT_MS = 30_000;
const LOOK_MS = 20;

/** For a test's `skip`: false when DJB's programs are there. */
export const withoutTheirs: string | false = existsSync(`${THEIRS}svscan`) ? false : "daemontools is not installed here (Debian package daemontools)";
/** For a test's `skip`: false for root. */
export const withoutRoot: string | false = process.getuid?.() === 0 ? false : "needs root";

/** The environment in which commands are found in `folders` first. */
export function environment(...folders: string[]): NodeJS.ProcessEnv {
  return { ...process.env, PATH: [...folders.map((folder) => folder.replace(/\/$/, "")), SYSTEM_PATH].join(":") };
}

/** An empty folder that everybody may enter; `remove` it at the end. */
export function scratchFolder(): { readonly path: string; remove(): void } {
  const path = mkdtempSync(join(tmpdir(), "outrider-interop-"));
  chmodSync(path, 0o755);
  return { path, remove: () => rmSync(path, { recursive: true, force: true, maxRetries: 5 }) };
}

/** Makes the service directory `path` with `run` as a script of sh. */
export function service(path: string, script: string): string {
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, "run"), `#!/bin/sh\n${script}\n`, { mode: 0o755 });
  return path;
}

export interface Started {
  readonly process: ChildProcess;
  readonly pid: number;
  /** What it wrote to standard output and standard error so far. */
  readonly output: () => string;
  /** Code, or name of the signal, once it has ended. */
  readonly ended: Promise<number | string>;
}

/** Starts a program that stays; its output is collected through files, so that what it leaves running holds no pipe of the test. */
export function start(command: string, args: readonly string[], options: SpawnOptions = {}): Started {
  const child = spawn(command, args, { stdio: ["ignore", "pipe", "pipe"], ...options });
  let text = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream?.setEncoding("utf8").on("data", (part: string) => {
      text += part;
    });
    // A service that outlives its supervisor keeps the pipe open; that must not keep the test alive.
    (stream as unknown as { unref?(): void } | null)?.unref?.();
  }
  const ended = once(child, "exit").then(([code, signal]) => (code ?? signal) as number | string);
  return { process: child, pid: child.pid as number, output: () => text, ended };
}

const execute = promisify(execFile);

export interface Result {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Runs a program to its end. */
export async function run(command: string, args: readonly string[], options: { cwd?: string; env?: NodeJS.ProcessEnv } = {}): Promise<Result> {
  try {
    const { stdout, stderr } = await execute(command, args, { encoding: "utf8", timeout: WAIT_MS, ...options });
    return { code: 0, stdout, stderr };
  } catch (error) {
    const { code, stdout, stderr } = error as { code?: number | string; stdout?: string; stderr?: string };
    if (typeof code !== "number") throw error;
    return { code, stdout: stdout ?? "", stderr: stderr ?? "" };
  }
}

/** Waits until `look` gives something true, and returns it; fails with `what` after 30 seconds. */
export async function until<T>(what: string, look: () => T | Promise<T>): Promise<NonNullable<Exclude<T, false>>> {
  for (const deadline = performance.now() + WAIT_MS; ; ) {
    const found = await look();
    if (found) return found as NonNullable<Exclude<T, false>>;
    if (performance.now() > deadline) throw new Error(`waited in vain: ${what}`);
    await new Promise((resolve) => setTimeout(resolve, LOOK_MS));
  }
}

/** The status record of a service directory; undefined before there is one. */
export function statusOf(path: string): Status | undefined {
  try {
    return unpackStatus(readFileSync(join(path, "supervise/status")));
  } catch {
    return undefined;
  }
}

export function untilStatus(path: string, is: (status: Status) => boolean, what = "a change of status"): Promise<Status> {
  return until(`${path}: ${what}`, () => {
    const status = statusOf(path);
    return status !== undefined && is(status) ? status : undefined;
  });
}

export const untilUp = (path: string, notPid = 0): Promise<Status> => untilStatus(path, ({ pid }) => pid !== 0 && pid !== notPid, "up");
export const untilDown = (path: string): Promise<Status> => untilStatus(path, ({ pid }) => pid === 0, "down");

/** Whether the process is there and not a zombie. */
export function isAlive(pid: number): boolean {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    return !"ZX".includes(text.slice(text.lastIndexOf(")") + 2)[0]);
  } catch {
    return false;
  }
}

/** Ends a process if it is still there, and waits for it. */
export async function kill(pid: number, signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
  try {
    process.kill(pid, signal);
  } catch {
    return;
  }
  await until(`the end of ${pid}`, () => !isAlive(pid));
}

/** All that a log directory holds, oldest first. */
export function logContent(directory: string): string {
  let names: string[];
  try {
    names = readdirSync(directory);
  } catch {
    return "";
  }
  const finished = names.filter((name) => /^@[0-9a-f]{24}\.[su]$/.test(name)).sort();
  // A rotation that was cut short leaves its file under this name until the next start.
  return [...finished, "previous", "current"]
    .filter((name) => names.includes(name))
    .map((name) => {
      try {
        return readFileSync(join(directory, name), "utf8");
      } catch {
        return "";
      }
    })
    .join("");
}

const SECONDS = /\b\d+(?= seconds)/g;

/**
 * What DJB's svstat and ours print of the same services. Ours is asked between two looks of DJB's: where its seconds lie between theirs they
 * are shown as in the first look, so that equal texts mean equal states.
 */
export async function bothStates(paths: readonly string[], options: { cwd?: string } = {}): Promise<{ theirs: string; ours: string }> {
  const look = async (bin: string): Promise<string> => (await run(`${bin}svstat`, paths, options)).stdout;
  const [before, between, after] = [await look(THEIRS), await look(OURS), await look(THEIRS)];
  const secondsOf = (text: string): number[] => [...text.matchAll(SECONDS)].map(([digits]) => Number(digits));
  const [from, to] = [secondsOf(before), secondsOf(after)];
  let i = 0;
  const ours = between.replaceAll(SECONDS, (digits) => {
    const isBetween = Number(digits) >= from[i] && Number(digits) <= to[i];
    const shown = isBetween ? String(from[i]) : digits;
    i++;
    return shown;
  });
  return { theirs: before, ours };
}
