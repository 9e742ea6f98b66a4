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

  /** Does for the messages below `root` what takes time and has to be done before compiling. `fileOf`: where each was read, on the main thread. */
  async prepare(root: unknown, fileOf: ((message: object) => string | undefined) | undefined): Promise<void> {
    if (![...this.#loaded.values()].some((extension) => extension.prepare !== undefined)) return;
    const work: Promise<void>[] = [];
    const visit = (value: unknown): void => {
      if (value === null || typeof value !== "object" || value instanceof Uint8Array) return;
      const typeName = (value as Partial<AnyMessage>).$typeName;
      const row = typeof typeName === "string" ? extensionOfMessage(typeName) : undefined;
      const prepared = row && this.#loaded.get(row.name)?.prepare?.(value as AnyMessage, { isMain: fileOf !== undefined, file: fileOf?.(value) });
      if (prepared !== undefined) work.push(prepared);
      for (const inner of Object.values(value)) visit(inner);
    };
    visit(root);
    await Promise.all(work);
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
