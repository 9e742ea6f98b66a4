/** A running ./run: a child of this process, or one that an earlier supervise has left and this one has adopted. */
import { type ChildProcess, spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { checkExecutableFormat } from "../../os/executable.ts";
import { withOriginalOpenFilesLimit } from "../../os/open-files.ts";
import { processStartTime } from "../../os/process-info.ts";
import { watchProcess } from "../../os/process-watch.ts";

/** How a process ended. Both null: it was not our child, so nobody knows. */
export interface End {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
}

export interface ServiceProcess {
  readonly pid: number;
  readonly isAdopted: boolean;
  /** False: gone already. Other trouble is thrown. */
  kill(signal: NodeJS.Signals, group: boolean): boolean;
}

export interface StartOptions {
  readonly cwd: string;
  /** Descriptors 0 to 2, and what else it gets at which number. */
  readonly stdio: readonly ("inherit" | "ignore" | number)[];
  readonly env: NodeJS.ProcessEnv;
  /** Leads a session and group of its own. */
  readonly ownGroup: boolean;
  /** Arguments of softlimit, which becomes ./run. */
  readonly limits: readonly string[];
  onError(error: unknown): void;
  onEnd(end: End): void;
}

const softlimit = fileURLToPath(new URL("../../../bin/daemontools/softlimit", import.meta.url));
/** pids that Node will wait for: a process 1 collects all others. */
const ours = new Set<number>();

/** Whether the process was started here, so that Node collects it. */
export function isOwnChild(pid: number): boolean {
  return ours.has(pid);
}

/** Starts a program and remembers it as ours until Node has collected it. */
export function spawnOwn(...args: Parameters<typeof spawn>): ChildProcess {
  const child = withOriginalOpenFilesLimit(() => spawn(...args));
  const { pid } = child;
  if (pid !== undefined) {
    ours.add(pid);
    child.once("exit", () => ours.delete(pid));
  }
  return child;
}

/** Starts ./run; trouble that shows at once is thrown, later trouble goes to `onError`. Undefined: no process came of it, `onError` says why. */
export function startProcess(options: StartOptions): ServiceProcess | undefined {
  checkExecutableFormat(`${options.cwd}/run`);
  const [file, args] = options.limits.length === 0 ? ["./run", []] : [softlimit, [...options.limits, "./run"]];
  const child = spawnOwn(file, args, { cwd: options.cwd, stdio: [...options.stdio], env: options.env, detached: options.ownGroup });
  child.once("error", (error) => options.onError(error));
  const { pid } = child;
  if (pid === undefined) return undefined;
  let isRunning = true;
  child.once("exit", (code, signal) => {
    isRunning = false;
    options.onEnd({ code, signal });
  });
  return {
    pid,
    isAdopted: false,
    kill: (signal, group) => isRunning && sendSignal(pid, signal, group), // once collected, the pid may be somebody else's
  };
}

/** Takes over a process that runs already; undefined when it has gone. */
export function adoptProcess(pid: number, startTime: string, onEnd: (end: End) => void): ServiceProcess | undefined {
  if (processStartTime(pid) !== startTime) return undefined;
  let isRunning = true;
  watchProcess(pid, startTime, () => {
    isRunning = false;
    onEnd({ code: null, signal: null });
  });
  return {
    pid,
    isAdopted: true,
    kill: (signal, group) => isRunning && processStartTime(pid) === startTime && sendSignal(pid, signal, group),
  };
}

function sendSignal(pid: number, signal: NodeJS.Signals, group: boolean): boolean {
  try {
    process.kill(group ? -pid : pid, signal);
    return true;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ESRCH") return false;
    throw error;
  }
}
