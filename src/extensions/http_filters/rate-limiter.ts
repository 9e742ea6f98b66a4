/** Lets the body of a response through at a given pace: of the fault filter and the bandwidth limit. */
import type { Timer } from "../../net/timer-wheel.ts";

export interface PacedStream {
  readonly now: () => number;
  createTimer(callback: () => void): Timer;
  /** What is held. */
  held(): Buffer | undefined;
  setHeld(data: Buffer): void;
  inject(data: Buffer, endStream: boolean): void;
  /** All of the body has gone; trailers may follow. */
  goOn(): void;
  /** Pieces went through. */
  onWritten?(bytes: number): void;
}

const empty = Buffer.alloc(0);

/** Data is held by the stream, which pauses its source when there is much of it; this takes pieces of it at each tick. */
export class Pacer {
  readonly #stream: PacedStream;
  readonly #bytesPerTick: number;
  readonly #tickMs: number;
  readonly #timer: Timer;
  #tickEndMs = 0;
  #left = 0;
  #isLast = false;
  #hasTrailers = false;
  #isOver = false;

  /** `kbps`: KiB per second. */
  constructor(stream: PacedStream, kbps: number, tickMs: number) {
    this.#stream = stream;
    this.#tickMs = tickMs;
    this.#bytesPerTick = Math.max(1, Math.floor((kbps * 1024 * tickMs) / 1000));
    this.#timer = stream.createTimer(() => this.#tick());
  }

  /** A piece came, and is held (by the status that the filter answers with). */
  onData(endStream: boolean): void {
    this.#isLast ||= endStream;
    if (!this.#timer.enabled) this.#timer.enable(0);
  }

  /** True: trailers have to wait. */
  onTrailers(): boolean {
    if (this.#isOver) return false;
    this.#hasTrailers = true;
    if (!this.#timer.enabled) this.#timer.enable(0);
    return true;
  }

  close(): void {
    this.#isOver = true;
    this.#timer.disable();
  }

  #tick(): void {
    if (this.#isOver) return;
    const now = this.#stream.now();
    if (now >= this.#tickEndMs) {
      this.#tickEndMs = now + this.#tickMs;
      this.#left = this.#bytesPerTick;
    }
    const held = this.#stream.held() ?? empty;
    const size = Math.min(held.length, this.#left);
    this.#left -= size;
    const isDone = size === held.length && (this.#isLast || this.#hasTrailers);
    const piece = Buffer.from(held.subarray(0, size));
    this.#stream.setHeld(Buffer.from(held.subarray(size)));
    if (isDone) {
      this.close();
      if (this.#hasTrailers) {
        if (piece.length > 0) this.#stream.inject(piece, false);
        this.#stream.onWritten?.(piece.length);
        this.#stream.goOn();
        return;
      }
    }
    if (piece.length > 0 || isDone) this.#stream.inject(piece, isDone);
    this.#stream.onWritten?.(piece.length);
    if (size < held.length) this.#timer.enable(Math.max(1, this.#tickEndMs - now));
  }
}
