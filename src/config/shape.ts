/** Empty messages and the places of values in the shape that message.ts describes. */
import type { FieldDesc, MessageDesc } from "./schema/descriptor.ts";

/** A loaded message, as the loader builds it and reflection walks it. */
export interface LoadedMessage {
  $typeName: string;
  [property: string]: unknown;
}

/** A message with everything at its default: proto3 scalars, lists and maps are there, optional fields are not. */
export function createMessage(desc: MessageDesc): LoadedMessage {
  const message: LoadedMessage = { $typeName: desc.typeName };
  for (const field of desc.fields) {
    if (field.label === "list") message[field.localName] = [];
    else if (field.label === "map") message[field.localName] = {};
    else if (!field.explicit) message[field.localName] = scalarDefault(field);
  }
  for (const oneof of desc.oneofs) if (oneof.fields.length > 0) message[oneof.localName] = { case: undefined };
  return message;
}

export function scalarDefault(field: FieldDesc): unknown {
  switch (field.type) {
    case "bool":
      return false;
    case "string":
      return "";
    case "bytes":
      return new Uint8Array(0);
    case "int64":
    case "uint64":
    case "sint64":
    case "fixed64":
    case "sfixed64":
      return 0n;
    case "enum":
      return field.parent.proto2 ? (field.enum.values[0]?.number ?? 0) : 0;
    default:
      return 0;
  }
}

/** The value of a field, or undefined where it is unset (a list or map: empty; a proto3 scalar: its default). */
export function getField(message: object, field: FieldDesc): unknown {
  const holder = message as LoadedMessage;
  if (field.oneof !== undefined) {
    const chosen = holder[field.oneof.localName] as { case?: string; value?: unknown } | undefined;
    return chosen?.case === field.localName ? chosen.value : undefined;
  }
  const value = holder[field.localName];
  if (value === undefined) return undefined;
  if (field.label === "list") return (value as unknown[]).length === 0 ? undefined : value;
  if (field.label === "map") {
    for (const _ in value as object) return value;
    return undefined;
  }
  if (field.explicit) return value;
  if (field.type === "bytes") return (value as Uint8Array).length === 0 ? undefined : value;
  return value === 0 || value === "" || value === false || value === 0n ? undefined : value;
}

export function setField(message: LoadedMessage, field: FieldDesc, value: unknown): void {
  if (field.oneof !== undefined) message[field.oneof.localName] = { case: field.localName, value };
  else message[field.localName] = value;
}

/** Sets a key that came from input: "__proto__" is a key like any other. */
export function setKey(target: object, key: string, value: unknown): void {
  if (key === "__proto__") Object.defineProperty(target, key, { value, enumerable: true, configurable: true, writable: true });
  else (target as Record<string, unknown>)[key] = value;
}

/** Whether a value of this field is a message object of ours (not a wrapper's scalar, a Struct's JSON, ...). */
export function holdsMessage(field: FieldDesc): boolean {
  if (field.type !== "message") return false;
  const special = field.special;
  return special === undefined || special === "any" || special === "empty" || special === "duration" || special === "timestamp" || special === "field_mask";
}
