/** multilog's script: one action an argument, run in order for each line. */
import { openSync, writeSync } from "node:fs";
import { complain } from "../messages.ts";
import { SuperviseError } from "../status-files.ts";
import { LogDirectory } from "./log-directory.ts";
import { matches } from "./pattern.ts";
import { STAMP_BYTES, StampWriter } from "./stamp-writer.ts";
import { StandardOutput } from "./standard-output.ts";
import { untilDone } from "./trouble.ts";

const NEWLINE = 0x0a;
/** Patterns, `e` and `=` see this much of a line. */
const SEEN_BYTES = 1000;
const STDERR_BYTES = 200;
const STATUS_BYTES = 1001;
const READ_BYTES = 65536;
const MIN_FEED_BYTES = 2048;
/** Stamped lines gather here before they go to the logs. */
const GATHER_BYTES = 65536;

const MIN_SIZE = 4096;
const MAX_SIZE = 16_777_215;
const DEFAULT_SIZE = 99_999;
const DEFAULT_FILES = 10;

type Action =
  | { readonly kind: "select" | "deselect"; readonly pattern: Uint8Array }
  | { readonly kind: "stderr" }
  | { readonly kind: "status"; readonly fd: number; readonly name: string }
  | { readonly kind: "log"; readonly log: Sink };

/** Takes lines in pieces. */
type Sink = Pick<LogDirectory, "append" | "appendByte" | "flush" | "rotateIfUsed" | "close" | "begin" | "end" | "room">;

/** A decimal number at the start of `text`, else 0. */
function leadingNumber(text: string): number {
  return Number(/^[0-9]{1,15}/.exec(text)?.[0] ?? 0);
}

/** Lines in, files out. Everything is opened by the constructor, before any input may be read. */
export class Script {
  readonly #actions: Action[] = [];
  readonly #logs: Sink[] = [];
  readonly #stamps: boolean;
  /** Every line goes to every log, unchanged. */
  readonly #isPlain: boolean;
  /** The same but for its stamp. */
  readonly #isStamped: boolean;
  readonly #stamp = new StampWriter();
  readonly #gathered: Buffer = Buffer.alloc(0);
  /** The start of the line that is being read, stamp included. */
  readonly #head = Buffer.allocUnsafe(SEEN_BYTES + 1);
  #headLength = 0;
  #isInLine = false;
  /** The line was longer than what the actions look at: these take the rest. */
  #decided: Sink[] | undefined;

  /** Takes what is being fed out of the pipe, once. */
  #takeOut: (() => void) | undefined;
  readonly #rotating = new Set<Sink>();

  /** `pipeHead`: what stands in the pipe that is going to be fed, when it can be looked at. */
  constructor(script: readonly string[], pipeHead?: () => Uint8Array | undefined) {
    let maxBytes = DEFAULT_SIZE;
    let maxFiles = DEFAULT_FILES;
    let processor: string | undefined;
    this.#stamps = script[0]?.startsWith("t") ?? false;
    // Before any directory is touched, in case one cannot be made.
    const statusFiles = script.filter((word) => word.startsWith("=")).map((word) => openStatus(utf8(word.slice(1))));
    for (const word of script) {
      const rest = word.slice(1);
      switch (word[0]) {
        case "+":
        case "-":
          this.#actions.push({ kind: word[0] === "+" ? "select" : "deselect", pattern: Buffer.from(rest, "latin1") });
          break;
        case "e":
          this.#actions.push({ kind: "stderr" });
          break;
        case "=":
          this.#actions.push({ kind: "status", fd: statusFiles.shift() as number, name: utf8(rest) });
          break;
        case "s":
          maxBytes = Math.min(MAX_SIZE, Math.max(MIN_SIZE, leadingNumber(rest)));
          break;
        case "n":
          maxFiles = Math.max(2, leadingNumber(rest));
          break;
        case "!":
          processor = rest === "" ? undefined : utf8(rest);
          break;
        case ".":
        case "/": {
          const log: LogDirectory = new LogDirectory(utf8(word), { maxBytes, maxFiles, processor, pipeHead, onRotation: () => this.#beforeRotation(log) });
          this.#logs.push(log);
          this.#actions.push({ kind: "log", log });
          break;
        }
        case "o": {
          // Ours: the original ignores it.
          const log = new StandardOutput(this.#stamps ? STAMP_BYTES : 0);
          this.#logs.push(log);
          this.#actions.push({ kind: "log", log });
          break;
        }
        default: // `t` counts at the very front only; anything else means nothing
      }
    }
    const isAll = this.#actions.every((action) => action.kind === "log" && action.log instanceof LogDirectory);
    this.#isPlain = isAll && !this.#stamps;
    this.#isStamped = isAll && this.#stamps;
    if (this.#isStamped) this.#gathered = Buffer.allocUnsafe(GATHER_BYTES);
  }

  get isInLine(): boolean {
    return this.#isInLine;
  }

  /** How much is worth looking at: what fits into the files that are open. */
  get room(): number {
    return Math.max(MIN_FEED_BYTES, Math.min(READ_BYTES, ...this.#logs.map((log) => log.room)));
  }

  /**
   * How much of it to feed at a time: whole lines, and so many that a file becomes full only at the end of them, for while one is finished there is
   * no note that tells how to take back what is under way. All when there is no whole line.
   */
  fit(bytes: Buffer): number {
    if (!this.#stamps) return bytes.lastIndexOf(NEWLINE) + 1 || bytes.length;
    const { room } = this;
    let end = 0;
    for (let size = 0; ; ) {
      const newline = bytes.indexOf(NEWLINE, end);
      if (newline < 0) break;
      size += STAMP_BYTES + newline + 1 - end;
      if (size > room && end > 0) break;
      end = newline + 1;
    }
    return end || bytes.length;
  }

  /**
   * Takes what was read and has it written when it returns, but for the start of an unfinished line. With `take` the bytes are still in the pipe;
   * it is called when they are in the files.
   */
  feed(bytes: Buffer, take?: () => void): void {
    if (take !== undefined) {
      if (this.#logs.map((log) => log.begin(bytes)).every(Boolean)) this.#takeOut = take;
      else take();
    }
    this.#write(bytes);
    this.#settle();
  }

  #beforeRotation(log: Sink): void {
    if (this.#takeOut === undefined) return;
    this.#rotating.add(log);
    for (const other of this.#logs) if (!this.#rotating.has(other)) other.flush();
    this.#rotating.delete(log);
    this.#settle();
  }

  #settle(): void {
    if (this.#takeOut === undefined) return;
    this.#takeOut();
    this.#takeOut = undefined;
    for (const log of this.#logs) log.end();
  }

  #write(bytes: Buffer): void {
    if (this.#isPlain) {
      for (const log of this.#logs) log.append(bytes, 0, bytes.length);
      if (bytes.length > 0) this.#isInLine = bytes[bytes.length - 1] !== NEWLINE;
    } else if (this.#isStamped) {
      this.#stampAll(bytes);
    } else {
      let from = 0;
      while (from < bytes.length) {
        const newline = bytes.indexOf(NEWLINE, from);
        this.#take(bytes, from, newline < 0 ? bytes.length : newline);
        if (newline < 0) break;
        this.#endLine();
        from = newline + 1;
      }
    }
    for (const log of this.#logs) log.flush();
  }

  /** Byte by byte, since a call for each line would cost more than the bytes of one that is short. */
  #stampAll(bytes: Buffer): void {
    const out = this.#gathered;
    const length = bytes.length;
    let isInLine = this.#isInLine;
    let at = 0;
    for (let from = 0; from < length; ) {
      if (out.length - at < STAMP_BYTES + 1) {
        for (const log of this.#logs) log.append(out, 0, at);
        at = 0;
      }
      if (!isInLine) at = this.#stamp.write(out, at);
      isInLine = true;
      const end = Math.min(length, from + out.length - at);
      while (from < end) {
        const byte = bytes[from++];
        out[at++] = byte;
        if (byte === NEWLINE) {
          isInLine = false;
          break;
        }
      }
    }
    this.#isInLine = isInLine;
    for (const log of this.#logs) log.append(out, 0, at);
  }

  /** A part of a line, without its newline. */
  #take(bytes: Buffer, start: number, end: number): void {
    if (!this.#isInLine) {
      this.#isInLine = true;
      this.#headLength = this.#stamps ? this.#stamp.write(this.#head, 0) : 0;
    }
    let from = start;
    if (this.#decided === undefined) {
      // One byte more than the actions see tells a line of exactly that length from a longer one.
      const length = Math.min(end - from, this.#head.length - this.#headLength);
      this.#headLength += bytes.copy(this.#head, this.#headLength, from, from + length);
      from += length;
      if (this.#headLength > SEEN_BYTES) {
        this.#decided = this.#decide(SEEN_BYTES);
        for (const log of this.#decided) log.append(this.#head, 0, this.#headLength);
      }
    }
    if (from < end && this.#decided !== undefined) for (const log of this.#decided) log.append(bytes, from, end);
  }

  #endLine(): void {
    let logs = this.#decided;
    if (logs === undefined) {
      logs = this.#decide(this.#headLength);
      for (const log of logs) log.append(this.#head, 0, this.#headLength);
    }
    for (const log of logs) log.appendByte(NEWLINE);
    this.#decided = undefined;
    this.#isInLine = false;
    this.#headLength = 0;
  }

  /** Runs the actions over the first `length` bytes of the line; the logs that take it. */
  #decide(length: number): Sink[] {
    const head = this.#head;
    const logs: Sink[] = [];
    let isSelected = true;
    for (const action of this.#actions) {
      switch (action.kind) {
        case "select":
          if (!isSelected && matches(action.pattern, head, 0, length)) isSelected = true;
          break;
        case "deselect":
          if (isSelected && matches(action.pattern, head, 0, length)) isSelected = false;
          break;
        case "stderr":
          if (isSelected) toStderr(head, length);
          break;
        case "status":
          if (isSelected) writeStatusFile(action.fd, action.name, head, length);
          break;
        case "log":
          if (isSelected) logs.push(action.log);
          break;
      }
    }
    return logs;
  }

  rotate(): void {
    for (const log of this.#logs) log.rotateIfUsed();
  }

  /** The end of input: a last line gets its newline, everything is flushed. */
  close(): void {
    if (this.#isInLine) this.feed(Buffer.from("\n"));
    for (const log of this.#logs) log.close();
  }
}

function utf8(latin1: string): string {
  return Buffer.from(latin1, "latin1").toString("utf8");
}

function openStatus(name: string): number {
  try {
    return openSync(name, "w", 0o600);
  } catch (error) {
    throw new SuperviseError(`unable to create ${name}`, error);
  }
}

function toStderr(head: Buffer, length: number): void {
  const isWhole = length <= STDERR_BYTES;
  const text = Buffer.concat([head.subarray(0, isWhole ? length : STDERR_BYTES), Buffer.from(isWhole ? "\n" : "...\n")]);
  complain(text);
}

function writeStatusFile(fd: number, name: string, head: Buffer, length: number): void {
  const record = Buffer.alloc(STATUS_BYTES, NEWLINE);
  head.copy(record, 0, 0, Math.min(length, STATUS_BYTES - 1));
  untilDone(`unable to write ${name}`, () => {
    for (let offset = 0; offset < record.length; ) offset += writeSync(fd, record, offset, record.length - offset, offset);
  });
}
