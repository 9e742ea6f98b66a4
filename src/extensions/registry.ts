/**
 * The one table of extensions. A row says everything that is known without loading code; the module behind it is loaded only when
 * a configuration names one of its messages. New extension: a folder beside this file and a row here.
 */
import type { ExtensionRow } from "./extension.ts";

export const extensions: readonly ExtensionRow[] = [
  // ---- network filters
  {
    name: "envoy.filters.network.http_connection_manager",
    category: "envoy.filters.network",
    messages: ["envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"],
    load: () => import("../http/manager/config.ts"),
  },
  {
    name: "envoy.filters.network.tcp_proxy",
    category: "envoy.filters.network",
    messages: ["envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"],
    load: () => import("./network_filters/tcp_proxy/config.ts"),
  },
  {
    name: "envoy.filters.network.echo",
    category: "envoy.filters.network",
    messages: ["envoy.extensions.filters.network.echo.v3.Echo"],
    load: () => import("./network_filters/echo/config.ts"),
  },
  {
    name: "envoy.filters.network.direct_response",
    category: "envoy.filters.network",
    messages: ["envoy.extensions.filters.network.direct_response.v3.Config"],
    load: () => import("./network_filters/direct_response/config.ts"),
  },
  {
    name: "envoy.filters.network.connection_limit",
    category: "envoy.filters.network",
    messages: ["envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit"],
    load: () => import("./network_filters/connection_limit/config.ts"),
  },
  {
    name: "envoy.filters.network.local_ratelimit",
    category: "envoy.filters.network",
    messages: ["envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit"],
    load: () => import("./network_filters/local_ratelimit/config.ts"),
  },
  {
    name: "envoy.filters.network.sni_cluster",
    category: "envoy.filters.network",
    messages: ["envoy.extensions.filters.network.sni_cluster.v3.SniCluster"],
    load: () => import("./network_filters/sni_cluster/config.ts"),
  },
  {
    name: "envoy.filters.network.rbac",
    category: "envoy.filters.network",
    messages: ["envoy.extensions.filters.network.rbac.v3.RBAC"],
    load: () => import("./network_filters/rbac/config.ts"),
  },
  // ---- HTTP filters with scripts
  {
    name: "envoy.filters.http.lua",
    category: "envoy.filters.http",
    messages: ["envoy.extensions.filters.http.lua.v3.Lua", "envoy.extensions.filters.http.lua.v3.LuaPerRoute"],
    load: () => import("./http_filters/lua/config.ts"),
  },
  {
    name: "envoy.filters.http.wasm",
    category: "envoy.filters.http",
    messages: ["envoy.extensions.filters.http.wasm.v3.Wasm"],
    load: () => import("./http_filters/wasm/config.ts"),
  },
  // ---- HTTP filters for gRPC
  {
    name: "envoy.filters.http.grpc_stats",
    category: "envoy.filters.http",
    messages: ["envoy.extensions.filters.http.grpc_stats.v3.FilterConfig"],
    load: () => import("./http_filters/grpc_stats/config.ts"),
  },
  {
    name: "envoy.filters.http.grpc_web",
    category: "envoy.filters.http",
    messages: ["envoy.extensions.filters.http.grpc_web.v3.GrpcWeb"],
    load: () => import("./http_filters/grpc_web/config.ts"),
  },
  {
    name: "envoy.filters.http.grpc_http1_bridge",
    category: "envoy.filters.http",
    messages: ["envoy.extensions.filters.http.grpc_http1_bridge.v3.Config"],
    load: () => import("./http_filters/grpc_http1_bridge/config.ts"),
  },
  {
    name: "envoy.filters.http.grpc_http1_reverse_bridge",
    category: "envoy.filters.http",
    messages: [
      "envoy.extensions.filters.http.grpc_http1_reverse_bridge.v3.FilterConfig",
      "envoy.extensions.filters.http.grpc_http1_reverse_bridge.v3.FilterConfigPerRoute",
    ],
    load: () => import("./http_filters/grpc_http1_reverse_bridge/config.ts"),
  },
  {
    name: "envoy.filters.http.ext_proc",
    category: "envoy.filters.http",
    messages: ["envoy.extensions.filters.http.ext_proc.v3.ExternalProcessor", "envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute"],
    load: () => import("./http_filters/ext_proc/config.ts"),
  },
  {
    name: "envoy.filters.http.grpc_json_transcoder",
    category: "envoy.filters.http",
    messages: ["envoy.extensions.filters.http.grpc_json_transcoder.v3.GrpcJsonTranscoder"],
    load: () => import("./http_filters/grpc_json_transcoder/config.ts"),
  },
  // ---- cluster specifiers
  {
    name: "envoy.router.cluster_specifier_plugin.lua",
    category: "envoy.router.cluster_specifier_plugin",
    messages: ["envoy.extensions.router.cluster_specifiers.lua.v3.LuaConfig"],
    load: () => import("./cluster_specifiers/lua/config.ts"),
  },
  // ---- listener filters
  {
    name: "envoy.filters.listener.tls_inspector",
    category: "envoy.filters.listener",
    messages: ["envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"],
    load: () => import("./listener_filters/tls_inspector/config.ts"),
  },
  {
    name: "envoy.filters.listener.http_inspector",
    category: "envoy.filters.listener",
    messages: ["envoy.extensions.filters.listener.http_inspector.v3.HttpInspector"],
    load: () => import("./listener_filters/http_inspector/config.ts"),
  },
  {
    name: "envoy.filters.listener.proxy_protocol",
    category: "envoy.filters.listener",
    messages: ["envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol"],
    load: () => import("./listener_filters/proxy_protocol/config.ts"),
  },
  {
    name: "envoy.filters.listener.original_dst",
    category: "envoy.filters.listener",
    messages: ["envoy.extensions.filters.listener.original_dst.v3.OriginalDst"],
    load: () => import("./listener_filters/original_dst/config.ts"),
  },
  {
    name: "envoy.filters.listener.local_ratelimit",
    category: "envoy.filters.listener",
    messages: ["envoy.extensions.filters.listener.local_ratelimit.v3.LocalRateLimit"],
    load: () => import("./listener_filters/local_ratelimit/config.ts"),
  },
  // ---- http filters
  {
    name: "envoy.filters.http.router",
    category: "envoy.filters.http",
    messages: ["envoy.extensions.filters.http.router.v3.Router"],
    load: () => import("../router/filter/config.ts"),
  },
  {
    name: "envoy.filters.http.rbac",
    category: "envoy.filters.http",
    messages: ["envoy.extensions.filters.http.rbac.v3.RBAC", "envoy.extensions.filters.http.rbac.v3.RBACPerRoute"],
    load: () => import("./http_filters/rbac/config.ts"),
  },
  {
    name: "envoy.filters.http.local_ratelimit",
    category: "envoy.filters.http",
    messages: ["envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"],
    load: () => import("./http_filters/local_ratelimit/config.ts"),
  },
  {
    name: "envoy.filters.http.ratelimit",
    category: "envoy.filters.http",
    messages: ["envoy.extensions.filters.http.ratelimit.v3.RateLimit", "envoy.extensions.filters.http.ratelimit.v3.RateLimitPerRoute"],
    load: () => import("./http_filters/ratelimit/config.ts"),
  },
  {
    name: "envoy.filters.http.fault",
    category: "envoy.filters.http",
    messages: ["envoy.extensions.filters.http.fault.v3.HTTPFault"],
    load: () => import("./http_filters/fault/config.ts"),
  },
  {
    name: "envoy.filters.http.buffer",
    category: "envoy.filters.http",
    messages: ["envoy.extensions.filters.http.buffer.v3.Buffer", "envoy.extensions.filters.http.buffer.v3.BufferPerRoute"],
    load: () => import("./http_filters/buffer/config.ts"),
  },
  {
    name: "envoy.filters.http.cors",
    category: "envoy.filters.http",
    messages: ["envoy.extensions.filters.http.cors.v3.Cors", "envoy.extensions.filters.http.cors.v3.CorsPolicy"],
    load: () => import("./http_filters/cors/config.ts"),
  },
  {
    name: "envoy.filters.http.csrf",
    category: "envoy.filters.http",
    messages: ["envoy.extensions.filters.http.csrf.v3.CsrfPolicy"],
    load: () => import("./http_filters/csrf/config.ts"),
  },
  {
    name: "envoy.filters.http.set_metadata",
    category: "envoy.filters.http",
    messages: ["envoy.extensions.filters.http.set_metadata.v3.Config"],
    load: () => import("./http_filters/set_metadata/config.ts"),
  },
  {
    name: "envoy.filters.http.set_filter_state",
    category: "envoy.filters.http",
    messages: ["envoy.extensions.filters.http.set_filter_state.v3.Config"],
    load: () => import("./http_filters/set_filter_state/config.ts"),
  },
  {
    name: "envoy.filters.http.header_mutation",
    category: "envoy.filters.http",
    messages: ["envoy.extensions.filters.http.header_mutation.v3.HeaderMutation", "envoy.extensions.filters.http.header_mutation.v3.HeaderMutationPerRoute"],
    load: () => import("./http_filters/header_mutation/config.ts"),
  },
  {
    name: "envoy.filters.http.header_to_metadata",
    category: "envoy.filters.http",
    messages: ["envoy.extensions.filters.http.header_to_metadata.v3.Config"],
    load: () => import("./http_filters/header_to_metadata/config.ts"),
  },
  {
    name: "envoy.filters.http.basic_auth",
    category: "envoy.filters.http",
    messages: ["envoy.extensions.filters.http.basic_auth.v3.BasicAuth", "envoy.extensions.filters.http.basic_auth.v3.BasicAuthPerRoute"],
    load: () => import("./http_filters/basic_auth/config.ts"),
  },
  {
    name: "envoy.filters.http.api_key_auth",
    category: "envoy.filters.http",
    messages: ["envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuth", "envoy.extensions.filters.http.api_key_auth.v3.ApiKeyAuthPerRoute"],
    load: () => import("./http_filters/api_key_auth/config.ts"),
  },
  {
    name: "envoy.filters.http.health_check",
    category: "envoy.filters.http",
    messages: ["envoy.extensions.filters.http.health_check.v3.HealthCheck"],
    load: () => import("./http_filters/health_check/config.ts"),
  },
  {
    name: "outrider.filters.http.module",
    category: "envoy.filters.http",
    messages: ["outrider.extensions.filters.http.module.v1.Module", "outrider.extensions.filters.http.module.v1.ModulePerRoute"],
    load: () => import("./http_filters/module/config.ts"),
  },
  {
    name: "envoy.filters.http.file_server",
    category: "envoy.filters.http",
    messages: ["envoy.extensions.filters.http.file_server.v3.FileServerConfig"],
    load: () => import("./http_filters/file_server/config.ts"),
  },
  // ---- transport sockets: one row for listeners and clusters
  {
    name: "envoy.transport_sockets.tls",
    category: "envoy.transport_sockets.downstream",
    messages: ["envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"],
    load: () => import("./transport_sockets/tls/config.ts"),
  },
  {
    name: "envoy.transport_sockets.raw_buffer",
    category: "envoy.transport_sockets.downstream",
    messages: ["envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"],
    load: () => import("./transport_sockets/raw_buffer/config.ts"),
  },
  // ---- access loggers
  {
    name: "envoy.access_loggers.file",
    category: "envoy.access_loggers",
    messages: ["envoy.extensions.access_loggers.file.v3.FileAccessLog"],
    load: () => import("./access_loggers/file/config.ts"),
  },
  {
    name: "envoy.access_loggers.wasm",
    category: "envoy.access_loggers",
    messages: ["envoy.extensions.access_loggers.wasm.v3.WasmAccessLog"],
    load: () => import("./access_loggers/wasm/config.ts"),
  },
  {
    name: "envoy.access_loggers.stdout",
    category: "envoy.access_loggers",
    messages: ["envoy.extensions.access_loggers.stream.v3.StdoutAccessLog"],
    load: () => import("./access_loggers/stdout/config.ts"),
  },
  {
    name: "envoy.access_loggers.stderr",
    category: "envoy.access_loggers",
    messages: ["envoy.extensions.access_loggers.stream.v3.StderrAccessLog"],
    load: () => import("./access_loggers/stderr/config.ts"),
  },
  // ---- formatters
  {
    name: "envoy.formatter.metadata",
    category: "envoy.formatter",
    messages: ["envoy.extensions.formatter.metadata.v3.Metadata"],
    load: () => import("./formatters/metadata/config.ts"),
  },
  {
    name: "envoy.formatter.req_without_query",
    category: "envoy.formatter",
    messages: ["envoy.extensions.formatter.req_without_query.v3.ReqWithoutQuery"],
    load: () => import("./formatters/req_without_query/config.ts"),
  },
  // ---- names of HTTP/1 fields
  {
    name: "envoy.http.stateful_header_formatters.preserve_case",
    category: "envoy.http.stateful_header_formatters",
    messages: ["envoy.extensions.http.header_formatters.preserve_case.v3.PreserveCaseFormatterConfig"],
    load: () => import("./http/header_formatters/preserve_case/config.ts"),
  },
  // ---- path matching and rewriting
  {
    name: "envoy.path.match.uri_template.uri_template_matcher",
    category: "envoy.path.match",
    messages: ["envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig"],
    load: () => import("./path/match/uri_template/config.ts"),
  },
  {
    name: "envoy.path.rewrite.uri_template.uri_template_rewriter",
    category: "envoy.path.rewrite",
    messages: ["envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig"],
    load: () => import("./path/rewrite/uri_template/config.ts"),
  },
  // ---- where statistics are sent
  {
    name: "envoy.stat_sinks.statsd",
    category: "envoy.stats_sinks",
    messages: ["envoy.config.metrics.v3.StatsdSink"],
    load: () => import("./stat_sinks/statsd/config.ts"),
  },
  {
    name: "envoy.stat_sinks.dog_statsd",
    category: "envoy.stats_sinks",
    messages: ["envoy.config.metrics.v3.DogStatsdSink"],
    load: () => import("./stat_sinks/dog_statsd/config.ts"),
  },
  {
    name: "envoy.stat_sinks.graphite_statsd",
    category: "envoy.stats_sinks",
    messages: ["envoy.extensions.stat_sinks.graphite_statsd.v3.GraphiteStatsdSink"],
    load: () => import("./stat_sinks/graphite_statsd/config.ts"),
  },
  // ---- what the overload manager watches
  {
    name: "envoy.resource_monitors.global_downstream_max_connections",
    category: "envoy.resource_monitors",
    messages: ["envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"],
    load: () => import("./resource_monitors/downstream_connections/config.ts"),
  },
  {
    name: "envoy.resource_monitors.fixed_heap",
    category: "envoy.resource_monitors",
    messages: ["envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig"],
    load: () => import("./resource_monitors/fixed_heap/config.ts"),
  },
  {
    name: "envoy.resource_monitors.injected_resource",
    category: "envoy.resource_monitors",
    messages: ["envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig"],
    load: () => import("./resource_monitors/injected_resource/config.ts"),
  },
  {
    name: "envoy.resource_monitors.cgroup_memory",
    category: "envoy.resource_monitors",
    messages: ["envoy.extensions.resource_monitors.cgroup_memory.v3.CgroupMemoryConfig"],
    load: () => import("./resource_monitors/cgroup_memory/config.ts"),
  },
  {
    name: "envoy.resource_monitors.cpu_utilization",
    category: "envoy.resource_monitors",
    messages: ["envoy.extensions.resource_monitors.cpu_utilization.v3.CpuUtilizationConfig"],
    load: () => import("./resource_monitors/cpu_utilization/config.ts"),
  },
  // ---- what retries and internal redirects ask
  {
    name: "envoy.retry_host_predicates.previous_hosts",
    category: "envoy.retry_host_predicates",
    messages: ["envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"],
    load: () => import("../router/filter/retry-hosts.ts"),
  },
  {
    name: "envoy.retry_host_predicates.omit_canary_hosts",
    category: "envoy.retry_host_predicates",
    messages: ["envoy.extensions.retry.host.omit_canary_hosts.v3.OmitCanaryHostsPredicate"],
    load: () => import("../router/filter/retry-hosts.ts"),
  },
  {
    name: "envoy.retry_host_predicates.omit_host_metadata",
    category: "envoy.retry_host_predicates",
    messages: ["envoy.extensions.retry.host.omit_host_metadata.v3.OmitHostMetadataConfig"],
    load: () => import("../router/filter/retry-hosts.ts"),
  },
  {
    name: "envoy.retry_priorities.previous_priorities",
    category: "envoy.retry_priorities",
    messages: ["envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig"],
    load: () => import("../router/filter/retry-hosts.ts"),
  },
  {
    name: "envoy.internal_redirect_predicates.allow_listed_routes",
    category: "envoy.internal_redirect_predicates",
    messages: ["envoy.extensions.internal_redirect.allow_listed_routes.v3.AllowListedRoutesConfig"],
    load: () => import("../router/filter/internal-redirect.ts"),
  },
  {
    name: "envoy.internal_redirect_predicates.filter_state",
    category: "envoy.internal_redirect_predicates",
    messages: ["envoy.extensions.internal_redirect.filter_state.v3.FilterStateConfig"],
    load: () => import("../router/filter/internal-redirect.ts"),
  },
  {
    name: "envoy.internal_redirect_predicates.previous_routes",
    category: "envoy.internal_redirect_predicates",
    messages: ["envoy.extensions.internal_redirect.previous_routes.v3.PreviousRoutesConfig"],
    load: () => import("../router/filter/internal-redirect.ts"),
  },
  {
    name: "envoy.internal_redirect_predicates.safe_cross_scheme",
    category: "envoy.internal_redirect_predicates",
    messages: ["envoy.extensions.internal_redirect.safe_cross_scheme.v3.SafeCrossSchemeConfig"],
    load: () => import("../router/filter/internal-redirect.ts"),
  },
  // ---- the admin interface's own filter: its message is none of the API's, so that no configuration can name it
  { name: "envoy.filters.http.admin", category: "envoy.filters.http", messages: ["outrider.internal.AdminFilter"], load: () => import("../admin/config.ts") },
];

const byMessage = new Map<string, ExtensionRow>();
for (const row of extensions) for (const message of row.messages) byMessage.set(message, row);

/** The row of the extension that a message configures. */
export function extensionOfMessage(typeName: string): ExtensionRow | undefined {
  return byMessage.get(typeName);
}
