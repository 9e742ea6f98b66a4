/** What tests of listeners and network filters share: listeners from JSON on ports of the system, and clients that say how it went. */
import { once } from "node:events";
import { type AddressInfo, connect, createServer, type Socket } from "node:net";
import type { Listener } from "../config/schema/types/envoy.config.listener.v3.d.ts";
import type { CompileContext, Extension } from "../extensions/extension.ts";
import { extensionOfMessage } from "../extensions/registry.ts";
import { TimerWheel } from "../net/timer-wheel.ts";
import type { OverloadState } from "../overload/thread-state.ts";
import { RuntimeSnapshot, type RuntimeValue } from "../runtime/runtime.ts";
import { StatsStore } from "../stats/stats.ts";
import { message, testContext } from "../testing/compile-context.ts";
import type { ThreadLocalCluster } from "../upstream/upstream.ts";
import { type CompiledListener, compileListener } from "./compile.ts";
import { GlobalLimit } from "./global-limit.ts";
import { WorkerListener } from "./listener.ts";

export const typed = (name: string, config: object = {}): object => ({
  name: "x",
  typed_config: { "@type": `type.googleapis.com/envoy.extensions.filters.${name}`, ...config },
});
export const echo = typed("network.echo.v3.Echo");
export const says = (text: string): object => typed("network.direct_response.v3.Config", { response: { inline_string: text } });

/** An access log of this format; lines go to `TestListeners.lines`. */
export const logged = (format: string): object => ({
  name: "log",
  typed_config: {
    "@type": "type.googleapis.com/envoy.extensions.access_loggers.stream.v3.StdoutAccessLog",
    log_format: { text_format_source: { inline_string: format } },
  },
});

/** Extensions by message type: what compiling asks for is loaded beforehand. */
async function loadAll(root: unknown, found: Map<string, Extension>): Promise<void> {
  if (root === null || typeof root !== "object") return;
  const typeName = (root as { $typeName?: string }).$typeName;
  if (typeName !== undefined && !found.has(typeName)) {
    const row = extensionOfMessage(typeName);
    if (row !== undefined) found.set(typeName, (await row.load()).default);
  }
  for (const value of Object.values(root)) await loadAll(value, found);
}

/** Listeners of one worker, with clusters and runtime; close it when the test ends. */
export class TestListeners {
  readonly stats = new StatsStore();
  readonly timers = new TimerWheel();
  readonly lines: string[] = [];
  readonly findings: string[] = [];
  readonly clusters = new Map<string, ThreadLocalCluster>();
  draining = false;
  drainTimeMs = 600_000;
  globalLimit: GlobalLimit | undefined = undefined;
  overload: OverloadState | undefined = undefined;
  #runtime = new RuntimeSnapshot();
  readonly #extensions = new Map<string, Extension>();
  readonly #running: WorkerListener[] = [];

  /** The overload manager's limit, or with undefined the runtime key's. */
  limitAll(limit: number | undefined): void {
    const runtime = (): RuntimeSnapshot => this.#runtime;
    const seen = {
      get snapshot() {
        return runtime();
      },
    };
    this.globalLimit = new GlobalLimit({ limit, cells: new SharedArrayBuffer((this.#concurrency + 1) * 4) }, this.#concurrency, this.#workerIndex, seen);
  }

  setRuntime(values: Record<string, RuntimeValue>): void {
    this.#runtime = new RuntimeSnapshot(new Map(Object.entries(values)));
  }

  readonly #workerIndex: number;
  readonly #concurrency: number;

  constructor(workerIndex = 0, concurrency = 1) {
    this.#workerIndex = workerIndex;
    this.#concurrency = concurrency;
  }

  static message(json: object): Listener {
    return message("envoy.config.listener.v3.Listener", {
      name: "test",
      address: { socket_address: { address: "127.0.0.1", port_value: 0 } },
      stat_prefix: "test",
      ...json,
    });
  }

  async compile(from: object | Listener): Promise<CompiledListener> {
    const listener = "$typeName" in from ? (from as Listener) : TestListeners.message(from);
    await loadAll(listener, this.#extensions);
    return compileListener(listener, this.#context());
  }

  #context(): CompileContext {
    const runtime = (): RuntimeSnapshot => this.#runtime;
    return {
      ...testContext({ extensions: this.#extensions, timers: this.timers }),
      validating: false,
      workerIndex: this.#workerIndex,
      options: { fileFlushIntervalMs: 0, fileFlushMinBytes: 0, concurrency: this.#concurrency },
      stats: this.stats,
      report: (_message, field, finding) => void this.findings.push(`${field ?? ""}: ${finding.text}`),
      clusters: { get: (name) => this.clusters.get(name) },
      hasCluster: (name) => this.clusters.has(name),
      openLog: () => ({ write: (text) => void this.lines.push(text) }),
      runtime: {
        get snapshot() {
          return runtime();
        },
      },
    };
  }

  /** A running listener of these fields and where it listens. */
  async start(json: object | Listener): Promise<{ readonly listener: WorkerListener; readonly port: number; readonly address: string }> {
    const listener = new WorkerListener(await this.compile(json), {
      stats: this.stats,
      timers: this.timers,
      workerIndex: this.#workerIndex,
      drainClose: () => this.draining,
      drainTimeMs: this.drainTimeMs,
      ...(this.overload === undefined ? {} : { overload: this.overload }),
      ...(this.globalLimit === undefined ? {} : { globalLimit: this.globalLimit }),
    });
    this.#running.push(listener);
    const [address = ""] = await listener.listen({ reusePort: false, port: undefined });
    return { listener, address, port: Number(address.slice(address.lastIndexOf(":") + 1)) };
  }

  stat(name: string): number {
    return this.stats.counter(name).value;
  }
  gauge(name: string): number {
    return this.stats.gauge(name).value;
  }
  listenerStat(name: string): number {
    return this.stat(`listener.test.${name}`);
  }

  close(): void {
    for (const listener of this.#running) listener.close();
    this.timers.stop();
  }
}

/** A client that keeps what it gets. */
export class Client {
  readonly socket: Socket;
  text = "";
  /** "eof", or the code of the error that ended it. */
  readonly ended: Promise<string>;

  constructor(target: number | { readonly path: string } | { readonly port: number; readonly localPort: number }, first?: string | Buffer) {
    this.socket =
      typeof target === "number"
        ? connect({ port: target, host: "127.0.0.1", allowHalfOpen: true })
        : connect({ ...("path" in target ? {} : { host: "127.0.0.1", localAddress: "127.0.0.1" }), ...target, allowHalfOpen: true });
    this.ended = new Promise((resolve) => {
      this.socket.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
      this.socket.on("end", () => resolve("eof"));
      this.socket.on("close", () => resolve("closed"));
    });
    this.socket.on("data", (data) => {
      this.text += data.toString("latin1");
    });
    if (first !== undefined) this.socket.write(first);
  }

  send(data: string | Buffer): void {
    this.socket.write(data);
  }
  close(): void {
    this.socket.destroy();
  }
}

/** A port that nobody has at this moment. */
export async function freePort(): Promise<number> {
  const server = createServer();
  server.listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** What a connection gets until it is closed. */
export async function talk(target: number | { readonly path: string }, first?: string | Buffer): Promise<string> {
  const client = new Client(target, first);
  const how = await client.ended;
  client.close();
  return how === "eof" ? client.text : `${client.text}(${how})`;
}

/** Until a condition holds; not for ever. */
export async function until(condition: () => boolean): Promise<void> {
  const end = performance.now() + 20_000;
  while (!condition()) {
    if (performance.now() > end) throw new Error(`never held: ${condition}`);
    await new Promise((resolve) => setTimeout(resolve, 2));
  }
}
