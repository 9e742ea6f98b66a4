/** Visits every message of a tree. */
import type { FieldDesc, MessageDesc } from "./schema/descriptor.ts";
import { envoySchema } from "./schema/registry.ts";
import { getField, type LoadedMessage } from "./shape.ts";

export interface Visit {
  readonly message: LoadedMessage;
  readonly desc: MessageDesc;
  /** The message that holds it, and the field; undefined at the root. */
  readonly parent: LoadedMessage | undefined;
  readonly field: FieldDesc | undefined;
  /** Of a list or map. */
  readonly key: number | string | undefined;
}

const messageFields = new WeakMap<MessageDesc, readonly FieldDesc[]>();

/** Fields that hold messages of ours (Anys too, Durations and the like not). */
export function childFields(desc: MessageDesc): readonly FieldDesc[] {
  let fields = messageFields.get(desc);
  if (fields === undefined) {
    fields = desc.fields.filter((f) => f.type === "message" && (f.special === undefined || f.special === "any" || f.special === "empty"));
    messageFields.set(desc, fields);
  }
  return fields;
}

/** Depth first, a message before its children; a visitor that returns false keeps out of the children. */
export function walkMessages(root: object, visitor: (visit: Visit) => boolean | undefined): void {
  walk(root as LoadedMessage, undefined, undefined, undefined, visitor);
}

function walk(
  message: LoadedMessage,
  parent: LoadedMessage | undefined,
  field: FieldDesc | undefined,
  key: number | string | undefined,
  visitor: (visit: Visit) => boolean | undefined,
): void {
  const desc = envoySchema().message(message.$typeName);
  if (desc === undefined) return;
  if (visitor({ message, desc, parent, field, key }) === false) return;
  for (const child of childFields(desc)) {
    const value = getField(message, child);
    if (value === undefined) continue;
    if (child.label === "one") walk(value as LoadedMessage, message, child, undefined, visitor);
    else if (child.label === "list") for (const [index, item] of (value as LoadedMessage[]).entries()) walk(item, message, child, index, visitor);
    else for (const [name, item] of Object.entries(value as Record<string, LoadedMessage>)) walk(item, message, child, name, visitor);
  }
}
