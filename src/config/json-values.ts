/** Text forms of scalar values in proto JSON: what Envoy's reader takes, each with why it is refused. */

export type Parsed<T> = { readonly value: T } | { readonly why: string };

/** Seconds that google.protobuf.Duration may hold: about 10,000 years. */
const maxDurationSeconds = 315_576_000_000n;

export function parseDuration(text: string): Parsed<{ seconds: bigint; nanos: number }> {
  const match = /^(-?)(\d{1,20})(?:\.(\d{1,9}))?s$/.exec(text);
  if (match === null)
    return {
      why: /^-?[\d.]+$/.test(text)
        ? "has no unit: write seconds with an s"
        : /^-?[\d.]+ ?(ms|us|ns|m|h|min)$/.test(text)
          ? "is in another unit: only seconds are taken"
          : "is not seconds followed by an s",
    };
  const seconds = BigInt(match[2]);
  if (seconds > maxDurationSeconds) return { why: "is longer than 315576000000s" };
  const nanos = match[3] === undefined ? 0 : Number(match[3].padEnd(9, "0"));
  return { value: match[1] === "-" ? { seconds: -seconds, nanos: nanos === 0 ? 0 : -nanos } : { seconds, nanos } };
}

/** RFC 3339 with an offset. */
export function parseTimestamp(text: string): Parsed<{ seconds: bigint; nanos: number }> {
  const match = /^(\d{4}-\d\d-\d\d)T(\d\d:\d\d:\d\d)(?:\.(\d{1,9}))?(Z|[+-]\d\d:\d\d)$/.exec(text);
  const ms = match === null ? Number.NaN : Date.parse(`${match[1]}T${match[2]}${match[4]}`);
  if (match === null || Number.isNaN(ms)) return { why: "is not a date like 2026-01-31T12:00:00Z" };
  return { value: { seconds: BigInt(ms / 1000), nanos: match[3] === undefined ? 0 : Number(match[3].padEnd(9, "0")) } };
}

/** Standard or URL-safe alphabet; padding may be left out but must be right where it is there. */
export function parseBase64(text: string): Parsed<Uint8Array> {
  const match = /^([A-Za-z0-9+/_-]*)(={0,2})$/.exec(text);
  if (match === null || match[1].length % 4 === 1 || (match[2] !== "" && text.length % 4 !== 0)) return { why: "is not base64" };
  return { value: Uint8Array.from(Buffer.from(match[1], "base64")) };
}

/** "fooBar,baz.qux" as google.protobuf.FieldMask's paths in proto names. */
export function parseFieldMask(text: string): string[] {
  return text === "" ? [] : text.split(",").map((path) => path.trim().replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`));
}

const bounds = {
  int32: [-2147483648n, 2147483647n],
  sint32: [-2147483648n, 2147483647n],
  sfixed32: [-2147483648n, 2147483647n],
  uint32: [0n, 4294967295n],
  fixed32: [0n, 4294967295n],
  int64: [-0x8000000000000000n, 0x7fffffffffffffffn],
  sint64: [-0x8000000000000000n, 0x7fffffffffffffffn],
  sfixed64: [-0x8000000000000000n, 0x7fffffffffffffffn],
  uint64: [0n, 0xffffffffffffffffn],
  fixed64: [0n, 0xffffffffffffffffn],
} as const;
export type IntegerKind = keyof typeof bounds;

/** A whole number in decimal, hexadecimal or with an exponent, as Envoy's reader takes it in or out of quotes. */
export function parseInteger(text: string, kind: IntegerKind): Parsed<bigint> {
  let value: bigint;
  if (/^[+-]?\d{1,40}$/.test(text)) value = BigInt(text.startsWith("+") ? text.slice(1) : text);
  else {
    const hex = /^([+-]?)0[xX]([0-9a-fA-F]{1,32})$/.exec(text);
    if (hex !== null) value = BigInt(`0x${hex[2]}`) * (hex[1] === "-" ? -1n : 1n);
    else if (/^[+-]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$/.test(text) && text.length < 400) {
      const number = Number(text);
      if (!Number.isInteger(number)) return { why: Number.isFinite(number) ? "has a fraction, a whole number is expected" : "is too large" };
      value = BigInt(number);
    } else return { why: "is not a number" };
  }
  const [low, high] = bounds[kind];
  if (value < low) return { why: low === 0n ? "is negative, the field is unsigned" : `is below ${low}, the smallest ${kind}` };
  if (value > high) return { why: `is out of range: above ${high}, the largest ${kind}` };
  return { value };
}

export function parseFloating(text: string, kind: "float" | "double"): Parsed<number> {
  const word = /^([+-]?)(nan|inf|infinity)$/i.exec(text);
  if (word !== null) return { value: word[2].toLowerCase() === "nan" ? Number.NaN : word[1] === "-" ? -Infinity : Infinity };
  const hex = /^[+-]?0[xX][0-9a-fA-F]{1,16}$/.test(text);
  if (!hex && (text.length > 400 || !/^[+-]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$/.test(text))) return { why: "is not a number" };
  const value = hex ? Number(text.replace(/^[+-]/, "")) * (text.startsWith("-") ? -1 : 1) : Number(text);
  if (!Number.isFinite(value) || (kind === "float" && Math.abs(value) > 3.4028235677973366e38)) return { why: `is out of range for a ${kind}` };
  return { value };
}

/** true/t/yes/y/1 and false/f/no/n/0 in any case: what Envoy takes for a bool in quotes. */
export function parseBool(text: string): boolean | undefined {
  switch (text.toLowerCase()) {
    case "true":
    case "t":
    case "yes":
    case "y":
    case "1":
      return true;
    case "false":
    case "f":
    case "no":
    case "n":
    case "0":
      return false;
    default:
      return undefined;
  }
}
