/** Reads the protobuf wire format (https://protobuf.dev/programming-guides/encoding/). Errors are `WireError`; nothing is read past the end. */
export class WireError extends Error {}

export const WireType = { varint: 0, fixed64: 1, bytes: 2, startGroup: 3, endGroup: 4, fixed32: 5 } as const;

const utf8 = new TextDecoder("utf-8", { fatal: true });

export class WireReader {
  readonly bytes: Uint8Array;
  pos: number;
  readonly end: number;
  #view: DataView | undefined;

  constructor(bytes: Uint8Array, start = 0, end = bytes.length) {
    this.bytes = bytes;
    this.pos = start;
    this.end = end;
  }

  get done(): boolean {
    return this.pos >= this.end;
  }

  /** A varint that must fit 32 bits unsigned once truncated: tags, lengths, small integers. */
  uint32(): number {
    let result = 0;
    for (let shift = 0; shift < 70; shift += 7) {
      if (this.pos >= this.end) throw new WireError("truncated varint");
      const byte = this.bytes[this.pos++];
      if (shift < 32) result |= (byte & 0x7f) << shift;
      if (byte < 0x80) return result >>> 0;
    }
    throw new WireError("varint longer than 10 bytes");
  }

  uint64(): bigint {
    let result = 0n;
    for (let shift = 0n; shift < 70n; shift += 7n) {
      if (this.pos >= this.end) throw new WireError("truncated varint");
      const byte = this.bytes[this.pos++];
      result |= BigInt(byte & 0x7f) << shift;
      if (byte < 0x80) return BigInt.asUintN(64, result);
    }
    throw new WireError("varint longer than 10 bytes");
  }

  /** The next length-delimited field's range; the position moves behind it. */
  range(): { start: number; end: number } {
    const length = this.uint32();
    const start = this.pos;
    if (length > this.end - start) throw new WireError("length runs past the end");
    this.pos = start + length;
    return { start, end: this.pos };
  }

  slice(): Uint8Array {
    const { start, end } = this.range();
    return this.bytes.subarray(start, end);
  }

  string(): string {
    const { start, end } = this.range();
    return decodeUtf8(this.bytes.subarray(start, end));
  }

  /** A string known to be ASCII (names in descriptors): faster than decoding UTF-8. */
  ascii(): string {
    const { start, end } = this.range();
    let text = "";
    for (let at = start; at < end; at++) text += String.fromCharCode(this.bytes[at]);
    return text;
  }

  sub(): WireReader {
    const { start, end } = this.range();
    return new WireReader(this.bytes, start, end);
  }

  /** The position of `size` fixed bytes; the position moves behind them. */
  fixed(size: 4 | 8): { view: DataView; at: number } {
    if (this.end - this.pos < size) throw new WireError("truncated fixed-width value");
    this.#view ??= new DataView(this.bytes.buffer, this.bytes.byteOffset, this.bytes.byteLength);
    const at = this.pos;
    this.pos += size;
    return { view: this.#view, at };
  }

  skip(wireType: number, depth = 0): void {
    switch (wireType) {
      case WireType.varint:
        this.uint32();
        return;
      case WireType.fixed64:
        this.fixed(8);
        return;
      case WireType.bytes:
        this.range();
        return;
      case WireType.fixed32:
        this.fixed(4);
        return;
      case WireType.startGroup:
        if (depth > 100) throw new WireError("groups nested too deep");
        for (;;) {
          const tag = this.uint32();
          if ((tag & 7) === WireType.endGroup) return;
          this.skip(tag & 7, depth + 1);
        }
      default:
        throw new WireError(`wire type ${wireType}`);
    }
  }
}

export function decodeUtf8(bytes: Uint8Array): string {
  try {
    return utf8.decode(bytes);
  } catch {
    throw new WireError("a string that is not UTF-8");
  }
}
