/** Where each loaded message came from: kept beside the messages, which stay plain data. */
import type { Origin } from "./finding.ts";
import type { FieldDesc } from "./schema/descriptor.ts";
import type { MapNode, SourceText, SyntaxNode } from "./syntax.ts";

/** A message's place: in which file, at which node, and under which field of which parent. */
export interface Place {
  readonly source: SourceText;
  /** undefined for binary input, which has no positions. */
  readonly node: SyntaxNode | undefined;
  readonly parent: Place | undefined;
  /** The parent's field that holds it, undefined at the root. */
  readonly field: FieldDesc | undefined;
  /** Index in a list or key in a map. */
  readonly key: number | string | undefined;
}

export class Origins {
  readonly #places = new WeakMap<object, Place>();
  /** Later sources merged over a message: they are asked first. */
  readonly #overlays = new WeakMap<object, Place[]>();

  set(message: object, place: Place): void {
    this.#places.set(message, place);
  }

  get(message: object): Place | undefined {
    return this.#places.get(message);
  }

  addOverlay(message: object, place: Place): void {
    const overlays = this.#overlays.get(message);
    if (overlays === undefined) this.#overlays.set(message, [place]);
    else overlays.unshift(place);
  }

  /** `field`: a proto field name of the message, with more behind it if wanted: "domains", "domains[1]", "match.prefix". */
  locate(message: object, field?: string): Origin | undefined {
    const place = this.#places.get(message);
    if (place === undefined) return undefined;
    const path = joinPath(pathOf(place), field ?? "");
    if (field !== undefined) {
      for (const candidate of [...(this.#overlays.get(message) ?? []), place]) {
        const range = candidate.node === undefined ? undefined : fieldRange(candidate.node, field);
        if (range !== undefined) return originAt(candidate.source, range.start, range.end, path);
      }
    }
    return originOfPlace(place, path);
  }
}

export function originOfPlace(place: Place, path = pathOf(place)): Origin {
  let at: Place | undefined = place;
  while (at !== undefined && at.node === undefined) at = at.parent;
  const node = at?.node;
  if (node === undefined) return { file: place.source.file, line: 0, column: 0, endColumn: undefined, path };
  return originAt(place.source, node.start, node.kind === "scalar" ? node.end : firstKeyEnd(node), path);
}

function firstKeyEnd(node: SyntaxNode): number {
  // A block map starts at its first key: point at that key, not at the whole tree.
  return node.kind === "map" && node.entries.length > 0 && node.entries[0].keyStart === node.start ? node.entries[0].keyEnd : node.start + 1;
}

export function originAt(source: SourceText, start: number, end: number, path: string): Origin {
  const from = source.position(start);
  const to = source.position(Math.max(start, end));
  return {
    file: source.file,
    line: from.line,
    column: from.column,
    endColumn: to.line === from.line && to.column > from.column ? to.column : undefined,
    path,
    lineText: source.line(from.line),
  };
}

export function joinPath(path: string, rest: string): string {
  return path === "" ? rest : rest === "" ? path : rest.startsWith("[") ? path + rest : `${path}.${rest}`;
}

export function pathOf(place: Place): string {
  const parts: string[] = [];
  for (let at: Place | undefined = place; at !== undefined; at = at.parent) if (at.field !== undefined) parts.push(segment(at.field.name, at.key));
  return parts.reverse().join(".");
}

export function segment(name: string, key: number | string | undefined): string {
  return key === undefined ? name : typeof key === "number" ? `${name}[${key}]` : `${name}[${JSON.stringify(key)}]`;
}

/** Where a field stands in a map node: its value when that is one scalar, else its key. */
export function fieldRange(node: SyntaxNode, field: string): { start: number; end: number } | undefined {
  let at: SyntaxNode | undefined = node;
  let range: { start: number; end: number } | undefined;
  for (const part of field.matchAll(/([^.[\]]+)|\[(\d+)\]|\["((?:[^"\\]|\\.)*)"\]/g)) {
    if (at === undefined) break;
    const name: string | undefined = part[1] ?? part[3];
    if (name !== undefined) {
      if (at.kind !== "map") break;
      const entry = findEntry(at, name);
      if (entry === undefined) break;
      at = entry.value;
      range = at.kind === "scalar" && at.end > at.start ? { start: at.start, end: at.end } : { start: entry.keyStart, end: entry.keyEnd };
    } else {
      const item: SyntaxNode | undefined = at.kind === "list" ? at.items[Number(part[2])] : undefined;
      if (item === undefined) break;
      at = item;
      range = { start: item.start, end: item.kind === "scalar" ? item.end : firstKeyEnd(item) };
    }
  }
  return range;
}

function findEntry(node: MapNode, name: string) {
  for (let i = node.entries.length - 1; i >= 0; i--) {
    const key = node.entries[i].key;
    if (key === name || (key.length < name.length && key.toLowerCase() === name.replaceAll("_", "").toLowerCase())) return node.entries[i];
  }
  return undefined;
}
