/** What differs between two configurations, resource by resource: what a reload must touch, and what it says it did. */
import { fingerprint } from "../config/fingerprint.ts";

export interface Changes<T> {
  readonly added: readonly T[];
  readonly updated: readonly T[];
  readonly removed: readonly T[];
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
