/** Where dynamic resources come from (envoy.config.core.v3.ConfigSource): a file, a server that is polled, or streams of a management server. */
import { existsSync } from "node:fs";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import { fingerprint } from "./fingerprint.ts";
import { durationMs } from "./message.ts";
import type { ApiConfigSource, ConfigSource } from "./schema/types/envoy.config.core.v3.d.ts";

export const honours: Honours = {
  "envoy.config.core.v3.ConfigSource": ["path", "path_config_source", "api_config_source", "resource_api_version", "initial_fetch_timeout"],
  "envoy.config.core.v3.PathConfigSource": ["path", "watched_directory"],
  "envoy.config.core.v3.ApiConfigSource": ["api_type", "transport_api_version", "cluster_names", "refresh_delay", "request_timeout"],
  "envoy.config.core.v3.WatchedDirectory": "*",
};

interface SourceBase {
  /** Equal for sources that say the same. */
  readonly key: string;
  /** After so long without an answer those who wait go on without; 0: never. Milliseconds. */
  readonly initialFetchTimeoutMs: number;
}

/** A file that is read again whenever it is moved into place. */
export interface FileSource extends SourceBase {
  readonly kind: "file";
  readonly path: string;
  /** Anything moved into it is a reason to read again; undefined: only `path` itself. */
  readonly watchedDirectory: string | undefined;
}

/** A server that is asked again and again. */
export interface RestSource extends SourceBase {
  readonly kind: "rest";
  /** Asked in turn. */
  readonly clusters: readonly string[];
  /** Between an answer and the next request, milliseconds. */
  readonly refreshMs: number;
  readonly requestTimeoutMs: number;
}

export type XdsSource = FileSource | RestSource;

const defaultInitialFetchTimeoutMs = 15_000;
const defaultRequestTimeoutMs = 1000;

/** What tells sources apart without compiling them. */
export function sourceKey(source: ConfigSource | undefined): string {
  const { case: kind, value } = source?.configSourceSpecifier ?? { case: undefined };
  switch (kind) {
    case undefined:
      return "";
    case "path":
      return value;
    case "pathConfigSource":
      return value.path;
    case "ads":
    case "self":
      return "\u0000ads";
    default:
      return `\u0000${fingerprint(value)}`;
  }
}

/** Undefined, with a finding, for sources that resources cannot come from. */
export function compileConfigSource(owner: object, field: string, source: ConfigSource | undefined, context: CompileContext): XdsSource | undefined {
  const { case: kind, value } = source?.configSourceSpecifier ?? { case: undefined };
  if (source === undefined || kind === undefined) {
    context.report(source ?? owner, source === undefined ? field : undefined, {
      code: "OR4003",
      text: `${field}: no source is given`,
      hint: "write the resources to a file and name it: path_config_source: { path: FILE }",
    });
    return undefined;
  }
  const base = { key: sourceKey(source), initialFetchTimeoutMs: durationMs(source.initialFetchTimeout, defaultInitialFetchTimeoutMs) };
  if (kind === "apiConfigSource") return compileApi(value, base, context);
  if (kind !== "path" && kind !== "pathConfigSource") {
    context.report(source, kind, { code: "OR4003", text: `${field}: resources from ${kind} are not supported`, hint: "use path_config_source" });
    return undefined;
  }
  const path = kind === "path" ? value : value.path;
  if (context.validating && !existsSync(path))
    context.report(kind === "path" ? source : value, "path", {
      code: "OR5001",
      text: `paths must refer to an existing path in the system: '${path}' does not exist`,
      hint: "its content may change at any time, but it has to be there",
    });
  return { ...base, kind: "file", path, watchedDirectory: kind === "pathConfigSource" ? value.watchedDirectory?.path : undefined };
}

/** envoy.config.core.v3.ApiConfigSource.ApiType */
const rest = 1;

function compileApi(value: ApiConfigSource, base: SourceBase, context: CompileContext): XdsSource | undefined {
  if (value.apiType !== rest) {
    context.report(value, "api_type", { code: "OR4003", text: "only api_type REST is supported", hint: "use api_type: REST, or path_config_source" });
    return undefined;
  }
  if (value.clusterNames.length !== 1) {
    context.report(value, "cluster_names", {
      code: "OR3070",
      text: "REST needs exactly one cluster_names entry",
      hint: "name the static cluster of the management server",
    });
    return undefined;
  }
  for (const name of value.clusterNames) {
    if (!context.hasCluster(name))
      context.report(value, "cluster_names", {
        code: "OR3071",
        text: `Unknown cluster '${name}' of a management server`,
        hint: "it has to stand in static_resources.clusters",
      });
  }
  if (value.refreshDelay === undefined) {
    context.report(value, "refresh_delay", {
      code: "OR3072",
      text: "refresh_delay is required for REST API configuration sources",
      hint: "e.g. refresh_delay: 5s",
    });
    return undefined;
  }
  return {
    ...base,
    kind: "rest",
    clusters: value.clusterNames,
    refreshMs: durationMs(value.refreshDelay, 0),
    requestTimeoutMs: durationMs(value.requestTimeout, defaultRequestTimeoutMs),
  };
}
