/** Gives memory that V8 keeps free back to the system, in the thread that asks. */
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import { memoryUsage } from "./memory-usage.ts";

let collect: (() => void) | undefined;

/** Collects garbage, which also unmaps free pages, where more than `keepBytes` of this thread's heap are free. Takes tens of milliseconds. */
export function shrinkHeap(keepBytes: number, usage = memoryUsage): boolean {
  const { heapTotal, heapUsed } = usage();
  if (heapTotal - heapUsed <= keepBytes) return false;
  if (collect === undefined) {
    setFlagsFromString("--expose-gc");
    collect = runInNewContext("gc") as () => void;
    setFlagsFromString("--no-expose-gc");
  }
  collect();
  return true;
}
