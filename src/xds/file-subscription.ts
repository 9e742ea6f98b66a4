/**
 * Dynamic resources from a file (path_config_source): a DiscoveryResponse, read at start and each time the file is moved into place.
 * https://www.envoyproxy.io/docs/envoy/latest/configuration/overview/xds_api#filesystem-subscriptions
 *
 * A file that cannot be read leaves what was there and counts as update_failure; resources that are not wanted count as update_rejected.
 */
import { type FSWatcher, watch } from "node:fs";
import { basename, dirname } from "node:path";
import type { FileSource } from "../config/file-source.ts";
import type { Finding, Origin } from "../config/finding.ts";
import { loadMessage } from "../config/load.ts";
import type { DiscoveryResponse } from "../config/schema/types/envoy.service.discovery.v3.d.ts";
import { getLogger } from "../log/log.ts";
import { hashBytes } from "../router/hash-policy.ts";
import type { Counter, Gauge, Histogram, StatsScope } from "../stats/stats.ts";

const log = getLogger("config");

/** A change settles for so long before the file is read: a new file may be filled after it was made. */
const quietMs = 20;

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
    const read = readResources(source.path, typeName);
    if (read.kind === "unreadable") {
      this.#failure.inc();
      log.warning(`Filesystem config update failure: in ${source.path}, ${read.why}`);
      this.#options.onFailure?.();
      return;
    }
    try {
      if (read.kind === "refused") throw new Error(read.why);
      const { resources } = read;
      const unsupported = resources
        .flatMap(({ message, locate }) => this.#options.check?.(message, locate) ?? [])
        .filter(({ severity }) => severity === "error");
      if (unsupported.length > 0) throw new Error(describe(unsupported));
      this.#options.accept(resources, read.version);
    } catch (error) {
      this.#rejected.inc();
      log.warning(`Filesystem config update rejected: ${(error as Error).message}`);
      this.#options.onFailure?.();
      return;
    }
    for (const warning of read.warnings) log.warning(warning);
    this.#success.inc();
    this.#time.set(Date.now());
    this.#version.set(Number(hashBytes(Buffer.from(read.version).toString("latin1"))));
    this.#options.setText?.(`${scope.prefix}version_text`, read.version);
    this.#duration.record(performance.now() - began);
  }
}

export type ReadResources =
  /** No DiscoveryResponse. */
  | { readonly kind: "unreadable"; readonly why: string }
  /** One with mistakes, or with resources of another type. */
  | { readonly kind: "refused"; readonly why: string }
  | { readonly kind: "resources"; readonly resources: readonly Resource[]; readonly version: string; readonly warnings: readonly string[] };

/** Reads a file with a DiscoveryResponse. Unknown fields are let pass with a warning, as with all that comes while running. */
export function readResources(path: string, typeName: string): ReadResources {
  const loaded = loadMessage<DiscoveryResponse>({ kind: "file", path }, "envoy.service.discovery.v3.DiscoveryResponse", { unknownFields: "warn" });
  const response = loaded.message;
  if (response === undefined) return { kind: "unreadable", why: describe(loaded.findings) };
  const errors = loaded.findings.filter(({ severity }) => severity === "error");
  if (errors.length > 0) return { kind: "refused", why: describe(errors) };
  const other = response.resources.find((message) => message.$typeName !== typeName);
  if (other !== undefined) return { kind: "refused", why: `Unable to unpack as ${typeName}: ${other.$typeName}` };
  const resources = response.resources.map((message) => ({ name: nameOf(message), message, locate: loaded.locate }));
  return { kind: "resources", resources, version: response.versionInfo, warnings: loaded.findings.map((finding) => describe([finding])) };
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
