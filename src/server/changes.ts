/** What differs between two configurations, resource by resource: what a reload must touch, and what it says it did. */
import { createHash } from "node:crypto";

export interface Changes<T> {
  readonly added: readonly T[];
  readonly updated: readonly T[];
  readonly removed: readonly T[];
}

/** Contents of the files that a configuration names, by path. */
export type FileContents = ReadonlyMap<string, Uint8Array>;

const digests = new WeakMap<Uint8Array, string>();

function digest(contents: Uint8Array): string {
  let made = digests.get(contents);
  if (made === undefined) {
    made = createHash("sha256").update(contents).digest("base64");
    digests.set(contents, made);
  }
  return made;
}

/**
 * Text of a message tree that is equal exactly for equal trees (64-bit integers and bytes included). With `files`, a path counts with what
 * is in its file: a renewed certificate is a changed listener.
 */
export function fingerprint(message: unknown, files?: FileContents): string {
  return JSON.stringify(message, (_key, value: unknown) => {
    if (typeof value === "string") {
      const contents = files?.get(value);
      return contents === undefined ? value : `${value}\u0000${digest(contents)}`;
    }
    if (typeof value === "bigint") return `${value}n`;
    if (value instanceof Uint8Array) return Buffer.from(value).toString("base64");
    return value;
  });
}

export function changesBetween<T>(
  before: readonly T[],
  after: readonly T[],
  nameOf: (item: T) => string,
  same: (a: T, b: T) => boolean = (a, b) => fingerprint(a) === fingerprint(b),
): Changes<T> {
  const old = new Map(before.map((item) => [nameOf(item), item]));
  const added: T[] = [];
  const updated: T[] = [];
  for (const item of after) {
    const was = old.get(nameOf(item));
    if (was === undefined) added.push(item);
    else if (!same(was, item)) updated.push(item);
    old.delete(nameOf(item));
  }
  return { added, updated, removed: [...old.values()] };
}

/** "listeners: added a; changed b; removed c", one line a kind that changed. */
export function describeChanges<T>(kind: string, changes: Changes<T>, nameOf: (item: T) => string): string[] {
  const parts = [
    ["added", changes.added],
    ["changed", changes.updated],
    ["removed", changes.removed],
  ] as const;
  const words = parts.filter(([, items]) => items.length > 0).map(([verb, items]) => `${verb} ${items.map(nameOf).join(", ")}`);
  return words.length === 0 ? [] : [`${kind}: ${words.join("; ")}`];
}
