/** One request of JSON that becomes a call of gRPC, and its answer. */
import { frameMessage, MessageReader } from "../../../grpc/frames.ts";
import { statusOf } from "../../../grpc/status.ts";
import type {
  DecoderFilterCallbacks,
  EncoderFilterCallbacks,
  FilterDataStatus,
  FilterHeadersStatus,
  FilterTrailersStatus,
  HttpFilter,
} from "../../../http/filter.ts";
import type { HeaderMap, RequestHeaders, ResponseHeaders, Trailers } from "../../../http/header-map.ts";
import { isGrpcContentType } from "../../grpc/content-types.ts";
import { JsonError } from "./from-json.ts";
import type { TranscodedCall, Transcoder } from "./transcoder.ts";

export interface TranscoderSettings {
  /** undefined: nothing is transcoded. */
  readonly transcoder: Transcoder | undefined;
  readonly matchIncomingRoute: boolean;
  readonly convertGrpcStatus: boolean;
  readonly rejectUnknownMethod: boolean;
  readonly rejectUnknownQuery: boolean;
  readonly newlineDelimited: boolean;
  readonly sse: boolean;
  /** Bytes; undefined: the stream's limit. */
  readonly maxRequestBytes: number | undefined;
  readonly maxResponseBytes: number | undefined;
}

const nothing = Buffer.alloc(0);

export class TranscoderFilter implements HttpFilter {
  readonly #configured: TranscoderSettings;
  #settings: TranscoderSettings;
  #decoder!: DecoderFilterCallbacks;
  #encoder!: EncoderFilterCallbacks;
  #call: TranscodedCall | undefined = undefined;
  #contentType = "";
  #headers: ResponseHeaders | undefined = undefined;
  #reader = new MessageReader(0);
  readonly #messages: Buffer[] = [];
  #responseBytes = 0;
  #streamed = 0;
  #requestFailed = false;

  constructor(settings: TranscoderSettings) {
    this.#configured = settings;
    this.#settings = settings;
  }
  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#decoder = callbacks;
  }
  setEncoderCallbacks(callbacks: EncoderFilterCallbacks): void {
    this.#encoder = callbacks;
  }

  decodeHeaders(headers: RequestHeaders, endStream: boolean): FilterHeadersStatus {
    this.#settings = this.#decoder.routeConfig<TranscoderSettings>() ?? this.#configured;
    const { transcoder, rejectUnknownMethod, rejectUnknownQuery, maxRequestBytes } = this.#settings;
    this.#contentType = headers.get("content-type") ?? "";
    if (transcoder === undefined || headers.path === undefined || isGrpcContentType(this.#contentType)) return "continue";
    const found = transcoder.find(headers.method, headers.path);
    if (found.kind !== "call") {
      const isMethod = found.kind === "unknown_method";
      if (!(isMethod ? rejectUnknownMethod : rejectUnknownQuery)) return "continue";
      const text = found.kind === "unknown_query" ? found.text : `Could not resolve ${headers.path} to a method.`;
      return this.#refuse(isMethod ? 404 : 400, text, isMethod ? "NOT_FOUND" : "INVALID_ARGUMENT");
    }
    this.#call = found.call;
    if (maxRequestBytes !== undefined && maxRequestBytes > this.#decoder.decoderBufferLimit) this.#decoder.setDecoderBufferLimit(maxRequestBytes);
    headers.remove("content-length");
    headers.set("x-envoy-original-path", headers.path);
    headers.set("x-envoy-original-method", headers.method);
    headers.set("content-type", "application/grpc");
    headers.set("te", "trailers");
    headers.path = `/${found.call.method.service}/${found.call.method.name}`;
    headers.method = "POST";
    if (!this.#settings.matchIncomingRoute) this.#decoder.clearRouteCache();
    if (!endStream) return "stop";
    const framed = this.#frames(nothing);
    if (framed === undefined) return "stop_all_and_watermark";
    this.#decoder.addDecodedData(framed, true);
    return "continue";
  }

  decodeData(data: Buffer, endStream: boolean): FilterDataStatus {
    if (this.#call === undefined) return "continue";
    if (!endStream) return "stop_and_buffer";
    const before = this.#decoder.decodingBuffer();
    const framed = this.#frames(before === undefined ? data : Buffer.concat([before, data]));
    if (framed === undefined) return "stop_no_buffer";
    this.#decoder.setDecodingBuffer(framed);
    this.#decoder.replaceDecodedChunk(nothing);
    return "continue";
  }
  decodeTrailers(): FilterTrailersStatus {
    if (this.#call === undefined) return "continue";
    const framed = this.#frames(this.#decoder.decodingBuffer() ?? nothing);
    if (framed === undefined) return "stop";
    this.#decoder.setDecodingBuffer(framed);
    return "continue";
  }

  #frames(body: Buffer): Buffer | undefined {
    try {
      return Buffer.concat((this.#call as TranscodedCall).messages(body, this.#contentType).map((message) => frameMessage(message)));
    } catch (error) {
      if (!(error instanceof JsonError)) throw error;
      this.#refuse(400, error.message, "INVALID_ARGUMENT");
      return undefined;
    }
  }
  #refuse(status: number, body: string, code: string): "stop_all_and_watermark" {
    this.#requestFailed = true;
    this.#decoder.sendLocalReply({ status, body, details: `grpc_json_transcode_failure{${code}}` });
    return "stop_all_and_watermark";
  }

  encodeHeaders(headers: ResponseHeaders, endStream: boolean): FilterHeadersStatus {
    const call = this.#call;
    if (call === undefined || this.#requestFailed) return "continue";
    if (!isGrpcContentType(headers.get("content-type"))) {
      // A reply of a proxy on the way.
      this.#call = undefined;
      return "continue";
    }
    this.#headers = headers;
    if (endStream) {
      this.#conclude(headers, headers);
      return "continue";
    }
    headers.set("content-type", this.#settings.sse && call.method.serverStreaming ? "text/event-stream" : "application/json");
    headers.remove("content-length");
    const { maxResponseBytes } = this.#settings;
    if (maxResponseBytes !== undefined && maxResponseBytes > this.#encoder.encoderBufferLimit) this.#encoder.setEncoderBufferLimit(maxResponseBytes);
    return call.method.serverStreaming ? "continue" : "stop";
  }

  encodeData(data: Buffer, endStream: boolean): FilterDataStatus {
    const call = this.#call;
    if (call === undefined || this.#headers === undefined || this.#requestFailed) return "continue";
    const limit = this.#encoder.encoderBufferLimit;
    this.#responseBytes += data.length;
    let failed = limit > 0 && !call.method.serverStreaming && this.#responseBytes > limit;
    if (!failed) {
      const problem = this.#reader.feed(data, (message) => {
        this.#messages.push(Buffer.from(message));
        return true;
      });
      failed = problem !== undefined;
    }
    if (failed) {
      this.#requestFailed = true;
      this.#encoder.sendLocalReply({ status: 500, body: "", details: "response_payload_too_large" });
      return "stop_no_buffer";
    }
    if (call.method.serverStreaming) {
      this.#encoder.replaceEncodedChunk(this.#streamPiece(endStream));
      return "continue";
    }
    if (!endStream) return "stop_no_buffer";
    this.#encoder.replaceEncodedChunk(this.#unaryBody());
    return "continue";
  }

  encodeTrailers(trailers: Trailers): FilterTrailersStatus {
    const call = this.#call;
    const headers = this.#headers;
    if (call === undefined || headers === undefined || this.#requestFailed) return "continue";
    if (call.method.serverStreaming) {
      const end = this.#streamPiece(true);
      if (end.length > 0) this.#encoder.addEncodedData(end, true);
      return "continue";
    }
    const body = this.#unaryBody();
    const written = this.#conclude(headers, trailers);
    this.#encoder.addEncodedData(written ?? body, true);
    headers.set("content-length", String((written ?? body).length));
    trailers.removeIf(() => true);
    return "continue";
  }

  #unaryBody(): Buffer {
    const call = this.#call as TranscodedCall;
    const message = this.#messages.shift();
    if (message === undefined) return nothing;
    const { text, contentType } = call.answer(message);
    if (call.outputsHttpBody) this.#headers?.set("content-type", contentType);
    return text;
  }

  /** The messages that are whole by now, as pieces of a list (or lines, or events). */
  #streamPiece(isLast: boolean): Buffer {
    const call = this.#call as TranscodedCall;
    const { newlineDelimited, sse } = this.#settings;
    const pieces: Buffer[] = [];
    for (const message of this.#messages.splice(0)) {
      const { text } = call.answer(message);
      if (call.outputsHttpBody) pieces.push(text);
      else if (sse) pieces.push(Buffer.from("data: "), text, Buffer.from("\n\n"));
      else if (newlineDelimited) pieces.push(text, Buffer.from("\n"));
      else pieces.push(Buffer.from(this.#streamed === 0 ? "[" : ","), text);
      this.#streamed++;
    }
    if (isLast && !call.outputsHttpBody && !sse && !newlineDelimited) pieces.push(Buffer.from(this.#streamed === 0 ? "[]" : "]"));
    return Buffer.concat(pieces);
  }

  /** Puts the outcome of the call into the head; a body in its place where one is asked for. */
  #conclude(headers: ResponseHeaders, from: HeaderMap): Buffer | undefined {
    const status = statusOf(from);
    const code = status?.code ?? 2;
    headers.status = httpStatus[code] ?? 500;
    const text = from.get("grpc-status");
    if (text !== undefined) headers.set("grpc-status", text);
    const message = from.get("grpc-message");
    if (message !== undefined) headers.set("grpc-message", message);
    if (from === headers) {
      headers.set("content-length", "0");
    }
    if (code === 0 || !this.#settings.convertGrpcStatus) return undefined;
    headers.set("content-type", "application/json");
    headers.remove("grpc-status");
    headers.remove("grpc-message");
    const body = Buffer.from(JSON.stringify({ code, message: status?.message ?? "" }));
    if (from === headers) {
      headers.set("content-length", String(body.length));
      this.#encoder.addEncodedData(body, true);
    }
    return body;
  }
}

/** google.rpc.Code to HTTP. */
const httpStatus: Readonly<Record<number, number>> = {
  0: 200,
  1: 499,
  2: 500,
  3: 400,
  4: 504,
  5: 404,
  6: 409,
  7: 403,
  8: 429,
  9: 400,
  10: 409,
  11: 400,
  12: 501,
  13: 500,
  14: 503,
  15: 500,
  16: 401,
};
