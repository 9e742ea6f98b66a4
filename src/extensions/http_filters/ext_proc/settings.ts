/** The filter's configuration and what a route changes of it. */
import { durationMs, type JsonObject } from "../../../config/message.ts";
import type {
  ExternalProcessor,
  ExtProcPerRoute,
  HeaderForwardingRules,
  MetadataOptions,
  ProcessingMode,
} from "../../../config/schema/types/envoy.extensions.filters.http.ext_proc.v3.d.ts";
import { compileGrpcService, type GrpcServiceSettings } from "../../../grpc/service.ts";
import { compileMutationRules, type MutationRules } from "../../../matching/header-mutation-rules.ts";
import { compileStringMatchers } from "../../../matching/string-matcher.ts";
import type { Counter, StatsScope } from "../../../stats/stats.ts";
import type { CompileContext } from "../../extension.ts";

/** Names of ProcessingMode.BodySendMode. */
export const bodyMode = { none: 0, streamed: 1, buffered: 2, bufferedPartial: 3, fullDuplex: 4, grpc: 5 } as const;

export interface Modes {
  readonly requestHeaders: boolean;
  readonly responseHeaders: boolean;
  readonly requestBody: number;
  readonly responseBody: number;
  readonly requestTrailers: boolean;
  readonly responseTrailers: boolean;
}

const sends = { default: 0, send: 1, skip: 2 } as const;

export function modesOf(message: ProcessingMode | undefined): Modes {
  return {
    requestHeaders: message?.requestHeaderMode !== sends.skip,
    responseHeaders: message?.responseHeaderMode !== sends.skip,
    requestBody: message?.requestBodyMode ?? bodyMode.none,
    responseBody: message?.responseBodyMode ?? bodyMode.none,
    requestTrailers: message?.requestTrailerMode === sends.send,
    responseTrailers: message?.responseTrailerMode === sends.send,
  };
}

/** mode_override: what it leaves at its default stays as it was. */
export function overrideModes(modes: Modes, message: ProcessingMode): Modes {
  const head = (mode: number, before: boolean): boolean => (mode === sends.default ? before : mode === sends.send);
  return {
    requestHeaders: modes.requestHeaders,
    responseHeaders: head(message.responseHeaderMode, modes.responseHeaders),
    requestBody: message.requestBodyMode,
    responseBody: message.responseBodyMode,
    requestTrailers: head(message.requestTrailerMode, modes.requestTrailers),
    responseTrailers: head(message.responseTrailerMode, modes.responseTrailers),
  };
}

export interface Namespaces {
  readonly forwarding: readonly string[];
  readonly receiving: ReadonlySet<string>;
}
function namespacesOf(message: MetadataOptions | undefined): Namespaces | undefined {
  if (message === undefined) return undefined;
  return { forwarding: message.forwardingNamespaces?.untyped ?? [], receiving: new Set(message.receivingNamespaces?.untyped ?? []) };
}

const statNames = [
  "streams_started",
  "stream_msgs_sent",
  "stream_msgs_received",
  "spurious_msgs_received",
  "streams_closed",
  "streams_failed",
  "failure_mode_allowed",
  "message_timeouts",
  "rejected_header_mutations",
  "override_message_timeout_received",
  "override_message_timeout_ignored",
  "clear_route_cache_ignored",
  "clear_route_cache_disabled",
  "clear_route_cache_upstream_ignored",
  "send_immediate_resp_upstream_ignored",
  "http_not_ok_resp_received",
  "immediate_responses_sent",
  "server_half_closed",
] as const;
export type ExtProcStats = Readonly<Record<(typeof statNames)[number], Counter>>;

export interface ExtProcSettings {
  readonly service: GrpcServiceSettings;
  readonly failureModeAllow: boolean;
  readonly modes: Modes;
  readonly allowedOverrides: readonly Modes[];
  readonly requestAttributes: readonly string[];
  readonly responseAttributes: readonly string[];
  readonly messageTimeoutMs: number;
  /** 0: the processor may not ask for more time. */
  readonly maxMessageTimeoutMs: number;
  readonly rules: MutationRules;
  readonly forwards: (name: string) => boolean;
  readonly filterMetadata: JsonObject | undefined;
  readonly allowModeOverride: boolean;
  readonly disableImmediateResponse: boolean;
  readonly namespaces: Namespaces;
  readonly observability: boolean;
  readonly routeCache: "default" | "clear" | "retain";
  readonly statusOnError: number;
  readonly withoutWaiting: boolean;
  readonly deferredCloseMs: number;
  readonly stats: ExtProcStats;
}

export interface RouteOverrides {
  readonly disabled: boolean;
  readonly modes?: Modes | undefined;
  readonly service?: GrpcServiceSettings | undefined;
  readonly failureModeAllow?: boolean | undefined;
  readonly requestAttributes?: readonly string[] | undefined;
  readonly responseAttributes?: readonly string[] | undefined;
  readonly namespaces?: Namespaces | undefined;
}

/** undefined (and a finding): it cannot be used. */
export function compileSettings(message: ExternalProcessor, context: CompileContext, scope: StatsScope): ExtProcSettings | undefined {
  if (message.grpcService === undefined) {
    context.report(message, "grpc_service", { code: "OR5801", text: "One and only one of grpc_service and http_service must be configured" });
    return undefined;
  }
  const service = compileGrpcService(message.grpcService, context);
  if (message.disableClearRouteCache && message.routeCacheAction !== 0)
    context.report(message, "disable_clear_route_cache", {
      code: "OR5802",
      text: "disable_clear_route_cache and route_cache_action can not be set to none-default at the same time.",
    });
  const prefix = message.statPrefix === "" ? "ext_proc." : `ext_proc.${message.statPrefix}.`;
  const own = scope.scope(prefix);
  if (service === undefined) return undefined;
  return {
    service,
    failureModeAllow: message.failureModeAllow,
    modes: modesOf(message.processingMode),
    allowedOverrides: message.allowedOverrideModes.map(modesOf),
    requestAttributes: message.requestAttributes,
    responseAttributes: message.responseAttributes,
    messageTimeoutMs: durationMs(message.messageTimeout, 200),
    maxMessageTimeoutMs: durationMs(message.maxMessageTimeout, 0),
    rules: compileMutationRules(message.mutationRules, context),
    forwards: compileForwarding(message.forwardRules, context),
    filterMetadata: message.filterMetadata,
    allowModeOverride: message.allowModeOverride,
    disableImmediateResponse: message.disableImmediateResponse,
    namespaces: namespacesOf(message.metadataOptions) ?? { forwarding: [], receiving: new Set() },
    observability: message.observabilityMode,
    routeCache: message.disableClearRouteCache || message.routeCacheAction === 2 ? "retain" : message.routeCacheAction === 1 ? "clear" : "default",
    statusOnError: message.statusOnError?.code ?? 500,
    withoutWaiting: message.sendBodyWithoutWaitingForHeaderResponse,
    deferredCloseMs: durationMs(message.deferredCloseTimeout, 5000),
    stats: Object.fromEntries(statNames.map((name) => [name, own.counter(name)])) as ExtProcStats,
  };
}

function compileForwarding(message: HeaderForwardingRules | undefined, context: CompileContext): (name: string) => boolean {
  if (message === undefined) return () => true;
  const allowed = message.allowedHeaders === undefined ? undefined : compileStringMatchers(message.allowedHeaders.patterns, context);
  const disallowed = message.disallowedHeaders === undefined ? undefined : compileStringMatchers(message.disallowedHeaders.patterns, context);
  return (name) => disallowed?.matches(name) !== true && allowed?.matches(name) !== false;
}

export function compileOverrides(message: ExtProcPerRoute, context: CompileContext): RouteOverrides {
  const { override } = message;
  if (override.case === "disabled") return { disabled: override.value };
  if (override.case !== "overrides") return { disabled: false };
  const { processingMode, grpcService, failureModeAllow, requestAttributes, responseAttributes, metadataOptions } = override.value;
  return {
    disabled: false,
    modes: processingMode === undefined ? undefined : modesOf(processingMode),
    service: grpcService === undefined ? undefined : compileGrpcService(grpcService, context),
    failureModeAllow,
    requestAttributes: requestAttributes.length === 0 ? undefined : requestAttributes,
    responseAttributes: responseAttributes.length === 0 ? undefined : responseAttributes,
    namespaces: namespacesOf(metadataOptions),
  };
}
