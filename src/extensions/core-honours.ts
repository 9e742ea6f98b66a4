/** The fields that core modules (not extensions) act on. See Honours in extension.ts. */

import { honours as logFilterHonours } from "../formatter/access-log-filter.ts";
import { honours as formatterHonours } from "../formatter/compile.ts";
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
  ],
  "envoy.config.bootstrap.v3.Bootstrap.StaticResources": ["listeners", "clusters"],
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
