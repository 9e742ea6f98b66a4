/**
 * Standard input without reading ahead: what has not been given away is still in the pipe for a successor.
 *
 * A pipe is opened a second time through /proc/self/fd/0, so that only this process sees it as non-blocking; where that is forbidden (after
 * setuidgid the pipe is another user's) the descriptor itself becomes non-blocking.
 */
import { constants, fstatSync, openSync, readSync } from "node:fs";
import { Socket } from "node:net";

/** At most this much is lost by a kill -9. */
const READ_BYTES = 65536;

function reopen(): number {
  try {
    return openSync("/proc/self/fd/0", constants.O_RDONLY | constants.O_NONBLOCK);
  } catch {
    return 0;
  }
}

export interface Input {
  /** Gives up without taking another byte. */
  stop(): void;
}

/** Calls `onBytes` for every read and `onEnd` after the last; the buffer is used again for the next read. */
export function readInput(onBytes: (bytes: Buffer) => void, onEnd: (error?: unknown) => void, bytesAtATime = READ_BYTES): Input {
  const buffer = Buffer.allocUnsafe(bytesAtATime);
  const stats = fstatSync(0);
  if (!stats.isFIFO() && !stats.isSocket() && !(stats.isCharacterDevice() && process.stdin.isTTY)) return readFile(buffer, onBytes, onEnd);
  let isStopped = false;
  const socket = new Socket({
    fd: stats.isFIFO() ? reopen() : 0,
    readable: true,
    writable: false,
    onread: {
      buffer,
      callback(length) {
        if (isStopped) return false;
        onBytes(buffer.subarray(0, length));
        return !isStopped;
      },
    },
  });
  socket.on("error", (error) => {
    if (!isStopped) onEnd(error);
  });
  socket.on("end", () => {
    if (!isStopped) onEnd();
  });
  return {
    stop() {
      isStopped = true;
      socket.destroy();
    },
  };
}

/** A file or device: reading never waits for long. Signals come in between the reads. */
function readFile(buffer: Buffer, onBytes: (bytes: Buffer) => void, onEnd: (error?: unknown) => void): Input {
  let isStopped = false;
  const step = (): void => {
    if (isStopped) return;
    let length: number;
    try {
      length = readSync(0, buffer);
    } catch (error) {
      onEnd(error);
      return;
    }
    if (length === 0) {
      onEnd();
      return;
    }
    onBytes(buffer.subarray(0, length));
    setImmediate(step);
  };
  setImmediate(step);
  return {
    stop() {
      isStopped = true;
    },
  };
}
