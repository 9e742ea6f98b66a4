/**
 * Log files of one thread: buffered appends that never block the event loop.
 *
 * A file is written when --file-flush-min-size-kb are buffered or --file-flush-interval-msec after the first unwritten line, one write
 * at a time, in order. Every write holds whole entries and the file is open with O_APPEND, so the workers' lines mix but never tear.
 * Regular files are written by the thread pool. Pipes, terminals and named pipes are opened anew without blocking (their own open file
 * description, so that nobody else's flags change) and are written in pieces of at most PIPE_BUF bytes, which the kernel keeps whole.
 *
 * New files get mode 0640 (Envoy: 0644), because access logs hold addresses and paths; an existing file keeps its mode.
 */
import { close, closeSync, constants, fstatSync, open, openSync, readFileSync, statSync, write, writeSync } from "node:fs";
import type { LogTarget, LogWriter } from "../extensions/extension.ts";
import type { Counter, Gauge, StatsStore } from "../stats/stats.ts";

/** What may wait in memory for one file while its disk or reader is stuck; later entries are dropped and counted. */
const defaultMaxBufferedBytes = 16 * 1024 * 1024;
/** POSIX guarantees 512, Linux has 4096: writes to pipes up to this size are not mixed with those of others. */
const pipeBuf = 4096;
/** How long to wait before a full pipe is tried again. */
const retryMs = 10;
/** flushSync gives up on a full pipe, and on a write that does not end, after this long. */
const flushSyncTimeoutMs = 1000;
const newFileMode = 0o640;

export interface LogFilesOptions {
  readonly flushIntervalMs: number;
  readonly flushMinBytes: number;
  /** filesystem.* is counted here; undefined counts nothing. */
  readonly stats: StatsStore | undefined;
  readonly maxBufferedBytes?: number;
}

/** filesystem.*: Envoy's names. `write_dropped` is ours and appears with the first entry that was dropped. */
class FileStats {
  readonly #store: StatsStore;
  readonly write_buffered: Counter;
  readonly write_completed: Counter;
  readonly write_failed: Counter;
  readonly flushed_by_timer: Counter;
  readonly reopen_failed: Counter;
  readonly write_total_buffered: Gauge;

  constructor(store: StatsStore) {
    this.#store = store;
    this.write_buffered = store.counter("filesystem.write_buffered");
    this.write_completed = store.counter("filesystem.write_completed");
    this.write_failed = store.counter("filesystem.write_failed");
    this.flushed_by_timer = store.counter("filesystem.flushed_by_timer");
    this.reopen_failed = store.counter("filesystem.reopen_failed");
    this.write_total_buffered = store.gauge("filesystem.write_total_buffered");
  }

  dropped(): void {
    this.#store.counter("filesystem.write_dropped").inc();
  }
}

const standardPaths: Readonly<Record<string, string>> = { stdout: "/dev/stdout", stderr: "/dev/stderr" };
const standardFds: Readonly<Record<string, number>> = { "/dev/stdout": 1, "/dev/stderr": 2 };

interface Opened {
  readonly fd: number;
  /** stream: a non-blocking pipe or terminal. file: anything else. */
  readonly kind: "file" | "stream";
  /** Whether the descriptor is ours to close. */
  readonly owned: boolean;
}

/** Opens for appending. Throws the system's error. */
function openForAppend(path: string): Opened {
  let isStream = false;
  try {
    const stat = statSync(path);
    isStream = stat.isFIFO() || stat.isCharacterDevice();
    if (isStream) {
      // A named pipe without a reader cannot be opened for writing only, and would be lost whenever its reader is restarted.
      const access = stat.isFIFO() && !path.startsWith("/dev/std") ? constants.O_RDWR : constants.O_WRONLY;
      return { fd: openSync(path, access | constants.O_APPEND | constants.O_NONBLOCK | constants.O_NOCTTY), kind: "stream", owned: true };
    }
    return { fd: openSync(path, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT, newFileMode), kind: "file", owned: true };
  } catch (error) {
    const standard = standardFds[path];
    // A socket (journald) cannot be opened through /dev: use the descriptor the process was given.
    if (standard !== undefined) {
      fstatSync(standard);
      return { fd: standard, kind: "file", owned: false };
    }
    if ((error as NodeJS.ErrnoException).code !== "ENOENT" || isStream) throw error;
    return { fd: openSync(path, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT, newFileMode), kind: "file", owned: true };
  }
}

/** The descriptor's file position, which moves when an append has been done; undefined where the system does not say. */
function positionOf(fd: number): string | undefined {
  try {
    return readFileSync(`/proc/self/fdinfo/${fd}`, "latin1").split("\n", 1)[0];
  } catch {
    return undefined;
  }
}

const sleeper = new Int32Array(new SharedArrayBuffer(4));
function sleep(ms: number): void {
  Atomics.wait(sleeper, 0, 0, ms);
}

/** One open file. */
export class LogFile implements LogWriter {
  readonly path: string;
  readonly #options: LogFilesOptions;
  readonly #stats: FileStats | undefined;
  readonly #maxBufferedBytes: number;
  #opened: Opened;
  #pending = "";
  /** What is being written, and how much of it is. */
  #inFlight: Buffer | undefined = undefined;
  #written = 0;
  #positionBefore: string | undefined = undefined;
  /** A write of the thread pool is under way: its answer belongs to this generation unless flushSync took over. */
  #generation = 0;
  #busy = false;
  #timer: NodeJS.Timeout | undefined = undefined;
  #reopen = false;
  #closed = false;
  /** Entries that were dropped since the last one that was kept. */
  dropped = 0;

  constructor(path: string, options: LogFilesOptions, stats: FileStats | undefined) {
    this.path = path;
    this.#options = options;
    this.#stats = stats;
    this.#maxBufferedBytes = options.maxBufferedBytes ?? Math.max(defaultMaxBufferedBytes, options.flushMinBytes * 4);
    this.#opened = openForAppend(path);
  }

  write(text: string): void {
    if (this.#closed) return;
    const buffered = this.#pending.length + (this.#inFlight === undefined ? 0 : this.#inFlight.length - this.#written);
    if (buffered + text.length > this.#maxBufferedBytes) {
      this.dropped++;
      this.#stats?.dropped();
      return;
    }
    this.#pending += text;
    if (this.#stats !== undefined) {
      this.#stats.write_buffered.inc();
      this.#stats.write_total_buffered.add(text.length);
    }
    if (this.#busy) return;
    if (this.#pending.length >= this.#options.flushMinBytes) this.#start();
    else if (this.#timer === undefined) {
      this.#timer = setTimeout(this.#onTimer, this.#options.flushIntervalMs);
      this.#timer.unref();
    }
  }

  /** Takes the file by its name again (it has been rotated away). What is buffered goes to the old one. */
  reopen(): void {
    if (!this.#opened.owned || this.#closed) return;
    this.#reopen = true;
    if (!this.#busy) this.#start();
  }

  /** Writes everything now, blocking: for the end of the process. Waits at most a second for a reader or a write under way. */
  flushSync(): void {
    if (this.#timer !== undefined) clearTimeout(this.#timer);
    this.#timer = undefined;
    const deadline = performance.now() + flushSyncTimeoutMs;
    if (this.#busy && this.#opened.kind === "file" && this.#inFlight !== undefined) {
      // The thread pool has these bytes. Its answer cannot come while we block, so look whether the file has moved.
      while (this.#positionBefore !== undefined && positionOf(this.#opened.fd) === this.#positionBefore && performance.now() < deadline) sleep(1);
      this.#finished(this.#inFlight.length - this.#written);
      this.#inFlight = undefined;
    }
    this.#generation++;
    this.#busy = false;
    while (this.#inFlight !== undefined || this.#pending !== "") {
      if (this.#inFlight === undefined) this.#take();
      const progress = this.#writeStream();
      if (progress === "full") {
        if (performance.now() >= deadline) break;
        sleep(retryMs);
      }
    }
  }

  close(): void {
    this.flushSync();
    this.#closed = true;
    if (this.#opened.owned) closeSync(this.#opened.fd);
  }

  readonly #onTimer = (): void => {
    this.#timer = undefined;
    if (this.#busy || this.#pending === "") return;
    this.#stats?.flushed_by_timer.inc();
    this.#start();
  };

  #take(): void {
    this.#inFlight = Buffer.from(this.#pending, "latin1");
    this.#written = 0;
    this.#pending = "";
  }

  #start(): void {
    if (this.#timer !== undefined) clearTimeout(this.#timer);
    this.#timer = undefined;
    this.#busy = true;
    if (this.#pending === "") this.#next();
    else {
      this.#take();
      this.#go();
    }
  }

  /** Writes on with what is in flight. */
  #go(): void {
    const buffer = this.#inFlight;
    if (buffer === undefined) return;
    if (this.#opened.kind === "stream") {
      if (this.#writeStream() === "full") setTimeout(this.#onRetry, retryMs).unref();
      else this.#next();
      return;
    }
    const generation = this.#generation;
    this.#positionBefore = positionOf(this.#opened.fd);
    write(this.#opened.fd, buffer, this.#written, buffer.length - this.#written, null, (error, bytes) => {
      if (generation !== this.#generation) return;
      if (error !== null) this.#failed();
      else this.#finished(bytes);
      if (this.#inFlight !== undefined && error?.code === "EAGAIN") setTimeout(this.#onRetry, retryMs).unref();
      else if (this.#inFlight !== undefined) this.#go();
      else this.#next();
    });
  }

  readonly #onRetry = (): void => {
    if (this.#busy && this.#inFlight !== undefined) this.#go();
  };

  /** Writes to a descriptor that does not block, up to the end of what is in flight ("done") or until it takes no more ("full"). */
  #writeStream(): "done" | "full" {
    const buffer = this.#inFlight;
    if (buffer === undefined) return "done";
    while (this.#written < buffer.length) {
      let end = buffer.length;
      if (this.#opened.kind === "stream" && end - this.#written > pipeBuf) {
        const lineEnd = buffer.lastIndexOf(10, this.#written + pipeBuf - 1);
        end = lineEnd >= this.#written ? lineEnd + 1 : this.#written + pipeBuf;
      }
      try {
        const bytes = writeSync(this.#opened.fd, buffer, this.#written, end - this.#written, null);
        this.#written += bytes;
        this.#stats?.write_total_buffered.sub(bytes);
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === "EAGAIN") return "full";
        this.#failed();
        return "done";
      }
    }
    this.#stats?.write_completed.inc();
    this.#inFlight = undefined;
    return "done";
  }

  #finished(bytes: number): void {
    if (this.#inFlight === undefined) return;
    this.#written += bytes;
    this.#stats?.write_total_buffered.sub(bytes);
    if (this.#written < this.#inFlight.length) return;
    this.#stats?.write_completed.inc();
    this.#inFlight = undefined;
  }

  /** What could not be written is given up, as Envoy does: a full disk must not fill memory too. */
  #failed(): void {
    if (this.#inFlight === undefined) return;
    this.#stats?.write_failed.inc();
    this.#stats?.write_total_buffered.sub(this.#inFlight.length - this.#written);
    this.#inFlight = undefined;
  }

  /** After a write: reopen, write on, or rest. */
  #next(): void {
    if (this.#reopen) {
      this.#reopen = false;
      this.#reopenNow();
      return;
    }
    if (this.#pending.length >= Math.max(1, this.#options.flushMinBytes)) {
      this.#take();
      // Not in this turn: a fast stream must not keep the loop to itself.
      setImmediate(this.#onRetry);
      return;
    }
    this.#busy = false;
    if (this.#pending !== "" && this.#timer === undefined) {
      this.#timer = setTimeout(this.#onTimer, this.#options.flushIntervalMs);
      this.#timer.unref();
    }
  }

  #reopenNow(): void {
    const old = this.#opened;
    const replace = (opened: Opened): void => {
      this.#opened = opened;
      if (old.owned) close(old.fd, () => {});
    };
    if (old.kind === "stream") {
      try {
        replace(openForAppend(this.path));
      } catch {
        this.#stats?.reopen_failed.inc();
      }
      this.#next();
      return;
    }
    const generation = this.#generation;
    open(this.path, constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT, newFileMode, (error, fd) => {
      if (error !== null) this.#stats?.reopen_failed.inc();
      else if (this.#closed) close(fd, () => {});
      else replace({ fd, kind: "file", owned: true });
      if (generation === this.#generation) this.#next();
    });
  }
}

/** All log files of a thread; loggers of one path share the file. */
export class LogFiles {
  readonly #options: LogFilesOptions;
  readonly #stats: FileStats | undefined;
  readonly #files = new Map<string, LogFile>();

  constructor(options: LogFilesOptions) {
    this.#options = options;
    this.#stats = options.stats === undefined ? undefined : new FileStats(options.stats);
  }

  /** Opens a target, or gives what is open already. Throws the system's error where it cannot be opened. */
  open(target: LogTarget): LogFile {
    const path = target.kind === "file" ? target.path : standardPaths[target.kind];
    let file = this.#files.get(path);
    if (file === undefined) {
      file = new LogFile(path, this.#options, this.#stats);
      this.#files.set(path, file);
    }
    return file;
  }

  /** After a rotation: SIGUSR1, POST /reopen_logs. */
  reopen(): void {
    for (const file of this.#files.values()) file.reopen();
  }

  flushSync(): void {
    for (const file of this.#files.values()) file.flushSync();
  }

  /** Writes everything and closes all files. */
  close(): void {
    for (const file of this.#files.values()) file.close();
    this.#files.clear();
  }
}
