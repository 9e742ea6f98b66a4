/**
 * HPACK (RFC 7541), reading. Whatever is read, memory is bounded: the table by its size, a text by the block it stands in. What a block may add up to is for
 * the sink to count, which is told every field and keeps what it wants.
 */
import { entryOverhead, Field, isValidValue, kindOfName, type NameKind, staticTable } from "./fields.ts";
import { huffmanDecode } from "./huffman.ts";

/** The peer has broken the compression context: the connection cannot go on (COMPRESSION_ERROR). */
export class HpackError extends Error {}

export interface FieldSink {
  /** Strings are of latin1 code units. */
  onField(name: string, value: string, kind: NameKind, validValue: boolean): void;
}

export class HpackDecoder {
  /** Entries in a ring, the youngest at `#next - 1`. */
  #ring: (Field | undefined)[] = new Array(64).fill(undefined);
  #next = 0;
  #count = 0;
  #size = 0;
  /** What the peer has chosen, at most what we allow. */
  #maxSize: number;
  /** SETTINGS_HEADER_TABLE_SIZE as we have announced it. */
  readonly #allowed: number;
  #bytes: Buffer = Buffer.alloc(0);
  #at = 0;
  #end = 0;

  constructor(allowedTableSize = 4096) {
    this.#allowed = allowedTableSize;
    this.#maxSize = allowedTableSize;
  }

  /** Octets in the dynamic table. */
  get tableSize(): number {
    return this.#size;
  }

  /** A whole header block, in `bytes[from..to)`. Throws HpackError. */
  decode(bytes: Buffer, from: number, to: number, sink: FieldSink): void {
    this.#bytes = bytes;
    this.#at = from;
    this.#end = to;
    let first = true;
    while (this.#at < to) {
      const octet = bytes[this.#at];
      if (octet >= 0x80) {
        const field = this.#field(this.#integer(7));
        sink.onField(field.name, field.value, field.kind, field.validValue);
        first = false;
      } else if (octet >= 0x40) {
        this.#literal(6, sink, true);
        first = false;
      } else if (octet >= 0x20) {
        // RFC 7541 4.2: at the beginning of a block only.
        if (!first) throw new HpackError("size update inside a block");
        const size = this.#integer(5);
        if (size > this.#allowed) throw new HpackError("table size over the limit");
        this.#maxSize = size;
        this.#evict(size);
      } else {
        this.#literal(4, sink, false);
        first = false;
      }
    }
  }

  #literal(prefix: number, sink: FieldSink, index: boolean): void {
    const at = this.#integer(prefix);
    let name: string;
    let kind: NameKind;
    if (at === 0) {
      name = this.#string();
      kind = kindOfName(name);
    } else {
      const field = this.#field(at);
      ({ name, kind } = field);
    }
    const value = this.#string();
    const valid = isValidValue(value);
    if (index) this.#add(name, value, kind, valid);
    sink.onField(name, value, kind, valid);
  }

  #field(index: number): Field {
    if (index <= staticTable.length) {
      if (index === 0) throw new HpackError("index 0");
      return staticTable[index - 1];
    }
    const back = index - staticTable.length;
    if (back > this.#count) throw new HpackError("index past the table");
    const ring = this.#ring;
    return ring[(this.#next - back) & (ring.length - 1)] as Field;
  }

  #add(name: string, value: string, kind: NameKind, valid: boolean): void {
    const size = name.length + value.length + entryOverhead;
    if (size > this.#maxSize) {
      this.#evict(0);
      return;
    }
    this.#evict(this.#maxSize - size);
    let ring = this.#ring;
    if (this.#count === ring.length) {
      // Grown in order; bounded by the table's size, as every entry weighs 32.
      const grown: (Field | undefined)[] = new Array(ring.length * 2).fill(undefined);
      for (let i = 0; i < this.#count; i++) grown[i] = ring[(this.#next - this.#count + i) & (ring.length - 1)];
      this.#ring = ring = grown;
      this.#next = this.#count;
    }
    ring[this.#next & (ring.length - 1)] = new Field(name, value, kind, valid);
    this.#next = (this.#next + 1) & (ring.length - 1);
    this.#count++;
    this.#size += size;
  }

  /** Drops the oldest until no more than `size` octets are left. */
  #evict(size: number): void {
    const ring = this.#ring;
    while (this.#size > size) {
      const at = (this.#next - this.#count) & (ring.length - 1);
      this.#size -= (ring[at] as Field).size;
      ring[at] = undefined;
      this.#count--;
    }
  }

  #integer(prefix: number): number {
    const bytes = this.#bytes;
    const mask = (1 << prefix) - 1;
    let value = bytes[this.#at++] & mask;
    if (value < mask) return value;
    for (let shift = 0; shift <= 21; shift += 7) {
      if (this.#at >= this.#end) throw new HpackError("integer cut off");
      const octet = bytes[this.#at++];
      value += (octet & 0x7f) << shift;
      if (octet < 0x80) return value;
    }
    throw new HpackError("integer too large");
  }

  #string(): string {
    if (this.#at >= this.#end) throw new HpackError("text cut off");
    const huffman = this.#bytes[this.#at] >= 0x80;
    const length = this.#integer(7);
    const from = this.#at;
    const to = from + length;
    if (to > this.#end) throw new HpackError("text cut off");
    this.#at = to;
    if (length === 0) return "";
    if (!huffman) return this.#bytes.toString("latin1", from, to);
    const text = huffmanDecode(this.#bytes, from, to);
    if (text === undefined) throw new HpackError("not in the Huffman code");
    return text;
  }
}
