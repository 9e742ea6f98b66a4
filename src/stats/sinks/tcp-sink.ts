/** statsd over TCP, through a cluster: connections belong to workers, so a worker writes the lines. */
import type { SinkEnvironment, StatsPicture, StatsSink } from "./sink.ts";
import { type StatsdFormat, statsdLines } from "./statsd.ts";

export class TcpSink implements StatsSink {
  readonly #cluster: string;
  readonly #format: StatsdFormat;
  readonly #environment: SinkEnvironment;

  constructor(cluster: string, format: StatsdFormat, environment: SinkEnvironment) {
    this.#cluster = cluster;
    this.#format = format;
    this.#environment = environment;
  }

  async flush(picture: StatsPicture): Promise<void> {
    const { counters, gauges, timers } = statsdLines(picture, this.#format);
    const lines = [...timers, ...counters, ...gauges];
    if (lines.length > 0) this.#environment.sendToCluster(this.#cluster, `${lines.join("\n")}\n`);
  }

  close(): void {}
}
