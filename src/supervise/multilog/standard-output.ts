/** The action `o`: selected lines to standard output, whole and without the stamp. For containers, whose log is what process 1 prints. */
import { errorCode, warn } from "../messages.ts";
import { writeAll } from "../write-all.ts";

const NEWLINE = 0x0a;
const STDOUT = 1;

export class StandardOutput {
  readonly #skip: number;
  #isLineStart = true;
  #isBroken = false;
  #pieces: Buffer[] = [];

  /** `skip`: bytes at the start of a line that are left out. */
  constructor(skip: number) {
    this.#skip = skip;
  }

  append(bytes: Uint8Array, start: number, end: number): void {
    const from = this.#isLineStart ? start + this.#skip : start;
    this.#isLineStart = false;
    if (from < end) this.#pieces.push(Buffer.from(bytes.subarray(from, end))); // a copy: the buffer is used again
  }

  appendByte(byte: number): void {
    this.#pieces.push(Buffer.of(byte));
    if (byte === NEWLINE) this.#isLineStart = true;
  }

  /** Waits while the reader is slow. When it has gone, the files are what counts: said once. */
  flush(): void {
    if (this.#pieces.length === 0) return;
    const bytes = Buffer.concat(this.#pieces);
    this.#pieces = [];
    if (this.#isBroken) return;
    try {
      writeAll(STDOUT, bytes);
    } catch (error) {
      this.#isBroken = true;
      if (errorCode(error) !== "EPIPE") warn("multilog", "unable to write to standard output, going on without it", error);
    }
  }

  rotateIfUsed(): void {}

  readonly room = Number.POSITIVE_INFINITY;

  /** What it has printed cannot be taken back; that is no reason not to note it for the files. */
  begin(): boolean {
    return true;
  }

  end(): void {}

  close(): void {
    this.flush();
  }
}
