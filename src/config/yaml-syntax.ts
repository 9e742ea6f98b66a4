/** Reads YAML into a syntax tree through the `yaml` package: anchors, merge keys, tags, and the first document of several, as Envoy takes it. */
import { createRequire } from "node:module";
import type { Document, Node, YAMLMap } from "yaml";
import { type MapEntry, plainScalar, type SyntaxNode, type SyntaxProblem } from "./syntax.ts";

let loaded: typeof import("yaml") | undefined;

/** Loaded when it is first needed: that takes longer than reading a usual configuration, which plain-yaml.ts does. */
function yaml(): typeof import("yaml") {
  return (loaded ??= createRequire(import.meta.url)("yaml") as typeof import("yaml"));
}

/** Aliases may repeat a tree; what they stand for is bounded, so that ten lines cannot mean a billion nodes. */
const maxNodes = 5_000_000;
const maxDepth = 200;

export function parseYaml(text: string): { root: SyntaxNode | undefined; problems: SyntaxProblem[] } {
  const problems: SyntaxProblem[] = [];
  const composer = new (yaml().Composer)({
    version: "1.2",
    schema: "failsafe",
    merge: false,
    uniqueKeys: false,
    strict: true,
    keepSourceTokens: false,
    customTags: [],
    logLevel: "silent",
  });
  let document: Document.Parsed | undefined;
  let extra: number | undefined;
  for (const token of new (yaml().Parser)().parse(text)) {
    for (const doc of composer.next(token)) {
      if (document === undefined) document = doc as Document.Parsed;
      else extra ??= doc.range?.[0];
    }
  }
  for (const doc of composer.end(false, text.length)) {
    if (document === undefined) document = doc as Document.Parsed;
    else extra ??= doc.range?.[0];
  }
  if (document === undefined) return { root: undefined, problems };
  for (const error of document.errors) {
    const message = error.message.replace(/\s+at line \d+, column \d+:?[\s\S]*$/, "");
    problems.push({ offset: error.pos[0], text: message.charAt(0).toLowerCase() + message.slice(1), severity: "error" });
  }
  if (extra !== undefined) problems.push({ offset: extra, text: "only the first YAML document is read; this one is ignored", severity: "warning" });
  if (document.errors.length > 0 || document.contents === null) return { root: undefined, problems };
  const converter = new Converter(problems);
  const root = converter.node(document.contents as Node, 0);
  return { root: problems.some((p) => p.severity === "error") ? undefined : root, problems };
}

class Converter {
  readonly #yaml = yaml();
  readonly #problems: SyntaxProblem[];
  readonly #anchors = new Map<string, SyntaxNode>();
  #count = 0;
  readonly #sizes = new Map<SyntaxNode, number>();

  constructor(problems: SyntaxProblem[]) {
    this.#problems = problems;
  }

  #problem(offset: number, text: string): SyntaxNode {
    if (this.#problems.length < 100) this.#problems.push({ offset, text, severity: "error" });
    return { kind: "scalar", start: offset, end: offset, type: "null", text: "" };
  }

  node(node: Node | null, depth: number): SyntaxNode {
    const start = node?.range?.[0] ?? 0;
    if (depth > maxDepth) return this.#problem(start, `nested deeper than ${maxDepth}`);
    if (++this.#count > maxNodes)
      return this.#count === maxNodes + 1
        ? this.#problem(start, `more than ${maxNodes} values, aliases resolved`)
        : { kind: "scalar", start, end: start, type: "null", text: "" };
    if (node === null) return { kind: "scalar", start, end: start, type: "null", text: "" };
    if (this.#yaml.isAlias(node)) {
      const target = this.#anchors.get(node.source);
      if (target === undefined) return this.#problem(start, `the anchor "${node.source}" is not defined before this alias`);
      this.#count += this.#sizes.get(target) ?? 0;
      return target;
    }
    const before = this.#count;
    const result = this.#inner(node, start, depth);
    if ("anchor" in node && node.anchor !== undefined) {
      this.#anchors.set(node.anchor, result);
      this.#sizes.set(result, this.#count - before);
    }
    return result;
  }

  #inner(node: Node, start: number, depth: number): SyntaxNode {
    const end = node.range?.[1] ?? start;
    if (this.#yaml.isMap(node)) return this.#map(node, start, end, depth);
    if (this.#yaml.isSeq(node)) return { kind: "list", start, end, items: node.items.map((item) => this.node(item as Node | null, depth + 1)) };
    if (!this.#yaml.isScalar(node)) return this.#problem(start, "a YAML node that is neither map, list nor value");
    // In the failsafe schema each value is its text.
    const text = typeof node.value === "string" ? node.value : (node.source ?? "");
    if (node.type !== "PLAIN" || node.tag === "!") return { kind: "scalar", start, end, type: "string", text };
    return plainScalar(text, start, end);
  }

  #map(node: YAMLMap, start: number, end: number, depth: number): SyntaxNode {
    const entries: MapEntry[] = [];
    let merged: MapEntry[] | undefined;
    for (const pair of node.items) {
      const keyNode = pair.key as Node | null;
      const keyStart = keyNode?.range?.[0] ?? start;
      const keyEnd = keyNode?.range?.[1] ?? keyStart;
      let key: string;
      if (this.#yaml.isScalar(keyNode)) key = typeof keyNode.value === "string" ? keyNode.value : (keyNode.source ?? "");
      else if (keyNode !== null && this.#yaml.isAlias(keyNode)) {
        const target = this.node(keyNode, depth + 1);
        key = target.kind === "scalar" ? target.text : "";
      } else {
        this.#problem(keyStart, "a key must be a plain value");
        continue;
      }
      if (this.#yaml.isScalar(keyNode) && keyNode.anchor !== undefined)
        this.#anchors.set(keyNode.anchor, { kind: "scalar", start: keyStart, end: keyEnd, type: "string", text: key });
      const value = this.node(pair.value as Node | null, depth + 1);
      const placed = value.kind === "scalar" && value.type === "null" && pair.value === null ? { ...value, start: keyEnd, end: keyEnd } : value;
      if (
        key === "<<" &&
        this.#yaml.isScalar(keyNode) &&
        keyNode.type === "PLAIN" &&
        (value.kind === "map" || (value.kind === "list" && value.items.every((i) => i.kind === "map")))
      ) {
        merged ??= [];
        for (const source of value.kind === "map" ? [value] : (value.items as readonly SyntaxNode[])) if (source.kind === "map") merged.push(...source.entries);
        continue;
      }
      entries.push({ key, keyStart, keyEnd, value: placed });
    }
    if (merged !== undefined) {
      // https://yaml.org/type/merge.html: own keys win, then earlier sources over later ones.
      const own = new Set(entries.map((e) => e.key));
      for (const entry of merged) {
        if (own.has(entry.key)) continue;
        own.add(entry.key);
        entries.push(entry);
        this.#count++;
      }
    }
    return { kind: "map", start, end, entries };
  }
}
