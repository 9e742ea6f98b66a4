/**
 * Parser of RE2's regular expression syntax (https://github.com/google/re2/wiki/Syntax), Perl mode, as Envoy compiles patterns.
 * Gives a tree, or RE2's own words for what is wrong.
 */

export type RegexNode =
  | { readonly kind: "empty" }
  /** One character out of a set. */
  | { readonly kind: "char"; readonly set: CharSet }
  | { readonly kind: "cat"; readonly items: readonly RegexNode[] }
  | { readonly kind: "alt"; readonly items: readonly RegexNode[] }
  /** `max` -1: no upper bound. */
  | { readonly kind: "repeat"; readonly item: RegexNode; readonly min: number; readonly max: number; readonly greedy: boolean }
  | { readonly kind: "group"; readonly item: RegexNode; readonly index: number; readonly name: string | undefined }
  | { readonly kind: "assert"; readonly what: Assertion };
export type Assertion = "text_begin" | "text_end" | "line_begin" | "line_end" | "word_boundary" | "no_word_boundary";

/** What a character position accepts: ASCII exactly (bit n is code n), everything else only as "some of it" or "none". */
export interface CharSet {
  readonly ascii: bigint;
  readonly nonAscii: boolean;
}

export interface ParsedRegex {
  readonly root: RegexNode;
  readonly groupCount: number;
  /** Whether \C (any byte, even of invalid UTF-8) occurs. */
  readonly usesAnyByte: boolean;
}

/** A syntax error in RE2's words: "missing ): (abc". */
export class RegexSyntaxError extends Error {}

/** RE2's limit of one repetition count, and of the product of nested ones. */
const maxRepeat = 1000;
/** RE2's limit of nesting. */
const maxDepth = 1000;
const allAscii = (1n << 128n) - 1n;

const foldCase = 1;
const dotNewline = 2;
const multiLine = 4;
const ungreedy = 8;

interface MutableSet {
  ascii: bigint;
  nonAscii: boolean;
}

function range(lo: number, hi: number): bigint {
  if (lo > 127) return 0n;
  const top = Math.min(hi, 127);
  return ((1n << BigInt(top - lo + 1)) - 1n) << BigInt(lo);
}
const digits = range(48, 57);
const upper = range(65, 90);
const lower = range(97, 122);
const word = digits | upper | lower | (1n << 95n);
const perlSpace = range(9, 10) | range(12, 13) | (1n << 32n);
const posixClasses: Record<string, bigint> = {
  alnum: digits | upper | lower,
  alpha: upper | lower,
  ascii: allAscii,
  blank: (1n << 9n) | (1n << 32n),
  cntrl: range(0, 31) | (1n << 127n),
  digit: digits,
  graph: range(33, 126),
  lower,
  print: range(32, 126),
  punct: range(33, 47) | range(58, 64) | range(91, 96) | range(123, 126),
  space: range(9, 13) | (1n << 32n),
  upper,
  word,
  xdigit: digits | range(65, 70) | range(97, 102),
};
const perlClasses: Record<string, { set: bigint; negated: boolean }> = {
  d: { set: digits, negated: false },
  D: { set: digits, negated: true },
  s: { set: perlSpace, negated: false },
  S: { set: perlSpace, negated: true },
  w: { set: word, negated: false },
  W: { set: word, negated: true },
};

/** Both cases of the ASCII letters in a set. */
function foldAscii(set: bigint): bigint {
  return set | ((set & upper) << 32n) | ((set & lower) >> 32n);
}
/** Letters whose fold orbit leaves ASCII: K and the Kelvin sign, S and the long s. */
const foldsOut = (1n << 75n) | (1n << 107n) | (1n << 83n) | (1n << 115n);

const propertySets = new Map<string, CharSet | undefined>();
/** The set of a Unicode general category or script by RE2's name; undefined where there is none. */
function unicodeProperty(name: string): CharSet | undefined {
  if (propertySets.has(name)) return propertySets.get(name);
  let found: CharSet | undefined;
  if (name === "Any") found = { ascii: allAscii, nonAscii: true };
  else if (/^[A-Z][A-Za-z_]*$/.test(name)) {
    // The names are RE2's: one or two letters are a general category, all else is a script.
    const text = name.length <= 2 ? `\\p{${name}}` : `\\p{Script=${name}}`;
    try {
      const test = new RegExp(`^${text}$`, "u");
      let ascii = 0n;
      for (let code = 0; code < 128; code++) if (test.test(String.fromCharCode(code))) ascii |= 1n << BigInt(code);
      found = { ascii, nonAscii: true };
    } catch {
      found = undefined;
    }
  }
  propertySets.set(name, found);
  return found;
}

/** Parses a pattern; throws RegexSyntaxError. */
export function parseRegex(pattern: string): ParsedRegex {
  return new Parser(pattern).parse();
}

class Parser {
  readonly #text: string;
  #at = 0;
  #flags = 0;
  #groups = 0;
  #depth = 0;
  #usesAnyByte = false;
  readonly #names = new Set<string>();

  constructor(text: string) {
    this.#text = text;
  }

  parse(): ParsedRegex {
    const root = this.#alternation();
    if (this.#at < this.#text.length) throw new RegexSyntaxError(`unexpected ): ${this.#text}`);
    checkRepeats(root, maxRepeat);
    return { root, groupCount: this.#groups, usesAnyByte: this.#usesAnyByte };
  }

  #alternation(): RegexNode {
    if (++this.#depth > maxDepth) throw new RegexSyntaxError("expression nests too deeply");
    const branches: RegexNode[] = [this.#concatenation()];
    while (this.#text[this.#at] === "|") {
      this.#at++;
      branches.push(this.#concatenation());
    }
    this.#depth--;
    return branches.length === 1 ? branches[0] : { kind: "alt", items: branches };
  }

  #concatenation(): RegexNode {
    const items: RegexNode[] = [];
    const text = this.#text;
    /** Where the operator of the last item began, if it was a repetition: stacking them is an error. */
    let lastRepeatAt = -1;
    while (this.#at < text.length) {
      const c = text[this.#at];
      if (c === "|" || c === ")") break;
      const start = this.#at;
      let repeatAt = -1;
      switch (c) {
        case "(":
          this.#group(items);
          break;
        case "^":
          this.#at++;
          items.push({ kind: "assert", what: this.#flags & multiLine ? "line_begin" : "text_begin" });
          break;
        case "$":
          this.#at++;
          items.push({ kind: "assert", what: this.#flags & multiLine ? "line_end" : "text_end" });
          break;
        case ".":
          this.#at++;
          items.push({ kind: "char", set: { ascii: this.#flags & dotNewline ? allAscii : allAscii & ~(1n << 10n), nonAscii: true } });
          break;
        case "[":
          items.push(this.#characterClass());
          break;
        case "*":
        case "+":
        case "?":
          this.#at++;
          this.#repeat(items, start, lastRepeatAt, c === "+" ? 1 : 0, c === "?" ? 1 : -1);
          repeatAt = start;
          break;
        case "{": {
          const bounds = this.#bounds();
          if (bounds === undefined) {
            this.#at++;
            items.push(this.#literal(123));
            break;
          }
          const [min, max] = bounds;
          if (min > maxRepeat || max > maxRepeat || (max >= 0 && max < min))
            throw new RegexSyntaxError(`invalid repetition size: ${text.slice(start, this.#at)}`);
          this.#repeat(items, start, lastRepeatAt, min, max);
          repeatAt = start;
          break;
        }
        case "\\":
          this.#escape(items);
          break;
        default: {
          const code = text.codePointAt(this.#at) as number;
          this.#at += code > 0xffff ? 2 : 1;
          items.push(this.#literal(code));
        }
      }
      lastRepeatAt = repeatAt;
    }
    return items.length === 1 ? items[0] : items.length === 0 ? { kind: "empty" } : { kind: "cat", items };
  }

  #literal(code: number): RegexNode {
    if (code > 127) return { kind: "char", set: { ascii: this.#flags & foldCase ? asciiFolds(code) : 0n, nonAscii: true } };
    const set = 1n << BigInt(code);
    if (!(this.#flags & foldCase)) return { kind: "char", set: { ascii: set, nonAscii: false } };
    return { kind: "char", set: { ascii: foldAscii(set), nonAscii: (set & foldsOut) !== 0n } };
  }

  #repeat(items: RegexNode[], start: number, lastRepeatAt: number, min: number, max: number): void {
    const text = this.#text;
    let greedy = (this.#flags & ungreedy) === 0;
    if (text[this.#at] === "?") {
      this.#at++;
      greedy = !greedy;
    }
    if (lastRepeatAt >= 0) throw new RegexSyntaxError(`bad repetition operator: ${text.slice(lastRepeatAt, this.#at)}`);
    const item = items.pop();
    if (item === undefined) throw new RegexSyntaxError(`no argument for repetition operator: ${text.slice(start, this.#at)}`);
    items.push({ kind: "repeat", item, min, max, greedy });
  }

  /** {n}, {n,}, {n,m} at the current place, consumed; undefined (nothing consumed) where it is none: then "{" is a literal. */
  #bounds(): [number, number] | undefined {
    const text = this.#text;
    let at = this.#at + 1;
    const readNumber = (): number | undefined => {
      const from = at;
      while (at < text.length && text.charCodeAt(at) >= 48 && text.charCodeAt(at) <= 57) at++;
      if (at === from) return undefined;
      // "Disallow leading zeros."
      if (at - from > 1 && text[from] === "0") return undefined;
      return at - from > 8 ? maxRepeat + 1 : Number(text.slice(from, at));
    };
    const min = readNumber();
    if (min === undefined) return undefined;
    let max: number | undefined = min;
    if (text[at] === ",") {
      at++;
      if (text[at] === "}") max = -1;
      else max = readNumber();
      if (max === undefined) return undefined;
    }
    if (text[at] !== "}") return undefined;
    this.#at = at + 1;
    return [min, max];
  }

  #group(items: RegexNode[]): void {
    const text = this.#text;
    if (text[this.#at + 1] === "?") {
      this.#perlGroup(items);
      return;
    }
    this.#at++;
    items.push(this.#captured(undefined));
  }

  #captured(name: string | undefined): RegexNode {
    const index = ++this.#groups;
    const flags = this.#flags;
    const item = this.#alternation();
    this.#close();
    this.#flags = flags;
    return { kind: "group", item, index, name };
  }

  #close(): void {
    if (this.#text[this.#at] !== ")") throw new RegexSyntaxError(`missing ): ${this.#text}`);
    this.#at++;
  }

  #perlGroup(items: RegexNode[]): void {
    const text = this.#text;
    const start = this.#at;
    const rest = text.slice(start, start + 5);
    if (rest.startsWith("(?=") || rest.startsWith("(?!")) throw new RegexSyntaxError(`invalid perl operator: ${rest.slice(0, 3)}`);
    if (rest.startsWith("(?<=") || rest.startsWith("(?<!")) throw new RegexSyntaxError(`invalid perl operator: ${rest.slice(0, 4)}`);
    if (rest.startsWith("(?P<") || rest.startsWith("(?<")) {
      const from = start + (rest[2] === "P" ? 4 : 3);
      const end = text.indexOf(">", from);
      if (end < 0) throw new RegexSyntaxError(`invalid named capture group: ${text.slice(start)}`);
      const name = text.slice(from, end);
      if (!/^[\p{L}\p{M}\p{N}\p{Pc}]+$/u.test(name)) throw new RegexSyntaxError(`invalid named capture group: ${text.slice(start, end + 1)}`);
      if (this.#names.has(name)) throw new RegexSyntaxError(`invalid named capture group: ${name}`);
      this.#names.add(name);
      this.#at = end + 1;
      items.push(this.#captured(name));
      return;
    }
    if (rest.startsWith("(?P=") || rest.startsWith("(?P>")) throw new RegexSyntaxError(`invalid named capture group: ${rest.slice(0, 4)}`);
    this.#at = start + 2;
    let flags = this.#flags;
    let negated = false;
    let sawFlag = false;
    for (;;) {
      if (this.#at >= text.length) throw new RegexSyntaxError(`missing ): ${text}`);
      const c = text[this.#at++];
      const bit = c === "i" ? foldCase : c === "m" ? multiLine : c === "s" ? dotNewline : c === "U" ? ungreedy : 0;
      if (bit !== 0) {
        sawFlag = true;
        flags = negated ? flags & ~bit : flags | bit;
      } else if (c === "-" && !negated) {
        negated = true;
        sawFlag = false;
      } else if (c === ":" || c === ")") {
        if (negated && !sawFlag) throw new RegexSyntaxError(`invalid perl operator: ${text.slice(start, this.#at)}`);
        if (c === ")") {
          this.#flags = flags;
          return;
        }
        const outer = this.#flags;
        this.#flags = flags;
        const item = this.#alternation();
        this.#close();
        this.#flags = outer;
        // One item even where it is a concatenation, so that a repetition behind it takes all of it.
        items.push(item.kind === "cat" ? { kind: "cat", items: [item] } : item);
        return;
      } else throw new RegexSyntaxError(`invalid perl operator: ${text.slice(start, this.#at)}`);
    }
  }

  #escape(items: RegexNode[]): void {
    const text = this.#text;
    const c = text[this.#at + 1];
    switch (c) {
      case "A":
        this.#at += 2;
        items.push({ kind: "assert", what: "text_begin" });
        return;
      case "z":
        this.#at += 2;
        items.push({ kind: "assert", what: "text_end" });
        return;
      case "b":
        this.#at += 2;
        items.push({ kind: "assert", what: "word_boundary" });
        return;
      case "B":
        this.#at += 2;
        items.push({ kind: "assert", what: "no_word_boundary" });
        return;
      case "C":
        this.#at += 2;
        this.#usesAnyByte = true;
        items.push({ kind: "char", set: { ascii: allAscii, nonAscii: true } });
        return;
      case "Q": {
        const end = text.indexOf("\\E", this.#at + 2);
        const literal = text.slice(this.#at + 2, end < 0 ? text.length : end);
        this.#at = end < 0 ? text.length : end + 2;
        for (const one of literal) items.push(this.#literal(one.codePointAt(0) as number));
        return;
      }
      case "E":
        // The end of a quotation that was not open is ignored only behind \Q; alone it is no escape.
        break;
    }
    const set = this.#classEscape();
    if (set !== undefined) {
      items.push({ kind: "char", set });
      return;
    }
    items.push(this.#literal(this.#escapedCode()));
  }

  /** \d \D \s \S \w \W \pX \PX at the current place, consumed; undefined where there is none. */
  #classEscape(): CharSet | undefined {
    const text = this.#text;
    const c = text[this.#at + 1];
    const perl = c === undefined ? undefined : perlClasses[c];
    if (perl !== undefined) {
      this.#at += 2;
      let ascii = perl.set;
      let nonAscii = false;
      if (this.#flags & foldCase && ascii === word) nonAscii = true;
      if (perl.negated) {
        ascii = allAscii & ~ascii;
        nonAscii = true;
      }
      return { ascii, nonAscii };
    }
    if (c !== "p" && c !== "P") return undefined;
    const start = this.#at;
    let name: string;
    if (text[start + 2] === "{") {
      const end = text.indexOf("}", start);
      if (end < 0) throw new RegexSyntaxError(`invalid character class range: ${text.slice(start)}`);
      name = text.slice(start + 3, end);
      this.#at = end + 1;
    } else {
      if (start + 2 >= text.length) throw new RegexSyntaxError(`invalid character class range: ${text.slice(start)}`);
      const code = text.codePointAt(start + 2) as number;
      name = String.fromCodePoint(code);
      this.#at = start + 2 + name.length;
    }
    let negated = c === "P";
    if (name.startsWith("^")) {
      negated = !negated;
      name = name.slice(1);
    }
    const found = unicodeProperty(name);
    if (found === undefined) throw new RegexSyntaxError(`invalid character class range: ${text.slice(start, this.#at)}`);
    let ascii = found.ascii;
    if (this.#flags & foldCase) ascii = foldAscii(ascii);
    return { ascii: negated ? allAscii & ~ascii : ascii, nonAscii: true };
  }

  /** The code point that a backslash sequence stands for, consumed. */
  #escapedCode(): number {
    const text = this.#text;
    const start = this.#at;
    if (start + 1 >= text.length) throw new RegexSyntaxError("trailing \\");
    const code = text.codePointAt(start + 1) as number;
    this.#at = start + 1 + (code > 0xffff ? 2 : 1);
    const bad = (end: number): never => {
      throw new RegexSyntaxError(`invalid escape sequence: ${text.slice(start, end)}`);
    };
    const c = String.fromCodePoint(code);
    switch (c) {
      case "a":
        return 7;
      case "f":
        return 12;
      case "n":
        return 10;
      case "r":
        return 13;
      case "t":
        return 9;
      case "v":
        return 11;
      case "x": {
        if (text[this.#at] === "{") {
          const end = text.indexOf("}", this.#at);
          const hex = end < 0 ? "" : text.slice(this.#at + 1, end);
          if (!/^[0-9A-Fa-f]{1,8}$/.test(hex) || Number.parseInt(hex, 16) > 0x10ffff) bad(end < 0 ? text.length : end + 1);
          this.#at = end + 1;
          return Number.parseInt(hex, 16);
        }
        const hex = text.slice(this.#at, this.#at + 2);
        if (!/^[0-9A-Fa-f]{2}$/.test(hex)) bad(Math.min(text.length, this.#at + 2));
        this.#at += 2;
        return Number.parseInt(hex, 16);
      }
    }
    if (code >= 48 && code <= 55) {
      // A single digit other than 0 would be a backreference, which RE2 does not have.
      const next = text.charCodeAt(this.#at);
      if (code !== 48 && !(next >= 48 && next <= 55)) bad(this.#at);
      let value = code - 48;
      for (let i = 0; i < 2; i++) {
        const digit = text.charCodeAt(this.#at);
        if (!(digit >= 48 && digit <= 55)) break;
        value = value * 8 + digit - 48;
        this.#at++;
      }
      return value;
    }
    if (code < 128 && !/[0-9A-Za-z]/.test(c)) return code;
    return bad(this.#at);
  }

  #characterClass(): RegexNode {
    const text = this.#text;
    const start = this.#at;
    this.#at++;
    let negated = false;
    if (text[this.#at] === "^") {
      negated = true;
      this.#at++;
    }
    const set: MutableSet = { ascii: 0n, nonAscii: false };
    let allNonAscii = false;
    let first = true;
    for (;;) {
      if (this.#at >= text.length) throw new RegexSyntaxError(`missing ]: ${text.slice(start)}`);
      if (text[this.#at] === "]" && !first) break;
      first = false;
      if (text.startsWith("[:", this.#at)) {
        const end = text.indexOf(":]", this.#at + 2);
        if (end >= 0) {
          let name = text.slice(this.#at + 2, end);
          let not = false;
          if (name.startsWith("^")) {
            not = true;
            name = name.slice(1);
          }
          if (!Object.hasOwn(posixClasses, name)) throw new RegexSyntaxError(`invalid character class range: ${text.slice(this.#at, end + 2)}`);
          let named = posixClasses[name];
          if (this.#flags & foldCase) named = foldAscii(named);
          set.ascii |= not ? allAscii & ~named : named;
          if (not) {
            set.nonAscii = true;
            allNonAscii = true;
          } else if (this.#flags & foldCase && (named & foldsOut) !== 0n) set.nonAscii = true;
          this.#at = end + 2;
          continue;
        }
      }
      if (text[this.#at] === "\\") {
        const named = this.#classEscape();
        if (named !== undefined) {
          set.ascii |= named.ascii;
          set.nonAscii ||= named.nonAscii;
          continue;
        }
      }
      const from = this.#at;
      const lo = this.#classCode(start);
      let hi = lo;
      if (text[this.#at] === "-" && this.#at + 1 < text.length && text[this.#at + 1] !== "]") {
        this.#at++;
        hi = this.#classCode(start);
        if (hi < lo) throw new RegexSyntaxError(`invalid character class range: ${text.slice(from, this.#at)}`);
      }
      let part = range(lo, hi);
      if (this.#flags & foldCase) {
        part = foldAscii(part);
        if ((part & foldsOut) !== 0n) set.nonAscii = true;
        if (hi > 127) part |= (lo <= 0x17f && hi >= 0x17f ? asciiFolds(0x17f) : 0n) | (lo <= 0x212a && hi >= 0x212a ? asciiFolds(0x212a) : 0n);
      }
      set.ascii |= part;
      if (hi > 127) {
        set.nonAscii = true;
        if (lo <= 128 && hi >= 0x10ffff) allNonAscii = true;
      }
    }
    this.#at++;
    if (negated) return { kind: "char", set: { ascii: allAscii & ~set.ascii, nonAscii: !allNonAscii } };
    return { kind: "char", set };
  }

  #classCode(classStart: number): number {
    const text = this.#text;
    if (this.#at >= text.length) throw new RegexSyntaxError(`missing ]: ${text.slice(classStart)}`);
    if (text[this.#at] === "\\") return this.#escapedCode();
    const code = text.codePointAt(this.#at) as number;
    this.#at += code > 0xffff ? 2 : 1;
    return code;
  }
}

/** The ASCII letters that fold to a non-ASCII character (long s, Kelvin sign). */
function asciiFolds(code: number): bigint {
  if (code === 0x17f) return (1n << 83n) | (1n << 115n);
  if (code === 0x212a) return (1n << 75n) | (1n << 107n);
  return 0n;
}

/** RE2 bounds the product of nested counts. */
function checkRepeats(node: RegexNode, left: number): void {
  switch (node.kind) {
    case "cat":
    case "alt":
      for (const item of node.items) checkRepeats(item, left);
      return;
    case "group":
      checkRepeats(node.item, left);
      return;
    case "repeat": {
      const count = node.max < 0 ? node.min : node.max;
      const rest = count > 1 ? Math.floor(left / count) : left;
      if (rest < 1) throw new RegexSyntaxError(`invalid repetition size: {${node.min}${node.max === node.min ? "" : node.max < 0 ? "," : `,${node.max}`}}`);
      checkRepeats(node.item, rest);
    }
  }
}
