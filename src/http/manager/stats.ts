/** http.<stat_prefix>.* and listener.<address>.http.<stat_prefix>.*: Envoy's names as properties. */
import type { Counter, Gauge, Histogram, StatsScope } from "../../stats/stats.ts";

const counters = [
  "downstream_cx_delayed_close_timeout",
  "downstream_cx_destroy",
  "downstream_cx_destroy_active_rq",
  "downstream_cx_destroy_local",
  "downstream_cx_destroy_local_active_rq",
  "downstream_cx_destroy_remote",
  "downstream_cx_destroy_remote_active_rq",
  "downstream_cx_drain_close",
  "downstream_cx_http1_total",
  "downstream_cx_http2_total",
  "downstream_cx_http3_total",
  "downstream_cx_idle_timeout",
  "downstream_cx_max_duration_reached",
  "downstream_cx_max_requests_reached",
  "downstream_cx_overload_disable_keepalive",
  "downstream_cx_protocol_error",
  "downstream_cx_rx_bytes_total",
  "downstream_cx_ssl_total",
  "downstream_cx_total",
  "downstream_cx_tx_bytes_total",
  "downstream_cx_upgrades_total",
  "downstream_flow_control_paused_reading_total",
  "downstream_flow_control_resumed_reading_total",
  "downstream_rq_1xx",
  "downstream_rq_2xx",
  "downstream_rq_3xx",
  "downstream_rq_4xx",
  "downstream_rq_5xx",
  "downstream_rq_completed",
  "downstream_rq_failed_path_normalization",
  "downstream_rq_header_timeout",
  "downstream_rq_http1_total",
  "downstream_rq_http2_total",
  "downstream_rq_http3_total",
  "downstream_rq_idle_timeout",
  "downstream_rq_max_duration_reached",
  "downstream_rq_non_relative_path",
  "downstream_rq_overload_close",
  "downstream_rq_redirected_with_normalized_path",
  "downstream_rq_rejected_via_ip_detection",
  "downstream_rq_response_before_rq_complete",
  "downstream_rq_rx_reset",
  "downstream_rq_timeout",
  "downstream_rq_too_large",
  "downstream_rq_too_many_premature_resets",
  "downstream_rq_total",
  "downstream_rq_tx_reset",
  "downstream_rq_ws_on_non_ws_route",
  "rs_too_large",
  "passthrough_internal_redirect_bad_location",
  "passthrough_internal_redirect_no_route",
  "passthrough_internal_redirect_predicate",
  "passthrough_internal_redirect_too_many_redirects",
  "passthrough_internal_redirect_unsafe_scheme",
] as const;
const gauges = [
  "downstream_cx_active",
  "downstream_cx_http1_active",
  "downstream_cx_http1_soft_drain",
  "downstream_cx_http2_active",
  "downstream_cx_http3_active",
  "downstream_cx_rx_bytes_buffered",
  "downstream_cx_ssl_active",
  "downstream_cx_tx_bytes_buffered",
  "downstream_cx_upgrades_active",
  "downstream_rq_active",
] as const;

export type ManagerStats = { readonly [K in (typeof counters)[number]]: Counter } & { readonly [K in (typeof gauges)[number]]: Gauge } & {
  readonly downstream_cx_length_ms: Histogram;
  readonly downstream_rq_time: Histogram;
  readonly byClass: readonly (Counter | undefined)[];
};

export function managerStats(scope: StatsScope, tracing: boolean): ManagerStats {
  const made: Record<string, Counter | Gauge | Histogram> = {};
  for (const name of counters) made[name] = scope.counter(name);
  for (const name of gauges) made[name] = scope.gauge(name);
  made["downstream_cx_length_ms"] = scope.histogram("downstream_cx_length_ms", "ms");
  made["downstream_rq_time"] = scope.histogram("downstream_rq_time", "ms");
  if (tracing) for (const name of ["client_enabled", "health_check", "not_traceable", "random_sampling", "service_forced"]) scope.counter(`tracing.${name}`);
  const byClass = [
    undefined,
    made["downstream_rq_1xx"],
    made["downstream_rq_2xx"],
    made["downstream_rq_3xx"],
    made["downstream_rq_4xx"],
    made["downstream_rq_5xx"],
  ];
  return { ...made, byClass } as unknown as ManagerStats;
}

export interface ListenerHttpStats {
  readonly downstream_rq_completed: Counter;
  readonly byClass: readonly (Counter | undefined)[];
}

export function listenerHttpStats(scope: StatsScope): ListenerHttpStats {
  return {
    downstream_rq_completed: scope.counter("downstream_rq_completed"),
    byClass: [undefined, ...[1, 2, 3, 4, 5].map((n) => scope.counter(`downstream_rq_${n}xx`))],
  };
}
