/** Disk trouble does not last and must not lose a line: say so, wait, try again. Meanwhile no input is read and the producer blocks. */
import { warn } from "../messages.ts";

const PAUSE_MS = 5000;

export function pause(): void {
  Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PAUSE_MS);
}

/** Does it until it works. `what` is the message up to "pausing". */
export function untilDone<T>(what: string, attempt: () => T): T {
  for (;;) {
    try {
      return attempt();
    } catch (error) {
      warn("multilog", `${what}, pausing`, error);
      pause();
    }
  }
}
