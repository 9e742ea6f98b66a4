/** What discovery needs of the server it changes. */
import type { Finding } from "../../config/finding.ts";
import type { Listener } from "../../config/schema/types/envoy.config.listener.v3.d.ts";
import type { Secret } from "../../config/schema/types/envoy.extensions.transport_sockets.tls.v3.d.ts";
import type { CompileContext } from "../../extensions/extension.ts";
import type { StatsStore } from "../../stats/stats.ts";
import type { MainClusters } from "../../upstream/main-clusters.ts";
import type { ConfigUpdate } from "../../worker/protocol.ts";
import type { Resource } from "../../xds/resource.ts";
import type { Subscribe } from "../../xds/subscription.ts";

export interface DynamicEnvironment {
  readonly stats: StatsStore;
  readonly subscribe: Subscribe;
  setText(name: string, value: string): void;
  /** Of the bootstrap: they are not discovery's to change. */
  isStaticCluster(name: string): boolean;
  isStaticListener(name: string): boolean;
  /**
   * Loads what a resource needs and compiles it to see whether it is good: throws an Error that says what is not. The files that it names,
   * with their contents.
   */
  validate(resource: Resource, compile: (context: CompileContext) => void): Promise<ReadonlyMap<string, Uint8Array>>;
  /** Whether it stands in the bootstrap, or was read with it. */
  hasSecret(key: string): boolean;
  /**
   * Whether everything that names the secret can use it as it would be: throws an Error that says what cannot. The files that are needed for it.
   * `resource`: what has come; undefined where only files have changed. `secrets`: all that discovery has brought, by key.
   */
  validateSecrets(resource: Resource | undefined, secrets: ReadonlyMap<string, Secret>, key: string): Promise<ReadonlyMap<string, Uint8Array>>;
  /** Puts a secret in force, with all that names it. */
  applySecret(key: string, files: ReadonlyMap<string, Uint8Array>): Promise<void>;
  /** The context that things of the main thread are compiled with. */
  readonly context: () => CompileContext;
  readonly clusters: MainClusters;
  /** Tells the workers; resolves when it is in force. */
  apply(update: Partial<ConfigUpdate>): Promise<void>;
  /** Whether an address can be had, for a listener that is new or has moved; throws an Error that says why not. */
  claim(listener: Listener): Promise<void>;
  /** A listener is gone from the workers: its address is shown no more. */
  released(listener: string): void;
  readonly drainTimeMs: number;
  readonly concurrency: number;
}

/** What a resource waits for: routes, secrets. */
export interface Needs {
  readonly isReady: boolean;
  /** Resolves when all is there, or not to be had. */
  readonly ready: Promise<void>;
}

/** What went wrong with one resource, for the admin interface. */
export interface UpdateFailure {
  readonly message: object;
  readonly version: string;
  readonly details: string;
  readonly at: Date;
}

/** "Error adding/updating listener(s) a: why, b: why", as Envoy says it to its control plane. */
export function describeFailures(kind: "cluster" | "listener", failures: ReadonlyMap<string, string>): string {
  return `Error adding/updating ${kind}(s) ${[...failures].map(([name, why]) => `${name}: ${why}`).join(", ")}`;
}

/** Of a name that occurs twice. */
export function firstDuplicate(resources: readonly Resource[]): string | undefined {
  const seen = new Set<string>();
  return resources.find(({ name }) => seen.size === seen.add(name).size)?.name;
}

export function texts(findings: readonly Finding[]): string {
  return findings.map(({ text }) => text).join("; ");
}
