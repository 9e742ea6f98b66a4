/** envoy.filters.http.rbac: lets requests through, or refuses them, by rules; shadow rules only count. */
import { type AnyMessage, isMessage } from "../../../config/message.ts";
import type { RBAC, RBACPerRoute } from "../../../config/schema/types/envoy.extensions.filters.http.rbac.v3.d.ts";
import type { DecoderFilterCallbacks, FilterHeadersStatus, HttpFilter } from "../../../http/filter.ts";
import type { RequestHeaders } from "../../../http/header-map.ts";
import type { StatsScope } from "../../../stats/stats.ts";
import type { CompileContext, Extension } from "../../extension.ts";
import { compileRules, compileRulesMatcher, denialDetails, type Engine, honours as engineHonours, type Subject, type Verdict } from "../../rbac/engine.ts";

const pkg = "envoy.extensions.filters.http.rbac.v3.";
const typeName = `${pkg}RBAC`;
const perRoute = `${pkg}RBACPerRoute`;
const metadataName = "envoy.filters.http.rbac";

interface Side {
  readonly engine: Engine;
  /** rules_stat_prefix and shadow_rules_stat_prefix: of metadata keys; those of the filter itself are that of its statistics, too. */
  readonly prefix: string;
}
/** Undefined on either side: nothing is asked there. */
interface Rules {
  readonly enforced: Side | undefined;
  readonly shadow: Side | undefined;
  /** Each policy is counted by itself, too. */
  readonly perRule: boolean;
}

function compileSettings(message: RBAC, context: CompileContext): Rules {
  const side = (rules: RBAC["rules"], matcher: RBAC["matcher"], prefix: string): Side | undefined => {
    // With both, the matcher counts.
    const engine = matcher !== undefined ? compileRulesMatcher(matcher, context) : rules !== undefined ? compileRules(rules, context) : undefined;
    return engine && { engine, prefix };
  };
  return {
    enforced: side(message.rules, message.matcher, message.rulesStatPrefix),
    shadow: side(message.shadowRules, message.shadowMatcher, message.shadowRulesStatPrefix),
    perRule: message.trackPerRuleStats,
  };
}

/** Where results are counted: by the filter's own settings, also for routes that have others. */
interface Counts {
  readonly enforced: StatsScope;
  readonly shadow: StatsScope;
}

class RbacFilter implements HttpFilter {
  readonly #rules: Rules;
  readonly #counts: Counts;
  #callbacks!: DecoderFilterCallbacks;

  constructor(rules: Rules, counts: Counts) {
    this.#rules = rules;
    this.#counts = counts;
  }

  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#callbacks = callbacks;
  }

  decodeHeaders(headers: RequestHeaders): FilterHeadersStatus {
    const callbacks = this.#callbacks;
    const rules = callbacks.routeConfig<Rules>() ?? this.#rules;
    const { enforced, shadow } = rules;
    const { streamInfo, connection } = callbacks;
    const subject: Subject = { connection, info: streamInfo, headers, routeMetadata: () => callbacks.route()?.metadata ?? {} };
    const told: [string, string][] = [];
    if (shadow !== undefined) this.#note(shadow.engine.decide(subject, false), `${shadow.prefix}shadow_`, rules.perRule, this.#counts.shadow, "shadow_", told);
    const verdict = enforced?.engine.decide(subject, true);
    if (enforced !== undefined && verdict !== undefined) this.#note(verdict, `${enforced.prefix}enforced_`, rules.perRule, this.#counts.enforced, "", told);
    if (told.length > 0) streamInfo.setDynamicMetadata(metadataName, Object.fromEntries(told.sort(([a], [b]) => (a < b ? -1 : 1))));
    if (verdict === undefined || verdict.allowed) return "continue";
    callbacks.sendLocalReply({ status: 403, body: "RBAC: access denied", details: denialDetails(verdict.policy) });
    return "stop_all_and_watermark";
  }

  #note({ allowed, policy }: Verdict, keys: string, perRule: boolean, scope: StatsScope, kind: "" | "shadow_", told: [string, string][]): void {
    const result = allowed ? "allowed" : "denied";
    scope.counter(`${kind}${result}`).inc();
    if (perRule && policy !== undefined) scope.counter(`policy.${policy}.${kind}${result}`).inc();
    if (policy !== undefined) told.push([`${keys}effective_policy_id`, policy]);
    told.push([`${keys}engine_result`, result]);
  }
}

export default {
  honours: {
    ...engineHonours,
    [typeName]: "*",
    [perRoute]: "*",
  },
  httpFilter: {
    compile(message, context, { scope }) {
      if (!isMessage<RBAC>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      const rules = compileSettings(message, context);
      const own = scope.scope("rbac.");
      const counts: Counts = {
        enforced: own.scope(message.rulesStatPrefix),
        shadow: own.scope(message.shadowRulesStatPrefix),
      };
      for (const name of ["allowed", "denied"]) {
        counts.enforced.counter(name);
        counts.shadow.counter(`shadow_${name}`);
      }
      return () => new RbacFilter(rules, counts);
    },
    compileRoute(message: AnyMessage, context): Rules {
      if (!isMessage<RBACPerRoute>(message, perRoute)) throw new Error(`${message.$typeName} is no ${perRoute}`);
      // Without settings the route is free of rules.
      return message.rbac === undefined ? { enforced: undefined, shadow: undefined, perRule: false } : compileSettings(message.rbac, context);
    },
  },
} satisfies Extension;
