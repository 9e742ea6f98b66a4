/** envoy.filters.network.tcp_proxy */
import { isMessage } from "../../../config/message.ts";
import type { TcpProxy } from "../../../config/schema/types/envoy.extensions.filters.network.tcp_proxy.v3.d.ts";
import { honours as accessLogHonours } from "../../../formatter/access-log.ts";
import { honours as mutationHonours } from "../../../router/header-mutation.ts";
import type { Extension } from "../../extension.ts";
import { TcpProxyFilter } from "./filter.ts";
import { compileTcpProxy } from "./settings.ts";

const typeName = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy";

export default {
  honours: {
    ...accessLogHonours,
    ...mutationHonours,
    [typeName]: [
      "stat_prefix",
      "cluster",
      "weighted_clusters",
      "metadata_match",
      "idle_timeout",
      "access_log",
      "max_connect_attempts",
      "backoff_options",
      "hash_policy",
      "tunneling_config",
      "max_downstream_connection_duration",
      "max_downstream_connection_duration_jitter_percentage",
      "access_log_flush_interval",
      "flush_access_log_on_connected",
      "access_log_options",
      "upstream_connect_mode",
      "max_early_data_bytes",
    ],
    [`${typeName}.WeightedCluster`]: "*",
    [`${typeName}.WeightedCluster.ClusterWeight`]: "*",
    [`${typeName}.TcpAccessLogOptions`]: "*",
    [`${typeName}.TunnelingConfig`]: ["hostname", "use_post", "headers_to_add", "post_path"],
    "envoy.config.core.v3.BackoffStrategy": "*",
    "envoy.type.v3.HashPolicy": "*",
    "envoy.type.v3.HashPolicy.SourceIp": "*",
    "envoy.type.v3.HashPolicy.FilterState": "*",
    "envoy.type.v3.Percent": "*",
    "envoy.config.core.v3.Metadata": "*",
  },
  networkFilter: {
    terminal: true,
    compile(message, context, { listener }) {
      if (!isMessage<TcpProxy>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      const settings = compileTcpProxy(message, context, listener);
      return () => new TcpProxyFilter(settings);
    },
  },
} satisfies Extension;
