/** The end of a service's log, to show why it does not stay up. */
import { closeSync, fstatSync, openSync, readSync } from "node:fs";
import { join } from "node:path";

const TAIL_BYTES = 4096;

/** The last lines of a log directory's current file that are not older than `since` (a stamp), without their stamps; empty when there are none. */
export function lastLines(logDirectory: string, count: number, since: string): string[] {
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
