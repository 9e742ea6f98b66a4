/** /cpuprofiler, /heapprofiler, /allocprofiler, /heap_dump, /peak_heap_dump. */
import { getLogger } from "../../log/log.ts";
import { heapSoFar, Profiler } from "../profiler.ts";
import { type AdminEndpoint, type AdminRequest, applicationJson, ok, text } from "../request.ts";

const log = getLogger("admin");
const cpu = new Profiler("cpu");
const heap = new Profiler("heap");
const allocations = new Profiler("allocations");

const usage = text("?enable=<y|n>\n", 400);
const onOff = ["y", "n"] as const;

/** Where profiles are written: admin.profile_path. */
function profilePath({ server }: AdminRequest): string {
  const path = server.config.bootstrap.admin?.profilePath ?? "";
  return path === "" ? "/var/log/envoy/envoy.prof" : path;
}

export const cpuProfiler: AdminEndpoint = {
  path: "/cpuprofiler",
  help: "enable/disable the CPU profiler",
  mutates: true,
  params: [{ kind: "enum", id: "enable", help: "enables the CPU profiler", options: onOff }],
  handle: async (request) => {
    const enable = request.params.first("enable");
    const path = profilePath(request);
    if (enable === "y") {
      const onLimit = () => {
        log.warning("nobody has ended the CPU profile: it is ended now");
        void cpu.stopInto(path);
      };
      return (await Profiler.canWrite(path)) && (await cpu.start(request.server, onLimit)) ? ok : text("failure to start the profiler", 500);
    }
    if (enable === "n") return (await cpu.stopInto(path)) ? ok : text(`failure to write the profile to ${path}\n`, 500);
    return usage;
  },
};

export const heapProfiler: AdminEndpoint = {
  path: "/heapprofiler",
  help: "enable/disable the heap profiler",
  mutates: true,
  params: [{ kind: "enum", id: "enable", help: "enable/disable the heap profiler", options: onOff }],
  handle: async (request) => {
    const enable = request.params.first("enable");
    const path = profilePath(request);
    if (enable === "y") {
      if (!(await Profiler.canWrite(path))) return text("Fail to start the heap profiler\n", 500);
      if (allocations.running || !(await heap.start(request.server))) return text("Fail to start heap profiler: already started\n", 400);
      return text("Starting heap profiler\n");
    }
    if (enable === "n") {
      if (!heap.running) return text("Fail to stop heap profiler: not started\n", 400);
      return (await heap.stopInto(path)) ? text(`Heap profiler stopped and data written to ${path}\n`) : text(`failure to write the profile to ${path}\n`, 500);
    }
    return usage;
  },
};

export const allocProfiler: AdminEndpoint = {
  path: "/allocprofiler",
  help: "enable/disable the allocation profiler (if supported)",
  mutates: true,
  params: [{ kind: "enum", id: "enable", help: "enable/disable the allocation profiler", options: onOff }],
  handle: async ({ server, params }) => {
    const enable = params.first("enable");
    if (enable === "y") return heap.running || !(await allocations.start(server)) ? text("Allocation profiler has already started", 400) : ok;
    if (enable !== "n") return usage;
    if (!allocations.running) return text("Allocation profiler is not started", 400);
    const profiles = await allocations.stop();
    return { status: 200, contentType: applicationJson, body: byThread(profiles) };
  },
};

function* byThread(profiles: ReadonlyMap<string, string>): Generator<string> {
  let first = true;
  for (const [thread, profile] of profiles) {
    yield `${first ? "{" : ","}${JSON.stringify(thread)}:`;
    first = false;
    yield profile;
  }
  yield first ? "{}\n" : "}\n";
}

export const heapDump: AdminEndpoint = {
  path: "/heap_dump",
  help: "dump current Envoy heap (if supported)",
  handle: async () => ({ status: 200, contentType: applicationJson, body: await heapSoFar() }),
};

export const peakHeapDump: AdminEndpoint = {
  path: "/peak_heap_dump",
  help: "dump peak Envoy heap (if supported)",
  handle: () => text("The current build does not support peak heap dumps: V8 does not keep them. See /heap_dump and /memory\n", 501),
};
