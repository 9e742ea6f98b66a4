/** envoy.filters.network.rbac: closes connections that rules do not allow; shadow rules only count. */
import { durationMs, isMessage } from "../../../config/message.ts";
import type { RBAC } from "../../../config/schema/types/envoy.extensions.filters.network.rbac.v3.d.ts";
import type { Timer, TimerWheel } from "../../../net/timer-wheel.ts";
import type { StatsScope } from "../../../stats/stats.ts";
import type { Extension, NetworkFilter, NetworkFilterCallbacks } from "../../extension.ts";
import { compileRules, compileRulesMatcher, denialDetails, type Engine, honours as engineHonours, type Subject } from "../../rbac/engine.ts";

const typeName = "envoy.extensions.filters.network.rbac.v3.RBAC";
const metadataName = "envoy.filters.network.rbac";

interface Settings {
  readonly enforced: Engine | undefined;
  readonly shadow: Engine | undefined;
  readonly shadowPrefix: string;
  /** Every read is judged anew: metadata may have changed. */
  readonly continuous: boolean;
  readonly delayMs: number;
  readonly scope: StatsScope;
  readonly timers: TimerWheel;
}

class NetworkRbacFilter implements NetworkFilter {
  readonly #settings: Settings;
  #callbacks!: NetworkFilterCallbacks;
  #verdict: "none" | "allowed" | "denied" = "none";
  #isShadowJudged = false;
  #timer: Timer | undefined = undefined;

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  onNewConnection(callbacks: NetworkFilterCallbacks): "continue" {
    this.#callbacks = callbacks;
    return "continue";
  }

  onData(): "continue" | "stop" {
    if (this.#timer !== undefined) return "stop"; // refused, and being kept waiting for it
    const { enforced, shadow, shadowPrefix, continuous, scope, delayMs, timers } = this.#settings;
    const { connection, info } = this.#callbacks;
    const subject: Subject = { connection, info, headers: undefined, routeMetadata: () => ({}) };
    if (shadow !== undefined && (continuous || !this.#isShadowJudged)) {
      this.#isShadowJudged = true;
      const { allowed, policy } = shadow.decide(subject, false);
      scope
        .scope(shadowPrefix)
        .counter(`shadow_${allowed ? "allowed" : "denied"}`)
        .inc();
      info.setDynamicMetadata(metadataName, {
        ...(policy !== undefined && { [`${shadowPrefix}shadow_effective_policy_id`]: policy }),
        [`${shadowPrefix}shadow_engine_result`]: allowed ? "allowed" : "denied",
      });
    }
    if (enforced === undefined || (this.#verdict === "allowed" && !continuous)) return "continue";
    const { allowed, policy } = enforced.decide(subject, true);
    const isFirst = this.#verdict === "none";
    this.#verdict = allowed ? "allowed" : "denied";
    if (allowed) {
      if (isFirst) scope.counter("allowed").inc();
      return "continue";
    }
    scope.counter("denied").inc();
    const close = (): void => {
      info.connectionTerminationDetails = denialDetails(policy);
      info.downstreamLocalCloseReason = "rbac_deny_close";
      connection.close("no_flush", "rbac_deny_close");
    };
    if (delayMs > 0) {
      connection.readDisable(true);
      this.#timer = timers.createTimer(close);
      this.#timer.enable(delayMs);
    } else close();
    return "stop";
  }

  onDestroy(): void {
    this.#timer?.disable();
  }
}

export default {
  honours: { ...engineHonours, [typeName]: "*" },
  networkFilter: {
    compile(message, context) {
      if (!isMessage<RBAC>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      const engine = (rules: RBAC["rules"], matcher: RBAC["matcher"]): Engine | undefined =>
        matcher !== undefined ? compileRulesMatcher(matcher, context) : rules === undefined ? undefined : compileRules(rules, context);
      const scope = context.stats.scope(message.statPrefix).scope("rbac.");
      for (const name of ["allowed", "denied"]) {
        scope.counter(name);
        scope.scope(message.shadowRulesStatPrefix).counter(`shadow_${name}`);
      }
      const settings: Settings = {
        enforced: engine(message.rules, message.matcher),
        shadow: engine(message.shadowRules, message.shadowMatcher),
        shadowPrefix: message.shadowRulesStatPrefix,
        continuous: message.enforcementType === 1,
        delayMs: durationMs(message.delayDeny, 0),
        scope,
        timers: context.timers,
      };
      return () => new NetworkRbacFilter(settings);
    },
  },
} satisfies Extension;
