/** envoy.resource_monitors.cgroup_memory: the memory of the control group against its limit, or a lower one that is configured. */
import type { CgroupMemoryConfig } from "../../../config/schema/types/envoy.extensions.resource_monitors.cgroup_memory.v3.d.ts";
import type { ResourceMonitor } from "../../../overload/compile.ts";
import type { Extension } from "../../extension.ts";
import { cgroupMemory, type ReadCgroup, readCgroup } from "../cgroup.ts";

export class CgroupMemoryMonitor implements ResourceMonitor {
  readonly #maxBytes: number;
  readonly #read: ReadCgroup;
  /** `maxBytes` 0: the group's own limit. */
  constructor(maxBytes: number, read: ReadCgroup = readCgroup) {
    this.#maxBytes = maxBytes > 0 ? maxBytes : Number.POSITIVE_INFINITY;
    this.#read = read;
  }
  read(): number {
    const { used, limit } = cgroupMemory(this.#read);
    return used / Math.min(limit, this.#maxBytes);
  }
}

export default {
  honours: { "envoy.extensions.resource_monitors.cgroup_memory.v3.CgroupMemoryConfig": "*" },
  resourceMonitor: {
    compile(message) {
      const { maxMemoryBytes } = message as CgroupMemoryConfig;
      return () => new CgroupMemoryMonitor(Number(maxMemoryBytes));
    },
  },
} satisfies Extension;
