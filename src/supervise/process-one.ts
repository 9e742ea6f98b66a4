/** What the first process of a system or container owes the others: it collects orphans, and it does not end by accident. */
import { systemOs } from "../os/os.ts";
import { warn } from "./messages.ts";
import { isOwnChild } from "./service/process.ts";

/** Children collected in one go, before the event loop gets its turn. */
const BATCH = 100;
/** Tries until Node has collected a child of its own that stands before the orphans. */
const RETRIES = 20;
const RETRY_MS = 5;

/** Does what is needed when this is process 1, and nothing when it is not. `program`: who speaks. */
export function actAsProcessOne(program: string): void {
  if (process.pid !== 1) return;
  const os = systemOs();
  if (os.backend !== "koffi") warn(program, "the optional package koffi is not installed: as process 1 without it, orphans stay as zombies when they end");
  process.on("SIGCHLD", () => collect(0));
  collect(0);
  // With process 1 everything ends. What it runs is better off with one that has stumbled.
  process.on("uncaughtException", (error) => warn(program, `internal error, going on: ${error.stack ?? error.message}`));

  function collect(tries: number): void {
    for (let i = 0; i < BATCH; i++) {
      const pid = os.peekEndedChild();
      if (pid <= 0) return;
      if (isOwnChild(pid)) {
        if (tries < RETRIES) setTimeout(() => collect(tries + 1), RETRY_MS);
        return;
      }
      if (!os.reap(pid)) return;
    }
    setImmediate(() => collect(tries));
  }
}
