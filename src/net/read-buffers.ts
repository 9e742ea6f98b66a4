/**
 * The buffers that sockets of one thread read into.
 *
 * Reading with `'data'` events allocates 64 kB a read. With `onread` all sockets share one buffer, because the read callback is synchronous:
 * 1 MB relayed costs 390 us instead of 655. The catch: a chunk of that buffer written to a slow peer may not leave at once, and then libuv
 * refers to the memory until it has. Such a buffer is pinned: every socket of the pool is pointed at a fresh one, until the write is done. When many
 * are pinned (many slow peers), chunks are copied instead, which bounds memory.
 */
import type { Socket } from "node:net";

const bufferBytes = 256 * 1024;
/** At most this many buffers of a pool are pinned; beyond, writers copy what they keep. */
const maxPinned = 16;

/** The part of a libuv handle that points a socket at a read buffer; not public, covered by read-buffers.test.ts. */
interface ReadingHandle {
  useUserBuffer(buffer: Uint8Array): void;
}

export class ReadBuffers {
  current: Buffer = Buffer.allocUnsafeSlow(bufferBytes);
  readonly #sockets = new Set<Socket>();
  readonly #spare: Buffer[] = [];
  /** Buffers that are written from, by their memory, with how many writes refer to each. */
  readonly #pinned = new Map<ArrayBufferLike, { readonly buffer: Buffer; writes: number }>();

  /** For net.Socket's `onread.buffer`. */
  readonly next = (): Buffer => this.current;

  register(socket: Socket): void {
    this.#sockets.add(socket);
  }

  unregister(socket: Socket): void {
    this.#sockets.delete(socket);
  }

  /** Whether memory of `chunk` will be overwritten by a later read: it is the buffer of the next read, or one that is free again once its writes are done. */
  owns(chunk: Buffer): boolean {
    return chunk.buffer === this.current.buffer || (this.#pinned.size > 0 && this.#pinned.has(chunk.buffer));
  }

  /** May a chunk be written without a copy? Not when too many buffers wait for slow peers. */
  get mayPin(): boolean {
    return this.#pinned.size < maxPinned;
  }

  /** Memory of `chunk` (which this pool owns) is still being written from: nobody reads into it until the answer is called. */
  pin(chunk: Buffer): () => void {
    const memory = chunk.buffer;
    let entry = this.#pinned.get(memory);
    if (entry === undefined) {
      this.#pinned.set(memory, (entry = { buffer: this.current, writes: 0 }));
      this.current = this.#spare.pop() ?? Buffer.allocUnsafeSlow(bufferBytes);
      for (const socket of this.#sockets) {
        const handle = (socket as unknown as { _handle: ReadingHandle | null })._handle;
        handle?.useUserBuffer(this.current);
      }
    }
    entry.writes++;
    const held = entry;
    let done = false;
    return () => {
      if (done) return;
      done = true;
      if (--held.writes > 0) return;
      this.#pinned.delete(memory);
      if (this.#spare.length < 4) this.#spare.push(held.buffer);
    };
  }
}

/** Two pools: a body flows from one side to the other, so that a slow reader of one side moves only the sockets of the other. */
export const downstreamBuffers = new ReadBuffers();
export const upstreamBuffers = new ReadBuffers();
