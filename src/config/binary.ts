/** Protobuf's binary format to message trees. */
import type { JsonObject, JsonValue } from "./message.ts";
import type { FieldDesc, MessageDesc, ScalarKind } from "./schema/descriptor.ts";
import { decodeUtf8, WireError, WireReader, WireType } from "./schema/wire.ts";
import { createMessage, type LoadedMessage, scalarDefault, setKey } from "./shape.ts";

/** What decoding cannot decide alone. */
export interface BinarySink {
  /** A field number that the message does not have. */
  unknownField(desc: MessageDesc, number: number, message: LoadedMessage): void;
  /** A google.protobuf.Any: its contents, or undefined to leave it packed. */
  any(typeUrl: string, value: Uint8Array, parent: LoadedMessage, field: FieldDesc, key: number | string | undefined): LoadedMessage | undefined;
  /** A message was made inside another. */
  placed(message: LoadedMessage, parent: LoadedMessage, field: FieldDesc, key: number | string | undefined): void;
}

const maxDepth = 100;

/** Throws WireError where the bytes are not a message of this type. Without a sink unknown fields are skipped and Anys stay packed. */
export function decodeMessage(desc: MessageDesc, bytes: Uint8Array, sink: BinarySink | undefined): LoadedMessage {
  const message = createMessage(desc);
  decodeInto(message, desc, new WireReader(bytes), sink, 0);
  return message;
}

function decodeInto(message: LoadedMessage, desc: MessageDesc, reader: WireReader, sink: BinarySink | undefined, depth: number): void {
  if (depth > maxDepth) throw new WireError(`nested deeper than ${maxDepth}`);
  while (!reader.done) {
    const tag = reader.uint32();
    const wireType = tag & 7;
    const field = desc.fieldByNumber(tag >>> 3);
    if (field === undefined) {
      if (tag >>> 3 === 0) throw new WireError("field number 0");
      sink?.unknownField(desc, tag >>> 3, message);
      reader.skip(wireType);
      continue;
    }
    if (field.label === "map") decodeMapEntry(message[field.localName] as Record<string, unknown>, message, field, reader, sink, depth);
    else if (field.label === "list") {
      const list = message[field.localName] as unknown[];
      if (wireType === WireType.bytes && field.type !== "string" && field.type !== "bytes" && field.type !== "message") {
        const packed = reader.sub();
        while (!packed.done) list.push(scalar(packed, field.type));
      } else list.push(value(undefined, field, reader, wireType, sink, depth, message, list.length));
    } else if (field.oneof !== undefined) {
      const chosen = message[field.oneof.localName] as { case?: string; value?: unknown };
      const before = chosen.case === field.localName ? chosen.value : undefined;
      message[field.oneof.localName] = { case: field.localName, value: value(before, field, reader, wireType, sink, depth, message, undefined) };
    } else message[field.localName] = value(message[field.localName], field, reader, wireType, sink, depth, message, undefined);
  }
}

const wireTypes: Readonly<Record<ScalarKind | "message" | "enum", number>> = {
  double: 1,
  fixed64: 1,
  sfixed64: 1,
  float: 5,
  fixed32: 5,
  sfixed32: 5,
  string: 2,
  bytes: 2,
  message: 2,
  int64: 0,
  uint64: 0,
  int32: 0,
  bool: 0,
  uint32: 0,
  sint32: 0,
  sint64: 0,
  enum: 0,
};

function value(
  before: unknown,
  field: FieldDesc,
  reader: WireReader,
  wireType: number,
  sink: BinarySink | undefined,
  depth: number,
  parent: LoadedMessage,
  key: number | string | undefined,
): unknown {
  if (wireType !== wireTypes[field.type]) throw new WireError(`field ${field.parent.typeName}.${field.name} has wire type ${wireType}`);
  if (field.type !== "message") return scalar(reader, field.type);
  const desc = field.message;
  const inner = reader.sub();
  switch (desc.special) {
    case "struct":
      return decodeStruct(inner, depth);
    case "value":
      return decodeValue(inner, depth);
    case "list_value":
      return decodeList(inner, depth);
    case "wrapper": {
      let result: unknown = before ?? scalarDefault(desc.fields[0]);
      while (!inner.done) {
        const tag = inner.uint32();
        if (tag >>> 3 === 1 && (tag & 7) === wireTypes[desc.fields[0].type]) result = scalar(inner, desc.fields[0].type as ScalarKind);
        else inner.skip(tag & 7);
      }
      return result;
    }
    case "any": {
      const any = createMessage(desc);
      decodeInto(any, desc, inner, undefined, depth + 1);
      const unpacked = sink?.any(any["typeUrl"] as string, any["value"] as Uint8Array, parent, field, key);
      return unpacked ?? any;
    }
    default: {
      // A message that comes twice is merged (protobuf, "Last One Wins").
      const message = (before as LoadedMessage | undefined) ?? createMessage(desc);
      sink?.placed(message, parent, field, key);
      decodeInto(message, desc, inner, sink, depth + 1);
      return message;
    }
  }
}

function decodeMapEntry(
  map: Record<string, unknown>,
  parent: LoadedMessage,
  field: FieldDesc,
  reader: WireReader,
  sink: BinarySink | undefined,
  depth: number,
): void {
  const entry = reader.sub();
  let key: unknown;
  let valueRange: { start: number; wireType: number } | undefined;
  while (!entry.done) {
    const tag = entry.uint32();
    if (tag >>> 3 === 1) key = scalar(entry, field.mapKey!);
    else if (tag >>> 3 === 2) {
      valueRange = { start: entry.pos, wireType: tag & 7 };
      entry.skip(tag & 7);
    } else entry.skip(tag & 7);
  }
  const text = String(key ?? (field.mapKey === "string" ? "" : field.mapKey === "bool" ? false : 0));
  // A value left out of the entry is its type's default: an empty length-delimited value for messages.
  const decoded =
    valueRange !== undefined
      ? value(undefined, field, new WireReader(entry.bytes, valueRange.start, entry.end), valueRange.wireType, sink, depth, parent, text)
      : field.type === "message"
        ? value(undefined, field, new WireReader(new Uint8Array([0])), WireType.bytes, sink, depth, parent, text)
        : scalarDefault(field);
  setKey(map, text, decoded);
}

function scalar(reader: WireReader, type: ScalarKind | "enum" | "message"): unknown {
  switch (type) {
    case "double": {
      const { view, at } = reader.fixed(8);
      return view.getFloat64(at, true);
    }
    case "float": {
      const { view, at } = reader.fixed(4);
      return view.getFloat32(at, true);
    }
    case "int64":
      return BigInt.asIntN(64, reader.uint64());
    case "uint64":
      return reader.uint64();
    case "int32":
    case "enum":
      return reader.uint32() | 0;
    case "uint32":
      return reader.uint32();
    case "bool":
      return reader.uint64() !== 0n;
    case "fixed64": {
      const { view, at } = reader.fixed(8);
      return view.getBigUint64(at, true);
    }
    case "sfixed64": {
      const { view, at } = reader.fixed(8);
      return view.getBigInt64(at, true);
    }
    case "fixed32": {
      const { view, at } = reader.fixed(4);
      return view.getUint32(at, true);
    }
    case "sfixed32": {
      const { view, at } = reader.fixed(4);
      return view.getInt32(at, true);
    }
    case "sint32": {
      const n = reader.uint32();
      return (n >>> 1) ^ -(n & 1);
    }
    case "sint64": {
      const n = reader.uint64();
      return BigInt.asIntN(64, (n >> 1n) ^ -(n & 1n));
    }
    case "string":
      return reader.string();
    case "bytes":
      return Uint8Array.from(reader.slice());
    case "message":
      throw new WireError("a message where a scalar stands");
  }
}

/** google.protobuf.Struct as JSON. */
function decodeStruct(reader: WireReader, depth: number): JsonObject {
  if (depth > maxDepth) throw new WireError(`nested deeper than ${maxDepth}`);
  const object: JsonObject = {};
  while (!reader.done) {
    const tag = reader.uint32();
    if (tag !== 0x0a) {
      reader.skip(tag & 7);
      continue;
    }
    const entry = reader.sub();
    let key = "";
    let item: JsonValue = null;
    while (!entry.done) {
      const entryTag = entry.uint32();
      if (entryTag === 0x0a) key = entry.string();
      else if (entryTag === 0x12) item = decodeValue(entry.sub(), depth + 1);
      else entry.skip(entryTag & 7);
    }
    setKey(object, key, item);
  }
  return object;
}

function decodeValue(reader: WireReader, depth: number): JsonValue {
  let result: JsonValue = null;
  while (!reader.done) {
    const tag = reader.uint32();
    switch (tag) {
      case 0x08:
        reader.uint64();
        result = null;
        break;
      case 0x11: {
        const { view, at } = reader.fixed(8);
        result = view.getFloat64(at, true);
        break;
      }
      case 0x1a:
        result = decodeUtf8(reader.slice());
        break;
      case 0x20:
        result = reader.uint64() !== 0n;
        break;
      case 0x2a:
        result = decodeStruct(reader.sub(), depth + 1);
        break;
      case 0x32:
        result = decodeList(reader.sub(), depth + 1);
        break;
      default:
        reader.skip(tag & 7);
    }
  }
  return result;
}

function decodeList(reader: WireReader, depth: number): JsonValue[] {
  if (depth > maxDepth) throw new WireError(`nested deeper than ${maxDepth}`);
  const list: JsonValue[] = [];
  while (!reader.done) {
    const tag = reader.uint32();
    if (tag === 0x0a) list.push(decodeValue(reader.sub(), depth + 1));
    else reader.skip(tag & 7);
  }
  return list;
}
