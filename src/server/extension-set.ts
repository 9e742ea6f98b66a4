/** The extensions that one configuration names, loaded. Loading is asynchronous and happens before compiling, which is not. */
import type { AnyMessage } from "../config/message.ts";
import type { Extension, ExtensionRow } from "../extensions/extension.ts";
import { extensionOfMessage } from "../extensions/registry.ts";

export class ExtensionSet {
  readonly #loaded = new Map<string, Extension>();

  /** Loads what stands behind these message types; types that no extension has are left out. */
  async load(messageTypes: Iterable<string>): Promise<void> {
    const rows = new Set<ExtensionRow>();
    for (const type of messageTypes) {
      const row = extensionOfMessage(type);
      if (row !== undefined && !this.#loaded.has(row.name)) rows.add(row);
    }
    await Promise.all([...rows].map(async (row) => void this.#loaded.set(row.name, (await row.load()).default)));
  }

  get(row: ExtensionRow): Extension | undefined {
    return this.#loaded.get(row.name);
  }

  /** All that are loaded: for their `honours`. */
  values(): Iterable<Extension> {
    return this.#loaded.values();
  }
}

/** Type names of every message that came out of a google.protobuf.Any, anywhere below `root`. */
export function collectMessageTypes(root: unknown, found: Set<string> = new Set()): Set<string> {
  if (Array.isArray(root)) for (const item of root) collectMessageTypes(item, found);
  else if (root !== null && typeof root === "object" && !(root instanceof Uint8Array)) {
    const typeName = (root as Partial<AnyMessage>).$typeName;
    if (typeof typeName === "string" && extensionOfMessage(typeName) !== undefined) found.add(typeName);
    for (const value of Object.values(root)) if (value !== null && typeof value === "object") collectMessageTypes(value, found);
  }
  return found;
}
