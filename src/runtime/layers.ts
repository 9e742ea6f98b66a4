/**
 * layered_runtime on the main thread: layers in order, later ones win. Static layers from the bootstrap, disk layers from a folder
 * of small files, discovered layers from a subscription (RTDS), the admin layer from /runtime_modify.
 * https://www.envoyproxy.io/docs/envoy/latest/configuration/operations/runtime
 */

import type { JsonObject } from "../config/message.ts";
import type { Bootstrap, LayeredRuntime, RuntimeLayer_DiskLayer } from "../config/schema/types/envoy.config.bootstrap.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import { getLogger } from "../log/log.ts";
import { isFolder, readFolder, watchLinks } from "./disk-layer.ts";
import { RuntimeSnapshot, type RuntimeValue } from "./runtime.ts";
import { entryOfText, flatten, type RuntimeEntry } from "./values.ts";

export const honours: Honours = {
  "envoy.config.bootstrap.v3.LayeredRuntime": "*",
  "envoy.config.bootstrap.v3.RuntimeLayer": ["name", "static_layer", "disk_layer", "rtds_layer", "admin_layer"],
  "envoy.config.bootstrap.v3.RuntimeLayer.RtdsLayer": "*",
  "envoy.config.bootstrap.v3.RuntimeLayer.DiskLayer": "*",
  "envoy.config.bootstrap.v3.RuntimeLayer.AdminLayer": "*",
};

const log = getLogger("runtime");

type Entries = ReadonlyMap<string, RuntimeEntry>;
const noEntries: Entries = new Map();

interface Layer {
  readonly name: string;
  /** undefined: there is nothing to read now, and the layer does not exist. */
  read(): Entries | undefined;
}

/** Why /runtime_modify was refused. */
export class RuntimeRefusal extends Error {}

/** How often values were put together, and how. */
export interface RuntimeLoads {
  readonly success: number;
  readonly error: number;
  /** With two disk layers or more the later ones override the first. */
  readonly overrideDirExists: number;
  readonly overrideDirNotExists: number;
}

export class RuntimeLayers {
  readonly #layers: Layer[] = [];
  readonly #roots: string[] = [];
  /** By the name of the resource. */
  readonly #discovered = new Map<string, Entries>();
  #admin: Map<string, RuntimeEntry> | undefined;
  #diskLayers = 0;
  #failures = 0;
  /** The layers that exist, as last read. */
  #loaded: { readonly name: string; readonly entries: Entries }[] = [];
  #snapshot = new RuntimeSnapshot();
  #merged = new Map<string, RuntimeValue>();
  readonly #loads = { success: 0, error: 0, overrideDirExists: 0, overrideDirNotExists: 0 };

  constructor(message: LayeredRuntime | undefined, serviceCluster = "") {
    // Without layered_runtime Envoy has an admin layer only.
    if (message === undefined) this.#addAdmin("admin");
    for (const { name, layerSpecifier } of message?.layers ?? []) {
      if (layerSpecifier.case === "staticLayer") {
        const entries = flatten(layerSpecifier.value);
        this.#layers.push({ name, read: () => entries });
      } else if (layerSpecifier.case === "adminLayer") this.#addAdmin(name);
      else if (layerSpecifier.case === "rtdsLayer") {
        const resource = layerSpecifier.value.name;
        this.#layers.push({ name, read: () => this.#discovered.get(resource) ?? noEntries });
      } else if (layerSpecifier.case === "diskLayer") this.#addDisk(name, layerSpecifier.value, serviceCluster);
    }
    this.reload();
  }

  get snapshot(): RuntimeSnapshot {
    return this.#snapshot;
  }
  /** All values, to be sent to workers. */
  get merged(): ReadonlyMap<string, RuntimeValue> {
    return this.#merged;
  }
  get numLayers(): number {
    return this.#loaded.length;
  }
  get adminOverrides(): number {
    return this.#admin?.size ?? 0;
  }
  get loads(): RuntimeLoads {
    return this.#loads;
  }

  /** Calls `changed` after disk layers were replaced and read again. Returns what ends it. */
  watch(changed: () => void): () => void {
    return watchLinks(this.#roots, () => {
      this.reload();
      changed();
    });
  }

  /** Reads the layers again. */
  reload(): void {
    this.#diskLayers = 0;
    this.#failures = 0;
    this.#loaded = this.#layers.flatMap((layer) => {
      const entries = layer.read();
      return entries === undefined ? [] : [{ name: layer.name, entries }];
    });
    const merged = new Map<string, RuntimeValue>();
    for (const { entries } of this.#loaded) for (const [key, { value }] of entries) merged.set(key, value);
    this.#merged = merged;
    this.#snapshot = new RuntimeSnapshot(merged);
    this.#loads[this.#failures === 0 ? "success" : "error"]++;
    this.#loads[this.#diskLayers > 1 ? "overrideDirExists" : "overrideDirNotExists"]++;
  }

  /** What discovery has brought for the layers of this resource. Throws an Error where it holds what is no value. */
  setDiscovered(resource: string, layer: JsonObject): void {
    const bad: string[] = [];
    const entries = flatten(layer, (key) => bad.push(key));
    if (bad.length > 0) throw new Error(`Invalid runtime entry value for ${bad.join(", ")}`);
    this.#discovered.set(resource, entries);
    this.reload();
  }

  /** Sets (or, with "", removes) keys of the admin layer: all of them, or none and it throws a RuntimeRefusal. */
  modify(changes: ReadonlyMap<string, string>): void {
    const admin = this.#admin;
    if (admin === undefined) throw new RuntimeRefusal("No admin layer specified: layered_runtime has no admin layer, which would hold these values");
    const read = [...changes].map(([key, text]) => {
      try {
        return [key, text === "" ? undefined : entryOfText(text)] as const;
      } catch (error) {
        throw new RuntimeRefusal(`the value of '${key}' is ${(error as Error).message}`);
      }
    });
    for (const [key, entry] of read) {
      if (entry === undefined) admin.delete(key);
      else admin.set(key, entry);
    }
    this.reload();
  }

  /** The body of /runtime. */
  toJson(): { layers: string[]; entries: Record<string, { layer_values: string[]; final_value: string }> } {
    const entries: Record<string, { layer_values: string[]; final_value: string }> = {};
    for (const key of [...this.#merged.keys()].sort()) {
      const values = this.#loaded.map((layer) => layer.entries.get(key)?.raw);
      entries[key] = { layer_values: values.map((raw) => raw ?? ""), final_value: values.findLast((raw) => raw !== undefined) ?? "" };
    }
    return { layers: this.#loaded.map(({ name }) => name), entries };
  }

  #addAdmin(name: string): void {
    const entries = new Map<string, RuntimeEntry>();
    this.#admin = entries;
    this.#layers.push({ name, read: () => entries });
  }

  #addDisk(name: string, { symlinkRoot, subdirectory, appendServiceCluster }: RuntimeLayer_DiskLayer, serviceCluster: string): void {
    const folder = `${symlinkRoot}/${subdirectory}${appendServiceCluster ? `/${serviceCluster}` : ""}`;
    this.#roots.push(symlinkRoot);
    this.#layers.push({
      name,
      read: () => {
        if (!isFolder(folder)) return undefined;
        try {
          const entries = readFolder(folder);
          this.#diskLayers++;
          return entries;
        } catch (error) {
          this.#failures++;
          log.warning(`error loading runtime values for layer ${name} from disk: ${(error as Error).message}`);
          return undefined;
        }
      },
    });
  }
}

/** What Envoy refuses of layered_runtime. */
export function checkLayeredRuntime(bootstrap: Bootstrap, context: CompileContext): void {
  const names = new Set<string>();
  let admins = 0;
  for (const layer of bootstrap.layeredRuntime?.layers ?? []) {
    const { name, layerSpecifier } = layer;
    if (names.has(name)) context.report(layer, "name", { code: "OR3060", text: `Duplicate layer name: ${name}`, hint: "give each layer a name of its own" });
    names.add(name);
    if (layerSpecifier.case === "adminLayer" && ++admins > 1)
      context.report(layer, "admin_layer", {
        code: "OR3060",
        text: "Too many admin layers specified in LayeredRuntime, at most one may be specified",
        hint: "remove this one",
      });
    if (layerSpecifier.case === "staticLayer")
      flatten(layerSpecifier.value, (key) =>
        context.report(layer, "static_layer", {
          code: "OR3060",
          text: `Invalid runtime entry value for ${key}`,
          hint: "a value is a number, true or false, a text, or a fraction with a numerator and a denominator",
        }),
      );
  }
}
