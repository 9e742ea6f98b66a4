/** Writes and opens what stands under DIR/supervise: the directory, the lock, the two fifos, the status record. */
import {
  closeSync,
  constants,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readlinkSync,
  renameSync,
  statSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { systemOs } from "../os/os.ts";
import { processStartTime } from "../os/process-info.ts";
import { errorCode, warn } from "./messages.ts";
import { CHILD, packStatus, STATUS, STATUS_NEW, type Status } from "./service-directory.ts";

/** An error with daemontools' message for it. */
export class SuperviseError extends Error {
  readonly reason: unknown;
  constructor(message: string, reason: unknown) {
    super(message);
    this.reason = reason;
  }
}

/** Makes DIR/supervise, 0700; an existing one or a symbolic link to a directory is taken as it is. */
export function makeSuperviseDirectory(base: string): void {
  const path = `${base}/supervise`;
  try {
    mkdirSync(path, 0o700);
  } catch (error) {
    if (errorCode(error) !== "EEXIST") return; // what comes next says why it does not work
    try {
      statSync(path);
    } catch {
      // A link to nowhere: its target is made, as on systems that keep the changing part in /run.
      try {
        if (lstatSync(path).isSymbolicLink()) mkdirSync(linkTarget(base, path), 0o700);
      } catch {
        // the lock's message names the trouble
      }
    }
  }
}

function linkTarget(base: string, path: string): string {
  const target = readlinkSync(path);
  return target.startsWith("/") ? target : `${base}/${target}`;
}

/** Opens a fifo, making it when it is not there. */
export function openFifo(path: string, flags: number): number {
  try {
    systemOs().mkfifo(path, 0o600);
  } catch (error) {
    if (errorCode(error) !== "EEXIST") throw error;
  }
  return openSync(path, flags | constants.O_NONBLOCK);
}

/** Takes DIR/supervise/lock for the life of the returned descriptor; EAGAIN when somebody else has it. */
export function takeLock(path: string): number {
  const fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_APPEND | constants.O_CREAT, 0o600);
  try {
    systemOs().flock(fd, false);
  } catch (error) {
    closeSync(fd);
    throw error;
  }
  return fd;
}

/** Replaces the status record; readers see the old one or the new one, never a part. */
export function writeStatus(base: string, name: string, status: Status): void {
  let fd: number;
  try {
    fd = openSync(`${base}/${STATUS_NEW}`, "w", 0o644);
  } catch (error) {
    warn("supervise", `unable to open ${name}/${STATUS_NEW}`, error);
    return;
  }
  try {
    writeSync(fd, packStatus(status));
  } catch (error) {
    warn("supervise", `unable to write ${name}/${STATUS_NEW}`, error);
    return;
  } finally {
    closeSync(fd);
  }
  try {
    renameSync(`${base}/${STATUS_NEW}`, `${base}/${STATUS}`);
  } catch (error) {
    warn("supervise", `unable to rename ${name}/${STATUS_NEW} to status`, error);
  }
}

/** Notes the running service (0: none), so that a supervise that comes after a kill -9 of this one finds it. */
export function writeChild(base: string, pid: number): void {
  try {
    if (pid === 0) unlinkSync(`${base}/${CHILD}`);
    else writeFileSync(`${base}/${CHILD}`, `${pid} ${processStartTime(pid) ?? ""}\n`, { mode: 0o600 });
  } catch {
    // an aid only: without it an orphan is not found
  }
}

/** The service that an earlier supervise left running, or 0. */
export function findOrphan(base: string): number {
  try {
    const [pid, startTime] = readFileSync(`${base}/${CHILD}`, "latin1").trim().split(" ");
    return startTime !== undefined && startTime !== "" && processStartTime(Number(pid)) === startTime ? Number(pid) : 0;
  } catch {
    return 0;
  }
}
