/** Message trees to protobuf's binary format: what management servers, loggers and the like are sent. */
import type { JsonValue } from "./message.ts";
import type { FieldDesc, MessageDesc, ScalarKind } from "./schema/descriptor.ts";
import { envoySchema } from "./schema/registry.ts";
import { WireType } from "./schema/wire.ts";
import { WireWriter } from "./schema/wire-writer.ts";
import { getField, type LoadedMessage } from "./shape.ts";

/** Fields that are unset (or at their default, where proto3 does not tell the two apart) are left out. Throws where the API has no such type. */
export function encodeMessage(message: { readonly $typeName: string }): Buffer {
  const desc = envoySchema().message(message.$typeName);
  if (desc === undefined) throw new Error(`no message ${message.$typeName} in the API`);
  return encodeMessageAs(message, desc);
}

/** The same for a message of any schema. */
export function encodeMessageAs(message: { readonly $typeName: string }, desc: MessageDesc): Buffer {
  const writer = new WireWriter();
  writeFields(writer, message as LoadedMessage, desc);
  return writer.finish();
}

function writeFields(writer: WireWriter, message: LoadedMessage, desc: MessageDesc): void {
  for (const field of desc.fields) {
    const value = getField(message, field);
    if (value === undefined) continue;
    if (field.label === "map") writeMap(writer, field, value as Readonly<Record<string, unknown>>);
    else if (field.label === "one") writeValue(writer, field.number, field, value);
    else if (isPacked(field))
      writer.message(field.number, () => {
        for (const item of value as unknown[]) writeScalar(writer, field.type as ScalarKind, item);
      });
    else for (const item of value as unknown[]) writeValue(writer, field.number, field, item);
  }
}

function isPacked({ type, parent }: FieldDesc): boolean {
  return !parent.proto2 && type !== "message" && type !== "string" && type !== "bytes";
}

function writeMap(writer: WireWriter, field: FieldDesc, map: Readonly<Record<string, unknown>>): void {
  const keyType = field.mapKey ?? "string";
  for (const [key, value] of Object.entries(map)) {
    writer.message(field.number, () => {
      writer.tag(1, wireTypes[keyType]);
      writeScalar(writer, keyType, keyType === "string" ? key : keyType === "bool" ? key === "true" : keyType.endsWith("64") ? BigInt(key) : Number(key));
      writeValue(writer, 2, field, value);
    });
  }
}

const wireTypes: Readonly<Record<ScalarKind | "enum", number>> = {
  double: WireType.fixed64,
  fixed64: WireType.fixed64,
  sfixed64: WireType.fixed64,
  float: WireType.fixed32,
  fixed32: WireType.fixed32,
  sfixed32: WireType.fixed32,
  string: WireType.bytes,
  bytes: WireType.bytes,
  int64: WireType.varint,
  uint64: WireType.varint,
  int32: WireType.varint,
  bool: WireType.varint,
  uint32: WireType.varint,
  sint32: WireType.varint,
  sint64: WireType.varint,
  enum: WireType.varint,
};

function writeValue(writer: WireWriter, number: number, field: FieldDesc, value: unknown): void {
  if (field.type !== "message") {
    writer.tag(number, wireTypes[field.type]);
    writeScalar(writer, field.type, value);
    return;
  }
  writer.message(number, () => writeMessage(writer, field.message, value));
}

function writeMessage(writer: WireWriter, desc: MessageDesc, value: unknown): void {
  switch (desc.special) {
    case "struct":
      writeStruct(writer, value as Readonly<Record<string, JsonValue>>);
      return;
    case "value":
      writeJson(writer, value as JsonValue);
      return;
    case "list_value":
      writeList(writer, value as readonly JsonValue[]);
      return;
    case "wrapper":
      writeWrapped(writer, desc, value);
      return;
    case "any":
      writeAny(writer, value as LoadedMessage);
      return;
    default:
      writeFields(writer, value as LoadedMessage, desc);
  }
}

function writeWrapped(writer: WireWriter, desc: MessageDesc, value: unknown): void {
  const [field] = desc.fields;
  // proto3: a default is not written.
  if (value === 0 || value === "" || value === false || value === 0n || value === undefined) return;
  writeValue(writer, field.number, field, value);
}

function writeAny(writer: WireWriter, message: LoadedMessage): void {
  const desc = envoySchema().message(message.$typeName);
  if (desc === undefined || desc.special === "any") {
    const { typeUrl = "", value = new Uint8Array(0) } = message as { typeUrl?: string; value?: Uint8Array };
    writer.tag(1, WireType.bytes);
    writer.string(typeUrl);
    writer.tag(2, WireType.bytes);
    writer.bytes(value);
    return;
  }
  writer.tag(1, WireType.bytes);
  writer.string(`type.googleapis.com/${message.$typeName}`);
  writer.message(2, () => {
    // At the root such messages keep their fields.
    if (desc.special === "struct") writeStruct(writer, (message["fields"] ?? {}) as Readonly<Record<string, JsonValue>>);
    else if (desc.special === "list_value") writeList(writer, (message["values"] ?? []) as readonly JsonValue[]);
    else if (desc.special === "value") writeJson(writer, (message["value"] ?? null) as JsonValue);
    else if (desc.special === "wrapper") writeWrapped(writer, desc, message["value"]);
    else writeFields(writer, message, desc);
  });
}

function writeStruct(writer: WireWriter, object: Readonly<Record<string, JsonValue>>): void {
  for (const [key, value] of Object.entries(object)) {
    writer.message(1, () => {
      writer.tag(1, WireType.bytes);
      writer.string(key);
      writer.message(2, () => writeJson(writer, value));
    });
  }
}

/** google.protobuf.Value */
function writeJson(writer: WireWriter, value: JsonValue): void {
  if (value === null) {
    writer.tag(1, WireType.varint);
    writer.uint32(0);
  } else if (typeof value === "number") {
    writer.tag(2, WireType.fixed64);
    writer.double(value);
  } else if (typeof value === "string") {
    writer.tag(3, WireType.bytes);
    writer.string(value);
  } else if (typeof value === "boolean") {
    writer.tag(4, WireType.varint);
    writer.uint32(value ? 1 : 0);
  } else if (Array.isArray(value)) writer.message(6, () => writeList(writer, value));
  else writer.message(5, () => writeStruct(writer, value));
}

function writeList(writer: WireWriter, values: readonly JsonValue[]): void {
  for (const value of values) writer.message(1, () => writeJson(writer, value));
}

function writeScalar(writer: WireWriter, type: ScalarKind | "enum", value: unknown): void {
  switch (type) {
    case "double":
      writer.double(value as number);
      return;
    case "float":
      writer.float(value as number);
      return;
    case "int64":
    case "uint64":
      writer.uint64(BigInt(value as bigint | number));
      return;
    case "sint64": {
      const n = BigInt(value as bigint | number);
      writer.uint64((n << 1n) ^ (n >> 63n));
      return;
    }
    case "int32":
    case "enum":
      writer.int32(value as number);
      return;
    case "uint32":
      writer.uint32(value as number);
      return;
    case "sint32": {
      const n = value as number;
      writer.uint32(((n << 1) ^ (n >> 31)) >>> 0);
      return;
    }
    case "bool":
      writer.uint32(value === true ? 1 : 0);
      return;
    case "fixed64":
    case "sfixed64":
      writer.fixed64(BigInt(value as bigint | number));
      return;
    case "fixed32":
    case "sfixed32":
      writer.fixed32(value as number);
      return;
    case "string":
      writer.string(value as string);
      return;
    case "bytes":
      writer.bytes(value as Uint8Array);
  }
}
