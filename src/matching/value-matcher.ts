/** envoy.type.matcher.v3.ValueMatcher, MetadataMatcher and StructMatcher: conditions on JSON values (dynamic metadata). */
import type { JsonObject, JsonValue } from "../config/message.ts";
import type {
  DoubleMatcher,
  MetadataMatcher as MetadataMatcherMessage,
  StructMatcher as StructMatcherMessage,
  ValueMatcher as ValueMatcherMessage,
} from "../config/schema/types/envoy.type.matcher.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import { compileStringMatcher, toBytes } from "./string-matcher.ts";

export const honours: Honours = {
  "envoy.type.matcher.v3.ValueMatcher": "*",
  "envoy.type.matcher.v3.ValueMatcher.NullMatch": "*",
  "envoy.type.matcher.v3.DoubleMatcher": "*",
  "envoy.type.v3.DoubleRange": "*",
  "envoy.type.matcher.v3.ListMatcher": "*",
  "envoy.type.matcher.v3.OrMatcher": "*",
  "envoy.type.matcher.v3.MetadataMatcher": "*",
  "envoy.type.matcher.v3.MetadataMatcher.PathSegment": "*",
  "envoy.type.matcher.v3.StructMatcher": "*",
  "envoy.type.matcher.v3.StructMatcher.PathSegment": "*",
};

/** undefined stands for a value that is not there. */
export type ValueTest = (value: JsonValue | undefined) => boolean;

export function compileValueMatcher(message: ValueMatcherMessage, context: CompileContext): ValueTest {
  const pattern = message.matchPattern;
  switch (pattern.case) {
    case "nullMatch":
      return (value) => value === null;
    case "doubleMatch": {
      const test = compileDoubleMatcher(pattern.value);
      return (value) => typeof value === "number" && test(value);
    }
    case "stringMatch": {
      const matcher = compileStringMatcher(pattern.value, context);
      return (value) => typeof value === "string" && matcher.matches(toBytes(value));
    }
    case "boolMatch": {
      const wanted = pattern.value;
      return (value) => value === wanted;
    }
    case "presentMatch": {
      const wanted = pattern.value;
      return (value) => (value !== undefined) === wanted;
    }
    case "listMatch": {
      const oneOf = pattern.value.matchPattern;
      if (oneOf.case === undefined) return () => false;
      const test = compileValueMatcher(oneOf.value, context);
      return (value) => Array.isArray(value) && value.some(test);
    }
    case "orMatch": {
      const tests = pattern.value.valueMatchers.map((one) => compileValueMatcher(one, context));
      return (value) => tests.some((test) => test(value));
    }
    default:
      return () => false;
  }
}

function compileDoubleMatcher(message: DoubleMatcher): (value: number) => boolean {
  const pattern = message.matchPattern;
  if (pattern.case === "exact") return (value) => value === pattern.value;
  if (pattern.case === "range") return (value) => value >= pattern.value.start && value < pattern.value.end;
  return () => false;
}

/** The value at a path of keys; undefined where one is missing. */
export function valueAt(object: JsonObject | undefined, path: readonly string[]): JsonValue | undefined {
  let value: JsonValue | undefined = object;
  for (const key of path) {
    if (value === null || typeof value !== "object" || Array.isArray(value) || !Object.hasOwn(value, key)) return undefined;
    value = value[key];
  }
  return value;
}

function keys(path: readonly { readonly segment: { readonly case: "key"; readonly value: string } | { readonly case: undefined } }[]): string[] {
  return path.map((segment) => (segment.segment.case === "key" ? segment.segment.value : ""));
}

export type MetadataTest = (filterMetadata: Record<string, JsonObject>) => boolean;

export function compileMetadataMatcher(message: MetadataMatcherMessage, context: CompileContext): MetadataTest {
  const { filter, invert } = message;
  const path = keys(message.path);
  const test = message.value === undefined ? () => false : compileValueMatcher(message.value, context);
  return (metadata) => test(Object.hasOwn(metadata, filter) ? valueAt(metadata[filter], path) : undefined) !== invert;
}

export function compileStructMatcher(message: StructMatcherMessage, context: CompileContext): (value: JsonObject) => boolean {
  const path = keys(message.path);
  const test = message.value === undefined ? () => false : compileValueMatcher(message.value, context);
  return (value) => test(valueAt(value, path));
}
