/** The end of a service's log, to show why it does not stay up. */
import { closeSync, fstatSync, openSync, readSync, watch } from "node:fs";
import { join } from "node:path";

const TAIL_BYTES = 4096;

export interface LinesWanted {
  readonly count: number;
  /** A stamp: older lines are of an earlier run. */
  readonly since: string;
  /** How long to wait for the first such line: the log is written by another process. */
  readonly waitMs: number;
}

/** The last lines of a log directory's current file that are not older than `since`, without their stamps; empty when none came in time. */
export async function lastLines(logDirectory: string, wanted: LinesWanted): Promise<string[]> {
  const changes = watchFolder(logDirectory, AbortSignal.timeout(wanted.waitMs));
  let lines = readLines(logDirectory, wanted);
  while (lines.length === 0 && (await changes.next())) lines = readLines(logDirectory, wanted);
  changes.close();
  return lines;
}

interface FolderChanges {
  /** False: time is up. */
  next(): Promise<boolean>;
  close(): void;
}

/** Watching begins at once, so that no change between a look and `next` is missed. */
function watchFolder(folder: string, signal: AbortSignal): FolderChanges {
  let hasChanged = false;
  let wake: (() => void) | undefined;
  const notify = (): void => {
    hasChanged = true;
    wake?.();
  };
  const abort = new AbortController();
  try {
    watch(folder, { signal: abort.signal }, notify).on("error", notify);
  } catch {
    // No such folder: its log has not begun. What it says later is in the log.
  }
  signal.addEventListener("abort", () => wake?.(), { once: true });
  return {
    async next() {
      if (!hasChanged && !signal.aborted) await new Promise<void>((resolve) => (wake = resolve));
      hasChanged = false;
      return !signal.aborted;
    },
    close: () => abort.abort(),
  };
}

function readLines(logDirectory: string, { count, since }: LinesWanted): string[] {
  try {
    const fd = openSync(join(logDirectory, "current"), "r");
    try {
      const { size } = fstatSync(fd);
      const bytes = Buffer.alloc(Math.min(size, TAIL_BYTES));
      readSync(fd, bytes, 0, bytes.length, size - bytes.length);
      const lines = bytes.toString("utf8").trimEnd().split("\n");
      // Stamps sort as the times they stand for.
      const recent = lines.filter((line) => /^@[0-9a-f]{24} /.test(line) && line.slice(0, since.length) >= since);
      return recent.slice(-count).map((line) => line.slice(since.length + 1));
    } finally {
      closeSync(fd);
    }
  } catch {
    return [];
  }
}
