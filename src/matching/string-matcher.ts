/** envoy.type.matcher.v3.StringMatcher (and its xds twin), compiled to one call per text. */
import type { AnyMessage } from "../config/message.ts";
import type { RegexMatchAndSubstitute, RegexMatcher, StringMatcher as StringMatcherMessage } from "../config/schema/types/envoy.type.matcher.v3.d.ts";
import type { StringMatcher as XdsStringMatcherMessage } from "../config/schema/types/xds.type.matcher.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import { compileRegex, compileSubstitution, type SafeRegex, type Substitution } from "../regex/regex.ts";

export const honours: Honours = {
  "envoy.type.matcher.v3.StringMatcher": ["exact", "prefix", "suffix", "safe_regex", "contains", "ignore_case"],
  "envoy.type.matcher.v3.ListStringMatcher": "*",
  "envoy.type.matcher.v3.RegexMatcher": "*",
  "envoy.type.matcher.v3.RegexMatcher.GoogleRE2": "*",
  "envoy.type.matcher.v3.RegexMatchAndSubstitute": "*",
  "xds.type.matcher.v3.StringMatcher": ["exact", "prefix", "suffix", "safe_regex", "contains", "ignore_case"],
  "xds.type.matcher.v3.ListStringMatcher": "*",
  "xds.type.matcher.v3.RegexMatcher": "*",
  "xds.type.matcher.v3.RegexMatcher.GoogleRE2": "*",
};

export interface StringMatcher {
  /** `text`: latin1 code units, one a byte. */
  matches(text: string): boolean;
}

/** Configuration text (Unicode) as the byte string that headers are compared in. */
export function toBytes(text: string): string {
  for (let i = 0; i < text.length; i++) if (text.charCodeAt(i) > 127) return Buffer.from(text, "utf8").toString("latin1");
  return text;
}

/** Lower case of the ASCII letters alone, as absl::AsciiStrToLower. */
export function asciiLower(text: string): string {
  for (let i = 0; i < text.length; i++) {
    const c = text.charCodeAt(i);
    if (c > 127) return text.replace(/[A-Z]+/g, (upper) => upper.toLowerCase());
    if (c >= 65 && c <= 90) {
      for (let j = i + 1; j < text.length; j++) if (text.charCodeAt(j) > 127) return text.replace(/[A-Z]+/g, (upper) => upper.toLowerCase());
      return text.toLowerCase();
    }
  }
  return text;
}

class Exact implements StringMatcher {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
  matches(text: string): boolean {
    return text === this.text;
  }
}
class Prefix implements StringMatcher {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
  matches(text: string): boolean {
    return text.startsWith(this.text);
  }
}
class Suffix implements StringMatcher {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
  matches(text: string): boolean {
    return text.endsWith(this.text);
  }
}
class Contains implements StringMatcher {
  readonly text: string;
  constructor(text: string) {
    this.text = text;
  }
  matches(text: string): boolean {
    return text.includes(this.text);
  }
}
class IgnoreCase implements StringMatcher {
  readonly #inner: StringMatcher;
  constructor(inner: StringMatcher) {
    this.#inner = inner;
  }
  matches(text: string): boolean {
    return this.#inner.matches(asciiLower(text));
  }
}
class Regex implements StringMatcher {
  readonly #regex: SafeRegex;
  constructor(regex: SafeRegex) {
    this.#regex = regex;
  }
  matches(text: string): boolean {
    return this.#regex.fullMatch(text);
  }
}

export const neverMatches: StringMatcher = { matches: () => false };

/** Compiles a RegexMatcher; a bad pattern is reported at `regex` and gives undefined. */
export function compileRegexMatcher(message: { readonly $typeName: string; readonly regex: string }, context: CompileContext): SafeRegex | undefined {
  const result = compileRegex(message.regex);
  if (result.ok) return result.regex;
  context.report(message, "regex", {
    code: "OR3211",
    text: `invalid regular expression "${message.regex}": ${result.error}`,
    hint: "the syntax is RE2's: no look-around and no back references",
  });
  return undefined;
}

/** A RegexMatchAndSubstitute, compiled. */
export interface RegexRewrite {
  readonly regex: SafeRegex;
  readonly substitution: Substitution;
}

export function compileRegexRewrite(message: RegexMatchAndSubstitute, context: CompileContext): RegexRewrite | undefined {
  if (message.pattern === undefined) {
    context.report(message, "pattern", { code: "OR2001", text: "pattern: value is required" });
    return undefined;
  }
  const regex = compileRegexMatcher(message.pattern as RegexMatcher, context);
  if (regex === undefined) return undefined;
  const compiled = compileSubstitution(message.substitution, regex.groupCount);
  if (!compiled.ok) {
    context.report(message, "substitution", {
      code: "OR3212",
      text: `invalid regex substitution "${message.substitution}" for pattern "${regex.pattern}": ${compiled.error}`,
    });
    return undefined;
  }
  return { regex, substitution: compiled.substitution };
}

/** Compiles a StringMatcher. Findings: bad regex, no pattern at all, ignore_case with a regex is without effect as in Envoy. */
export function compileStringMatcher(message: StringMatcherMessage | XdsStringMatcherMessage, context: CompileContext): StringMatcher {
  const pattern = message.matchPattern;
  const fold = message.ignoreCase;
  const prepare = (text: string): string => (fold ? asciiLower(toBytes(text)) : toBytes(text));
  let matcher: StringMatcher;
  switch (pattern.case) {
    case "exact":
      matcher = new Exact(prepare(pattern.value));
      break;
    case "prefix":
      matcher = new Prefix(prepare(pattern.value));
      break;
    case "suffix":
      matcher = new Suffix(prepare(pattern.value));
      break;
    case "contains":
      matcher = new Contains(prepare(pattern.value));
      break;
    case "safeRegex": {
      const regex = compileRegexMatcher(pattern.value, context);
      if (fold)
        context.report(message, "ignore_case", {
          code: "OR3213",
          text: "ignore_case has no effect for safe_regex",
          hint: "start the pattern with (?i) instead",
        });
      return regex === undefined ? neverMatches : new Regex(regex);
    }
    case "custom":
      context.report(message, "custom", {
        code: "OR4002",
        text: `custom string matcher ${(pattern.value.typedConfig as AnyMessage | undefined)?.$typeName ?? pattern.value.name} is not supported`,
      });
      return neverMatches;
    default:
      context.report(message, undefined, { code: "OR2002", text: "a string matcher needs one of exact, prefix, suffix, contains, safe_regex" });
      return neverMatches;
  }
  return fold ? new IgnoreCase(matcher) : matcher;
}

/** Whether any of the matchers takes the text (ListStringMatcher). */
export function compileStringMatchers(messages: readonly StringMatcherMessage[], context: CompileContext): StringMatcher {
  const matchers = messages.map((message) => compileStringMatcher(message, context));
  return {
    matches(text) {
      for (const matcher of matchers) if (matcher.matches(text)) return true;
      return false;
    },
  };
}
