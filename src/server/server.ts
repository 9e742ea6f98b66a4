/**
 * The main thread: owns configuration, admin interface, membership and DNS, statistics, and the workers. It serves no traffic itself.
 *
 * Life: pre_initializing -> initializing (clusters warm up) -> live -> draining -> stopped.
 */

import { EventEmitter } from "node:events";
import { existsSync, rmSync } from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { nodeMessage } from "../admin/node.ts";
import type { AdminConfig } from "../admin/server.ts";
import type { Options } from "../cli/options.ts";
import type { XdsSource } from "../config/config-source.ts";
import type { Finding } from "../config/finding.ts";
import { fingerprint } from "../config/fingerprint.ts";
import { durationMs } from "../config/message.ts";
import type { Cluster } from "../config/schema/types/envoy.config.cluster.v3.d.ts";
import type { ConfigSource } from "../config/schema/types/envoy.config.core.v3.d.ts";
import type { Listener } from "../config/schema/types/envoy.config.listener.v3.d.ts";
import type { SdsSecretConfig, Secret } from "../config/schema/types/envoy.extensions.transport_sockets.tls.v3.d.ts";
import { checkSupported } from "../config/supported.ts";
import { walkMessages } from "../config/walk.ts";
import { coreHonours } from "../extensions/core-honours.ts";
import type { CompileContext, LogWriter } from "../extensions/extension.ts";
import { compileListener } from "../listener/compile.ts";
import { compileGlobalLimit, type GlobalLimitSettings } from "../listener/global-limit.ts";
import { WorkerListener } from "../listener/listener.ts";
import { type Component, components, getLogger, type Level, type LogSink } from "../log/log.ts";
import { LogFiles } from "../log/log-files.ts";
import { formatAddress, parseAddressMessage } from "../net/address.ts";
import { TimerWheel } from "../net/timer-wheel.ts";
import { secretConfigType, secretKey, withSecrets } from "../net/tls/secrets.ts";
import { shrinkHeap } from "../os/shrink-heap.ts";
import { OverloadManager } from "../overload/manager.ts";
import type { ActionName } from "../overload/names.ts";
import { RuntimeLayers } from "../runtime/layers.ts";
import { StatsAggregate } from "../stats/aggregate.ts";
import { type ServerStats, serverStats } from "../stats/core-stats.ts";
import { compileSinks, type StatsSink } from "../stats/sinks/sink.ts";
import { StatsStore } from "../stats/stats.ts";
import { compileStatsMatcher } from "../stats/stats-config.ts";
import { compileCluster } from "../upstream/compile.ts";
import { hostStatsOf } from "../upstream/host.ts";
import { MainClusters } from "../upstream/main-clusters.ts";
import type { ConfigUpdate, FromWorker, WorkerConfig, WorkerStart } from "../worker/protocol.ts";
import { FileSubscription } from "../xds/file-subscription.ts";
import { describe as describeFindings, type Resource, type UnknownFields } from "../xds/resource.ts";
import type { Subscriber, Subscription } from "../xds/subscription.ts";
import { adminServerOf } from "./admin-adapter.ts";
import { adminListenerMessage } from "./admin-listener.ts";
import { clusterDefaults } from "./bootstrap-fields.ts";
import { changesBetween, describeChanges } from "./changes.ts";
import { type ClusterNames, type ContextParts, ServingContext, ValidatingContext } from "./compile-context.ts";
import { DynamicConfig } from "./dynamic/dynamic-config.ts";
import { startRuntimeDiscovery } from "./dynamic/runtime.ts";
import { compileEventLoops, type EventLoopSettings, EventLoopWatch } from "./event-loop.ts";
import { collectMessageTypes } from "./extension-set.ts";
import { checkManagementServers, type Prepared, type PrepareResult, prepare, prepareLoaded } from "./prepare.ts";
import type { Remote } from "./remote.ts";
import { SecretStats, SecretWatch } from "./secrets.ts";
import { versionString } from "./version.ts";
import { WorkerLink } from "./worker-link.ts";

const log = getLogger("main");

/** Why the server could not start; `findings` when it was the configuration. */
export class StartError extends Error {
  readonly findings: readonly Finding[];
  constructor(message: string, findings: readonly Finding[] = []) {
    super(message);
    this.findings = findings;
  }
}

/** What happens to a server, for those it runs inside of. */
export interface ServerEvents {
  /** A new configuration is in force: what changed, a line each. */
  reloaded: [changes: string];
  /** A new configuration was refused, and why; the old one goes on. */
  reload_refused: [reason: string];
  /** A worker died and another has taken its place. */
  worker_restarted: [index: number];
  /** Connections are being wound up. */
  draining: [];
  /** Everything is closed. */
  stopped: [];
}

export type ServerState = "PRE_INITIALIZING" | "INITIALIZING" | "LIVE" | "DRAINING";

/** A worker that dies more often than this within a minute is a fault no restart mends: the process ends. */
const maxCrashesPerMinute = 10;

export class Server {
  readonly options: Options;
  readonly stats: StatsStore;
  readonly aggregate = new StatsAggregate();
  readonly events = new EventEmitter<ServerEvents>();
  readonly startedMs = performance.now();
  /** Set by the process around the server. */
  onQuit: () => void = () => {};
  onFatal: () => void = () => {};
  /** application_log_config of the bootstrap: how lines of the system log are to look. */
  onLogFormat: (pattern: string) => void = () => {};
  readonly #sink: LogSink;
  readonly #mainStats: ReturnType<StatsAggregate["attach"]>;
  readonly #timers = new TimerWheel();
  #logs: LogFiles | undefined;
  readonly #stopCallbacks: (() => void)[] = [];
  #state: ServerState = "PRE_INITIALIZING";
  #prepared: Prepared | undefined;
  #staticClusterNames: { readonly of: Prepared; readonly names: ReadonlySet<string> } | undefined;
  #serverStats: ServerStats | undefined;
  #runtime = new RuntimeLayers(undefined);
  #clusters: MainClusters | undefined;
  #dynamic: DynamicConfig | undefined;
  #Remote: typeof Remote | undefined;
  #remote: Remote | undefined;
  #secretStats: SecretStats | undefined;
  readonly #secretWatch = new SecretWatch(() => this.#reloadSecrets());
  #workers: WorkerLink[] = [];
  #crashes: number[] = [];
  /** What each worker was last told to listen on, for its replacement. */
  #ports = new Map<string, number>();
  #reusePort = true;
  #admin: { readonly listener: WorkerListener; readonly address: string } | undefined;
  #healthFailed = false;
  #draining: { readonly kind: "gradual" | "immediate"; readonly inboundOnly: boolean } | undefined;
  #listenersStopped: { readonly inboundOnly: boolean } | undefined;
  #listenerAddresses = new Map<string, string>();
  #flushTimer: NodeJS.Timeout | undefined;
  #sinks: readonly StatsSink[] = [];
  #flushing = false;
  #lastUpdated = new Date();
  #stopping = false;
  #eventLoops: EventLoopSettings | undefined;
  #globalLimit: GlobalLimitSettings | undefined;
  #reloading: Promise<string> | undefined;

  constructor(options: Options, sink: LogSink) {
    this.options = options;
    this.#sink = sink;
    this.#mainStats = this.aggregate.attach("main");
    this.stats = new StatsStore(this.#mainStats);
  }

  get state(): ServerState {
    return this.#state;
  }
  get adminAddress(): string | undefined {
    return this.#admin?.address;
  }
  get prepared(): Prepared | undefined {
    return this.#prepared;
  }
  get lastUpdated(): Date {
    return this.#lastUpdated;
  }
  get runtime(): RuntimeLayers {
    return this.#runtime;
  }
  get dynamicSecrets(): AdminConfig["dynamicSecrets"] {
    const at = this.#secretStats?.updatedAt;
    const read = (this.#prepared?.secrets.dynamic ?? []).map((one) => ({ ...one, updatedAt: at?.get(one.key) ?? this.#lastUpdated }));
    return [...read, ...(this.#dynamic?.secrets.current ?? [])];
  }
  get dynamic(): DynamicConfig | undefined {
    return this.#dynamic;
  }
  get clusters(): MainClusters | undefined {
    return this.#clusters;
  }
  get workers(): readonly WorkerLink[] {
    return this.#workers;
  }
  /** Bound addresses by listener name, as /listeners prints them. */
  get listenerAddresses(): ReadonlyMap<string, string> {
    return this.#listenerAddresses;
  }
  get healthFailed(): boolean {
    return this.#healthFailed;
  }

  onStop(callback: () => void): void {
    this.#stopCallbacks.push(callback);
  }

  /**
   * Starts everything and returns once traffic is served. `beforeAdmin` runs before the admin address is bound (a parent gives it up then).
   * Throws StartError.
   */
  async start(beforeAdmin?: () => Promise<unknown>): Promise<void> {
    // Worker threads load their code while this one reads the configuration.
    this.#workers = Array.from({ length: this.options.concurrency }, (_, index) => this.#spawn(index));
    const { prepared, findings } = await prepare(this.options);
    if (prepared === undefined)
      throw new StartError(
        `error initializing config '${this.options.configPath}': ${findings.filter((f) => f.severity === "error").length} error(s)`,
        findings,
      );
    this.#prepared = prepared;
    for (const finding of findings)
      if (!this.options.skipDeprecatedLogs)
        getLogger("config").warning(`${finding.origin ? `${finding.origin.file}:${finding.origin.line}:${finding.origin.column}: ` : ""}${finding.text}`);
    log.info(`initializing epoch ${this.options.restartEpoch} (base id=${this.options.baseId})`);
    const { bootstrap } = prepared;
    this.aggregate.configure(bootstrap, this.options.statsTags);
    this.stats.setMatcher(compileStatsMatcher(bootstrap.statsConfig));
    // Not before the matcher, which may refuse its statistics.
    this.#logs = new LogFiles({ flushIntervalMs: this.options.fileFlushIntervalMs, flushMinBytes: this.options.fileFlushMinSizeKb * 1024, stats: this.stats });
    this.#serverStats = serverStats(this.stats, Number(bootstrap.statsServerVersionOverride ?? 0n));
    this.stats.counter("server.static_unknown_fields").add(prepared.unknownFields);
    this.stats.counter("runtime.deprecated_feature_use").add(prepared.deprecatedFields);
    if (prepared.logFormat !== undefined) this.onLogFormat(prepared.logFormat);
    this.#eventLoops = compileEventLoops(bootstrap, this.options.concurrency);
    this.#globalLimit = compileGlobalLimit(bootstrap, this.options.concurrency);
    this.#runtime = new RuntimeLayers(bootstrap.layeredRuntime, bootstrap.node?.cluster ?? "");
    this.onStop(this.#runtime.watch(() => this.#onRuntime()));
    this.#updateServerStats();
    const overload = new OverloadManager(prepared.overload, {
      stats: this.stats,
      runtime: this.#runtime,
      now: () => performance.now(),
      onChange: (actions) => this.#onOverload(actions, overload),
      shrinkHeap: (keepBytes) => {
        shrinkHeap(keepBytes);
        this.#toWorkers({ type: "shrink_heap", keepBytes });
      },
    });
    this.onStop(() => overload.stop());

    this.#clusters = new MainClusters({
      stats: this.stats,
      timers: this.#timers,
      runtime: this.#runtime,
      threads: this.options.concurrency + 1,
      onUpdate: (update) => {
        this.#toWorkers({ type: "hosts", update });
        this.#remote?.calls.updateHosts(update);
      },
      onHealth: (cluster) => {
        this.#toWorkers({ type: "host_health", cluster });
        this.#remote?.calls.refreshHealth(cluster);
      },
      onHealthFailure: (cluster, host) => this.#toWorkers({ type: "host_failed", cluster, host }),
      readStat: (name) => this.aggregate.value(name),
      outlierLog: this.#openOutlierLog(bootstrap.clusterManager?.outlierDetection?.eventLogPath ?? ""),
      setText: (name, value) => this.aggregate.setText(name, value),
      forget: (prefix) => {
        this.stats.forget(prefix);
        this.aggregate.forget(prefix);
      },
      subscribe: (source, subscriber) => this.#subscribe(source, subscriber),
      check: (message, locate) =>
        checkSupported(message, coreHonours, locate, {
          allowUnsupported: this.options.allowUnsupported,
          disabledExtensions: this.options.disabledExtensions,
        }),
    });
    this.#secretStats = new SecretStats(this.stats, (name, value) => this.aggregate.setText(name, value));
    this.#secretStats.took(prepared.secrets, undefined);
    this.#secretWatch.watch(prepared.secrets.places);
    this.onStop(() => this.#secretWatch.close());
    const context = this.#mainContext(prepared);
    this.#startSinks(prepared, context);
    await this.#loadRemote(prepared);
    const compiledClusters = (bootstrap.staticResources?.clusters ?? []).map((cluster) => compileCluster(cluster, context));
    // Those that management servers are reached through come first.
    const [secondary, primary] = [true, false].map((isSecondary) => compiledClusters.filter(({ eds }) => (eds !== undefined) === isSecondary));
    for (const cluster of primary) this.#clusters.add(cluster);
    const compiled = this.#startWorkers();
    if (beforeAdmin) await beforeAdmin();
    await this.#startAdmin(prepared);
    await Promise.all([compiled, this.#clusters.initialized]);
    await this.#startRuntimeDiscovery(prepared);
    for (const cluster of secondary) this.#clusters.add(cluster);
    await this.#clusters.initialized;
    const dynamic = this.#startDynamic(this.#clusters);
    if (prepared.dynamic.clusters !== undefined) {
      await dynamic.startClusters(prepared.dynamic.clusters);
      await this.#clusters.initialized;
    }
    log.info("all clusters initialized. initializing init manager");
    if (this.#stopping) return;
    this.#state = "INITIALIZING";
    this.#updateServerStats();
    const listeners = bootstrap.staticResources?.listeners ?? [];
    await Promise.all([
      dynamic.needOf([...listeners, ...this.#static.clusters]),
      prepared.dynamic.listeners && dynamic.startListeners(prepared.dynamic.listeners),
    ]);
    if (this.#stopping as boolean) return;
    await this.#choosePorts(listeners);
    await this.#listen();
    log.info("all dependencies initialized. starting workers");
    this.#state = "LIVE";
    this.#serverStats.started(listeners.length, this.options.concurrency);
    overload.start();
    if (prepared.loadStats !== undefined) {
      this.#remote ??= this.#startRemote();
      this.#remote.reportLoad(prepared.loadStats, {
        clusters: () => this.#clusters?.views() ?? [],
        read: (name) => this.aggregate.value(name),
        now: () => performance.now(),
      });
    }
    const watch = new EventLoopWatch(this.#eventLoops, -1, this.stats);
    this.onStop(() => watch.stop());
    if (bootstrap.flagsPath !== "" && existsSync(join(bootstrap.flagsPath, "drain"))) {
      log.warning("starting server in drain mode");
      this.setHealthFailed(true);
    }
    this.#serverStats.initialization_time_ms.record(Math.round(performance.now() - this.startedMs));
    this.#updateServerStats();
    const interval = durationMs(bootstrap.statsFlush.case === "statsFlushOnAdmin" ? undefined : bootstrap.statsFlushInterval, 5000);
    this.#flushTimer = setInterval(() => this.#flush(), interval);
    log.info("starting main dispatch loop");
  }

  /** Reads the configuration again. What changed, one line each; or why the old configuration goes on. */
  async reload(): Promise<string> {
    // Two triggers at once (SIGHUP and a file event) are one reload after the other.
    const run = (this.#reloading ?? Promise.resolve(""))
      .then(() => this.#reload())
      .then((said) => {
        if (said.startsWith("error")) this.events.emit("reload_refused", said);
        else this.events.emit("reloaded", said);
        return said;
      });
    this.#reloading = run.catch((error: unknown) => `error: ${String(error)}`);
    return this.#reloading;
  }

  drainListeners(options: { graceful: boolean; inboundOnly: boolean; skipExit?: boolean }): void {
    if (options.graceful) {
      this.events.emit("draining");
      this.#draining = { kind: this.options.drainStrategy === "Gradual" ? "gradual" : "immediate", inboundOnly: options.inboundOnly };
      this.#toWorkers({ type: "drain", ...this.#draining });
      if (options.skipExit === true) return;
      const timer = setTimeout(() => this.#stopListeners(options.inboundOnly), this.options.drainTimeS * 1000);
      timer.unref();
      this.onStop(() => clearTimeout(timer));
      return;
    }
    this.#stopListeners(options.inboundOnly);
  }

  setHealthFailed(failed: boolean): void {
    this.#healthFailed = failed;
    this.#toWorkers({ type: "health_failed", failed });
    this.#updateServerStats();
  }

  setLogLevels(changes: readonly (readonly [Component, Level])[]): void {
    for (const [component, level] of changes) getLogger(component).level = level;
    this.#toWorkers({ type: "log_levels", levels: changes });
  }

  /** Throws a RuntimeRefusal, having changed nothing. */
  modifyRuntime(changes: ReadonlyMap<string, string>): void {
    this.#runtime.modify(changes);
    this.#onRuntime();
  }

  #onRuntime(): void {
    this.#toWorkers({ type: "runtime", values: this.#runtime.merged });
    this.#updateServerStats();
  }

  #onOverload(actions: ReadonlySet<ActionName>, overload: OverloadManager): void {
    for (const action of actions) log.debug(`overload action ${action}: ${Math.round(overload.value(action) * 100)} per cent`);
    // The rest is asked for when it matters.
    if (actions.has("envoy.overload_actions.stop_accepting_connections") || actions.has("envoy.overload_actions.reset_high_memory_stream"))
      this.#toWorkers({ type: "overload" });
  }

  reopenLogs(): void {
    this.#logs?.reopen();
    this.#toWorkers({ type: "reopen_logs" });
  }

  /** Brings gauges up to date that are read, not counted. */
  refreshStats(): void {
    this.#updateServerStats();
    this.#clusters?.refresh();
  }

  /** A flush now, as the timer does it: histograms of all threads are merged when it resolves. */
  async flushStats(): Promise<void> {
    this.#updateServerStats();
    await this.#flushHistograms();
    await this.#flushSinks();
  }

  /** Asks the workers for their histograms and merges when all have answered (or a second has passed). */
  async #flushHistograms(): Promise<void> {
    await Promise.race([
      Promise.all(this.#workers.map((link) => this.#answer(link, "histograms", () => link.send({ type: "flush_histograms" })))),
      new Promise((resolve) => setTimeout(resolve, 1000).unref()),
    ]);
    // The main thread's own: initialization time, the admin interface.
    this.#mainStats.recordHistograms(
      this.stats.histograms
        .filter((histogram) => !histogram.isEmpty)
        .map((histogram) => [histogram.name, histogram.unit, histogram.take(), histogram.takeValues()] as const),
    );
    this.aggregate.flush();
  }

  /** All sinks get the same picture. */
  async #flushSinks(): Promise<void> {
    if (this.#sinks.length === 0) return;
    this.#clusters?.refresh();
    const picture = this.aggregate.takePicture();
    await Promise.all(this.#sinks.map((sink) => sink.flush(picture)));
  }

  #startSinks(prepared: Prepared, context: ServingContext): void {
    const environment = {
      // Connections belong to workers; one of them is enough.
      sendToCluster: (cluster: string, text: string) => {
        if (this.#state === "LIVE") this.#workers[0].send({ type: "sink_text", cluster, text });
      },
      warn: (text: string) => log.warning(text),
    };
    this.#sinks = compileSinks(prepared.bootstrap, context).map((factory) => factory(environment));
    if (this.#sinks.length > 0) this.stats.keepValues();
  }

  async stopAdmin(): Promise<void> {
    this.#admin?.listener.close();
    this.#admin = undefined;
  }

  /** Ends at once, as SIGTERM does with Envoy: logs are written, connections closed. */
  async stop(): Promise<void> {
    if (this.#stopping) return;
    this.#stopping = true;
    log.info("shutting down server instance");
    if (this.#flushTimer !== undefined) {
      clearInterval(this.#flushTimer);
      // What sinks have not been told yet.
      if (this.#sinks.length > 0 && this.#flushesByTimer) await this.flushStats();
    }
    for (const callback of this.#stopCallbacks) callback();
    const workers = this.#workers;
    for (const link of workers) {
      if (link.begun) link.send({ type: "stop" });
      else void link.terminate();
    }
    await Promise.race([Promise.all(workers.map((link) => link.gone)), new Promise((resolve) => setTimeout(resolve, 5000).unref())]);
    await Promise.all(workers.map((link) => link.terminate()));
    for (const sink of this.#sinks) sink.close();
    this.#clusters?.close();
    await this.stopAdmin();
    this.#timers.stop();
    this.#logs?.flushSync();
    log.info("exiting");
    this.events.emit("stopped");
  }

  // ---- start ----------------------------------------------------------------------------------------------------------

  #contextParts(prepared: Prepared): ContextParts {
    return {
      extensions: prepared.extensions,
      stats: this.stats,
      runtime: this.#runtime,
      timers: this.#timers,
      clusterDefaults: clusterDefaults(prepared.bootstrap),
      clusters: { get: () => undefined },
      clusterNames: this.#clusterNames(prepared),
      secrets: this.#secrets,
      node: prepared.node,
      headerPrefix: prepared.headerPrefix,
      options: {
        fileFlushIntervalMs: this.options.fileFlushIntervalMs,
        fileFlushMinBytes: this.options.fileFlushMinSizeKb * 1024,
        concurrency: this.options.concurrency,
      },
    };
  }

  /** Of the bootstrap. */
  #fixedClusterNames(prepared: Prepared): ReadonlySet<string> {
    if (this.#staticClusterNames?.of !== prepared) {
      const names = (prepared.bootstrap.staticResources?.clusters ?? []).map(({ name }) => name);
      this.#staticClusterNames = { of: prepared, names: new Set(names) };
    }
    return this.#staticClusterNames.names;
  }

  /** As they are when they are asked for: there can be many, and a context is made for each resource. */
  #clusterNames(prepared: Prepared): ClusterNames {
    const fixed = this.#fixedClusterNames(prepared);
    const dynamic = this.#dynamic?.clusters;
    return {
      has: (name) => fixed.has(name) || dynamic?.has(name) === true,
      *[Symbol.iterator]() {
        yield* fixed;
        yield* dynamic?.names() ?? [];
      },
    };
  }

  #mainContext(prepared: Prepared): ServingContext {
    return new ServingContext(this.#contextParts(prepared), {
      workerIndex: -1,
      files: prepared.files,
      openLog: (target) => (this.#logs as LogFiles).open(target),
      onProblem: (text) => log.warning(text),
    });
  }

  // ---- discovery --------------------------------------------------------------------------------------------------------

  #startDynamic(clusters: MainClusters): DynamicConfig {
    const dynamic = new DynamicConfig({
      stats: this.stats,
      clusters,
      concurrency: this.options.concurrency,
      drainTimeMs: this.options.drainTimeS * 1000,
      subscribe: (source, subscriber) => this.#subscribe(source, subscriber),
      setText: (name, value) => this.aggregate.setText(name, value),
      isStaticCluster: (name) => this.#fixedClusterNames(this.#prepared as Prepared).has(name),
      isStaticListener: (name) => this.#static.listeners.some((listener) => listener.name === name),
      validate: (resource, compile) => this.#validate(resource, compile),
      hasSecret: (key) => this.#prepared?.secrets.byKey.has(key) === true,
      validateSecrets: (resource, secrets, key) => this.#validateSecrets(resource, secrets, key),
      applySecret: (key, files) => this.#applySecret(key, files),
      context: () => this.#mainContext(this.#prepared as Prepared),
      apply: (update) => this.#apply(update),
      claim: (listener) => this.#choosePorts([listener]),
      released: (listener) => void this.#listenerAddresses.delete(listener),
    });
    this.#dynamic = dynamic;
    this.onStop(() => dynamic.close());
    return dynamic;
  }

  async #startRuntimeDiscovery({ runtimeSubscriptions }: Prepared): Promise<void> {
    const subscriptions = await startRuntimeDiscovery(runtimeSubscriptions, {
      stats: this.stats,
      runtime: this.#runtime,
      subscribe: (source, subscriber) => this.#subscribe(source, subscriber),
      setText: (name, value) => this.aggregate.setText(name, value),
      changed: () => this.#onRuntime(),
    });
    this.onStop(() => {
      for (const subscription of subscriptions) subscription.close();
    });
  }

  /** Listeners and clusters of the bootstrap. */
  get #static(): { readonly listeners: readonly Listener[]; readonly clusters: readonly Cluster[] } {
    const resources = this.#prepared?.bootstrap.staticResources;
    return { listeners: resources?.listeners ?? [], clusters: resources?.clusters ?? [] };
  }

  #subscribe(source: XdsSource, subscriber: Subscriber): Subscription {
    const { rejectUnknownDynamicFields, ignoreUnknownDynamicFields } = this.options;
    const unknownFields: UnknownFields = {
      policy: rejectUnknownDynamicFields ? "reject" : ignoreUnknownDynamicFields ? "ignore" : "warn",
      counted: (fields) => this.stats.counter("server.dynamic_unknown_fields").add(fields),
    };
    if (source.kind === "file") return new FileSubscription(source, subscriber, unknownFields);
    this.#remote ??= this.#startRemote();
    return this.#remote.subscribe(source, subscriber, unknownFields);
  }

  /** The node as management servers are told of it. */
  nodeMessage(): object {
    const { disabledExtensions } = this.options;
    return nodeMessage({ version: versionString(), disabledExtensions, node: this.#prepared?.bootstrap.node });
  }

  #startRemote(): Remote {
    const Loaded = this.#Remote as typeof Remote;
    const remote = new Loaded({
      stats: this.stats,
      timers: this.#timers,
      runtime: this.#runtime,
      concurrency: this.options.concurrency,
      members: this.#clusters as MainClusters,
      message: (name) => this.#static.clusters.find((cluster) => cluster.name === name),
      context: () => this.#mainContext(this.#prepared as Prepared),
      node: () => this.nodeMessage(),
      setText: (name, value) => this.aggregate.setText(name, value),
      ads: () => this.#prepared?.dynamic.ads,
    });
    this.onStop(() => remote.close());
    return remote;
  }

  /** What talks to management servers is loaded only where there are some. */
  async #loadRemote({ bootstrap }: Prepared): Promise<void> {
    let isNeeded = false;
    walkMessages(bootstrap, ({ message }) => {
      if (message.$typeName !== "envoy.config.core.v3.ConfigSource") return !isNeeded;
      const kind = (message as unknown as ConfigSource).configSourceSpecifier.case;
      isNeeded ||= kind !== "path" && kind !== "pathConfigSource";
      return false;
    });
    if (isNeeded || bootstrap.clusterManager?.loadStatsConfig !== undefined) this.#Remote = (await import("./remote.ts")).Remote;
  }

  /** Whether a resource is good, as its own configuration would be: throws an Error that says what is not. The files it names. */
  async #validate(resource: Resource, compile: (context: CompileContext) => void): Promise<ReadonlyMap<string, Uint8Array>> {
    const { message, problems, locate } = resource;
    if (problems.length > 0) throw new Error(describeFindings(problems));
    const prepared = this.#prepared as Prepared;
    const { extensions } = prepared;
    await extensions.load(collectMessageTypes(message));
    await extensions.prepare(message, (inner) => locate(inner)?.file ?? "");
    const honours = [...coreHonours, ...[...extensions.values()].map((extension) => extension.honours)];
    const { allowUnsupported, disabledExtensions } = this.options;
    const findings = checkSupported(message, honours, locate, { allowUnsupported, disabledExtensions });
    const context = new ValidatingContext({ ...this.#contextParts(prepared), stats: new StatsStore() }, resource, allowUnsupported);
    compile(context);
    checkManagementServers(message, context);
    const errors = [...findings, ...context.findings].filter(({ severity }) => severity === "error");
    if (errors.length > 0) throw new Error(describeFindings(errors));
    return context.files;
  }

  /** Everything that is there or about to be, and names a secret. */
  #naming(key: string): { readonly listeners: readonly Listener[]; readonly clusters: readonly Cluster[] } {
    const names = (resource: object): boolean => {
      let found = false;
      walkMessages(resource, ({ message }) => {
        found ||= message.$typeName === secretConfigType && secretKey(message as unknown as SdsSecretConfig) === key;
        return !found;
      });
      return found;
    };
    const { listeners, clusters } = this.#static;
    return {
      listeners: [...listeners, ...(this.#dynamic?.listeners.active ?? []).map(({ message }) => message)].filter(names),
      clusters: [...clusters, ...(this.#dynamic?.clusters.active ?? []).map(({ message }) => message)].filter(names),
    };
  }

  async #validateSecrets(resource: Resource | undefined, secrets: ReadonlyMap<string, Secret>, key: string): Promise<ReadonlyMap<string, Uint8Array>> {
    const files = resource === undefined ? new Map<string, Uint8Array>() : await this.#validate(resource, () => {});
    const prepared = this.#prepared as Prepared;
    const parts = { ...this.#contextParts(prepared), stats: new StatsStore(), secrets: new Map([...prepared.secrets.byKey, ...secrets]) };
    const nowhere = { locate: () => undefined, isBroken: () => false };
    const context = new ValidatingContext(parts, nowhere, this.options.allowUnsupported);
    const { listeners, clusters } = this.#naming(key);
    for (const listener of listeners) compileListener(listener, context);
    for (const cluster of clusters) compileCluster(cluster, context);
    const errors = context.findings.filter(({ severity }) => severity === "error");
    if (errors.length > 0) throw new Error(describeFindings(errors));
    return new Map([...files, ...context.files]);
  }

  async #applySecret(key: string, files: ReadonlyMap<string, Uint8Array>): Promise<void> {
    const { listeners, clusters } = this.#naming(key);
    const hosts = this.#clusters?.snapshot(clusters.map(({ name }) => name)) ?? [];
    await this.#apply({ secrets: this.#secrets, files, listeners, clusters, hosts });
  }

  /** All that are known, by key. */
  get #secrets(): ReadonlyMap<string, Secret> {
    return new Map([...(this.#prepared?.secrets.byKey ?? []), ...(this.#dynamic?.secrets.byKey ?? [])]);
  }

  /** Tells the workers of changes; resolves when all have them in force. */
  async #apply(update: Partial<ConfigUpdate>): Promise<void> {
    const nothing: ConfigUpdate = {
      clusters: [],
      removedClusters: [],
      hosts: [],
      listeners: [],
      removedListeners: [],
      routes: [],
      scopes: [],
      files: new Map(),
      secrets: undefined,
    };
    const message = { type: "update", update: { ...nothing, ...update }, ports: this.#ports, reusePort: this.#reusePort } as const;
    await Promise.all(this.#workers.map((link) => (link.begun ? this.#answer(link, "updated", () => link.send(message)) : undefined)));
    for (const cluster of update.removedClusters ?? []) this.aggregate.forget(hostStatsOf(cluster));
    this.#updateServerStats();
  }

  #openOutlierLog(path: string): LogWriter | undefined {
    if (path === "") return undefined;
    try {
      return this.#logs?.open({ kind: "file", path });
    } catch (error) {
      throw new StartError(`cannot open the log of outlier detection (cluster_manager.outlier_detection.event_log_path): ${(error as Error).message}`);
    }
  }

  #workerConfig(prepared: Prepared): WorkerConfig {
    const clusters = this.#dynamic?.clusters.active ?? [];
    const listeners = this.#dynamic?.listeners.active ?? [];
    const routes = this.#dynamic?.routes.current() ?? new Map();
    return {
      listeners: [...(prepared.bootstrap.staticResources?.listeners ?? []), ...listeners.map(({ message }) => message)],
      clusters: [...(prepared.bootstrap.staticResources?.clusters ?? []), ...clusters.map(({ message }) => message)],
      clusterDefaults: clusterDefaults(prepared.bootstrap),
      files: new Map([...prepared.files, ...[...listeners, ...clusters, ...routes.values()].flatMap(({ files }) => [...files])]),
      scopes: this.#dynamic?.scopes.current() ?? new Map(),
      routes: new Map([...routes].map(([key, { message }]) => [key, message])),
      secrets: this.#secrets,
      node: prepared.node,
      headerPrefix: prepared.headerPrefix,
    };
  }

  #spawn(index: number): WorkerLink {
    return new WorkerLink(index, this.aggregate, this.#sink, {
      onMessage: (link, message) => this.#onWorkerMessage(link, message),
      onCrash: (link) => void this.#replace(link),
    });
  }

  #workerStart(index: number): WorkerStart {
    const prepared = this.#prepared as Prepared;
    return {
      index,
      concurrency: this.options.concurrency,
      config: this.#workerConfig(prepared),
      hosts: this.#clusters?.snapshot() ?? [],
      runtime: this.#runtime.merged,
      logLevels: components.map((component) => [component, getLogger(component).level] as const),
      fileFlushIntervalMs: this.options.fileFlushIntervalMs,
      fileFlushMinBytes: this.options.fileFlushMinSizeKb * 1024,
      statsConfig: prepared.bootstrap.statsConfig,
      keepsValues: this.#sinks.length > 0,
      drainTimeMs: this.options.drainTimeS * 1000,
      drainStrategy: this.options.drainStrategy,
      eventLoops: this.#eventLoops as EventLoopSettings,
      globalLimit: this.#globalLimit as GlobalLimitSettings,
      overload: prepared.overload.settings,
    };
  }

  /** Resolves when every worker has compiled. */
  async #startWorkers(): Promise<void> {
    await Promise.all(this.#workers.map((link) => this.#answer(link, "compiled", () => link.begin(this.#workerStart(link.index)))));
  }

  /** A worker died: another takes its place and listens on the same ports; the others never stopped accepting. */
  async #replace(dead: WorkerLink): Promise<void> {
    if (this.#stopping) return;
    const now = performance.now();
    this.#crashes = this.#crashes.filter((at) => now - at < 60_000);
    this.#crashes.push(now);
    this.#serverStats?.worker_restarts.inc();
    if (this.#crashes.length > maxCrashesPerMinute) {
      log.critical(`${this.#crashes.length} workers ended within a minute: giving up`);
      this.onFatal();
      return;
    }
    this.#clusters?.clearWorker(dead.index);
    const link = this.#spawn(dead.index);
    this.#workers[dead.index] = link;
    if (!dead.begun) return; // it died before there was a configuration; this one waits for it
    await this.#answer(link, "compiled", () => link.begin(this.#workerStart(link.index)));
    if (this.#state === "PRE_INITIALIZING" || this.#state === "INITIALIZING") return;
    if (this.#healthFailed) link.send({ type: "health_failed", failed: true });
    if (this.#draining) link.send({ type: "drain", ...this.#draining });
    if (!this.#listenersStopped) link.send({ type: "listen", ports: this.#ports, reusePort: this.#reusePort });
    this.events.emit("worker_restarted", dead.index);
  }

  /**
   * Decides ports before workers bind. All workers share an address through SO_REUSEPORT, which would also let a second proxy share it
   * unnoticed; so at epoch 0 each address is first bound alone. Port 0 becomes a number here, the same for every worker.
   */
  async #choosePorts(listeners: readonly Listener[]): Promise<void> {
    for (const listener of listeners) {
      if (listener.bindToPort === false) continue;
      for (const one of [listener, ...listener.additionalAddresses]) {
        const path = parseAddressMessage(one.address);
        if (path?.kind === "pipe" && !path.path.startsWith("@")) rmSync(path.path, { force: true });
      }
      const address = parseAddressMessage(listener.address);
      if (address === undefined || address.kind === "pipe") continue;
      // Such an address needs not be this machine's; whoever else has it says so when the workers bind it.
      if ((listener.freebind === true || listener.transparent === true) && address.port !== 0) continue;
      if (this.options.restartEpoch > 0 && address.port !== 0) continue;
      try {
        const port = await probe(address.ip, address.port);
        if (address.port === 0) this.#ports.set(listener.name, port);
      } catch (error) {
        throw new StartError(describeListenError(listener.name, formatAddress(address), error as NodeJS.ErrnoException));
      }
    }
  }

  async #listen(): Promise<void> {
    const all = this.#workers.map((link) =>
      this.#answer(link, "listening", () => link.send({ type: "listen", ports: this.#ports, reusePort: this.#reusePort })),
    );
    const failed = new Promise<never>((_, reject) => {
      this.#onListenFailed = reject;
    });
    await Promise.race([Promise.all(all), failed]);
    this.#onListenFailed = undefined;
  }
  #onListenFailed: ((error: StartError) => void) | undefined;

  async #startAdmin(prepared: Prepared): Promise<void> {
    const message = adminListenerMessage(prepared.bootstrap);
    if (message === undefined) return;
    // Loaded already, with the extensions that the configuration names; a proxy without the interface never loads it.
    const { bindAdminServer } = await import("../admin/config.ts");
    bindAdminServer(adminServerOf(this));
    const listener = new WorkerListener(compileListener(message, this.#mainContext(prepared)), {
      stats: this.stats,
      timers: this.#timers,
      workerIndex: -1,
      drainClose: () => false,
      drainTimeMs: 0,
    });
    const address = parseAddressMessage(message.address);
    const text = address === undefined ? "" : formatAddress(address);
    if (address?.kind === "ip" && !/^(127\.|::1$)/.test(address.ip))
      getLogger("admin").warning(`the admin interface listens on ${text}: whoever reaches it can change and stop this proxy; bind it to 127.0.0.1`);
    log.info(`Starting admin HTTP server at ${text}`);
    try {
      const [bound] = await listener.listen({ reusePort: false, port: undefined });
      this.#admin = { listener, address: bound };
      getLogger("admin").info(`admin address: ${bound}`);
    } catch (error) {
      throw new StartError(describeListenError("admin", text, error as NodeJS.ErrnoException));
    }
  }

  // ---- running ---------------------------------------------------------------------------------------------------------

  #toWorkers(message: Parameters<WorkerLink["send"]>[0]): void {
    for (const link of this.#workers) link.send(message);
  }

  readonly #waiting: { readonly link: WorkerLink; readonly type: FromWorker["type"]; readonly resolve: (message: FromWorker) => void }[] = [];

  /** The next message of a kind from one worker. */
  #answer(link: WorkerLink, type: FromWorker["type"], ask?: () => void): Promise<FromWorker | undefined> {
    const answer = new Promise<FromWorker>((resolve) => this.#waiting.push({ link, type, resolve }));
    ask?.();
    return Promise.race([answer, link.gone.then(() => undefined)]);
  }

  #onWorkerMessage(link: WorkerLink, message: FromWorker): void {
    if (message.type === "listening") for (const [listener, address] of message.addresses) this.#listenerAddresses.set(listener, address);
    if (message.type === "listen_failed") {
      const error = new StartError(describeListenError(message.listener, message.address, { name: "Error", message: message.message, code: message.code }));
      if (this.#onListenFailed) this.#onListenFailed(error);
      else log.error(error.message);
    }
    if (message.type === "host_event") this.#clusters?.hostEvent(message.cluster, message.host, message.event);
    if (message.type === "hosts_used") this.#clusters?.hostsUsed(message.cluster, message.fresh, message.used);
    const at = this.#waiting.findIndex((w) => w.link === link && w.type === message.type);
    if (at >= 0) this.#waiting.splice(at, 1)[0].resolve(message);
  }

  #stopListeners(inboundOnly: boolean): void {
    this.#listenersStopped = { inboundOnly };
    this.#toWorkers({ type: "stop_listeners", inboundOnly });
    this.#serverStats?.listeners_stopped();
  }

  /** With stats_flush_on_admin, sinks hear only when the admin interface is asked. */
  get #flushesByTimer(): boolean {
    return this.#prepared?.bootstrap.statsFlush.case !== "statsFlushOnAdmin";
  }

  /** The timer's flush; one that meets the one before still at work is left out. */
  #flush(): void {
    if (this.#flushing) {
      this.stats.counter("server.dropped_stat_flushes").inc();
      return;
    }
    this.#flushing = true;
    this.#updateServerStats();
    const done = this.#flushesByTimer ? this.#flushHistograms().then(() => this.#flushSinks()) : this.#flushHistograms();
    void done.finally(() => {
      this.#flushing = false;
    });
  }

  /** Gauges that are read, not counted. */
  #updateServerStats(): void {
    this.#serverStats?.update({
      state: this.#state,
      healthFailed: this.#healthFailed,
      concurrency: this.options.concurrency,
      uptimeS: (performance.now() - this.startedMs) / 1000,
      epoch: this.options.restartEpoch,
      runtime: this.#runtime,
      listeners: this.#static.listeners.length + (this.#dynamic?.listeners.active.length ?? 0),
      clusters: this.#static.clusters.length + (this.#dynamic?.clusters.active.length ?? 0),
      workersStarted: this.#state === "LIVE",
    });
  }

  /** Files with secrets have changed: what names them is compiled again, with the configuration as it was read before. */
  #reloadSecrets(): void {
    const run = (this.#reloading ?? Promise.resolve("")).then(async () => {
      const before = this.#prepared;
      if (before === undefined) return "";
      const said = await this.#reload(() => prepareLoaded(before.loaded, this.options));
      if (said.startsWith("error")) this.#secretStats?.refused(before.secrets);
      return said;
    });
    this.#reloading = run.catch((error: unknown) => `error: ${String(error)}`);
  }

  async #reload(again: () => Promise<PrepareResult> = () => prepare(this.options)): Promise<string> {
    const before = this.#prepared;
    if (before === undefined || this.#stopping) return "error: the server is not running";
    const config = getLogger("config");
    const { prepared, findings } = await again();
    if (prepared === undefined) {
      const errors = findings.filter((f) => f.severity === "error");
      for (const finding of errors)
        config.error(`${finding.origin ? `${finding.origin.file}:${finding.origin.line}:${finding.origin.column}: ` : ""}${finding.text}`);
      config.error(`reload refused: ${errors.length} error(s); the old configuration goes on`);
      return `error: ${errors.length} error(s), the old configuration goes on\n${errors.map((f) => `${f.origin ? `${f.origin.file}:${f.origin.line}:${f.origin.column}: ` : ""}${f.text}`).join("\n")}`;
    }
    const name = (x: { name: string }): string => x.name;
    const resources = (p: Prepared) => ({ listeners: p.bootstrap.staticResources?.listeners ?? [], clusters: p.bootstrap.staticResources?.clusters ?? [] });
    const same = (a: object, b: object): boolean =>
      fingerprint(a, before.files, withSecrets(before.secrets.byKey)) === fingerprint(b, prepared.files, withSecrets(prepared.secrets.byKey));
    const listeners = changesBetween(resources(before).listeners, resources(prepared).listeners, name, same);
    const clusters = changesBetween(resources(before).clusters, resources(prepared).clusters, name, same);
    const said = [...describeChanges("listeners", listeners, name), ...describeChanges("clusters", clusters, name)];
    const files = [...prepared.files]
      .filter(([path, contents]) => Buffer.compare(contents, before.files.get(path) ?? new Uint8Array()) !== 0)
      .map(([path]) => path);
    if (files.length > 0) said.push(`files: changed ${files.join(", ")}`);
    const fixed = [
      "admin",
      "layeredRuntime",
      "statsConfig",
      "statsSinks",
      "overloadManager",
      "node",
      "clusterManager",
      "typedDnsResolverConfig",
      "dnsResolutionConfig",
    ] as const;
    const restart = fixed.filter((field) => fingerprint(before.bootstrap[field]) !== fingerprint(prepared.bootstrap[field]));
    if (restart.length > 0) said.push(`not changed until a restart: ${restart.join(", ")}`);
    this.#secretStats?.took(prepared.secrets, before.secrets);
    this.#secretWatch.watch(prepared.secrets.places);
    if (said.length === 0) {
      this.#prepared = prepared;
      config.info("reload: nothing changed");
      return "nothing changed";
    }
    try {
      await this.#choosePorts([
        ...listeners.added,
        ...listeners.updated.filter((l) => fingerprint(l.address) !== fingerprint(resources(before).listeners.find((o) => o.name === l.name)?.address)),
      ]);
    } catch (error) {
      config.error(`reload refused: ${(error as Error).message}; the old configuration goes on`);
      return `error: ${(error as Error).message}; the old configuration goes on`;
    }
    await this.#loadRemote(prepared);
    this.#prepared = prepared;
    this.#lastUpdated = new Date();
    const context = this.#mainContext(prepared);
    for (const cluster of [...clusters.added, ...clusters.updated]) this.#clusters?.add(compileCluster(cluster, context));
    const changedClusters = [...clusters.added, ...clusters.updated];
    await Promise.all(changedClusters.map((cluster) => this.#clusters?.ready(name(cluster))));
    await this.#dynamic?.needOf([...resources(prepared).listeners, ...resources(prepared).clusters]);
    await this.#apply({
      clusters: changedClusters,
      removedClusters: clusters.removed.map(name),
      hosts: this.#clusters?.snapshot(changedClusters.map(name)) ?? [],
      listeners: [...listeners.added, ...listeners.updated],
      removedListeners: listeners.removed.map(name),
      files: prepared.files,
      secrets: this.#secrets,
    });
    for (const cluster of clusters.removed) this.#clusters?.remove(cluster.name);
    for (const listener of listeners.removed) this.#listenerAddresses.delete(listener.name);
    this.#serverStats?.reloaded(listeners, clusters);
    this.#updateServerStats();
    for (const line of said) config.info(`reload: ${line}`);
    return said.join("\n");
  }
}

function describeListenError(name: string, address: string, error: NodeJS.ErrnoException): string {
  const reasons: Record<string, string> = {
    EADDRINUSE: "Address already in use",
    EACCES: "Permission denied (ports below 1024 need a privilege)",
    EADDRNOTAVAIL: "Cannot assign requested address (no such address on this machine)",
  };
  return `error adding listener '${name}': cannot bind '${address}': ${reasons[error.code ?? ""] ?? error.message}`;
}

/** Binds an address alone and lets go; the port it got. */
function probe(host: string, port: number): Promise<number> {
  return new Promise((resolve, reject) => {
    const server = createServer();
    server.once("error", reject);
    server.listen({ host, port, exclusive: true }, () => {
      const bound = server.address();
      server.close(() => resolve(typeof bound === "object" && bound !== null ? bound.port : port));
    });
  });
}
