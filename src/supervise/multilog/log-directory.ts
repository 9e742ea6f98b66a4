/** One log directory of multilog: current, finished files @STAMP.s and .u, rotation, recovery after a crash, processors. */
import { spawnSync } from "node:child_process";
import {
  chmodSync,
  closeSync,
  constants,
  fchmodSync,
  fstatSync,
  fsyncSync,
  linkSync,
  mkdirSync,
  openSync,
  readdirSync,
  renameSync,
  type Stats,
  statSync,
  truncateSync,
  unlinkSync,
  writeSync,
} from "node:fs";
import { withOriginalOpenFilesLimit } from "../../os/open-files.ts";
import { systemOs } from "../../os/os.ts";
import { type PinnedDirectory, pinDirectory } from "../../os/pinned-directory.ts";
import { errorCode, warn } from "../messages.ts";
import { SuperviseError } from "../status-files.ts";
import { stamp } from "../tai64n.ts";
import { Journal, readJournal, type UnderWay } from "./journal.ts";
import { pause, untilDone } from "./trouble.ts";

const NEWLINE = 0x0a;
/** A file is closed early when a line ends this close to its size. */
const EARLY_BYTES = 2000;
/** Of a finished file's name: `@` and the stamp. */
const MIN_OLD_NAME = 25;
/** A time that exists; seconds from 2^63 on are reserved. */
const STAMP = /^@[0-7][0-9a-f]{15}[0-3][0-9a-f]{7}/;

/** A nanosecond later. */
function following(label: string): string {
  const nanoseconds = Number.parseInt(label.slice(17), 16) + 1;
  if (nanoseconds < 1_000_000_000) return `${label.slice(0, 17)}${nanoseconds.toString(16).padStart(8, "0")}`;
  return `@${(BigInt(`0x${label.slice(1, 17)}`) + 1n).toString(16).padStart(16, "0")}00000000`;
}

export interface LogSettings {
  readonly maxBytes: number;
  /** Files in all, `current` included. */
  readonly maxFiles: number;
  /** Shell command. */
  readonly processor: string | undefined;
  /** What stands in the pipe that is going to be read; undefined when nobody can look. */
  readonly pipeHead?: () => Uint8Array | undefined;
  /** Before a file is finished while bytes are under way: see `begin`. */
  readonly onRotation?: () => void;
}

export class LogDirectory {
  readonly #name: string;
  readonly #settings: LogSettings;
  readonly #directory: PinnedDirectory;
  readonly #journal: Journal;
  #current = -1;
  #inode = 0n;
  #bytes = 0;
  /** The greatest stamp of a finished file; undefined before the directory has been read for it. */
  #newest: string | undefined;
  /** What is to be written, in order. */
  #buffer = Buffer.allocUnsafe(65536);
  #length = 0;

  /** Locks the directory and recovers what a crash left, or throws a SuperviseError with multilog's message. */
  constructor(name: string, settings: LogSettings) {
    this.#name = name;
    this.#settings = settings;
    try {
      mkdirSync(name, 0o700);
    } catch {
      // is there, or opening it says what is wrong
    }
    try {
      this.#directory = pinDirectory(name);
    } catch (error) {
      throw new SuperviseError(`unable to open directory ${name}`, error);
    }
    try {
      const lock = openSync(this.#path("lock"), constants.O_WRONLY | constants.O_CREAT | constants.O_NONBLOCK, 0o600);
      systemOs().flock(lock, false); // for the life of the process
      const underWay = readJournal(this.#path("lock"));
      this.#journal = new Journal(lock);
      if (underWay !== undefined) this.#takeBack(underWay);
    } catch (error) {
      throw new SuperviseError(`unable to lock directory ${name}`, error);
    }
    this.#recover();
  }

  /** What a killed predecessor has written of bytes that are still in the pipe: they come again. */
  #takeBack(underWay: UnderWay): void {
    try {
      const { ino, size, mode } = statSync(this.#path("current"), { bigint: true });
      if ((mode & 0o100n) !== 0n || ino !== underWay.inode || Number(size) <= underWay.size) return;
      const head = this.#settings.pipeHead?.();
      if (head !== undefined && underWay.isHeadOf(head)) truncateSync(this.#path("current"), underWay.size);
    } catch {
      // then they are there twice
    }
  }

  /** `bytes` have been looked at and not been taken from the pipe yet; what is appended until `end` comes of them. False: that cannot be noted. */
  begin(bytes: Uint8Array): boolean {
    if (!this.#journal.isUsable) return false;
    this.#journal.begin(bytes, this.#inode, this.#bytes);
    return true;
  }

  /** What fits into the current file, bytes. */
  get room(): number {
    return this.#settings.maxBytes - this.#bytes - this.#length;
  }

  end(): void {
    this.#journal.end();
  }

  #path(file: string): string {
    return `${this.#directory.base}/${file}`;
  }

  #stat(file: string): Stats | undefined {
    try {
      return statSync(this.#path(file));
    } catch (error) {
      if (errorCode(error) === "ENOENT") return undefined;
      throw new SuperviseError(`unable to stat ${this.#name}/${file}`, error);
    }
  }

  #recover(): void {
    const current = this.#stat("current");
    try {
      if (current !== undefined && (current.mode & 0o100) !== 0) {
        // No crash leaves this beside a clean file; the next rotation would put its own in the place of it.
        this.#finish("previous", "u");
        this.#openCurrent();
        this.#bytes = fstatSync(this.#current).size;
        fchmodSync(this.#current, 0o644);
        return;
      }
      this.#remove("state");
      this.#remove("newstate");
      const processed = this.#stat("processed");
      if (processed !== undefined && (processed.mode & 0o100) !== 0) {
        this.#remove("previous");
        this.#finish("processed", "s");
      } else {
        this.#remove("processed");
        this.#finish("previous", "u");
      }
      this.#finish("current", "u");
      const state = openSync(this.#path("state"), "w", 0o644);
      fchmodSync(state, 0o644);
      closeSync(state);
      this.#openCurrent();
    } catch (error) {
      if (error instanceof SuperviseError) throw error;
      throw new SuperviseError(`unable to start directory ${this.#name}`, error);
    }
  }

  #openCurrent(): void {
    this.#current = openSync(this.#path("current"), constants.O_WRONLY | constants.O_APPEND | constants.O_CREAT | constants.O_NONBLOCK, 0o600);
    fchmodSync(this.#current, 0o644);
    this.#bytes = 0;
    this.#inode = fstatSync(this.#current, { bigint: true }).ino;
  }

  #remove(file: string): void {
    untilDone(`unable to remove ${this.#name}/${file}`, () => {
      try {
        unlinkSync(this.#path(file));
      } catch (error) {
        if (errorCode(error) !== "ENOENT") throw error;
      }
    });
  }

  /** Gives a file its final name, `@STAMP.code`, then removes the oldest ones. */
  #finish(file: string, code: "s" | "u"): void {
    const stats = untilDone(`unable to stat ${this.#name}/${file}`, () => this.#stat(file));
    if (stats === undefined) return;
    // Two names: a crash came between link and unlink.
    if (stats.nlink === 1) {
      untilDone(`unable to link to ${this.#name}/${file}`, () => {
        for (;;) {
          try {
            linkSync(this.#path(file), this.#path(`${this.#nextStamp()}.${code}`));
            return;
          } catch (error) {
            if (errorCode(error) !== "EEXIST") throw error;
          }
        }
      });
    }
    this.#remove(file);
    this.#prune();
  }

  /**
   * The time, or a nanosecond after the newest file there is: a clock that was set back would make the newest file look like the oldest, which is the
   * one that is removed.
   */
  #nextStamp(): string {
    this.#newest ??= this.#oldNames()
      .filter((name) => STAMP.test(name))
      .reduce((greatest, name) => (name > greatest ? name.slice(0, MIN_OLD_NAME) : greatest), "");
    const time = stamp();
    this.#newest = time > this.#newest ? time : following(this.#newest);
    return this.#newest;
  }

  #oldNames(): string[] {
    const names = untilDone(`unable to read directory ${this.#name}`, () => readdirSync(this.#directory.base));
    return names.filter((name) => name.startsWith("@") && name.length >= MIN_OLD_NAME);
  }

  #prune(): void {
    const old = this.#oldNames().sort();
    while (old.length >= this.#settings.maxFiles) this.#remove(old.shift() as string);
  }

  /** Takes bytes; they are on disk after `flush`. */
  append(bytes: Uint8Array, start: number, end: number): void {
    let from = start;
    while (from < end) {
      const room = this.#buffer.length - this.#length;
      const length = Math.min(room, end - from);
      this.#buffer.set(from === 0 && length === bytes.length ? bytes : bytes.subarray(from, from + length), this.#length);
      this.#length += length;
      from += length;
      if (this.#length === this.#buffer.length) this.flush();
    }
  }

  appendByte(byte: number): void {
    this.#buffer[this.#length++] = byte;
    if (this.#length === this.#buffer.length) this.flush();
  }

  /** Writes everything, over as many files as it takes. */
  flush(): void {
    const { maxBytes } = this.#settings;
    let offset = 0;
    while (offset < this.#length) {
      if (this.#bytes >= maxBytes) this.rotate();
      let length = Math.min(this.#length - offset, maxBytes - this.#bytes);
      if (this.#bytes + length >= maxBytes - EARLY_BYTES) {
        const newline = this.#buffer.lastIndexOf(NEWLINE, offset + length - 1);
        if (newline >= offset) length = newline + 1 - offset;
      }
      const from = offset;
      const written = untilDone(`unable to write to ${this.#name}/current`, () => writeSync(this.#current, this.#buffer, from, length));
      this.#bytes += written;
      offset += written;
      if (this.#bytes >= maxBytes - EARLY_BYTES && this.#buffer[offset - 1] === NEWLINE) this.rotate();
    }
    this.#length = 0;
  }

  /** Closes the current file and starts a new one; for ALRM only when it holds something. */
  rotateIfUsed(): void {
    this.flush();
    if (this.#bytes > 0) this.rotate();
  }

  rotate(): void {
    const name = this.#name;
    this.#settings.onRotation?.();
    untilDone(`unable to fsync ${name}/current`, () => fsyncSync(this.#current));
    closeSync(this.#current);
    untilDone(`unable to rename current to previous in directory ${name}`, () => renameSync(this.#path("current"), this.#path("previous")));
    untilDone(`unable to create ${name}/current`, () => this.#openCurrent());
    untilDone(`unable to set mode of ${name}/previous`, () => chmodSync(this.#path("previous"), 0o744));
    if (this.#settings.processor === undefined) {
      this.#finish("previous", "s");
      return;
    }
    while (!this.#process(this.#settings.processor)) pause();
    untilDone(`unable to remove ${name}/previous`, () => unlinkSync(this.#path("previous")));
    untilDone(`unable to rename newstate to state in directory ${name}`, () => renameSync(this.#path("newstate"), this.#path("state")));
    this.#finish("processed", "s");
  }

  /** Runs the processor from `previous` and `state` to `processed` and `newstate`; false when it failed. */
  #process(command: string): boolean {
    const name = this.#name;
    const open = (file: string, flags: string): number => untilDone(`unable to open ${name}/${file}`, () => openSync(this.#path(file), flags, 0o644));
    const previous = open("previous", "r");
    const processed = open("processed", "w");
    const state = open("state", "a+");
    const newState = open("newstate", "w");
    try {
      const result = withOriginalOpenFilesLimit(() =>
        spawnSync("/bin/sh", ["-c", command], {
          argv0: "sh",
          cwd: this.#directory.base,
          stdio: [previous, processed, "inherit", "ignore", state, newState],
        }),
      );
      if (result.error !== undefined) {
        warn("multilog", `unable to run processor in ${name}, pausing`, result.error);
        return false;
      }
      if (result.signal !== null) {
        warn("multilog", `processor crashed in ${name}, pausing: ${result.signal}`);
        return false;
      }
      if (result.status !== 0) {
        warn("multilog", `processor failed in ${name}, pausing`);
        return false;
      }
      untilDone(`unable to fsync ${name}/processed`, () => fsyncSync(processed));
      untilDone(`unable to set mode of ${name}/processed`, () => fchmodSync(processed, 0o744));
      untilDone(`unable to fsync ${name}/newstate`, () => fsyncSync(newState));
      return true;
    } finally {
      for (const fd of [previous, processed, state, newState]) closeSync(fd);
    }
  }

  /** A clean end: everything on disk, and `current` marked as complete. */
  close(): void {
    this.flush();
    untilDone(`unable to fsync ${this.#name}/current`, () => fsyncSync(this.#current));
    untilDone(`unable to set mode of ${this.#name}/current`, () => fchmodSync(this.#current, 0o744));
    closeSync(this.#current);
  }
}
