/** Subscriptions that ask servers: REST, and streams of gRPC, of which those to the aggregated service are one. Loaded only where there are some. */
import type { GrpcSource, XdsSource } from "../config/config-source.ts";
import { GrpcClient } from "../grpc/client.ts";
import { compileGrpcService } from "../grpc/service.ts";
import type { StatsScope, StatsStore } from "../stats/stats.ts";
import { delta } from "../xds/grpc/delta.ts";
import { type DiscoveryMethod, discoveryMethod } from "../xds/grpc/methods.ts";
import { GrpcMux } from "../xds/grpc/mux.ts";
import { stateOfTheWorld } from "../xds/grpc/sotw.ts";
import type { OpenStream } from "../xds/grpc/transport.ts";
import type { UnknownFields } from "../xds/resource.ts";
import { RestSubscription } from "../xds/rest-subscription.ts";
import type { Subscriber, Subscription } from "../xds/subscription.ts";
import { LoadReporter, type LoadReporterOptions } from "./load-reporter.ts";
import { MainCalls, type MainCallsOptions } from "./main-calls.ts";

export interface RemoteOptions extends MainCallsOptions {
  readonly stats: StatsStore;
  /** The envoy.config.core.v3.Node that asks. */
  node(): object;
  setText(name: string, value: string): void;
  /** dynamic_resources.ads_config */
  ads(): GrpcSource | undefined;
}

/** Envoy's defaults for streams without a retry policy. */
const backoff = { baseMs: 500, maxMs: 30_000 };

export class Remote {
  readonly calls: MainCalls;
  readonly #options: RemoteOptions;
  #reporter: LoadReporter | undefined;
  readonly #muxes = new Map<string, GrpcMux>();

  constructor(options: RemoteOptions) {
    this.#options = options;
    this.calls = new MainCalls(options);
  }

  subscribe(source: Exclude<XdsSource, { kind: "file" }>, subscriber: Subscriber, unknownFields: UnknownFields): Subscription {
    if (source.kind === "rest")
      return new RestSubscription(source, subscriber, {
        unknownFields,
        cluster: (name) => this.calls.cluster(name),
        node: () => this.#options.node(),
        random: Math.random,
      });
    const { stats } = this.#options;
    if (source.kind === "grpc") {
      const { typeName, scope } = subscriber;
      return this.#mux(`${typeName}\u0000${source.key}`, source, typeName, scope.scope("control_plane."), unknownFields).subscribe(
        subscriber,
        source.initialFetchTimeoutMs,
      );
    }
    const ads = this.#options.ads();
    // Refused when the configuration is loaded.
    if (ads === undefined) throw new Error("ADS must be configured to support an ADS config source");
    return this.#mux("", ads, undefined, stats.scope("control_plane."), unknownFields).subscribe(subscriber, source.initialFetchTimeoutMs);
  }

  /** Reports load to the server of a source. */
  reportLoad(source: GrpcSource, options: Omit<LoadReporterOptions, "client" | "stats" | "node">): void {
    const { stats } = this.#options;
    const [client] = this.#clients(source);
    if (client === undefined) return;
    this.#reporter = new LoadReporter({ ...options, stats, client: client.client, node: () => this.#options.node() });
    this.#reporter.start();
  }

  close(): void {
    this.#reporter?.close();
    for (const mux of this.#muxes.values()) mux.close();
    this.calls.close();
  }

  #mux(key: string, source: GrpcSource, typeName: string | undefined, scope: StatsScope, unknownFields: UnknownFields): GrpcMux {
    let mux = this.#muxes.get(key);
    if (mux === undefined) {
      mux = new GrpcMux({
        protocol: source.isDelta ? delta : stateOfTheWorld,
        open: this.#opener(source, discoveryMethod(typeName, source.isDelta)),
        scope,
        unknownFields,
        node: () => this.#options.node(),
        setText: (name, value) => this.#options.setText(name, value),
        nodeOnFirstMessageOnly: source.nodeOnFirstMessageOnly,
        backoff,
        random: Math.random,
      });
      this.#muxes.set(key, mux);
    }
    return mux;
  }

  /** The services of a source are tried in turn. */
  #opener(source: GrpcSource, method: DiscoveryMethod | undefined): OpenStream {
    const clients = this.#clients(source);
    let attempts = 0;
    return (events) => {
      const next = clients[attempts++ % Math.max(1, clients.length)];
      if (next === undefined || method === undefined || this.calls.cluster(next.cluster) === undefined) return undefined;
      const stream = next.client.stream(
        method.service,
        method.method,
        { timeoutMs: 0 },
        { onMessage: (bytes) => events.onMessage(bytes), onClose: ({ code, message }) => events.onClose(code, message) },
      );
      return { send: (message) => stream.send(message), close: () => stream.reset() };
    };
  }

  #clients({ services }: GrpcSource): { readonly cluster: string; readonly client: GrpcClient }[] {
    const context = this.#options.context();
    return services.flatMap((message) => {
      const settings = compileGrpcService(message, context);
      return settings === undefined ? [] : [{ cluster: settings.cluster, client: new GrpcClient({ get: (name) => this.calls.cluster(name) }, settings) }];
    });
  }
}
