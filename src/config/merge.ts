/** protobuf's MergeFrom on message trees: messages merge, scalars that are not at their default replace, lists append, map entries replace. */
import type { Origins } from "./origins.ts";
import type { FieldDesc, MessageDesc } from "./schema/descriptor.ts";
import type { Schema } from "./schema/registry.ts";
import { getField, holdsMessage, type LoadedMessage, setField, setKey } from "./shape.ts";

/** Merges `from` into `into`, which it returns. Both are of the same type. */
export function mergeMessages(schema: Schema, origins: Origins, into: LoadedMessage, from: LoadedMessage): LoadedMessage {
  const desc = schema.message(into.$typeName);
  if (desc !== undefined) merge(origins, desc, into, from);
  return into;
}

function merge(origins: Origins, desc: MessageDesc, into: LoadedMessage, from: LoadedMessage): void {
  const place = origins.get(from);
  if (place !== undefined) origins.addOverlay(into, place);
  for (const field of desc.fields) {
    const value = getField(from, field);
    if (value === undefined) continue;
    if (field.label === "list") (into[field.localName] as unknown[]).push(...(value as unknown[]));
    else if (field.label === "map") for (const [key, entry] of Object.entries(value as object)) setKey(into[field.localName] as object, key, entry);
    else mergeOne(origins, field, into, value);
  }
}

function mergeOne(origins: Origins, field: FieldDesc, into: LoadedMessage, value: unknown): void {
  const before = getField(into, field);
  if (before === undefined || field.type !== "message") {
    setField(into, field, value);
    return;
  }
  const special = field.special;
  if (special === "any") setField(into, field, value);
  else if (special === "wrapper") {
    // The wrapper's own field is a proto3 scalar: at its default it does not replace.
    if (value !== 0 && value !== "" && value !== false && value !== 0n) setField(into, field, value);
  } else if (special === "list_value" && Array.isArray(before)) setField(into, field, [...before, ...(value as unknown[])]);
  else if (special === "struct" || (special === "value" && isObject(before) && isObject(value))) {
    for (const [key, entry] of Object.entries(value as object)) setKey(before as object, key, entry);
  } else if (holdsMessage(field)) merge(origins, field.message, before as LoadedMessage, value as LoadedMessage);
  else setField(into, field, value);
}

function isObject(value: unknown): boolean {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
