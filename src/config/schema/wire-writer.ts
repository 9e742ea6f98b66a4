/** Writes the protobuf wire format (https://protobuf.dev/programming-guides/encoding/) into memory that grows as needed. */
import { WireType } from "./wire.ts";

export class WireWriter {
  #bytes: Buffer;
  #length = 0;

  constructor(capacity = 256) {
    this.#bytes = Buffer.allocUnsafe(capacity);
  }

  /** What was written; a copy. */
  finish(): Buffer {
    return Buffer.from(this.#bytes.subarray(0, this.#length));
  }

  tag(number: number, wireType: number): void {
    this.uint32(((number << 3) | wireType) >>> 0);
  }

  uint32(value: number): void {
    this.#reserve(5);
    let rest = value >>> 0;
    while (rest > 0x7f) {
      this.#bytes[this.#length++] = (rest & 0x7f) | 0x80;
      rest >>>= 7;
    }
    this.#bytes[this.#length++] = rest;
  }

  /** Of a signed number: its two's complement in 64 bits. */
  uint64(value: bigint): void {
    this.#reserve(10);
    let rest = BigInt.asUintN(64, value);
    while (rest > 0x7fn) {
      this.#bytes[this.#length++] = Number(rest & 0x7fn) | 0x80;
      rest >>= 7n;
    }
    this.#bytes[this.#length++] = Number(rest);
  }

  /** int32 and enums: negative ones take ten bytes. */
  int32(value: number): void {
    if (value >= 0) this.uint32(value);
    else this.uint64(BigInt(value));
  }

  double(value: number): void {
    this.#reserve(8);
    this.#length = this.#bytes.writeDoubleLE(value, this.#length);
  }
  float(value: number): void {
    this.#reserve(4);
    this.#length = this.#bytes.writeFloatLE(value, this.#length);
  }
  fixed32(value: number): void {
    this.#reserve(4);
    this.#length = this.#bytes.writeUInt32LE(value >>> 0, this.#length);
  }
  fixed64(value: bigint): void {
    this.#reserve(8);
    this.#length = this.#bytes.writeBigUInt64LE(BigInt.asUintN(64, value), this.#length);
  }

  /** With its length before it. */
  string(text: string): void {
    const length = Buffer.byteLength(text);
    this.uint32(length);
    this.#reserve(length);
    this.#length += this.#bytes.write(text, this.#length, "utf8");
  }

  /** With their length before them. */
  bytes(bytes: Uint8Array): void {
    this.uint32(bytes.length);
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** What `write` writes, with its length before it. */
  nested(write: () => void): void {
    const start = this.#length;
    write();
    const length = this.#length - start;
    const size = sizeOf(length);
    this.#reserve(size);
    this.#bytes.copyWithin(start + size, start, this.#length);
    this.#length = start;
    this.uint32(length);
    this.#length += length;
  }

  /** A field that holds what `write` writes. */
  message(number: number, write: () => void): void {
    this.tag(number, WireType.bytes);
    this.nested(write);
  }

  #reserve(more: number): void {
    if (this.#length + more <= this.#bytes.length) return;
    const larger = Buffer.allocUnsafe(Math.max(this.#bytes.length * 2, this.#length + more));
    larger.set(this.#bytes.subarray(0, this.#length));
    this.#bytes = larger;
  }
}

/** How many bytes a varint takes. */
function sizeOf(value: number): number {
  return value < 0x80 ? 1 : value < 0x4000 ? 2 : value < 0x200000 ? 3 : value < 0x10000000 ? 4 : 5;
}
