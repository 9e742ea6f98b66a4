/**
 * supervise DIR: starts the service there and watches over it.
 *
 * A service that a killed supervise has left goes on under one that svscan starts, or where the directory has a file `adopt`. Started by hand, a
 * new supervise means a new service, as scripts for daemontools expect it: the old one is ended first.
 */
import { existsSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { fatal, usage } from "../messages.ts";
import { SuperviseError } from "../status-files.ts";
import { Supervisor } from "../supervisor.ts";

function isStartedBySvscan(): boolean {
  try {
    return readFileSync(`/proc/${process.ppid}/comm`, "latin1").trim() === "svscan";
  } catch {
    return false;
  }
}

export function run(args: string[]): number | Promise<number> {
  if (args.length !== 1) return usage("supervise", "supervise dir");
  const [directory] = args;
  return new Promise((resolve) => {
    try {
      const leftover = isStartedBySvscan() || existsSync(join(directory, "adopt")) ? "adopt" : "replace";
      const supervisor = new Supervisor({ path: directory, name: directory, leftover, onClosed: () => resolve(0) });
      // A supervise that goes takes its service along: left alone it would be started a second time by the next one.
      process.on("SIGTERM", () => supervisor.command("dx"));
      supervisor.begin();
    } catch (error) {
      if (!(error instanceof SuperviseError)) throw error;
      resolve(fatal("supervise", error.message, error.reason));
    }
  });
}
