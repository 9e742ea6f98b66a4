/** HeaderMutationRules: which header fields an external service may change. */
import type { HeaderMutationRules } from "../config/schema/types/envoy.config.common.mutation_rules.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import { compileRegexMatcher } from "./string-matcher.ts";

export const honours: Honours = { "envoy.config.common.mutation_rules.v3.HeaderMutationRules": "*" };

export interface MutationRules {
  /** `name` in lower case; "error": the rules say that trying is a fault. */
  check(name: string, removes: boolean): "allowed" | "ignored" | "error";
}

const routing: ReadonlySet<string> = new Set(["host", ":authority", ":scheme", ":method"]);

export function compileMutationRules(message: HeaderMutationRules | undefined, context: CompileContext): MutationRules {
  const allow = message?.allowExpression === undefined ? undefined : compileRegexMatcher(message.allowExpression, context);
  const disallow = message?.disallowExpression === undefined ? undefined : compileRegexMatcher(message.disallowExpression, context);
  const refused = message?.disallowIsError === true ? "error" : "ignored";
  const envoyPrefix = `${context.headerPrefix}-`;
  return {
    check(name, removes) {
      if (message?.disallowAll === true || disallow?.fullMatch(name) === true) return refused;
      // Without these there is no request and no response.
      if (removes && (name.charCodeAt(0) === 58 || name === "host")) return refused;
      if (allow?.fullMatch(name) === true) return "allowed";
      if (message?.disallowSystem === true && name.charCodeAt(0) === 58) return refused;
      if (routing.has(name) && message?.allowAllRouting !== true) return refused;
      if (name.startsWith(envoyPrefix) && message?.allowEnvoy !== true) return refused;
      return "allowed";
    },
  };
}
