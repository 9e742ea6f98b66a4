/** Clusters that discovery brings (CDS): each is warmed on the main thread before the workers hear of it. */
import { fingerprint } from "../../config/fingerprint.ts";
import type { Cluster } from "../../config/schema/types/envoy.config.cluster.v3.d.ts";
import { compileCluster } from "../../upstream/compile.ts";
import type { Resource } from "../../xds/resource.ts";
import type { ResourceUpdate } from "../../xds/subscription.ts";
import { type DynamicEnvironment, describeFailures, firstDuplicate } from "./environment.ts";

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
  readonly #entries = new Map<string, Entry>();
  #version = "";

  constructor(environment: DynamicEnvironment) {
    this.#environment = environment;
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
    let applied = 0;
    for (const resource of resources) {
      try {
        if (await this.#take(resource)) applied++;
      } catch (error) {
        failures.set(resource.name, (error as Error).message);
      }
    }
    for (const name of gone) if (await this.#remove(name)) applied++;
    if (applied > 0 || failures.size === 0) this.#version = version;
    if (failures.size > 0) throw new Error(describeFailures("cluster", failures));
  }

  /** False: it is what is there already, or not discovery's to change. */
  async #take(resource: Resource): Promise<boolean> {
    const environment = this.#environment;
    const message = resource.message as Cluster;
    const { name } = message;
    if (environment.isStaticCluster(name)) return false;
    const files = await environment.validate(resource, (context) => compileCluster(message, context));
    const entry = this.#entries.get(name) ?? { active: undefined, warming: undefined };
    const newest = entry.warming ?? entry.active;
    if (newest !== undefined && fingerprint(newest.message, newest.files) === fingerprint(message, files)) return false;
    const next: DynamicCluster = { message, version: resource.version, updatedAt: new Date(), files };
    entry.warming = next;
    this.#entries.set(name, entry);
    environment.clusters.add(compileCluster(message, environment.context()));
    const warmed = environment.clusters.ready(name).then(async () => {
      // Another has taken its place, or it is gone.
      if (entry.warming !== next || this.#entries.get(name) !== entry) return;
      entry.warming = undefined;
      entry.active = next;
      const hosts = environment.clusters.snapshot([name]);
      await environment.apply({ clusters: [message], hosts, files });
    });
    // What needs no warming is in force when the update is answered.
    if (!environment.clusters.isWarming(name)) await warmed;
    return true;
  }

  async #remove(name: string): Promise<boolean> {
    if (!this.#entries.delete(name)) return false;
    await this.#environment.apply({ removedClusters: [name] });
    this.#environment.clusters.remove(name);
    return true;
  }
}
