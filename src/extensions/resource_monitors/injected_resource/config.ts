/** envoy.resource_monitors.injected_resource: the pressure that a file says, 0 to 1. It is read when another file is moved over it. */
import { readFileSync } from "node:fs";
import type { InjectedResourceConfig } from "../../../config/schema/types/envoy.extensions.resource_monitors.injected_resource.v3.d.ts";
import type { ResourceMonitor } from "../../../overload/compile.ts";
import { watchLinks } from "../../../runtime/disk-layer.ts";
import { numberOf } from "../../../runtime/values.ts";
import type { Extension } from "../../extension.ts";

export class InjectedResourceMonitor implements ResourceMonitor {
  readonly #file: string;
  readonly #stopWatching: () => void;
  #changed = true;
  #known: number | Error = 0;

  constructor(file: string) {
    this.#file = file;
    this.#stopWatching = watchLinks([file], () => {
      this.#changed = true;
    });
  }

  read(): number {
    if (this.#changed) {
      this.#changed = false;
      this.#known = pressureIn(this.#file);
    }
    if (this.#known instanceof Error) throw this.#known;
    return this.#known;
  }

  close(): void {
    this.#stopWatching();
  }
}

function pressureIn(file: string): number | Error {
  try {
    const pressure = numberOf(readFileSync(file, "utf8"));
    if (pressure === undefined) return new Error(`${file}: failed to parse injected resource pressure`);
    return pressure < 0 || pressure > 1 ? new Error(`${file}: pressure out of range`) : pressure;
  } catch (error) {
    return error as Error;
  }
}

export default {
  honours: { "envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig": "*" },
  resourceMonitor: {
    compile(message) {
      const { filename } = message as InjectedResourceConfig;
      return () => new InjectedResourceMonitor(filename);
    },
  },
} satisfies Extension;
