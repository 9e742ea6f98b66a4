/** The fields that core modules (not extensions) act on. See Honours in extension.ts. */

import { honours as logFilterHonours } from "../formatter/access-log-filter.ts";
import { honours as formatterHonours } from "../formatter/compile.ts";
import { grpcServiceHonours } from "../grpc/service.ts";
import { honours as listenerHonours } from "../listener/compile.ts";
import { honours as systemLogHonours } from "../log/system-log.ts";
import { honours as overloadHonours } from "../overload/compile.ts";
import { routingHonours } from "../router/honours.ts";
import { honours as runtimeHonours } from "../runtime/layers.ts";
import { honours as sinkHonours } from "../stats/sinks/sink.ts";
import { honours as statsHonours } from "../stats/stats-config.ts";
import { upstreamHonours } from "../upstream/compile.ts";
import type { Honours } from "./extension.ts";

/** What the server itself reads of the bootstrap. */
const serverHonours: Honours = {
  "envoy.config.bootstrap.v3.Bootstrap": [
    "node",
    "static_resources",
    "admin",
    "layered_runtime",
    "stats_flush_interval",
    "stats_flush_on_admin",
    "header_prefix",
    "stats_config",
    "stats_server_version_override",
    "watchdog",
    "watchdogs",
    "flags_path",
    "enable_dispatcher_stats",
    "application_log_config",
    "cluster_manager",
    "dynamic_resources",
    "typed_dns_resolver_config",
    "dns_resolution_config",
    // Regular expressions are RE2's, whether that is said or not.
    "default_regex_engine",
    // There is one kind of sockets; Envoy takes names it does not know for that one, too.
    "default_socket_interface",
    "bootstrap_extensions",
    "listener_manager",
    // How fields are kept in memory; how they are handled does not change.
    "inline_headers",
  ],
  "envoy.config.bootstrap.v3.Bootstrap.DynamicResources": ["lds_config", "cds_config", "ads_config"],
  // Clusters are made at once, and cost little.
  "envoy.config.bootstrap.v3.ClusterManager": ["upstream_bind_config", "enable_deferred_cluster_creation", "load_stats_config"],
  "envoy.config.bootstrap.v3.CustomInlineHeader": "*",
  "envoy.config.bootstrap.v3.ListenerManager": "*",
  "envoy.config.core.v3.TypedExtensionConfig": "*",
  "envoy.extensions.regex_engines.v3.GoogleRE2": "*",
  "envoy.extensions.network.socket_interface.v3.DefaultSocketInterface": [],
  "envoy.config.bootstrap.v3.Bootstrap.StaticResources": ["listeners", "clusters", "secrets"],
  "envoy.config.bootstrap.v3.Watchdogs": "*",
  "envoy.config.bootstrap.v3.Watchdog": [
    "miss_timeout",
    "megamiss_timeout",
    "kill_timeout",
    "max_kill_timeout_jitter",
    "multikill_timeout",
    "multikill_threshold",
  ],
  // The admin listener is never under the limit on all connections, so ignore_global_conn_limit holds either way.
  "envoy.config.bootstrap.v3.Admin": ["address", "access_log", "access_log_path", "profile_path", "allow_paths", "socket_options", "ignore_global_conn_limit"],
  "envoy.config.core.v3.Node": "*",
  "envoy.config.core.v3.Locality": "*",
};

export const coreHonours: readonly Honours[] = [
  serverHonours,
  grpcServiceHonours,
  systemLogHonours,
  runtimeHonours,
  formatterHonours,
  logFilterHonours,
  listenerHonours,
  overloadHonours,
  statsHonours,
  sinkHonours,
  ...upstreamHonours,
  ...routingHonours,
];
