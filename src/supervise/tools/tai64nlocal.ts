/** tai64nlocal: turns the stamp at the start of a line into local date and time. What is no stamp is passed on as it is. */
import { existsSync } from "node:fs";
import { EXIT_TROUBLE } from "../messages.ts";
import { readInput } from "../multilog/input.ts";
import { offsetAt, type PosixTimeZone, parsePosixTimeZone } from "../posix-time-zone.ts";
import { type Time, unpackLabel } from "../tai64n.ts";
import { writeAll } from "../write-all.ts";

const NEWLINE = 0x0a;
const AT = 0x40;
/** `@` and 24 digits. */
const STAMP_BYTES = 25;

function isDigit(byte: number): boolean {
  return (byte >= 0x30 && byte <= 0x39) || (byte >= 0x61 && byte <= 0x66);
}

const two = (n: number): string => String(n).padStart(2, "0");

/** TZ as POSIX spells it, unless the zone database has it under that name; else undefined, and Node knows. */
function posixZone(): PosixTimeZone | undefined {
  const text = process.env["TZ"];
  if (text === undefined || text === "" || existsSync(`/usr/share/zoneinfo/${text.replace(/^:/, "")}`)) return undefined;
  return parsePosixTimeZone(text);
}

const zone = posixZone();

/** `YYYY-MM-DD HH:MM:SS.nnnnnnnnn` in the time zone of TZ; undefined for a time that no calendar of ours reaches. */
export function localTime(time: Time): string | undefined {
  // Shifted, so that the fields of UTC are those of local time.
  const probe = new Date(time.seconds * 1000);
  if (Number.isNaN(probe.getTime())) return undefined;
  const fields = (date: Date): number[] => [
    date.getUTCFullYear(),
    date.getUTCMonth(),
    date.getUTCDate(),
    date.getUTCHours(),
    date.getUTCMinutes(),
    date.getUTCSeconds(),
  ];
  const [year, month, day, hours, minutes, seconds] =
    zone === undefined
      ? [probe.getFullYear(), probe.getMonth(), probe.getDate(), probe.getHours(), probe.getMinutes(), probe.getSeconds()]
      : fields(new Date((time.seconds + offsetAt(zone, time.seconds)) * 1000));
  const clock = `${two(hours)}:${two(minutes)}:${two(seconds)}.${String(time.nanoseconds).padStart(9, "0")}`;
  return `${String(year).padStart(4, "0")}-${two(month + 1)}-${two(day)} ${clock}`;
}

/** The text for a stamp, or undefined when it is none. */
function convert(bytes: Buffer): string | undefined {
  if (bytes.length < STAMP_BYTES || bytes[0] !== AT) return undefined;
  for (let i = 1; i < STAMP_BYTES; i++) if (!isDigit(bytes[i])) return undefined;
  // A 25th digit: something longer than a stamp, which is left alone.
  if (bytes.length > STAMP_BYTES && isDigit(bytes[STAMP_BYTES])) return undefined;
  return localTime(unpackLabel(Buffer.from(bytes.toString("latin1", 1, STAMP_BYTES), "hex")));
}

/** Converts a stream in pieces: a piece that ends inside what may be a stamp is kept until more comes. */
export class Converter {
  #isInLine = false;
  #kept: Buffer = Buffer.alloc(0);

  feed(input: Buffer): Buffer {
    const bytes = this.#kept.length === 0 ? input : Buffer.concat([this.#kept, input]);
    this.#kept = Buffer.alloc(0);
    const out: Buffer[] = [];
    for (let from = 0; from < bytes.length; ) {
      const newline = bytes.indexOf(NEWLINE, from);
      const end = newline < 0 ? bytes.length : newline + 1;
      if (!this.#isInLine) {
        if (bytes[from] === AT && newline < 0 && end - from <= STAMP_BYTES) {
          this.#kept = Buffer.from(bytes.subarray(from));
          break;
        }
        from += this.#lineStart(bytes.subarray(from, end), out);
      }
      out.push(bytes.subarray(from, end));
      this.#isInLine = newline < 0;
      from = end;
    }
    return Buffer.concat(out);
  }

  /** How many bytes have been replaced. */
  #lineStart(line: Buffer, out: Buffer[]): number {
    const text = convert(line);
    if (text === undefined) return 0;
    out.push(Buffer.from(text));
    return STAMP_BYTES;
  }

  end(): Buffer {
    const out: Buffer[] = [];
    const replaced = this.#lineStart(this.#kept, out);
    out.push(this.#kept.subarray(replaced));
    return Buffer.concat(out);
  }
}

export function run(): number | Promise<number> {
  const converter = new Converter();
  return new Promise((resolve) => {
    const attempt = (work: () => void): void => {
      try {
        work();
      } catch {
        resolve(EXIT_TROUBLE);
      }
    };
    attempt(() => {
      readInput(
        (bytes) => attempt(() => writeAll(1, converter.feed(bytes))),
        (error) =>
          attempt(() => {
            writeAll(1, converter.end());
            resolve(error === undefined ? 0 : EXIT_TROUBLE);
          }),
      );
    });
  });
}
