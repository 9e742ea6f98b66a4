/** Message trees as proto JSON: config_dump, the other JSON admin pages, JSON given to users. */
import type { JsonObject, JsonValue } from "./message.ts";
import type { EnumDesc, FieldDesc, MessageDesc } from "./schema/descriptor.ts";
import { envoySchema } from "./schema/registry.ts";
import { getField, type LoadedMessage, setKey } from "./shape.ts";

export interface JsonOptions {
  /** snake_case names as in the .proto files (Envoy's admin pages), else lowerCamelCase. */
  readonly protoNames: boolean;
  /** Values of fields that the API marks sensitive are shown as "[redacted]" or left out. */
  readonly redact: boolean;
  /** Also lists, maps and proto3 scalars that are at their default (Envoy's always_print_primitive_fields). */
  readonly emitDefaults?: boolean | undefined;
  /** Enums as their numbers. */
  readonly enumNumbers?: boolean | undefined;
}

/** Fields in the order of their numbers, as protobuf prints them; what is unset is left out. Types that the API lacks give {}. */
export function toJson(message: object, options: JsonOptions): JsonObject {
  const desc = envoySchema().message((message as LoadedMessage).$typeName);
  return desc === undefined ? {} : messageJson(message as LoadedMessage, desc, options, false);
}

/** The same for a message of any schema. */
export function toJsonAs(message: object, desc: MessageDesc, options: JsonOptions): JsonObject {
  return messageJson(message as LoadedMessage, desc, options, false);
}

const ordered = new WeakMap<MessageDesc, readonly FieldDesc[]>();

function fieldsInOrder(desc: MessageDesc): readonly FieldDesc[] {
  let fields = ordered.get(desc);
  if (fields === undefined) ordered.set(desc, (fields = [...desc.fields].sort((a, b) => a.number - b.number)));
  return fields;
}

function messageJson(message: LoadedMessage, desc: MessageDesc, options: JsonOptions, hidden: boolean, into: JsonObject = {}): JsonObject {
  for (const field of fieldsInOrder(desc)) {
    const name = options.protoNames ? field.name : field.jsonName;
    const value = getField(message, field);
    if (value === undefined) {
      if (options.emitDefaults === true && !field.explicit) into[name] = defaultJson(field, options);
      continue;
    }
    const secret = options.redact && (hidden || field.sensitive);
    if (field.label === "list") {
      const items = (value as unknown[]).map((item) => valueJson(item, field, options, secret));
      into[name] = items.map((item) => item ?? null);
    } else if (field.label === "map") {
      const map: JsonObject = {};
      for (const [key, item] of Object.entries(value as object)) setKey(map, key, valueJson(item, field, options, secret) ?? null);
      into[name] = map;
    } else {
      const json = valueJson(value, field, options, secret);
      if (json !== undefined) into[name] = json;
    }
  }
  return into;
}

function defaultJson(field: FieldDesc, options: JsonOptions): JsonValue {
  if (field.label === "list") return [];
  if (field.label === "map") return {};
  switch (field.type) {
    case "bool":
      return false;
    case "string":
    case "bytes":
      return "";
    case "enum":
      return enumJson(field.enum, 0, options);
    case "int64":
    case "uint64":
    case "sint64":
    case "fixed64":
    case "sfixed64":
      return "0";
    default:
      return 0;
  }
}

/** undefined: a secret that is neither text nor a message, which is left out. */
function valueJson(value: unknown, field: FieldDesc, options: JsonOptions, secret: boolean): JsonValue | undefined {
  if (field.type !== "message") {
    if (!secret) return field.type === "enum" ? enumJson(field.enum, value as number, options) : scalarJson(value, field.type === "float");
    return redacted(value);
  }
  const desc = field.message;
  switch (desc.special) {
    case "wrapper":
      return secret ? redacted(value) : scalarJson(value, desc.fields[0].type === "float");
    case "struct":
    case "value":
    case "list_value":
      return secret ? redactedJson(value as JsonValue) : (value as JsonValue);
    case "any":
      return anyJson(value as LoadedMessage, options, secret);
    case "duration":
      return secret ? undefined : durationJson(value as Moment);
    case "timestamp":
      return secret ? undefined : timestampJson(value as Moment);
    case "field_mask":
      return fieldMaskJson(value as { paths: string[] });
    default:
      return messageJson(value as LoadedMessage, desc, options, secret);
  }
}

function anyJson(message: LoadedMessage, options: JsonOptions, secret: boolean): JsonObject {
  const desc = envoySchema().message(message.$typeName);
  const json: JsonObject = { "@type": `type.googleapis.com/${message.$typeName}` };
  if (desc === undefined) return json;
  const value = message["value"];
  switch (desc.special) {
    case undefined:
    case "empty":
      return messageJson(message, desc, options, secret, json);
    case "duration":
      return { ...json, value: durationJson(message as unknown as Moment) };
    case "timestamp":
      return { ...json, value: timestampJson(message as unknown as Moment) };
    case "field_mask":
      return { ...json, value: fieldMaskJson(message as unknown as { paths: string[] }) };
    case "struct":
      return { ...json, value: (message["fields"] ?? {}) as JsonValue };
    case "list_value":
      return { ...json, value: (message["values"] ?? []) as JsonValue };
    case "value":
      return { ...json, value: (value ?? null) as JsonValue };
    case "wrapper":
      return { ...json, value: scalarJson(value ?? null, desc.fields[0].type === "float") };
    case "any":
      // An Any that was left packed: its type is all that can be shown.
      return { "@type": (message["typeUrl"] as string | undefined) ?? "" };
  }
}

function redacted(value: unknown): JsonValue | undefined {
  if (typeof value === "string") return "[redacted]";
  if (value instanceof Uint8Array) return Buffer.from("[redacted]").toString("base64");
  return undefined;
}

function redactedJson(value: JsonValue): JsonValue {
  if (typeof value === "string") return "[redacted]";
  if (Array.isArray(value)) return value.map(redactedJson);
  if (typeof value === "object" && value !== null) {
    const object: JsonObject = {};
    for (const [key, item] of Object.entries(value)) setKey(object, key, redactedJson(item));
    return object;
  }
  return null;
}

function enumJson(desc: EnumDesc, number: number, options: JsonOptions): JsonValue {
  if (desc.typeName === "google.protobuf.NullValue") return null;
  return options.enumNumbers === true ? number : (desc.byNumber(number)?.name ?? number);
}

function scalarJson(value: unknown, isFloat: boolean): JsonValue {
  switch (typeof value) {
    case "bigint":
      return value.toString();
    case "number":
      if (!Number.isFinite(value)) return Number.isNaN(value) ? "NaN" : value > 0 ? "Infinity" : "-Infinity";
      return isFloat ? shortestFloat(value) : value;
    case "boolean":
    case "string":
      return value;
    default:
      return value instanceof Uint8Array ? Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64") : null;
  }
}

/** The shortest decimal that reads back as the same 32-bit float. */
function shortestFloat(value: number): number {
  const float = Math.fround(value);
  for (let digits = 6; digits < 9; digits++) {
    const short = Number(float.toPrecision(digits));
    if (Math.fround(short) === float) return short;
  }
  return Number(float.toPrecision(9));
}

interface Moment {
  readonly seconds: bigint;
  readonly nanos: number;
}

/** "1s", "1.500s": no, three, six or nine decimals. */
export function durationJson(duration: Moment): string {
  const negative = duration.seconds < 0n || duration.nanos < 0;
  const seconds = duration.seconds < 0n ? -duration.seconds : duration.seconds;
  return `${negative ? "-" : ""}${seconds}${fraction(Math.abs(duration.nanos))}s`;
}

/** RFC 3339 in UTC, decimals as for durations. */
export function timestampJson(timestamp: Moment): string {
  const date = new Date(Number(timestamp.seconds) * 1000);
  const text = Number.isNaN(date.getTime()) ? "1970-01-01T00:00:00" : date.toISOString().slice(0, -5);
  return `${text}${fraction(timestamp.nanos)}Z`;
}

function fraction(nanos: number): string {
  if (nanos === 0) return "";
  const digits = String(nanos).padStart(9, "0");
  return `.${digits.endsWith("000000") ? digits.slice(0, 3) : digits.endsWith("000") ? digits.slice(0, 6) : digits}`;
}

function fieldMaskJson(mask: { readonly paths: readonly string[] }): string {
  return mask.paths.map((path) => path.replace(/_([a-z])/g, (_, letter: string) => letter.toUpperCase())).join(",");
}
