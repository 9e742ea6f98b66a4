/** The syntax tree that every text source (YAML, JSON) is read into: scalars typed as Envoy's YAML reader types them, ranges as offsets. */

export type SyntaxNode = MapNode | ListNode | ScalarNode;

export interface MapNode {
  readonly kind: "map";
  readonly start: number;
  readonly end: number;
  readonly entries: readonly MapEntry[];
}

export interface MapEntry {
  readonly key: string;
  readonly keyStart: number;
  readonly keyEnd: number;
  readonly value: SyntaxNode;
}

export interface ListNode {
  readonly kind: "list";
  readonly start: number;
  readonly end: number;
  readonly items: readonly SyntaxNode[];
}

export interface ScalarNode {
  readonly kind: "scalar";
  readonly start: number;
  readonly end: number;
  /** int: fits 64 bits. A YAML integer beyond 32 bits and a YAML float are strings to Envoy; only JSON has `float`; `word` is an unquoted word of the text format. */
  readonly type: "null" | "bool" | "int" | "float" | "string" | "word";
  /** Without quotes and escapes; "true"/"false" for a bool; canonical decimal for an int. */
  readonly text: string;
}

/** A file (or `<config-yaml>`) whose text positions refer to. */
export class SourceText {
  readonly file: string;
  readonly text: string;
  #lineStarts: number[] | undefined;

  constructor(file: string, text: string) {
    this.file = file;
    this.text = text;
  }

  /** Line and column, both from 1; columns count UTF-16 code units. */
  position(offset: number): { line: number; column: number } {
    const starts = (this.#lineStarts ??= lineStarts(this.text));
    let low = 0;
    let high = starts.length - 1;
    while (low < high) {
      const middle = (low + high + 1) >> 1;
      if (starts[middle] <= offset) low = middle;
      else high = middle - 1;
    }
    return { line: low + 1, column: offset - starts[low] + 1 };
  }

  /** The text of a line (from 1), without its end; undefined where there is none. */
  line(number: number): string | undefined {
    const starts = (this.#lineStarts ??= lineStarts(this.text));
    if (number < 1 || number > starts.length) return undefined;
    const end = number < starts.length ? starts[number] - 1 : this.text.length;
    return this.text.slice(starts[number - 1], end).replace(/\r$/, "");
  }
}

function lineStarts(text: string): number[] {
  const starts = [0];
  for (let at = text.indexOf("\n"); at >= 0; at = text.indexOf("\n", at + 1)) starts.push(at + 1);
  return starts;
}

/** What stops a source from being read as a tree at all. */
export interface SyntaxProblem {
  readonly offset: number;
  readonly text: string;
  readonly hint?: string | undefined;
  readonly severity: "error" | "warning";
}

/** A scalar without quotes, typed as Envoy does: null, bool (y/yes/on/true in three cases), int64 in any base C's strtoll takes, else text. */
export function plainScalar(text: string, start: number, end: number): ScalarNode {
  const first = text.charCodeAt(0);
  // Most scalars begin with a letter that neither null nor a bool begins with.
  if (text === "" || text === "~" || text === "null" || text === "Null" || text === "NULL") return { kind: "scalar", start, end, type: "null", text: "" };
  if ((first >= 48 && first <= 57) || first === 45 || first === 43) {
    const int = parseYamlInteger(text);
    if (int !== undefined) return { kind: "scalar", start, end, type: isInt32(int) ? "int" : "string", text: int };
    return { kind: "scalar", start, end, type: "string", text };
  }
  if (text.length <= 5 && yamlTrue.has(text)) return { kind: "scalar", start, end, type: "bool", text: "true" };
  if (text.length <= 5 && yamlFalse.has(text)) return { kind: "scalar", start, end, type: "bool", text: "false" };
  return { kind: "scalar", start, end, type: "string", text };
}

const cases = (word: string): string[] => [word, word[0].toUpperCase() + word.slice(1), word.toUpperCase()];
const yamlTrue = new Set(["y", "yes", "true", "on"].flatMap(cases));
const yamlFalse = new Set(["n", "no", "false", "off"].flatMap(cases));

/** Larger integers of YAML are texts to Envoy, as they are in proto JSON: it shows where no type is asked for, in a Struct. */
export function isInt32(decimal: string): boolean {
  const value = Number(decimal);
  return value >= -0x80000000 && value <= 0x7fffffff;
}

/** Canonical decimal text, or undefined where it is no integer of 64 bits (Envoy then hands on the text as it is). */
function parseYamlInteger(text: string): string | undefined {
  const match = /^([+-]?)(?:0[xX]([0-9a-fA-F]{1,16})|0([0-7]{1,22})|(0|[1-9][0-9]{0,18}))$/.exec(text);
  if (match === null) return undefined;
  const [, sign, hex, octal, decimal] = match;
  let value = BigInt(hex !== undefined ? `0x${hex}` : octal !== undefined ? `0o${octal}` : decimal);
  if (sign === "-") value = -value;
  if (value > 0x7fffffffffffffffn || value < -0x8000000000000000n) return undefined;
  return value.toString();
}
