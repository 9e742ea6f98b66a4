/**
 * TAI64N labels: 8 bytes of seconds and 4 of nanoseconds, big-endian; seconds are 2^62 + 10 + Unix seconds (the 10 is fixed, there is no table of
 * leap seconds). In text: `@` and 24 lower-case hex digits.
 */

const TAI_HIGH = 0x40000000;
const TAI_OFFSET = 10;
const TWO_32 = 4294967296;

export interface Time {
  /** Unix seconds; whole. */
  readonly seconds: number;
  readonly nanoseconds: number;
}

let offsetMs = performance.timeOrigin;

/** The wall clock with microseconds. `Date.now()` has milliseconds; what is below comes from the monotonic clock, kept in step with it. */
export function now(): Time {
  const wallMs = Date.now();
  let exactMs = offsetMs + performance.now();
  if (exactMs < wallMs || exactMs >= wallMs + 1) {
    exactMs = exactMs < wallMs ? wallMs : wallMs + 0.999;
    offsetMs = exactMs - performance.now();
  }
  const seconds = Math.floor(exactMs / 1000);
  return { seconds, nanoseconds: Math.min(999_999_999, Math.max(0, Math.round((exactMs - seconds * 1000) * 1000) * 1000)) };
}

/** Writes the 12 bytes of a label. */
export function packLabel(time: Time, into: Buffer, offset = 0): void {
  const seconds = time.seconds + TAI_OFFSET;
  const low = ((seconds % TWO_32) + TWO_32) % TWO_32;
  into.writeUInt32BE(TAI_HIGH + Math.floor(seconds / TWO_32), offset);
  into.writeUInt32BE(low, offset + 4);
  into.writeUInt32BE(time.nanoseconds, offset + 8);
}

/** Unix time of a label; seconds may lie outside what a Date can show. */
export function unpackLabel(from: Buffer, offset = 0): Time {
  const seconds = (from.readUInt32BE(offset) - TAI_HIGH) * TWO_32 + from.readUInt32BE(offset + 4) - TAI_OFFSET;
  return { seconds, nanoseconds: from.readUInt32BE(offset + 8) };
}

const scratch = Buffer.alloc(12);

/** `@` and 24 hex digits. */
export function stamp(time: Time = now()): string {
  packLabel(time, scratch);
  return `@${scratch.toString("hex")}`;
}
