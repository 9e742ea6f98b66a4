/** Query parameters of a path, and envoy.config.route.v3.QueryParameterMatcher. */
import type { QueryParameterMatcher as QueryParameterMatcherMessage } from "../config/schema/types/envoy.config.route.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import { compileStringMatcher, type StringMatcher, toBytes } from "./string-matcher.ts";

export const honours: Honours = { "envoy.config.route.v3.QueryParameterMatcher": "*" };

/** The first value of a parameter ("" where it has none) as it stands in the path, not decoded; undefined where there is none. */
export function queryParameter(path: string, name: string): string | undefined {
  return find(path, name, false);
}

/** As `queryParameter`, with names and values percent-decoded. */
export function decodedQueryParameter(path: string, name: string): string | undefined {
  return find(path, name, true);
}

function find(path: string, name: string, decode: boolean): string | undefined {
  const question = path.indexOf("?");
  if (question < 0) return undefined;
  let end = path.indexOf("#", question);
  if (end < 0) end = path.length;
  let at = question + 1;
  while (at < end) {
    let stop = path.indexOf("&", at);
    if (stop < 0 || stop > end) stop = end;
    let equals = path.indexOf("=", at);
    if (equals < 0 || equals > stop) equals = stop;
    if (decode) {
      if (percentDecode(path.slice(at, equals)) === name) return equals === stop ? "" : percentDecode(path.slice(equals + 1, stop));
    } else if (equals - at === name.length && path.startsWith(name, at)) return equals === stop ? "" : path.slice(equals + 1, stop);
    at = stop + 1;
  }
  return undefined;
}

/** %XX to the byte; anything else stays. */
export function percentDecode(text: string): string {
  if (!text.includes("%")) return text;
  return text.replace(/%([0-9A-Fa-f]{2})/g, (_, hex: string) => String.fromCharCode(Number.parseInt(hex, 16)));
}

export interface QueryParameterMatcher {
  matches(path: string): boolean;
}

export function compileQueryParameterMatcher(message: QueryParameterMatcherMessage, context: CompileContext): QueryParameterMatcher {
  const name = toBytes(message.name);
  const specifier = message.queryParameterMatchSpecifier;
  if (specifier.case === "stringMatch") {
    const matcher: StringMatcher = compileStringMatcher(specifier.value, context);
    return {
      matches(path) {
        const value = queryParameter(path, name);
        return value !== undefined && matcher.matches(value);
      },
    };
  }
  const wanted = specifier.case === "presentMatch" ? specifier.value : true;
  return { matches: (path) => (queryParameter(path, name) !== undefined) === wanted };
}
