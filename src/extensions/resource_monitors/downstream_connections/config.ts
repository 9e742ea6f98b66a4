/** envoy.resource_monitors.global_downstream_max_connections: at most so many connections of clients, over all listeners. See listener/global-limit.ts. */
import type { Extension } from "../../extension.ts";

export default {
  honours: { "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig": "*" },
  // It is asked at each connection, and has nothing to be read at an interval: triggers on it never fire, as with Envoy.
  resourceMonitor: {},
} satisfies Extension;
