/**
 * Reads a log directory as one stream of bytes: finished files `@STAMP.s` and `.u` by name, then `previous` while a rotation is under way, then
 * `current`. A cursor at the end goes on from there when more is written, over any number of rotations: it keeps its file open, and goes to the next
 * file only when there is one, for then its own is complete.
 */
import { closeSync, fstatSync, openSync, readdirSync, readSync, type Stats, statSync } from "node:fs";
import { join } from "node:path";
import { gunzipSync, zstdDecompressSync } from "node:zlib";
import { errorCode } from "../messages.ts";
import type { Time } from "../tai64n.ts";
import { isBefore, timeOfName } from "./stamps.ts";

const BLOCK_BYTES = 65_536;
const NEWLINE = 0x0a;
/** Compressed files are unpacked in memory; what is larger than this unpacked is not shown. */
const MAX_UNPACKED_BYTES = 256 * 1024 * 1024;
const MIN_OLD_NAME = 25;
const TRIES = 20;

interface LogFile {
  readonly name: string;
  readonly inode: number;
}

export interface CursorStart {
  /** Begin with the last so many lines. */
  readonly lines?: number;
  /** Leave out files that were finished before. Lines are the caller's to leave out. */
  readonly since?: Time;
}

interface Listing {
  /** In the order of what they hold. */
  readonly files: readonly LogFile[];
  /** A rotation is under way, whose result has no name of its own yet. */
  readonly isRotating: boolean;
  /** A processor works, or has left its result there for a moment. */
  readonly isProcessing: boolean;
  /** Changes with each file that a processor has worked on, a moment after that file is gone. */
  readonly processed: string;
}

/** What a directory holds outside its finished files. */
function inMotion(directory: string): { current?: number; previous?: number; processed?: number; state: string } {
  const current = stat(join(directory, "current"))?.ino;
  const previous = stat(join(directory, "previous"))?.ino;
  const processed = stat(join(directory, "processed"))?.ino;
  const state = stat(join(directory, "state"));
  return { current, previous, processed, state: state === undefined ? "" : `${state.ino} ${state.mtimeMs} ${state.ctimeMs}` };
}

/**
 * One with two names, in the middle of a rotation, counts once. A rotation moves a file from `current` to `previous` to `@STAMP.s`: looked at in this
 * order none is missed, though one may be seen twice, and newer ones may not be seen yet. Where a processor makes other files of them, that is not
 * enough: then the picture has to be of one moment.
 */
function list(directory: string): Listing {
  for (let tries = 0; ; tries++) {
    const before = inMotion(directory);
    const names = readdirSync(directory).filter((name) => name.startsWith("@") && name.length >= MIN_OLD_NAME);
    const files: LogFile[] = [];
    const seen = new Set<number>();
    const add = (name: string, inode: number | undefined): void => {
      if (inode === undefined || seen.has(inode)) return;
      seen.add(inode);
      files.push({ name, inode });
    };
    for (const name of names.sort()) add(name, stat(join(directory, name))?.ino);
    const { current, previous, processed } = before;
    const isRotating = [previous, processed].some((inode) => inode !== undefined && !seen.has(inode));
    add("previous", previous);
    add("current", current);
    const after = inMotion(directory);
    const isOneMoment = after.current === current && after.previous === previous && after.processed === processed && after.state === before.state;
    if (isOneMoment || tries >= TRIES) return { files, isRotating, isProcessing: processed !== undefined, processed: before.state };
  }
}

function stat(path: string): Stats | undefined {
  try {
    return statSync(path);
  } catch (error) {
    if (errorCode(error) === "ENOENT") return undefined;
    throw error;
  }
}

/** An open file, or what a compressed one unpacks to. */
class Content {
  readonly inode: number;
  readonly #fd: number;
  readonly #unpacked: Buffer | undefined;

  /** Undefined when the name is another file's by now. */
  static open(directory: string, file: LogFile): Content | undefined {
    let fd: number;
    try {
      fd = openSync(join(directory, file.name), "r");
    } catch (error) {
      if (errorCode(error) === "ENOENT") return undefined;
      throw error;
    }
    if (fstatSync(fd).ino !== file.inode) {
      closeSync(fd);
      return undefined;
    }
    return new Content(fd, file);
  }

  private constructor(fd: number, file: LogFile) {
    this.#fd = fd;
    this.inode = file.inode;
    if (file.name.startsWith("@")) this.#unpacked = unpack(fd);
  }

  get bytes(): number {
    return this.#unpacked?.length ?? fstatSync(this.#fd).size;
  }

  /** A fresh buffer; empty at the end. */
  read(offset: number, length: number): Buffer {
    if (this.#unpacked !== undefined) return this.#unpacked.subarray(offset, offset + length);
    const buffer = Buffer.allocUnsafe(length);
    return buffer.subarray(0, readSync(this.#fd, buffer, 0, length, offset));
  }

  close(): void {
    closeSync(this.#fd);
  }
}

/** What a processor may have made of a finished file; undefined when it is plain. */
function unpack(fd: number): Buffer | undefined {
  const magic = Buffer.alloc(4);
  readSync(fd, magic, 0, 4, 0);
  const isGzip = magic.readUInt16BE() === 0x1f8b;
  if (!isGzip && magic.readUInt32BE() !== 0x28b52ffd) return undefined;
  const packed = Buffer.alloc(fstatSync(fd).size);
  readSync(fd, packed, 0, packed.length, 0);
  try {
    return (isGzip ? gunzipSync : zstdDecompressSync)(packed, { maxOutputLength: MAX_UNPACKED_BYTES });
  } catch {
    return Buffer.from("(this log file is compressed and damaged)\n");
  }
}

export interface Chunk {
  readonly bytes: Buffer;
  /** The first of a file: a line that the file before left open has ended if this begins with a stamp. */
  readonly isFileStart: boolean;
}

export class LogCursor {
  readonly directory: string;
  #content: Content | undefined;
  #offset = 0;
  #isFileStart = true;
  /** Whether the open file was finished when it was opened. */
  #isFinished = false;
  /** The open file if it was, else the newest finished one at that time. */
  #newest = "";
  /** What a processor was doing when the open file was last seen. */
  #last: Pick<Listing, "isRotating" | "processed"> = { isRotating: false, processed: "" };

  /** Throws when the directory cannot be read or has no log in it. */
  constructor(directory: string, start: CursorStart = {}) {
    this.directory = directory;
    for (let tries = 0; this.#content === undefined; tries++) {
      const listing = list(directory);
      if (listing.files.length === 0) throw Object.assign(new Error("no log"), { code: "ENOENT" });
      if (!this.#begin(listing, start) && tries >= TRIES) throw new Error("the log changes faster than it can be read");
    }
  }

  /** False when a rotation came in between. */
  #begin(listing: Listing, start: CursorStart): boolean {
    const { files } = listing;
    const { since } = start;
    let first = 0;
    if (since !== undefined) first = files.findIndex((file) => !file.name.startsWith("@") || !isBefore(timeOfName(file.name) ?? since, since));
    if (first < 0) first = files.length - 1;
    if (start.lines === undefined) return this.#open(files[first], listing, 0);
    let newlines = start.lines;
    let isEnd = true;
    for (let i = files.length - 1; i >= first; i--) {
      const content = Content.open(this.directory, files[i]);
      if (content === undefined) return false;
      const { bytes } = content;
      // The newline that ends the last line begins none.
      if (isEnd && bytes > 0) {
        if (content.read(bytes - 1, 1)[0] === NEWLINE) newlines++;
        isEnd = false;
      }
      const found = start.lines === 0 ? bytes : backward(content, bytes, newlines);
      content.close();
      if (typeof found === "number") return this.#open(files[i], listing, found);
      newlines -= found.newlines;
    }
    return this.#open(files[first], listing, 0);
  }

  #open(file: LogFile, listing: Listing, offset: number): boolean {
    const content = Content.open(this.directory, file);
    if (content === undefined) return false;
    this.#content?.close();
    this.#content = content;
    this.#offset = offset;
    this.#isFileStart = true;
    this.#isFinished = file.name.startsWith("@");
    this.#newest = file.name;
    if (!this.#isFinished) this.#remember(file, listing);
    return true;
  }

  /** Of the unfinished open file: what is there before it, so that what comes later can be told from it. */
  #remember(file: LogFile, listing: Listing): void {
    this.#newest = listing.files.findLast((one) => one.name.startsWith("@"))?.name ?? "";
    // What is made of `previous` when that is the open file is no other file's.
    this.#last = { isRotating: listing.isRotating && file.name === "current", processed: listing.processed };
  }

  /** What comes next; undefined: that was all, for now. Throws when the directory is gone. */
  read(): Chunk | undefined {
    for (let tries = 0; tries < TRIES; tries++) {
      const chunk = this.#readOpen();
      if (chunk !== undefined) return chunk;
      const listing = list(this.directory);
      const next = this.#next(listing);
      if (next === undefined) return undefined;
      // There is a next file, so nothing is written to this one any more: what came since the last read is its end.
      const rest = this.#readOpen();
      if (rest !== undefined) return rest;
      this.#open(next, listing, 0);
    }
    return undefined;
  }

  #readOpen(): Chunk | undefined {
    if (this.#content === undefined) return undefined;
    const bytes = this.#content.read(this.#offset, BLOCK_BYTES);
    if (bytes.length === 0) return undefined;
    const chunk = { bytes, isFileStart: this.#isFileStart };
    this.#offset += bytes.length;
    this.#isFileStart = false;
    return chunk;
  }

  /** The file behind the open one. */
  #next(listing: Listing): LogFile | undefined {
    const { files } = listing;
    const at = files.findIndex((file) => file.inode === this.#content?.inode);
    if (at >= 0) {
      if (!files[at].name.startsWith("@")) this.#remember(files[at], listing);
      return files[at + 1];
    }
    // It has been removed as the oldest, or a processor made another file of it: the first new one, or the second when one was being made already.
    const rest = files.filter((file) => !file.name.startsWith("@") || file.name > this.#newest);
    const isProcessed = listing.isProcessing || listing.processed !== this.#last.processed;
    if (this.#isFinished || !isProcessed) return rest[0];
    const made = rest.filter((file) => file.name.startsWith("@")).length;
    return rest[Math.min(made, this.#last.isRotating ? 2 : 1)];
  }

  close(): void {
    this.#content?.close();
    this.#content = undefined;
  }
}

/** Where the last `newlines` newlines before `end` begin: the offset behind the first of them, or how many there are when there are fewer. */
function backward(content: Content, end: number, newlines: number): number | { readonly newlines: number } {
  let seen = 0;
  for (let to = end; to > 0; ) {
    const from = Math.max(0, to - BLOCK_BYTES);
    const block = content.read(from, to - from);
    for (let at = block.lastIndexOf(NEWLINE); at >= 0; at = at === 0 ? -1 : block.lastIndexOf(NEWLINE, at - 1)) {
      seen++;
      if (seen === newlines) return from + at + 1;
    }
    to = from;
  }
  return { newlines: seen };
}

/** The last line of a log directory, without its newline and at most so many bytes of its beginning that fit; undefined when there is none. */
export function lastLine(directory: string): Buffer | undefined {
  let cursor: LogCursor;
  try {
    cursor = new LogCursor(directory, { lines: 1 });
  } catch {
    return undefined;
  }
  try {
    let line = Buffer.alloc(0);
    for (let chunk = cursor.read(); chunk !== undefined && line.length < BLOCK_BYTES; chunk = cursor.read()) {
      // Written meanwhile: still the line that was the last one, unless that was empty.
      const end = chunk.bytes.indexOf(NEWLINE);
      line = Buffer.concat([line, end < 0 ? chunk.bytes : chunk.bytes.subarray(0, end)]);
      if (end >= 0) break;
    }
    return line.length === 0 ? undefined : line;
  } finally {
    cursor.close();
  }
}
