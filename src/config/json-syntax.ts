/** Reads JSON into a syntax tree: several times faster than the YAML reader, so YAML files that are JSON inside go this way too. */
import { isInt32, type MapEntry, type ScalarNode, type SyntaxNode, type SyntaxProblem } from "./syntax.ts";

const maxDepth = 200;

class JsonError extends Error {
  readonly offset: number;
  constructor(offset: number, message: string) {
    super(message);
    this.offset = offset;
  }
}

/** `asYaml`: the text stands in a YAML file, so numbers are typed as there. Strict JSON (RFC 8259), but for one comma too many at the end of a list or object, which Envoy's reader lets pass. */
export function parseJson(text: string, asYaml = false): { root: SyntaxNode } | { problem: SyntaxProblem } {
  try {
    const parser = new JsonParser(text, asYaml);
    return { root: parser.document() };
  } catch (error) {
    if (error instanceof JsonError) return { problem: { offset: error.offset, text: error.message, severity: "error" } };
    throw error;
  }
}

class JsonParser {
  readonly #text: string;
  readonly #asYaml: boolean;
  #at = 0;

  constructor(text: string, asYaml: boolean) {
    this.#text = text;
    this.#asYaml = asYaml;
  }

  document(): SyntaxNode {
    if (this.#text.charCodeAt(0) === 0xfeff) this.#at = 1;
    const root = this.#value(0);
    this.#space();
    if (this.#at < this.#text.length) this.#fail(`text after the end of the JSON value: ${JSON.stringify(this.#text[this.#at])}`);
    return root;
  }

  #fail(message: string): never {
    throw new JsonError(this.#at, message);
  }

  #space(): void {
    for (;;) {
      const c = this.#text.charCodeAt(this.#at);
      if (c !== 32 && c !== 10 && c !== 13 && c !== 9) return;
      this.#at++;
    }
  }

  #value(depth: number): SyntaxNode {
    if (depth > maxDepth) this.#fail(`nested deeper than ${maxDepth}`);
    this.#space();
    const start = this.#at;
    switch (this.#text.charCodeAt(start)) {
      case 123: {
        this.#at++;
        const entries: MapEntry[] = [];
        for (;;) {
          this.#space();
          if (this.#text[this.#at] === "}") break;
          const keyStart = this.#at;
          if (this.#text[keyStart] !== '"') this.#fail(`expected a key in double quotes, found ${this.#found()}`);
          const key = this.#string();
          const keyEnd = this.#at;
          this.#space();
          if (this.#text[this.#at] !== ":") this.#fail(`expected ":", found ${this.#found()}`);
          this.#at++;
          entries.push({ key, keyStart, keyEnd, value: this.#value(depth + 1) });
          this.#space();
          if (this.#text[this.#at] === ",") this.#at++;
          else if (this.#text[this.#at] !== "}") this.#fail(`expected "," or "}", found ${this.#found()}`);
        }
        return { kind: "map", start, end: ++this.#at, entries };
      }
      case 91: {
        this.#at++;
        const items: SyntaxNode[] = [];
        for (;;) {
          this.#space();
          if (this.#text[this.#at] === "]") break;
          items.push(this.#value(depth + 1));
          this.#space();
          if (this.#text[this.#at] === ",") this.#at++;
          else if (this.#text[this.#at] !== "]") this.#fail(`expected "," or "]", found ${this.#found()}`);
        }
        return { kind: "list", start, end: ++this.#at, items };
      }
      case 34: {
        const text = this.#string();
        return { kind: "scalar", start, end: this.#at, type: "string", text };
      }
      default:
        return this.#word(start);
    }
  }

  #found(): string {
    return this.#at >= this.#text.length ? "the end of the file" : JSON.stringify(this.#text[this.#at]);
  }

  #word(start: number): ScalarNode {
    const pattern = /[-+.\w]*/y;
    pattern.lastIndex = start;
    const word = pattern.exec(this.#text)?.[0] ?? "";
    const end = start + word.length;
    const scalar = (type: ScalarNode["type"], text: string): ScalarNode => {
      this.#at = end;
      return { kind: "scalar", start, end, type, text };
    };
    if (word === "null") return scalar("null", "");
    if (word === "true" || word === "false") return scalar("bool", word);
    if (/^-?(0|[1-9]\d*)$/.test(word) && word.length < 40) {
      if (this.#asYaml && !isInt32(word)) return scalar("string", word);
      const exact = BigInt(word);
      return scalar(BigInt.asIntN(64, exact) === exact ? "int" : "float", exact.toString());
    }
    if (/^-?(0|[1-9]\d*)(\.\d+)?([eE][-+]?\d+)?$/.test(word)) return scalar(this.#asYaml ? "string" : "float", word);
    this.#fail(`expected a value, found ${word === "" ? this.#found() : word}`);
  }

  #string(): string {
    const start = ++this.#at;
    const text = this.#text;
    for (let at = start; at < text.length; at++) {
      const c = text.charCodeAt(at);
      if (c === 34) {
        this.#at = at + 1;
        return text.slice(start, at);
      }
      if (c === 92) {
        let end = at;
        while (end < text.length && text.charCodeAt(end) !== 34) end += text.charCodeAt(end) === 92 ? 2 : 1;
        if (end >= text.length) break;
        try {
          const value = JSON.parse(text.slice(start - 1, end + 1)) as string;
          this.#at = end + 1;
          return value;
        } catch {
          this.#at = at;
          this.#fail("a bad escape sequence in a string");
        }
      }
      if (c < 32) {
        this.#at = at;
        this.#fail("a control character in a string");
      }
    }
    this.#at = start - 1;
    this.#fail("a string that never ends");
  }
}
