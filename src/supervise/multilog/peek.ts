/**
 * A pipe on standard input whose bytes are looked at first and taken out once they are where they belong: what a kill -9 meets in between is
 * still in the pipe for a successor. tee(2) copies them into a pipe of our own.
 */
import { closeSync, fstatSync, readSync } from "node:fs";
import { Socket } from "node:net";
import { type Os, systemOs } from "../../os/os.ts";
import { errorCode } from "../messages.ts";
import type { Input } from "./input.ts";

/** What a pipe holds by default, ours as well. */
const PEEK_BYTES = 65536;

/** Undefined: standard input is no pipe, or this machine cannot look without taking. */
export function openPeek(): Peek | undefined {
  try {
    if (!fstatSync(0).isFIFO()) return undefined;
    const os = systemOs();
    if (os.backend !== "koffi") return undefined;
    return new Peek(os, os.duplicate(0), os.pipe());
  } catch {
    return undefined;
  }
}

export interface PeekReader {
  /** How much to look at. */
  readonly room: number;
  /**
   * How much of that to feed. The start of a line should wait in the pipe for its end; when nothing else is there it has to be taken, since a pipe
   * that is never empty wakes its reader on and on.
   */
  fit(bytes: Buffer): number;
  /** Calls `take` before it returns, which takes the bytes out of the pipe. */
  feed(bytes: Buffer, take: () => void): void;
}

export class Peek {
  readonly #os: Os;
  readonly #fd: number;
  readonly #read: number;
  readonly #write: number;
  readonly #buffer = Buffer.allocUnsafe(PEEK_BYTES);

  constructor(os: Os, fd: number, ends: readonly [number, number]) {
    this.#os = os;
    this.#fd = fd;
    [this.#read, this.#write] = ends;
  }

  /** What is in the pipe now; nothing at the end of input, undefined when there may be more later. Valid until the next look. */
  look(bytes = PEEK_BYTES): Buffer | undefined {
    let count: number;
    try {
      count = this.#os.tee(this.#fd, this.#write, bytes);
    } catch (error) {
      if (errorCode(error) === "EAGAIN" || errorCode(error) === "EINTR") return undefined;
      throw error;
    }
    this.#readAll(this.#read, count);
    return this.#buffer.subarray(0, count);
  }

  #readAll(fd: number, count: number): void {
    for (let have = 0; have < count; ) have += readSync(fd, this.#buffer, have, count - have, null);
  }

  /** Takes out what has been looked at; the bytes come into the same place again. */
  take(count: number): void {
    this.#readAll(this.#fd, count);
  }

  /** Feeds what comes until the end, then calls `onEnd`. Signals come in between the feeds. */
  read(reader: PeekReader, onEnd: (error?: unknown) => void): Input {
    let isStopped = false;
    let socket: Socket | undefined;
    const step = (): void => {
      if (isStopped) return;
      let bytes: Buffer | undefined;
      try {
        bytes = this.look(Math.min(reader.room, PEEK_BYTES));
      } catch (error) {
        onEnd(error);
        return;
      }
      if (bytes === undefined) wait();
      else if (bytes.length === 0) onEnd();
      else {
        const length = reader.fit(bytes);
        reader.feed(bytes.subarray(0, length), () => this.take(length));
        setImmediate(step);
      }
    };
    // Node waits for a descriptor only to read from it: it is given no room for that, says so when there is something, and has taken nothing.
    const wait = (): void => {
      socket = new Socket({ fd: this.#os.duplicate(this.#fd), readable: true, writable: false, onread: { buffer: Buffer.alloc(0), callback: () => false } });
      socket.on("error", (error) => {
        if (isStopped) return;
        if (errorCode(error) === "ENOBUFS") step();
        else onEnd(error);
      });
      socket.on("end", step);
    };
    setImmediate(step);
    return {
      stop() {
        isStopped = true;
        socket?.destroy();
      },
    };
  }

  close(): void {
    for (const fd of [this.#fd, this.#read, this.#write]) closeSync(fd);
  }
}
