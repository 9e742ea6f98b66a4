/** envoy.filters.http.file_server: settings. */
import { type AnyMessage, isMessage } from "../../../config/message.ts";
import type { FileServerConfig } from "../../../config/schema/types/envoy.extensions.filters.http.file_server.v3.d.ts";
import { toBytes } from "../../../formatter/operators/operator.ts";
import type { CompileContext, Extension, HttpFilterExtension } from "../../extension.ts";
import { AsyncFiles } from "./async-files.ts";
import { FileServerFilter, type FileServerSettings } from "./filter.ts";
import { sortMappings } from "./path-mapping.ts";

const typeName = "envoy.extensions.filters.http.file_server.v3.FileServerConfig";

const nothing: FileServerSettings = { files: new AsyncFiles(0), mappings: [], contentTypes: new Map(), defaultContentType: "", directoryBehaviors: [] };

/** Managers with an id are shared by all that name it. */
const managers = new Map<string, { readonly threadCount: number; readonly files: AsyncFiles }>();
function managerOf(message: FileServerConfig, context: CompileContext): AsyncFiles {
  const manager = message.managerConfig;
  const threadCount = manager?.managerType.case === "threadPool" ? manager.managerType.value.threadCount : 0;
  const id = manager?.id ?? "";
  if (context.validating) {
    return new AsyncFiles(threadCount);
  }
  const found = managers.get(id);
  if (found !== undefined && found.threadCount === threadCount) return found.files;
  const files = new AsyncFiles(threadCount);
  managers.set(id, { threadCount, files });
  return files;
}

function check(message: FileServerConfig, context: CompileContext): void {
  const refuse = (field: string, text: string, at: object = message): void => context.report(at, field, { code: "OR3110", text });
  const prefixes = new Set<string>();
  for (const mapping of message.pathMappings) {
    if (prefixes.has(mapping.requestPathPrefix)) refuse("request_path_prefix", `duplicate request_path_prefix: ${mapping.requestPathPrefix}`, mapping);
    prefixes.add(mapping.requestPathPrefix);
  }
  const defaults = new Set<string>();
  let lists = 0;
  for (const behavior of message.directoryBehaviors) {
    const hasDefault = behavior.defaultFile !== "";
    if (!hasDefault && behavior.list === undefined) refuse("directory_behaviors", "directory_behavior must set one of default_file or list");
    else if (hasDefault && behavior.list !== undefined) refuse("list", "directory_behavior must have only one of default_file or list", behavior);
    else if (hasDefault && defaults.has(behavior.defaultFile))
      refuse("default_file", `duplicate default_file in directory_behaviors: ${behavior.defaultFile}`, behavior);
    else if (behavior.list !== undefined && ++lists > 1) refuse("list", "multiple list directives", behavior);
    defaults.add(behavior.defaultFile);
  }
  for (const suffix of Object.keys(message.contentTypes))
    if (suffix.includes(".")) refuse("content_types", `file suffix in content_types may not contain a period: ${suffix}`);
}

function compileSettings(message: AnyMessage, context: CompileContext): FileServerSettings {
  if (!isMessage<FileServerConfig>(message, typeName)) return nothing;
  check(message, context);
  return {
    files: managerOf(message, context),
    mappings: sortMappings(
      message.pathMappings.map((mapping) => ({ requestPathPrefix: toBytes(mapping.requestPathPrefix), filePathPrefix: toBytes(mapping.filePathPrefix) })),
    ),
    contentTypes: new Map(Object.entries(message.contentTypes).map(([suffix, type]) => [toBytes(suffix), toBytes(type)])),
    defaultContentType: toBytes(message.defaultContentType),
    directoryBehaviors: message.directoryBehaviors.map((behavior) => (behavior.defaultFile === "" ? undefined : toBytes(behavior.defaultFile))),
  };
}

export default {
  honours: {
    [typeName]: "*",
    "envoy.extensions.filters.http.file_server.v3.FileServerConfig.PathMapping": "*",
    "envoy.extensions.filters.http.file_server.v3.FileServerConfig.DirectoryBehavior": "*",
    "envoy.extensions.filters.http.file_server.v3.FileServerConfig.DirectoryBehavior.List": "*",
    "envoy.extensions.common.async_files.v3.AsyncFileManagerConfig": "*",
    "envoy.extensions.common.async_files.v3.AsyncFileManagerConfig.ThreadPool": "*",
  },
  httpFilter: {
    compile(message, context) {
      const settings = compileSettings(message, context);
      return () => new FileServerFilter(settings);
    },
    compileRoute: compileSettings,
  } satisfies HttpFilterExtension,
} satisfies Extension;
