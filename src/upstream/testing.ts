/** What tests of this folder share: clusters from JSON, balancer contexts, upstreams on sockets of their own. */
import { once } from "node:events";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import type { ResponseDecoder, StreamResetReason } from "../http/codec.ts";
import { RequestHeaders, type ResponseHeaders, type Trailers } from "../http/header-map.ts";
import { TimerWheel } from "../net/timer-wheel.ts";
import { testOverload } from "../overload/testing.ts";
import { RuntimeSnapshot, type RuntimeValue } from "../runtime/runtime.ts";
import { StatsStore } from "../stats/stats.ts";
import { message, type TestContext, testContext } from "../testing/compile-context.ts";
import { ClusterCore } from "./cluster-core.ts";
import { compileCluster } from "./compile.ts";
import type { HostData } from "./hosts.ts";
import { cellsSize } from "./resource-manager.ts";
import type { CompiledCluster } from "./settings.ts";
import type { Host, LoadBalancerContext, PoolCallbacks, PoolRequest } from "./upstream.ts";

export function compiled(json: object, context: TestContext = testContext()): CompiledCluster {
  return compileCluster(message("envoy.config.cluster.v3.Cluster", { name: "service", ...json }), context);
}

/** load_assignment of ports on 127.0.0.1 (or names with ports), one locality. */
export function assignment(...endpoints: (number | object)[]): object {
  return { cluster_name: "service", endpoints: [{ lb_endpoints: endpoints.map((endpoint) => (typeof endpoint === "number" ? at(endpoint) : endpoint)) }] };
}

export function at(port: number, more: object = {}, host = "127.0.0.1"): object {
  return { endpoint: { address: { socket_address: { address: host, port_value: port } } }, ...more };
}

export const anyHost: LoadBalancerContext = {
  hash: undefined,
  metadataMatch: undefined,
  requestHeaders: undefined,
  downstreamConnection: undefined,
  streamInfo: undefined,
  shouldSelectAnotherHost: () => false,
  hostSelectionMaxAttempts: 0,
  overrideHost: undefined,
  triedPriorities: [],
};

export class TestCluster {
  readonly stats = new StatsStore();
  readonly timers = new TimerWheel();
  readonly core: ClusterCore;
  readonly settings: CompiledCluster;
  readonly cells: SharedArrayBuffer;
  readonly runtime = { snapshot: new RuntimeSnapshot() };
  readonly overload = testOverload();

  /** A cluster on one of `threads` workers with the members of its configuration. */
  constructor(json: object, threads = 1) {
    this.settings = compiled(json, Object.assign(testContext({ timers: this.timers }), { stats: this.stats }));
    this.core = new ClusterCore(this.settings, {
      stats: this.stats,
      timers: this.timers,
      runtime: this.runtime,
      overload: this.overload.state,
      threads,
      workerIndex: 0,
    });
    this.cells = new SharedArrayBuffer(cellsSize(threads));
    this.update(this.settings.staticHosts);
  }

  update(hosts: readonly HostData[]): void {
    this.core.update({ cluster: "service", hosts, cells: this.cells });
  }
  setRuntime(values: Record<string, RuntimeValue>): void {
    this.runtime.snapshot = new RuntimeSnapshot(new Map(Object.entries(values)));
  }
  stat(name: string): number {
    return this.stats.counter(`cluster.service.${name}`).value;
  }
  send(headers = new RequestHeaders("GET", "/", "a.test", "http"), endStream = true): Call {
    return new Call(this, headers, endStream);
  }
  close(): void {
    this.core.close();
    this.timers.stop();
  }
}

/** One request through the pool, as the router makes it. */
export class Call implements ResponseDecoder, PoolCallbacks {
  readonly done: Promise<string>;
  status = 0;
  body = "";
  host: Host | undefined = undefined;
  connectionId: number | undefined = undefined;
  waiting: PoolRequest | undefined;
  /** Runs when the response has ended, before anything else happens. */
  onEnd: () => void = () => {};
  #settle!: (outcome: string) => void;
  readonly #headers: RequestHeaders;
  readonly #endStream: boolean;

  constructor(cluster: TestCluster, headers: RequestHeaders, endStream: boolean) {
    this.#headers = headers;
    this.#endStream = endStream;
    this.done = new Promise((resolve) => {
      this.#settle = resolve;
    });
    const pool = cluster.core.httpPool("default", "HTTP/1.1", anyHost);
    if (pool === undefined) this.#settle("no host");
    else this.waiting = pool.newStream(this, this, { canSendEarlyData: false, upgrade: undefined });
  }

  onPoolReady(...[encoder, host, info]: Parameters<PoolCallbacks["onPoolReady"]>): void {
    this.host = host;
    this.connectionId = info.connectionId;
    encoder.stream.addCallbacks({
      onResetStream: (reason: StreamResetReason) => this.#settle(`reset: ${reason}`),
      onAboveWriteBufferHighWatermark: () => {},
      onBelowWriteBufferLowWatermark: () => {},
    });
    encoder.encodeHeaders(this.#headers, this.#endStream);
  }
  onPoolFailure(...[reason, transport]: Parameters<PoolCallbacks["onPoolFailure"]>): void {
    this.#settle(transport === "" ? reason : `${reason}: ${transport}`);
  }
  decode1xxHeaders(): void {}
  decodeHeaders(headers: ResponseHeaders, endStream: boolean): void {
    this.status = headers.status;
    if (endStream) this.#end();
  }
  decodeData(chunk: Buffer, endStream: boolean): void {
    this.body += chunk.toString("latin1");
    if (endStream) this.#end();
  }
  decodeTrailers(_trailers: Trailers): void {
    this.#end();
  }
  #end(): void {
    this.onEnd();
    this.#settle(`${this.status} ${this.body}`);
  }
}

/** A TCP server that answers each request head by `answer`; counts connections and requests. */
export class Upstream {
  readonly sockets: Socket[] = [];
  requests = 0;
  /** Which connection (from 1) each request came on. */
  readonly usedConnections: number[] = [];
  readonly #server: Server;
  port = 0;

  static async start(answer: (socket: Socket, request: number) => void, host = "127.0.0.1"): Promise<Upstream> {
    const upstream = new Upstream(answer);
    upstream.#server.listen(0, host);
    await once(upstream.#server, "listening");
    upstream.port = (upstream.#server.address() as AddressInfo).port;
    return upstream;
  }

  private constructor(answer: (socket: Socket, request: number) => void) {
    this.#server = createServer((socket) => {
      const number = this.sockets.push(socket);
      let text = "";
      socket.on("error", () => {});
      socket.on("data", (data) => {
        text += data.toString("latin1");
        for (let end = text.indexOf("\r\n\r\n"); end >= 0; end = text.indexOf("\r\n\r\n")) {
          text = text.slice(end + 4);
          this.usedConnections.push(number);
          answer(socket, ++this.requests);
        }
      });
    });
  }

  get connections(): number {
    return this.sockets.length;
  }

  close(): void {
    for (const socket of this.sockets) socket.destroy();
    this.#server.close();
  }
}

export const ok = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/** Until a condition holds; the test's own timeout bounds it. */
export async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await new Promise((resolve) => setTimeout(resolve, 2));
}
