/** What stands on disk under DIR/supervise, packed and unpacked in one place. DJB's tools, runit's and ours read and write the same bytes. */
import { closeSync, constants, openSync } from "node:fs";
import { packLabel, type Time, unpackLabel } from "./tai64n.ts";

export const LOCK = "supervise/lock";
export const CONTROL = "supervise/control";
export const OK = "supervise/ok";
export const STATUS = "supervise/status";
export const STATUS_NEW = "supervise/status.new";
/** Ours: pid and start time of the running service, so that a supervise that takes over knows it. */
export const CHILD = "supervise/child";
/** Ours: how the service ended last, `CODE SIGNAL`: exit code or -1, number of the signal or 0. */
export const EXIT = "supervise/exit";
/** Ours: a Report as JSON. */
export const REPORT = "supervise/status.json";
/** Ours: the pipe between a service and its log, a fifo so that it survives a killed svscan. */
export const LOG_PIPE = "supervise/log-pipe";

export const STATUS_BYTES = 18;

export type Want = "up" | "down" | "once";

export interface Status {
  /** When the service last started or ended. */
  readonly since: Time;
  /** 0: down. */
  readonly pid: number;
  readonly paused: boolean;
  readonly want: Want;
}

/**
 * - `up`: runs; whether it is ready is not known or not asked for
 * - `ready`, `unhealthy`: it runs, and has said so or its check has
 * - `stopping`: it runs and was told to go down
 * - `finishing`: it ended, ./finish runs
 * - `waiting`: it is to be started later: a dependency is not ready, a pause is not over, it is not due yet
 * - `failed`: it ended too often (death-limit) or its finish gave it up; it stays down until somebody wants it up
 */
export type State = "up" | "ready" | "unhealthy" | "paused" | "stopping" | "finishing" | "down" | "waiting" | "failed";

/** What supervise/status.json says. Times are ISO 8601 in UTC. */
export interface Report {
  readonly state: State;
  readonly want: Want;
  /** 0: down. */
  readonly pid: number;
  /** When the service last started or ended. */
  readonly since: string;
  readonly readySince?: string;
  /** It has a notification-fd or a check: `up` means not ready yet. */
  readonly hasReadiness: boolean;
  /** Starts since this supervise began. */
  readonly starts: number;
  readonly lastExit?: {
    /** Null when it was killed, or when nobody knows: see `adopted`. */
    readonly code: number | null;
    readonly signal: string | null;
    readonly at: string;
    readonly ranMs: number;
    /** It was not this supervise's child but taken over from one that was killed: how it ended only its parent was told. */
    readonly adopted?: true;
  };
  /** When it will be started. */
  readonly nextStart?: string;
  /** Names of services it waits for. */
  readonly waitingFor?: readonly string[];
  /** Why it waits or has failed. */
  readonly reason?: string;
  /** What is wrong in the files of the service directory. */
  readonly problems?: readonly string[];
  readonly supervisorPid: number;
}

const WANT_BYTES = { up: 0x75, down: 0x64, once: 0 } as const;

export function packStatus(status: Status): Buffer {
  const bytes = Buffer.alloc(STATUS_BYTES);
  packLabel(status.since, bytes);
  bytes.writeUInt32LE(status.pid, 12);
  bytes[16] = status.paused ? 1 : 0;
  bytes[17] = WANT_BYTES[status.want];
  return bytes;
}

/** Undefined when the record is too short; longer ones (runit's) are read. */
export function unpackStatus(bytes: Buffer): Status | undefined {
  if (bytes.length < STATUS_BYTES) return undefined;
  const want = bytes[17] === WANT_BYTES.up ? "up" : bytes[17] === WANT_BYTES.down ? "down" : "once";
  return { since: unpackLabel(bytes), pid: bytes.readUInt32LE(12), paused: bytes[16] !== 0, want };
}

/** Opens a fifo for writing without waiting; fails with ENXIO when nobody reads it. */
export function openFifoForWriting(path: string): number {
  return openSync(path, constants.O_WRONLY | constants.O_NONBLOCK);
}

/** Whether a supervise runs in the directory: its `ok` fifo has a reader. Other trouble is thrown. */
export function isSupervised(directory: string): boolean {
  try {
    closeSync(openFifoForWriting(`${directory}/${OK}`));
    return true;
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENXIO" || code === "ENOENT") return false;
    throw error;
  }
}
