/** A plugin of the configuration: its settings, the VM that it runs in on this thread, and what happens when that fails. */
import { createHash } from "node:crypto";
import { GrpcClient } from "../../grpc/client.ts";
import { isFieldName, malformedRequest, safeFieldValue } from "../../http/field-rules.ts";
import { appendField } from "../../http/field-writing.ts";
import { RequestHeaders } from "../../http/header-map.ts";
import { levels } from "../../log/log.ts";
import type { TimerWheel } from "../../net/timer-wheel.ts";
import type { Counter, Gauge, StatsStore } from "../../stats/stats.ts";
import type { AsyncResult, ThreadLocalClusters } from "../../upstream/upstream.ts";
import { type FieldMap, log, RootContext, type WasmContext } from "./context.ts";
import { HeadFields } from "./fields.ts";
import type { GrpcRequest } from "./host-functions.ts";
import { GuestMetrics } from "./metrics.ts";
import { type VmSettings, WasmLoadError, WasmVm } from "./vm.ts";
import { readFields } from "./wire.ts";

export type FailurePolicy = "fail_closed" | "fail_open" | "fail_reload";

export interface PluginSettings {
  readonly name: string;
  readonly rootId: string;
  readonly configuration: Buffer;
  readonly failurePolicy: FailurePolicy;
  /** Between two attempts to have a failed VM anew, milliseconds. */
  readonly reloadBackoffMs: number;
  readonly allowOnHeadersStopIteration: boolean;
  readonly vm: VmSettings;
}
/** What a plugin needs of its thread. */
export interface PluginEnvironment {
  readonly node: { readonly id: string; readonly cluster: string; readonly zone: string };
  readonly timers: TimerWheel;
  readonly clusters: ThreadLocalClusters;
  readonly stats: StatsStore;
}

/** Timers cannot wait longer, milliseconds. */
const longestMs = 0x7fff0000;
/** Answers larger than this are given up, bytes. */
const maxResponseBytes = 16 * 1024 * 1024;

/** VMs of this thread that plugins share: those of the same id, code and configuration. */
const sharedVms = new Map<string, WeakRef<WasmVm>>();
const collected = new FinalizationRegistry<() => void>((release) => release());

export interface Running {
  readonly vm: WasmVm;
  readonly root: RootContext;
}

export class WasmPlugin {
  readonly settings: PluginSettings;
  readonly node: PluginEnvironment["node"];
  readonly timers: TimerWheel;
  readonly clusters: ThreadLocalClusters;
  readonly metrics: GuestMetrics;
  /** 0: unspecified; of the listener, where that is known. */
  readonly direction = 0;
  readonly #module: () => WebAssembly.Module;
  readonly #codeKey: string;
  readonly #active: Gauge;
  readonly #created: Counter;
  readonly #reload: Readonly<Record<"all" | "success" | "failure" | "backoff", Counter>>;
  #running: Running | undefined = undefined;
  /** Not tried again before this moment, performance.now() milliseconds. */
  #retryAtMs = 0;
  #everRan = false;

  /** `module` compiles the code; it throws where that is no module. */
  constructor(settings: PluginSettings, module: () => WebAssembly.Module, codeKey: string, environment: PluginEnvironment) {
    this.settings = settings;
    this.node = environment.node;
    this.timers = environment.timers;
    this.clusters = environment.clusters;
    const { stats } = environment;
    this.metrics = metricsOf(stats);
    this.#module = module;
    this.#codeKey = codeKey;
    this.#active = stats.gauge("wasm.envoy.wasm.runtime.v8.active");
    this.#created = stats.counter("wasm.envoy.wasm.runtime.v8.created");
    const own = `wasm.${settings.name}.vm_reload`;
    this.#reload = {
      all: stats.counter(own),
      success: stats.counter(`${own}_success`),
      failure: stats.counter(`${own}_failure`),
      backoff: stats.counter(`${own}_backoff`),
    };
  }

  get name(): string {
    return this.settings.name;
  }
  get rootId(): string {
    return this.settings.rootId;
  }
  get vmId(): string {
    return this.settings.vm.vmId;
  }
  get configuration(): Buffer {
    return this.settings.configuration;
  }

  /** Begins a call of the module's; its token, or undefined where the service names no cluster. */
  grpcCall(context: WasmContext, request: GrpcRequest): number | undefined {
    const cluster = clusterOf(request.service);
    if (this.clusters.get(cluster) === undefined) return undefined;
    const { vm } = context;
    const token = vm.nextToken();
    const client = new GrpcClient(this.clusters, {
      cluster,
      authority: "",
      timeoutMs: Math.min(request.timeoutMs, longestMs),
      initialMetadata: undefined,
      maxReceiveBytes: maxResponseBytes,
      skipEnvoyHeaders: false,
    });
    // The module is not told before it knows its token, nor after it has gone.
    const tell = (last: boolean, name: string, argument: number): void =>
      vm.afterCall(() => {
        if (vm.failed || !context.calls.has(token) || !vm.contexts.has(context.id)) return;
        if (last) context.calls.delete(token);
        vm.call(context, name, context.id, token, argument);
      });
    const isUnary = request.message !== undefined;
    const stream = client.stream(
      request.name,
      request.method,
      {
        modifyHeaders: (headers) => {
          const pairs = request.metadata ?? [];
          for (let i = 0; i < pairs.length; i += 2)
            if (isFieldName(pairs[i]) && pairs[i].charCodeAt(0) !== 58) headers.add(pairs[i].toLowerCase(), safeFieldValue(pairs[i + 1]));
        },
      },
      {
        onInitialMetadata: (headers) => {
          context.grpcInitialMetadata = new HeadFields(headers);
          if (!isUnary) tell(false, "proxy_on_grpc_receive_initial_metadata", headers.size);
        },
        onMessage: (message) => {
          const kept = Buffer.from(message);
          vm.afterCall(() => {
            context.grpcMessage = kept;
            tell(isUnary, "proxy_on_grpc_receive", kept.length);
            context.grpcMessage = undefined;
          });
        },
        onClose: (status, trailers) => {
          context.statusCode = status.code;
          context.statusMessage = status.message;
          if (trailers !== undefined && !isUnary) {
            context.grpcTrailingMetadata = new HeadFields(trailers);
            tell(false, "proxy_on_grpc_receive_trailing_metadata", trailers.size);
          }
          tell(true, "proxy_on_grpc_close", status.code);
        },
      },
    );
    context.calls.set(token, {
      cancel: () => stream.reset(),
      ...(!isUnary && {
        send: (message: Buffer, end: boolean) => {
          stream.send(message);
          if (end) stream.end();
        },
        close: () => stream.end(),
      }),
    });
    if (request.message !== undefined) {
      stream.send(request.message);
      stream.end();
    }
    return token;
  }

  /** The plugin at work; undefined: it failed, and what its policy says is to be done. */
  acquire(): Running | undefined {
    const running = this.#running;
    if (running !== undefined && !running.vm.failed) return running;
    if (!this.#everRan) return this.start() ? this.#running : undefined;
    if (this.settings.failurePolicy !== "fail_reload") return undefined;
    const now = performance.now();
    if (now < this.#retryAtMs) {
      this.#reload.backoff.inc();
      return undefined;
    }
    this.#reload.all.inc();
    this.#retryAtMs = now + this.settings.reloadBackoffMs;
    if (this.start()) {
      this.#reload.success.inc();
      return this.#running;
    }
    this.#reload.failure.inc();
    return undefined;
  }

  /** Starts it; false: it cannot be, which the log explains. */
  start(): boolean {
    this.#everRan = true;
    this.#running = undefined;
    try {
      const vm = this.#sharedVm();
      const key = `${this.rootId}\0${this.name}\0${this.configuration.toString("latin1")}`;
      let root = vm.roots.get(key);
      if (root === undefined) {
        const isFirst = vm.roots.size === 0;
        root = new RootContext(vm, this);
        vm.call(root, "proxy_on_context_create", root.id, 0);
        if (isFirst && !vm.failed && vm.call(root, "proxy_on_vm_start", root.id, this.settings.vm.configuration.length) === 0)
          throw new WasmLoadError("Failed to start base Wasm");
        if (vm.failed) throw new WasmLoadError("Failed to start base Wasm");
        if (vm.call(root, "proxy_on_configure", root.id, this.configuration.length) === 0 || vm.failed)
          throw new WasmLoadError("Failed to configure base Wasm plugin");
        vm.roots.set(key, root);
      }
      this.#running = { vm, root };
      return true;
    } catch (error) {
      log.error(`Wasm VM failed ${error instanceof Error ? error.message : String(error)}`);
      log.critical(`Plugin ${this.name} failed to load`);
      const open = this.settings.failurePolicy === "fail_open";
      log[open ? "warning" : "critical"](`Plugin configured to fail ${open ? "open" : "closed"} failed to load`);
      return false;
    }
  }

  #sharedVm(): WasmVm {
    const { vm: settings } = this.settings;
    const key = `${settings.vmId}\0${this.#codeKey}\0${settings.configuration.toString("latin1")}\0${JSON.stringify([settings.environment, settings.allowed && [...settings.allowed]])}`;
    const found = sharedVms.get(key)?.deref();
    if (found !== undefined && !found.failed) return found;
    let module: WebAssembly.Module;
    try {
      module = this.#module();
    } catch {
      throw new WasmLoadError("Failed to load Wasm code");
    }
    const active = this.#active;
    let counted = true;
    const release = (): void => {
      if (counted) active.dec();
      counted = false;
    };
    const vm = new WasmVm(module, settings, release);
    this.#created.inc();
    active.inc();
    collected.register(vm, release);
    if (!vm.initialize()) throw new WasmLoadError("Failed to initialize Wasm code");
    sharedVms.set(key, new WeakRef(vm));
    return vm;
  }

  logLevel(): number {
    return Math.min(5, levels.indexOf(log.level));
  }

  /** Sends a request of the module's; its token, or undefined where cluster or head are wrong. */
  httpCall(context: WasmContext, clusterName: string, pairs: readonly string[], body: Buffer, timeoutMs: number): number | undefined {
    const cluster = this.clusters.get(clusterName);
    if (cluster === undefined) return undefined;
    const headers = new RequestHeaders("", undefined, undefined, undefined);
    for (let i = 0; i < pairs.length; i += 2) appendField(headers, pairs[i].toLowerCase(), pairs[i + 1]);
    if (headers.path === undefined || headers.authority === undefined || malformedRequest(headers) !== undefined) return undefined;
    headers.scheme ??= "http";
    const { vm } = context;
    const token = vm.nextToken();
    let ended = false;
    const request = cluster.httpClient.send(
      { headers, ...(body.length > 0 && { body }) },
      { timeoutMs: Math.min(timeoutMs, longestMs), maxResponseBytes },
      (result) => {
        ended = true;
        // The module is not told before it knows its token.
        vm.afterCall(() => {
          if (!context.calls.delete(token) || vm.failed || !vm.contexts.has(context.id)) return;
          onAnswer(context, token, result);
        });
      },
    );
    context.calls.set(token, {
      cancel: () => {
        if (!ended) request.cancel();
      },
    });
    return token;
  }
}

/** A GrpcService names a cluster (envoy_grpc.cluster_name); what is none is the name itself. */
function clusterOf(service: Buffer): string {
  const inner = readFields(service)?.bytes(1);
  const name = inner === undefined || inner.length === 0 ? undefined : readFields(inner)?.text(1);
  return name === undefined || name === "" ? service.toString("utf8") : name;
}

function onAnswer(context: WasmContext, token: number, result: AsyncResult): void {
  if (result.ok) {
    context.callHeaders = new HeadFields(result.headers);
    context.callBody = result.body;
    context.callTrailers = result.trailers === undefined ? undefined : new HeadFields(result.trailers);
  }
  const count = (map: FieldMap | undefined): number => (map === undefined ? 0 : map.entries().length >> 1);
  context.vm.call(
    context,
    "proxy_on_http_call_response",
    context.id,
    token,
    count(context.callHeaders),
    context.callBody?.length ?? 0,
    count(context.callTrailers),
  );
  context.callHeaders = undefined;
  context.callBody = undefined;
  context.callTrailers = undefined;
}

const metrics = new WeakMap<StatsStore, GuestMetrics>();
function metricsOf(stats: StatsStore): GuestMetrics {
  let found = metrics.get(stats);
  if (found === undefined) metrics.set(stats, (found = new GuestMetrics(stats.scope("wasmcustom."))));
  return found;
}

/** A key for code: equal code has an equal key. */
export function codeKey(code: Uint8Array): string {
  return createHash("sha256").update(code).digest("hex");
}
