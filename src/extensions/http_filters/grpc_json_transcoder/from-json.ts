/** JSON to a message of any schema, by the rules of proto JSON. */
import { parseBase64, parseBool, parseDuration, parseFieldMask, parseFloating, parseInteger, parseTimestamp } from "../../../config/json-values.ts";
import type { FieldDesc, MessageDesc } from "../../../config/schema/descriptor.ts";
import { createMessage, getField, type LoadedMessage, setField, setKey } from "../../../config/shape.ts";

/** What is wrong with the client's JSON. */
export class JsonError extends Error {}

export interface JsonReadOptions {
  readonly caseInsensitiveEnums: boolean;
  readonly ignoreUnknown: boolean;
}

const maxDepth = 100;

/** `path`: of the message itself, for errors; "" for the whole. */
export function fromJson(value: unknown, desc: MessageDesc, options: JsonReadOptions, path = "", depth = 0): LoadedMessage {
  if (Array.isArray(value)) throw new JsonError(`${path}: Proto field is not repeating, cannot start list.`);
  if (value === null || typeof value !== "object") throw new JsonError(`${path}: invalid value ${JSON.stringify(value)} for type TYPE_MESSAGE`);
  if (depth > maxDepth) throw new JsonError("nested too deeply");
  const into = createMessage(desc);
  for (const [name, item] of Object.entries(value)) {
    const field = desc.field(name);
    if (field === undefined) {
      if (options.ignoreUnknown) continue;
      throw new JsonError(`${name}: Cannot find field.`);
    }
    if (item === null && field.special !== "value" && !(field.type === "enum" && field.typeName === "google.protobuf.NullValue")) continue;
    setField(into, field, fieldValue(item, field, options, path === "" ? field.name : `${path}.${field.name}`, depth));
  }
  return into;
}

function fieldValue(value: unknown, field: FieldDesc, options: JsonReadOptions, path: string, depth: number): unknown {
  if (field.label === "list") {
    if (!Array.isArray(value)) throw new JsonError(`${path}: a list is expected`);
    return value.map((item) => oneValue(item, field, options, path, depth));
  }
  if (field.label === "map") {
    if (value === null || typeof value !== "object" || Array.isArray(value)) throw new JsonError(`${path}: an object is expected`);
    const map = {};
    for (const [key, item] of Object.entries(value)) setKey(map, key, oneValue(item, field, options, path, depth));
    return map;
  }
  return oneValue(value, field, options, path, depth);
}

function oneValue(value: unknown, field: FieldDesc, options: JsonReadOptions, path: string, depth: number): unknown {
  if (Array.isArray(value) && field.special !== "value" && field.special !== "list_value")
    throw new JsonError(`${path}: Proto field is not repeating, cannot start list.`);
  if (field.type !== "message") return scalarOf(value, field, options, path);
  const desc = field.message;
  switch (desc.special) {
    case undefined:
    case "empty":
      return fromJson(value, desc, options, path, depth + 1);
    case "wrapper":
      return scalarOf(value, desc.fields[0], options, path);
    case "struct":
    case "value":
    case "list_value":
      return value;
    case "duration": {
      const parsed = parseDuration(String(value));
      if ("why" in parsed) throw new JsonError(`${path}: ${parsed.why}`);
      return { $typeName: desc.typeName, ...parsed.value };
    }
    case "timestamp": {
      const parsed = parseTimestamp(String(value));
      if ("why" in parsed) throw new JsonError(`${path}: ${parsed.why}`);
      return { $typeName: desc.typeName, ...parsed.value };
    }
    case "field_mask":
      return { $typeName: desc.typeName, paths: parseFieldMask(String(value)) };
    case "any":
      throw new JsonError(`${path}: google.protobuf.Any is not taken in JSON`);
  }
}

/** A scalar from JSON or from the text of a path or query. */
export function scalarOf(value: unknown, field: FieldDesc, options: JsonReadOptions, path: string): unknown {
  const bad = (): never => {
    throw new JsonError(`${path}: invalid value ${JSON.stringify(value)} for type TYPE_${field.type.toUpperCase()}`);
  };
  const text = typeof value === "string" ? value : String(value);
  switch (field.type) {
    case "string":
      return typeof value === "string" ? value : bad();
    case "bool":
      return typeof value === "boolean" ? value : (parseBool(text) ?? bad());
    case "bytes": {
      const parsed = parseBase64(text);
      return "why" in parsed ? bad() : parsed.value;
    }
    case "enum": {
      const wanted = options.caseInsensitiveEnums ? text.toLowerCase() : text;
      const found = field.enum.values.find(({ name }) => (options.caseInsensitiveEnums ? name.toLowerCase() : name) === wanted);
      if (found !== undefined) return found.number;
      return /^-?\d{1,10}$/.test(text) ? Number(text) : bad();
    }
    case "double":
    case "float": {
      const parsed = parseFloating(text, field.type);
      return "why" in parsed ? bad() : parsed.value;
    }
    case "message":
      return bad();
    default: {
      const parsed = parseInteger(text, field.type);
      if ("why" in parsed) return bad();
      return /64$/.test(field.type) ? parsed.value : Number(parsed.value);
    }
  }
}

/** The field that a dotted path names, and the types on the way; undefined: there is none. */
export function resolvePath(desc: MessageDesc, path: readonly string[]): FieldDesc[] | undefined {
  const fields: FieldDesc[] = [];
  let at: MessageDesc | undefined = desc;
  for (const name of path) {
    const field: FieldDesc | undefined = at?.field(name);
    if (field === undefined) return undefined;
    fields.push(field);
    at = field.type === "message" && field.special === undefined && field.label === "one" ? field.message : undefined;
  }
  return fields;
}

/** Sets what a path or query says; a repeated field gets one more value. */
export function bindText(message: LoadedMessage, path: readonly FieldDesc[], text: string, options: JsonReadOptions): void {
  let at = message;
  for (const field of path.slice(0, -1)) {
    let next = getField(at, field) as LoadedMessage | undefined;
    if (next === undefined) setField(at, field, (next = createMessage(field.message)));
    at = next;
  }
  const last = path[path.length - 1];
  const value = oneValue(text, last, options, path.map(({ name }) => name).join("."), 0);
  if (last.label === "list") setField(at, last, [...((getField(at, last) as unknown[] | undefined) ?? []), value]);
  else setField(at, last, value);
}
