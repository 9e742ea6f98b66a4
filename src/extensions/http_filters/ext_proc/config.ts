/** envoy.filters.http.ext_proc: an external service looks at requests and responses, and changes them. */
import { type AnyMessage, isMessage } from "../../../config/message.ts";
import type { ExternalProcessor, ExtProcPerRoute } from "../../../config/schema/types/envoy.extensions.filters.http.ext_proc.v3.d.ts";
import { GrpcClient } from "../../../grpc/client.ts";
import { grpcServiceHonours } from "../../../grpc/service.ts";
import { honours as rulesHonours } from "../../../matching/header-mutation-rules.ts";
import type { Extension } from "../../extension.ts";
import { ExtProcFilter } from "./filter.ts";
import { compileOverrides, compileSettings, type RouteOverrides } from "./settings.ts";

const pkg = "envoy.extensions.filters.http.ext_proc.v3.";
const typeName = `${pkg}ExternalProcessor`;
const perRoute = `${pkg}ExtProcPerRoute`;

export default {
  honours: {
    ...grpcServiceHonours,
    ...rulesHonours,
    [typeName]: [
      "grpc_service",
      "failure_mode_allow",
      "processing_mode",
      "request_attributes",
      "response_attributes",
      "message_timeout",
      "stat_prefix",
      "mutation_rules",
      "max_message_timeout",
      "forward_rules",
      "allow_mode_override",
      "disable_immediate_response",
      "metadata_options",
      "observability_mode",
      "disable_clear_route_cache",
      "route_cache_action",
      "deferred_close_timeout",
      "allowed_override_modes",
      "status_on_error",
      "allow_content_length_header",
    ],
    [perRoute]: "*",
    [`${pkg}ProcessingMode`]: "*",
    [`${pkg}HeaderForwardingRules`]: "*",
    [`${pkg}MetadataOptions`]: ["forwarding_namespaces", "receiving_namespaces"],
    [`${pkg}MetadataOptions.MetadataNamespaces`]: ["untyped"],
    [`${pkg}ExtProcOverrides`]: ["processing_mode", "request_attributes", "response_attributes", "grpc_service", "metadata_options", "failure_mode_allow"],
    "envoy.type.matcher.v3.ListStringMatcher": "*",
    "envoy.type.v3.HttpStatus": "*",
  },
  httpFilter: {
    compile(message, context, { scope }) {
      if (!isMessage<ExternalProcessor>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      const settings = compileSettings(message, context, scope);
      if (settings === undefined) return () => ({});
      const client = new GrpcClient(context.clusters, settings.service);
      const clientFor = (overrides: RouteOverrides | undefined): GrpcClient =>
        overrides?.service === undefined ? client : new GrpcClient(context.clusters, overrides.service);
      return () => new ExtProcFilter(settings, clientFor);
    },
    compileRoute(message: AnyMessage, context): RouteOverrides {
      if (!isMessage<ExtProcPerRoute>(message, perRoute)) throw new Error(`${message.$typeName} is no ${perRoute}`);
      return compileOverrides(message, context);
    },
  },
} satisfies Extension;
