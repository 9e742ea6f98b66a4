/** Files of the control group that the process runs in, of version 2 or 1, as they are mounted in a container. */
import { readFileSync } from "node:fs";
import { join } from "node:path";

const root = "/sys/fs/cgroup";

/** A file's text, or undefined where there is none. `path`: below the mount. */
export type ReadCgroup = (path: string) => string | undefined;

export const readCgroup: ReadCgroup = (path) => {
  try {
    return readFileSync(join(root, path), "utf8");
  } catch {
    return undefined;
  }
};

/** Bytes; Infinity where there is no limit. Throws an Error where no control group tells of memory. */
export function cgroupMemory(read: ReadCgroup): { readonly used: number; readonly limit: number } {
  const files = [
    ["memory.current", "memory.max"],
    ["memory/memory.usage_in_bytes", "memory/memory.limit_in_bytes"],
  ] as const;
  for (const [current, max] of files) {
    const used = read(current);
    const limit = read(max)?.trim();
    if (used === undefined || limit === undefined) continue;
    // Version 1 says "none" by the largest number of pages.
    const bytes = limit === "max" || limit === "-1" ? Number.POSITIVE_INFINITY : Number(limit);
    const parsed = { used: Number(used), limit: bytes >= 2 ** 62 ? Number.POSITIVE_INFINITY : bytes };
    if (Number.isNaN(parsed.used) || Number.isNaN(parsed.limit)) throw new Error(`unable to parse cgroup memory of ${root}/${current}`);
    return parsed;
  }
  throw new Error(`no cgroup memory subsystem in ${root}`);
}

/** Microseconds of CPU time that the group has used, and how many cores it may use. Throws an Error where that cannot be told. */
export function cgroupCpu(read: ReadCgroup, cores: number): { readonly usedUs: number; readonly cores: number } {
  const stat = read("cpu.stat");
  const used = stat === undefined ? undefined : /^usage_usec (\d+)$/m.exec(stat)?.[1];
  if (used !== undefined) {
    const [quota, period] = (read("cpu.max") ?? "max").trim().split(" ").map(Number);
    return { usedUs: Number(used), cores: Number.isNaN(quota) || !(period > 0) ? cores : Math.min(cores, quota / period) };
  }
  const usage = read("cpuacct/cpuacct.usage") ?? read("cpu,cpuacct/cpuacct.usage");
  const shares = read("cpu/cpu.shares") ?? read("cpu,cpuacct/cpu.shares");
  if (usage === undefined || shares === undefined) throw new Error(`no cgroup CPU subsystem in ${root}`);
  // 1024 shares stand for one core.
  return { usedUs: Number(usage) / 1000, cores: Number(shares) / 1024 };
}
