/** What daemontools' programs say and how they end: `PROG: fatal: TEXT`, exit 100 for wrong usage and 111 for any other trouble. */
import { writeSync } from "node:fs";

export const EXIT_USAGE = 100;
export const EXIT_TROUBLE = 111;

/** daemontools' own wording; scripts look for it. Errors that are not here show their errno name. */
const REASONS: Readonly<Record<string, string>> = {
  ENOENT: "file does not exist",
  EACCES: "access denied",
  EAGAIN: "temporary failure",
  EPERM: "permission denied",
  ENOTDIR: "not a directory",
  EISDIR: "is a directory",
  ENOSPC: "out of disk space",
  EFBIG: "file too big",
  ENXIO: "device not configured",
  EPIPE: "broken pipe",
  EEXIST: "file already exists",
  ENOEXEC: "exec format error",
  ETXTBSY: "text busy",
  EIO: "input/output error",
  EMFILE: "process cannot open more files",
  ENFILE: "system cannot open more files",
  ENOMEM: "out of memory",
  EROFS: "read-only file system",
  ECHILD: "no child processes",
  EINVAL: "invalid argument",
  EBADF: "file descriptor not open",
  EDQUOT: "disk quota exceeded",
  ELOOP: "symbolic link loop",
  ENAMETOOLONG: "file name too long",
  ENOTEMPTY: "directory not empty",
};

export function errorCode(error: unknown): string {
  return (error as NodeJS.ErrnoException | undefined)?.code ?? "";
}

export function reason(error: unknown): string {
  const code = errorCode(error);
  if (code === "ENOSYS" && error instanceof Error) return error.message;
  return REASONS[code] ?? (code !== "" ? code : String((error as Error)?.message ?? error));
}

/** Writes all of it; trouble with standard error itself is nobody's to hear. */
export function complain(text: string | Buffer): void {
  const bytes = Buffer.from(text);
  let offset = 0;
  for (let tries = 0; offset < bytes.length && tries < 1000; tries++) {
    try {
      offset += writeSync(2, bytes, offset);
    } catch (error) {
      if (errorCode(error) !== "EAGAIN") return;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1); // a non-blocking terminal or pipe that is full
    }
  }
}

export function warn(program: string, text: string, error?: unknown): void {
  complain(`${program}: warning: ${text}${error === undefined ? "" : `: ${reason(error)}`}\n`);
}

/** Says why and returns the exit code for it. */
export function fatal(program: string, text: string, error?: unknown): number {
  complain(`${program}: fatal: ${text}${error === undefined ? "" : `: ${reason(error)}`}\n`);
  return EXIT_TROUBLE;
}

export function usage(program: string, text: string, code: number = EXIT_USAGE): number {
  complain(`${program}: usage: ${text}\n`);
  return code;
}
