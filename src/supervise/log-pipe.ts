/**
 * The pipe from a service to its log. A fifo in NAME/supervise, so that a svscan that comes after a kill -9 of this one finds what the service
 * wrote meanwhile; where none can be made, a plain pipe.
 *
 * The service's end is open for reading as well: with svscan and the log gone the service would otherwise die of a broken pipe. So it waits for
 * a new log when the pipe is full, and what is in the pipe lives as long as the service.
 */
import { closeSync, constants, openSync, unlinkSync } from "node:fs";
import { systemOs } from "../os/os.ts";
import { LOG_PIPE } from "./service-directory.ts";
import { makeSuperviseDirectory, openFifo } from "./status-files.ts";

export interface LogPipe {
  readonly read: number;
  readonly write: number;
  /** `remove`: nobody will come for the rest. */
  close(remove: boolean): void;
}

export function openLogPipe(base: string): LogPipe {
  const path = `${base}/${LOG_PIPE}`;
  let ends: [number, number];
  let isNamed = true;
  try {
    makeSuperviseDirectory(base);
    // Opened for both first, so that the plain open does not wait for the other end.
    closeSync(openFifo(path, constants.O_RDWR));
    const write = openSync(path, "r+");
    ends = [openSync(path, "r"), write];
  } catch {
    ends = systemOs().pipe();
    isNamed = false;
  }
  const open = new Set(ends);
  return {
    read: ends[0],
    write: ends[1],
    close(remove) {
      for (const fd of open) closeSync(fd);
      open.clear();
      if (!remove || !isNamed) return;
      try {
        unlinkSync(path);
      } catch {
        // went with its directory
      }
    },
  };
}
