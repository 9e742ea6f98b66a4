/** Checks by grpc.health.v1.Health/Check (https://github.com/grpc/grpc/blob/master/doc/health-checking.md). */
import { frameMessage, MessageReader } from "../../grpc/frames.ts";
import { grpcCode, statusOf } from "../../grpc/status.ts";
import { RequestHeaders, type ResponseHeaders, type Trailers } from "../../http/header-map.ts";
import { CheckClient, type CheckClientOptions, type CheckEvents } from "./check-client.ts";
import type { CheckedHost, Probe, ProbeCallbacks } from "./health-checker.ts";
import type { GrpcCheckSettings } from "./settings.ts";

/** HealthCheckResponse.ServingStatus SERVING. */
const serving = 1;
/** A HealthCheckResponse is a few octets. */
const maxAnswerBytes = 4096;

export interface GrpcProbeOptions {
  readonly check: GrpcCheckSettings;
  readonly secure: boolean;
  /** What formatters of initial_metadata read. */
  readonly addMetadata: (headers: RequestHeaders, host: CheckedHost) => void;
  readonly client: CheckClientOptions;
}

export class GrpcProbe implements Probe, CheckEvents {
  readonly #options: GrpcProbeOptions;
  readonly #host: CheckedHost;
  readonly #callbacks: ProbeCallbacks;
  readonly #client: CheckClient;
  #headers: ResponseHeaders | undefined = undefined;
  #reader = new MessageReader(maxAnswerBytes);
  /** The status that the service has; undefined while none was told, or what was told is no answer. */
  #serving: number | undefined = undefined;

  constructor(options: GrpcProbeOptions, host: CheckedHost, callbacks: ProbeCallbacks) {
    this.#options = options;
    this.#host = host;
    this.#callbacks = callbacks;
    this.#client = new CheckClient(options.client, this);
  }

  start(): void {
    const { check, secure, addMetadata } = this.#options;
    const { data } = this.#host;
    this.#headers = undefined;
    this.#reader = new MessageReader(maxAnswerBytes);
    this.#serving = undefined;
    const authority = data.healthCheckHostname === "" ? check.authority : data.healthCheckHostname;
    const headers = new RequestHeaders("POST", "/grpc.health.v1.Health/Check", authority, secure ? "https" : "http");
    headers.add("te", "trailers");
    headers.add("content-type", "application/grpc");
    headers.add("user-agent", "Envoy/HC");
    addMetadata(headers, this.#host);
    this.#client.ask(headers, frameMessage(check.request));
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
    this.#reader.feed(chunk, (message) => {
      this.#serving = servingStatus(message);
      return true;
    });
  }
  onBroken(): void {
    this.#callbacks.onFailure("NETWORK");
  }
  onAnswer(trailers: Trailers | undefined): void {
    const headers = this.#headers;
    const status = trailers !== undefined ? statusOf(trailers) : headers === undefined ? undefined : statusOf(headers);
    if (headers?.status === 200 && status?.code === grpcCode.ok && this.#serving === serving) this.#callbacks.onSuccess(false);
    else this.#callbacks.onFailure("ACTIVE");
  }
}

/** Field 1 of a HealthCheckResponse, 0 where it is left out; undefined: this is none. */
function servingStatus(message: Buffer): number | undefined {
  let status = 0;
  for (let at = 0; at < message.length; ) {
    const tag = message[at++];
    if (tag !== 0x08 || at >= message.length || message[at] >= 0x80) return undefined;
    status = message[at++];
  }
  return status;
}
