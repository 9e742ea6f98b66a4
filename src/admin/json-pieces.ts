/** JSON for people, printed in pieces: a list whose items are made one by one never stands in memory as a whole. */

/** A list in a JSON tree whose items are made when they are printed. */
export class LazyList {
  readonly items: Iterable<() => unknown>;
  constructor(items: Iterable<() => unknown>) {
    this.items = items;
  }
}

/** One space a level, as protobuf prints it. Lists of lazy items may stand in objects and other lazy lists, not in plain arrays. */
export function* jsonPieces(tree: object): Generator<string> {
  yield* print(tree, "");
  yield "\n";
}

function* print(value: unknown, indent: string): Generator<string> {
  const inner = `${indent} `;
  if (value instanceof LazyList) {
    let first = true;
    for (const make of value.items) {
      yield `${first ? "[\n" : ",\n"}${inner}`;
      first = false;
      yield* print(make(), inner);
    }
    yield first ? "[]" : `\n${indent}]`;
    return;
  }
  if (typeof value !== "object" || value === null || Array.isArray(value) || !Object.values(value).some(isLazy)) {
    yield JSON.stringify(value, null, 1).replaceAll("\n", `\n${indent}`);
    return;
  }
  let first = true;
  for (const [key, item] of Object.entries(value)) {
    if (item === undefined) continue;
    yield `${first ? "{\n" : ",\n"}${inner}${JSON.stringify(key)}: `;
    first = false;
    yield* print(item, inner);
  }
  yield `\n${indent}}`;
}

function isLazy(value: unknown): boolean {
  return value instanceof LazyList;
}
