/** The Range field as Envoy's file server reads it: one range with a start; anything else means the whole file. */

/** [start, end) in bytes; end 0 means up to the end of the file. Both 0: no range. */
export interface ByteRange {
  readonly start: number;
  readonly end: number;
}
const whole: ByteRange = { start: 0, end: 0 };

const integer = /^[ \t\n\v\f\r]*\+?([0-9]{1,20})[ \t\n\v\f\r]*$/;
const largest = 0xffff_ffff_ffff_ffffn;
/** A uint64; undefined where it is none. */
function parseInteger(text: string | undefined): bigint | undefined {
  const digits = text === undefined ? null : integer.exec(text);
  if (digits === null) return undefined;
  const value = BigInt(digits[1]);
  return value > largest ? undefined : value;
}

export function parseRange(fields: readonly string[]): ByteRange {
  if (fields.length !== 1 || !fields[0].startsWith("bytes=")) return whole;
  const spec = fields[0].slice(6);
  if (spec.includes(",")) return whole;
  const [from, to] = spec.split("-");
  const start = from === "" ? undefined : parseInteger(from);
  if (start === undefined) return whole;
  const last = parseInteger(to);
  // Above 2^53 exactness is lost, which no file notices. The byte behind the largest number has none: that range is open.
  return { start: Number(start), end: last === undefined || last === largest ? 0 : Number(last + 1n) };
}

/** The bytes of a file of `size` that a range means: undefined where it cannot be satisfied (416). */
export function resolveRange(range: ByteRange, size: number): ByteRange | undefined {
  if (range.end > size || range.start > size || (range.end !== 0 && range.end < range.start)) return undefined;
  return range.end === 0 ? { start: range.start, end: size } : range;
}
