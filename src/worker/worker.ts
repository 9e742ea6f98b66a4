/**
 * One worker: its own event loop, listeners, pools and statistics. It compiles the message tree that the main thread has validated, and
 * talks to the main thread only through `send` and `onMessage`, so that a test can drive it without a thread.
 */

import { fingerprint } from "../config/fingerprint.ts";
import type { Cluster } from "../config/schema/types/envoy.config.cluster.v3.d.ts";
import type { Listener } from "../config/schema/types/envoy.config.listener.v3.d.ts";
import { compileListener } from "../listener/compile.ts";
import { GlobalLimit } from "../listener/global-limit.ts";
import { WorkerListener } from "../listener/listener.ts";
import { getLogger, setLogSink } from "../log/log.ts";
import { LogFiles } from "../log/log-files.ts";
import { systemClock, TimerWheel } from "../net/timer-wheel.ts";
import { shrinkHeap } from "../os/shrink-heap.ts";
import { OverloadState } from "../overload/thread-state.ts";
import { RouteTables } from "../router/route-tables.ts";
import { type Runtime, RuntimeSnapshot } from "../runtime/runtime.ts";
import { ServingContext } from "../server/compile-context.ts";
import { EventLoopWatch } from "../server/event-loop.ts";
import { collectMessageTypes, ExtensionSet } from "../server/extension-set.ts";
import { type HistogramUnit, type KeptValues, StatsStore } from "../stats/stats.ts";
import { compileStatsMatcher } from "../stats/stats-config.ts";
import { compileCluster } from "../upstream/compile.ts";
import { hostStatsOf } from "../upstream/host.ts";
import { TextStream } from "../upstream/text-stream.ts";
import { WorkerClusters } from "../upstream/worker-clusters.ts";
import { DrainState } from "./drain.ts";
import type { ConfigUpdate, FromWorker, ToWorker, WorkerConfig, WorkerStart } from "./protocol.ts";

const log = getLogger("main");

interface Running {
  readonly message: Listener;
  readonly listener: WorkerListener;
}

export class WorkerCore {
  readonly #start: WorkerStart;
  readonly #send: (message: FromWorker) => void;
  readonly #stats: StatsStore;
  readonly #timers = new TimerWheel();
  readonly #runtime: { snapshot: RuntimeSnapshot };
  readonly #globalLimit: GlobalLimit;
  readonly #overload: OverloadState;
  readonly #drain: DrainState;
  readonly #extensions = new ExtensionSet();
  readonly #logs: LogFiles;
  readonly #clusters: WorkerClusters;
  #eventLoop: EventLoopWatch | undefined;
  /** Sinks of statistics that write to clusters, by cluster. */
  readonly #sinkStreams = new Map<string, TextStream>();
  readonly #listeners = new Map<string, Running>();
  /** Replaced or removed listeners whose last connections are still being served. */
  readonly #retired = new Set<WorkerListener>();
  readonly #routes = new RouteTables();
  /** Names of all clusters of the configuration. */
  readonly #clusterNames: Set<string>;
  /** Where each counts. */
  readonly #clusterScopes = new Map<string, string>();
  readonly #files: Map<string, Uint8Array>;
  #secrets: WorkerConfig["secrets"];
  /** Listeners are bound as they come; before that they wait for the `listen` message. */
  #isListening = false;
  /** Messages are taken one after the other, although reloading is asynchronous. */
  #queue: Promise<void> = Promise.resolve();

  constructor(start: WorkerStart, send: (message: FromWorker) => void) {
    this.#start = start;
    this.#clusterNames = new Set(start.config.clusters.map(({ name }) => name));
    this.#files = new Map(start.config.files);
    this.#secrets = start.config.secrets;
    this.#send = send;
    setLogSink({ write: (record) => send({ type: "log", record }) }, start.index);
    for (const [component, level] of start.logLevels) getLogger(component).level = level;

    // New stats of one turn go to the main thread in one message.
    let fresh: (readonly [number, "counter" | "gauge" | "histogram" | "text_readout", string, "ms" | "us" | "bytes" | "percent" | "none"])[] = [];
    const flush = (): void => {
      if (fresh.length === 0) return;
      const entries = fresh;
      fresh = [];
      send({ type: "stats", entries });
    };
    this.#stats = new StatsStore({
      onMemory: (memory) => {
        flush();
        send({ type: "memory", memory });
      },
      onStat: (index, kind, name, unit) => {
        if (fresh.length === 0) queueMicrotask(flush);
        fresh.push([index, kind, name, unit]);
      },
    });
    this.#stats.setMatcher(compileStatsMatcher(start.statsConfig));
    if (start.keepsValues) this.#stats.keepValues();
    this.#runtime = { snapshot: new RuntimeSnapshot(start.runtime) };
    this.#globalLimit = new GlobalLimit(start.globalLimit, start.concurrency, start.index, this.#runtime as Runtime);
    this.#overload = new OverloadState(start.overload, this.#stats);
    this.#drain = new DrainState({ drainTimeMs: start.drainTimeMs, strategy: start.drainStrategy }, systemClock);
    this.#logs = new LogFiles({ flushIntervalMs: start.fileFlushIntervalMs, flushMinBytes: start.fileFlushMinBytes, stats: this.#stats });
    this.#clusters = new WorkerClusters({
      stats: this.#stats,
      timers: this.#timers,
      overload: this.#overload,
      runtime: this.#runtime as Runtime,
      threads: start.concurrency + 1,
      workerIndex: start.index,
      onHostEvent: (cluster, host, event) => send({ type: "host_event", cluster, host, event }),
      onHostsUsed: (cluster, fresh, used) => send({ type: "hosts_used", cluster, fresh, used }),
    });
  }

  /** Compiles everything; listening begins with the `listen` message. */
  prepare(): Promise<void> {
    const done = this.#prepare();
    // What the main thread says meanwhile is newer than what this thread was started with.
    this.#queue = done.catch(() => {});
    return done;
  }

  async #prepare(): Promise<void> {
    const { clusters, listeners, routes, scopes } = this.#start.config;
    const context = await this.#context([clusters, listeners, [...routes.values()], [...scopes.values()]]);
    for (const [key, message] of routes) this.#routes.set(key, message, context);
    for (const [key, set] of scopes) this.#routes.setScopes(key, set, context);
    for (const message of clusters) this.#addCluster(message, context);
    for (const update of this.#start.hosts) this.#clusters.updateHosts(update);
    for (const message of listeners) this.#listeners.set(message.name, { message, listener: this.#createListener(message, context) });
    this.#eventLoop = new EventLoopWatch(this.#start.eventLoops, this.#start.index, this.#stats);
    this.#send({ type: "compiled" });
  }

  onMessage(message: ToWorker): void {
    this.#queue = this.#queue.then(
      () => this.#take(message),
      () => this.#take(message),
    );
  }

  async #take(message: ToWorker): Promise<void> {
    switch (message.type) {
      case "start":
        break; // taken by whoever made this object
      case "listen":
        this.#isListening = true;
        await this.#listen([...this.#listeners.values()], message.ports, message.reusePort);
        break;
      case "hosts":
        this.#clusters.updateHosts(message.update);
        break;
      case "host_health":
        this.#clusters.refreshHealth(message.cluster);
        break;
      case "host_failed":
        this.#clusters.onHealthFailure(message.cluster, message.host);
        break;
      case "runtime":
        this.#runtime.snapshot = new RuntimeSnapshot(message.values);
        break;
      case "log_levels":
        for (const [component, level] of message.levels) getLogger(component).level = level;
        break;
      case "update":
        await this.#update(message);
        break;
      case "health_failed":
        this.#drain.healthFailed = message.failed;
        break;
      case "drain":
        this.#drain.start(message.kind);
        break;
      case "stop_listeners":
        for (const { message: listener, listener: running } of this.#listeners.values()) {
          if (!message.inboundOnly || listener.trafficDirection === 1) running.stopAccepting();
        }
        break;
      case "flush_histograms":
        this.#flushHistograms();
        break;
      case "sink_text":
        this.#sinkStream(message.cluster).write(message.text);
        break;
      case "overload":
        this.#onOverload();
        break;
      case "shrink_heap":
        shrinkHeap(message.keepBytes);
        break;
      case "reopen_logs":
        this.#logs.reopen();
        break;
      case "stop":
        this.stop();
        break;
    }
  }

  /** Ends at once: connections are closed, logs written. */
  stop(): void {
    this.#eventLoop?.stop();
    for (const { listener } of this.#listeners.values()) listener.close();
    for (const listener of this.#retired) listener.close();
    for (const stream of this.#sinkStreams.values()) stream.close();
    this.#clusters.close();
    this.#timers.stop();
    this.#flushHistograms();
    this.#logs.flushSync();
    this.#send({ type: "stopped" });
  }

  /** After an exception nobody caught: nothing that was logged may be lost. */
  flushLogs(): void {
    this.#logs.flushSync();
  }

  #onOverload(): void {
    const all = [...[...this.#listeners.values()].map(({ listener }) => listener), ...this.#retired];
    if (!this.#overload.stopsConnections) for (const listener of all) listener.acceptHeld();
    const ended = this.#overload.resetHolders(all.flatMap((listener) => listener.memoryHolders()));
    if (ended > 0) log.warning(`overload: ${ended} streams that held much memory were reset`);
  }

  #sinkStream(cluster: string): TextStream {
    let stream = this.#sinkStreams.get(cluster);
    if (stream === undefined) {
      stream = new TextStream(this.#clusters, cluster, this.#stats.counter("statsd.cx_overflow"));
      this.#sinkStreams.set(cluster, stream);
    }
    return stream;
  }

  #flushHistograms(): void {
    const batch: (readonly [string, HistogramUnit, [number, number][], KeptValues | undefined])[] = [];
    for (const histogram of this.#stats.histograms) {
      if (!histogram.isEmpty) batch.push([histogram.name, histogram.unit, [...histogram.take()], histogram.takeValues()]);
    }
    this.#send({ type: "histograms", batch });
  }

  #addCluster(message: Cluster, context: ServingContext): void {
    const settings = compileCluster(message, context);
    this.#clusterScopes.set(message.name, settings.scope.prefix);
    this.#clusters.add(settings);
  }

  /** `messages`: what is going to be compiled. */
  async #context(messages: readonly object[]): Promise<ServingContext> {
    const { config } = this.#start;
    await this.#extensions.load(collectMessageTypes(messages));
    await this.#extensions.prepare(messages, undefined);
    return new ServingContext(
      {
        extensions: this.#extensions,
        stats: this.#stats,
        runtime: this.#runtime as Runtime,
        timers: this.#timers,
        overload: this.#overload,
        clusterDefaults: config.clusterDefaults,
        clusters: this.#clusters,
        clusterNames: this.#clusterNames,
        secrets: this.#secrets,
        routes: this.#routes,
        health: this.#drain,
        node: config.node,
        headerPrefix: config.headerPrefix,
        options: {
          fileFlushIntervalMs: this.#start.fileFlushIntervalMs,
          fileFlushMinBytes: this.#start.fileFlushMinBytes,
          concurrency: this.#start.concurrency,
        },
      },
      {
        workerIndex: this.#start.index,
        files: this.#files,
        openLog: (target) => this.#logs.open(target),
        onProblem: (text) => log.warning(`while compiling: ${text}`),
      },
    );
  }

  #createListener(message: Listener, context: ServingContext): WorkerListener {
    return new WorkerListener(compileListener(message, context), {
      stats: this.#stats,
      timers: this.#timers,
      workerIndex: this.#start.index,
      drainClose: () => this.#drain.drainClose(message.drainType === 1),
      globalLimit: this.#globalLimit,
      overload: this.#overload,
      drainTimeMs: this.#start.drainTimeMs,
    });
  }

  async #listen(listeners: readonly Running[], ports: ReadonlyMap<string, number>, reusePort: boolean): Promise<void> {
    const addresses: [string, string][] = [];
    for (const { message, listener } of listeners) {
      try {
        for (const address of await listener.listen({ reusePort, port: ports.get(message.name) })) addresses.push([message.name, address]);
      } catch (error) {
        const { code = "", message: text, address = "" } = error as NodeJS.ErrnoException & { address?: string };
        this.#send({ type: "listen_failed", listener: message.name, address, code, message: text });
        return;
      }
    }
    this.#send({ type: "listening", addresses });
  }

  /** Takes changes of the configuration: a changed listener keeps its port and its connections. */
  async #update({ update, ports, reusePort }: Extract<ToWorker, { type: "update" }>): Promise<void> {
    for (const [path, contents] of update.files) this.#files.set(path, contents);
    if (update.secrets !== undefined) this.#secrets = update.secrets;
    for (const { name } of update.clusters) this.#clusterNames.add(name);
    const context = await this.#context([update.clusters, update.listeners, update.routes, update.scopes]);
    for (const [key, message] of update.routes) this.#routes.set(key, message, context);
    for (const [key, set] of update.scopes) this.#routes.setScopes(key, set, context);
    for (const message of update.clusters) this.#addCluster(message, context);
    for (const hosts of update.hosts) this.#clusters.updateHosts(hosts);
    const fresh = this.#updateListeners(update, context);
    for (const name of update.removedClusters) this.#removeCluster(name);
    if (this.#isListening) await this.#listen(fresh, ports, reusePort);
    this.#send({ type: "updated" });
  }

  /** Those that have to be bound. */
  #updateListeners(update: ConfigUpdate, context: ServingContext): Running[] {
    const fresh: Running[] = [];
    for (const name of update.removedListeners) {
      const running = this.#listeners.get(name);
      if (running === undefined) continue;
      this.#listeners.delete(name);
      this.#retire(running.listener);
    }
    for (const message of update.listeners) {
      const running = this.#listeners.get(message.name);
      if (running !== undefined && fingerprint(running.message.address) === fingerprint(message.address)) {
        running.listener.update(compileListener(message, context));
        this.#listeners.set(message.name, { message, listener: running.listener });
        continue;
      }
      if (running !== undefined) this.#retire(running.listener);
      const next = { message, listener: this.#createListener(message, context) };
      this.#listeners.set(message.name, next);
      fresh.push(next);
    }
    return fresh;
  }

  #removeCluster(name: string): void {
    this.#clusterNames.delete(name);
    this.#clusters.remove(name);
    const prefix = this.#clusterScopes.get(name);
    this.#clusterScopes.delete(name);
    // Two clusters may count under one alt_stat_name.
    if (prefix !== undefined && ![...this.#clusterScopes.values()].includes(prefix)) this.#stats.forget(prefix);
    this.#stats.forget(hostStatsOf(name));
  }

  #retire(listener: WorkerListener): void {
    listener.stopAccepting();
    listener.drain();
    this.#retired.add(listener);
    const end = this.#timers.createTimer(() => {
      listener.close();
      this.#retired.delete(listener);
    });
    end.enable(this.#start.drainTimeMs);
  }
}
