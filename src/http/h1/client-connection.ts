/** HTTP/1, client role: requests out, responses in, one exchange at a time (no pipelining upstream, as Envoy). */
import type { Connection } from "../../net/connection.ts";
import type {
  BytesMeter,
  ClientConnection,
  ClientConnectionCallbacks,
  RequestEncoder,
  ResponseDecoder,
  Stream,
  StreamCallbacks,
  StreamResetReason,
} from "../codec.ts";
import { type RequestHeaders, ResponseHeaders, Trailers } from "../header-map.ts";
import { ChunkedDecoder } from "./body.ts";
import { HeadError, hasToken, headEnd, messageFraming, nominatedByConnection, parseFields, parseStatusLine } from "./parse.ts";
import { PartialHead } from "./partial-head.ts";
import type { H1Settings } from "./settings.ts";
import { chunkHead, lastChunk, writeFields } from "./write.ts";

/** Methods whose requests have no content (RFC 9110 9.3), as Envoy counts them. */
const withoutContent: ReadonlySet<string> = new Set(["GET", "HEAD", "DELETE", "TRACE", "CONNECT"]);

/** Interim (1xx) answers beyond this many within one exchange are swallowed unread. */
const maxInterimPassed = 16;

/** Details of an answer 408 that came while no request was under way. */
export const idleTimeoutAnswer = "http1.idle_408";

export class H1ClientConnection implements ClientConnection {
  readonly protocol = "HTTP/1.1";
  readonly connection: Connection;
  readonly settings: H1Settings;
  readonly #callbacks: ClientConnectionCallbacks;
  #state: "idle" | "head" | "length" | "chunked" | "until_close" | "tunnel" | "dead" = "idle";
  /** What has come of a head that is not complete. */
  #partial: PartialHead | undefined = undefined;
  #left = 0;
  #chunked: ChunkedDecoder | undefined = undefined;
  #stream: H1ClientStream | undefined = undefined;
  #interim = 0;
  /** The connection ends with this answer: it says so, it has no length, or the request was not complete. */
  closeAfterResponse = false;
  /** The answer itself says so (`connection: close`, HTTP/1.0). */
  closeAnnounced = false;
  #failure: { readonly reason: StreamResetReason; readonly details: string } | undefined = undefined;

  constructor(connection: Connection, settings: H1Settings, callbacks: ClientConnectionCallbacks) {
    this.connection = connection;
    this.settings = settings;
    this.#callbacks = callbacks;
  }

  /** Whether a new exchange may begin. */
  get idle(): boolean {
    return this.#state === "idle";
  }

  /** Whether the end of the connection is the end of the answer (no length was given, a tunnel). */
  get endsWithConnection(): boolean {
    return this.#state === "until_close" || this.#state === "tunnel";
  }

  newStream(decoder: ResponseDecoder): H1ClientStream {
    const stream = new H1ClientStream(this, decoder);
    this.#stream = stream;
    this.#state = "head";
    this.#interim = 0;
    this.closeAfterResponse = false;
    this.closeAnnounced = false;
    return stream;
  }

  dispatch(data: Buffer): void {
    let at = 0;
    const end = data.length;
    try {
      while (at < end) {
        const stream = this.#stream;
        switch (this.#state) {
          case "head":
            at = this.#takeHead(data, at);
            break;
          case "length": {
            const take = Math.min(this.#left, end - at);
            this.#left -= take;
            const last = this.#left === 0;
            const chunk = at === 0 && take === end ? data : data.subarray(at, at + take);
            at += take;
            (stream as H1ClientStream).meter.wireBytesReceived += take;
            if (last) this.#responseEnds();
            (stream as H1ClientStream).decoder.decodeData(chunk, last);
            break;
          }
          case "chunked": {
            const before = at;
            at = (this.#chunked as ChunkedDecoder).feed(data, at);
            (stream as H1ClientStream).meter.wireBytesReceived += at - before;
            break;
          }
          case "until_close":
          case "tunnel": {
            (stream as H1ClientStream).meter.wireBytesReceived += end - at;
            (stream as H1ClientStream).decoder.decodeData(at === 0 ? data : data.subarray(at), false);
            return;
          }
          case "idle":
            // Bytes nobody asked for: whatever they are, they must not become the next answer.
            this.#state = "dead";
            // A server that ends an idle connection may say 408 first: no breach.
            this.#callbacks.onProtocolError(data.toString("latin1", at, at + 12) === "HTTP/1.1 408" ? idleTimeoutAnswer : "http1.unexpected_bytes");
            return;
          case "dead":
            return;
        }
      }
    } catch (error) {
      if (!(error instanceof HeadError)) throw error;
      this.#protocolError(error.details);
    }
  }

  /** `local`: we closed it. */
  onConnectionEnd(local = false): void {
    const stream = this.#stream;
    const state = this.#state;
    this.#state = "dead";
    if (stream === undefined) return;
    this.#stream = undefined;
    if (this.#failure !== undefined) {
      stream.reset(this.#failure.reason, this.#failure.details);
      return;
    }
    // A tunnel has no end of its own: it breaks (as Envoy has it).
    if (!local && state === "until_close") {
      stream.responseEnded = true;
      stream.decoder.decodeData(nothing, true);
      return;
    }
    // Part of an answer has come: what was there is no HTTP message.
    if (!local && (this.#partial !== undefined || state === "length" || state === "chunked")) {
      this.#callbacks.onProtocolError("http1.codec_error");
      stream.reset("protocol_error", "http1.codec_error");
    } else stream.reset("connection_termination", "");
  }

  goAway(): void {}
  wantsToWrite(): boolean {
    return this.connection.writeBuffered > 0;
  }
  onUnderlyingConnectionAboveWriteBufferHighWatermark(): void {
    this.#stream?.onAboveHigh();
  }
  onUnderlyingConnectionBelowWriteBufferLowWatermark(): void {
    this.#stream?.onBelowLow();
  }

  #takeHead(data: Buffer, at: number): number {
    const limit = this.settings.maxHeadBytes;
    let partial = this.#partial;
    if (partial === undefined) {
      const take = Math.min(data.length, at + limit + 4096);
      const text = data.toString("latin1", at, take);
      const stop = headEnd(text, 0);
      if (stop >= 0 && stop <= limit) {
        this.#onHead(text, stop);
        return at + stop;
      }
      if (text.length > limit) throw new HeadError("http1.headers_too_large", 502);
      this.#partial = partial = new PartialHead();
    }
    const end = Math.min(data.length, at + limit + 1 - partial.length);
    const stop = partial.add(data, at, end);
    if (partial.length > limit) throw new HeadError("http1.headers_too_large", 502);
    if (stop < 0) return end;
    const text = partial.text();
    this.#partial = undefined;
    this.#onHead(text, text.length);
    return stop;
  }

  #onHead(text: string, end: number): void {
    const stream = this.#stream as H1ClientStream;
    stream.meter.wireBytesReceived += end;
    stream.meter.headerBytesReceived += end;
    const lf = text.indexOf("\n");
    if (lf < 9) throw new HeadError("http1.codec_error", 502);
    const { status, minor } = parseStatusLine(text.slice(0, text.charCodeAt(lf - 1) === 13 ? lf - 1 : lf));
    const { list, rawNames } = parseFields(text, lf + 1, end, this.settings.maxHeaderCount, this.settings.nameFormat === "preserve");
    const headers = new ResponseHeaders(status, list);
    headers.rawNames = rawNames;
    if (status < 200 && status !== 101) {
      // RFC 9110 15.2: an interim answer has no content; one that says otherwise makes the next bytes ambiguous.
      if (headers.get("content-length") !== undefined || headers.get("transfer-encoding") !== undefined) throw new HeadError("http1.codec_error", 502);
      if (this.#interim++ < maxInterimPassed) {
        headers.removeIf(isConnectionField);
        stream.decoder.decode1xxHeaders(headers);
      }
      return;
    }
    if (status === 101 && !stream.upgradeRequested) throw new HeadError("http1.unexpected_switching_protocols", 502);
    const tunnel = (stream.connectRequest && status >= 200 && status < 300) || status === 101;
    const framing = tunnel ? undefined : messageFraming(list, this.settings.allowChunkedLength);
    if (status === 204 && framing !== undefined && framing.kind !== "none") throw new HeadError("http1.codec_error", 502);
    this.closeAnnounced =
      (minor === 0 ? !hasToken(list, "connection", "keep-alive") : hasToken(list, "connection", "close")) || hasToken(list, "proxy-connection", "close");
    this.closeAfterResponse = this.closeAnnounced;
    const nominated = nominatedByConnection(list);
    if (nominated !== undefined)
      headers.removeIf((name) => nominated.includes(name) && name !== "content-length" && name !== "transfer-encoding" && name !== "upgrade");
    if (tunnel) {
      this.#state = "tunnel";
      stream.decoder.decodeHeaders(headers, false);
      return;
    }
    if (stream.headRequest || status === 204 || status === 304 || framing?.kind === "none") {
      this.#responseEnds();
      stream.decoder.decodeHeaders(headers, true);
      return;
    }
    if (framing === undefined) {
      this.#state = "until_close";
      this.closeAfterResponse = true;
    } else if (framing.kind === "length") {
      this.#left = framing.length;
      this.#state = "length";
    } else {
      this.#state = "chunked";
      this.#chunked = new ChunkedDecoder(
        {
          onData: (chunk) => stream.decoder.decodeData(chunk, false),
          onEnd: (trailers) => {
            this.#responseEnds();
            if (trailers !== undefined && this.settings.enableTrailers) stream.decoder.decodeTrailers(new Trailers(trailers));
            else stream.decoder.decodeData(nothing, true);
          },
        },
        this.settings.maxHeaderCount,
        this.settings.maxHeadBytes,
      );
    }
    stream.decoder.decodeHeaders(headers, false);
  }

  /** The response is complete: the next bytes would belong to nobody. */
  #responseEnds(): void {
    const stream = this.#stream as H1ClientStream;
    stream.responseEnded = true;
    this.#stream = undefined;
    this.#state = stream.requestEnded ? "idle" : "dead";
    if (!stream.requestEnded) this.closeAfterResponse = true;
    stream.releaseReads();
  }

  #protocolError(details: string): void {
    this.#state = "dead";
    this.#failure = { reason: "protocol_error", details };
    // Whoever hears this closes the connection; the stream is told with that.
    this.#callbacks.onProtocolError(details);
    if (this.#stream !== undefined) this.onConnectionEnd(true);
  }

  /** @internal */
  abandon(stream: H1ClientStream): void {
    if (this.#stream === stream) this.#stream = undefined;
    this.#state = "dead";
    this.connection.close("no_flush", "stream reset");
  }
}

const nothing = Buffer.alloc(0);

function isConnectionField(name: string): boolean {
  return (
    name === "connection" ||
    name === "transfer-encoding" ||
    name === "content-length" ||
    name === "keep-alive" ||
    name === "proxy-connection" ||
    name === "upgrade"
  );
}

export class H1ClientStream implements RequestEncoder, Stream {
  readonly #codec: H1ClientConnection;
  readonly decoder: ResponseDecoder;
  readonly meter: BytesMeter = { wireBytesReceived: 0, wireBytesSent: 0, headerBytesReceived: 0, headerBytesSent: 0 };
  responseDetails = "";
  requestEnded = false;
  responseEnded = false;
  headRequest = false;
  connectRequest = false;
  upgradeRequested = false;
  #chunked = false;
  #callbacks: StreamCallbacks[] = [];
  #readDisabled = 0;

  constructor(codec: H1ClientConnection, decoder: ResponseDecoder) {
    this.#codec = codec;
    this.decoder = decoder;
  }

  get stream(): Stream {
    return this;
  }
  get bytesMeter(): BytesMeter {
    return this.meter;
  }

  encodeHeaders(headers: RequestHeaders, endStream: boolean): void {
    const { method } = headers;
    const { nameFormat, absoluteTargets } = this.#codec.settings;
    this.headRequest = method === "HEAD";
    this.connectRequest = method === "CONNECT";
    this.upgradeRequested = headers.get("upgrade") !== undefined;
    let target = headers.path ?? "/";
    if (this.connectRequest) target = headers.authority ?? "";
    else if (absoluteTargets) target = `${headers.scheme ?? "http"}://${headers.authority ?? ""}${target}`;
    let framing = "";
    if (this.connectRequest || this.upgradeRequested) {
      // Bytes of a tunnel are not framed; a body that came with an upgrade keeps its length.
      headers.remove("transfer-encoding");
    } else if (!endStream && headers.get("content-length") === undefined) {
      headers.remove("transfer-encoding");
      this.#chunked = true;
      framing = nameFormat === "proper" ? "Transfer-Encoding: chunked\r\n" : "transfer-encoding: chunked\r\n";
    } else {
      headers.remove("transfer-encoding");
      // RFC 9110 8.6: a method that may have content says that there is none.
      if (endStream && headers.get("content-length") === undefined && !withoutContent.has(method))
        framing = nameFormat === "proper" ? "Content-Length: 0\r\n" : "content-length: 0\r\n";
    }
    const host = nameFormat === "lower" ? "host" : "Host";
    const text = `${method} ${target} HTTP/1.1\r\n${headers.authority === undefined ? "" : `${host}: ${headers.authority}\r\n`}${writeFields(headers, nameFormat)}${framing}\r\n`;
    this.meter.headerBytesSent += text.length;
    this.meter.wireBytesSent += text.length;
    if (endStream) this.requestEnded = true;
    this.#codec.connection.write(text);
  }

  encodeData(chunk: Buffer, endStream: boolean): void {
    if (this.requestEnded) return;
    if (endStream) this.requestEnded = true;
    const { length } = chunk;
    const { connection } = this.#codec;
    this.meter.wireBytesSent += length;
    if (length > 0) {
      if (this.#chunked) {
        connection.write(chunkHead(length));
        connection.write(chunk);
        connection.write(endStream ? `\r\n${lastChunk}` : "\r\n");
      } else connection.write(chunk);
    } else if (endStream && this.#chunked) connection.write(lastChunk);
    if (endStream && (this.connectRequest || this.upgradeRequested)) connection.write("", true);
  }

  encodeTrailers(trailers: Trailers): void {
    if (this.requestEnded) return;
    this.requestEnded = true;
    if (!this.#chunked) return;
    const { enableTrailers, nameFormat } = this.#codec.settings;
    this.#codec.connection.write(enableTrailers && trailers.size > 0 ? `0\r\n${writeFields(trailers, nameFormat)}\r\n` : lastChunk);
  }

  enableTcpTunneling(): void {}

  addCallbacks(callbacks: StreamCallbacks): void {
    this.#callbacks.push(callbacks);
  }
  removeCallbacks(callbacks: StreamCallbacks): void {
    const at = this.#callbacks.indexOf(callbacks);
    if (at >= 0) this.#callbacks.splice(at, 1);
  }

  resetStream(reason: StreamResetReason): void {
    if (this.requestEnded && this.responseEnded) return;
    this.#codec.abandon(this);
    this.reset(reason, "");
  }

  reset(reason: StreamResetReason, details: string): void {
    this.responseDetails = details;
    this.releaseReads();
    const callbacks = this.#callbacks;
    this.#callbacks = [];
    for (const callback of callbacks) callback.onResetStream(reason, details);
  }

  readDisable(disable: boolean): void {
    this.#readDisabled += disable ? 1 : -1;
    this.#codec.connection.readDisable(disable);
  }

  releaseReads(): void {
    while (this.#readDisabled > 0) {
      this.#readDisabled--;
      this.#codec.connection.readDisable(false);
    }
  }

  onAboveHigh(): void {
    for (const callback of this.#callbacks.slice()) callback.onAboveWriteBufferHighWatermark();
  }
  onBelowLow(): void {
    for (const callback of this.#callbacks.slice()) callback.onBelowWriteBufferLowWatermark();
  }
}
