/**
 * Reads the plain part of YAML that configurations are nearly always written in, about ten times as fast as the `yaml` package and
 * without loading it: block and flow maps and lists, plain and quoted values on one line, block scalars, comments.
 *
 * Whatever else is met (anchors, tags, merge keys, values over several lines, several documents, a syntax error) ends it with undefined:
 * the package then reads the file from the start, and words the errors. A property test holds the two to the same trees.
 */
import { type MapEntry, plainScalar, type ScalarNode, type SyntaxNode } from "./syntax.ts";

const maxDepth = 100;

/** Not plain: leave it to the full reader. */
class NotPlain extends Error {}
const notPlain = new NotPlain("not plain YAML");

/** undefined: not plain YAML (or no content at all). */
export function parsePlainYaml(text: string): SyntaxNode | undefined {
  // Tabs and carriage returns have rules of their own; the other controls are errors.
  if (/[\x00-\x09\x0b-\x1f\x7f\u2028\u2029\ufeff]/.test(text)) return undefined;
  try {
    return new PlainYaml(text).document();
  } catch (error) {
    if (error === notPlain) return undefined;
    throw error;
  }
}

const NEWLINE = 10;
const SPACE = 32;
const HASH = 35;
const COLON = 58;
const DASH = 45;

class PlainYaml {
  readonly #text: string;
  #at = 0;
  /** Where the line of #at starts. */
  #lineStart = 0;

  constructor(text: string) {
    this.#text = text;
  }

  document(): SyntaxNode | undefined {
    this.#skipToContent();
    if (this.#text.startsWith("---", this.#at) && this.#at === this.#lineStart && this.#endsAt(this.#at + 3)) {
      const markerLine = this.#lineStart;
      this.#at += 3;
      this.#skipToContent();
      // What may stand behind the marker on its own line is for the full reader to say.
      if (this.#lineStart === markerLine && this.#at < this.#text.length) throw notPlain;
    }
    if (this.#at >= this.#text.length) return undefined;
    const root = this.#block(-1, 0);
    if (this.#at < this.#text.length) throw notPlain;
    return root;
  }

  /** Whether a token may end here: end of text, line or a space. */
  #endsAt(at: number): boolean {
    const c = this.#text.charCodeAt(at);
    return c === SPACE || c === NEWLINE || Number.isNaN(c);
  }

  /** Over spaces, comments and line ends to the next token. */
  #skipToContent(): void {
    const text = this.#text;
    let at = this.#at;
    for (;;) {
      const c = text.charCodeAt(at);
      if (c === SPACE) at++;
      else if (c === NEWLINE) {
        at++;
        this.#lineStart = at;
      } else if (c === HASH && (at === this.#lineStart || text.charCodeAt(at - 1) === SPACE)) {
        const end = text.indexOf("\n", at);
        at = end < 0 ? text.length : end;
      } else break;
    }
    this.#at = at;
  }

  get #column(): number {
    return this.#at - this.#lineStart;
  }

  /** After a value: the rest of the line must be blank, then on to the next content. */
  #finishLine(): void {
    const line = this.#lineStart;
    this.#skipToContent();
    if (this.#lineStart === line && this.#at < this.#text.length) throw notPlain;
    this.#checkLineStart();
  }

  #checkLineStart(): void {
    if (this.#at !== this.#lineStart || this.#at >= this.#text.length) return;
    const c = this.#text.charCodeAt(this.#at);
    if (c === 37 || ((c === DASH || c === 46) && /(?:---|\.\.\.)(?:[ \n]|$)/y.test(this.#text.slice(this.#at, this.#at + 4)))) throw notPlain;
  }

  /** A node whose first token is at #at; `parent`: the column it must be right of. Ends at the next content, of a lesser column. */
  #block(parent: number, depth: number): SyntaxNode {
    if (depth > maxDepth) throw notPlain;
    const c = this.#text.charCodeAt(this.#at);
    const column = this.#column;
    if (c === DASH && this.#endsAt(this.#at + 1)) return this.#list(column, depth);
    const start = this.#at;
    if (c === 123 || c === 91) {
      const node = this.#flow(depth);
      this.#finishLine();
      this.#noDeeper(parent);
      return node;
    }
    if (c === 124 || c === 62) return this.#blockScalar(parent);
    // A key, or a value of one line.
    if (c === 34 || c === 39) {
      const text = this.#quoted(c);
      const end = this.#at;
      if (this.#text.charCodeAt(end) === COLON && this.#endsAt(end + 1)) return this.#map(column, text, start, end, depth);
      this.#finishLine();
      this.#noDeeper(parent);
      return { kind: "scalar", start, end, type: "string", text };
    }
    const end = this.#plainEnd(false);
    const text = this.#text.slice(start, end);
    if (this.#text.charCodeAt(this.#at) === COLON) {
      if (text === "<<") throw notPlain;
      return this.#map(column, text, start, end, depth);
    }
    this.#finishLine();
    this.#noDeeper(parent);
    return plainScalar(text, start, end);
  }

  /** What follows a one-line value must not be its continuation on a deeper line. */
  #noDeeper(parent: number): void {
    if (this.#at < this.#text.length && this.#column > parent) throw notPlain;
  }

  #list(column: number, depth: number): SyntaxNode {
    const start = this.#at;
    const items: SyntaxNode[] = [];
    let end = start;
    do {
      const dash = this.#at;
      const line = this.#lineStart;
      this.#at++;
      this.#skipToContent();
      if (this.#lineStart === line && this.#at < this.#text.length) items.push(this.#block(column, depth + 1));
      else {
        this.#checkLineStart();
        if (this.#at < this.#text.length && this.#column > column) items.push(this.#block(column, depth + 1));
        else items.push({ kind: "scalar", start: dash + 1, end: dash + 1, type: "null", text: "" });
      }
      end = this.#at;
    } while (this.#at < this.#text.length && this.#column === column && this.#text.charCodeAt(this.#at) === DASH && this.#endsAt(this.#at + 1));
    if (this.#at < this.#text.length && this.#column > column) throw notPlain;
    return { kind: "list", start, end, items };
  }

  /** A block map whose first key has just been read; #at is at its colon. */
  #map(column: number, firstKey: string, firstStart: number, firstEnd: number, depth: number): SyntaxNode {
    const entries: MapEntry[] = [];
    let key = firstKey;
    let keyStart = firstStart;
    let keyEnd = firstEnd;
    for (;;) {
      const line = this.#lineStart;
      this.#at++;
      this.#skipToContent();
      let value: SyntaxNode;
      if (this.#lineStart === line && this.#at < this.#text.length) value = this.#inlineValue(column, depth);
      else {
        this.#checkLineStart();
        const deeper = this.#at < this.#text.length && this.#column > column;
        const sameColumnList =
          this.#at < this.#text.length && this.#column === column && this.#text.charCodeAt(this.#at) === DASH && this.#endsAt(this.#at + 1);
        if (deeper) value = this.#block(column, depth + 1);
        else if (sameColumnList) value = this.#list(column, depth + 1);
        else value = { kind: "scalar", start: keyEnd, end: keyEnd, type: "null", text: "" };
      }
      entries.push({ key, keyStart, keyEnd, value });
      if (this.#at >= this.#text.length || this.#column < column) break;
      if (this.#column > column) throw notPlain;
      // The next key, at the same column.
      keyStart = this.#at;
      const c = this.#text.charCodeAt(keyStart);
      if (c === 34 || c === 39) {
        key = this.#quoted(c);
        keyEnd = this.#at;
      } else {
        keyEnd = this.#plainEnd(false);
        key = this.#text.slice(keyStart, keyEnd);
        if (key === "<<") throw notPlain;
      }
      if (this.#at !== keyEnd || this.#text.charCodeAt(this.#at) !== COLON || !this.#endsAt(this.#at + 1)) throw notPlain;
    }
    return { kind: "map", start: firstStart, end: this.#at, entries };
  }

  /** A value on the line of its key: no block map or list may start there. */
  #inlineValue(column: number, depth: number): SyntaxNode {
    const start = this.#at;
    const c = this.#text.charCodeAt(start);
    let node: SyntaxNode;
    if (c === 124 || c === 62) return this.#blockScalar(column);
    if (c === 123 || c === 91) node = this.#flow(depth + 1);
    else if (c === 34 || c === 39) {
      const text = this.#quoted(c);
      node = { kind: "scalar", start, end: this.#at, type: "string", text };
    } else {
      const end = this.#plainEnd(false);
      if (this.#text.charCodeAt(this.#at) === COLON) throw notPlain;
      node = plainScalar(this.#text.slice(start, end), start, end);
    }
    this.#finishLine();
    this.#noDeeper(column);
    return node;
  }

  /** The end of a plain value (without the spaces behind it); #at is left there, or at the colon that makes it a key. */
  #plainEnd(flow: boolean): number {
    const text = this.#text;
    let at = this.#at;
    const first = text.charCodeAt(at);
    // Indicators that cannot begin a plain value; - ? : can, before a letter.
    if (",[]{}#&*!|>'\"%@`".includes(text[at])) throw notPlain;
    if ((first === DASH || first === 63 || first === COLON) && (this.#endsAt(at + 1) || flow)) throw notPlain;
    let end = at;
    for (; ; at++) {
      const c = text.charCodeAt(at);
      if (c === NEWLINE || Number.isNaN(c)) break;
      if (c === SPACE) continue;
      if (c === HASH && at > this.#at && text.charCodeAt(at - 1) === SPACE) break;
      if (c === COLON) {
        const next = text.charCodeAt(at + 1);
        if (next === SPACE || next === NEWLINE || Number.isNaN(next) || (flow && (next === 44 || next === 91 || next === 93 || next === 123 || next === 125))) {
          // A space between key and colon is legal but rare.
          if (end !== at) throw notPlain;
          this.#at = at;
          return at;
        }
      } else if (flow && (c === 44 || c === 91 || c === 93 || c === 123 || c === 125)) break;
      end = at + 1;
    }
    this.#at = end;
    if (end === at) return end;
    // Blanks behind the value stay for whoever reads on.
    return end;
  }

  /** A quoted value on one line. */
  #quoted(quote: number): string {
    const text = this.#text;
    const start = ++this.#at;
    if (quote === 39) {
      for (let at = start; ; at++) {
        const c = text.charCodeAt(at);
        if (Number.isNaN(c) || c === NEWLINE) throw notPlain;
        if (c !== 39) continue;
        if (text.charCodeAt(at + 1) === 39) at++;
        else {
          this.#at = at + 1;
          return text.slice(start, at).replaceAll("''", "'");
        }
      }
    }
    let escaped = false;
    for (let at = start; ; at++) {
      const c = text.charCodeAt(at);
      if (Number.isNaN(c) || c === NEWLINE) throw notPlain;
      if (c === 92) {
        escaped = true;
        at++;
        if (text.charCodeAt(at) === NEWLINE) throw notPlain;
      } else if (c === 34) {
        this.#at = at + 1;
        const raw = text.slice(start, at);
        return escaped ? unescapeText(raw) : raw;
      }
    }
  }

  #flow(depth: number): SyntaxNode {
    if (depth > maxDepth) throw notPlain;
    const start = this.#at;
    const c = this.#text.charCodeAt(start);
    if (c === 123) {
      this.#at++;
      const entries: MapEntry[] = [];
      for (;;) {
        this.#skipToContent();
        if (this.#text.charCodeAt(this.#at) === 125) break;
        const keyStart = this.#at;
        const q = this.#text.charCodeAt(keyStart);
        const quoted = q === 34 || q === 39;
        const key = quoted ? this.#quoted(q) : this.#text.slice(keyStart, this.#plainEnd(true));
        const keyEnd = keyStart + (quoted ? this.#at - keyStart : key.length);
        if (this.#at !== keyEnd || this.#text.charCodeAt(this.#at) !== COLON || (!quoted && key === "<<")) throw notPlain;
        this.#at++;
        this.#skipToContent();
        const v = this.#text.charCodeAt(this.#at);
        const value: SyntaxNode = v === 44 || v === 125 ? { kind: "scalar", start: keyEnd, end: keyEnd, type: "null", text: "" } : this.#flow(depth + 1);
        entries.push({ key, keyStart, keyEnd, value });
        this.#separator(125);
      }
      return { kind: "map", start, end: ++this.#at, entries };
    }
    if (c === 91) {
      this.#at++;
      const items: SyntaxNode[] = [];
      for (;;) {
        this.#skipToContent();
        if (this.#text.charCodeAt(this.#at) === 93) break;
        items.push(this.#flow(depth + 1));
        if (this.#text.charCodeAt(this.#at) === COLON) throw notPlain;
        this.#separator(93);
      }
      return { kind: "list", start, end: ++this.#at, items };
    }
    if (c === 34 || c === 39) {
      const text = this.#quoted(c);
      const end = this.#at;
      if (this.#text.charCodeAt(end) === COLON) throw notPlain;
      return { kind: "scalar", start, end, type: "string", text };
    }
    if (Number.isNaN(c)) throw notPlain;
    const end = this.#plainEnd(true);
    if (this.#text.charCodeAt(this.#at) === COLON) throw notPlain;
    return plainScalar(this.#text.slice(start, end), start, end);
  }

  /** A comma, or the end of the collection (left in place). */
  #separator(closing: number): void {
    this.#skipToContent();
    if (this.#at === this.#lineStart) this.#checkLineStart();
    const c = this.#text.charCodeAt(this.#at);
    if (c === 44) this.#at++;
    else if (c !== closing) throw notPlain;
  }

  /** | and > with their chomping, YAML 1.2 section 8.1. Explicit indentation and folded text with deeper lines are left to the full reader. */
  #blockScalar(parent: number): ScalarNode {
    const text = this.#text;
    const start = this.#at;
    const header = /[|>]([+-]?)(?: +#[^\n]*| *)(?=\n|$)/y;
    header.lastIndex = start;
    const match = header.exec(text);
    if (match === null) throw notPlain;
    const folded = text[start] === ">";
    const chomp = match[1];
    let at = Math.min(text.length, header.lastIndex + 1);
    let indent = -1;
    const lines: string[] = [];
    let end = at;
    while (at < text.length) {
      const newline = text.indexOf("\n", at);
      const lineEnd = newline < 0 ? text.length : newline;
      let first = at;
      while (first < lineEnd && text.charCodeAt(first) === SPACE) first++;
      if (first === lineEnd) {
        // A line of more blanks than the indentation holds the rest of them; before the first line they would be an error.
        if (indent < 0 ? first - at > 0 && newline >= 0 : first - at > indent) throw notPlain;
        if (newline < 0) break;
        lines.push("");
      } else {
        if (indent < 0) {
          if (first - at <= parent) break;
          indent = first - at;
          if (indent === 0) throw notPlain;
        }
        if (first - at < indent) break;
        if (folded && first - at > indent) throw notPlain;
        lines.push(text.slice(at + indent, lineEnd));
        end = lineEnd;
      }
      at = newline < 0 ? text.length : newline + 1;
    }
    if (indent < 0) throw notPlain;
    this.#at = at;
    this.#lineStart = at;
    if (at === text.length && text.charCodeAt(at - 1) !== NEWLINE) this.#lineStart = text.lastIndexOf("\n") + 1;
    let trailing = 0;
    while (lines.length > 0 && lines[lines.length - 1] === "") {
      lines.pop();
      trailing++;
    }
    const body = folded ? fold(lines) : lines.join("\n");
    const atEnd = text.charCodeAt(end) !== NEWLINE;
    const value = chomp === "-" ? body : chomp === "+" ? `${body}${atEnd ? "" : "\n"}${"\n".repeat(trailing)}` : `${body}\n`;
    if (atEnd && chomp !== "-") throw notPlain;
    this.#skipToContent();
    this.#checkLineStart();
    this.#noDeeper(parent);
    return { kind: "scalar", start, end, type: "string", text: value };
  }
}

/** Line ends become spaces, blank lines line ends. */
function fold(lines: readonly string[]): string {
  let out = "";
  let blanks = 0;
  let first = true;
  for (const line of lines) {
    if (line === "") {
      blanks++;
      continue;
    }
    if (!first) out += blanks > 0 ? "\n".repeat(blanks) : " ";
    else out += "\n".repeat(blanks);
    out += line;
    blanks = 0;
    first = false;
  }
  return out;
}

const simpleEscapes: Readonly<Record<string, string>> = {
  "0": "\0",
  a: "\x07",
  b: "\b",
  t: "\t",
  n: "\n",
  v: "\v",
  f: "\f",
  r: "\r",
  e: "\x1b",
  " ": " ",
  '"': '"',
  "/": "/",
  "\\": "\\",
  N: "\x85",
  _: "\xa0",
  L: "\u2028",
  P: "\u2029",
};

function unescapeText(raw: string): string {
  return raw.replace(
    /\\(?:x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|(.))/gsu,
    (_, x: string | undefined, u: string | undefined, long: string | undefined, c: string | undefined) => {
      const code = x ?? u ?? long;
      if (code !== undefined) {
        const point = Number.parseInt(code, 16);
        if (point > 0x10ffff || (point >= 0xd800 && point <= 0xdfff)) throw notPlain;
        return String.fromCodePoint(point);
      }
      const simple = simpleEscapes[c as string];
      if (simple === undefined) throw notPlain;
      return simple;
    },
  );
}
