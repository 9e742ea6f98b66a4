/** The router's settings, compiled, and what its requests share. */
import type { CompileContext } from "../../extensions/extension.ts";
import type { Counter, StatsScope } from "../../stats/stats.ts";
import type { RouterHeaderNames } from "./header-names.ts";
import type { StrictHeader } from "./strict-headers.ts";
import type { UpstreamLogSettings } from "./upstream-log.ts";

const counters = [
  "no_cluster",
  "no_route",
  "passthrough_internal_redirect_bad_location",
  "passthrough_internal_redirect_no_route",
  "passthrough_internal_redirect_predicate",
  "passthrough_internal_redirect_too_many_redirects",
  "passthrough_internal_redirect_unsafe_scheme",
  "rq_direct_response",
  "rq_overload_local_reply",
  "rq_redirect",
  "rq_reset_after_downstream_response_started",
  "rq_retry_skipped_request_not_complete",
  "rq_total",
] as const;

/** http.<stat_prefix>.*: Envoy's names as properties. */
export type RouterStats = { readonly [K in (typeof counters)[number]]: Counter };

export function routerStats(scope: StatsScope): RouterStats {
  return Object.fromEntries(counters.map((name) => [name, scope.counter(name)])) as RouterStats;
}

export interface RouterConfig {
  readonly stats: RouterStats;
  readonly names: RouterHeaderNames;
  readonly dynamicStats: boolean;
  readonly suppressEnvoyHeaders: boolean;
  readonly respectExpectedTimeout: boolean;
  readonly suppressGrpcFailureCodes: boolean;
  readonly rejectEarlyConnectData: boolean;
  readonly strictHeaders: readonly StrictHeader[];
  readonly upstreamLog: UpstreamLogSettings | undefined;
  readonly context: Pick<CompileContext, "runtime" | "clusters">;
  /** node.locality.zone, for stats of traffic between zones. */
  readonly zone: string;
  /** A random number in [0, 1). */
  readonly random: () => number;
}
