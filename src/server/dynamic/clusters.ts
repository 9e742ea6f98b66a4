/** Clusters that discovery brings (CDS): each is warmed on the main thread before the workers hear of it. */
import { fingerprint } from "../../config/fingerprint.ts";
import type { Cluster } from "../../config/schema/types/envoy.config.cluster.v3.d.ts";
import { compileCluster } from "../../upstream/compile.ts";
import type { Resource } from "../../xds/resource.ts";
import type { ResourceUpdate } from "../../xds/subscription.ts";
import { type DynamicEnvironment, describeFailures, firstDuplicate, type Needs } from "./environment.ts";

export const clusterType = "envoy.config.cluster.v3.Cluster";

export interface DynamicCluster {
  readonly message: Cluster;
  readonly version: string;
  readonly updatedAt: Date;
  readonly files: ReadonlyMap<string, Uint8Array>;
}

interface Entry {
  /** What the workers have. */
  active: DynamicCluster | undefined;
  /** What waits for its first members. */
  warming: DynamicCluster | undefined;
}

export class DynamicClusters {
  readonly #environment: DynamicEnvironment;
  readonly #need: (cluster: Cluster) => Needs;
  readonly #entries = new Map<string, Entry>();
  #version = "";

  /** `need`: subscribes to what a cluster names. */
  constructor(environment: DynamicEnvironment, need: (cluster: Cluster) => Needs) {
    this.#environment = environment;
    this.#need = need;
  }

  /** Of the last update of which anything was taken. */
  get version(): string {
    return this.#version;
  }
  get active(): DynamicCluster[] {
    return [...this.#entries.values()].flatMap(({ active }) => (active === undefined ? [] : [active]));
  }
  get warming(): DynamicCluster[] {
    return [...this.#entries.values()].flatMap(({ warming }) => (warming === undefined ? [] : [warming]));
  }
  has(name: string): boolean {
    return this.#entries.has(name);
  }
  names(): Iterable<string> {
    return this.#entries.keys();
  }

  /** Takes what is good; throws an Error that names what is not. */
  async accept({ resources, removed, version }: ResourceUpdate): Promise<void> {
    const twice = firstDuplicate(resources);
    if (twice !== undefined) throw new Error(`duplicate cluster ${twice} found`);
    const failures = new Map<string, string>();
    const named = new Set(resources.map(({ name }) => name));
    const gone = removed ?? [...this.#entries.keys()].filter((name) => !named.has(name));
    const removedNow = gone.filter((name) => this.#entries.delete(name));
    let applied = removedNow.length;
    // What is warm at once is put in force together.
    const warm: DynamicCluster[] = [];
    for (const resource of resources) {
      try {
        const taken = await this.#take(resource);
        if (taken === undefined) continue;
        applied++;
        if (taken.isWarm) warm.push(taken.cluster);
      } catch (error) {
        failures.set(resource.name, (error as Error).message);
      }
    }
    if (warm.length + removedNow.length > 0) await this.#apply(warm, removedNow);
    for (const name of removedNow) this.#environment.clusters.remove(name);
    if (applied > 0 || failures.size === 0) this.#version = version;
    if (failures.size > 0) throw new Error(describeFailures("cluster", failures));
  }

  #apply(clusters: readonly DynamicCluster[], removedClusters: readonly string[]): Promise<void> {
    const messages = clusters.map(({ message }) => message);
    const hosts = this.#environment.clusters.snapshot(messages.map(({ name }) => name));
    return this.#environment.apply({ clusters: messages, removedClusters, hosts, files: new Map(clusters.flatMap(({ files }) => [...files])) });
  }

  /** undefined: it is what is there already, or not discovery's to change. */
  async #take(resource: Resource): Promise<{ readonly cluster: DynamicCluster; readonly isWarm: boolean } | undefined> {
    const environment = this.#environment;
    const message = resource.message as Cluster;
    const { name } = message;
    if (environment.isStaticCluster(name)) return undefined;
    const files = await environment.validate(resource, (context) => compileCluster(message, context));
    const entry = this.#entries.get(name) ?? { active: undefined, warming: undefined };
    const newest = entry.warming ?? entry.active;
    if (newest !== undefined && fingerprint(newest.message, newest.files) === fingerprint(message, files)) return undefined;
    const next: DynamicCluster = { message, version: resource.version, updatedAt: new Date(), files };
    entry.warming = next;
    this.#entries.set(name, entry);
    environment.clusters.add(compileCluster(message, environment.context()));
    const needs = this.#need(message);
    const isWarm = needs.isReady && !environment.clusters.isWarming(name);
    if (isWarm) {
      entry.warming = undefined;
      entry.active = next;
    } else {
      void Promise.all([environment.clusters.ready(name), needs.ready]).then(() => {
        // Another has taken its place, or it is gone.
        if (entry.warming !== next || this.#entries.get(name) !== entry) return;
        entry.warming = undefined;
        entry.active = next;
        return this.#apply([next], []);
      });
    }
    return { cluster: next, isWarm };
  }
}
