/**
 * File operations of one AsyncFileManagerConfig on this thread: at most `thread_count` at a time, the others wait in line, so that file
 * serving cannot take all of the thread pool from the rest of the process.
 */
import { close, fstat, open, read, type Stats } from "node:fs";

/** libuv's own pool size: what an unset thread_count means. */
const defaultThreadCount = 4;

type Done<T> = (error: NodeJS.ErrnoException | null, result: T) => void;
/** Begins an operation; its callback goes through `finish`, which lets the next one begin. */
type Start = (finish: <T>(done: Done<T>) => Done<T>) => void;

export class AsyncFiles {
  readonly #limit: number;
  #running = 0;
  readonly #waiting: Start[] = [];

  constructor(threadCount: number) {
    this.#limit = threadCount > 0 ? threadCount : defaultThreadCount;
  }

  open(path: Buffer | string, flags: number, done: Done<number>): void {
    this.#run((finish) => open(path, flags, finish(done)));
  }

  stat(fd: number, done: Done<Stats>): void {
    this.#run((finish) => fstat(fd, finish(done)));
  }

  read(fd: number, buffer: Buffer, length: number, position: number, done: Done<number>): void {
    this.#run((finish) => read(fd, buffer, 0, length, position, finish(done)));
  }

  /** Closing neither waits nor counts: descriptors are to be given back soon. */
  close(fd: number): void {
    close(fd, () => {});
  }

  #run(start: Start): void {
    if (this.#running < this.#limit) this.#begin(start);
    else this.#waiting.push(start);
  }

  #begin(start: Start): void {
    this.#running++;
    start((done) => (error, result) => {
      this.#running--;
      const next = this.#waiting.shift();
      if (next !== undefined) this.#begin(next);
      done(error, result);
    });
  }
}
