import assert from "node:assert/strict";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { cgroupCpu, cgroupMemory, type ReadCgroup } from "./cgroup.ts";
import { CgroupMemoryMonitor } from "./cgroup_memory/config.ts";
import { CpuUtilizationMonitor, hostTimes } from "./cpu_utilization/config.ts";
import { FixedHeapMonitor } from "./fixed_heap/config.ts";
import { InjectedResourceMonitor } from "./injected_resource/config.ts";

const files =
  (contents: Record<string, string>): ReadCgroup =>
  (path) =>
    contents[path];

test("the heap against a limit", () => {
  assert.equal(
    new FixedHeapMonitor(
      () => 200,
      () => 50,
    ).read(),
    0.25,
  );
  assert.throws(() =>
    new FixedHeapMonitor(
      () => 0,
      () => 50,
    ).read(),
  );
  const real = new FixedHeapMonitor(() => 2 ** 40).read();
  assert.ok(real > 0 && real < 1);
});

test("memory of a control group, of both versions", () => {
  assert.deepEqual(cgroupMemory(files({ "memory.current": "50\n", "memory.max": "200\n" })), { used: 50, limit: 200 });
  assert.deepEqual(cgroupMemory(files({ "memory.current": "50\n", "memory.max": "max\n" })), { used: 50, limit: Number.POSITIVE_INFINITY });
  const old = { "memory/memory.usage_in_bytes": "50\n", "memory/memory.limit_in_bytes": "9223372036854771712\n" };
  assert.deepEqual(cgroupMemory(files(old)), { used: 50, limit: Number.POSITIVE_INFINITY });
  assert.throws(() => cgroupMemory(files({})), /no cgroup memory subsystem/);
  assert.throws(() => cgroupMemory(files({ "memory.current": "x", "memory.max": "1" })), /unable to parse/);
  const limited = files({ "memory.current": "50", "memory.max": "200" });
  assert.equal(new CgroupMemoryMonitor(0, limited).read(), 0.25);
  assert.equal(new CgroupMemoryMonitor(100, limited).read(), 0.5);
  assert.equal(new CgroupMemoryMonitor(1000, limited).read(), 0.25);
  assert.equal(new CgroupMemoryMonitor(0, files({ "memory.current": "50", "memory.max": "max" })).read(), 0);
});

test("CPU of a control group, of both versions", () => {
  assert.deepEqual(cgroupCpu(files({ "cpu.stat": "usage_usec 7\nuser_usec 3\n", "cpu.max": "150000 100000\n" }), 4), { usedUs: 7, cores: 1.5 });
  assert.deepEqual(cgroupCpu(files({ "cpu.stat": "usage_usec 7\n", "cpu.max": "max 100000\n" }), 4), { usedUs: 7, cores: 4 });
  assert.deepEqual(cgroupCpu(files({ "cpuacct/cpuacct.usage": "7000\n", "cpu/cpu.shares": "2048\n" }), 4), { usedUs: 7, cores: 2 });
  assert.throws(() => cgroupCpu(files({}), 4), /no cgroup CPU subsystem/);
});

test("CPU utilization is smoothed; time that runs backwards is an error", () => {
  const times = [
    { work: 0, total: 0 },
    { work: 100, total: 100 },
    { work: 100, total: 200 },
    { work: 100, total: 200 },
    { work: 50, total: 300 },
  ];
  const monitor = new CpuUtilizationMonitor(() => times.shift() ?? { work: 0, total: 0 });
  assert.equal(monitor.read(), 0.05);
  assert.equal(monitor.read(), 0.0475);
  assert.equal(monitor.read(), 0.0475);
  assert.throws(() => monitor.read(), /erroneous CPU stats/);
  assert.deepEqual(hostTimes("cpu  1 2 3 4 5 6 7\ncpu0 1 2 3 4\n"), { work: 6, total: 10 });
  assert.throws(() => hostTimes("x"), /unexpected format/);
  assert.ok(hostTimes().total > 0);
});

test("pressure from a file: read at the start and when another file takes its place", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "pressure-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "level");
  writeFileSync(file, "0.5\n");
  const monitor = new InjectedResourceMonitor(file);
  t.after(() => monitor.close());
  const put = async (text: string, seen: () => boolean): Promise<void> => {
    writeFileSync(`${file}.new`, text);
    renameSync(`${file}.new`, file);
    while (!seen()) await new Promise((resolve) => setImmediate(resolve));
  };
  const failure = (): string => {
    try {
      monitor.read();
      return "";
    } catch (error) {
      return (error as Error).message;
    }
  };
  assert.equal(monitor.read(), 0.5);
  writeFileSync(file, "0.6");
  assert.equal(monitor.read(), 0.5, "a file that is written to is not read again");
  await put("0.75", () => monitor.read() === 0.75);
  await put("much", () => /failed to parse/.test(failure()));
  await put("1.5", () => /pressure out of range/.test(failure()));
  await put("1", () => failure() === "");
  assert.throws(() => new InjectedResourceMonitor(join(folder, "none")).read(), /ENOENT/);
});
