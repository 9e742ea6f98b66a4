/** envoy.config.route.v3.HeaderMatcher: conditions on header fields. */
import type { HeaderMatcher as HeaderMatcherMessage } from "../config/schema/types/envoy.config.route.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import type { HeaderMap } from "../http/header-map.ts";
import { compileRegexMatcher, compileStringMatcher, neverMatches, type StringMatcher, toBytes } from "./string-matcher.ts";

export const honours: Honours = {
  "envoy.config.route.v3.HeaderMatcher": "*",
  "envoy.type.v3.Int64Range": "*",
};

export interface HeaderMatcher {
  readonly name: string;
  matches(headers: HeaderMap): boolean;
}

class ValueMatcher implements HeaderMatcher {
  readonly name: string;
  readonly #matcher: StringMatcher;
  readonly #invert: boolean;
  readonly #missingAsEmpty: boolean;
  constructor(name: string, matcher: StringMatcher, invert: boolean, missingAsEmpty: boolean) {
    this.name = name;
    this.#matcher = matcher;
    this.#invert = invert;
    this.#missingAsEmpty = missingAsEmpty;
  }
  matches(headers: HeaderMap): boolean {
    const name = this.name;
    const matcher = this.#matcher;
    // A field that is repeated is matched value by value. (What one line can hold has been combined before.)
    if (name.charCodeAt(0) !== 58 && name !== "host") {
      const list = headers.list;
      let found = false;
      for (let i = 0; i < list.length; i += 2) {
        if (list[i] !== name) continue;
        found = true;
        if (matcher.matches(list[i + 1])) return !this.#invert;
      }
      if (!found) return this.#missingAsEmpty ? matcher.matches("") !== this.#invert : false;
      return this.#invert;
    }
    const value = headers.get(name);
    if (value === undefined) return this.#missingAsEmpty ? matcher.matches("") !== this.#invert : false;
    return matcher.matches(value) !== this.#invert;
  }
}

class PresentMatcher implements HeaderMatcher {
  readonly name: string;
  readonly #wanted: boolean;
  constructor(name: string, wanted: boolean) {
    this.name = name;
    this.#wanted = wanted;
  }
  matches(headers: HeaderMap): boolean {
    return headers.has(this.name) === this.#wanted;
  }
}

class RangeMatcher implements StringMatcher {
  readonly #start: bigint;
  readonly #end: bigint;
  constructor(start: bigint, end: bigint) {
    this.#start = start;
    this.#end = end;
  }
  matches(text: string): boolean {
    const value = parseInt64(text);
    return value !== undefined && value >= this.#start && value < this.#end;
  }
}

/** A whole 64-bit number as absl::SimpleAtoi reads it: spaces around and a sign are allowed. */
export function parseInt64(text: string): bigint | undefined {
  const match = text.length > 40 ? null : /^[ \t\n\v\f\r]*([+-]?[0-9]+)[ \t\n\v\f\r]*$/.exec(text);
  if (match === null) return undefined;
  const value = BigInt(match[1].startsWith("+") ? match[1].slice(1) : match[1]);
  return value > 9223372036854775807n || value < -9223372036854775808n ? undefined : value;
}

class TextMatcher implements StringMatcher {
  readonly #test: (text: string) => boolean;
  constructor(test: (text: string) => boolean) {
    this.#test = test;
  }
  matches(text: string): boolean {
    return this.#test(text);
  }
}

/** Compiles one HeaderMatcher; its name may be a pseudo-header or "host". */
export function compileHeaderMatcher(message: HeaderMatcherMessage, context: CompileContext): HeaderMatcher {
  const name = message.name.toLowerCase();
  const specifier = message.headerMatchSpecifier;
  const value = (matcher: StringMatcher): HeaderMatcher => new ValueMatcher(name, matcher, message.invertMatch, message.treatMissingHeaderAsEmpty);
  switch (specifier.case) {
    case "exactMatch": {
      const wanted = toBytes(specifier.value);
      // An empty deprecated exact_match takes any value, as in Envoy.
      return value(new TextMatcher(wanted === "" ? () => true : (text) => text === wanted));
    }
    case "prefixMatch": {
      const wanted = toBytes(specifier.value);
      return value(new TextMatcher((text) => text.startsWith(wanted)));
    }
    case "suffixMatch": {
      const wanted = toBytes(specifier.value);
      return value(new TextMatcher((text) => text.endsWith(wanted)));
    }
    case "containsMatch": {
      const wanted = toBytes(specifier.value);
      return value(new TextMatcher((text) => text.includes(wanted)));
    }
    case "safeRegexMatch": {
      const regex = compileRegexMatcher(specifier.value, context);
      return value(regex === undefined ? neverMatches : new TextMatcher((text) => regex.fullMatch(text)));
    }
    case "rangeMatch":
      return value(new RangeMatcher(specifier.value.start, specifier.value.end));
    case "presentMatch":
      // With treat_missing_header_as_empty a field is always there.
      if (message.treatMissingHeaderAsEmpty) return constant(name, specifier.value !== message.invertMatch);
      return new PresentMatcher(name, specifier.value !== message.invertMatch);
    case "stringMatch":
      return value(compileStringMatcher(specifier.value, context));
    default:
      return message.treatMissingHeaderAsEmpty ? constant(name, !message.invertMatch) : new PresentMatcher(name, !message.invertMatch);
  }
}

function constant(name: string, answer: boolean): HeaderMatcher {
  return { name, matches: () => answer };
}

export function compileHeaderMatchers(messages: readonly HeaderMatcherMessage[], context: CompileContext): readonly HeaderMatcher[] {
  return messages.map((message) => compileHeaderMatcher(message, context));
}

/** Whether all conditions hold; true for none. */
export function matchesAllHeaders(matchers: readonly HeaderMatcher[], headers: HeaderMap): boolean {
  for (let i = 0; i < matchers.length; i++) if (!matchers[i].matches(headers)) return false;
  return true;
}
