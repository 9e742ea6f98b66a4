/** Writes every byte to a descriptor that may be non-blocking. */
import { writeSync } from "node:fs";
import { errorCode } from "./messages.ts";

export function writeAll(fd: number, bytes: Buffer): void {
  for (let offset = 0; offset < bytes.length; ) {
    try {
      offset += writeSync(fd, bytes, offset);
    } catch (error) {
      if (errorCode(error) !== "EAGAIN") throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 5); // somebody else made it non-blocking, and it is full
    }
  }
}
