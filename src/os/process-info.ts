/** What /proc tells about other processes. */
import { readFileSync } from "node:fs";

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
