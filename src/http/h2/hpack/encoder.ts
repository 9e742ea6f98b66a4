/**
 * HPACK (RFC 7541), writing: into a buffer of its own, which all encoders of a thread share, as a block is written out before the next one is begun.
 */
import { entryOverhead, staticTable } from "./fields.ts";
import { huffmanEncode, huffmanLength } from "./huffman.ts";

/** How a field is written: put into the table, left out of it, or marked never to be put into one (RFC 7541 7.1.3). */
type Indexing = "yes" | "no" | "never";

/** Fields whose values hardly ever come again: in the table they would only push out others. */
const notIndexed: ReadonlySet<string> = new Set([
  ":path",
  "age",
  "content-length",
  "content-range",
  "etag",
  "if-modified-since",
  "if-none-match",
  "location",
  "set-cookie",
  "traceparent",
  "x-b3-spanid",
  "x-b3-traceid",
  "x-request-id",
]);
/** Secrets: a peer that could try values must not learn from lengths which one it guessed. */
const neverIndexed: ReadonlySet<string> = new Set(["authorization", "proxy-authorization"]);
/** A shorter cookie could be guessed. */
const guessableCookie = 20;

/** What the tables know of one name. */
class NameEntry {
  readonly indexing: Indexing;
  /** Index in the static table, 0: none. */
  readonly staticIndex: number;
  /** Values of it in the static table. */
  readonly staticValues: Map<string, number> | undefined;
  /** Value to number of insertion, of those in the dynamic table. */
  readonly values = new Map<string, number>();
  /** The youngest insertion of this name; meaningful while `values` is not empty. */
  youngest = 0;

  constructor(name: string) {
    this.indexing = neverIndexed.has(name) ? "never" : notIndexed.has(name) ? "no" : "yes";
    const first = staticTable.findIndex((field) => field.name === name);
    this.staticIndex = first + 1;
    if (first < 0) return;
    const values = new Map<string, number>();
    for (let i = first; i < staticTable.length && staticTable[i].name === name; i++) if (staticTable[i].value !== "") values.set(staticTable[i].value, i + 1);
    if (values.size > 0) this.staticValues = values;
  }
}

const staticNames: ReadonlyMap<string, NameEntry> = new Map([...staticTable.map(({ name }) => name), ...notIndexed].map((name) => [name, new NameEntry(name)]));

let out = Buffer.allocUnsafeSlow(16 * 1024);
let at = 0;

/** Room for a field: names, values, and three integers of at most five octets. */
function reserve(octets: number): void {
  const need = at + octets + 16;
  if (need <= out.length) return;
  const grown = Buffer.allocUnsafeSlow(Math.max(need, out.length * 2));
  out.copy(grown, 0, 0, at);
  out = grown;
}

function writeInteger(pattern: number, prefix: number, value: number): void {
  const mask = (1 << prefix) - 1;
  if (value < mask) {
    out[at++] = pattern | value;
    return;
  }
  out[at++] = pattern | mask;
  value -= mask;
  while (value >= 0x80) {
    out[at++] = (value & 0x7f) | 0x80;
    value >>>= 7;
  }
  out[at++] = value;
}

/** `huffman`: where it is shorter. */
function writeText(text: string, huffman: boolean): void {
  const { length } = text;
  if (huffman) {
    const coded = huffmanLength(text);
    if (coded < length) {
      writeInteger(0x80, 7, coded);
      at = huffmanEncode(text, out, at);
      return;
    }
  }
  writeInteger(0, 7, length);
  if (length < 12) {
    for (let i = 0; i < length; i++) out[at++] = text.charCodeAt(i);
  } else at += out.write(text, at, length, "latin1");
}

export class HpackEncoder {
  readonly #names = new Map<string, NameEntry>();
  /** Names and values in the table, oldest first from `#oldest`. */
  #entries: { readonly name: NameEntry; readonly value: string; readonly size: number; readonly number: number; readonly key: string }[] = [];
  #oldest = 0;
  #size = 0;
  #maxSize: number;
  /** Insertions so far: the youngest entry has this number. */
  #inserted = 0;
  /** The smallest size since the last block, and whether the peer is to be told of a change. */
  #lowestSize: number;
  #sizeChanged = false;
  readonly #ownLimit: number;
  readonly #huffman: boolean;

  /** `ownLimit`: octets of table that we are ready to keep, however much the peer allows. */
  constructor(ownLimit = 4096, huffman = true) {
    this.#ownLimit = ownLimit;
    this.#huffman = huffman;
    // What stands until the peer's SETTINGS say otherwise.
    this.#maxSize = 4096;
    this.#lowestSize = 4096;
    if (ownLimit < 4096) this.setAllowedSize(4096);
  }

  /** Octets in the dynamic table. */
  get tableSize(): number {
    return this.#size;
  }

  /** The peer's SETTINGS_HEADER_TABLE_SIZE. */
  setAllowedSize(size: number): void {
    const next = Math.min(size, this.#ownLimit);
    if (next === this.#maxSize && !this.#sizeChanged) return;
    this.#sizeChanged = true;
    this.#lowestSize = Math.min(this.#lowestSize, next);
    this.#maxSize = next;
    this.#evict(next);
  }

  /** Begins a block. */
  begin(): void {
    at = 0;
    if (!this.#sizeChanged) return;
    this.#sizeChanged = false;
    if (this.#lowestSize < this.#maxSize) writeInteger(0x20, 5, this.#lowestSize);
    writeInteger(0x20, 5, this.#maxSize);
    this.#lowestSize = this.#maxSize;
  }

  /** A field: a name in lower case, a value of latin1 code units. */
  field(name: string, value: string): void {
    const known = this.#names.get(name) ?? staticNames.get(name);
    if (known !== undefined) {
      const index = known.staticValues?.get(value);
      if (index !== undefined) {
        out.length - at > 8 || reserve(8);
        out[at++] = 0x80 | index;
        return;
      }
    }
    reserve(name.length + value.length);
    const entry = known !== undefined && known.values.size > 0 ? known : undefined;
    const number = entry?.values.get(value);
    if (number !== undefined) {
      writeInteger(0x80, 7, this.#indexOf(number));
      return;
    }
    let indexing: Indexing = known?.indexing ?? "yes";
    if (name === "cookie" && value.length < guessableCookie) indexing = "never";
    const size = name.length + value.length + entryOverhead;
    // A large value would push out most of what is there.
    if (indexing === "yes" && size > this.#maxSize * 0.75) indexing = "no";
    const nameIndex = known === undefined ? 0 : known.staticIndex > 0 ? known.staticIndex : entry === undefined ? 0 : this.#indexOf(entry.youngest);
    if (indexing === "yes") writeInteger(0x40, 6, nameIndex);
    else writeInteger(indexing === "never" ? 0x10 : 0, 4, nameIndex);
    // What goes into the table is sent once and may as well be short; what is sent each time is written as it is, which costs the least time.
    const huffman = this.#huffman && indexing === "yes";
    if (nameIndex === 0) writeText(name, huffman);
    writeText(value, huffman);
    if (indexing === "yes") this.#insert(name, value, size);
  }

  /** The block: valid until the next `begin` of any encoder of the thread. */
  end(): Buffer {
    return out;
  }
  get length(): number {
    return at;
  }

  #indexOf(number: number): number {
    return staticTable.length + 1 + this.#inserted - number;
  }

  #insert(name: string, value: string, size: number): void {
    this.#evict(this.#maxSize - size);
    let entry = this.#names.get(name);
    if (entry === undefined) this.#names.set(name, (entry = new NameEntry(name)));
    const number = ++this.#inserted;
    entry.values.set(value, number);
    entry.youngest = number;
    this.#entries.push({ name: entry, value, size, number, key: name });
    this.#size += size;
  }

  #evict(size: number): void {
    while (this.#size > size) {
      const { name, value, size: freed, number, key } = this.#entries[this.#oldest++];
      this.#size -= freed;
      if (name.values.get(value) === number) name.values.delete(value);
      if (name.values.size === 0) this.#names.delete(key);
    }
    if (this.#oldest > 64 && this.#oldest * 2 > this.#entries.length) {
      this.#entries = this.#entries.slice(this.#oldest);
      this.#oldest = 0;
    }
  }
}
