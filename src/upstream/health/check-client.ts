/** The connection of one host's checks by request: speaks HTTP/1 or HTTP/2, one request at a time, and stays open between them where that is wanted. */
import type { RequestEncoder, ResponseDecoder, StreamCallbacks } from "../../http/codec.ts";
import { H1ClientConnection } from "../../http/h1/client-connection.ts";
import type { H1Settings } from "../../http/h1/settings.ts";
import { type H2ClientCallbacks, H2ClientConnection } from "../../http/h2/client-connection.ts";
import type { H2Settings } from "../../http/h2/settings.ts";
import type { RequestHeaders, ResponseHeaders, Trailers } from "../../http/header-map.ts";
import type { ConnectionCallbacks, ConnectionEvent, ReadFilter } from "../../net/connection.ts";
import type { SocketConnection } from "../../net/socket-connection.ts";

export interface CheckClientOptions {
  readonly http2: boolean;
  readonly h1: H1Settings;
  readonly h2: H2Settings;
  readonly reuseConnection: boolean;
  readonly dial: () => SocketConnection;
}

export interface CheckEvents {
  onHeaders(headers: ResponseHeaders): void;
  onData(chunk: Buffer): void;
  /** The answer is whole, and all bytes at hand are taken. */
  onAnswer(trailers: Trailers | undefined): void;
  /** No answer will come. */
  onBroken(): void;
}

export class CheckClient implements ResponseDecoder, StreamCallbacks, ConnectionCallbacks, ReadFilter, H2ClientCallbacks {
  readonly #options: CheckClientOptions;
  readonly #events: CheckEvents;
  #connection: SocketConnection | undefined = undefined;
  #codec: H1ClientConnection | H2ClientConnection | undefined = undefined;
  #waiting: { readonly headers: RequestHeaders; readonly body: Buffer | undefined } | undefined = undefined;
  #asking = false;
  #complete = false;
  #trailers: Trailers | undefined = undefined;

  constructor(options: CheckClientOptions, events: CheckEvents) {
    this.#options = options;
    this.#events = events;
  }

  ask(headers: RequestHeaders, body: Buffer | undefined): void {
    this.#complete = false;
    this.#trailers = undefined;
    // A connection that is still being made would be older than its check.
    if (this.#codec === undefined) this.drop();
    this.#asking = true;
    if (this.#codec !== undefined) {
      this.#send(this.#codec, headers, body);
      return;
    }
    this.#waiting = { headers, body };
    this.#connection = this.#options.dial();
    this.#connection.addCallbacks(this);
  }

  /** Ends everything without a word. */
  drop(): void {
    this.#asking = false;
    this.#abandon();
  }

  #abandon(): void {
    const connection = this.#connection;
    this.#connection = undefined;
    this.#codec = undefined;
    this.#waiting = undefined;
    connection?.removeCallbacks(this);
    connection?.close("abort");
  }

  #send(codec: H1ClientConnection | H2ClientConnection, headers: RequestHeaders, body: Buffer | undefined): void {
    const encoder: RequestEncoder = codec.newStream(this);
    encoder.stream.addCallbacks(this);
    encoder.encodeHeaders(headers, body === undefined);
    if (body !== undefined) encoder.encodeData(body, true);
  }

  // ---- connection --------------------------------------------------------------------------------------------------------------

  onEvent(event: ConnectionEvent): void {
    const connection = this.#connection;
    if (connection === undefined) return;
    if (event === "connected") {
      const { http2, h1, h2 } = this.#options;
      const codec = http2 ? new H2ClientConnection(connection, h2, this, 0) : new H1ClientConnection(connection, h1, this);
      this.#codec = codec;
      connection.setReadFilter(this);
      const waiting = this.#waiting;
      this.#waiting = undefined;
      if (waiting !== undefined) this.#send(codec, waiting.headers, waiting.body);
      return;
    }
    const codec = this.#codec;
    this.#connection = undefined;
    this.#codec = undefined;
    if (codec instanceof H1ClientConnection && codec.endsWithConnection && event === "remote_close") {
      // An answer without a length is whole now.
      codec.onConnectionEnd();
      this.#settle(true);
    } else if (codec instanceof H2ClientConnection) codec.onConnectionEnd();
    this.#broken();
  }

  onData(data: Buffer): void {
    const codec = this.#codec;
    if (codec === undefined) return;
    codec.dispatch(data);
    this.#settle(codec instanceof H1ClientConnection ? codec.closeAfterResponse || !codec.idle : codec.goAwayReceived || codec.dead);
  }

  onProtocolError(): void {
    this.#abandon();
    this.#broken();
  }
  onGoAway(): void {}
  onStreamEnded(): void {}
  onPeerLimits(): void {}
  onStreamReset(): void {}
  onAboveWriteBufferHighWatermark(): void {}
  onBelowWriteBufferLowWatermark(): void {}

  /** Between two checks a connection may end. */
  #broken(): void {
    if (!this.#asking) return;
    this.#asking = false;
    this.#events.onBroken();
  }

  // ---- answer ------------------------------------------------------------------------------------------------------------------

  onResetStream(): void {
    if (!this.#complete) this.onProtocolError();
  }
  decode1xxHeaders(): void {}
  decodeHeaders(headers: ResponseHeaders, endStream: boolean): void {
    if (endStream) this.#complete = true;
    this.#events.onHeaders(headers);
  }
  decodeData(chunk: Buffer, endStream: boolean): void {
    if (endStream) this.#complete = true;
    this.#events.onData(chunk);
  }
  decodeTrailers(trailers: Trailers): void {
    this.#complete = true;
    this.#trailers = trailers;
  }

  #settle(ends: boolean): void {
    if (!this.#asking || !this.#complete) return;
    this.#asking = false;
    this.#events.onAnswer(this.#trailers);
    // Who was told may have asked the next question, or closed this.
    if (!this.#asking && (ends || !this.#options.reuseConnection)) this.#abandon();
  }
}
