/** Where a proxied connection goes to: a raw connection, or a tunnel through an HTTP proxy. */
import type { UpstreamInfo } from "../../../http/stream-info.ts";
import { emptyUpstreamInfo } from "../../../http/stream-info.ts";
import type { Connection, ConnectionCallbacks, ConnectionEvent, ReadFilter } from "../../../net/connection.ts";
import type { Host } from "../../../upstream/upstream.ts";

export interface Upstream {
  readonly info: UpstreamInfo;
  write(data: Buffer, endStream: boolean): void;
  readDisable(disable: boolean): void;
  /** flush: what was written still leaves. */
  close(kind: "flush" | "no_flush" | "abort", flushMs: number): void;
  /** Bytes not yet taken by the kernel. */
  readonly writeBuffered: number;
}

/** What the proxy hears of it. */
export interface UpstreamListener {
  onUpstreamData(data: Buffer, endStream: boolean): void;
  /** `reset`: the peer broke the connection off. */
  onUpstreamClosed(reset: boolean): void;
  onUpstreamFull(): void;
  onUpstreamDrained(): void;
}

export class RawUpstream implements Upstream, ReadFilter, ConnectionCallbacks {
  readonly info: UpstreamInfo;
  readonly #connection: Connection;
  readonly #listener: UpstreamListener;
  #readEnded = false;
  #writeEnded = false;

  constructor(connection: Connection, host: Host, listener: UpstreamListener) {
    this.#connection = connection;
    this.#listener = listener;
    this.info = emptyUpstreamInfo();
    this.info.host = host;
    this.info.connectionId = connection.id;
    this.info.localAddress = connection.localAddress;
    this.info.remoteAddress = connection.remoteAddress;
    this.info.tls = connection.tls;
    this.info.connectedMs = performance.now();
    this.info.connectStartMs = connection.connectedAtMs;
    if (connection.tls !== undefined) this.info.tlsHandshakeDoneMs = this.info.connectedMs;
    this.info.connectionStreams = 1;
  }

  /** From now on the listener is called. */
  start(): void {
    this.#connection.enableHalfClose(true);
    this.#connection.addCallbacks(this);
    this.#connection.setReadFilter(this);
  }

  get writeBuffered(): number {
    return this.#connection.writeBuffered;
  }
  write(data: Buffer, endStream: boolean): void {
    this.#connection.write(data, endStream);
    if (!endStream) return;
    this.#writeEnded = true;
    // Who ends last is said to have closed it.
    if (this.#readEnded) this.#connection.close("flush");
  }
  readDisable(disable: boolean): void {
    this.#connection.readDisable(disable);
  }
  close(kind: "flush" | "no_flush" | "abort", flushMs: number): void {
    // Both have ended: it closes by itself.
    if (kind === "flush" && this.#readEnded && this.#writeEnded && this.writeBuffered === 0) return;
    if (kind === "flush" && flushMs > 0) this.#connection.setDelayedCloseTimeout(flushMs);
    this.#connection.close(kind);
  }

  onData(data: Buffer, endStream: boolean): void {
    if (endStream) this.#readEnded = true;
    this.#listener.onUpstreamData(data, endStream);
  }
  onEvent(event: ConnectionEvent): void {
    if (event !== "connected") this.#listener.onUpstreamClosed(event === "remote_close" && this.#connection.wasReset === true);
  }
  onAboveWriteBufferHighWatermark(): void {
    this.#listener.onUpstreamFull();
  }
  onBelowWriteBufferLowWatermark(): void {
    this.#listener.onUpstreamDrained();
  }
}
