/** The main thread's end of one worker thread: start, messages, and a replacement when it dies. */
import { Worker } from "node:worker_threads";
import type { ThreadProfile } from "../admin/server.ts";
import { getLogger, type LogRecord, type LogSink } from "../log/log.ts";
import type { StatsAggregate } from "../stats/aggregate.ts";
import type { FromWorker, ToWorker, WorkerStart } from "../worker/protocol.ts";

const log = getLogger("main");

export interface WorkerLinkCallbacks {
  onMessage(link: WorkerLink, message: FromWorker): void;
  /** The thread ended without being told to: the server starts another. */
  onCrash(link: WorkerLink, error: Error | undefined): void;
}

export class WorkerLink {
  readonly index: number;
  readonly #worker: Worker;
  readonly #stats: ReturnType<StatsAggregate["attach"]>;
  readonly #sink: LogSink;
  #stopping = false;
  #begun = false;
  /** Resolves when the thread is gone. */
  readonly gone: Promise<void>;

  /** Starts the thread, which loads its code and waits for `begin`: so that it can do that while the configuration is being read. */
  constructor(index: number, aggregate: StatsAggregate, sink: LogSink, callbacks: WorkerLinkCallbacks) {
    this.index = index;
    this.#sink = sink;
    this.#stats = aggregate.attach(`worker_${index}`);
    let crash: Error | undefined;
    this.#worker = new Worker(new URL("../worker/entry.ts", import.meta.url), { name: `worker_${index}` });
    this.#worker.on("message", (message: FromWorker) => {
      if (!this.#takeOwn(message)) callbacks.onMessage(this, message);
    });
    this.#worker.on("error", (error: unknown) => {
      crash = error instanceof Error ? error : new Error(String(error));
    });
    this.gone = new Promise((resolve) => {
      this.#worker.on("exit", () => {
        this.#stats.detach();
        resolve();
        if (!this.#stopping) {
          log.critical(`worker_${this.index} ended: ${crash?.stack ?? "no error given"}`);
          callbacks.onCrash(this, crash);
        }
      });
    });
  }

  /** Gives the worker its configuration: it compiles and says so. */
  begin(start: WorkerStart): void {
    this.#begun = true;
    this.#worker.postMessage({ type: "start", start } satisfies ToWorker);
  }

  /** Whether `begin` was called: a thread that never began has nothing to close. */
  get begun(): boolean {
    return this.#begun;
  }

  send(message: ToWorker): void {
    if (message.type === "stop") this.#stopping = true;
    this.#worker.postMessage(message);
  }

  /** Ends the thread without waiting for anything. */
  async terminate(): Promise<void> {
    this.#stopping = true;
    await this.#worker.terminate();
  }

  /** V8 heap statistics of the thread, for /memory. */
  async heapStatistics(): Promise<{ used_heap_size: number; total_heap_size: number } | undefined> {
    try {
      return await this.#worker.getHeapStatistics();
    } catch {
      return undefined; // the thread has just ended
    }
  }

  /** Begins a profile of the thread; undefined when it has just ended. */
  async startProfile(kind: "cpu" | "heap"): Promise<ThreadProfile | undefined> {
    try {
      const profile = await (kind === "cpu" ? this.#worker.startCpuProfile() : this.#worker.startHeapProfile());
      return { thread: `worker_${this.index}`, stop: () => profile.stop().catch(() => undefined) };
    } catch {
      return undefined;
    }
  }

  /** What concerns every worker in the same way: logs and statistics. */
  #takeOwn(message: FromWorker): boolean {
    switch (message.type) {
      case "log":
        this.#sink.write(message.record satisfies LogRecord);
        return true;
      case "memory":
        this.#stats.onMemory(message.memory);
        return true;
      case "stats":
        for (const [index, kind, name, unit] of message.entries) this.#stats.onStat(index, kind, name, unit);
        return true;
      case "histograms":
        this.#stats.recordHistograms(message.batch);
        return false;
      default:
        return false;
    }
  }
}
