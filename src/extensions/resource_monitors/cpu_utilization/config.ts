/** envoy.resource_monitors.cpu_utilization: the share of CPU time that is used, of the machine or of the container, smoothed. */
import { readFileSync } from "node:fs";
import { availableParallelism } from "node:os";
import type { CpuUtilizationConfig } from "../../../config/schema/types/envoy.extensions.resource_monitors.cpu_utilization.v3.d.ts";
import type { ResourceMonitor } from "../../../overload/compile.ts";
import type { Extension } from "../../extension.ts";
import { cgroupCpu, readCgroup } from "../cgroup.ts";

/** Of a new reading, so much counts at once. */
const alpha = 0.05;

/** Time worked, and time there was to work in. */
export interface CpuTimes {
  readonly work: number;
  readonly total: number;
}

export class CpuUtilizationMonitor implements ResourceMonitor {
  readonly #times: () => CpuTimes;
  #before: CpuTimes | undefined;
  #utilization = 0;

  constructor(times: () => CpuTimes) {
    this.#times = times;
    try {
      this.#before = times();
    } catch {
      // The first reading will say so.
    }
  }

  read(): number {
    const now = this.#times();
    const before = this.#before ?? now;
    this.#before = now;
    const total = now.total - before.total;
    // Two readings within one tick of the system's clock tell nothing new.
    if (total === 0) return this.#utilization;
    const work = now.work - before.work;
    if (work < 0 || total < 0) throw new Error(`erroneous CPU stats: ${work} of ${total}`);
    this.#utilization = alpha * (work / total) + (1 - alpha) * this.#utilization;
    return this.#utilization;
  }
}

/** Ticks of the first line of /proc/stat: user, nice, system and idle. */
export function hostTimes(stat = readFileSync("/proc/stat", "utf8")): CpuTimes {
  const match = /^cpu +(\d+) (\d+) (\d+) (\d+)/.exec(stat);
  if (match === null) throw new Error("/proc/stat: unexpected format");
  const [user, nice, system, idle] = match.slice(1).map(Number);
  const work = user + nice + system;
  return { work, total: work + idle };
}

function containerTimes(): CpuTimes {
  const { usedUs, cores } = cgroupCpu(readCgroup, availableParallelism());
  return { work: usedUs / cores, total: Number(process.hrtime.bigint() / 1000n) };
}

export default {
  honours: { "envoy.extensions.resource_monitors.cpu_utilization.v3.CpuUtilizationConfig": "*" },
  resourceMonitor: {
    compile(message) {
      const inContainer = (message as CpuUtilizationConfig).mode === 1;
      return () => new CpuUtilizationMonitor(inContainer ? containerTimes : () => hostTimes());
    },
  },
} satisfies Extension;
