/** envoy.stat_sinks.statsd: statistics to a statsd, over UDP or over TCP through a cluster. */
import type { StatsdSink } from "../../../config/schema/types/envoy.config.metrics.v3.d.ts";
import type { StatsdFormat } from "../../../stats/sinks/statsd.ts";
import { TcpSink } from "../../../stats/sinks/tcp-sink.ts";
import { UdpSink } from "../../../stats/sinks/udp-sink.ts";
import type { Extension } from "../../extension.ts";
import { compileDatagramAddress, defaultPrefix } from "../target.ts";

export default {
  honours: { "envoy.config.metrics.v3.StatsdSink": "*" },
  statsSink: {
    compile(any, context) {
      const message = any as StatsdSink;
      const format: StatsdFormat = { prefix: message.prefix || defaultPrefix, tags: "none", scaleToMilliseconds: message.scaleHistogramUnitsToMilliseconds };
      const { statsdSpecifier } = message;
      if (statsdSpecifier.case === "address") {
        const to = compileDatagramAddress(message, statsdSpecifier.value, context);
        return to === undefined ? undefined : (environment) => new UdpSink(to, format, 0, environment);
      }
      if (statsdSpecifier.case !== "tcpClusterName") return undefined; // the loader has said that one of the two is needed
      const cluster = statsdSpecifier.value;
      if (!context.hasCluster(cluster)) {
        const meant = context.nearestCluster?.(cluster);
        context.report(message, "tcp_cluster_name", {
          code: "OR3003",
          text: `tcp statsd: unknown cluster '${cluster}'`,
          hint: meant === undefined ? "name a cluster of static_resources" : `did you mean '${meant}'?`,
        });
      }
      return (environment) => new TcpSink(cluster, format, environment);
    },
  },
} satisfies Extension;
