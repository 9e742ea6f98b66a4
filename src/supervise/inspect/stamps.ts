/** The time at the start of a log line, and how it is shown. */

import { type Time, unpackLabel } from "../tai64n.ts";
import { localTime } from "../tools/tai64nlocal.ts";

/** `@` and 24 digits. */
export const STAMP_BYTES = 25;

export interface Stamped {
  readonly time: Time;
  /** Of the stamp and the space behind it. */
  readonly length: number;
}

const SVLOGD_BYTES = 25;
const SVLOGD = /^(\d{4})-(\d\d)-(\d\d)_(\d\d):(\d\d):(\d\d)\.(\d{5})$/;

/** The value of a lower-case hex digit, or -1. */
function hexDigit(byte: number): number {
  return byte >= 0x30 && byte <= 0x39 ? byte - 0x30 : byte >= 0x61 && byte <= 0x66 ? byte - 0x57 : -1;
}

const label = Buffer.alloc(12);

/** TAI64N as multilog's `t` writes it, or the UTC time of runit's `svlogd -tt`; undefined when the line begins with neither. */
export function stampOf(line: Buffer): Stamped | undefined {
  if (line.length < STAMP_BYTES) return undefined;
  const length = STAMP_BYTES + (line[STAMP_BYTES] === 0x20 ? 1 : 0);
  if (line[0] === 0x40) {
    for (let i = 0; i < label.length; i++) {
      const high = hexDigit(line[2 * i + 1]);
      const low = hexDigit(line[2 * i + 2]);
      if (high < 0 || low < 0) return undefined;
      label[i] = high * 16 + low;
    }
    if (line.length > STAMP_BYTES && hexDigit(line[STAMP_BYTES]) >= 0) return undefined; // longer than a stamp
    return { time: unpackLabel(label), length };
  }
  if (line[0] < 0x30 || line[0] > 0x39 || line[10] !== 0x5f) return undefined;
  const found = SVLOGD.exec(line.toString("latin1", 0, SVLOGD_BYTES));
  if (found === null) return undefined;
  const [year, month, day, hours, minutes, seconds, fraction] = found.slice(1).map(Number);
  const ms = Date.UTC(year, month - 1, day, hours, minutes, seconds);
  return { time: { seconds: ms / 1000, nanoseconds: fraction * 10_000 }, length };
}

/** The end of a finished log file, from its name `@STAMP.s` or `.u`. */
export function timeOfName(name: string): Time | undefined {
  return stampOf(Buffer.from(name.slice(0, STAMP_BYTES), "latin1"))?.time;
}

export function isBefore(a: Time, b: Time): boolean {
  return a.seconds !== b.seconds ? a.seconds < b.seconds : a.nanoseconds < b.nanoseconds;
}

export function timeOf(date: Date): Time {
  const seconds = Math.floor(date.getTime() / 1000);
  return { seconds, nanoseconds: (date.getTime() - seconds * 1000) * 1e6 };
}

/** Undefined for a time that no calendar of ours reaches. */
export function dateOf(time: Time): Date | undefined {
  const date = new Date(time.seconds * 1000 + Math.floor(time.nanoseconds / 1e6));
  return Number.isNaN(date.getTime()) ? undefined : date;
}

let lastSeconds: number | undefined;
let lastText: string | undefined;

/** `2026-11-23 12:03:04.123` in the time zone of TZ; undefined for a time that no calendar of ours reaches. */
export function formatLocal(time: Time): string | undefined {
  if (time.seconds !== lastSeconds) {
    lastSeconds = time.seconds;
    lastText = localTime({ seconds: time.seconds, nanoseconds: 0 })?.slice(0, -10);
  }
  return lastText === undefined ? undefined : `${lastText}.${milliseconds(time)}`;
}

/** `2026-11-23T12:03:04.123Z`. */
export function formatUtc(time: Time): string | undefined {
  return dateOf(time)?.toISOString();
}

function milliseconds(time: Time): string {
  return String(Math.floor(time.nanoseconds / 1e6)).padStart(3, "0");
}
