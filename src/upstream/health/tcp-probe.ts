/** Checks by a connection, and by what the host answers to some bytes. */
import type { ConnectionCallbacks, ConnectionEvent, ReadFilter } from "../../net/connection.ts";
import type { SocketConnection } from "../../net/socket-connection.ts";
import { proxyHeader } from "../../router/filter/connect-upstream.ts";
import type { HostData } from "../hosts.ts";
import type { CheckedHost, Probe, ProbeCallbacks } from "./health-checker.ts";
import { payloadMatches } from "./payload.ts";
import type { TcpCheckSettings } from "./settings.ts";

export interface TcpProbeOptions {
  readonly check: TcpCheckSettings;
  readonly reuseConnection: boolean;
  readonly dial: (host: HostData) => SocketConnection;
}

/** What does not match may still become a match; bytes kept for that are bounded. */
const maxReceivedBytes = 64 * 1024;

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
    const { send, proxyProtocol } = this.#options.check;
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
    if (this.#options.check.receive.length === 0) {
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
    if (payloadMatches(this.#options.check.receive, received)) {
      this.#received = Buffer.alloc(0);
      this.#asking = false;
      this.#callbacks.onSuccess(false);
      if (!this.#options.reuseConnection && !this.#asking) this.#drop();
      return;
    }
    this.#received = received.length > maxReceivedBytes ? received.subarray(received.length - maxReceivedBytes) : received;
  }

  onAboveWriteBufferHighWatermark(): void {}
  onBelowWriteBufferLowWatermark(): void {}
}
