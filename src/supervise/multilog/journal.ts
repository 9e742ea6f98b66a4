/**
 * What a multilog has under way: bytes that it has looked at, that are still in the pipe, and that it is writing. One that is killed meanwhile leaves
 * this note; its successor finds the same bytes at the head of the pipe and takes back what had been written of them, so that nothing is there
 * twice. The note stands in the log's `lock`, whose content means nothing to others. It is for a kill, not for a power cut, which takes the pipe as well.
 */
import { closeSync, openSync, readSync, writeSync } from "node:fs";

const MAGIC = 0x6f756c31;
const HEADER_BYTES = 32;
/** Of the bytes under way, from either end: enough to tell them from others. */
const SAMPLE_BYTES = 256;
const NOTE_BYTES = HEADER_BYTES + 2 * SAMPLE_BYTES;
const COUNT_AT = 4;

export interface UnderWay {
  /** The file that was written to, and its size before. */
  readonly inode: bigint;
  readonly size: number;
  /** Whether these bytes, the head of a pipe, begin with those that were under way. */
  isHeadOf(pipe: Uint8Array): boolean;
}

export class Journal {
  readonly #fd: number;
  readonly #note = Buffer.alloc(NOTE_BYTES);
  readonly #none = Buffer.alloc(4);
  /** Room was made when there was some: a full disk must not keep a note from being written. */
  readonly isUsable: boolean;

  /** `fd`: the lock, open for writing and not for appending. */
  constructor(fd: number) {
    this.#fd = fd;
    this.isUsable = this.#writeWhole(Buffer.alloc(NOTE_BYTES));
  }

  #writeWhole(bytes: Uint8Array): boolean {
    try {
      return writeSync(this.#fd, bytes, 0, bytes.length, 0) === bytes.length;
    } catch {
      return false;
    }
  }

  /** `bytes` are about to be written to the file `inode`, which has `size` bytes. */
  begin(bytes: Uint8Array, inode: bigint, size: number): void {
    const note = this.#note;
    note.writeUInt32LE(MAGIC, 0);
    note.writeUInt32LE(bytes.length, COUNT_AT);
    note.writeBigUInt64LE(inode, 8);
    note.writeBigUInt64LE(BigInt(size), 16);
    const [head, tail] = samples(bytes);
    note.set(head, HEADER_BYTES);
    note.set(tail, HEADER_BYTES + SAMPLE_BYTES);
    this.#writeWhole(note);
  }

  /** They are out of the pipe. */
  end(): void {
    try {
      writeSync(this.#fd, this.#none, 0, this.#none.length, COUNT_AT);
    } catch {
      // a note that is too old is not believed: its bytes are not in the pipe
    }
  }
}

function samples(bytes: Uint8Array): [Uint8Array, Uint8Array] {
  return [bytes.subarray(0, SAMPLE_BYTES), bytes.subarray(Math.max(0, bytes.length - SAMPLE_BYTES))];
}

/** The note of a predecessor, if it was killed with something under way. */
export function readJournal(path: string): UnderWay | undefined {
  const note = Buffer.alloc(NOTE_BYTES);
  try {
    const fd = openSync(path, "r");
    try {
      if (readSync(fd, note, 0, NOTE_BYTES, 0) !== NOTE_BYTES) return undefined;
    } finally {
      closeSync(fd);
    }
  } catch {
    return undefined;
  }
  const count = note.readUInt32LE(COUNT_AT);
  if (note.readUInt32LE(0) !== MAGIC || count === 0) return undefined;
  return {
    inode: note.readBigUInt64LE(8),
    size: Number(note.readBigUInt64LE(16)),
    isHeadOf(pipe) {
      if (pipe.length < count) return false;
      const [head, tail] = samples(pipe.subarray(0, count));
      return (
        note.subarray(HEADER_BYTES, HEADER_BYTES + head.length).equals(head) &&
        note.subarray(HEADER_BYTES + SAMPLE_BYTES, HEADER_BYTES + SAMPLE_BYTES + tail.length).equals(tail)
      );
    },
  };
}
