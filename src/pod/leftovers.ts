/** What a pod that was killed has left running in its run directory. */

import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { findOrphan } from "../supervise/status-files.ts";
import { type RunDirectory, SERVICES } from "./run-directory.ts";

const TERM_MS = 5000;
const KILL_MS = 2000;
const INTERVAL_MS = 50;

function signalGroup(leader: number, signal: NodeJS.Signals): void {
  try {
    process.kill(-leader, signal);
  } catch {
    // gone
  }
}

/** Ends it, the proxy first and the logs last, so that its ports are free; says so through `tell`. */
export async function stopLeftovers(directory: RunDirectory, tell: (text: string) => void): Promise<void> {
  for (const part of ["", "log"]) {
    for (const name of SERVICES) {
      const path = join(directory.service(name), part);
      const orphan = findOrphan(path);
      if (orphan === undefined) continue;
      const { pid } = orphan;
      tell(`stopping ${part === "" ? name : `${name}/log`} (pid ${pid}), left by a pod that was killed`);
      for (const [signal, ms] of [
        ["SIGTERM", TERM_MS],
        ["SIGKILL", KILL_MS],
      ] as const) {
        signalGroup(pid, signal);
        // Not our child, so its end is not told to us.
        for (const until = performance.now() + ms; findOrphan(path) !== undefined && performance.now() < until; ) await sleep(INTERVAL_MS);
        if (findOrphan(path) === undefined) break;
      }
      signalGroup(pid, "SIGKILL"); // what it has left in turn
    }
  }
}
