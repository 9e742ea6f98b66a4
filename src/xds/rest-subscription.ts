/**
 * Dynamic resources from a server that is polled (ApiConfigSource REST): a DiscoveryRequest as JSON, answered by a DiscoveryResponse.
 * https://www.envoyproxy.io/docs/envoy/latest/configuration/overview/xds_api#rest-endpoints
 */
import type { RestSource } from "../config/config-source.ts";
import { toJson } from "../config/json.ts";
import type { JsonObject } from "../config/message.ts";
import { RequestHeaders } from "../http/header-map.ts";
import type { AsyncResult, ThreadLocalCluster } from "../upstream/upstream.ts";
import { readResources, type UnknownFields } from "./resource.ts";
import { Intake, type Subscriber, type Subscription } from "./subscription.ts";

export interface RestEnvironment {
  readonly unknownFields: UnknownFields;
  /** Of this thread; undefined: there is none of that name. */
  cluster(name: string): ThreadLocalCluster | undefined;
  /** The envoy.config.core.v3.Node that asks. */
  node(): object;
  /** From 0 to 1. */
  random(): number;
}

/** An answer may be this large. */
const maxResponseBytes = 64 * 1024 * 1024;

/** The last part of the path of each resource type (google.api.http in the discovery services). */
const services: Readonly<Record<string, string>> = {
  "envoy.config.cluster.v3.Cluster": "clusters",
  "envoy.config.endpoint.v3.ClusterLoadAssignment": "endpoints",
  "envoy.config.listener.v3.Listener": "listeners",
  "envoy.config.route.v3.RouteConfiguration": "routes",
  "envoy.config.route.v3.ScopedRouteConfiguration": "scoped-routes",
  "envoy.extensions.transport_sockets.tls.v3.Secret": "secrets",
  "envoy.service.runtime.v3.Runtime": "runtime",
  "envoy.config.core.v3.TypedExtensionConfig": "extension_configs",
};

export class RestSubscription implements Subscription {
  readonly #source: RestSource;
  readonly #subscriber: Subscriber;
  readonly #environment: RestEnvironment;
  readonly #intake: Intake;
  #timer: NodeJS.Timeout | undefined;
  #exchange: { cancel(): void } | undefined;
  /** Of what was taken last. */
  #version = "";
  #closed = false;

  constructor(source: RestSource, subscriber: Subscriber, environment: RestEnvironment) {
    this.#source = source;
    this.#subscriber = subscriber;
    this.#environment = environment;
    this.#intake = new Intake(subscriber, "REST");
  }

  start(): void {
    this.#intake.waitAtMost(this.#source.initialFetchTimeoutMs);
    this.#ask();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
    this.#exchange?.cancel();
    this.#intake.close();
  }

  #ask(): void {
    if (this.#closed) return;
    const { requestTimeoutMs } = this.#source;
    const [name] = this.#source.clusters;
    const { typeName, names } = this.#subscriber;
    this.#intake.attempt();
    const cluster = this.#environment.cluster(name);
    const service = services[typeName];
    if (cluster === undefined || service === undefined) {
      this.#failed(cluster === undefined ? `there is no cluster '${name}'` : `there is no REST service for ${typeName}`);
      return;
    }
    const request: JsonObject = {
      ...(this.#version !== "" && { version_info: this.#version }),
      node: toJson(this.#environment.node(), { protoNames: true, redact: false }),
      ...(names !== undefined && { resource_names: [...names] }),
      type_url: `type.googleapis.com/${typeName}`,
    };
    const headers = new RequestHeaders("POST", `/v3/discovery:${service}`, name, "http", ["content-type", "application/json"]);
    const body = Buffer.from(JSON.stringify(request));
    let isAnswered = false;
    const exchange = cluster.httpClient.send({ headers, body }, { timeoutMs: requestTimeoutMs, maxResponseBytes }, (result) => {
      isAnswered = true;
      this.#exchange = undefined;
      this.#answered(result);
    });
    if (!isAnswered) this.#exchange = exchange;
  }

  #answered(result: AsyncResult): void {
    if (this.#closed) return;
    if (!result.ok) {
      this.#failed(`no answer: ${result.reason}`);
      return;
    }
    const { status } = result.headers;
    if (status === 304) {
      this.#later();
      return;
    }
    if (status !== 200) {
      this.#failed(`the answer has status ${status}`);
      return;
    }
    const [name] = this.#source.clusters;
    const source = { kind: "text", name: `the answer of ${name}`, text: result.body.toString("utf8"), format: "json" } as const;
    const read = readResources(source, this.#subscriber.typeName, this.#environment.unknownFields);
    if (read.kind === "resources") {
      this.#intake.offer({ resources: read.resources, removed: undefined, version: read.version }, (refusal) => {
        if (refusal === undefined) this.#version = read.version;
        this.#later();
      });
      return;
    }
    if (read.kind === "refused") this.#intake.refuse(read.why);
    else this.#intake.failed(read.why);
    this.#later();
  }

  #failed(why: string): void {
    this.#intake.failed(why);
    this.#later();
  }

  /** Asks again after refresh_delay, and up to as much later, so that a fleet does not ask as one. */
  #later(): void {
    if (this.#closed) return;
    const { refreshMs } = this.#source;
    this.#timer = setTimeout(() => this.#ask(), refreshMs * (1 + this.#environment.random()));
    this.#timer.unref();
  }
}
