/** envoy.type.matcher.v3.FilterStateMatcher: a condition on an object in filter state. */
import type { FilterStateMatcher } from "../config/schema/types/envoy.type.matcher.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import type { StreamInfo } from "../http/stream-info.ts";
import { compileCidrList } from "./cidr.ts";
import { compileStringMatcher, toBytes } from "./string-matcher.ts";

export const honours: Honours = { "envoy.type.matcher.v3.FilterStateMatcher": "*" };

export function compileFilterStateMatcher(message: FilterStateMatcher, context: CompileContext): (info: StreamInfo) => boolean {
  const { key, matcher } = message;
  switch (matcher.case) {
    case "stringMatch": {
      const test = compileStringMatcher(matcher.value, context);
      return (info) => {
        const text = info.getFilterState(key)?.serializeAsString();
        return text !== undefined && test.matches(toBytes(text));
      };
    }
    case "addressMatch": {
      const ranges = compileCidrList(matcher.value.ranges, context);
      const invert = matcher.value.invertMatch;
      return (info) => {
        const text = info.getFilterState(key)?.serializeAsString();
        if (text === undefined) return false;
        // Objects that hold an address print it with its port.
        const bracket = text.startsWith("[") ? text.indexOf("]") : -1;
        const colon = text.lastIndexOf(":");
        const ip = bracket > 0 ? text.slice(1, bracket) : colon > 0 && text.indexOf(":") === colon ? text.slice(0, colon) : text;
        return ranges.contains(ip) !== invert;
      };
    }
    default:
      return () => false;
  }
}
