/**
 * The time formats of %START_TIME(...)% and its kin: strftime, the extensions %E3S, %E*S, %Ez, %E4Y of Envoy's time library, and Envoy's own
 * %s (seconds since 1970) and %f, %3f (fractions of a second, nine digits unless told). Compiled; the part that changes once a second is cached.
 */
import { FormatError, toBytes } from "./operators/operator.ts";

/** A moment: whole seconds since 1970 and nanoseconds within the second. */
export type TimeFormatter = (wallMs: number) => string;

const days = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const months = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];

interface Fields {
  year: number;
  month: number;
  day: number;
  hour: number;
  minute: number;
  second: number;
  weekday: number;
  yearDay: number;
  offsetMinutes: number;
  zone: string;
  epochSeconds: number;
}

type Part = string | ((fields: Fields) => string) | { readonly fraction: number; readonly dropZeros: boolean; readonly dot: boolean };

const two = (n: number): string => (n < 10 ? `0${n}` : String(n));
const blank2 = (n: number): string => (n < 10 ? ` ${n}` : String(n));
const three = (n: number): string => (n < 10 ? `00${n}` : n < 100 ? `0${n}` : String(n));
const hour12 = (f: Fields): number => f.hour % 12 || 12;

function isLeap(year: number): boolean {
  return (year % 4 === 0 && year % 100 !== 0) || year % 400 === 0;
}

/** ISO 8601 week number and the year it belongs to. */
function isoWeek(f: Fields): { year: number; week: number } {
  const weekday = (f.weekday + 6) % 7;
  let year = f.year;
  let week = Math.floor((f.yearDay - weekday + 10) / 7);
  const weeksIn = (y: number): number => {
    const january1 = new Date(Date.UTC(y, 0, 1)).getUTCDay();
    return january1 === 4 || (january1 === 3 && isLeap(y)) ? 53 : 52;
  };
  if (week < 1) week = weeksIn(--year);
  else if (week > weeksIn(year)) {
    week = 1;
    year++;
  }
  return { year, week };
}

function offset(f: Fields, colon: string, seconds: boolean): string {
  const minutes = Math.abs(f.offsetMinutes);
  return `${f.offsetMinutes < 0 ? "-" : "+"}${two(Math.floor(minutes / 60))}${colon}${two(minutes % 60)}${seconds ? `${colon}00` : ""}`;
}

/** One strftime letter in the C locale; undefined where it is none. */
const letters: Readonly<Record<string, (f: Fields) => string>> = {
  a: (f) => days[f.weekday].slice(0, 3),
  A: (f) => days[f.weekday],
  b: (f) => months[f.month].slice(0, 3),
  B: (f) => months[f.month],
  c: (f) => `${days[f.weekday].slice(0, 3)} ${months[f.month].slice(0, 3)} ${blank2(f.day)} ${two(f.hour)}:${two(f.minute)}:${two(f.second)} ${f.year}`,
  C: (f) => two(Math.floor(f.year / 100)),
  d: (f) => two(f.day),
  D: (f) => `${two(f.month + 1)}/${two(f.day)}/${two(f.year % 100)}`,
  e: (f) => blank2(f.day),
  F: (f) => `${f.year}-${two(f.month + 1)}-${two(f.day)}`,
  g: (f) => two(isoWeek(f).year % 100),
  G: (f) => String(isoWeek(f).year),
  h: (f) => months[f.month].slice(0, 3),
  H: (f) => two(f.hour),
  I: (f) => two(hour12(f)),
  j: (f) => three(f.yearDay),
  k: (f) => blank2(f.hour),
  l: (f) => blank2(hour12(f)),
  m: (f) => two(f.month + 1),
  M: (f) => two(f.minute),
  n: () => "\n",
  p: (f) => (f.hour < 12 ? "AM" : "PM"),
  P: (f) => (f.hour < 12 ? "am" : "pm"),
  r: (f) => `${two(hour12(f))}:${two(f.minute)}:${two(f.second)} ${f.hour < 12 ? "AM" : "PM"}`,
  R: (f) => `${two(f.hour)}:${two(f.minute)}`,
  s: (f) => String(f.epochSeconds),
  S: (f) => two(f.second),
  t: () => "\t",
  T: (f) => `${two(f.hour)}:${two(f.minute)}:${two(f.second)}`,
  u: (f) => String(f.weekday === 0 ? 7 : f.weekday),
  U: (f) => two(Math.floor((f.yearDay + 6 - f.weekday) / 7)),
  V: (f) => two(isoWeek(f).week),
  w: (f) => String(f.weekday),
  W: (f) => two(Math.floor((f.yearDay + 6 - ((f.weekday + 6) % 7)) / 7)),
  x: (f) => `${two(f.month + 1)}/${two(f.day)}/${two(f.year % 100)}`,
  X: (f) => `${two(f.hour)}:${two(f.minute)}:${two(f.second)}`,
  y: (f) => two(f.year % 100),
  Y: (f) => String(f.year),
  z: (f) => offset(f, "", false),
  Z: (f) => f.zone,
  "%": () => "%",
};

const fractionDigits = (digit: string): number | undefined => (digit >= "0" && digit <= "9" && digit.length === 1 ? Number(digit) : undefined);

function parse(pattern: string): Part[] {
  const parts: Part[] = [];
  const push = (part: Part): void => {
    const last = parts.length - 1;
    if (typeof part === "string" && typeof parts[last] === "string") parts[last] += part;
    else parts.push(part);
  };
  let i = 0;
  while (i < pattern.length) {
    const character = pattern[i];
    if (character !== "%" || i + 1 >= pattern.length) {
      push(character);
      i++;
      continue;
    }
    const next = pattern[i + 1];
    const after = pattern[i + 2] ?? "";
    const third = pattern[i + 3] ?? "";
    if (next === "f") {
      push({ fraction: 9, dropZeros: false, dot: false });
      i += 2;
    } else if (next >= "1" && next <= "9" && after === "f") {
      push({ fraction: Number(next), dropZeros: false, dot: false });
      i += 3;
    } else if (next === "E" && (after === "z" || after === "Z")) {
      push((f) => offset(f, ":", false));
      i += 3;
    } else if (next === "E" && after === "T") {
      push("T");
      i += 3;
    } else if (next === "E" && after === "*" && (third === "S" || third === "f")) {
      if (third === "S") push(letters.S);
      push({ fraction: 15, dropZeros: true, dot: third === "S" });
      i += 4;
    } else if (next === "E" && after === "*" && third === "z") {
      push((f) => offset(f, ":", true));
      i += 4;
    } else if (next === "E" && after === "4" && third === "Y") {
      push((f) => String(f.year).padStart(4, "0"));
      i += 4;
    } else if (next === "E" && fractionDigits(after) !== undefined && (third === "S" || third === "f")) {
      const digits = Number(after);
      if (third === "S") push(letters.S);
      if (digits > 0) push({ fraction: digits, dropZeros: false, dot: third === "S" });
      i += 4;
    } else if ((next === "E" || next === "O") && letters[after] !== undefined) {
      // Alternative representations of the locale: none in the C locale.
      push(letters[after]);
      i += 3;
    } else if (next === ":" && after === "z") {
      push((f) => offset(f, ":", false));
      i += 3;
    } else if (next === ":" && after === ":" && third === "z") {
      push((f) => offset(f, ":", true));
      i += 4;
    } else if (letters[next] !== undefined) {
      push(letters[next]);
      i += 2;
    } else {
      push(`%${next}`);
      i += 2;
    }
  }
  return parts;
}

function fieldsOf(seconds: number, local: boolean): Fields {
  const date = new Date(seconds * 1000);
  if (local) {
    const startOfYear = Date.UTC(date.getFullYear(), 0, 1);
    const zone = new Intl.DateTimeFormat("en-US", { timeZoneName: "short" }).formatToParts(date).find((part) => part.type === "timeZoneName")?.value ?? "";
    return {
      year: date.getFullYear(),
      month: date.getMonth(),
      day: date.getDate(),
      hour: date.getHours(),
      minute: date.getMinutes(),
      second: date.getSeconds(),
      weekday: date.getDay(),
      yearDay: Math.round((Date.UTC(date.getFullYear(), date.getMonth(), date.getDate()) - startOfYear) / 86400000) + 1,
      offsetMinutes: -date.getTimezoneOffset(),
      zone,
      epochSeconds: seconds,
    };
  }
  return {
    year: date.getUTCFullYear(),
    month: date.getUTCMonth(),
    day: date.getUTCDate(),
    hour: date.getUTCHours(),
    minute: date.getUTCMinutes(),
    second: date.getUTCSeconds(),
    weekday: date.getUTCDay(),
    yearDay: Math.floor((seconds * 1000 - Date.UTC(date.getUTCFullYear(), 0, 1)) / 86400000) + 1,
    offsetMinutes: 0,
    zone: "UTC",
    epochSeconds: seconds,
  };
}

function fractionText(part: { fraction: number; dropZeros: boolean; dot: boolean }, nanos: number): string {
  let digits = String(nanos).padStart(9, "0");
  if (part.dropZeros) {
    let end = 9;
    while (end > 0 && digits.charCodeAt(end - 1) === 48) end--;
    if (end === 0) return part.dot ? "" : "0";
    digits = digits.slice(0, end);
  } else digits = digits.slice(0, part.fraction);
  return part.dot ? `.${digits}` : digits;
}

/** Throws FormatError for a pattern that could break a log line. `wallMs` may have a fraction: microseconds are kept. */
export function compileTimeFormat(pattern: string, local = false): TimeFormatter {
  if (pattern.includes("\n")) throw new FormatError("Invalid header configuration. Format string contains newline.");
  const parts = parse(toBytes(pattern));
  let cachedSecond = Number.NaN;
  let cached: (string | Extract<Part, { fraction: number }>)[] = [];
  let only = "";

  const render = (second: number): void => {
    const fields = fieldsOf(second, local);
    cached = [];
    for (const part of parts) {
      const piece = typeof part === "function" ? part(fields) : part;
      const last = cached.length - 1;
      if (typeof piece === "string" && typeof cached[last] === "string") cached[last] += piece;
      else cached.push(piece);
    }
    only = cached.length === 1 && typeof cached[0] === "string" ? cached[0] : "";
    cachedSecond = second;
  };

  return (wallMs) => {
    const second = Math.floor(wallMs / 1000);
    if (second !== cachedSecond) render(second);
    if (only !== "") return only;
    const nanos = Math.min(999_999_999, Math.max(0, Math.floor((wallMs - second * 1000) * 1e3 + 1e-3) * 1000));
    let out = "";
    for (let i = 0; i < cached.length; i++) {
      const part = cached[i];
      out += typeof part === "string" ? part : fractionText(part, nanos);
    }
    return out;
  };
}

/** %START_TIME% without a pattern: 2026-01-31T23:59:59.123Z, milliseconds. Its own code because nearly every log line has it. */
export function compileDefaultTimeFormat(): TimeFormatter {
  let cachedSecond = Number.NaN;
  let head = "";
  return (wallMs) => {
    const second = Math.floor(wallMs / 1000);
    if (second !== cachedSecond) {
      head = new Date(second * 1000).toISOString().slice(0, 20);
      cachedSecond = second;
    }
    const ms = Math.floor(wallMs - second * 1000);
    return `${head}${three(ms)}Z`;
  };
}
