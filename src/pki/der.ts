/** Writes DER (X.690), as much of it as certificates need. */

const concat = (parts: readonly Uint8Array[]): Buffer => Buffer.concat(parts);

/** Tag, length in the shortest form, contents. */
export function tagged(tag: number, contents: Uint8Array): Buffer {
  const size = contents.length;
  if (size < 0x80) return concat([Uint8Array.of(tag, size), contents]);
  const length: number[] = [];
  for (let rest = size; rest > 0; rest = Math.floor(rest / 256)) length.unshift(rest % 256);
  return concat([Uint8Array.of(tag, 0x80 | length.length, ...length), contents]);
}

export const sequence = (...parts: readonly Uint8Array[]): Buffer => tagged(0x30, concat(parts));
/** Elements in the order of their encodings, as DER wants them. */
export const set = (...parts: readonly Uint8Array[]): Buffer => tagged(0x31, concat([...parts].sort(Buffer.compare)));
export const boolean = (value: boolean): Buffer => tagged(0x01, Uint8Array.of(value ? 0xff : 0));
export const octetString = (bytes: Uint8Array): Buffer => tagged(0x04, bytes);
export const utf8String = (text: string): Buffer => tagged(0x0c, Buffer.from(text, "utf8"));
/** [number] around a whole element. */
export const explicit = (number: number, contents: Uint8Array): Buffer => tagged(0xa0 | number, contents);
/** [number] in place of a simple type's own tag. */
export const implicit = (number: number, contents: Uint8Array): Buffer => tagged(0x80 | number, contents);

/** Not negative, any size, big endian; zeros in front do not matter. */
export function integer(bytes: Uint8Array): Buffer {
  let at = 0;
  while (at < bytes.length - 1 && bytes[at] === 0) at++;
  const shortest = bytes.length === 0 ? Uint8Array.of(0) : bytes.subarray(at);
  return tagged(0x02, shortest[0] >= 0x80 ? concat([Uint8Array.of(0), shortest]) : shortest);
}

/** `unused`: bits at the end that do not count, 0 to 7. */
export const bitString = (bytes: Uint8Array, unused = 0): Buffer => tagged(0x03, concat([Uint8Array.of(unused), bytes]));

/** Bits by number, bit 0 the first one sent; without the zeros at the end, as DER wants named bits. */
export function namedBits(bits: readonly number[]): Buffer {
  const last = Math.max(-1, ...bits);
  const bytes = new Uint8Array(Math.floor(last / 8) + 1);
  for (const bit of bits) bytes[bit >> 3] |= 0x80 >> (bit & 7);
  return bitString(bytes, last < 0 ? 0 : 7 - (last & 7));
}

/** "2.5.29.15" */
export function objectIdentifier(dotted: string): Buffer {
  const [first, second, ...rest] = dotted.split(".").map(Number);
  const bytes: number[] = [];
  for (const arc of [first * 40 + second, ...rest]) {
    const digits = [arc % 128];
    for (let left = Math.floor(arc / 128); left > 0; left = Math.floor(left / 128)) digits.unshift((left % 128) | 0x80);
    bytes.push(...digits);
  }
  return tagged(0x06, Uint8Array.from(bytes));
}

/** UTCTime until 2049, GeneralizedTime from then on, as RFC 5280 4.1.2.5 asks; whole seconds. */
export function time(date: Date): Buffer {
  const digits = `${date.toISOString().replace(/[-:T]/g, "").slice(0, 14)}Z`;
  return date.getUTCFullYear() < 2050 && date.getUTCFullYear() >= 1950
    ? tagged(0x17, Buffer.from(digits.slice(2), "latin1"))
    : tagged(0x18, Buffer.from(digits, "latin1"));
}

/** The contents of the element that begins at `from`, and where it ends. For what OpenSSL wrote: it is trusted to be well formed. */
export function readElement(bytes: Uint8Array, from: number): { readonly tag: number; readonly contents: Uint8Array; readonly end: number } {
  let size = bytes[from + 1];
  let at = from + 2;
  if (size >= 0x80) {
    let count = size & 0x7f;
    for (size = 0; count > 0; count--) size = size * 256 + bytes[at++];
  }
  return { tag: bytes[from], contents: bytes.subarray(at, at + size), end: at + size };
}
