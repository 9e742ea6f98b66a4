/** The memory of a module. Every access is checked: a guest's pointers may be anything. */

/** A pointer or length leads out of the guest's memory. */
export class MemoryError extends Error {}

export class GuestMemory {
  readonly #memory: WebAssembly.Memory;
  #bytes: Buffer;

  constructor(memory: WebAssembly.Memory) {
    this.#memory = memory;
    this.#bytes = Buffer.from(memory.buffer);
  }

  /** A view that is good until the guest runs again. */
  get bytes(): Buffer {
    const { buffer } = this.#memory;
    if (this.#bytes.buffer !== buffer) this.#bytes = Buffer.from(buffer);
    return this.#bytes;
  }

  /** A view of `size` bytes at `at`: copy what is kept. */
  view(at: number, size: number): Buffer {
    const { bytes } = this;
    const from = at >>> 0;
    const to = from + (size >>> 0);
    if (to > bytes.length) throw new MemoryError("out of bounds");
    return bytes.subarray(from, to);
  }
  copy(at: number, size: number): Buffer {
    return Buffer.from(this.view(at, size));
  }
  /** latin1: code units are bytes. */
  text(at: number, size: number): string {
    return this.view(at, size).toString("latin1");
  }
  utf8(at: number, size: number): string {
    return this.view(at, size).toString("utf8");
  }
  getUint32(at: number): number {
    return this.view(at, 4).readUInt32LE(0);
  }
  setUint32(at: number, value: number): void {
    this.view(at, 4).writeUInt32LE(value >>> 0, 0);
  }
  setUint64(at: number, value: bigint): void {
    this.view(at, 8).writeBigUInt64LE(BigInt.asUintN(64, value), 0);
  }
  write(at: number, data: Uint8Array): void {
    this.view(at, data.length).set(data);
  }
}
