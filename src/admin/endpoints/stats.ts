/** /stats and /reset_counters. */

import { type AdminEndpoint, type AdminRequest, type AdminResponse, applicationJson, ok, text, textHtml } from "../request.ts";
import { statsHtml, statsHtmlSecurity } from "../stats-html.ts";
import { statsJson } from "../stats-json.ts";
import { parseStatsParams, type StatsFormat, type StatsParams, statsTypes } from "../stats-params.ts";
import { statsText } from "../stats-text.ts";
import type { StatsSelection } from "../stats-view.ts";

export const stats: AdminEndpoint = {
  path: "/stats",
  help: "print server stats",
  params: [
    { kind: "boolean", id: "usedonly", help: "Only include stats that have been written by system since restart" },
    { kind: "string", id: "filter", help: "Regular expression (Google re2) for filtering stats" },
    { kind: "boolean", id: "invert_filter", help: "Invert the filter regex" },
    { kind: "enum", id: "format", help: "Format to use", options: ["html", "active-html", "text", "json"] },
    { kind: "enum", id: "type", help: "Stat types to include.", options: statsTypes },
    { kind: "enum", id: "histogram_buckets", help: "Histogram bucket display mode", options: ["cumulative", "disjoint", "detailed", "summary"] },
  ],
  handle: (request) => answerStats(request, undefined),
};

export const prometheus: AdminEndpoint = {
  path: "/stats/prometheus",
  help: "print server stats in prometheus format",
  params: [
    { kind: "boolean", id: "usedonly", help: "Only include stats that have been written by system since restart" },
    { kind: "boolean", id: "text_readouts", help: "Render text_readouts as new gaugues with value 0 (increases Prometheus data size)" },
    { kind: "string", id: "filter", help: "Regular expression (Google re2) for filtering stats" },
    { kind: "boolean", id: "invert_filter", help: "Invert the filter regex" },
    { kind: "enum", id: "histogram_buckets", help: "Histogram bucket display mode", options: ["cumulative", "summary"] },
  ],
  handle: (request) => answerStats(request, "prometheus"),
};

export const resetCounters: AdminEndpoint = {
  path: "/reset_counters",
  help: "reset all counters to zero",
  mutates: true,
  handle: ({ server }) => {
    server.stats.resetCounters();
    return ok;
  },
};

function answerStats({ server, params }: AdminRequest, format: StatsFormat | undefined): AdminResponse | Promise<AdminResponse> {
  const wanted = parseStatsParams(params, format);
  if (typeof wanted === "string") return text(wanted, 400);
  const answer = (): AdminResponse => {
    server.refreshStats();
    return render(wanted, server.stats);
  };
  // With stats_flush_on_admin this request is what makes histograms move on.
  const { statsFlush } = server.config.bootstrap;
  return statsFlush.case === "statsFlushOnAdmin" && statsFlush.value ? server.flushStats().then(answer) : answer();
}

function render(params: StatsParams, source: AdminRequest["server"]["stats"]): AdminResponse {
  const selection = select(params);
  if (params.format === "prometheus") {
    return text(source.prometheus(selection, { summaries: params.buckets === "summary", native: params.buckets === "prometheusnative" }));
  }
  const numbers = selection.counters || selection.gauges || selection.textReadouts ? source.stats(selection) : [];
  const histograms = selection.histograms ? source.histograms(selection) : [];
  switch (params.format) {
    case "json":
      return { status: 200, contentType: applicationJson, body: statsJson(numbers, histograms, params.buckets) };
    case "html":
    case "active-html":
      return { status: 200, contentType: textHtml, headers: statsHtmlSecurity, body: statsHtml(numbers, histograms, params) };
    default:
      return text(statsText(numbers, histograms, params.buckets));
  }
}

function select({ type, format, usedOnly, textReadouts, accepts }: StatsParams): StatsSelection {
  const has = (one: StatsParams["type"]) => type === "All" || type === one;
  return {
    counters: has("Counters"),
    gauges: has("Gauges"),
    // Prometheus has no texts: they come as gauges, where they are asked for.
    textReadouts: has("TextReadouts") && (format !== "prometheus" || textReadouts),
    histograms: has("Histograms"),
    usedOnly,
    accepts,
  };
}
