/** Protobuf's text format (https://protobuf.dev/reference/protobuf/textformat-spec/) into a syntax tree; repeated names stay repeated entries. */
import type { MapEntry, MapNode, ScalarNode, SyntaxNode, SyntaxProblem } from "./syntax.ts";

const maxDepth = 150;

class TextFormatError extends Error {
  readonly offset: number;
  constructor(offset: number, message: string) {
    super(message);
    this.offset = offset;
  }
}

export function parseTextFormat(text: string): { root: MapNode } | { problem: SyntaxProblem } {
  try {
    return { root: new TextFormatParser(text).document() };
  } catch (error) {
    if (error instanceof TextFormatError) return { problem: { offset: error.offset, text: error.message, severity: "error" } };
    throw error;
  }
}

class TextFormatParser {
  readonly #text: string;
  #at = 0;

  constructor(text: string) {
    this.#text = text;
  }

  document(): MapNode {
    return this.#fields(undefined, 0, 0);
  }

  #fail(message: string, at = this.#at): never {
    throw new TextFormatError(at, message);
  }

  #space(): void {
    const pattern = /(?:\s+|#[^\n]*)*/y;
    pattern.lastIndex = this.#at;
    pattern.exec(this.#text);
    this.#at = pattern.lastIndex;
  }

  #peek(): string {
    this.#space();
    return this.#text[this.#at] ?? "";
  }

  #match(pattern: RegExp): string | undefined {
    pattern.lastIndex = this.#at;
    const match = pattern.exec(this.#text);
    if (match === null) return undefined;
    this.#at = pattern.lastIndex;
    return match[0];
  }

  #fields(closing: string | undefined, start: number, depth: number): MapNode {
    if (depth > maxDepth) this.#fail(`nested deeper than ${maxDepth}`);
    const entries: MapEntry[] = [];
    for (;;) {
      const next = this.#peek();
      if (next === "" && closing === undefined) break;
      if (next === closing) {
        this.#at++;
        break;
      }
      if (next === "") this.#fail(`expected "${closing}", found the end of the file`);
      const keyStart = this.#at;
      const key = next === "[" ? this.#match(/\[[\w./\- ]+\]/y)?.replaceAll(" ", "") : this.#match(/[A-Za-z_]\w*/y);
      if (key === undefined) this.#fail(`expected a field name, found ${JSON.stringify(next)}`);
      const keyEnd = this.#at;
      const colon = this.#peek() === ":";
      if (colon) this.#at++;
      const opening = this.#peek();
      if (!colon && opening !== "{" && opening !== "<") this.#fail(`expected ":" or "{" after ${key}`);
      entries.push({ key, keyStart, keyEnd, value: this.#value(depth) });
      const separator = this.#peek();
      if (separator === "," || separator === ";") this.#at++;
    }
    return { kind: "map", start, end: this.#at, entries };
  }

  #value(depth: number): SyntaxNode {
    const next = this.#peek();
    const start = this.#at;
    if (next === "{" || next === "<") {
      this.#at++;
      return this.#fields(next === "{" ? "}" : ">", start, depth + 1);
    }
    if (next === "[") {
      this.#at++;
      const items: SyntaxNode[] = [];
      if (depth > maxDepth) this.#fail(`nested deeper than ${maxDepth}`);
      while (this.#peek() !== "]") {
        items.push(this.#value(depth + 1));
        if (this.#peek() === ",") this.#at++;
        else if (this.#peek() !== "]") this.#fail('expected "," or "]"');
      }
      this.#at++;
      return { kind: "list", start, end: this.#at, items };
    }
    if (next === '"' || next === "'") return this.#string(start);
    const negative = next === "-";
    if (negative) {
      this.#at++;
      this.#space();
    }
    const word = this.#match(/[\w.]+(?:(?<=[eE])[+-]\d+[fF]?)?/y);
    if (word === undefined) this.#fail(`expected a value, found ${next === "" ? "the end of the file" : JSON.stringify(next)}`);
    return this.#word(word, negative, start);
  }

  #word(word: string, negative: boolean, start: number): ScalarNode {
    const scalar = (type: ScalarNode["type"], text: string): ScalarNode => ({ kind: "scalar", start, end: this.#at, type, text: negative ? `-${text}` : text });
    if (/^(0[xX][0-9a-fA-F]{1,32}|\d{1,40})$/.test(word)) {
      const octal = /^0[0-7]+$/.test(word);
      return scalar("int", BigInt(octal ? `0o${word.slice(1)}` : word).toString());
    }
    if (/^(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?[fF]?$/.test(word)) return scalar("float", word.replace(/[fF]$/, ""));
    if (/^(inf|infinity|nan)$/i.test(word)) return scalar("float", word);
    if (negative || !/^[A-Za-z_]\w*$/.test(word)) this.#fail(`${JSON.stringify(word)} is no value`, start);
    return scalar("word", word);
  }

  /** Adjacent strings join. The text holds one code unit a byte, so that it can be bytes or UTF-8. */
  #string(start: number): ScalarNode {
    let bytes = "";
    let end = this.#at;
    while (this.#peek() === '"' || this.#peek() === "'") {
      const quote = this.#text[this.#at++];
      for (;;) {
        const c = this.#text[this.#at];
        if (c === undefined || c === "\n") this.#fail("a string that never ends", start);
        if (c === quote) break;
        if (c === "\\") bytes += this.#escape();
        else {
          const code = this.#text.codePointAt(this.#at) as number;
          const letter = String.fromCodePoint(code);
          bytes += code < 128 ? letter : Buffer.from(letter, "utf8").toString("latin1");
          this.#at += letter.length;
        }
      }
      end = ++this.#at;
    }
    return { kind: "scalar", start, end, type: "string", text: bytes };
  }

  #escape(): string {
    const simple: Readonly<Record<string, string>> = {
      a: "\x07",
      b: "\b",
      f: "\f",
      n: "\n",
      r: "\r",
      t: "\t",
      v: "\v",
      "?": "?",
      "\\": "\\",
      "'": "'",
      '"': '"',
    };
    const start = this.#at++;
    const octal = this.#match(/[0-7]{1,3}/y);
    if (octal !== undefined) return String.fromCharCode(Number.parseInt(octal, 8) & 0xff);
    const hex = this.#match(/[xX][0-9a-fA-F]{1,2}/y);
    if (hex !== undefined) return String.fromCharCode(Number.parseInt(hex.slice(1), 16));
    const unicode = this.#match(/u[0-9a-fA-F]{4}|U(?:000[0-9a-fA-F]{5}|0010[0-9a-fA-F]{4})/y);
    if (unicode !== undefined) return Buffer.from(String.fromCodePoint(Number.parseInt(unicode.slice(1), 16)), "utf8").toString("latin1");
    const c = this.#text[this.#at++] ?? "";
    return simple[c] ?? this.#fail(`a bad escape \\${c}`, start);
  }
}
