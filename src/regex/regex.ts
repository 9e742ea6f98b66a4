/**
 * The one place where patterns from configuration become matchers.
 *
 * Syntax and meaning are RE2's, as in Envoy. A pattern whose backtracking is bounded by the text's length (analyse.ts) runs on the engine's
 * own RegExp, about 25 times as fast; all else runs on re2js, which is linear always. Untrusted input never meets a backtracking pattern.
 * Texts are strings of latin1 code units, each one byte of UTF-8, as header values are; patterns are Unicode.
 */
import { RE2JS } from "re2js";
import { boundBacktracking, isAnchoredAtStart, reportsOtherGroups } from "./analyse.ts";
import type { CharSet, RegexNode } from "./parse.ts";
import { parseRegex, RegexSyntaxError } from "./parse.ts";

export type RegexResult = { readonly ok: true; readonly regex: SafeRegex } | { readonly ok: false; readonly error: string };

/** Steps that a RegExp may take on one text at worst (well below a millisecond). Longer texts go to the linear engine. */
const maxBacktrackingSteps = 60_000;

/** Compiles a pattern in RE2 syntax; the error is RE2's wording: "missing ): (abc". */
export function compileRegex(pattern: string): RegexResult {
  let parsed: ReturnType<typeof parseRegex>;
  try {
    parsed = parseRegex(pattern);
  } catch (error) {
    if (error instanceof RegexSyntaxError) return { ok: false, error: error.message };
    throw error;
  }
  const regex = new SafeRegex(pattern, parsed.root, parsed.groupCount, parsed.usesAnyByte);
  // What the linear engine cannot run must be said now, not at the first long text.
  const linearError = regex.needsLinearEngine ? regex.linearEngineError() : undefined;
  return linearError === undefined ? { ok: true, regex } : { ok: false, error: linearError };
}

/** A substitution in RE2's rewrite syntax: \0 the match, \1..\9 groups, \\ a backslash. */
export interface Substitution {
  /** Literal texts and group numbers in turn. */
  readonly parts: readonly (string | number)[];
}

/** Compiles a rewrite text for a pattern with that many groups; the error is RE2's wording. */
export function compileSubstitution(
  text: string,
  groupCount: number,
): { readonly ok: true; readonly substitution: Substitution } | { readonly ok: false; readonly error: string } {
  const parts: (string | number)[] = [];
  let literal = "";
  let highest = 0;
  // Configuration is Unicode, texts are bytes.
  const bytes = Buffer.from(text, "utf8").toString("latin1");
  for (let i = 0; i < bytes.length; i++) {
    const c = bytes[i];
    if (c !== "\\") {
      literal += c;
      continue;
    }
    const next = bytes[++i];
    if (next === undefined) return { ok: false, error: "Rewrite schema error: '\\' not allowed at end." };
    if (next === "\\") {
      literal += "\\";
      continue;
    }
    if (next < "0" || next > "9") return { ok: false, error: "Rewrite schema error: '\\' must be followed by a digit or '\\'." };
    if (literal !== "") parts.push(literal);
    literal = "";
    parts.push(Number(next));
    highest = Math.max(highest, Number(next));
  }
  if (literal !== "") parts.push(literal);
  if (highest > groupCount)
    return { ok: false, error: `Rewrite schema requests ${highest} matches, but the regexp only has ${groupCount} parenthesized subexpressions.` };
  return { ok: true, substitution: { parts } };
}

export class SafeRegex {
  readonly pattern: string;
  readonly groupCount: number;
  readonly #root: RegexNode;
  readonly #usesAnyByte: boolean;
  /** Longest texts that may run on RegExp: for a match of the whole text, for a search, for a search that reports groups. 0: none. */
  readonly #maxFullLength: number;
  readonly #maxSearchLength: number;
  readonly #maxReplaceLength: number;
  #full: RegExp | undefined = undefined;
  #search: RegExp | undefined = undefined;
  #replace: RegExp | undefined = undefined;
  #linear: RE2JS | undefined = undefined;

  constructor(pattern: string, root: RegexNode, groupCount: number, usesAnyByte: boolean) {
    this.pattern = pattern;
    this.groupCount = groupCount;
    this.#root = root;
    this.#usesAnyByte = usesAnyByte;
    const bound = boundBacktracking(root);
    if (bound === undefined) {
      this.#maxFullLength = 0;
      this.#maxSearchLength = 0;
      this.#maxReplaceLength = 0;
    } else {
      this.#maxFullLength = longest(bound.degree, bound.coefficient);
      this.#maxSearchLength = longest(isAnchoredAtStart(root) ? bound.degree : bound.degree + 1, bound.coefficient);
      this.#maxReplaceLength = reportsOtherGroups(root) ? 0 : this.#maxSearchLength;
    }
  }

  /** Whether no text at all could run on RegExp. */
  get needsLinearEngine(): boolean {
    return this.#maxFullLength === 0 || this.#maxSearchLength === 0;
  }

  /** What the linear engine says against the pattern, if anything. */
  linearEngineError(): string | undefined {
    try {
      this.#linearEngine();
      return undefined;
    } catch (error) {
      return error instanceof Error ? error.message : String(error);
    }
  }

  /** Whether the whole text matches. */
  fullMatch(text: string): boolean {
    if (isAscii(text)) {
      if (text.length <= this.#maxFullLength) {
        this.#full ??= new RegExp(`^(?:${emit(this.#root, false)})$`);
        return this.#full.test(text);
      }
      return this.#linearEngine().testExact(text);
    }
    const decoded = decodeUtf8(text);
    // RE2 reads UTF-8: nothing but \C takes a byte that is not part of a valid character.
    if (decoded === undefined) return this.#usesAnyByte && this.#linearEngine().testExact(text);
    return this.#linearEngine().testExact(decoded);
  }

  /** Whether the text contains a match. */
  partialMatch(text: string): boolean {
    if (isAscii(text)) {
      if (text.length <= this.#maxSearchLength) {
        this.#search ??= new RegExp(emit(this.#root, false));
        return this.#search.test(text);
      }
      return this.#linearEngine().test(text);
    }
    return this.#linearEngine().test(decodeUtf8(text) ?? text);
  }

  /** Where the first match and its groups lie in an ASCII text (index 0: all of it); undefined where nothing matches. */
  groups(text: string): ({ readonly start: number; readonly end: number; readonly text: string } | undefined)[] | undefined {
    const matcher = this.#linearEngine().matcher(text);
    if (!matcher.find()) return undefined;
    return Array.from({ length: this.groupCount + 1 }, (_, i) => {
      const start = matcher.start(i);
      const end = matcher.end(i);
      return start < 0 ? undefined : { start, end, text: text.slice(start, end) };
    });
  }

  /** Replaces every match that does not overlap an earlier one, as RE2::GlobalReplace. */
  replaceAll(text: string, substitution: Substitution): string {
    if (isAscii(text)) {
      if (text.length <= this.#maxReplaceLength) {
        this.#replace ??= new RegExp(emit(this.#root, true), "g");
        return replaceWithRegExp(this.#replace, text, substitution);
      }
      return replaceLinear(this.#linearEngine(), text, substitution, false);
    }
    const decoded = decodeUtf8(text);
    return decoded === undefined
      ? replaceLinear(this.#linearEngine(), text, substitution, false)
      : Buffer.from(replaceLinear(this.#linearEngine(), decoded, substitution, true), "utf8").toString("latin1");
  }

  #linearEngine(): RE2JS {
    // Cross-check for the reader: flags stay 0, so that ^ and $ are the ends of the text, as in RE2.
    this.#linear ??= RE2JS.compile(this.pattern.replaceAll("\\C", "(?s:.)"), 0);
    return this.#linear;
  }
}

/** The longest text on which `coefficient * n ** degree` stays within bounds. */
function longest(degree: number, coefficient: number): number {
  // One pass over the text is what the linear engine takes as well, only more slowly.
  if (degree <= 1) return coefficient <= 64 ? Number.MAX_SAFE_INTEGER : Math.floor(maxBacktrackingSteps / coefficient);
  return Math.floor((maxBacktrackingSteps / coefficient) ** (1 / degree));
}

function isAscii(text: string): boolean {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 127) return false;
  return true;
}

const utf8 = new TextDecoder("utf-8", { fatal: true, ignoreBOM: true });
/** The characters of a byte string; undefined where it is not UTF-8. */
function decodeUtf8(text: string): string | undefined {
  try {
    return utf8.decode(Buffer.from(text, "latin1"));
  } catch {
    return undefined;
  }
}

function replaceWithRegExp(regex: RegExp, text: string, substitution: Substitution): string {
  let result = "";
  let copied = 0;
  let lastEnd = -1;
  let at = 0;
  while (at <= text.length) {
    regex.lastIndex = at;
    const match = regex.exec(text);
    if (match === null) break;
    const begin = match.index;
    const end = begin + match[0].length;
    // No empty match right behind the match before (RE2::GlobalReplace).
    if (begin === end && begin === lastEnd) {
      at = begin + 1;
      continue;
    }
    result += text.slice(copied, begin);
    for (const part of substitution.parts) result += typeof part === "string" ? part : (match[part] ?? "");
    copied = end;
    lastEnd = end;
    at = end;
  }
  return copied === 0 && result === "" ? text : result + text.slice(copied);
}

function replaceLinear(regex: RE2JS, text: string, substitution: Substitution, decoded: boolean): string {
  const matcher = regex.matcher(text);
  let result = "";
  let copied = 0;
  let lastEnd = -1;
  while (matcher.find()) {
    const begin = matcher.start();
    const end = matcher.end();
    if (begin === end && begin === lastEnd) continue;
    result += text.slice(copied, begin);
    for (const part of substitution.parts) {
      if (typeof part === "number") result += matcher.group(part) ?? "";
      else result += decoded ? Buffer.from(part, "latin1").toString("utf8") : part;
    }
    copied = end;
    lastEnd = end;
  }
  return copied === 0 && result === "" ? text : result + text.slice(copied);
}

/** The ECMAScript pattern (no flags) that means the same on ASCII texts. */
function emit(node: RegexNode, captures: boolean): string {
  switch (node.kind) {
    case "empty":
      return "(?:)";
    case "char":
      return emitSet(node.set);
    case "cat":
      return node.items.map((item) => (item.kind === "alt" ? `(?:${emit(item, captures)})` : emit(item, captures))).join("");
    case "alt":
      return `(?:${node.items.map((item) => emit(item, captures)).join("|")})`;
    case "group":
      return `${captures ? "(" : "(?:"}${emit(node.item, captures)})`;
    case "repeat": {
      const inner = node.item.kind === "char" || node.item.kind === "group" ? emit(node.item, captures) : `(?:${emit(node.item, captures)})`;
      const bounds =
        node.min === 0 && node.max < 0
          ? "*"
          : node.min === 1 && node.max < 0
            ? "+"
            : node.min === 0 && node.max === 1
              ? "?"
              : `{${node.min}${node.max === node.min ? "" : node.max < 0 ? "," : `,${node.max}`}}`;
      return inner + bounds + (node.greedy ? "" : "?");
    }
    case "assert":
      switch (node.what) {
        // As groups, so that a repetition may stand behind them.
        case "text_begin":
          return "(?:^)";
        case "text_end":
          return "(?:$)";
        case "line_begin":
          return "(?:(?<![^\\n]))";
        case "line_end":
          return "(?:(?![^\\n]))";
        case "word_boundary":
          return "(?:\\b)";
        case "no_word_boundary":
          return "(?:\\B)";
      }
  }
}

const all = (1n << 128n) - 1n;
function emitSet(set: CharSet): string {
  const ascii = set.ascii;
  if (ascii === 0n) return "[]";
  if (ascii === all) return "[^]";
  const members = ranges(ascii);
  if (members.length === 1 && members[0][0] === members[0][1]) return escapeCode(members[0][0]);
  const inverse = ranges(all & ~ascii);
  const [prefix, list] = inverse.length < members.length ? ["[^", inverse] : ["[", members];
  return `${prefix}${list.map(([lo, hi]) => (lo === hi ? escapeCode(lo) : `${escapeCode(lo)}-${escapeCode(hi)}`)).join("")}]`;
}

function ranges(set: bigint): [number, number][] {
  const found: [number, number][] = [];
  for (let code = 0; code < 128; code++) {
    if (((set >> BigInt(code)) & 1n) === 0n) continue;
    const last = found[found.length - 1];
    if (last !== undefined && last[1] === code - 1) last[1] = code;
    else found.push([code, code]);
  }
  return found;
}

function escapeCode(code: number): string {
  if ((code >= 48 && code <= 57) || (code >= 65 && code <= 90) || (code >= 97 && code <= 122)) return String.fromCharCode(code);
  return `\\x${code.toString(16).padStart(2, "0")}`;
}
