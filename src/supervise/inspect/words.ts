/** Plain words for what is read from services and logs: durations, sizes, ends of processes, text that is safe on a terminal. */
import { constants } from "node:os";

/** Whole units, two at most: `12 ms`, `3 s`, `4 min 5 s`, `3 h 4 min`, `5 d 3 h`. A negative time is none. */
export function duration(ms: number): string {
  if (!(ms > 0)) return "0 s";
  if (ms < 1000) return `${Math.floor(ms)} ms`;
  const s = Math.floor(ms / 1000);
  if (s < 60) return `${s} s`;
  const two = (large: number, unit: string, small: number, smallUnit: string): string =>
    small === 0 ? `${large} ${unit}` : `${large} ${unit} ${small} ${smallUnit}`;
  if (s < 3600) return two(Math.floor(s / 60), "min", s % 60, "s");
  if (s < 86_400) return two(Math.floor(s / 3600), "h", Math.floor(s / 60) % 60, "min");
  return two(Math.floor(s / 86_400), "d", Math.floor(s / 3600) % 24, "h");
}

/** Decimal units: `512 B`, `45.1 MB`, `1.25 GB`. */
export function size(bytes: number): string {
  if (bytes < 1000) return `${bytes} B`;
  let value = bytes;
  let unit = "";
  for (unit of ["kB", "MB", "GB", "TB"]) {
    value /= 1000;
    if (value < 999.95) break;
  }
  return `${value.toFixed(1)} ${unit}`;
}

export function percent(value: number): string {
  return `${value < 9.95 ? value.toFixed(1) : value.toFixed(0)}%`;
}

/** `SIGTERM` for 15. */
export function signalName(number: number): string {
  return Object.entries(constants.signals).find(([, value]) => value === number)?.[0] ?? `signal ${number}`;
}

/** How a process ended. */
export interface Exit {
  readonly code: number | null;
  readonly signal: string | null;
  readonly at?: Date;
  readonly ranMs?: number;
  /** It was taken over from a supervise that was killed: nobody could learn how it ended. */
  readonly adopted?: true;
}

/** What a shell, an interpreter or a wrapper means by an exit code. */
function meaning(code: number): string {
  if (code === 126) return " (not executable)";
  if (code === 127) return " (command not found)";
  if (code > 128 && code <= 128 + 64) return ` (its child was killed by ${signalName(code - 128)})`;
  return "";
}

/** `exit code 1, 3 s ago after 12 ms`, `killed by SIGKILL, ...`. */
export function exitReason(exit: Exit, now: Date): string {
  const { code, signal } = exit;
  let text: string;
  if (signal !== null) text = `killed by ${signal}`;
  else if (code !== null) text = `exit code ${code}${meaning(code)}`;
  else text = exit.adopted ? "ended, how is not known (its supervise had been killed)" : "ended, how is not known";
  if (exit.at !== undefined) text += `, ${duration(now.getTime() - exit.at.getTime())} ago`;
  if (exit.ranMs !== undefined) text += `${exit.at === undefined ? "," : ""} after ${duration(exit.ranMs)}`;
  return text;
}

/**
 * Control characters, what turns the direction of writing, line and paragraph separators, the byte order mark, and what is no character at all: none
 * of them may reach a terminal as it is. A tab does no harm within a line.
 */
const UNSAFE =
  /[\0-\x08\x0a-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ufff9-\ufffb]|[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** Unsafe characters as `\x1b` or `\u202e`. */
export function printable(text: string): string {
  return text.replace(UNSAFE, (character) => {
    const code = character.charCodeAt(0);
    return code < 0x100 ? `\\x${code.toString(16).padStart(2, "0")}` : `\\u${code.toString(16).padStart(4, "0")}`;
  });
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });

/** Bytes as safe text: what is not UTF-8 as `\xff`. */
export function printableBytes(bytes: Uint8Array): string {
  try {
    return printable(utf8.decode(bytes));
  } catch {
    // falls through to the slow way
  }
  let text = "";
  for (let i = 0; i < bytes.length; ) {
    const first = bytes[i];
    const length = first < 0x80 ? 1 : first >= 0xc2 && first < 0xe0 ? 2 : first >= 0xe0 && first < 0xf0 ? 3 : first >= 0xf0 && first < 0xf5 ? 4 : 0;
    let character: string | undefined;
    if (length > 0 && i + length <= bytes.length) {
      try {
        character = utf8.decode(bytes.subarray(i, i + length));
      } catch {
        // the first byte alone is escaped
      }
    }
    text += character === undefined ? `\\x${first.toString(16).padStart(2, "0")}` : printable(character);
    i += character === undefined ? 1 : length;
  }
  return text;
}

const ZERO_WIDTH = /\p{Mn}|\p{Me}|[\u200b\u200c\u2060]|\u200d|[\ufe00-\ufe0f]/u;
const WIDE =
  /[\u1100-\u115f\u2e80-\u303e\u3041-\u33ff\u3400-\u4dbf\u4e00-\ua4cf\uac00-\ud7a3\uf900-\ufaff\ufe30-\ufe6f\uff00-\uff60\uffe0-\uffe6]|\p{Emoji_Presentation}|[\u{20000}-\u{3fffd}]/u;

function characterWidth(character: string): number {
  if (character < "\u0300") return 1;
  return ZERO_WIDTH.test(character) ? 0 : WIDE.test(character) ? 2 : 1;
}

/** Columns that a terminal gives safe text. */
export function width(text: string): number {
  if (/^[\x20-\u02ff]*$/.test(text)) return text.length;
  let columns = 0;
  for (const character of text) columns += characterWidth(character);
  return columns;
}

/** Cut to the columns, with `…` where something is missing. */
export function fit(text: string, columns: number): string {
  if (width(text) <= columns) return text;
  if (columns < 1) return "";
  let kept = "";
  let used = 0;
  for (const character of text) {
    const more = characterWidth(character);
    if (used + more > columns - 1) break;
    kept += character;
    used += more;
  }
  return `${kept}…`;
}
