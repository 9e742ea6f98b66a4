/** JSON log formats: a tree whose strings are formats. Compiled to a flat list of literal JSON text and values. */
import type { JsonObject, JsonValue } from "../config/message.ts";
import type { FormatContext, Formatter, Operator } from "./formatter.ts";
import { toBytes } from "./operators/operator.ts";

type Part = string | Operator;
/** Writes a value as JSON; undefined where `omitEmpty` leaves it out. */
type Writer = (context: FormatContext) => string | undefined;

const needsEscape = /["\\\x00-\x1f\x7f-\xff]/;
const escapes: Readonly<Record<string, string>> = { '"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t" };
const special = /["\\\x00-\x1f]/g;
const high = /[\x80-\xff]/;
const highAll = /[\x80-\xff]/g;
const strictUtf8 = new TextDecoder("utf-8", { fatal: true });

function isUtf8(bytes: string): boolean {
  try {
    strictUtf8.decode(Buffer.from(bytes, "latin1"));
    return true;
  } catch {
    return false;
  }
}

/** Escapes a string of bytes for use between quotes. Bytes that are not UTF-8 are written as octal escapes (Envoy's Json::sanitize). */
export function escapeJson(value: string): string {
  if (!needsEscape.test(value)) return value;
  const escaped = value.replace(special, (character) => escapes[character] ?? `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
  if (!high.test(escaped) || isUtf8(escaped)) return escaped;
  return escaped.replace(highAll, (character) => `\\${character.charCodeAt(0).toString(8)}`);
}

/** A value of an operator as JSON. Strings inside are byte strings at the top and Unicode below it (they come from metadata). */
function jsonOf(value: unknown): string {
  switch (typeof value) {
    case "string":
      return `"${escapeJson(value)}"`;
    case "number":
      return Number.isFinite(value) ? String(value) : "null";
    case "boolean":
      return value ? "true" : "false";
    case "bigint":
      return value.toString();
    default:
      return value === null || value === undefined ? "null" : toBytes(JSON.stringify(value));
  }
}

function single(operator: Operator): Writer {
  const { json } = operator;
  if (json === undefined) {
    return (context) => {
      const value = operator.text(context);
      return value === undefined ? undefined : `"${escapeJson(value)}"`;
    };
  }
  return (context) => {
    const value = json.call(operator, context);
    return value === undefined || value === null ? undefined : jsonOf(value);
  };
}

function joined(parts: readonly Part[], absent: string): Writer {
  const escaped = parts.map((part) => (typeof part === "string" ? escapeJson(part) : part));
  return (context) => {
    let out = '"';
    for (const part of escaped) {
      if (typeof part === "string") out += part;
      else {
        const value = part.text(context);
        out += value === undefined ? absent : escapeJson(value);
      }
    }
    return `${out}"`;
  };
}

function compileValue(value: JsonValue, parse: (text: string) => Part[], options: { omitEmpty: boolean; sortProperties: boolean }): Writer {
  if (typeof value === "string") {
    const parts = parse(value);
    if (parts.length === 0) return () => '""';
    if (parts.length === 1) {
      const [part] = parts;
      if (typeof part !== "string") return single(part);
    }
    return joined(parts, options.omitEmpty ? "" : "-");
  }
  if (value === null || typeof value === "number" || typeof value === "boolean") {
    const fixed = jsonOf(value);
    return () => fixed;
  }
  if (Array.isArray(value)) {
    const items = value.map((item) => compileValue(item, parse, options));
    return (context) => {
      let out = "";
      for (const item of items) {
        const text = item(context);
        if (text === undefined && options.omitEmpty) continue;
        out += `${out === "" ? "" : ","}${text ?? "null"}`;
      }
      return `[${out}]`;
    };
  }
  return compileObject(value, parse, options);
}

function compareBytes(a: string, b: string): number {
  return Buffer.compare(Buffer.from(a), Buffer.from(b));
}

function compileObject(object: JsonObject, parse: (text: string) => Part[], options: { omitEmpty: boolean; sortProperties: boolean }): Writer {
  const keys = Object.keys(object);
  if (options.sortProperties) keys.sort(compareBytes);
  const members = keys.map((key) => ({ head: `"${escapeJson(toBytes(key))}":`, write: compileValue(object[key], parse, options) }));
  const { omitEmpty } = options;
  return (context) => {
    let out = "";
    for (let i = 0; i < members.length; i++) {
      const { head, write } = members[i];
      const text = write(context);
      if (text === undefined && omitEmpty) continue;
      out += (out === "" ? "" : ",") + head + (text ?? "null");
    }
    return `{${out}}`;
  };
}

export function compileJsonFormat(format: JsonObject, parse: (text: string) => Part[], options: { omitEmpty: boolean; sortProperties: boolean }): Formatter {
  const write = compileObject(format, parse, options);
  return { format: (context) => `${write(context) ?? "{}"}\n` };
}
