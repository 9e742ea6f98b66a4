/**
 * Standard input without reading ahead: what has not been given away is still in the pipe for a successor.
 *
 * A pipe is opened a second time through /proc/self/fd/0, so that only this process sees it as non-blocking; where that is forbidden (after
 * setuidgid the pipe is another user's) the descriptor itself becomes non-blocking.
 */
import { closeSync, constants, fstatSync, openSync, readSync } from "node:fs";
import { Socket } from "node:net";

/** At most this much is lost by a kill -9. */
const READ_BYTES = 65536;
/** What has gathered for one that begins is read in growing pieces: its first ones take it longest, and a kill in that time loses the piece. */
const FIRST_READ_BYTES = 2048;

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
  let socket: Socket | undefined;
  let first: Buffer | undefined;
  const fd = stats.isFIFO() ? reopen() : 0;
  const giveFirst = (): void => {
    const bytes = first;
    first = undefined;
    if (bytes !== undefined) onBytes(bytes);
  };
  const listen = (): void => {
    socket = new Socket({
      fd,
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
  };
  let piece = Math.min(FIRST_READ_BYTES, buffer.length);
  // The end of a named pipe that is opened after its last writer has gone is never told: it is there to be read, behind what is left in the pipe.
  const readUntilEmpty = (): void => {
    first = readNow(fd, buffer.subarray(0, piece));
    piece = Math.min(2 * piece, buffer.length);
    if (first === undefined) listen();
    else if (first.length === 0) setImmediate(() => isStopped || onEnd());
    else
      setImmediate(() => {
        giveFirst();
        if (!isStopped) readUntilEmpty();
      });
  };
  if (fd === 0) listen();
  else readUntilEmpty();
  return {
    stop() {
      if (isStopped) return;
      isStopped = true;
      giveFirst();
      if (socket !== undefined) socket.destroy();
      else if (fd !== 0) closeSync(fd);
    },
  };
}

/** What is there now; nothing at the end of input; undefined when there may be more later. */
function readNow(fd: number, buffer: Buffer): Buffer | undefined {
  try {
    return buffer.subarray(0, readSync(fd, buffer));
  } catch {
    return undefined; // EAGAIN; other trouble comes again, and is heard of then
  }
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
