/** /server_info: version, state, command line, node. */
import { durationJson, toJson } from "../../config/json.ts";
import { nodeFacts, nodeMessage } from "../node.ts";
import { type AdminEndpoint, json } from "../request.ts";
import type { AdminOptions } from "../server.ts";
import { shownState } from "./state.ts";

export const serverInfo: AdminEndpoint = {
  path: "/server_info",
  help: "print server version/status information",
  handle: ({ server }) =>
    json({
      version: server.version,
      state: shownState(server),
      uptime_current_epoch: `${Math.floor(server.uptimeS)}s`,
      uptime_all_epochs: `${Math.floor(server.uptimeAllEpochsS)}s`,
      hot_restart_version: server.hotRestartVersion,
      command_line_options: optionsJson(server.options),
      node: toJson(nodeMessage(nodeFacts(server)), { protoNames: true, redact: true, emitDefaults: true }),
      hot_restart_initializing: false,
    }),
};

/** envoy.admin.v3.CommandLineOptions. */
function optionsJson(o: AdminOptions): object {
  return {
    base_id: String(o.baseId),
    concurrency: o.concurrency,
    config_path: o.configPath,
    config_yaml: o.configYaml,
    allow_unknown_static_fields: o.allowUnknownStaticFields,
    admin_address_path: o.adminAddressPath,
    local_address_ip_version: o.localAddressIpVersion,
    log_level: o.logLevel,
    component_log_level: o.componentLogLevelText,
    log_format: o.logFormat,
    log_path: o.logPath,
    service_cluster: o.serviceCluster,
    service_node: o.serviceNode,
    service_zone: o.serviceZone,
    file_flush_interval: milliseconds(o.fileFlushIntervalMs),
    drain_time: `${o.drainTimeS}s`,
    parent_shutdown_time: `${o.parentShutdownTimeS}s`,
    mode: o.mode === "serve" ? "Serve" : "Validate",
    disable_hot_restart: o.disableHotRestart,
    enable_mutex_tracing: o.enableMutexTracing,
    restart_epoch: o.restartEpoch,
    cpuset_threads: o.cpusetThreads,
    reject_unknown_dynamic_fields: o.rejectUnknownDynamicFields,
    log_format_escaped: o.logFormatEscaped,
    disabled_extensions: o.disabledExtensions,
    ignore_unknown_dynamic_fields: o.ignoreUnknownDynamicFields,
    use_dynamic_base_id: o.useDynamicBaseId,
    base_id_path: o.baseIdPath,
    drain_strategy: o.drainStrategy,
    enable_fine_grain_logging: o.enableFineGrainLogging,
    socket_path: o.socketPath,
    socket_mode: o.socketMode,
    enable_core_dump: o.enableCoreDump,
    stats_tag: o.statsTags.map((tag) => `${tag.name}:${tag.value}`),
    skip_hot_restart_on_no_parent: o.skipHotRestartOnNoParent,
    skip_hot_restart_parent_stats: o.skipHotRestartParentStats,
    skip_deprecated_logs: o.skipDeprecatedLogs,
    file_flush_min_size: o.fileFlushMinSizeKb,
    log_stacktrace_single_entry: o.logStacktraceSingleEntry,
  };
}

function milliseconds(ms: number): string {
  return durationJson({ seconds: BigInt(Math.floor(ms / 1000)), nanos: Math.round((ms % 1000) * 1e6) });
}
