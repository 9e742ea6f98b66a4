/**
 * The limit of open files that this process was started with. Node raises its own to the hard limit; what we start should get the original.
 */
import { closeSync, openSync } from "node:fs";
import { systemOs } from "./os.ts";

/** Descriptors that starting a process takes for a moment. */
const SPARE = 16n;

let original: bigint | undefined;

/** What the launcher saw before Node started; anything but a number means that nothing is to be restored. */
export function rememberOpenFilesLimit(text: string): void {
  if (/^[0-9]{1,18}$/.test(text)) original = BigInt(text);
}

/** Gives this process its original limit back, before it becomes another program. */
export function restoreOpenFilesLimit(): void {
  if (original !== undefined) set(original);
}

/** Runs `start` under the original limit, unless more files are open than that allows. */
export function withOriginalOpenFilesLimit<T>(start: () => T): T {
  if (original === undefined) return start();
  const next = openSync("/dev/null", "r"); // the lowest free number
  closeSync(next);
  if (BigInt(next) + SPARE >= original) return start();
  const raised = set(original);
  try {
    return start();
  } finally {
    if (raised !== undefined) set(raised);
  }
}

/** The soft limit before, if it was another. */
function set(soft: bigint): bigint | undefined {
  try {
    const os = systemOs();
    const now = os.getrlimit("nofile");
    if (now.soft === soft || soft > now.hard) return undefined;
    os.setrlimit("nofile", soft, now.hard);
    return now.soft;
  } catch {
    return undefined; // the raised limit does no harm
  }
}
