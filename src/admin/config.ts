/**
 * The admin interface as the terminal HTTP filter of a listener of its own. No configuration can name it: the server makes the listener
 * from bootstrap.admin and binds itself here first.
 */
import type { Extension } from "../extensions/extension.ts";
import { createAdminHttpFilterFactory } from "./admin-filter.ts";
import type { AdminServer } from "./server.ts";

let bound: AdminServer | undefined;

/** The server that admin filters compiled from now on serve. Compiling without one (validation) is harmless: such a filter answers 503. */
export function bindAdminServer(server: AdminServer | undefined): void {
  bound = server;
}

export default {
  honours: { "outrider.internal.AdminFilter": "*", "envoy.config.bootstrap.v3.Admin": ["address", "access_log", "access_log_path"] },
  httpFilter: {
    terminal: true,
    compile: () => createAdminHttpFilterFactory(bound),
  },
} satisfies Extension;
