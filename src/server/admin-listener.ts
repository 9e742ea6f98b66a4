/** bootstrap.admin as an ordinary listener message: the admin interface runs on the connection manager that serves all else. */

import { type AdminFilterMessage, adminFilterMessage } from "../admin/message.ts";
import { emptyMessage } from "../config/load.ts";
import type { AccessLog } from "../config/schema/types/envoy.config.accesslog.v3.d.ts";
import type { Bootstrap } from "../config/schema/types/envoy.config.bootstrap.v3.d.ts";
import type { Listener } from "../config/schema/types/envoy.config.listener.v3.d.ts";
import type { FileAccessLog } from "../config/schema/types/envoy.extensions.access_loggers.file.v3.d.ts";

export function adminListenerMessage(bootstrap: Bootstrap): Listener | undefined {
  const admin = bootstrap.admin;
  if (admin?.address === undefined) return undefined;
  const accessLog: AccessLog[] = [...admin.accessLog];
  if (admin.accessLogPath !== "") {
    const file: FileAccessLog = { ...emptyMessage("envoy.extensions.access_loggers.file.v3.FileAccessLog"), path: admin.accessLogPath };
    accessLog.push({
      ...emptyMessage("envoy.config.accesslog.v3.AccessLog"),
      name: "envoy.access_loggers.file",
      configType: { case: "typedConfig", value: file },
    });
  }
  const filter: AdminFilterMessage = { $typeName: adminFilterMessage, allowPaths: admin.allowPaths };
  const manager = {
    ...emptyMessage("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"),
    statPrefix: "admin",
    accessLog,
    routeSpecifier: { case: "routeConfig", value: emptyMessage("envoy.config.route.v3.RouteConfiguration") },
    httpFilters: [
      {
        ...emptyMessage("envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter"),
        name: "envoy.filters.http.admin",
        configType: { case: "typedConfig", value: filter },
      },
    ],
  };
  return {
    ...emptyMessage("envoy.config.listener.v3.Listener"),
    name: "admin",
    statPrefix: "admin",
    address: admin.address,
    socketOptions: admin.socketOptions,
    filterChains: [
      {
        ...emptyMessage("envoy.config.listener.v3.FilterChain"),
        filters: [
          {
            ...emptyMessage("envoy.config.listener.v3.Filter"),
            name: "envoy.filters.network.http_connection_manager",
            configType: { case: "typedConfig", value: manager },
          },
        ],
      },
    ],
  };
}
