/** envoy.filters.network.sni_cluster: tcp_proxy behind it forwards to the cluster that is named as the server the client asked for. */
import type { Extension, NetworkFilter, NetworkFilterCallbacks } from "../../extension.ts";
import { clusterFilterState } from "../tcp_proxy/settings.ts";

class SniClusterFilter implements NetworkFilter {
  onNewConnection({ info }: NetworkFilterCallbacks): "continue" {
    const name = info.requestedServerName;
    if (name !== "") info.setFilterState(clusterFilterState, { serializeAsString: () => name });
    return "continue";
  }
}

export default {
  honours: { "envoy.extensions.filters.network.sni_cluster.v3.SniCluster": "*" },
  networkFilter: { compile: () => () => new SniClusterFilter() },
} satisfies Extension;
