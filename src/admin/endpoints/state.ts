/** Endpoints that say what the server is and change what it does. */
import { getLogger } from "../../log/log.ts";
import { type AdminEndpoint, ok, text } from "../request.ts";
import type { AdminServer, AdminState } from "../server.ts";

const log = getLogger("admin");

/** The state as /ready and /server_info say it: failing health checks by hand looks like draining. */
export function shownState(server: AdminServer): AdminState {
  return server.healthFailed ? "DRAINING" : server.state;
}

export const ready: AdminEndpoint = {
  path: "/ready",
  help: "print server state, return 200 if LIVE, otherwise return 503",
  handle: ({ server }) => {
    const state = shownState(server);
    return text(`${state}\n`, state === "LIVE" ? 200 : 503);
  },
};

export const healthcheckFail: AdminEndpoint = {
  path: "/healthcheck/fail",
  help: "cause the server to fail health checks",
  mutates: true,
  handle: ({ server }) => {
    server.setHealthFailed(true);
    return ok;
  },
};

export const healthcheckOk: AdminEndpoint = {
  path: "/healthcheck/ok",
  help: "cause the server to pass health checks",
  mutates: true,
  handle: ({ server }) => {
    server.setHealthFailed(false);
    return ok;
  },
};

export const quitquitquit: AdminEndpoint = {
  path: "/quitquitquit",
  help: "exit the server",
  mutates: true,
  // The answer leaves first.
  handle: ({ server }) => ({ ...ok, after: () => server.quit() }),
};

export const reopenLogs: AdminEndpoint = {
  path: "/reopen_logs",
  help: "reopen access logs",
  mutates: true,
  handle: ({ server }) => {
    server.reopenLogs();
    return ok;
  },
};

export const drainListeners: AdminEndpoint = {
  path: "/drain_listeners",
  help: "drain listeners",
  mutates: true,
  params: [
    {
      kind: "boolean",
      id: "graceful",
      help: "When draining listeners, enter a graceful drain period prior to closing listeners. This behaviour and duration is configurable via server options or CLI",
    },
    {
      kind: "boolean",
      id: "skip_exit",
      help: "When draining listeners, drain the connections but never stop the listeners. The graceful parameter has no effect when this is set, since the drain period only delays stopping the listeners",
    },
    {
      kind: "boolean",
      id: "inboundonly",
      help: "Drains all inbound listeners. traffic_direction field in envoy_v3_api_msg_config.listener.v3.Listener is used to determine whether a listener is inbound or outbound.",
    },
  ],
  handle: ({ server, params }) => {
    const drain = { graceful: params.has("graceful"), inboundOnly: params.has("inboundonly"), skipExit: params.has("skip_exit") };
    log.info(`draining ${drain.inboundOnly ? "inbound" : "all"} listeners${drain.graceful ? " gracefully" : ""}`);
    server.drainListeners(drain);
    return ok;
  },
};

export const hotRestartVersion: AdminEndpoint = {
  path: "/hot_restart_version",
  help: "print the hot restart compatibility version",
  handle: ({ server }) => text(server.hotRestartVersion),
};

export const contention: AdminEndpoint = {
  path: "/contention",
  help: "dump current Envoy mutex contention stats (if enabled)",
  // Workers share no locks: with tracing asked for there is nothing that could contend.
  handle: ({ server }) =>
    server.options.enableMutexTracing
      ? { ...text('{\n "num_contentions": "0",\n "current_wait_cycles": "0",\n "lifetime_wait_cycles": "0"\n}\n'), contentType: "application/json" }
      : text("Mutex contention tracing is not enabled. To enable, run Envoy with flag --enable-mutex-tracing."),
};
