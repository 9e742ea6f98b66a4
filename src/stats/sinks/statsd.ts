/**
 * The lines of statsd and of its relatives: "envoy.http.in.downstream_rq_total:1|c". Counters as deltas, gauges as values, and each value
 * of a histogram as a timer, whatever its unit, as Envoy sends them. Where more values were recorded than are kept, the rest is said by a sample rate.
 */
import type { HistogramUnit } from "../stats.ts";
import type { StatsPicture } from "./sink.ts";

/** Where tags go: nowhere (they stay parts of the name), behind "|#" (DogStatsD), or into the name (Graphite). */
export type TagStyle = "none" | "dog" | "graphite";

export interface StatsdFormat {
  readonly prefix: string;
  readonly tags: TagStyle;
  /** Histograms of microseconds are sent as milliseconds. */
  readonly scaleToMilliseconds: boolean;
}

/** Counters and gauges are separate lists, as they share no datagram. */
export interface StatsdLines {
  readonly counters: string[];
  readonly gauges: string[];
  readonly timers: string[];
}

export function statsdLines(picture: StatsPicture, format: StatsdFormat): StatsdLines {
  const line = (name: string, value: string | number, type: string): string => {
    if (format.tags === "none") return `${format.prefix}.${name}:${value}|${type}`;
    const tagged = picture.tagged(name);
    if (format.tags === "graphite") return `${format.prefix}.${tagged.name}${tagged.tags.map((tag) => `;${tag.name}=${tag.value}`).join("")}:${value}|${type}`;
    const tags = tagged.tags.length === 0 ? "" : `|#${tagged.tags.map((tag) => `${tag.name}:${tag.value}`).join(",")}`;
    return `${format.prefix}.${tagged.name}:${value}|${type}${tags}`;
  };
  return {
    counters: picture.counters.map(({ name, delta }) => line(name, delta, "c")),
    gauges: picture.gauges.map(({ name, value }) => line(name, Math.max(0, Math.trunc(value)), "g")),
    timers: picture.histograms.flatMap(({ name, unit, values, seen }) => {
      const type = `${unit === "percent" ? "h" : "ms"}${values.length < seen ? `|@${Number((values.length / seen).toPrecision(6))}` : ""}`;
      return values.map((value) => line(name, timerValue(value, unit, format.scaleToMilliseconds), type));
    }),
  };
}

function timerValue(value: number, unit: HistogramUnit, scale: boolean): number {
  if (unit === "percent") return value;
  return scale && unit === "us" ? value / 1000 : Math.max(0, Math.round(value));
}

/** Lines in datagrams of at most `maxBytes`; 0: one line each. A line that is longer goes alone. */
export function datagrams(lines: readonly string[], maxBytes: number): string[] {
  const packed: string[] = [];
  let open = "";
  for (const line of lines) {
    const length = Buffer.byteLength(line);
    if (length >= maxBytes) packed.push(line);
    else if (open === "") open = line;
    else if (Buffer.byteLength(open) + 1 + length > maxBytes) {
      packed.push(open);
      open = line;
    } else open += `\n${line}`;
  }
  if (open !== "") packed.push(open);
  return packed;
}
