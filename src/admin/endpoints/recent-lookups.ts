/**
 * /stats/recentlookups*: in Envoy, a trace of names that are looked up in the symbol table while requests are served. Here names are looked up
 * when configuration is compiled and once for each name that only traffic knows, so there is hardly anything to trace; the switches work and
 * the list shows the names that appeared while tracking was on.
 */
import { type AdminEndpoint, ok, text } from "../request.ts";

/** Names known when tracking began, or was cleared; undefined: tracking is off. */
let known: Set<string> | undefined;

export const recentLookups: AdminEndpoint = {
  path: "/stats/recentlookups",
  help: "Show recent stat-name lookups",
  handle: ({ server }) => {
    const names = server.stats.names();
    if (known === undefined) return text(`Lookup tracking is not enabled. Use /stats/recentlookups/enable to enable.\n\ntotal: ${names.size}\n`);
    let out = "   Count Lookup\n";
    for (const name of names) if (!known.has(name)) out += `       1 ${name}\n`;
    return text(`${out}\ntotal: ${names.size}\n`);
  },
};

export const recentLookupsClear: AdminEndpoint = {
  path: "/stats/recentlookups/clear",
  help: "clear list of stat-name lookups and counter",
  mutates: true,
  handle: ({ server }) => {
    if (known !== undefined) known = new Set(server.stats.names());
    return ok;
  },
};

export const recentLookupsDisable: AdminEndpoint = {
  path: "/stats/recentlookups/disable",
  help: "disable recording of reset stat-name lookup names",
  mutates: true,
  handle: () => {
    known = undefined;
    return ok;
  },
};

export const recentLookupsEnable: AdminEndpoint = {
  path: "/stats/recentlookups/enable",
  help: "enable recording of reset stat-name lookup names",
  mutates: true,
  handle: ({ server }) => {
    known ??= new Set(server.stats.names());
    return ok;
  },
};
