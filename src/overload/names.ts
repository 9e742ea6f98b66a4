/** Actions, load shed points and timers of the overload manager that this proxy knows; their order is that of their cells in shared memory. */
export const actionNames = [
  "envoy.overload_actions.stop_accepting_requests",
  "envoy.overload_actions.disable_http_keepalive",
  "envoy.overload_actions.stop_accepting_connections",
  "envoy.overload_actions.reject_incoming_connections",
  "envoy.overload_actions.shrink_heap",
  "envoy.overload_actions.reduce_timeouts",
  "envoy.overload_actions.reset_high_memory_stream",
] as const;
export type ActionName = (typeof actionNames)[number];

export const pointNames = [
  "envoy.load_shed_points.tcp_listener_accept",
  "envoy.load_shed_points.http_connection_manager_decode_headers",
  "envoy.load_shed_points.hcm_ondata_creating_codec",
  "envoy.load_shed_points.http1_server_abort_dispatch",
  "envoy.load_shed_points.http2_server_go_away_on_dispatch",
  "envoy.load_shed_points.http2_server_go_away_and_close_on_dispatch",
  "envoy.load_shed_points.http_downstream_filter_check",
  "envoy.load_shed_points.connection_pool_new_connection",
] as const;
export type PointName = (typeof pointNames)[number];

/** ScaleTimersOverloadActionConfig.TimerType, by number. */
export const timerNames = [
  "UNSPECIFIED",
  "HTTP_DOWNSTREAM_CONNECTION_IDLE",
  "HTTP_DOWNSTREAM_STREAM_IDLE",
  "TRANSPORT_SOCKET_CONNECT",
  "HTTP_DOWNSTREAM_CONNECTION_MAX",
  "HTTP_DOWNSTREAM_STREAM_FLUSH",
] as const;
export type TimerName = (typeof timerNames)[number];
