/** Checks by a connection, and by what the host answers to some bytes or to a command of Redis. */
import type { ConnectionCallbacks, ConnectionEvent, ReadFilter } from "../../net/connection.ts";
import type { SocketConnection } from "../../net/socket-connection.ts";
import { proxyHeader } from "../../router/filter/connect-upstream.ts";
import type { HostData } from "../hosts.ts";
import type { CheckedHost, Probe, ProbeCallbacks } from "./health-checker.ts";
import { payloadMatches } from "./payload.ts";
import type { RedisCheckSettings, TcpCheckSettings } from "./settings.ts";

export interface TcpProbeOptions {
  readonly check: TcpCheckSettings | RedisCheckSettings;
  readonly reuseConnection: boolean;
  readonly dial: (host: HostData) => SocketConnection;
}

/** What does not match may still become a match; bytes kept for that are bounded. */
const maxReceivedBytes = 64 * 1024;

/** No answer to these commands is longer. */
const maxLineBytes = 1024;

export class TcpProbe implements Probe, ConnectionCallbacks, ReadFilter {
  readonly #options: TcpProbeOptions;
  readonly #host: CheckedHost;
  readonly #callbacks: ProbeCallbacks;
  #connection: SocketConnection | undefined = undefined;
  #isOpen = false;
  #asking = false;
  #received: Buffer = Buffer.alloc(0);

  constructor(options: TcpProbeOptions, host: CheckedHost, callbacks: ProbeCallbacks) {
    this.#options = options;
    this.#host = host;
    this.#callbacks = callbacks;
  }

  start(): void {
    this.#received = Buffer.alloc(0);
    if (!this.#isOpen) this.#drop();
    this.#asking = true;
    if (this.#connection !== undefined) {
      this.#send(this.#connection);
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
    this.#isOpen = false;
    const connection = this.#connection;
    this.#connection = undefined;
    connection?.removeCallbacks(this);
    connection?.close("abort");
  }

  #send(connection: SocketConnection): void {
    const { check } = this.#options;
    if (check.kind === "redis") {
      connection.write(Buffer.from(check.command));
      return;
    }
    const { send, proxyProtocol } = check;
    if (proxyProtocol === 1) connection.write(proxyHeader(1, connection.localAddress, connection.remoteAddress));
    // Of the proxy itself: a LOCAL connection.
    if (proxyProtocol === 2) connection.write(proxyHeader(2, undefined, undefined));
    if (send !== undefined && send.length > 0) connection.write(Buffer.from(send));
  }

  onEvent(event: ConnectionEvent): void {
    const connection = this.#connection;
    if (connection === undefined) return;
    if (event !== "connected") {
      this.#connection = undefined;
      this.#isOpen = false;
      // Also between two checks: a host that hangs up fails then and there.
      this.#asking = false;
      this.#callbacks.onFailure("NETWORK");
      return;
    }
    this.#isOpen = true;
    const { check } = this.#options;
    if (check.kind === "tcp" && check.receive.length === 0) {
      // That it connects is all that was asked.
      this.#drop();
      this.#callbacks.onSuccess(false);
      return;
    }
    connection.setReadFilter(this);
    this.#send(connection);
  }

  onData(data: Buffer): void {
    if (!this.#asking) return;
    const received = Buffer.concat([this.#received, data]);
    const verdict = this.#verdict(received);
    if (verdict !== "more") {
      this.#received = Buffer.alloc(0);
      this.#asking = false;
      if (verdict === "good") this.#callbacks.onSuccess(false);
      else this.#callbacks.onFailure("ACTIVE");
      if (!this.#options.reuseConnection && !this.#asking) this.#drop();
      return;
    }
    this.#received = received.length > maxReceivedBytes ? received.subarray(received.length - maxReceivedBytes) : received;
  }

  #verdict(received: Buffer): "good" | "bad" | "more" {
    const { check } = this.#options;
    // What does not match may still be followed by what does.
    if (check.kind === "tcp") return payloadMatches(check.receive, received) ? "good" : "more";
    const end = received.indexOf("\r\n");
    if (end < 0) return received.length > maxLineBytes ? "bad" : "more";
    const line = received.toString("latin1", 0, end);
    // A member of a Redis cluster that sends elsewhere is well.
    if (line === check.answer || /^-(?:MOVED|ASK) /.test(line)) return "good";
    check.existsFailure?.inc();
    return "bad";
  }

  onAboveWriteBufferHighWatermark(): void {}
  onBelowWriteBufferLowWatermark(): void {}
}
