/** Writes the stamp of a line in place: its seconds change seldom, and are kept as text. */
import { now, stamp } from "../tai64n.ts";

/** `@`, 24 hex digits, and a space. */
export const STAMP_BYTES = 26;

const NANOSECONDS_AT = 17;
const SPACE = 0x20;
const HEX = Buffer.from("0123456789abcdef");
/** The two digits of each byte, as one 16-bit number in the order of the text. */
const PAIRS = Uint16Array.from({ length: 256 }, (_, byte) => (HEX[byte >> 4] << 8) | HEX[byte & 15]);

export class StampWriter {
  #seconds = Number.NaN;
  readonly #prefix = Buffer.alloc(NANOSECONDS_AT);

  /** Writes the time now and a space to `into` at `at`, where there must be room; the position behind. */
  write(into: Uint8Array, at: number, time = now()): number {
    if (time.seconds !== this.#seconds) {
      this.#seconds = time.seconds;
      this.#prefix.write(stamp(time), 0, NANOSECONDS_AT, "latin1");
    }
    const prefix = this.#prefix;
    for (let i = 0; i < NANOSECONDS_AT; i++) into[at + i] = prefix[i];
    let to = at + NANOSECONDS_AT;
    for (let shift = 24; shift >= 0; shift -= 8) {
      const pair = PAIRS[(time.nanoseconds >>> shift) & 0xff];
      into[to++] = pair >> 8;
      into[to++] = pair & 0xff;
    }
    into[to++] = SPACE;
    return to;
  }
}
