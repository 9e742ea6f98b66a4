/** What /proc tells about other processes. */
import { readdirSync, readFileSync } from "node:fs";

/** Start time of a living process in clock ticks since boot: with the pid it names a process for good. Undefined: gone, a zombie, or no /proc. */
export function processStartTime(pid: number): string | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return undefined;
  }
  // The command's name stands in parentheses and may hold anything.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  return fields[0] === "Z" || fields[0] === "X" ? undefined : fields[19];
}

/** Whether a process of the group still runs; zombies, which an idle init has not collected, do not. Without /proc: whether there is anything. */
export function isGroupAlive(group: number): boolean {
  try {
    process.kill(-group, 0);
  } catch {
    return false;
  }
  let pids: string[];
  try {
    pids = readdirSync("/proc").filter((name) => /^[0-9]+$/.test(name));
  } catch {
    return true;
  }
  return pids.some((pid) => {
    try {
      const text = readFileSync(`/proc/${pid}/stat`, "latin1");
      const [state, , itsGroup] = text.slice(text.lastIndexOf(")") + 2).split(" ");
      return itsGroup === String(group) && state !== "Z" && state !== "X";
    } catch {
      return false; // gone meanwhile
    }
  });
}
