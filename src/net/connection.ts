/**
 * A byte stream with a peer (TCP, Unix socket, with or without TLS), downstream or upstream alike. Implementations: net/socket-connection.ts.
 */
import type { StreamResetReason } from "../http/codec.ts";

/** An address in both the forms the field needs: to connect and to print (Envoy's `asString`). */
export type Address =
  | { readonly kind: "ip"; readonly ip: string; readonly port: number; readonly family: 4 | 6; readonly text: string }
  | { readonly kind: "pipe"; readonly path: string; readonly text: string };

/** flush: write all, then end. flushAndDelay: as flush, then wait for the peer to close, at most delayed_close_timeout. abort: RST. */
export type CloseKind = "no_flush" | "flush" | "flush_and_delay" | "abort";
export type ConnectionEvent = "connected" | "remote_close" | "local_close";

export interface ConnectionCallbacks {
  onEvent(event: ConnectionEvent): void;
  onAboveWriteBufferHighWatermark(): void;
  onBelowWriteBufferLowWatermark(): void;
}

/** Reads: one filter per connection is told what arrived; it passes on. */
export interface ReadFilter {
  /** `data` is valid only during the call. `endStream`: the peer has closed its side. */
  onData(data: Buffer, endStream: boolean): void;
}

export interface TlsInfo {
  readonly version: string;
  readonly cipher: string;
  readonly sni: string;
  readonly alpn: string;
  readonly sessionId: string;
  readonly peerCertificatePresented: boolean;
  readonly peerCertificateValidated: boolean;
  /** The peer's and our own certificate, parsed when first asked for. */
  readonly peerCertificate: import("node:crypto").X509Certificate | undefined;
  readonly localCertificate: import("node:crypto").X509Certificate | undefined;
  /** Key exchange group ("X25519"), where it is known. */
  readonly group?: string;
  /** The certificates the peer sent, its own first. */
  readonly peerChain?: readonly import("node:crypto").X509Certificate[];
}

export interface Connection {
  readonly id: number;
  readonly remoteAddress: Address;
  /** Our end. Downstream: the address the client connected to (original destination once restored). */
  readonly localAddress: Address;
  /** A listener filter found out where the client wanted to go (original_dst, proxy_protocol): `localAddress` is that. */
  readonly isLocalAddressRestored?: boolean;
  /** The peer's address of the TCP connection itself, before PROXY protocol or XFF changed anything. */
  readonly directRemoteAddress: Address;
  readonly tls: TlsInfo | undefined;
  /** Why it failed or was closed ("" if nothing is known), for %UPSTREAM_TRANSPORT_FAILURE_REASON%, %CONNECTION_TERMINATION_DETAILS%. */
  transportFailureReason: string;
  /** performance.now() of the moments that duration operators name. */
  readonly connectedAtMs: number;
  readonly state: "connecting" | "open" | "closing" | "closed";
  /** Bytes over its life, for connection logs. */
  readonly bytesReceived: number;
  readonly bytesSent: number;
  /** The peer broke the connection off (RST) rather than ending it. */
  readonly wasReset?: boolean;

  setReadFilter(filter: ReadFilter): void;
  addCallbacks(callbacks: ConnectionCallbacks): void;
  removeCallbacks(callbacks: ConnectionCallbacks): void;
  /**
   * Writes. A string is latin1. Several writes of one turn leave in one system call (corked until the turn's end or `flush`).
   * A `Buffer` that views the shared read buffer may be passed: the connection copies or swaps buffers when the kernel did not take it all.
   */
  write(data: Buffer | string, endStream?: boolean): void;
  /** Counted, see codec.ts. */
  readDisable(disable: boolean): void;
  /** Bytes written and not yet taken by the kernel. */
  readonly writeBuffered: number;
  setBufferLimit(bytes: number): void;
  close(kind: CloseKind, details?: string): void;
  noDelay(on: boolean): void;
  /** `flush_and_delay` waits this long; 0 turns the wait off. */
  setDelayedCloseTimeout(ms: number): void;
  /** Keep the half-open connection after the peer's end of stream (TCP proxy) instead of treating it as closed. */
  enableHalfClose(on: boolean): void;
}

export type { StreamResetReason };
