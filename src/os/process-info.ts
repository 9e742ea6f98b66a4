/** What /proc tells about other processes. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

/** Start time of a living process in clock ticks since boot: with the pid it names a process for good. Undefined: gone, a zombie, or no /proc. */
export function processStartTime(pid: number): string | undefined {
  const fields = statFields(pid);
  return fields === undefined || isDead(fields) ? undefined : fields[19];
}

/** The fields of /proc/PID/stat after the name of the command; undefined when there is no such process. */
function statFields(pid: number | string): string[] | undefined {
  try {
    const text = readFileSync(`/proc/${pid}/stat`, "latin1");
    // The command's name stands in parentheses and may hold anything.
    return text.slice(text.lastIndexOf(")") + 2).split(" ");
  } catch {
    return undefined;
  }
}

function isDead(fields: readonly string[]): boolean {
  return fields[0] === "Z" || fields[0] === "X";
}

export interface ProcessInfo {
  readonly pid: number;
  readonly parent: number;
  readonly group: number;
  /** As in processStartTime. */
  readonly startTime: string;
}

/** All that run, zombies left out. Throws where there is no /proc. */
export function listProcesses(): ProcessInfo[] {
  const found: ProcessInfo[] = [];
  for (const name of readdirSync("/proc")) {
    if (!/^[0-9]+$/.test(name)) continue;
    const fields = statFields(name);
    if (fields === undefined || isDead(fields)) continue; // gone meanwhile
    found.push({ pid: Number(name), parent: Number(fields[1]), group: Number(fields[2]), startTime: fields[19] });
  }
  return found;
}

/** The clock that start times are given in: hundredths of a second on every Linux. */
export function ticksSinceBoot(): number {
  try {
    return Math.floor(Number(readFileSync("/proc/uptime", "latin1").split(" ")[0]) * 100);
  } catch {
    return 0;
  }
}

/** Undefined: gone, or not to be seen by this user. */
export function workingDirectory(pid: number): string | undefined {
  try {
    return readlinkSync(`/proc/${pid}/cwd`);
  } catch {
    return undefined;
  }
}

/** Whether orphans come to this process: the first one, or one that leads a session and has asked for them (a service manager's). */
export function isReaper(pid: number): boolean {
  return pid <= 1 || statFields(pid)?.[3] === String(pid);
}

/** Whether a process of the group still runs; zombies, which an idle init has not collected, do not. Without /proc: whether there is anything. */
export function isGroupAlive(group: number): boolean {
  try {
    process.kill(-group, 0);
  } catch {
    return false;
  }
  try {
    return listProcesses().some((info) => info.group === group);
  } catch {
    return true;
  }
}
