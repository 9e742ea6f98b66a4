/** envoy.filters.http.grpc_json_transcoder: clients that speak HTTP and JSON to services that speak gRPC. */
import { type AnyMessage, isMessage } from "../../../config/message.ts";
import type { GrpcJsonTranscoder } from "../../../config/schema/types/envoy.extensions.filters.http.grpc_json_transcoder.v3.d.ts";
import type { CompileContext, Extension } from "../../extension.ts";
import { TranscoderFilter, type TranscoderSettings } from "./filter.ts";
import { Transcoder, TranscoderError } from "./transcoder.ts";

const pkg = "envoy.extensions.filters.http.grpc_json_transcoder.v3.";
const typeName = `${pkg}GrpcJsonTranscoder`;

function compileSettings(message: GrpcJsonTranscoder, context: CompileContext): TranscoderSettings {
  const { descriptorSet, requestValidationOptions: validation, printOptions: print } = message;
  let transcoder: Transcoder | undefined;
  const descriptors =
    descriptorSet.case === "protoDescriptor"
      ? context.readFile(descriptorSet.value, message, "proto_descriptor")
      : descriptorSet.case === "protoDescriptorBin"
        ? descriptorSet.value
        : undefined;
  // Without services a route has none of it.
  if (descriptors !== undefined && message.services.length > 0) {
    try {
      transcoder = new Transcoder(descriptors, message);
    } catch (error) {
      const text = error instanceof TranscoderError ? error.message : "transcoding_filter: Unable to parse proto descriptor";
      context.report(message, "services", { code: "OR5901", text });
    }
  }
  return {
    transcoder,
    matchIncomingRoute: message.matchIncomingRequestRoute,
    convertGrpcStatus: message.convertGrpcStatus,
    rejectUnknownMethod: validation?.rejectUnknownMethod ?? false,
    rejectUnknownQuery: validation?.rejectUnknownQueryParameters ?? false,
    newlineDelimited: print?.streamNewlineDelimited ?? false,
    sse: print?.streamSseStyleDelimited ?? false,
    maxRequestBytes: message.maxRequestBodySize,
    maxResponseBytes: message.maxResponseBodySize,
  };
}

export default {
  honours: {
    [typeName]: [
      "proto_descriptor",
      "proto_descriptor_bin",
      "services",
      "print_options",
      "match_incoming_request_route",
      "ignored_query_parameters",
      "auto_mapping",
      "ignore_unknown_query_parameters",
      "convert_grpc_status",
      "url_unescape_spec",
      "query_param_unescape_plus",
      "request_validation_options",
      "case_insensitive_enum_parsing",
      "max_request_body_size",
      "max_response_body_size",
    ],
    [`${pkg}GrpcJsonTranscoder.PrintOptions`]: "*",
    [`${pkg}GrpcJsonTranscoder.RequestValidationOptions`]: ["reject_unknown_method", "reject_unknown_query_parameters"],
  },
  httpFilter: {
    compile(message, context) {
      if (!isMessage<GrpcJsonTranscoder>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      const settings = compileSettings(message, context);
      return () => new TranscoderFilter(settings);
    },
    compileRoute(message: AnyMessage, context): TranscoderSettings {
      if (!isMessage<GrpcJsonTranscoder>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      return compileSettings(message, context);
    },
  },
} satisfies Extension;
