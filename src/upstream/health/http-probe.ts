/** Checks by a request: the status, the body and some headers of the answer decide. */
import { RequestHeaders, type ResponseHeaders } from "../../http/header-map.ts";
import { emptyUpstreamInfo, StreamInfo } from "../../http/stream-info.ts";
import { ipAddress } from "../../net/address.ts";
import type { Clock } from "../../net/timer-wheel.ts";
import type { HeaderMutation } from "../../router/header-mutation.ts";
import type { Runtime } from "../../runtime/runtime.ts";
import type { Counter } from "../../stats/stats.ts";
import type { HostData } from "../hosts.ts";
import type { Host } from "../upstream.ts";
import { CheckClient, type CheckClientOptions, type CheckEvents } from "./check-client.ts";
import type { CheckedHost, Probe, ProbeCallbacks } from "./health-checker.ts";
import { payloadMatches } from "./payload.ts";
import type { HttpCheckSettings, StatusRange } from "./settings.ts";

export interface HttpProbeOptions {
  readonly check: HttpCheckSettings;
  readonly secure: boolean;
  readonly clock: Clock;
  readonly runtime: Runtime;
  readonly random: () => number;
  readonly verifyCluster: Counter;
  readonly client: CheckClientOptions;
}

export class HttpProbe implements Probe, CheckEvents {
  readonly #options: HttpProbeOptions;
  readonly #host: CheckedHost;
  readonly #callbacks: ProbeCallbacks;
  readonly #client: CheckClient;
  #headers: ResponseHeaders | undefined = undefined;
  #body: Buffer[] = [];
  #bodyBytes = 0;

  constructor(options: HttpProbeOptions, host: CheckedHost, callbacks: ProbeCallbacks) {
    this.#options = options;
    this.#host = host;
    this.#callbacks = callbacks;
    this.#client = new CheckClient(options.client, this);
  }

  start(): void {
    this.#headers = undefined;
    this.#body = [];
    this.#bodyBytes = 0;
    const { check, secure, clock, client } = this.#options;
    const { data } = this.#host;
    const headers = new RequestHeaders(
      check.method,
      check.path,
      data.healthCheckHostname === "" ? check.host : data.healthCheckHostname,
      secure ? "https" : "http",
    );
    headers.set("user-agent", "Envoy/HC");
    mutateCheck(check.headers, headers, data, client.http2, clock);
    const { body } = check;
    const hasBody = body !== undefined && body.length > 0;
    if (hasBody) headers.set("content-length", String(body.length));
    this.#client.ask(headers, hasBody ? Buffer.from(body) : undefined);
  }

  timedOut(): void {
    this.#client.drop();
  }
  close(): void {
    this.#client.drop();
  }

  onHeaders(headers: ResponseHeaders): void {
    this.#headers = headers;
  }
  onData(chunk: Buffer): void {
    const { receive, responseBufferBytes } = this.#options.check;
    const left = responseBufferBytes === 0 ? chunk.length : Math.min(chunk.length, responseBufferBytes - this.#bodyBytes);
    if (receive.length === 0 || left <= 0) return;
    this.#body.push(Buffer.from(chunk.subarray(0, left)));
    this.#bodyBytes += left;
  }
  onAnswer(): void {
    if (this.#headers !== undefined) this.#verdict(this.#headers);
  }
  onBroken(): void {
    this.#callbacks.onFailure("NETWORK");
  }

  #verdict(headers: ResponseHeaders): void {
    const { check, runtime, random, verifyCluster } = this.#options;
    const { status } = headers;
    const excluded = headers.get(check.names.immediateFail) !== undefined;
    if (check.receive.length > 0 && !payloadMatches(check.receive, Buffer.concat(this.#body))) {
      this.#callbacks.onFailure("ACTIVE", { status, excluded });
      return;
    }
    if (!inRanges(status, check.expected)) {
      this.#callbacks.onFailure("ACTIVE", { status, excluded, retriable: inRanges(status, check.retriable) });
      return;
    }
    if (check.serviceName !== undefined && runtime.snapshot.featureEnabled("health_check.verify_cluster", always, random())) {
      verifyCluster.inc();
      if (!check.serviceName.matches(headers.get(check.names.checkedCluster) ?? "")) {
        this.#callbacks.onFailure("ACTIVE", { status });
        return;
      }
    }
    this.#callbacks.onSuccess(headers.get(check.names.degraded) !== undefined);
  }
}

/** request_headers_to_add and their kin, for a request that nobody is downstream of. */
export function mutateCheck(mutation: HeaderMutation | undefined, headers: RequestHeaders, data: HostData, http2: boolean, clock: Clock): void {
  if (mutation === undefined) return;
  const info = new StreamInfo(clock.now(), clock.wall());
  info.protocol = http2 ? "HTTP/2" : "HTTP/1.1";
  info.upstream = emptyUpstreamInfo();
  info.upstream.host = describedHost(data);
  info.downstreamRemoteAddress = nobody;
  info.downstreamDirectRemoteAddress = nobody;
  info.downstreamLocalAddress = nobody;
  mutation.evaluate(headers, info, headers, undefined);
}

const nobody = ipAddress("127.0.0.1", 0);

/** What formatters of headers read of a host: on this thread it has no statistics, and no cluster to send anything to. */
function describedHost(data: HostData): Host {
  const { address, hostname, healthCheckHostname, weight, priority, locality, metadata } = data;
  const facts: Omit<Host, "cluster" | "stats"> = {
    address,
    hostname,
    healthCheckHostname,
    weight,
    priority,
    locality,
    metadata,
    canary: metadata["envoy.lb"]?.["canary"] === true,
    health: "healthy",
  };
  return facts as Host;
}

const always = { numerator: 100, denominator: 100 } as const;

function inRanges(status: number, ranges: readonly StatusRange[]): boolean {
  return ranges.some(({ start, end }) => status >= start && status < end);
}
