/** GrpcService: where calls of our own go, and what they carry. */
import { durationMs } from "../config/message.ts";
import type { GrpcService, HeaderValue, HeaderValueOption } from "../config/schema/types/envoy.config.core.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import { compileHeaderMutation, type HeaderMutation } from "../router/header-mutation.ts";

const service = "envoy.config.core.v3.GrpcService";

/** For those who take a GrpcService: it goes beside their own. */
export const grpcServiceHonours: Honours = {
  [service]: ["envoy_grpc", "google_grpc", "timeout", "initial_metadata"],
  [`${service}.EnvoyGrpc`]: ["cluster_name", "authority", "max_receive_message_length", "skip_envoy_headers"],
  // Refused as a whole, with its reason.
  [`${service}.GoogleGrpc`]: "*",
};

/** Envoy has no limit; nothing here is kept without one. */
const defaultMaxReceiveBytes = 64 * 1024 * 1024;

export interface GrpcServiceSettings {
  readonly cluster: string;
  /** "" for the cluster's name. */
  readonly authority: string;
  /** 0: none. */
  readonly timeoutMs: number;
  readonly initialMetadata: HeaderMutation | undefined;
  /** Octets of one message that comes back; 0: no limit. */
  readonly maxReceiveBytes: number;
  /** Leaves out x-envoy-internal and x-forwarded-for. */
  readonly skipEnvoyHeaders: boolean;
}

/** undefined (and a finding): it cannot be called. */
export function compileGrpcService(message: GrpcService, context: CompileContext): GrpcServiceSettings | undefined {
  const { targetSpecifier } = message;
  if (targetSpecifier.case !== "envoyGrpc") {
    context.report(message, targetSpecifier.case === "googleGrpc" ? "google_grpc" : undefined, {
      code: "OR4003",
      text: "google_grpc is not supported: there is no second gRPC library here",
      hint: "define a cluster for the target and use envoy_grpc",
    });
    return undefined;
  }
  const { clusterName, authority, maxReceiveMessageLength, skipEnvoyHeaders } = targetSpecifier.value;
  return {
    cluster: clusterName,
    authority,
    timeoutMs: durationMs(message.timeout, 0),
    initialMetadata:
      message.initialMetadata.length === 0
        ? undefined
        : compileHeaderMutation({ add: message.initialMetadata.map(overwriting), remove: [], at: message, removeField: "initial_metadata" }, context),
    maxReceiveBytes: maxReceiveMessageLength ?? defaultMaxReceiveBytes,
    skipEnvoyHeaders,
  };
}

function overwriting(header: HeaderValue): HeaderValueOption {
  return { $typeName: "envoy.config.core.v3.HeaderValueOption", header, appendAction: 2, keepEmptyValue: false };
}
