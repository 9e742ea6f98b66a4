/** Lines of one log directory, and several of them merged by time. */
import type { Time } from "../tai64n.ts";
import { type CursorStart, LogCursor } from "./log-cursor.ts";
import { isBefore, type Stamped, stampOf } from "./stamps.ts";

const NEWLINE = 0x0a;
/** A line that is longer comes in pieces. */
const MAX_PIECE_BYTES = 1 << 20;
/** A line, or a part of a very long one. */
export interface Piece {
  /** As in the file, without the newline. */
  readonly bytes: Buffer;
  readonly stamp: Stamped | undefined;
  /** Of the stamp, else of the line before. */
  readonly time: Time | undefined;
  readonly startsLine: boolean;
  readonly endsLine: boolean;
}

export class LogSource {
  readonly name: string;
  readonly #cursor: LogCursor;
  readonly #since: Time | undefined;
  readonly #pieces: Piece[] = [];
  /** Bytes without a newline as yet. */
  #open: Buffer[] = [];
  #openBytes = 0;
  #isInLine = false;
  #time: Time | undefined;
  #isSkipping: boolean;

  constructor(name: string, directory: string, start: CursorStart) {
    this.name = name;
    this.#cursor = new LogCursor(directory, start);
    this.#since = start.since;
    this.#isSkipping = start.since !== undefined;
  }

  /** The next piece without taking it; undefined: no whole line for now. Throws when the directory is gone. */
  peek(): Piece | undefined {
    while (this.#pieces.length === 0) {
      const chunk = this.#cursor.read();
      if (chunk === undefined) return undefined;
      if (chunk.isFileStart && this.#openBytes + (this.#isInLine ? 1 : 0) > 0 && stampOf(chunk.bytes) !== undefined) this.finish();
      this.#split(chunk.bytes);
      this.#pieces.reverse(); // taken from the end
    }
    return this.#pieces.at(-1);
  }

  take(): void {
    this.#pieces.pop();
  }

  /** A last line without a newline counts as ended. */
  finish(): void {
    if (this.#openBytes > 0 || this.#isInLine) this.#push(this.#takeOpen(), true);
  }

  close(): void {
    this.#cursor.close();
  }

  #split(bytes: Buffer): void {
    let from = 0;
    for (let to = bytes.indexOf(NEWLINE); to >= 0; to = bytes.indexOf(NEWLINE, from)) {
      const end = bytes.subarray(from, to);
      this.#push(this.#openBytes === 0 ? end : Buffer.concat([...this.#takeOpenParts(), end]), true);
      from = to + 1;
    }
    if (from === bytes.length) return;
    this.#open.push(bytes.subarray(from));
    this.#openBytes += bytes.length - from;
    if (this.#openBytes >= MAX_PIECE_BYTES) this.#push(this.#takeOpen(), false);
  }

  #takeOpen(): Buffer {
    return Buffer.concat(this.#takeOpenParts());
  }

  #takeOpenParts(): Buffer[] {
    const parts = this.#open;
    this.#open = [];
    this.#openBytes = 0;
    return parts;
  }

  #push(bytes: Buffer, endsLine: boolean): void {
    const startsLine = !this.#isInLine;
    this.#isInLine = !endsLine;
    const stamp = startsLine ? stampOf(bytes) : undefined;
    if (stamp !== undefined) {
      this.#time = stamp.time;
      // Lines are in the order of their time but for clocks that are set back: from the first one that counts on, all do.
      if (this.#isSkipping && this.#since !== undefined && !isBefore(stamp.time, this.#since)) this.#isSkipping = false;
    } else if (this.#time === undefined) {
      this.#isSkipping = false; // no stamps in here: the times of the files are all there is
    }
    if (!this.#isSkipping) this.#pieces.push({ bytes, stamp, time: this.#time, startsLine, endsLine });
  }
}

/** Merges what the sources have by now, oldest first; a line without a time goes before those with one. */
export class Merge {
  readonly #sources: readonly LogSource[];
  /** In the middle of a line that comes in pieces. */
  #current: LogSource | undefined;

  constructor(sources: readonly LogSource[]) {
    this.#sources = sources;
  }

  /** Hands every piece on, then returns. */
  drain(each: (source: LogSource, piece: Piece) => void): void {
    for (;;) {
      const source = this.#current ?? this.#oldest();
      const piece = source?.peek();
      if (source === undefined || piece === undefined) return;
      source.take();
      this.#current = piece.endsLine ? undefined : source;
      each(source, piece);
    }
  }

  #oldest(): LogSource | undefined {
    if (this.#sources.length === 1) return this.#sources[0];
    let best: LogSource | undefined;
    let bestTime: Time | undefined;
    for (const source of this.#sources) {
      const piece = source.peek();
      if (piece === undefined) continue;
      if (best === undefined || (bestTime !== undefined && (piece.time === undefined || isBefore(piece.time, bestTime)))) {
        best = source;
        bestTime = piece.time;
      }
    }
    return best;
  }
}
