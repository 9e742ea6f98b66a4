/**
 * Sinks of statistics: what they are given at each flush. The main thread takes one picture for all of them, so that each sees the same deltas.
 * https://www.envoyproxy.io/docs/envoy/latest/configuration/observability/statistics
 */
import type { AnyMessage } from "../../config/message.ts";
import type { Bootstrap } from "../../config/schema/types/envoy.config.bootstrap.v3.d.ts";
import type { CompileContext, Honours } from "../../extensions/extension.ts";
import type { HistogramUnit, KeptValues } from "../stats.ts";
import type { Tagged } from "../tags.ts";

export const honours: Honours = {
  "envoy.config.bootstrap.v3.Bootstrap": ["stats_sinks", "stats_flush_interval", "stats_flush_on_admin"],
  "envoy.config.metrics.v3.StatsSink": ["name", "typed_config"],
};

/** Statistics that were written at least once. */
export interface StatsPicture {
  /** `delta`: since the last picture. */
  readonly counters: readonly { readonly name: string; readonly delta: number }[];
  readonly gauges: readonly { readonly name: string; readonly value: number }[];
  /** What was recorded since the last picture. */
  readonly histograms: readonly ({ readonly name: string; readonly unit: HistogramUnit } & KeptValues)[];
  tagged(name: string): Tagged;
}

export interface StatsSink {
  /** Resolves when the picture is on its way; never rejects. */
  flush(picture: StatsPicture): Promise<void>;
  close(): void;
}

/** What sinks may use of the process they are in. */
export interface SinkEnvironment {
  /** Sends text over a connection to a cluster. */
  sendToCluster(cluster: string, text: string): void;
  /** Warns in the log. */
  warn(text: string): void;
}

export type SinkFactory = (environment: SinkEnvironment) => StatsSink;

export interface StatsSinkExtension {
  compile(message: AnyMessage, context: CompileContext): SinkFactory | undefined;
}

export function compileSinks(bootstrap: Bootstrap, context: CompileContext): SinkFactory[] {
  return bootstrap.statsSinks.flatMap((sink) => {
    const config = sink.configType.value;
    const extension = context.extension("envoy.stats_sinks", config, sink, "typed_config", sink.name);
    const factory = config === undefined ? undefined : extension?.statsSink?.compile(config, context);
    return factory === undefined ? [] : [factory];
  });
}
