/** HTTP/2, server role: requests in, responses out, many at a time. */
import type { Connection } from "../../net/connection.ts";
import type { RequestDecoder, ResponseEncoder, ServerConnection, ServerConnectionCallbacks, StreamResetReason } from "../codec.ts";
import { RequestHeaders, type ResponseHeaders, Trailers } from "../header-map.ts";
import { H2Connection } from "./connection.ts";
import { ConnectionError, errorCode } from "./frames.ts";
import { type BlockKind, details } from "./header-collector.ts";
import type { H2Settings } from "./settings.ts";
import { H2Stream } from "./stream.ts";

export interface H2ServerCallbacks extends ServerConnectionCallbacks {
  /** The connection cannot go on: close it. `isProtocolError`: the client broke the protocol, rather than flooding us. */
  onConnectionError(details: string, isProtocolError: boolean, hadStreams: boolean): void;
}

export class H2ServerConnection extends H2Connection implements ServerConnection {
  readonly protocol = "HTTP/2";
  readonly #callbacks: H2ServerCallbacks;

  constructor(connection: Connection, settings: H2Settings, callbacks: H2ServerCallbacks, bufferLimit: number) {
    super(connection, settings, true, bufferLimit);
    this.#callbacks = callbacks;
    settings.stats.nghttp2_downstream_connections.inc();
  }

  protected onHeaderBlock(id: number, endStream: boolean, decode: (kind: BlockKind) => void, frameBytes: number): void {
    if ((id & 1) === 0) throw new ConnectionError(errorCode.protocolError, "a request on an even stream", "codec_error:The_user_callback_function_failed");
    const known = this.streams.get(id) as H2ServerStream | undefined;
    if (known !== undefined) {
      this.#onTrailers(known, endStream, decode, frameBytes);
      return;
    }
    if (id <= this.lastId) {
      this.passesOver(id);
      decode("request");
      return;
    }
    const { settings, collector } = this;
    decode("request");
    if (id > this.lastTaken) return;
    if (this.streams.size >= settings.maxConcurrentStreams) {
      this.lastId = id;
      settings.stats.stream_refused_errors.inc();
      this.refuse(id, errorCode.refusedStream);
      return;
    }
    const stream = new H2ServerStream(this);
    this.addStream(stream, id);
    const decoder = this.#callbacks.newStream(stream);
    stream.decoder = decoder;
    if (stream.closed) return;
    if (collector.problem !== "" || collector.overflow !== "") {
      this.#onBadMessage(stream);
      return;
    }
    stream.meter.headerBytesReceived = frameBytes;
    stream.meter.wireBytesReceived = frameBytes;
    if (endStream && collector.contentLength > 0) {
      collector.problem = details.messaging;
      this.#onBadMessage(stream);
      return;
    }
    const { method, protocol } = collector;
    const headers = new RequestHeaders(method as string, collector.path, collector.authority, collector.scheme, collector.list);
    if (method === "CONNECT") {
      // RFC 8441: what HTTP/1 says by an upgrade.
      if (protocol !== undefined) {
        stream.upgrade = protocol;
        headers.method = "GET";
        headers.list.push("upgrade", protocol, "connection", "upgrade");
      }
    } else if (!endStream && collector.contentLength >= 0) stream.expectedContent = collector.contentLength;
    if (endStream) stream.remoteEnded = true;
    decoder.decodeHeaders(headers, endStream);
    if (endStream) this.streamMayEnd(stream);
  }

  #onTrailers(stream: H2ServerStream, endStream: boolean, decode: (kind: BlockKind) => void, frameBytes: number): void {
    if (stream.remoteEnded) throw new ConnectionError(errorCode.streamClosed, "HEADERS: stream in half-closed(remote)", "http2.unknown.nghttp2.error");
    const { settings, collector } = this;
    settings.stats.trailers.inc();
    decode("trailers");
    if (!endStream && collector.problem === "") collector.problem = details.messaging;
    if (collector.problem !== "" || collector.overflow !== "") {
      this.#onBadMessage(stream);
      return;
    }
    stream.meter.headerBytesReceived += frameBytes;
    stream.meter.wireBytesReceived += frameBytes;
    if (stream.expectedContent > 0) {
      this.resetWith(stream, errorCode.protocolError, "protocol_error", details.remoteReset);
      return;
    }
    stream.remoteEnded = true;
    stream.decoder?.decodeTrailers(new Trailers(collector.list));
    this.streamMayEnd(stream);
  }

  #onBadMessage(stream: H2ServerStream): void {
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

  protected onPeerGoAway(): void {
    this.#callbacks.onGoAway();
  }
  protected onPeerSettings(): void {}
  protected onBroken(why: string, isProtocolError: boolean, hadStreams: boolean): void {
    this.#callbacks.onConnectionError(why, isProtocolError, hadStreams);
  }
  protected onStreamGone(): void {}
  protected onPingTimeout(): void {
    this.connection.close("no_flush", "http2_ping_timeout");
  }

  protected resetCode(stream: H2Stream, reason: StreamResetReason): number {
    switch (reason) {
      case "local_refused_stream_reset":
        return errorCode.refusedStream;
      case "connect_error":
        return errorCode.connectError;
      case "protocol_error":
        return errorCode.protocolError;
      default:
        // A response that is complete makes the rest of the request needless: no failure (RFC 9113 8.1).
        return stream.localEnded ? errorCode.noError : errorCode.internalError;
    }
  }

  override fail(error: ConnectionError): void {
    // A request whose head was still coming in ends with the connection: it is counted and logged as any other.
    if (!this.dead && this.readingHead) this.#beginUnread();
    super.fail(error);
  }

  /** A client has nothing more to say once it has closed its side, and cannot give us window either. */
  onHalfClose(): void {
    this.onConnectionEnd();
  }

  /** The head of a request takes too long. */
  refuseHead(): void {
    if (this.dead || !this.readingHead) return;
    this.#beginUnread()?.sendLocalReply(408, "request header timeout", "request_header_timeout");
  }

  /** A stream for a head that has not come in; its rest is passed over. */
  #beginUnread(): RequestDecoder | undefined {
    const id = this.blockId;
    if ((id & 1) === 0 || id > this.lastTaken) return undefined;
    const stream = new H2ServerStream(this);
    this.addStream(stream, id);
    stream.decoder = this.#callbacks.newStream(stream);
    return stream.decoder;
  }
}

export class H2ServerStream extends H2Stream implements ResponseEncoder {
  decoder: RequestDecoder | undefined = undefined;
  /** The protocol that an extended CONNECT asks for. */
  upgrade: string | undefined = undefined;

  encode1xxHeaders(headers: ResponseHeaders): void {
    if (this.closed || this.localEnded) return;
    this.#encode(headers.status, headers, false);
  }

  encodeHeaders(headers: ResponseHeaders, endStream: boolean): void {
    if (this.closed || this.localEnded) return;
    // RFC 8441 5: success is 200 here.
    const status = this.upgrade !== undefined && headers.status === 101 ? 200 : headers.status;
    this.#encode(status, headers, endStream);
  }

  #encode(status: number, headers: ResponseHeaders, endStream: boolean): void {
    const { codec } = this;
    const { encoder } = codec;
    encoder.begin();
    encoder.field(":status", statusText(status));
    const { list } = headers;
    for (let i = 0; i < list.length; i += 2) {
      const name = list[i];
      if (isConnectionField(name)) continue;
      encoder.field(name, list[i + 1]);
    }
    codec.sendBlock(this, endStream);
  }

  onData(chunk: Buffer, endStream: boolean): void {
    this.decoder?.decodeData(chunk, endStream);
  }

  override tellReset(reason: StreamResetReason, why: string): void {
    super.tellReset(reason, why);
    this.decoder = undefined;
  }
}

const statusTexts: string[] = [];
function statusText(status: number): string {
  return (statusTexts[status] ??= String(status));
}

/** Fields that HTTP/2 must not carry (RFC 9113 8.2.2). */
export function isConnectionField(name: string): boolean {
  switch (name.charCodeAt(0)) {
    case 99: // c
      return name === "connection";
    case 107: // k
      return name === "keep-alive";
    case 112: // p
      return name === "proxy-connection";
    case 116: // t
      return name === "transfer-encoding";
    case 117: // u
      return name === "upgrade";
    default:
      return false;
  }
}
