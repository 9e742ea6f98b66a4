/** HTTP/2, client role: requests out, responses in, many at a time. */
import type { Connection } from "../../net/connection.ts";
import type { ClientConnection, ClientConnectionCallbacks, RequestEncoder, ResponseDecoder, StreamResetReason } from "../codec.ts";
import { type RequestHeaders, ResponseHeaders, Trailers } from "../header-map.ts";
import { H2Connection, protocolError } from "./connection.ts";
import { ConnectionError, errorCode, maxWindow } from "./frames.ts";
import { type BlockKind, details } from "./header-collector.ts";
import { isConnectionField } from "./server-connection.ts";
import type { H2Settings } from "./settings.ts";
import { H2Stream } from "./stream.ts";

export interface H2ClientCallbacks extends ClientConnectionCallbacks {
  /** A stream is over, for whatever reason. */
  onStreamEnded(): void;
  /** The peer has said how many streams it takes, or changed it. */
  onPeerLimits(): void;
  /** A stream was reset, by whichever side. */
  onStreamReset(reason: StreamResetReason): void;
}

/** Until a peer has said how many streams it takes (RFC 9113 6.5.2 advises not to take fewer). */
const assumedStreams = 100;

export class H2ClientConnection extends H2Connection implements ClientConnection {
  readonly protocol = "HTTP/2";
  readonly #callbacks: H2ClientCallbacks;
  #settled = false;
  #lastHeardMs = 0;

  constructor(connection: Connection, settings: H2Settings, callbacks: H2ClientCallbacks, bufferLimit: number) {
    super(connection, settings, false, bufferLimit);
    this.#callbacks = callbacks;
    settings.stats.nghttp2_upstream_connections.inc();
    if (settings.pingAfterIdleMs > 0) this.#lastHeardMs = settings.timers.clock.now();
  }

  /** Whether the peer has said how many streams it takes. */
  get isSettled(): boolean {
    return this.#settled;
  }
  /** Streams at once, by our own limit and the peer's. */
  get streamLimit(): number {
    return Math.min(this.settings.maxConcurrentStreams, this.#settled ? this.peerMaxStreams : assumedStreams);
  }
  /** All identifiers are used up, or will be soon. */
  get isWorn(): boolean {
    return this.lastId > maxWindow - 10_000;
  }

  newStream(decoder: ResponseDecoder): RequestEncoder {
    const { pingAfterIdleMs, timers } = this.settings;
    if (pingAfterIdleMs > 0 && timers.clock.now() - this.#lastHeardMs >= pingAfterIdleMs) this.sendPing();
    return new H2ClientStream(this, decoder);
  }

  override dispatch(data: Buffer): void {
    if (this.settings.pingAfterIdleMs > 0) this.#lastHeardMs = this.settings.timers.clock.now();
    super.dispatch(data);
  }

  /** @internal The stream's first HEADERS are about to be written. */
  open(stream: H2ClientStream): void {
    this.addStream(stream, this.lastId === 0 ? 1 : this.lastId + 2);
  }

  protected onHeaderBlock(id: number, endStream: boolean, decode: (kind: BlockKind) => void, frameBytes: number): void {
    const stream = this.streams.get(id) as H2ClientStream | undefined;
    if (stream === undefined) {
      if (id > this.lastId || (id & 1) === 0) throw protocolError("HEADERS on a stream that is idle");
      this.passesOver(id);
      decode("response");
      return;
    }
    if (stream.remoteEnded) throw protocolError("HEADERS: stream in half-closed(remote)", errorCode.streamClosed);
    const { collector } = this;
    const isTrailers = stream.responded;
    decode(isTrailers ? "trailers" : "response");
    const { status } = collector;
    const interim = !isTrailers && status > 0 && status < 200;
    if (collector.problem === "" && collector.overflow === "" && (isTrailers ? !endStream : interim && endStream)) collector.problem = details.messaging;
    stream.meter.headerBytesReceived += frameBytes;
    stream.meter.wireBytesReceived += frameBytes;
    if (collector.problem !== "" || collector.overflow !== "") {
      this.#onBadMessage(stream);
      return;
    }
    if (isTrailers) {
      if (stream.expectedContent > 0) {
        this.resetWith(stream, errorCode.protocolError, "protocol_error", details.remoteReset);
        return;
      }
      stream.remoteEnded = true;
      this.streamMayEnd(stream);
      stream.decoder.decodeTrailers(new Trailers(collector.list));
      return;
    }
    const headers = new ResponseHeaders(status, collector.list);
    if (interim) {
      stream.decoder.decode1xxHeaders(headers);
      return;
    }
    stream.responded = true;
    stream.mayReceiveData = true;
    if (stream.isHead || status === 204 || status === 304) stream.expectedContent = 0;
    else if (collector.contentLength >= 0 && !stream.isTunnel) {
      if (!endStream) stream.expectedContent = collector.contentLength;
      else if (collector.contentLength > 0) {
        collector.problem = details.messaging;
        this.#onBadMessage(stream);
        return;
      }
    }
    // RFC 8441 5: what is 101 over HTTP/1 is a success here.
    if (stream.upgrade !== undefined && status >= 200 && status < 300 && !endStream) {
      headers.status = 101;
      headers.list.push("upgrade", stream.upgrade, "connection", "upgrade");
    }
    if (endStream) {
      stream.remoteEnded = true;
      this.streamMayEnd(stream);
    }
    stream.decoder.decodeHeaders(headers, endStream);
  }

  #onBadMessage(stream: H2ClientStream): void {
    const { settings, collector } = this;
    const { problem, overflow } = collector;
    if (overflow !== "" && problem === "") {
      if (overflow === details.tooMany) settings.stats.header_overflow.inc();
      else if (overflow === details.tooLarge) settings.stats.header_list_size_too_large.inc();
      this.resetWith(stream, errorCode.internalError, "remote_reset", overflow);
      return;
    }
    settings.stats.rx_messaging_error.inc();
    if (!settings.streamErrorOnInvalidMessage) throw new ConnectionError(errorCode.protocolError, "Violation in HTTP messaging rule", problem);
    this.resetWith(stream, errorCode.protocolError, "protocol_error", problem);
  }

  protected onPeerGoAway(lastId: number): void {
    this.#callbacks.onGoAway();
    // RFC 9113 6.8: those above were not looked at and may be sent again.
    for (const stream of [...this.streams.values()]) if (stream.id > lastId) this.giveUp(stream, "remote_refused_stream_reset", details.remoteRefuse);
  }
  protected onPeerSettings(): void {
    this.#settled = true;
    this.#callbacks.onPeerLimits();
  }
  protected onBroken(why: string, isProtocolError: boolean): void {
    this.#callbacks.onProtocolError(isProtocolError ? why : "");
  }
  protected onStreamGone(): void {
    this.#callbacks.onStreamEnded();
  }
  /** @internal */
  onStreamReset(reason: StreamResetReason): void {
    this.#callbacks.onStreamReset(reason);
  }
  /** @internal A stream that was reset before it sent anything. */
  onUnopenedGone(): void {
    this.#callbacks.onStreamEnded();
  }
  protected onPingTimeout(): void {
    this.connection.close("no_flush", "http2_ping_timeout");
  }

  protected resetCode(_stream: H2Stream, reason: StreamResetReason): number {
    switch (reason) {
      case "connect_error":
        return errorCode.connectError;
      case "protocol_error":
        return errorCode.protocolError;
      default:
        return errorCode.internalError;
    }
  }
}

export class H2ClientStream extends H2Stream implements RequestEncoder {
  declare readonly codec: H2ClientConnection;
  readonly decoder: ResponseDecoder;
  /** The response's head (not an interim one) has come. */
  responded = false;
  isHead = false;
  isTunnel = false;
  /** The protocol that was asked for by an HTTP/1 upgrade. */
  upgrade: string | undefined = undefined;

  constructor(codec: H2ClientConnection, decoder: ResponseDecoder) {
    super(codec);
    this.decoder = decoder;
    this.mayReceiveData = false;
  }

  encodeHeaders(headers: RequestHeaders, endStream: boolean): void {
    const { codec } = this;
    if (this.closed || codec.dead) return;
    codec.open(this);
    const { encoder } = codec;
    const { list } = headers;
    let { method, protocol } = headers;
    const upgrade = headers.get("upgrade");
    if (upgrade !== undefined && upgrade !== "") {
      this.upgrade = upgrade;
      method = "CONNECT";
      protocol = upgrade;
    }
    this.isHead = method === "HEAD";
    this.isTunnel = method === "CONNECT";
    encoder.begin();
    if (headers.authority !== undefined) encoder.field(":authority", headers.authority);
    // A plain CONNECT names its target only (RFC 9113 8.5).
    const isPlainConnect = method === "CONNECT" && protocol === undefined;
    if (!isPlainConnect) encoder.field(":path", headers.path ?? "/");
    encoder.field(":method", method);
    if (!isPlainConnect) encoder.field(":scheme", headers.scheme ?? "http");
    if (protocol !== undefined) encoder.field(":protocol", protocol);
    for (let i = 0; i < list.length; i += 2) {
      const name = list[i];
      if (isConnectionField(name) || (this.isTunnel && name === "content-length")) continue;
      encoder.field(name, list[i + 1]);
    }
    codec.sendBlock(this, endStream);
  }

  enableTcpTunneling(): void {}

  override resetStream(reason: StreamResetReason): void {
    if (this.id !== 0) {
      super.resetStream(reason);
      return;
    }
    if (this.closed) return;
    this.closed = true;
    this.codec.onUnopenedGone();
    this.tellReset(reason, "");
  }

  override tellReset(reason: StreamResetReason, why: string): void {
    this.codec.onStreamReset(reason);
    super.tellReset(reason, why);
  }

  onData(chunk: Buffer, endStream: boolean): void {
    this.decoder.decodeData(chunk, endStream);
  }
}
