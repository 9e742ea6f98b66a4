/** Where dynamic resources come from (envoy.config.core.v3.ConfigSource): a file, a server that is polled, or streams of a management server. */
import { existsSync } from "node:fs";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import { fingerprint } from "./fingerprint.ts";
import { durationMs } from "./message.ts";
import type { ApiConfigSource, ConfigSource, GrpcService } from "./schema/types/envoy.config.core.v3.d.ts";

export const honours: Honours = {
  "envoy.config.core.v3.ConfigSource": ["path", "path_config_source", "api_config_source", "ads", "resource_api_version", "initial_fetch_timeout"],
  "envoy.config.core.v3.AggregatedConfigSource": "*",
  "envoy.config.core.v3.PathConfigSource": ["path", "watched_directory"],
  "envoy.config.core.v3.ApiConfigSource": [
    "api_type",
    "transport_api_version",
    "cluster_names",
    "grpc_services",
    "refresh_delay",
    "request_timeout",
    "set_node_on_first_message_only",
  ],
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

/** The stream of all types that the bootstrap names (dynamic_resources.ads_config). */
export interface AdsSource extends SourceBase {
  readonly kind: "ads";
}

/** A stream of one type, or the aggregated one. */
export interface GrpcSource extends SourceBase {
  readonly kind: "grpc";
  /** Tried in turn. */
  readonly services: readonly GrpcService[];
  readonly isDelta: boolean;
  readonly nodeOnFirstMessageOnly: boolean;
}

export type XdsSource = FileSource | RestSource | AdsSource | GrpcSource;

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
  if (kind === "apiConfigSource") return compileApiSource(value, base, context);
  if (kind === "ads") return { ...base, kind: "ads" };
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

/** dynamic_resources.ads_config of the bootstrap. */
export function compileAdsConfig(value: ApiConfigSource | undefined, context: CompileContext): GrpcSource | undefined {
  if (value === undefined) return undefined;
  const source = compileApiSource(value, { key: "", initialFetchTimeoutMs: 0 }, context);
  if (source === undefined || source.kind === "grpc") return source;
  context.report(value, "api_type", { code: "OR3074", text: "ads_config needs a gRPC api_type", hint: "api_type: GRPC, or DELTA_GRPC" });
  return undefined;
}

/** envoy.config.core.v3.ApiConfigSource.ApiType */
const apiTypes = { rest: 1, grpc: 2, deltaGrpc: 3, aggregatedGrpc: 5, aggregatedDeltaGrpc: 6 } as const;

/** Servers that are asked for something: polled, or over a stream. */
export function compileApiSource(value: ApiConfigSource, base: SourceBase, context: CompileContext): RestSource | GrpcSource | undefined {
  const { apiType } = value;
  if (apiType === apiTypes.grpc || apiType === apiTypes.deltaGrpc) return compileGrpc(value, base, context);
  if (apiType !== apiTypes.rest) {
    context.report(value, "api_type", {
      code: "OR4003",
      text: "api_type has to be REST, GRPC or DELTA_GRPC",
      hint: "for the aggregated service: ads: {} and dynamic_resources.ads_config",
    });
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

function compileGrpc(value: ApiConfigSource, base: SourceBase, context: CompileContext): GrpcSource | undefined {
  if (value.grpcServices.length === 0)
    context.report(value, "grpc_services", {
      code: "OR3075",
      text: "api_type GRPC needs grpc_services",
      hint: "grpc_services: [{ envoy_grpc: { cluster_name: NAME } }]",
    });
  return {
    ...base,
    kind: "grpc",
    services: value.grpcServices,
    isDelta: value.apiType === apiTypes.deltaGrpc,
    nodeOnFirstMessageOnly: value.setNodeOnFirstMessageOnly,
  };
}
