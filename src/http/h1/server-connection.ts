/**
 * HTTP/1, server role: request heads and bodies in, responses out, one exchange at a time. A pipelined request waits (and the connection is not
 * read) until the exchange before it is over.
 */
import { getLogger } from "../../log/log.ts";
import type { Connection } from "../../net/connection.ts";
import type {
  BytesMeter,
  RequestDecoder,
  ResponseEncoder,
  ServerConnection,
  ServerConnectionCallbacks,
  Stream,
  StreamCallbacks,
  StreamResetReason,
} from "../codec.ts";
import { RequestHeaders, type ResponseHeaders, Trailers } from "../header-map.ts";
import { ChunkedDecoder } from "./body.ts";
import { checkHeadStart, HeadError, hasToken, headEnd, messageFraming, nominatedByConnection, parseFields, parseRequestLine, reasonPhrase } from "./parse.ts";
import { PartialHead } from "./partial-head.ts";
import { type H1Settings, properCase } from "./settings.ts";
import { chunkHead, lastChunk, writeFields } from "./write.ts";

const log = getLogger("http");

/** Fields that Connection may name, as Envoy bounds them. */
const maxNominated = 10;

/** While this many bytes of a request wait behind an exchange, the connection is not read. */
const maxQueuedBytes = 64 * 1024;

export class H1ServerConnection implements ServerConnection {
  readonly protocol: "HTTP/1.0" | "HTTP/1.1" = "HTTP/1.1";
  readonly connection: Connection;
  readonly settings: H1Settings;
  readonly #callbacks: ServerConnectionCallbacks;
  /** head: reading a request's head. body: its body. waiting: the request is complete, its response is not. tunnel: bytes pass. dead: nothing more is read. */
  #state: "head" | "length" | "chunked" | "waiting" | "tunnel" | "dead" = "head";
  /** What has come of a head that is not complete. */
  #partial: PartialHead | undefined = undefined;
  #left = 0;
  #chunked: ChunkedDecoder | undefined = undefined;
  #stream: H1ServerStream | undefined = undefined;
  #queued: Buffer | undefined = undefined;
  #queueDisabled = false;
  #dequeuing = false;
  /** More of our answers wait to be read than the connection may hold: no further request is begun. */
  #congested = false;
  #received = 0;
  /** The last byte read was the CR of an empty line before a request. */
  #skippedCr = false;

  constructor(connection: Connection, settings: H1Settings, callbacks: ServerConnectionCallbacks) {
    this.connection = connection;
    this.settings = settings;
    this.#callbacks = callbacks;
  }

  get activeStream(): H1ServerStream | undefined {
    return this.#stream;
  }

  /** Part of a request's head has come in, and its rest has not. */
  get readingHead(): boolean {
    return this.#state === "head" && this.#partial !== undefined;
  }

  dispatch(data: Buffer): void {
    if (this.#queued !== undefined) {
      this.#enqueue(data, 0);
      return;
    }
    this.#received = data.length;
    this.#run(data);
  }

  #run(data: Buffer): void {
    let at = 0;
    const end = data.length;
    try {
      while (at < end) {
        switch (this.#state) {
          case "head":
            // Who pipelines requests and reads no answers would have them all in our memory.
            if (this.#congested) {
              this.#enqueue(data, at);
              return;
            }
            at = this.#takeHead(data, at);
            break;
          case "length": {
            const stream = this.#stream as H1ServerStream;
            const take = Math.min(this.#left, end - at);
            this.#left -= take;
            const last = this.#left === 0;
            if (last) this.#state = "waiting";
            stream.meter.wireBytesReceived += take;
            const chunk = at === 0 && take === end ? data : data.subarray(at, at + take);
            at += take;
            if (last) stream.requestEnded = true;
            stream.decoder?.decodeData(chunk, last);
            if (last) this.#exchangeMayEnd(stream);
            break;
          }
          case "chunked": {
            const before = at;
            const stream = this.#stream as H1ServerStream;
            at = (this.#chunked as ChunkedDecoder).feed(data, at);
            stream.meter.wireBytesReceived += at - before;
            break;
          }
          case "tunnel": {
            const stream = this.#stream as H1ServerStream;
            stream.meter.wireBytesReceived += end - at;
            stream.decoder?.decodeData(at === 0 ? data : data.subarray(at), false);
            return;
          }
          case "waiting":
            this.#enqueue(data, at);
            return;
          case "dead":
            return;
        }
      }
    } catch (error) {
      this.#refuse(error);
    }
  }

  onConnectionEnd(): void {
    const stream = this.#stream;
    this.#state = "dead";
    this.#queued = undefined;
    if (stream !== undefined) {
      this.#stream = undefined;
      stream.reset("connection_termination");
    }
  }

  /** The peer has closed its sending side: it is gone, also from a tunnel (Envoy passes no half-close over HTTP/1). */
  onHalfClose(): void {
    this.onConnectionEnd();
  }

  flush(): void {}
  shutdownNotice(): void {}
  goAway(): void {}
  wantsToWrite(): boolean {
    return this.connection.writeBuffered > 0;
  }
  onUnderlyingConnectionAboveWriteBufferHighWatermark(): void {
    this.#congested = true;
    this.#stream?.onAboveHigh();
  }
  onUnderlyingConnectionBelowWriteBufferLowWatermark(): void {
    this.#congested = false;
    this.#stream?.onBelowLow();
    if (this.#queued !== undefined && this.#state === "head") queueMicrotask(() => this.#dequeue());
  }

  // ---- head ----------------------------------------------------------------------------------------------------------

  #takeHead(data: Buffer, at: number): number {
    // Empty lines before a request line are skipped (RFC 9112 2.2).
    if (this.#partial === undefined) {
      if (this.#skippedCr) {
        this.#skippedCr = false;
        if (data[at] !== 10) throw new HeadError("http1.codec_error");
      }
      while (at < data.length && (data[at] === 10 || (data[at] === 13 && (at + 1 >= data.length || data[at + 1] === 10)))) at++;
      if (at >= data.length) {
        this.#skippedCr = data[at - 1] === 13;
        return at;
      }
    }
    const limit = this.settings.maxHeadBytes;
    if (this.#partial !== undefined) return this.#takeMore(this.#partial, data, at, limit);
    // A head that is complete is small: text is made of no more than the limit and a line.
    const take = Math.min(data.length, at + limit + 4096);
    const text = data.toString("latin1", at, take);
    const stop = headEnd(text, 0);
    if (stop < 0 || stop > limit) {
      if (stop < 0) checkHeadStart(text);
      if (text.length > limit) throw this.#tooLarge(text.indexOf("\n"));
      this.#partial = new PartialHead();
      this.#partial.add(data, at, take);
      return take;
    }
    this.#onHead(text, stop);
    return at + stop;
  }

  #takeMore(partial: PartialHead, data: Buffer, at: number, limit: number): number {
    const had = partial.length;
    const hadLine = partial.firstLine >= 0;
    const end = Math.min(data.length, at + limit + 1 - had);
    const stop = partial.add(data, at, end);
    if (stop < 0 && !hadLine && partial.firstLine >= 0) checkHeadStart(partial.text());
    if (partial.length > limit) throw this.#tooLarge(partial.firstLine);
    if (stop < 0) return end;
    const text = partial.text();
    this.#partial = undefined;
    this.#onHead(text, text.length);
    return stop;
  }

  #tooLarge(firstLine: number): HeadError {
    return firstLine < 0 || firstLine > this.settings.maxHeadBytes
      ? new HeadError("http1.request_uri_too_large", 431)
      : new HeadError("http1.headers_too_large", 431);
  }

  #onHead(text: string, end: number): void {
    const { settings } = this;
    const lf = text.indexOf("\n");
    const line = text.slice(0, text.charCodeAt(lf - 1) === 13 ? lf - 1 : lf);
    const request = parseRequestLine(line, settings.customMethods === true);
    const { list, rawNames } = parseFields(text, lf + 1, end, settings.maxHeaderCount, settings.nameFormat === "preserve");
    const stream = new H1ServerStream(this, request.method, request.minor);
    stream.meter.wireBytesReceived = end;
    stream.meter.headerBytesReceived = end;
    const framing = messageFraming(list, settings.allowChunkedLength);
    if (request.minor === 0 && framing?.kind === "chunked") throw new HeadError("http1.codec_error");
    stream.last = hasToken(list, "connection", "close");
    const upgrade = hasToken(list, "connection", "upgrade");
    const headers = this.#headers(request.method, request.target, request.minor, list, rawNames);
    const nominated = nominatedByConnection(list);
    if (nominated !== undefined) {
      if (nominated.length > maxNominated) throw new HeadError("http1.connection_header_rejected");
      for (const name of nominated) {
        if (name === "host" || name === "x-forwarded-for" || name === "x-forwarded-host" || name === "x-forwarded-proto" || name.startsWith(":"))
          throw new HeadError("http1.connection_header_rejected");
      }
      headers.removeIf(
        (name) => name !== "te" && name !== "connection" && name !== "transfer-encoding" && name !== "content-length" && nominated.includes(name),
      );
      if (nominated.includes("te") && !hasToken(list, "te", "trailers")) headers.remove("te");
    }
    const underscores = settings.underscores;
    if (underscores !== "allow") {
      for (let i = 0; i < list.length; i += 2) {
        if (!list[i].includes("_")) continue;
        if (underscores === "reject") {
          settings.stats.requests_rejected_with_underscores_in_headers.inc();
          throw new HeadError("http1.unexpected_underscore");
        }
        settings.stats.dropped_headers_with_underscores.inc();
      }
      if (underscores === "drop") headers.removeIf((name) => name.includes("_"));
    }
    if (request.minor === 0 && !settings.acceptHttp10) throw new HeadError("low_version", 426);
    (this as { protocol: string }).protocol = request.minor === 0 ? "HTTP/1.0" : "HTTP/1.1";
    // RFC 9110 7.8 with RFC 9113 3.1: an upgrade to HTTP/2 is not taken up; the request passes as a plain one.
    let isUpgrade = false;
    if (upgrade && headers.get("upgrade") !== undefined && request.method !== "CONNECT") {
      const wanted = headers.get("upgrade") as string;
      if (wanted.split(",").every((p) => /^\s*h2c\s*$/i.test(p))) {
        headers.remove("upgrade");
        headers.remove("http2-settings");
        headers.remove("connection");
      } else isUpgrade = true;
    }
    const connectRequest = request.method === "CONNECT";
    const tunnel = isUpgrade || connectRequest;
    this.#stream = stream;
    stream.tunnel = tunnel;
    const decoder = this.#callbacks.newStream(stream);
    stream.decoder = decoder;
    if (connectRequest && framing !== undefined) {
      // RFC 9110 9.3.6: content of a CONNECT has no meaning.
      if (framing.kind !== "none") throw new HeadError(framing.kind === "chunked" ? "http1.transfer_encoding_not_allowed" : "http1.content_length_not_allowed");
      headers.remove("content-length");
    }
    if (tunnel && framing === undefined) {
      this.#state = "tunnel";
      decoder.decodeHeaders(headers, false);
      return;
    }
    if (framing === undefined || framing.kind === "none") {
      this.#state = "waiting";
      stream.requestEnded = !tunnel;
      if (tunnel) this.#state = "tunnel";
      decoder.decodeHeaders(headers, !tunnel);
      if (!tunnel) this.#exchangeMayEnd(stream);
      return;
    }
    if (framing.kind === "length") {
      this.#left = framing.length;
      this.#state = "length";
    } else {
      this.#state = "chunked";
      this.#chunked = new ChunkedDecoder(
        {
          onData: (chunk) => stream.decoder?.decodeData(chunk, false),
          onEnd: (trailers) => {
            if (this.#state === "chunked") this.#state = "waiting";
            stream.requestEnded = true;
            if (trailers !== undefined && settings.enableTrailers) stream.decoder?.decodeTrailers(new Trailers(trailers));
            else stream.decoder?.decodeData(Buffer.alloc(0), true);
            this.#exchangeMayEnd(stream);
          },
        },
        settings.maxHeaderCount,
        settings.maxHeadBytes,
      );
    }
    decoder.decodeHeaders(headers, false);
  }

  /** Target forms of RFC 9112 3.2, and the one Host (RFC 9112 3.2: a second one is answered 400). */
  #headers(method: string, target: string, minor: number, list: string[], rawNames: string[] | undefined): RequestHeaders {
    let host: string | undefined;
    let hosts = 0;
    for (let i = 0; i < list.length; i += 2) {
      if (list[i] !== "host") continue;
      hosts++;
      host = list[i + 1];
      list.splice(i, 2);
      rawNames?.splice(i >> 1, 1);
      i -= 2;
    }
    if (hosts > 1) throw new HeadError("http1.codec_error");
    let path: string | undefined = target;
    let authority = host;
    if (method === "CONNECT") {
      if (!validAuthority(target) || !/:\d{1,5}$/.test(target)) throw new HeadError("http1.invalid_url");
      path = undefined;
      authority = target;
    } else if (target.charCodeAt(0) !== 47) {
      if (target === "*") {
        if (method !== "OPTIONS") throw new HeadError("http1.invalid_url");
      } else {
        const match = /^([a-z][a-z0-9+.-]*):\/\/([^/?]*)(\/[\s\S]*|\?[\s\S]*)?$/i.exec(target);
        if (match === null || !/^https?$/i.test(match[1]) || !/^(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9._~!$&'()*+;=%-]+)(:\d{0,5})?$/.test(match[2]))
          throw new HeadError("http1.invalid_url");
        authority = match[2];
        path = match[3] === undefined ? "/" : match[3].startsWith("?") ? `/${match[3]}` : match[3];
      }
    }
    // Without any the connection manager refuses the request.
    if (authority === undefined && minor === 0 && this.settings.defaultHost !== "") authority = this.settings.defaultHost;
    if (host !== undefined && host !== "" && !validAuthority(host)) throw new HeadError("http1.invalid_host");
    const headers = new RequestHeaders(method, path, authority, undefined, list);
    headers.rawNames = rawNames;
    return headers;
  }

  // ---- exchanges ---------------------------------------------------------------------------------------------------------

  /** Answers a request whose head is still coming in, and reads no more. */
  refuseHead(): void {
    this.#refuseWith(408, "request header timeout", "request_header_timeout");
  }

  #refuse(error: unknown): void {
    if (!(error instanceof HeadError)) throw error;
    this.#refuseWith(error.status, reasonPhrase(error.status), error.details);
  }

  #refuseWith(status: number, body: string, details: string): void {
    this.#state = "dead";
    this.#queued = undefined;
    let stream = this.#stream;
    if (stream === undefined || stream.decoder === undefined) {
      stream ??= new H1ServerStream(this, "GET", 1);
      this.#stream = stream;
      stream.meter.wireBytesReceived += this.#received;
      stream.decoder = this.#callbacks.newStream(stream);
    }
    stream.responseDetails = details;
    stream.requestEnded = false;
    stream.broken = true;
    if (stream.responseEnded) {
      // The answer is out already, the request was to be read to its end only to go on after it.
      this.connection.close("flush_and_delay", details);
      return;
    }
    stream.decoder.sendLocalReply(status, body, details);
  }

  /** @internal Request and response are both complete: the next exchange may begin. */
  exchangeMayEnd(stream: H1ServerStream): void {
    this.#exchangeMayEnd(stream);
  }

  #exchangeMayEnd(stream: H1ServerStream): void {
    if (!stream.requestEnded || !stream.responseEnded || this.#stream !== stream || stream.tunnel) return;
    this.#stream = undefined;
    if (this.#state === "dead") return;
    if (stream.last) {
      // RFC 9112 9.6: after a request that asked for the end, nothing on this connection is a request.
      this.#state = "dead";
      this.#queued = undefined;
      return;
    }
    this.#state = "head";
    if (this.#queued !== undefined) {
      // Not at once: who ended this exchange is still about it.
      queueMicrotask(() => this.#dequeue());
    }
  }

  #enqueue(data: Buffer, at: number): void {
    // What comes out of the queue is ours: many small requests in it are not copied again and again.
    const rest = this.#dequeuing ? data.subarray(at) : Buffer.from(data.subarray(at));
    this.#queued = this.#queued === undefined ? rest : Buffer.concat([this.#queued, rest]);
    if (!this.#queueDisabled) {
      this.#queueDisabled = true;
      this.connection.readDisable(true);
    }
    if (this.#queued.length > maxQueuedBytes * 8) this.connection.close("no_flush", "pipelined data over the limit");
  }

  #dequeue(): void {
    const data = this.#queued;
    if (data === undefined || this.#state !== "head" || this.#congested) return;
    this.#queued = undefined;
    if (this.#queueDisabled) {
      this.#queueDisabled = false;
      this.connection.readDisable(false);
    }
    this.#dequeuing = true;
    try {
      this.dispatch(data);
    } catch (error) {
      // As in the connection's own reads: a fault above costs this connection only.
      log.error(`[C${this.connection.id}] ${error instanceof Error ? error.stack : String(error)}`);
      this.connection.close("no_flush", "internal error");
    } finally {
      this.#dequeuing = false;
    }
  }

  /** @internal After a tunnel was refused by the upstream or by us, its bytes are no requests. */
  stopReading(): void {
    this.#state = "dead";
  }

  /** @internal */
  forget(stream: H1ServerStream): void {
    if (this.#stream === stream) this.#stream = undefined;
    this.#state = "dead";
  }
}

/** The characters of an authority (RFC 3986 3.2); what they mean is for routes to find out. */
function validAuthority(text: string): boolean {
  return /^[A-Za-z0-9._~%!$&'()*+,;=:@[\]-]*$/.test(text);
}

export class H1ServerStream implements ResponseEncoder, Stream {
  readonly #codec: H1ServerConnection;
  readonly #method: string;
  readonly #minor: number;
  readonly meter: BytesMeter = { wireBytesReceived: 0, wireBytesSent: 0, headerBytesReceived: 0, headerBytesSent: 0 };
  decoder: RequestDecoder | undefined = undefined;
  responseDetails = "";
  requestEnded = false;
  responseEnded = false;
  /** CONNECT or an upgrade. */
  tunnel = false;
  /** It asked for the connection to end with it. */
  last = false;
  /** The request could not be read to its end: the connection ends with this response. */
  broken = false;
  #callbacks: StreamCallbacks[] = [];
  #readDisabled = 0;
  #chunked = false;
  #noBody = false;
  #above = false;
  #started = false;

  constructor(codec: H1ServerConnection, method: string, minor: number) {
    this.#codec = codec;
    this.#method = method;
    this.#minor = minor;
  }

  get stream(): Stream {
    return this;
  }
  get bytesMeter(): BytesMeter {
    return this.meter;
  }

  encode1xxHeaders(headers: ResponseHeaders): void {
    if (this.#minor === 0) return;
    this.#write(`HTTP/1.1 ${headers.status} ${reasonPhrase(headers.status)}\r\n${writeFields(headers, this.#codec.settings.nameFormat)}\r\n`);
  }

  encodeHeaders(headers: ResponseHeaders, endStream: boolean): void {
    this.#started = true;
    const { status } = headers;
    const { nameFormat } = this.#codec.settings;
    let framing = "";
    const upgraded = this.tunnel && ((this.#method === "CONNECT" && status >= 200 && status < 300) || status === 101);
    this.#noBody = this.#method === "HEAD" || status === 304;
    if (upgraded || status === 204 || (status < 200 && status !== 101)) {
      headers.removeIf((name) => name === "transfer-encoding" || (name === "content-length" && status !== 101) || (name === "content-length" && upgraded));
      this.#noBody = !upgraded;
    } else if (this.tunnel) {
      // Refused: what the client sends next is no request.
      this.tunnel = false;
      this.broken = true;
      this.#codec.stopReading();
    }
    if (!upgraded && status !== 204) {
      const hasLength = headers.get("content-length") !== undefined;
      headers.remove("transfer-encoding");
      if (!hasLength) {
        if (endStream) {
          // What GET would have been answered with is not known: as Envoy has it, that may be chunked.
          if (this.#method === "HEAD" && status !== 304 && this.#minor === 1)
            framing = nameFormat === "proper" ? "Transfer-Encoding: chunked\r\n" : "transfer-encoding: chunked\r\n";
          else if (!this.#noBody) framing = nameFormat === "proper" ? "Content-Length: 0\r\n" : "content-length: 0\r\n";
        } else if (this.#minor === 1) {
          if (!this.#noBody) this.#chunked = true;
          framing = nameFormat === "proper" ? "Transfer-Encoding: chunked\r\n" : "transfer-encoding: chunked\r\n";
        }
      }
    }
    let connection = "";
    if (this.#minor === 0 && headers.get("connection") === undefined && !upgraded)
      connection = `${nameFormat === "proper" ? properCase("connection") : "connection"}: close\r\n`;
    const reason = headers.reasonPhrase === undefined ? reasonPhrase(status) : headers.reasonPhrase.replace(/[^\t\x20-\x7e\x80-\xff]/g, "");
    const text = `HTTP/1.${this.#minor} ${status} ${reason}\r\n${writeFields(headers, nameFormat)}${framing}${connection}\r\n`;
    this.meter.headerBytesSent += text.length;
    this.#write(text);
    if (endStream) this.#end();
  }

  encodeData(chunk: Buffer, endStream: boolean): void {
    if (this.responseEnded) return;
    const { length } = chunk;
    if (length > 0 && !this.#noBody) {
      const { connection } = this.#codec;
      if (this.#chunked) {
        connection.write(chunkHead(length));
        connection.write(chunk);
        connection.write(endStream ? `\r\n${lastChunk}` : "\r\n");
        this.meter.wireBytesSent += length + 7;
      } else {
        connection.write(chunk);
        this.meter.wireBytesSent += length;
      }
      if (endStream) this.#end();
      return;
    }
    if (!endStream) return;
    if (this.tunnel) this.#codec.connection.write("", true);
    else if (this.#chunked) this.#write(lastChunk);
    this.#end();
  }

  encodeTrailers(trailers: Trailers): void {
    if (this.responseEnded) return;
    if (this.#chunked) {
      if (this.#codec.settings.enableTrailers && trailers.size > 0) this.#write(`0\r\n${writeFields(trailers, this.#codec.settings.nameFormat)}\r\n`);
      else this.#write(lastChunk);
    }
    this.#end();
  }

  addCallbacks(callbacks: StreamCallbacks): void {
    this.#callbacks.push(callbacks);
    if (this.#above) callbacks.onAboveWriteBufferHighWatermark();
  }

  removeCallbacks(callbacks: StreamCallbacks): void {
    const at = this.#callbacks.indexOf(callbacks);
    if (at >= 0) this.#callbacks.splice(at, 1);
  }

  resetStream(reason: StreamResetReason): void {
    if (this.requestEnded && this.responseEnded) return;
    this.#codec.forget(this);
    this.#releaseReads();
    this.reset(reason);
    this.#codec.connection.close("flush_and_delay", "stream reset");
  }

  /** Tells everyone that the stream is dead. */
  reset(reason: StreamResetReason): void {
    this.#releaseReads();
    const callbacks = this.#callbacks;
    this.#callbacks = [];
    this.decoder = undefined;
    for (const callback of callbacks) callback.onResetStream(reason, this.responseDetails);
  }

  readDisable(disable: boolean): void {
    this.#readDisabled += disable ? 1 : -1;
    this.#codec.connection.readDisable(disable);
  }

  onAboveHigh(): void {
    this.#above = true;
    for (const callback of this.#callbacks.slice()) callback.onAboveWriteBufferHighWatermark();
  }

  onBelowLow(): void {
    this.#above = false;
    for (const callback of this.#callbacks.slice()) callback.onBelowWriteBufferLowWatermark();
  }

  get headersSent(): boolean {
    return this.#started;
  }

  #write(text: string): void {
    this.meter.wireBytesSent += text.length;
    this.#codec.connection.write(text);
  }

  #end(): void {
    this.responseEnded = true;
    this.#releaseReads();
    this.#callbacks = [];
    this.#codec.exchangeMayEnd(this);
  }

  #releaseReads(): void {
    while (this.#readDisabled > 0) {
      this.#readDisabled--;
      this.#codec.connection.readDisable(false);
    }
  }
}
