/** envoy.filters.http.grpc_http1_reverse_bridge: clients of gRPC, and an upstream that answers plain HTTP/1 requests with messages. */
import { type AnyMessage, isMessage } from "../../../config/message.ts";
import type { FilterConfig, FilterConfigPerRoute } from "../../../config/schema/types/envoy.extensions.filters.http.grpc_http1_reverse_bridge.v3.d.ts";
import { messageHeadBytes } from "../../../grpc/frames.ts";
import { grpcCode } from "../../../grpc/status.ts";
import type { DecoderFilterCallbacks, EncoderFilterCallbacks, FilterDataStatus, FilterHeadersStatus, HttpFilter } from "../../../http/filter.ts";
import type { RequestHeaders, ResponseHeaders } from "../../../http/header-map.ts";
import { grpcStatusOf } from "../../../http/manager/messages.ts";
import type { Extension } from "../../extension.ts";
import { isGrpcRequest } from "../../grpc/content-types.ts";

const pkg = "envoy.extensions.filters.http.grpc_http1_reverse_bridge.v3.";
const typeName = `${pkg}FilterConfig`;
const perRoute = `${pkg}FilterConfigPerRoute`;
const nothing = Buffer.alloc(0);

interface Settings {
  readonly contentType: string;
  readonly withholdFrames: boolean;
  /** A response field that tells the body's length before it comes; "": none does. */
  readonly sizeHeader: string;
}

class ReverseBridgeFilter implements HttpFilter {
  readonly #settings: Settings;
  #decoder!: DecoderFilterCallbacks;
  #encoder!: EncoderFilterCallbacks;
  #enabled = false;
  #contentType = "";
  /** Bytes of the message's head that are still to be taken off the request. */
  #prefixLeft = messageHeadBytes;
  #grpcStatus: number = grpcCode.ok;
  #grpcMessage = "";
  /** The upstream's body is none of ours to pass on. */
  #dropsBody = false;
  /** The length of the answer, where it is known before it comes. */
  #responseLength: number | undefined = undefined;
  #headWritten = false;
  #held: Buffer[] = [];
  #heldBytes = 0;

  constructor(settings: Settings) {
    this.#settings = settings;
  }
  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#decoder = callbacks;
  }
  setEncoderCallbacks(callbacks: EncoderFilterCallbacks): void {
    this.#encoder = callbacks;
  }

  decodeHeaders(headers: RequestHeaders, endStream: boolean): FilterHeadersStatus {
    if (endStream || this.#decoder.routeConfig<{ disabled: boolean }>()?.disabled === true || !isGrpcRequest(headers)) return "continue";
    this.#enabled = true;
    this.#contentType = headers.get("content-type") ?? "";
    headers.set("content-type", this.#settings.contentType);
    headers.set("accept", this.#settings.contentType);
    const length = headers.get("content-length");
    if (this.#settings.withholdFrames && length !== undefined && /^\d+$/.test(length))
      headers.set("content-length", String(Math.max(0, Number(length) - messageHeadBytes)));
    this.#decoder.clearRouteCache();
    return "continue";
  }
  decodeData(data: Buffer, endStream: boolean): FilterDataStatus {
    if (!this.#enabled || !this.#settings.withholdFrames || this.#prefixLeft === 0) return "continue";
    const taken = Math.min(this.#prefixLeft, data.length);
    this.#prefixLeft -= taken;
    if (endStream && this.#prefixLeft > 0) {
      this.#enabled = false;
      this.#decoder.sendLocalReply({ status: 200, body: "invalid request body", details: "grpc_bridge_data_too_small", grpcStatus: grpcCode.unknown });
      return "stop_no_buffer";
    }
    this.#decoder.replaceDecodedChunk(Buffer.from(data.subarray(taken)));
    return "continue";
  }

  encodeHeaders(headers: ResponseHeaders, endStream: boolean): FilterHeadersStatus {
    if (!this.#enabled) return "continue";
    const type = headers.get("content-type") ?? "";
    if (type !== this.#settings.contentType) {
      this.#grpcStatus = grpcCode.unknown;
      this.#grpcMessage = `envoy reverse bridge: upstream responded with unsupported content-type ${type}, status code ${headers.status}`;
      headers.status = 200;
      headers.set("grpc-status", String(this.#grpcStatus));
      headers.set("grpc-message", this.#grpcMessage);
      if (type !== "") headers.set("content-type", this.#contentType);
      headers.remove("content-length");
      this.#dropsBody = true;
      this.#decoder.streamInfo.responseCodeDetails = "grpc_bridge_content_type_wrong";
      return "continue";
    }
    headers.set("content-type", this.#contentType);
    this.#grpcStatus = headers.status === 200 ? grpcCode.ok : grpcStatusOf(headers.status);
    if (!this.#settings.withholdFrames) return "continue";
    const { sizeHeader } = this.#settings;
    const told = sizeHeader === "" ? undefined : headers.get(sizeHeader);
    const length = told ?? (sizeHeader === "" ? undefined : headers.get("content-length"));
    if (length !== undefined && /^\d+$/.test(length)) this.#responseLength = Number(length);
    const declared = headers.get("content-length");
    if (declared !== undefined && /^\d+$/.test(declared)) headers.set("content-length", String(Number(declared) + messageHeadBytes));
    if (endStream) headers.set("grpc-status", String(this.#grpcStatus));
    return "continue";
  }
  encodeData(data: Buffer, endStream: boolean): FilterDataStatus {
    if (!this.#enabled) return "continue";
    if (endStream) {
      const trailers = this.#encoder.addEncodedTrailers();
      trailers.set("grpc-status", String(this.#grpcStatus));
      if (this.#grpcMessage !== "") trailers.set("grpc-message", this.#grpcMessage);
    }
    if (this.#dropsBody) {
      this.#encoder.replaceEncodedChunk(nothing);
      return "continue";
    }
    if (!this.#settings.withholdFrames) return "continue";
    if (this.#responseLength !== undefined) {
      // The head of the message can go before the message is whole.
      if (!this.#headWritten) {
        this.#headWritten = true;
        this.#encoder.replaceEncodedChunk(Buffer.concat([headOf(this.#responseLength), data]));
      }
      return "continue";
    }
    if (!endStream) {
      const limit = this.#encoder.encoderBufferLimit;
      this.#heldBytes += data.length;
      if (limit > 0 && this.#heldBytes > limit) return "stop_and_buffer";
      this.#held.push(Buffer.from(data));
      this.#encoder.replaceEncodedChunk(nothing);
      return "continue";
    }
    const body = [...this.#held, data];
    this.#held = [];
    this.#encoder.replaceEncodedChunk(Buffer.concat([headOf(body.reduce((sum, piece) => sum + piece.length, 0)), ...body]));
    return "continue";
  }
}

function headOf(length: number): Buffer {
  const head = Buffer.alloc(messageHeadBytes);
  head.writeUInt32BE(length, 1);
  return head;
}

export default {
  honours: { [typeName]: "*", [perRoute]: "*" },
  httpFilter: {
    compile(message) {
      if (!isMessage<FilterConfig>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      const settings: Settings = {
        contentType: message.contentType,
        withholdFrames: message.withholdGrpcFrames,
        sizeHeader: message.responseSizeHeader.toLowerCase(),
      };
      return () => new ReverseBridgeFilter(settings);
    },
    compileRoute(message: AnyMessage): { disabled: boolean } {
      if (!isMessage<FilterConfigPerRoute>(message, perRoute)) throw new Error(`${message.$typeName} is no ${perRoute}`);
      return { disabled: message.disabled };
    },
  },
} satisfies Extension;
