/**
 * What a codec (HTTP/1, HTTP/2) and the connection manager or a connection pool say to each other: Envoy's `codec.h` model.
 * A codec turns bytes into these calls and back. It owns no socket, timer or configuration message.
 *
 * Body chunks: a `Buffer` handed to `decodeData` is a view of a shared read buffer and valid only during the call. Who keeps it
 * copies it. A `Buffer` handed to `encodeData` belongs to the callee (the connection decides whether it must keep the memory, see
 * net/connection.ts).
 */
import type { RequestHeaders, ResponseHeaders, Trailers } from "./header-map.ts";

/** Why a stream ended before its end (Envoy's StreamResetReason). */
export type StreamResetReason =
  | "local_reset"
  | "local_refused_stream_reset"
  | "remote_reset"
  | "remote_refused_stream_reset"
  | "local_connection_failure"
  | "remote_connection_failure"
  | "connection_timeout"
  | "connection_termination"
  | "overflow"
  | "connect_error"
  | "protocol_error"
  | "overload_manager"
  | "http1_premature_upstream_half_close";

export interface StreamCallbacks {
  /** The stream is dead; nothing more may be encoded or will be decoded. `details` says more where there is more to say. */
  onResetStream(reason: StreamResetReason, details: string): void;
  /** The peer does not take what we write: stop producing (pause the other side) until `onBelow...`. */
  onAboveWriteBufferHighWatermark(): void;
  onBelowWriteBufferLowWatermark(): void;
}

/** One stream of a connection, as both codec roles offer it. */
export interface Stream {
  /** At most two listeners in practice: the connection manager or router, and a filter chain. */
  addCallbacks(callbacks: StreamCallbacks): void;
  removeCallbacks(callbacks: StreamCallbacks): void;
  /** Ends the stream at once. HTTP/1: closes the connection unless the exchange was complete. Calls every onResetStream with the reason. */
  resetStream(reason: StreamResetReason): void;
  /** Counted: reading goes on when each `true` had its `false`. */
  readDisable(disable: boolean): void;
  /** Bytes from and to the wire for %BYTES_*% and *_WIRE_BYTES, headers included. */
  readonly bytesMeter: BytesMeter;
  /** Why the codec ended or refused the stream (response code details), "" if it did not. */
  readonly responseDetails: string;
}

export interface BytesMeter {
  wireBytesReceived: number;
  wireBytesSent: number;
  headerBytesReceived: number;
  headerBytesSent: number;
}

export type Protocol = "HTTP/1.0" | "HTTP/1.1" | "HTTP/2" | "HTTP/3";

// ---- server role ---------------------------------------------------------------------------------------------------

/** The connection manager's side of a request stream: the codec calls it. */
export interface RequestDecoder {
  decodeHeaders(headers: RequestHeaders, endStream: boolean): void;
  decodeData(chunk: Buffer, endStream: boolean): void;
  decodeTrailers(trailers: Trailers): void;
  /**
   * The codec cannot accept this request (malformed, too large, ...): answer `status` with `body` and close where the protocol
   * wants it. `details` becomes the response code details.
   */
  sendLocalReply(status: number, body: string, details: string): void;
}

export interface ResponseEncoder {
  readonly stream: Stream;
  encode1xxHeaders(headers: ResponseHeaders): void;
  encodeHeaders(headers: ResponseHeaders, endStream: boolean): void;
  encodeData(chunk: Buffer, endStream: boolean): void;
  encodeTrailers(trailers: Trailers): void;
}

export interface ServerConnectionCallbacks {
  /** A request begins. HTTP/1 calls it once the head has been parsed (or refused). */
  newStream(encoder: ResponseEncoder): RequestDecoder;
  onGoAway(): void;
}

export interface ServerConnection {
  readonly protocol: Protocol;
  /** Feed bytes. The codec may hold back part (pipelining: it stops after one request until that exchange is complete). */
  dispatch(data: Buffer): void;
  /** The peer has closed its side (or both). */
  onConnectionEnd(): void;
  /** The peer has closed its sending side. */
  onHalfClose(): void;
  /** Part of a request's head has come in, and its rest has not. */
  readonly readingHead: boolean;
  /** That rest takes too long: the request is refused. */
  refuseHead(): void;
  /** Hands over what was written in this turn of the event loop: before the connection is closed. */
  flush(): void;
  /** Start of a drain: HTTP/2 sends GOAWAY with the largest id; HTTP/1 does nothing (the manager adds connection: close). */
  shutdownNotice(): void;
  goAway(): void;
  /** Whether bytes still wait to be handed over (a connection must not be closed under them). */
  wantsToWrite(): boolean;
  /** From the connection's watermarks, for all streams. */
  onUnderlyingConnectionAboveWriteBufferHighWatermark(): void;
  onUnderlyingConnectionBelowWriteBufferLowWatermark(): void;
}

// ---- client role -----------------------------------------------------------------------------------------------------

/** The router's side of an attempt: the codec calls it. */
export interface ResponseDecoder {
  decode1xxHeaders(headers: ResponseHeaders): void;
  decodeHeaders(headers: ResponseHeaders, endStream: boolean): void;
  decodeData(chunk: Buffer, endStream: boolean): void;
  decodeTrailers(trailers: Trailers): void;
}

export interface RequestEncoder {
  readonly stream: Stream;
  encodeHeaders(headers: RequestHeaders, endStream: boolean): void;
  encodeData(chunk: Buffer, endStream: boolean): void;
  encodeTrailers(trailers: Trailers): void;
  /** From now on bytes pass both ways unframed (CONNECT, upgrade) once the answer says so. */
  enableTcpTunneling(): void;
}

export interface ClientConnectionCallbacks {
  onGoAway(): void;
  /** The codec found the peer in breach of the protocol (bytes after the answer, broken head): close. `details` for logs and stats. */
  onProtocolError(details: string): void;
}

export interface ClientConnection {
  readonly protocol: Protocol;
  newStream(decoder: ResponseDecoder): RequestEncoder;
  dispatch(data: Buffer): void;
  onConnectionEnd(): void;
  goAway(): void;
  wantsToWrite(): boolean;
  onUnderlyingConnectionAboveWriteBufferHighWatermark(): void;
  onUnderlyingConnectionBelowWriteBufferLowWatermark(): void;
}
