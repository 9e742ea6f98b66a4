/** A directory held open, so that files in it are found even after it was renamed. */
import { closeSync, constants, openSync, statSync } from "node:fs";
import { resolve } from "node:path";

export interface PinnedDirectory {
  /** Prefix for names in the directory, also as a working directory for children. */
  readonly base: string;
  readonly fd: number;
  close(): void;
}

/** Fails as chdir(2) would: ENOENT, ENOTDIR, EACCES. */
export function pinDirectory(path: string): PinnedDirectory {
  const fd = openSync(path, constants.O_RDONLY | constants.O_DIRECTORY);
  // By number, not "self": helpers that are given such a path must find the same.
  let base = `/proc/${process.pid}/fd/${fd}`;
  try {
    statSync(`${base}/.`);
  } catch {
    base = resolve(path); // no /proc: a rename is not survived
  }
  return { base, fd, close: () => closeSync(fd) };
}
