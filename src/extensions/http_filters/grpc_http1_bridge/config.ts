/** envoy.filters.http.grpc_http1_bridge: calls of clients that speak HTTP/1 and know no trailers: the outcome stands in the head of the answer. */
import { isMessage } from "../../../config/message.ts";
import type { Config } from "../../../config/schema/types/envoy.extensions.filters.http.grpc_http1_bridge.v3.d.ts";
import { frameMessage, messageHeadBytes } from "../../../grpc/frames.ts";
import type {
  DecoderFilterCallbacks,
  EncoderFilterCallbacks,
  FilterDataStatus,
  FilterHeadersStatus,
  FilterTrailersStatus,
  HttpFilter,
} from "../../../http/filter.ts";
import type { RequestHeaders, ResponseHeaders, Trailers } from "../../../http/header-map.ts";
import type { Extension } from "../../extension.ts";
import { isGrpcRequest, isProtobufRequest } from "../../grpc/content-types.ts";
import { type MethodStats, methodOf, methodStats } from "../../grpc/method-stats.ts";

const typeName = "envoy.extensions.filters.http.grpc_http1_bridge.v3.Config";
const nothing = Buffer.alloc(0);

class BridgeFilter implements HttpFilter {
  readonly #config: Pick<Config, "upgradeProtobufToGrpc" | "ignoreQueryParameters">;
  #decoder!: DecoderFilterCallbacks;
  #encoder!: EncoderFilterCallbacks;
  #bridges = false;
  /** The client sends a bare message, and gets one. */
  #frames = false;
  #headers: ResponseHeaders | undefined = undefined;
  #stats: MethodStats | undefined = undefined;

  constructor(config: Pick<Config, "upgradeProtobufToGrpc" | "ignoreQueryParameters">) {
    this.#config = config;
  }
  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#decoder = callbacks;
  }
  setEncoderCallbacks(callbacks: EncoderFilterCallbacks): void {
    this.#encoder = callbacks;
  }

  decodeHeaders(headers: RequestHeaders): FilterHeadersStatus {
    if (this.#config.ignoreQueryParameters && headers.path !== undefined) headers.path = headers.path.replace(/\?.*/s, "");
    this.#frames = this.#config.upgradeProtobufToGrpc && isProtobufRequest(headers);
    const isGrpc = isGrpcRequest(headers);
    if (isGrpc) {
      const route = this.#decoder.route();
      const cluster = route?.kind === "forward" ? this.#decoder.clusters.get(route.clusterName) : undefined;
      const called = methodOf(headers.path);
      if (cluster !== undefined && called !== undefined) this.#stats = methodStats(cluster.info.scope, "grpc", called);
    }
    const protocol = this.#decoder.streamInfo.protocol ?? "";
    this.#bridges = (isGrpc || this.#frames) && protocol.startsWith("HTTP/1");
    if (this.#frames) {
      headers.remove("content-length");
      headers.set("content-type", "application/grpc");
      headers.set("te", "trailers");
      this.#decoder.clearRouteCache();
    }
    return "continue";
  }
  decodeData(data: Buffer, endStream: boolean): FilterDataStatus {
    if (!this.#frames) return "continue";
    if (!endStream) return "stop_and_buffer";
    const before = this.#decoder.decodingBuffer();
    const message = frameMessage(before === undefined ? data : Buffer.concat([before, data]));
    if (before !== undefined) {
      this.#decoder.setDecodingBuffer(message);
      this.#decoder.replaceDecodedChunk(nothing);
    } else this.#decoder.replaceDecodedChunk(message);
    return "continue";
  }

  encodeHeaders(headers: ResponseHeaders, endStream: boolean): FilterHeadersStatus {
    this.#stats?.chargeStatus(headers);
    if (this.#frames) headers.set("content-type", "application/x-protobuf");
    if (!this.#bridges || endStream) return "continue";
    this.#headers = headers;
    return "stop";
  }
  encodeData(_data: Buffer, endStream: boolean): FilterDataStatus {
    if (!this.#bridges || endStream) return "continue";
    return "stop_and_buffer";
  }
  encodeTrailers(trailers: Trailers): FilterTrailersStatus {
    this.#stats?.chargeStatus(trailers);
    const headers = this.#headers;
    if (!this.#bridges || headers === undefined) return "continue";
    const status = trailers.get("grpc-status");
    if (status !== undefined) {
      if (!/^0+$/.test(status)) headers.status = 503;
      headers.set("grpc-status", status);
    }
    const message = trailers.get("grpc-message");
    if (message !== undefined) headers.set("grpc-message", message);
    let body = this.#encoder.encodingBuffer();
    if (this.#frames && body !== undefined && body.length >= messageHeadBytes) {
      this.#encoder.setEncodingBuffer(body.subarray(messageHeadBytes));
      body = this.#encoder.encodingBuffer();
    }
    headers.set("content-length", String(body?.length ?? 0));
    return "continue";
  }
}

export default {
  honours: { [typeName]: "*" },
  httpFilter: {
    compile(message) {
      if (!isMessage<Config>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      const { upgradeProtobufToGrpc, ignoreQueryParameters } = message;
      return () => new BridgeFilter({ upgradeProtobufToGrpc, ignoreQueryParameters });
    },
  },
} satisfies Extension;
