/** listener.<address>.*: Envoy's names as properties. */
import type { Counter, Gauge, Histogram, StatsScope } from "../stats/stats.ts";

export interface ListenerStats {
  readonly scope: StatsScope;
  readonly downstream_cx_total: Counter;
  readonly downstream_cx_destroy: Counter;
  readonly downstream_cx_active: Gauge;
  readonly downstream_cx_length_ms: Histogram;
  readonly downstream_cx_overflow: Counter;
  readonly downstream_cx_overload_reject: Counter;
  readonly downstream_cx_transport_socket_connect_timeout: Counter;
  readonly downstream_global_cx_overflow: Counter;
  readonly downstream_listener_filter_error: Counter;
  readonly downstream_listener_filter_remote_close: Counter;
  readonly downstream_pre_cx_active: Gauge;
  readonly downstream_pre_cx_timeout: Counter;
  readonly no_filter_chain_match: Counter;
  readonly extension_config_missing: Counter;
  readonly network_extension_config_missing: Counter;
  readonly connections_accepted_per_socket_event: Histogram;
  readonly worker_downstream_cx_total: Counter;
  readonly worker_downstream_cx_active: Gauge;
}

export function listenerStats(scope: StatsScope, workerIndex: number): ListenerStats {
  const worker = scope.scope(workerIndex < 0 ? "main_thread." : `worker_${workerIndex}.`);
  return {
    scope,
    downstream_cx_total: scope.counter("downstream_cx_total"),
    downstream_cx_destroy: scope.counter("downstream_cx_destroy"),
    downstream_cx_active: scope.gauge("downstream_cx_active"),
    downstream_cx_length_ms: scope.histogram("downstream_cx_length_ms", "ms"),
    downstream_cx_overflow: scope.counter("downstream_cx_overflow"),
    downstream_cx_overload_reject: scope.counter("downstream_cx_overload_reject"),
    downstream_cx_transport_socket_connect_timeout: scope.counter("downstream_cx_transport_socket_connect_timeout"),
    downstream_global_cx_overflow: scope.counter("downstream_global_cx_overflow"),
    downstream_listener_filter_error: scope.counter("downstream_listener_filter_error"),
    downstream_listener_filter_remote_close: scope.counter("downstream_listener_filter_remote_close"),
    downstream_pre_cx_active: scope.gauge("downstream_pre_cx_active"),
    downstream_pre_cx_timeout: scope.counter("downstream_pre_cx_timeout"),
    no_filter_chain_match: scope.counter("no_filter_chain_match"),
    extension_config_missing: scope.counter("extension_config_missing"),
    network_extension_config_missing: scope.counter("network_extension_config_missing"),
    connections_accepted_per_socket_event: scope.histogram("connections_accepted_per_socket_event", "none"),
    worker_downstream_cx_total: worker.counter("downstream_cx_total"),
    worker_downstream_cx_active: worker.gauge("downstream_cx_active"),
  };
}
