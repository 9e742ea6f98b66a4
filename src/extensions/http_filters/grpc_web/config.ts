/** envoy.filters.http.grpc_web: clients that speak gRPC-Web (binary or base64) to services that speak gRPC. */
import { isMessage } from "../../../config/message.ts";
import type { GrpcWeb } from "../../../config/schema/types/envoy.extensions.filters.http.grpc_web.v3.d.ts";
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
import { isGrpcContentType } from "../../grpc/content-types.ts";
import { type MethodStats, methodOf, methodStats } from "../../grpc/method-stats.ts";

const typeName = "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb";
const binary = new Set(["application/grpc-web", "application/grpc-web+proto"]);
const base64 = new Set(["application/grpc-web-text", "application/grpc-web-text+proto"]);
/** The flag of the frame that holds the trailers. */
const trailersFlag = 0x80;

class GrpcWebFilter implements HttpFilter {
  #decoder!: DecoderFilterCallbacks;
  #encoder!: EncoderFilterCallbacks;
  #isGrpcWeb = false;
  #textRequest = false;
  #textResponse = false;
  /** Characters that are no whole group of four yet. */
  #pending = "";
  /** Bytes of the answer that are no whole group of three yet. */
  #rest: Buffer = Buffer.alloc(0);
  #stats: MethodStats | undefined = undefined;

  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#decoder = callbacks;
  }
  setEncoderCallbacks(callbacks: EncoderFilterCallbacks): void {
    this.#encoder = callbacks;
  }

  decodeHeaders(headers: RequestHeaders): FilterHeadersStatus {
    const type = headers.get("content-type") ?? "";
    this.#textRequest = base64.has(type);
    if (!this.#textRequest && !binary.has(type)) return "continue";
    this.#isGrpcWeb = true;
    headers.remove("content-length");
    const route = this.#decoder.route();
    const cluster = route?.kind === "forward" ? this.#decoder.clusters.get(route.clusterName) : undefined;
    const called = methodOf(headers.path);
    if (cluster !== undefined && called !== undefined) this.#stats = methodStats(cluster.info.scope, "grpc-web", called);
    const accept = headers.get("accept");
    this.#textResponse = accept !== undefined && base64.has(accept);
    headers.set("content-type", "application/grpc");
    headers.set("te", "trailers");
    headers.set("grpc-accept-encoding", "identity,deflate,gzip");
    return "continue";
  }

  decodeData(data: Buffer, endStream: boolean): FilterDataStatus {
    if (!this.#textRequest) return "continue";
    const text = this.#pending + data.toString("latin1");
    const whole = text.length - (text.length % 4);
    if (endStream && whole !== text.length) return this.#refuse("invalid base64 data length");
    const group = text.slice(0, whole);
    if (!/^(?:[A-Za-z0-9+/]|(?<=[A-Za-z0-9+/]{2})==?(?=[A-Za-z0-9+/]|$))*$/.test(group)) return this.#refuse("invalid base64 data");
    this.#pending = text.slice(whole);
    // Each group stands for itself: clients may send several encoded pieces one behind the other.
    this.#decoder.replaceDecodedChunk(Buffer.concat((group.match(/[^=]+=*/g) ?? []).map((piece) => Buffer.from(piece, "base64"))));
    return "continue";
  }
  #refuse(why: string): FilterDataStatus {
    this.#decoder.sendLocalReply({
      status: 400,
      body: `Bad gRPC-web request, ${why}.`,
      details: why.endsWith("length") ? "grpc_base_64_decode_failed_bad_size" : "grpc_base_64_decode_failed",
    });
    return "stop_no_buffer";
  }

  encodeHeaders(headers: ResponseHeaders): FilterHeadersStatus {
    if (!this.#isGrpcWeb) return "continue";
    this.#stats?.chargeStatus(headers);
    // What is no answer of gRPC (a reply of a proxy in between) stays what it is.
    if (isGrpcContentType(headers.get("content-type"))) {
      headers.remove("content-length");
      headers.set("content-type", this.#textResponse ? "application/grpc-web-text+proto" : "application/grpc-web+proto");
    } else this.#isGrpcWeb = false;
    return "continue";
  }
  encodeData(data: Buffer, endStream: boolean): FilterDataStatus {
    if (!this.#isGrpcWeb || !this.#textResponse) return "continue";
    const all = Buffer.concat([this.#rest, data]);
    const whole = endStream ? all.length : all.length - (all.length % 3);
    this.#rest = Buffer.from(all.subarray(whole));
    this.#encoder.replaceEncodedChunk(Buffer.from(all.subarray(0, whole).toString("base64")));
    return "continue";
  }
  encodeTrailers(trailers: Trailers): FilterTrailersStatus {
    if (!this.#isGrpcWeb) return "continue";
    this.#stats?.chargeStatus(trailers);
    let text = "";
    trailers.forEach((name, value) => {
      text += `${name}:${value}\r\n`;
    });
    trailers.removeIf(() => true);
    const frame = Buffer.alloc(5 + text.length);
    frame[0] = trailersFlag;
    frame.writeUInt32BE(text.length, 1);
    frame.write(text, 5, "latin1");
    const all = Buffer.concat([this.#rest, frame]);
    this.#encoder.addEncodedData(this.#textResponse ? Buffer.from(all.toString("base64")) : all, true);
    return "continue";
  }
}

export default {
  honours: { [typeName]: "*" },
  httpFilter: {
    compile(message) {
      if (!isMessage<GrpcWeb>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      return () => new GrpcWebFilter();
    },
  },
} satisfies Extension;
