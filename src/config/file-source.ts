/** A config source that is a file: where dynamic resources come from without a server. */
import { existsSync } from "node:fs";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import type { ConfigSource } from "./schema/types/envoy.config.core.v3.d.ts";

export const honours: Honours = {
  "envoy.config.core.v3.ConfigSource": ["path", "path_config_source", "resource_api_version", "initial_fetch_timeout"],
  "envoy.config.core.v3.PathConfigSource": ["path", "watched_directory"],
  "envoy.config.core.v3.WatchedDirectory": "*",
};

/** Where a subscription reads. */
export interface FileSource {
  readonly path: string;
  /** Anything moved into it is a reason to read again; undefined: only `path` itself. */
  readonly watchedDirectory: string | undefined;
}

/** Undefined, with a finding, for sources that are not files. */
export function compileFileSource(
  owner: object,
  field: string,
  source: ConfigSource | undefined,
  typeName: string,
  context: CompileContext,
): FileSource | undefined {
  const { case: kind, value } = source?.configSourceSpecifier ?? { case: undefined };
  if (source === undefined || (kind !== "path" && kind !== "pathConfigSource")) {
    context.report(source ?? owner, source === undefined ? field : undefined, {
      code: "OR4003",
      text: `${field}: only path_config_source is supported`,
      hint: "write the resources to a file and name it: path_config_source: { path: FILE }",
    });
    return undefined;
  }
  if (context.node.id === "" || context.node.cluster === "")
    context.report(owner, field, {
      code: "OR3044",
      text: `type.googleapis.com/${typeName}: node 'id' and 'cluster' are required. Set it either in 'node' config or via --service-node and --service-cluster options.`,
      hint: "add node: { id: ..., cluster: ... } to the bootstrap",
    });
  const path = kind === "path" ? value : value.path;
  if (context.validating && !existsSync(path))
    context.report(kind === "path" ? source : value, "path", {
      code: "OR5001",
      text: `paths must refer to an existing path in the system: '${path}' does not exist`,
      hint: "its content may change at any time, but it has to be there",
    });
  return { path, watchedDirectory: kind === "pathConfigSource" ? value.watchedDirectory?.path : undefined };
}
