/** envoy.stat_sinks.dog_statsd: statistics with their tags to a DogStatsD. */
import type { DogStatsdSink } from "../../../config/schema/types/envoy.config.metrics.v3.d.ts";
import { UdpSink } from "../../../stats/sinks/udp-sink.ts";
import type { Extension } from "../../extension.ts";
import { compileDatagramAddress, defaultPrefix } from "../target.ts";

export default {
  honours: { "envoy.config.metrics.v3.DogStatsdSink": "*" },
  statsSink: {
    compile(any, context) {
      const message = any as DogStatsdSink;
      if (message.dogStatsdSpecifier.case !== "address") return undefined;
      const to = compileDatagramAddress(message, message.dogStatsdSpecifier.value, context);
      if (to === undefined) return undefined;
      const format = { prefix: message.prefix || defaultPrefix, tags: "dog", scaleToMilliseconds: message.scaleHistogramUnitsToMilliseconds } as const;
      return (environment) => new UdpSink(to, format, Number(message.maxBytesPerDatagram ?? 0n), environment);
    },
  },
} satisfies Extension;
