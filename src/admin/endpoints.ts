/** The table of everything the admin interface answers, in the order of /help. */
import { certs } from "./endpoints/certs.ts";
import { clusters } from "./endpoints/clusters.ts";
import { configDump } from "./endpoints/config-dump.ts";
import { helpLines } from "./endpoints/help.ts";
import { homePage } from "./endpoints/home.ts";
import { initDump, listeners } from "./endpoints/listeners.ts";
import { logging } from "./endpoints/logging.ts";
import { memory, tcmalloc } from "./endpoints/memory.ts";
import { allocProfiler, cpuProfiler, heapDump, heapProfiler, peakHeapDump } from "./endpoints/profilers.ts";
import { recentLookups, recentLookupsClear, recentLookupsDisable, recentLookupsEnable } from "./endpoints/recent-lookups.ts";
import { runtime, runtimeModify } from "./endpoints/runtime.ts";
import { serverInfo } from "./endpoints/server-info.ts";
import { contention, drainListeners, healthcheckFail, healthcheckOk, hotRestartVersion, quitquitquit, ready, reopenLogs } from "./endpoints/state.ts";
import { prometheus, resetCounters, stats } from "./endpoints/stats.ts";
import { type AdminEndpoint, text, textHtml } from "./request.ts";

const home: AdminEndpoint = {
  path: "/",
  help: "Admin home page",
  handle: () => ({ ...text(homePage(endpoints)), contentType: textHtml, headers: htmlSecurity }),
};

const help: AdminEndpoint = {
  path: "/help",
  help: "print out list of admin commands",
  handle: () => text(helpText()),
};

/** No script, no frame around it (clicks on its buttons cannot be stolen), forms go nowhere else. */
const htmlSecurity = [
  ["content-security-policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"],
] as const;

const all: readonly AdminEndpoint[] = [
  home,
  allocProfiler,
  certs,
  clusters,
  configDump,
  contention,
  cpuProfiler,
  drainListeners,
  healthcheckFail,
  healthcheckOk,
  heapDump,
  heapProfiler,
  help,
  hotRestartVersion,
  initDump,
  listeners,
  logging,
  memory,
  tcmalloc,
  peakHeapDump,
  quitquitquit,
  ready,
  reopenLogs,
  resetCounters,
  runtime,
  runtimeModify,
  serverInfo,
  stats,
  prometheus,
  recentLookups,
  recentLookupsClear,
  recentLookupsDisable,
  recentLookupsEnable,
];

/** In the order of their paths. */
export const endpoints: readonly AdminEndpoint[] = [...all].sort((a, b) => (a.path < b.path ? -1 : 1));
const byPath = new Map(endpoints.map((endpoint) => [endpoint.path, endpoint]));

export function endpointByPath(path: string): AdminEndpoint | undefined {
  return byPath.get(path);
}

export function helpText(): string {
  return helpLines(endpoints);
}
