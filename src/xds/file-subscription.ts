/**
 * Dynamic resources from a file (path_config_source): a DiscoveryResponse, read at start and each time the file is moved into place.
 * https://www.envoyproxy.io/docs/envoy/latest/configuration/overview/xds_api#filesystem-subscriptions
 *
 * A file that cannot be read leaves what was there and counts as update_failure; resources that are not wanted count as update_rejected.
 */
import { existsSync, type FSWatcher, watch } from "node:fs";
import { basename, dirname } from "node:path";
import type { Finding, Origin } from "../config/finding.ts";
import { loadMessage } from "../config/load.ts";
import type { ConfigSource } from "../config/schema/types/envoy.config.core.v3.d.ts";
import type { DiscoveryResponse } from "../config/schema/types/envoy.service.discovery.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import { getLogger } from "../log/log.ts";
import { hashBytes } from "../router/hash-policy.ts";
import type { Counter, Gauge, Histogram, StatsScope } from "../stats/stats.ts";

const log = getLogger("config");

/** A change settles for so long before the file is read: a new file may be filled after it was made. */
const quietMs = 20;

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
      code: "OR3041",
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

/** One resource as it came. */
export interface Resource {
  readonly name: string;
  readonly message: { readonly $typeName: string };
  locate(message: object, field?: string): Origin | undefined;
}

export interface FileSubscriptionOptions {
  readonly source: FileSource;
  /** Resources of any other type are refused. */
  readonly typeName: string;
  /** Where the update_* statistics are. */
  readonly scope: StatsScope;
  setText?(name: string, value: string): void;
  /** What of the resources is not supported; an error refuses the update. */
  check?(message: object, locate: Resource["locate"]): readonly Finding[];
  /** Takes the resources, or throws an Error that says why it does not. */
  accept(resources: readonly Resource[], version: string): void;
  /** The file could not be read or was refused. */
  onFailure?(): void;
}

export class FileSubscription {
  readonly #options: FileSubscriptionOptions;
  readonly #attempt: Counter;
  readonly #success: Counter;
  readonly #failure: Counter;
  readonly #rejected: Counter;
  readonly #time: Gauge;
  readonly #version: Gauge;
  readonly #duration: Histogram;
  #watcher: FSWatcher | undefined;
  #quiet: NodeJS.Timeout | undefined;

  constructor(options: FileSubscriptionOptions) {
    this.#options = options;
    const { scope } = options;
    this.#attempt = scope.counter("update_attempt");
    this.#success = scope.counter("update_success");
    this.#failure = scope.counter("update_failure");
    this.#rejected = scope.counter("update_rejected");
    this.#time = scope.gauge("update_time");
    this.#version = scope.gauge("version");
    this.#duration = scope.histogram("update_duration", "ms");
    scope.counter("init_fetch_timeout");
    options.setText?.(`${scope.prefix}version_text`, "");
  }

  /** Reads the file, and again whenever it is replaced. */
  start(): void {
    const { path, watchedDirectory } = this.#options.source;
    const directory = watchedDirectory ?? dirname(path);
    const name = basename(path);
    try {
      this.#watcher = watch(directory, (event, file) => {
        // In-place changes are not looked at, as with Envoy: half a file would be read.
        if (event !== "rename" || (watchedDirectory === undefined && file !== null && file !== name)) return;
        clearTimeout(this.#quiet);
        this.#quiet = setTimeout(() => this.#read(), quietMs);
      });
      this.#watcher.on("error", () => this.#watcher?.close());
      this.#watcher.unref();
    } catch (error) {
      log.warning(`cannot watch ${directory}: ${(error as Error).message}: changes of ${path} will not be seen`);
    }
    this.#read();
  }

  close(): void {
    clearTimeout(this.#quiet);
    this.#watcher?.close();
  }

  #read(): void {
    const { source, typeName, scope } = this.#options;
    const began = performance.now();
    this.#attempt.inc();
    const loaded = loadMessage<DiscoveryResponse>({ kind: "file", path: source.path }, "envoy.service.discovery.v3.DiscoveryResponse", {
      unknownFields: "warn",
    });
    const response = loaded.message;
    if (response === undefined) {
      this.#failure.inc();
      log.warning(`Filesystem config update failure: in ${source.path}, ${describe(loaded.findings)}`);
      this.#options.onFailure?.();
      return;
    }
    try {
      const errors = loaded.findings.filter(({ severity }) => severity === "error");
      if (errors.length > 0) throw new Error(describe(errors));
      const resources = response.resources.map((message) => {
        if (message.$typeName !== typeName) throw new Error(`Unable to unpack as ${typeName}: ${message.$typeName}`);
        return { name: nameOf(message), message, locate: loaded.locate };
      });
      const unsupported = resources
        .flatMap(({ message }) => this.#options.check?.(message, loaded.locate) ?? [])
        .filter(({ severity }) => severity === "error");
      if (unsupported.length > 0) throw new Error(describe(unsupported));
      this.#options.accept(resources, response.versionInfo);
    } catch (error) {
      this.#rejected.inc();
      log.warning(`Filesystem config update rejected: ${(error as Error).message}`);
      this.#options.onFailure?.();
      return;
    }
    for (const finding of loaded.findings) log.warning(describe([finding]));
    this.#success.inc();
    this.#time.set(Date.now());
    this.#version.set(Number(hashBytes(Buffer.from(response.versionInfo).toString("latin1"))));
    this.#options.setText?.(`${scope.prefix}version_text`, response.versionInfo);
    this.#duration.record(performance.now() - began);
  }
}

function nameOf(message: { readonly $typeName: string }): string {
  const { clusterName, name } = message as { readonly clusterName?: string; readonly name?: string };
  return clusterName ?? name ?? "";
}

/** All that was found, in one line of the log. */
function describe(findings: readonly Finding[]): string {
  return findings
    .map(({ text, origin }) => (origin === undefined || origin.line === 0 ? text : `${origin.file}:${origin.line}:${origin.column}: ${text}`))
    .join("; ");
}
