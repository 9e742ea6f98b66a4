/** envoy.stat_sinks.graphite_statsd: statistics with their tags in the names, as Graphite takes them. */
import type { GraphiteStatsdSink } from "../../../config/schema/types/envoy.extensions.stat_sinks.graphite_statsd.v3.d.ts";
import { UdpSink } from "../../../stats/sinks/udp-sink.ts";
import type { Extension } from "../../extension.ts";
import { compileDatagramAddress, defaultPrefix } from "../target.ts";

export default {
  honours: { "envoy.extensions.stat_sinks.graphite_statsd.v3.GraphiteStatsdSink": "*" },
  statsSink: {
    compile(any, context) {
      const message = any as GraphiteStatsdSink;
      if (message.statsdSpecifier.case !== "address") return undefined;
      const to = compileDatagramAddress(message, message.statsdSpecifier.value, context);
      if (to === undefined) return undefined;
      const format = { prefix: message.prefix || defaultPrefix, tags: "graphite", scaleToMilliseconds: message.scaleHistogramUnitsToMilliseconds } as const;
      return (environment) => new UdpSink(to, format, Number(message.maxBytesPerDatagram ?? 0n), environment);
    },
  },
} satisfies Extension;
