/** Checks by a request: the status, the body and some headers of the answer decide. */
import type { ClientConnectionCallbacks, ResponseDecoder, StreamCallbacks } from "../../http/codec.ts";
import { H1ClientConnection } from "../../http/h1/client-connection.ts";
import type { H1Settings } from "../../http/h1/settings.ts";
import { RequestHeaders, type ResponseHeaders } from "../../http/header-map.ts";
import { emptyUpstreamInfo, StreamInfo } from "../../http/stream-info.ts";
import { ipAddress } from "../../net/address.ts";
import type { ConnectionCallbacks, ConnectionEvent, ReadFilter } from "../../net/connection.ts";
import type { SocketConnection } from "../../net/socket-connection.ts";
import type { Clock } from "../../net/timer-wheel.ts";
import type { Runtime } from "../../runtime/runtime.ts";
import type { Counter } from "../../stats/stats.ts";
import type { HostData } from "../hosts.ts";
import type { Host } from "../upstream.ts";
import type { CheckedHost, Probe, ProbeCallbacks } from "./health-checker.ts";
import { payloadMatches } from "./payload.ts";
import type { HttpCheckSettings, StatusRange } from "./settings.ts";

export interface HttpProbeOptions {
  readonly check: HttpCheckSettings;
  readonly reuseConnection: boolean;
  readonly h1: H1Settings;
  readonly secure: boolean;
  readonly clock: Clock;
  readonly runtime: Runtime;
  readonly random: () => number;
  readonly verifyCluster: Counter;
  readonly dial: (host: HostData) => SocketConnection;
}

export class HttpProbe implements Probe, ResponseDecoder, StreamCallbacks, ConnectionCallbacks, ReadFilter, ClientConnectionCallbacks {
  readonly #options: HttpProbeOptions;
  readonly #host: CheckedHost;
  readonly #callbacks: ProbeCallbacks;
  #connection: SocketConnection | undefined = undefined;
  #codec: H1ClientConnection | undefined = undefined;
  #asking = false;
  #complete = false;
  #headers: ResponseHeaders | undefined = undefined;
  #body: Buffer[] = [];
  #bodyBytes = 0;

  constructor(options: HttpProbeOptions, host: CheckedHost, callbacks: ProbeCallbacks) {
    this.#options = options;
    this.#host = host;
    this.#callbacks = callbacks;
  }

  start(): void {
    this.#complete = false;
    this.#headers = undefined;
    this.#body = [];
    this.#bodyBytes = 0;
    // A connection that is still being made would be older than its check.
    if (this.#codec === undefined) this.#drop();
    this.#asking = true;
    if (this.#codec !== undefined) {
      this.#send(this.#codec);
      return;
    }
    const connection = this.#options.dial(this.#host.data);
    this.#connection = connection;
    connection.addCallbacks(this);
  }

  timedOut(): void {
    this.#drop();
  }

  close(): void {
    this.#drop();
  }

  #drop(): void {
    this.#asking = false;
    const connection = this.#connection;
    this.#connection = undefined;
    this.#codec = undefined;
    connection?.removeCallbacks(this);
    connection?.close("abort");
  }

  #send(codec: H1ClientConnection): void {
    const { check, secure, clock } = this.#options;
    const { data } = this.#host;
    const headers = new RequestHeaders(
      check.method,
      check.path,
      data.healthCheckHostname === "" ? check.host : data.healthCheckHostname,
      secure ? "https" : "http",
    );
    headers.set("user-agent", "Envoy/HC");
    if (check.headers !== undefined) {
      const info = new StreamInfo(clock.now(), clock.wall());
      info.protocol = "HTTP/1.1";
      info.upstream = emptyUpstreamInfo();
      info.upstream.host = describedHost(data);
      // Nobody is downstream.
      info.downstreamRemoteAddress = nobody;
      info.downstreamDirectRemoteAddress = nobody;
      info.downstreamLocalAddress = nobody;
      check.headers.evaluate(headers, info, headers, undefined);
    }
    const { body } = check;
    const hasBody = body !== undefined && body.length > 0;
    if (hasBody) headers.set("content-length", String(body.length));
    const stream = codec.newStream(this);
    stream.stream.addCallbacks(this);
    stream.encodeHeaders(headers, !hasBody);
    if (hasBody) stream.encodeData(Buffer.from(body), true);
  }

  // ---- connection --------------------------------------------------------------------------------------------------------------

  onEvent(event: ConnectionEvent): void {
    const connection = this.#connection;
    if (connection === undefined) return;
    if (event === "connected") {
      const codec = new H1ClientConnection(connection, this.#options.h1, this);
      this.#codec = codec;
      connection.setReadFilter(this);
      this.#send(codec);
      return;
    }
    const codec = this.#codec;
    this.#connection = undefined;
    this.#codec = undefined;
    if (codec?.endsWithConnection === true && event === "remote_close") {
      // An answer without a length is whole now.
      codec.onConnectionEnd();
      this.#finish(true);
    }
    this.#broken();
  }

  onData(data: Buffer): void {
    const codec = this.#codec;
    if (codec === undefined) return;
    codec.dispatch(data);
    this.#finish(codec.closeAfterResponse || !codec.idle);
  }

  onProtocolError(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    this.#codec = undefined;
    connection?.removeCallbacks(this);
    connection?.close("abort");
    this.#broken();
  }
  onGoAway(): void {}
  onAboveWriteBufferHighWatermark(): void {}
  onBelowWriteBufferLowWatermark(): void {}

  /** Between two checks a connection may end. */
  #broken(): void {
    if (!this.#asking) return;
    this.#asking = false;
    this.#callbacks.onFailure("NETWORK");
  }

  // ---- answer ------------------------------------------------------------------------------------------------------------------

  onResetStream(): void {
    if (this.#complete) return;
    this.onProtocolError();
  }
  decode1xxHeaders(): void {}
  decodeHeaders(headers: ResponseHeaders, endStream: boolean): void {
    this.#headers = headers;
    if (endStream) this.#complete = true;
  }
  decodeData(chunk: Buffer, endStream: boolean): void {
    const { receive, responseBufferBytes } = this.#options.check;
    const left = responseBufferBytes === 0 ? chunk.length : Math.min(chunk.length, responseBufferBytes - this.#bodyBytes);
    if (receive.length > 0 && left > 0) {
      this.#body.push(Buffer.from(chunk.subarray(0, left)));
      this.#bodyBytes += left;
    }
    if (endStream) this.#complete = true;
  }
  decodeTrailers(): void {
    this.#complete = true;
  }

  /** Once the codec has taken all bytes at hand. */
  #finish(ends: boolean): void {
    const headers = this.#headers;
    if (!this.#asking || !this.#complete || headers === undefined) return;
    this.#asking = false;
    this.#verdict(headers);
    // The callback may have begun the next check or closed this one.
    if (!this.#asking && (ends || !this.#options.reuseConnection)) this.#drop();
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
