/**
 * layered_runtime on the main thread: layers in order, later ones win. Static layers from the bootstrap, disk layers from a folder
 * of small files, the admin layer from /runtime_modify. Values are parsed as Envoy does (numbers, booleans, else text).
 */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import type { JsonObject, JsonValue } from "../config/message.ts";
import type { LayeredRuntime } from "../config/schema/types/envoy.config.bootstrap.v3.d.ts";
import type { Honours } from "../extensions/extension.ts";
import { type Fraction, RuntimeSnapshot, type RuntimeValue } from "./runtime.ts";

export const honours: Honours = {
  "envoy.config.bootstrap.v3.LayeredRuntime": "*",
  "envoy.config.bootstrap.v3.RuntimeLayer": ["name", "static_layer", "disk_layer", "admin_layer"],
  "envoy.config.bootstrap.v3.RuntimeLayer.DiskLayer": "*",
  "envoy.config.bootstrap.v3.RuntimeLayer.AdminLayer": "*",
};

interface Layer {
  readonly name: string;
  readonly kind: "static" | "disk" | "admin";
  values: Map<string, RuntimeValue>;
  readonly folder?: string;
}

/** Disk layers read at most this many keys and bytes per file. */
const maxDiskKeys = 10_000;
const maxDiskValueBytes = 64 * 1024;

export class RuntimeLayers {
  readonly #layers: Layer[] = [];
  #snapshot = new RuntimeSnapshot();
  #merged = new Map<string, RuntimeValue>();

  constructor(message: LayeredRuntime | undefined, serviceCluster = "") {
    // Without layered_runtime Envoy has an admin layer only.
    if (message === undefined) this.#layers.push({ name: "admin", kind: "admin", values: new Map() });
    for (const layer of message?.layers ?? []) {
      const specifier = layer.layerSpecifier;
      if (specifier.case === "staticLayer") this.#layers.push({ name: layer.name, kind: "static", values: flatten(specifier.value) });
      else if (specifier.case === "adminLayer") this.#layers.push({ name: layer.name, kind: "admin", values: new Map() });
      else if (specifier.case === "diskLayer") {
        const { symlinkRoot, subdirectory, appendServiceCluster } = specifier.value;
        const folder = join(symlinkRoot, subdirectory, appendServiceCluster ? serviceCluster : "");
        this.#layers.push({ name: layer.name, kind: "disk", values: readFolder(folder), folder });
      }
    }
    this.#merge();
  }

  get snapshot(): RuntimeSnapshot {
    return this.#snapshot;
  }
  /** All values, to be sent to workers. */
  get merged(): ReadonlyMap<string, RuntimeValue> {
    return this.#merged;
  }
  get numLayers(): number {
    return this.#layers.length;
  }
  get adminOverrides(): number {
    return this.#layers.find((l) => l.kind === "admin")?.values.size ?? 0;
  }
  get diskFolders(): string[] {
    return this.#layers.flatMap((l) => (l.folder === undefined ? [] : [l.folder]));
  }

  /** Reads the disk layers again. */
  reloadDisk(): void {
    for (const layer of this.#layers) if (layer.folder !== undefined) layer.values = readFolder(layer.folder);
    this.#merge();
  }

  /** Sets (or, with "", removes) keys of the admin layer. False where there is none. */
  modify(changes: ReadonlyMap<string, string>): boolean {
    const layer = this.#layers.find((l) => l.kind === "admin");
    if (layer === undefined) return false;
    for (const [key, value] of changes) {
      if (value === "") layer.values.delete(key);
      else layer.values.set(key, parseValue(value));
    }
    this.#merge();
    return true;
  }

  /** The body of /runtime. */
  toJson(): { layers: string[]; entries: Record<string, { layer_values: string[]; final_value: string }> } {
    const entries: Record<string, { layer_values: string[]; final_value: string }> = {};
    for (const key of [...this.#merged.keys()].sort()) {
      entries[key] = { layer_values: this.#layers.map((l) => print(l.values.get(key))), final_value: print(this.#merged.get(key)) };
    }
    return { layers: this.#layers.map((l) => l.name), entries };
  }

  #merge(): void {
    const merged = new Map<string, RuntimeValue>();
    for (const layer of this.#layers) for (const [key, value] of layer.values) merged.set(key, value);
    this.#merged = merged;
    this.#snapshot = new RuntimeSnapshot(merged);
  }
}

function print(value: RuntimeValue | undefined): string {
  if (value === undefined) return "";
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}

function parseValue(text: string): RuntimeValue {
  const trimmed = text.trim();
  if (trimmed === "true") return true;
  if (trimmed === "false") return false;
  if (/^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$/.test(trimmed)) return Number(trimmed);
  return text.replace(/\s+$/, "");
}

function flatten(struct: JsonObject): Map<string, RuntimeValue> {
  const found = new Map<string, RuntimeValue>();
  const walk = (prefix: string, value: JsonValue): void => {
    if (value === null || Array.isArray(value)) return;
    if (typeof value !== "object") {
      found.set(prefix, typeof value === "string" ? parseValue(value) : value);
      return;
    }
    const fraction = asFraction(value);
    if (fraction !== undefined) {
      found.set(prefix, fraction);
      return;
    }
    for (const [key, inner] of Object.entries(value)) walk(prefix === "" ? key : `${prefix}.${key}`, inner);
  };
  walk("", struct);
  return found;
}

const denominators: Record<string, number> = { HUNDRED: 100, TEN_THOUSAND: 10_000, MILLION: 1_000_000 };

function asFraction(value: JsonObject): Fraction | undefined {
  if (typeof value["numerator"] !== "number" || Object.keys(value).some((k) => k !== "numerator" && k !== "denominator")) return undefined;
  const denominator = value["denominator"] === undefined ? 100 : denominators[String(value["denominator"])];
  return denominator === undefined ? undefined : { numerator: value["numerator"], denominator };
}

function readFolder(folder: string): Map<string, RuntimeValue> {
  const found = new Map<string, RuntimeValue>();
  const walk = (path: string, prefix: string): void => {
    let names: string[];
    try {
      names = readdirSync(path);
    } catch {
      return; // an absent folder is an empty layer, as in Envoy
    }
    for (const name of names) {
      if (name.startsWith(".") || found.size >= maxDiskKeys) continue;
      const at = join(path, name);
      const key = prefix === "" ? name : `${prefix}.${name}`;
      try {
        const info = statSync(at);
        if (info.isDirectory()) walk(at, key);
        else if (info.isFile() && info.size <= maxDiskValueBytes) {
          const lines = readFileSync(at, "utf8")
            .split("\n")
            .filter((line) => !line.startsWith("#"));
          found.set(key, parseValue(lines.join("\n")));
        }
      } catch {
        // A file that vanished between listing and reading is absent.
      }
    }
  };
  walk(folder, "");
  return found;
}
