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
