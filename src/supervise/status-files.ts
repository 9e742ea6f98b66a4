/** Writes and opens what stands under DIR/supervise: the directory, the lock, the two fifos, the status record. */
import {
  closeSync,
  constants,
  lstatSync,
  mkdirSync,
  openSync,
  readFileSync,
  readlinkSync,
  realpathSync,
  renameSync,
  statSync,
  unlinkSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { systemOs } from "../os/os.ts";
import { isReaper, listProcesses, processStartTime, ticksSinceBoot, workingDirectory } from "../os/process-info.ts";
import { errorCode, warn } from "./messages.ts";
import { CHILD, EXIT, packStatus, REPORT, type Report, STATUS, STATUS_NEW, type Status, unpackStatus } from "./service-directory.ts";

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

/** Replaces a file of ours whole. An aid to others, so trouble with it is told once by the status record and not again here. */
function replaceFile(path: string, text: string, mode: number): void {
  try {
    writeFileSync(`${path}.new`, text, { mode });
    renameSync(`${path}.new`, path);
  } catch {
    // a full disk or one that is read-only: writeStatus says so
  }
}

export function writeReport(base: string, report: Report): void {
  replaceFile(`${base}/${REPORT}`, `${JSON.stringify(report)}\n`, 0o644);
}

/** What the last supervise has written, as far as it can be read. */
export function readReport(base: string): Partial<Report> {
  try {
    const report: unknown = JSON.parse(readFileSync(`${base}/${REPORT}`, "utf8"));
    return typeof report === "object" && report !== null ? report : {};
  } catch {
    return {};
  }
}

export function writeExit(base: string, code: number, signal: number): void {
  replaceFile(`${base}/${EXIT}`, `${code} ${signal}\n`, 0o644);
}

export function readStatus(base: string): Status | undefined {
  try {
    return unpackStatus(readFileSync(`${base}/${STATUS}`));
  } catch {
    return undefined;
  }
}

/** What runs in a service directory: ./run, or after its end ./finish. */
export type ChildKind = "run" | "finish";

/** Notes what runs now (0: nothing), so that a supervise that comes after a kill -9 of this one finds it. */
export function writeChild(base: string, pid: number, kind: ChildKind = "run"): void {
  try {
    if (pid === 0) unlinkSync(`${base}/${CHILD}`);
    else replaceFile(`${base}/${CHILD}`, `${pid} ${processStartTime(pid) ?? ""} ${kind}\n`, 0o600);
  } catch {
    // none was noted
  }
}

/** Notes that ./run is about to be started: a kill -9 between the start and `writeChild` must not hide it. */
export function writeStarting(base: string): void {
  replaceFile(`${base}/${CHILD}`, `starting ${ticksSinceBoot()}\n`, 0o600);
}

export interface Orphan {
  readonly pid: number;
  readonly startTime: string;
  readonly kind: ChildKind;
}

/** What an earlier supervise has left running. */
export function findOrphan(base: string): Orphan | undefined {
  let words: string[];
  try {
    words = readFileSync(`${base}/${CHILD}`, "latin1").trim().split(" ");
  } catch {
    return undefined;
  }
  const [pid, startTime, kind] = words;
  if (pid === "starting") return findStartedIn(base, Number(startTime));
  if (startTime === undefined || startTime === "" || processStartTime(Number(pid)) !== startTime) return undefined;
  return { pid: Number(pid), startTime, kind: kind === "finish" ? "finish" : "run" };
}

/** The process that was started in the directory after a moment and has lost its parent. */
function findStartedIn(base: string, ticks: number): Orphan | undefined {
  let found: Orphan | undefined;
  try {
    const directory = realpathSync(base);
    for (const { pid, parent, startTime } of listProcesses()) {
      if (Number(startTime) < ticks || pid === process.pid || parent === process.pid || !isReaper(parent)) continue;
      if (workingDirectory(pid) !== directory) continue;
      if (found === undefined || Number(startTime) < Number(found.startTime)) found = { pid, startTime, kind: "run" };
    }
  } catch {
    return undefined; // no /proc
  }
  return found;
}
