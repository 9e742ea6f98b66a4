/** google.protobuf.FieldMask on message trees, as the admin page's `mask=` uses it. */
import type { FieldDesc, MessageDesc } from "./schema/descriptor.ts";
import { envoySchema } from "./schema/registry.ts";
import { createMessage, getField, type LoadedMessage, setField } from "./shape.ts";

/** A mask's paths as a tree; an empty map is "all below". */
type MaskTree = Map<string, MaskTree>;

/**
 * A copy of a message that keeps only what a mask names ("name,route_config.virtual_hosts"), or undefined where the mask names what the
 * message's type does not have. A path may lead through messages and through the contents of an Any, not through lists or maps.
 */
export function trimToMask(message: object, mask: string): LoadedMessage | undefined {
  const source = message as LoadedMessage;
  const desc = envoySchema().message(source.$typeName);
  const tree: MaskTree = new Map();
  for (const path of mask.split(",")) {
    if (path === "") continue;
    let at = tree;
    const parts = path.split(".");
    for (const [index, part] of parts.entries()) {
      let next = at.get(part);
      // "a" beside "a.b" means all of a.
      if (next !== undefined && next.size === 0) break;
      if (next === undefined || index === parts.length - 1) at.set(part, (next = new Map()));
      at = next;
    }
  }
  return desc === undefined ? undefined : trim(source, desc, tree);
}

function trim(message: LoadedMessage, desc: MessageDesc, tree: MaskTree): LoadedMessage | undefined {
  const result = createMessage(desc);
  for (const [name, below] of tree) {
    const field: FieldDesc | undefined = desc.fields.find((f) => f.name === name);
    if (field === undefined) return undefined;
    const value = getField(message, field);
    if (below.size === 0) {
      if (value !== undefined) setField(result, field, value);
      continue;
    }
    if (field.label !== "one" || field.type !== "message") return undefined;
    const special = field.special;
    if (special !== undefined && special !== "any") return undefined;
    if (value === undefined) {
      if (special === undefined && trim(createMessage(field.message), field.message, below) === undefined) return undefined;
      continue;
    }
    const inner = special === "any" ? envoySchema().message((value as LoadedMessage).$typeName) : field.message;
    const trimmed = inner === undefined ? undefined : trim(value as LoadedMessage, inner, below);
    if (trimmed === undefined) return undefined;
    setField(result, field, trimmed);
  }
  return result;
}
