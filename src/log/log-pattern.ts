/**
 * Line patterns of the system log: spdlog's syntax with Envoy's additions, compiled.
 * `%v` message, `%_` message without line breaks, `%j` message escaped for JSON, `%*` and `%+` tags and message apart; `%10l`, `%-10l`, `%=10l` pad, `%3!l` cuts.
 */
import type { Level, LogRecord } from "./log.ts";

export type LogPattern = (record: LogRecord) => string;
type Piece = (record: LogRecord, time: LocalTime) => string;

const days = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const months = ["January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"];
const shortLevels: Readonly<Record<Level, string>> = { trace: "T", debug: "D", info: "I", warning: "W", error: "E", critical: "C", off: "O" };

const pad = (value: number, width = 2): string => String(value).padStart(width, "0");

/** Fields of a second in local time, computed once a second. */
interface LocalTime {
  readonly date: Date;
  readonly second: number;
  readonly dateText: string;
  readonly timeText: string;
}
let current: LocalTime = { date: new Date(0), second: Number.NaN, dateText: "", timeText: "" };
function localTime(at: number): LocalTime {
  const second = Math.floor(at / 1000);
  if (current.second !== second) {
    const date = new Date(second * 1000);
    current = {
      date,
      second,
      dateText: `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`,
      timeText: `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`,
    };
  }
  return current;
}

function zone(date: Date): string {
  const minutes = -date.getTimezoneOffset();
  return `${minutes < 0 ? "-" : "+"}${pad(Math.floor(Math.abs(minutes) / 60))}:${pad(Math.abs(minutes) % 60)}`;
}

const jsonEscape = (text: string): string => JSON.stringify(text).slice(1, -1);
const file = (source: string): string => source.slice(0, source.lastIndexOf(":") < 0 ? undefined : source.lastIndexOf(":"));
const line = (source: string): string => (source.lastIndexOf(":") < 0 ? "" : source.slice(source.lastIndexOf(":") + 1));

/** Envoy's stable log tags: `[Tags: "ConnectionId":"3","StreamId":"7"] text`. */
const tagged = /^\[Tags: ((?:[^\]"]|"[^"]*")*)\] /;

/** Milliseconds since the last record that asked. */
function elapsed(unitsPerMs: number): Piece {
  let last: number | undefined;
  return (record) => {
    const since = last === undefined ? 0 : Math.max(0, record.at - last);
    last = record.at;
    return String(Math.floor(since * unitsPerMs));
  };
}

const pieces: Readonly<Record<string, () => Piece>> = {
  v: () => (record) => record.message,
  _: () => (record) => record.message.replaceAll("\n", "\\n"),
  j: () => (record) => jsonEscape(record.message),
  "*": () => (record) => {
    const match = tagged.exec(record.message);
    return match === null ? "" : `,${match[1]}`;
  },
  "+": () => (record) => jsonEscape(record.message.replace(tagged, "")),
  n: () => (record) => record.component,
  l: () => (record) => record.level,
  L: () => (record) => shortLevels[record.level],
  t: () => (record) => String(record.thread),
  P: () => () => String(process.pid),
  a: () => (_, time) => days[time.date.getDay()].slice(0, 3),
  A: () => (_, time) => days[time.date.getDay()],
  b: () => (_, time) => months[time.date.getMonth()].slice(0, 3),
  h: () => (_, time) => months[time.date.getMonth()].slice(0, 3),
  B: () => (_, time) => months[time.date.getMonth()],
  c: () => (_, time) =>
    `${days[time.date.getDay()].slice(0, 3)} ${months[time.date.getMonth()].slice(0, 3)} ${time.date.getDate()} ${time.timeText} ${time.date.getFullYear()}`,
  C: () => (_, time) => pad(time.date.getFullYear() % 100),
  Y: () => (_, time) => String(time.date.getFullYear()),
  D: () => (_, time) => `${pad(time.date.getMonth() + 1)}/${pad(time.date.getDate())}/${pad(time.date.getFullYear() % 100)}`,
  x: () => (_, time) => `${pad(time.date.getMonth() + 1)}/${pad(time.date.getDate())}/${pad(time.date.getFullYear() % 100)}`,
  m: () => (_, time) => pad(time.date.getMonth() + 1),
  d: () => (_, time) => pad(time.date.getDate()),
  H: () => (_, time) => pad(time.date.getHours()),
  I: () => (_, time) => pad(time.date.getHours() % 12 || 12),
  M: () => (_, time) => pad(time.date.getMinutes()),
  S: () => (_, time) => pad(time.date.getSeconds()),
  e: () => (record) => pad(Math.floor(record.at) % 1000, 3),
  f: () => (record) => pad(Math.floor((record.at % 1000) * 1e3), 6),
  F: () => (record) => pad(Math.floor((record.at % 1000) * 1e6), 9),
  E: () => (record) => String(Math.floor(record.at / 1000)),
  p: () => (_, time) => (time.date.getHours() < 12 ? "AM" : "PM"),
  r: () => (_, time) =>
    `${pad(time.date.getHours() % 12 || 12)}:${pad(time.date.getMinutes())}:${pad(time.date.getSeconds())} ${time.date.getHours() < 12 ? "AM" : "PM"}`,
  R: () => (_, time) => `${pad(time.date.getHours())}:${pad(time.date.getMinutes())}`,
  T: () => (_, time) => time.timeText,
  X: () => (_, time) => time.timeText,
  z: () => (_, time) => zone(time.date),
  "@": () => (record) => record.source,
  g: () => (record) => file(record.source),
  s: () => (record) => file(record.source).slice(file(record.source).lastIndexOf("/") + 1),
  "#": () => (record) => line(record.source),
  "!": () => () => "",
  "^": () => () => "",
  $: () => () => "",
  "&": () => () => "",
  i: () => elapsed(1e6 / 1e3),
  u: () => elapsed(1e6),
  o: () => elapsed(1),
  O: () => elapsed(1e-3),
  "%": () => () => "%",
};

function padded(piece: Piece, side: "left" | "right" | "center", width: number, cut: boolean): Piece {
  return (record, time) => {
    const text = piece(record, time);
    if (text.length >= width) return cut ? text.slice(0, width) : text;
    if (side === "right") return text.padEnd(width);
    if (side === "left") return text.padStart(width);
    return text.padStart(text.length + ((width - text.length) >> 1)).padEnd(width);
  };
}

/** Width of padded fields, at most this (spdlog has the same limit). */
const maxWidth = 64;

/** Compiles a pattern; unknown letters are printed as they stand. No line break is added. */
export function compileLogPattern(pattern: string): LogPattern {
  const list: (string | Piece)[] = [];
  let literal = "";
  let i = 0;
  while (i < pattern.length) {
    if (pattern[i] !== "%" || i + 1 >= pattern.length) {
      literal += pattern[i++];
      continue;
    }
    const start = i++;
    let side: "left" | "right" | "center" = "left";
    if (pattern[i] === "-") {
      side = "right";
      i++;
    } else if (pattern[i] === "=") {
      side = "center";
      i++;
    }
    let width = 0;
    while (pattern[i] >= "0" && pattern[i] <= "9") width = Math.min(maxWidth, width * 10 + Number(pattern[i++]));
    let cut = false;
    if (width > 0 && pattern[i] === "!") {
      cut = true;
      i++;
    }
    const letter = pattern[i++] ?? "";
    // %Y-%m-%d is nearly always there: one string a second instead of three.
    if (width === 0 && letter === "Y" && pattern.startsWith("-%m-%d", i)) {
      if (literal !== "") list.push(literal);
      literal = "";
      list.push((_, time) => time.dateText);
      i += 6;
      continue;
    }
    const make = Object.hasOwn(pieces, letter) ? pieces[letter] : undefined;
    if (make === undefined) {
      literal += pattern.slice(start, i);
      continue;
    }
    if (literal !== "") list.push(literal);
    literal = "";
    list.push(width > 0 ? padded(make(), side, width, cut) : make());
  }
  if (literal !== "") list.push(literal);
  return (record) => {
    const time = localTime(record.at);
    let out = "";
    for (const piece of list) out += typeof piece === "string" ? piece : piece(record, time);
    return out;
  };
}

const escapes: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t", '"': '\\"', "'": "\\'", "\\": "\\\\" };

/** C escapes for everything that is not printable ASCII (--log-format-escaped). Takes a string of bytes. */
export function escapeLine(line: string): string {
  return line.replace(/[^\x20-\x7e]|["'\\]/g, (character) => escapes[character] ?? `\\${(character.charCodeAt(0) & 255).toString(8).padStart(3, "0")}`);
}
