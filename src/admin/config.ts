/**
 * The admin interface as the terminal HTTP filter of a listener of its own. No configuration can name it: the server makes the listener
 * from bootstrap.admin and binds itself here first.
 */
import type { Extension } from "../extensions/extension.ts";
import { compileStringMatchers, honours } from "../matching/string-matcher.ts";
import { createAdminHttpFilterFactory } from "./admin-filter.ts";
import { type AdminFilterMessage, adminFilterMessage } from "./message.ts";
import { sampleHeap } from "./profiler.ts";
import type { AdminServer } from "./server.ts";

let bound: AdminServer | undefined;

/** The server that admin filters compiled from now on serve. Compiling without one (validation) is harmless: such a filter answers 503. */
export function bindAdminServer(server: AdminServer | undefined): void {
  bound = server;
  // Not while the proxy starts: /heap_dump shows what is allocated from then on.
  if (server !== undefined) setTimeout(() => void sampleHeap(), heapSamplingDelayMs).unref();
}

const heapSamplingDelayMs = 5000;

export default {
  honours: { ...honours, [adminFilterMessage]: "*" },
  httpFilter: {
    terminal: true,
    compile(message, context) {
      const { allowPaths } = message as AdminFilterMessage;
      return createAdminHttpFilterFactory(bound, allowPaths.length === 0 ? undefined : compileStringMatchers(allowPaths, context));
    },
  },
} satisfies Extension;
