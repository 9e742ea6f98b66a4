/**
 * Profiles of all threads, as V8 makes them: where the time goes (.cpuprofile) and what allocates (.heapprofile, by sampling). Both open in
 * Chrome's developer tools, in editors and in speedscope. They name functions and count bytes and microseconds: no data, so no secrets
 * (which is why there is no full heap snapshot here).
 */
import { access, constants, writeFile } from "node:fs/promises";
import { Session } from "node:inspector/promises";
import { dirname } from "node:path";
import { getLogger } from "../log/log.ts";
import type { AdminServer, ThreadProfile } from "./server.ts";

const log = getLogger("admin");

/** A CPU profile grows with time: this is as long as one may run. */
const maxCpuProfileMs = 10 * 60_000;
/** One sample for so many bytes allocated, on average. */
const heapSamplingBytes = 512 * 1024;

/** heap: what was allocated and is alive; allocations: all that was allocated (of workers, too, what is alive). */
export type ProfileKind = "cpu" | "heap" | "allocations";

export class Profiler {
  readonly #kind: ProfileKind;
  #threads: readonly ThreadProfile[] | undefined;
  #starting = false;
  #limit: NodeJS.Timeout | undefined;

  constructor(kind: ProfileKind) {
    this.#kind = kind;
  }

  get running(): boolean {
    return this.#starting || this.#threads !== undefined;
  }

  /** False: it runs already. `onLimit` takes a CPU profile that nobody has ended. */
  async start(server: AdminServer, onLimit?: () => void): Promise<boolean> {
    if (this.running) return false;
    this.#starting = true;
    try {
      const main = await profileMainThread(this.#kind);
      this.#threads = [main, ...(await server.profileWorkers(this.#kind === "cpu" ? "cpu" : "heap"))];
    } finally {
      this.#starting = false;
    }
    if (onLimit !== undefined) {
      this.#limit = setTimeout(onLimit, maxCpuProfileMs);
      this.#limit.unref();
    }
    return true;
  }

  /** Whether profiles could be written at a path: asked before one is begun. */
  static async canWrite(path: string): Promise<boolean> {
    try {
      await access(dirname(path), constants.W_OK);
      return true;
    } catch (error) {
      log.error(`no profile can be written: ${error instanceof Error ? error.message : String(error)} (admin.profile_path says where)`);
      return false;
    }
  }

  /** Ends it: profiles (JSON) by thread. Empty when none ran. */
  async stop(): Promise<Map<string, string>> {
    const threads = this.#threads ?? [];
    this.#threads = undefined;
    clearTimeout(this.#limit);
    const profiles = new Map<string, string>();
    for (const thread of threads) {
      const profile = await thread.stop();
      if (profile !== undefined) profiles.set(thread.thread, profile);
    }
    return profiles;
  }

  /** Ends it and writes a file a thread: `path` for the main thread, "<path>.<thread>" for workers. False (and a log line): not written. */
  async stopInto(path: string): Promise<boolean> {
    try {
      for (const [thread, profile] of await this.stop()) await writeFile(thread === "main" ? path : `${path}.${thread}`, profile, { mode: 0o600 });
      return true;
    } catch (error) {
      log.error(`cannot write a profile: ${error instanceof Error ? error.message : String(error)}`);
      return false;
    }
  }
}

/** The main thread's sampling of its heap, which /heap_dump reads: it runs from the first need on, but for a profile of allocations. */
let sampling: Session | undefined;

/** V8 samples a heap for one listener at a time. */
async function startSampling(dead: boolean): Promise<Session> {
  const session = new Session();
  session.connect();
  await session.post("HeapProfiler.startSampling", {
    samplingInterval: heapSamplingBytes,
    includeObjectsCollectedByMajorGC: dead,
    includeObjectsCollectedByMinorGC: dead,
  });
  return session;
}

/** Lets /heap_dump know of what is allocated from now on. */
export async function sampleHeap(): Promise<void> {
  sampling ??= await startSampling(false);
}

/** The .heapprofile of the main thread: what was allocated since sampling began and is alive. */
export async function heapSoFar(): Promise<string> {
  await sampleHeap();
  const { profile } = await (sampling as Session).post("HeapProfiler.getSamplingProfile");
  return JSON.stringify(profile);
}

async function profileMainThread(kind: ProfileKind): Promise<ThreadProfile> {
  switch (kind) {
    case "heap":
      await sampleHeap();
      return { thread: "main", stop: heapSoFar };
    case "allocations": {
      if (sampling !== undefined) {
        await sampling.post("HeapProfiler.stopSampling");
        sampling.disconnect();
      }
      const session = await startSampling(true);
      sampling = session;
      return {
        thread: "main",
        async stop() {
          const { profile } = await session.post("HeapProfiler.stopSampling");
          session.disconnect();
          sampling = undefined;
          await sampleHeap();
          return JSON.stringify(profile);
        },
      };
    }
    case "cpu": {
      const session = new Session();
      session.connect();
      await session.post("Profiler.enable");
      await session.post("Profiler.start");
      return {
        thread: "main",
        async stop() {
          const { profile } = await session.post("Profiler.stop");
          session.disconnect();
          return JSON.stringify(profile);
        },
      };
    }
  }
}
