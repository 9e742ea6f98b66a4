/** An HttpConnectionManager message, compiled: what every connection and stream of it shares. */
import { compileConfigSource } from "../../config/config-source.ts";
import { durationMs } from "../../config/message.ts";
import type { HttpConnectionManager, ScopedRoutes } from "../../config/schema/types/envoy.extensions.filters.network.http_connection_manager.v3.d.ts";
import type { AccessLogger, CompileContext, HttpFilterScope, NetworkFilterScope } from "../../extensions/extension.ts";
import { extensionOfMessage } from "../../extensions/registry.ts";
import { compileAccessLogs, noAccessLog } from "../../formatter/access-log.ts";
import { type CidrList, compileCidrList } from "../../matching/cidr.ts";
import { noOverload, type OverloadState } from "../../overload/thread-state.ts";
import { compileRouteConfiguration } from "../../router/compile.ts";
import { compileScopes, type RouteSource, RouteTableHolder, routesKey, ScopedRouteSource, scopesKey } from "../../router/route-tables.ts";
import { compileScopeKeyBuilder, scopeKey } from "../../router/scope-key.ts";
import type { HttpFilterFactory } from "../filter.ts";
import { compileNameFormat, type H1Settings, h1Stats } from "../h1/settings.ts";
import { compileH2, type H2Settings } from "../h2/settings.ts";
import { compileLocalReplies, type LocalReplies } from "./local-reply.ts";
import { type ListenerHttpStats, listenerHttpStats, type ManagerStats, managerStats } from "./stats.ts";

export interface ChainFilter {
  readonly name: string;
  readonly factory: HttpFilterFactory;
  /** The filter is off unless a route turns it on. */
  readonly disabled: boolean;
}

export interface ManagerSettings {
  readonly statPrefix: string;
  readonly stats: ManagerStats;
  readonly listenerStats: ListenerHttpStats;
  readonly codecType: "auto" | "http1" | "http2";
  readonly h1: H1Settings;
  readonly h2: H2Settings;
  readonly filters: readonly ChainFilter[];
  readonly routes: RouteSource;
  readonly upgrades: ReadonlyMap<string, { readonly enabled: boolean; readonly filters: readonly ChainFilter[] | undefined }>;
  readonly accessLog: AccessLogger;
  readonly logsAccess: boolean;
  readonly flushLogOnNewRequest: boolean;
  readonly logFlushIntervalMs: number;
  readonly localReplies: LocalReplies | undefined;
  readonly idleTimeoutMs: number;
  readonly maxConnectionDurationMs: number;
  readonly maxStreamDurationMs: number;
  readonly maxRequestsPerConnection: number;
  readonly streamIdleTimeoutMs: number;
  readonly requestTimeoutMs: number;
  readonly requestHeadersTimeoutMs: number;
  readonly drainTimeoutMs: number;
  readonly delayedCloseTimeoutMs: number;
  readonly serverName: string;
  readonly serverHeader: "overwrite" | "append_if_absent" | "pass_through";
  readonly via: string;
  readonly useRemoteAddress: boolean;
  readonly xffNumTrustedHops: number;
  readonly skipXffAppend: boolean;
  readonly internalAddresses: CidrList | undefined;
  readonly unixSocketsInternal: boolean;
  readonly appendXForwardedPort: boolean;
  readonly generateRequestId: boolean;
  readonly preserveExternalRequestId: boolean;
  readonly alwaysSetRequestIdInResponse: boolean;
  readonly proxy100Continue: boolean;
  readonly normalizePath: boolean;
  readonly mergeSlashes: boolean;
  readonly escapedSlashes: "keep" | "reject" | "redirect" | "forward";
  /** Whether any of the path settings can change a path; whether any of the host settings can change a host. */
  readonly changesPaths: boolean;
  readonly changesHosts: boolean;
  readonly stripPort: "no" | "matching" | "any";
  readonly stripTrailingHostDot: boolean;
  readonly schemeToOverwrite: string;
  readonly addUserAgent: boolean;
  readonly node: CompileContext["node"];
  readonly forwardClientCert: "sanitize" | "forward_only" | "append_forward" | "sanitize_set" | "always_forward_only";
  readonly clientCertDetails:
    | { readonly subject: boolean; readonly cert: boolean; readonly chain: boolean; readonly dns: boolean; readonly uri: boolean }
    | undefined;
  readonly headerPrefix: string;
  readonly overload: OverloadState;
  readonly context: CompileContext;
  readonly listener: NetworkFilterScope["listener"];
}

const escapedActions = { 0: "keep", 1: "keep", 2: "reject", 3: "redirect", 4: "forward" } as const;
const clientCertActions = { 0: "sanitize", 1: "forward_only", 2: "append_forward", 3: "sanitize_set", 4: "always_forward_only" } as const;
const serverHeaderActions = { 0: "overwrite", 1: "append_if_absent", 2: "pass_through" } as const;

function compileRoutes(message: HttpConnectionManager, context: CompileContext): RouteSource {
  const { case: kind, value } = message.routeSpecifier;
  if (kind === "routeConfig") return new RouteTableHolder(compileRouteConfiguration(value, context));
  if (kind === "rds") {
    const { configSource, routeConfigName } = value;
    if (context.validating) compileConfigSource(value, "config_source", configSource, context);
    return context.routes?.holder(routesKey(configSource, routeConfigName)) ?? new RouteTableHolder();
  }
  return kind === "scopedRoutes" ? compileScopedRoutes(value, context) : new RouteTableHolder();
}

function compileScopedRoutes(message: ScopedRoutes, context: CompileContext): RouteSource {
  const { configSpecifier, rdsConfigSource: routes } = message;
  const key = compileScopeKeyBuilder(message.scopeKeyBuilder, context);
  if (context.validating && routes !== undefined) compileConfigSource(message, "rds_config_source", routes, context);
  if (configSpecifier.case === "scopedRouteConfigurationsList") {
    const scopes = configSpecifier.value.scopedRouteConfigurations;
    const seen = new Map<string, string>();
    for (const scope of scopes) {
      const first = seen.get(scopeKey(scope.key));
      if (first !== undefined)
        context.report(scope, "key", { code: "OR3631", text: `scope key conflict found, first scope is '${first}', second scope is '${scope.name}'` });
      seen.set(scopeKey(scope.key), scope.name);
    }
    return new ScopedRouteSource(key, { current: compileScopes({ scopes, routes }, context.routes, context) });
  }
  const source = configSpecifier.value?.scopedRdsConfigSource;
  if (context.validating && configSpecifier.value !== undefined) compileConfigSource(configSpecifier.value, "scoped_rds_config_source", source, context);
  return new ScopedRouteSource(key, context.routes?.scopes(scopesKey(source, routes)) ?? { current: new Map() });
}

export function compileManager(message: HttpConnectionManager, context: CompileContext, scope: NetworkFilterScope): ManagerSettings {
  const statPrefix = `http.${message.statPrefix}.`;
  const common = message.commonHttpProtocolOptions;
  const h1 = message.httpProtocolOptions;
  const filters = compileFilters(message.httpFilters, context, statPrefix);
  const accessLog = compileAccessLogs(message.accessLog, context);
  const fieldKb = message.http2ProtocolOptions?.maxHeaderFieldSizeKb;
  if (fieldKb !== undefined && fieldKb > (message.maxRequestHeadersKb ?? 60))
    context.report(message.http2ProtocolOptions as object, "max_header_field_size_kb", {
      code: "OR3013",
      text: "max_header_field_size_kb must not exceed max_request_headers_kb",
      hint: "raise max_request_headers_kb, or lower this",
    });
  if (message.codecType === 3)
    context.report(message, "codec_type", {
      code: "OR4003",
      text: "codec_type HTTP3 is not supported: there is no QUIC here",
      hint: "use AUTO, HTTP1 or HTTP2",
    });
  if (common?.maxResponseHeadersKb !== undefined) {
    context.report(common, "max_response_headers_kb", {
      code: "OR3013",
      text: "max_response_headers_kb cannot be set on http_connection_manager",
      hint: "it limits responses of an upstream: set it in the cluster's HttpProtocolOptions",
    });
  }
  if (message.stripMatchingHostPort && message.stripPortMode.case === "stripAnyHostPort" && message.stripPortMode.value) {
    context.report(message, "strip_matching_host_port", {
      code: "OR3012",
      text: "Error: Only one of `strip_matching_host_port` or `strip_any_host_port` can be set.",
      hint: "keep one of the two",
    });
  }
  const upgrades = new Map<string, { enabled: boolean; filters: readonly ChainFilter[] | undefined }>();
  for (const upgrade of message.upgradeConfigs) {
    const key = upgrade.upgradeType.toLowerCase();
    if (upgrades.has(key)) context.report(upgrade, "upgrade_type", { code: "OR3010", text: `multiple upgrades of type ${upgrade.upgradeType} configured` });
    upgrades.set(key, {
      enabled: upgrade.enabled ?? true,
      filters: upgrade.filters.length === 0 ? undefined : compileFilters(upgrade.filters, context, statPrefix),
    });
  }
  const scheme = message.schemeHeaderTransformation?.transformation;
  const underscore = common?.headersWithUnderscoresAction ?? 0;
  return {
    statPrefix,
    stats: managerStats(context.stats.scope(statPrefix), true),
    listenerStats: listenerHttpStats(scope.listenerScope.scope(statPrefix)),
    codecType: message.codecType === 1 ? "http1" : message.codecType === 2 ? "http2" : "auto",
    h1: {
      acceptHttp10: h1?.acceptHttp10 ?? false,
      defaultHost: h1?.defaultHostForHttp10 ?? "",
      enableTrailers: h1?.enableTrailers ?? false,
      nameFormat: compileNameFormat(h1, context),
      allowChunkedLength: h1?.allowChunkedLength ?? false,
      customMethods: h1?.allowCustomMethods ?? false,
      maxHeadBytes: (message.maxRequestHeadersKb ?? 60) * 1024,
      maxHeaderCount: common?.maxHeadersCount ?? 100,
      underscores: underscore === 1 ? "reject" : underscore === 2 ? "drop" : "allow",
      absoluteTargets: false,
      stats: h1Stats(context.stats.scope("")),
    },
    h2: compileH2(
      message.http2ProtocolOptions,
      {
        maxHeadBytes: (message.maxRequestHeadersKb ?? 60) * 1024,
        maxHeaderCount: common?.maxHeadersCount ?? 100,
        underscores: underscore === 1 ? "reject" : underscore === 2 ? "drop" : "allow",
        flushTimeoutMs: durationMs(message.streamIdleTimeout, 300_000),
      },
      context.stats.scope(""),
      context,
    ),
    filters,
    routes: compileRoutes(message, context),
    upgrades,
    accessLog,
    logsAccess: accessLog !== noAccessLog,
    flushLogOnNewRequest: message.accessLogOptions?.flushAccessLogOnNewRequest ?? message.flushAccessLogOnNewRequest,
    logFlushIntervalMs: durationMs(message.accessLogOptions?.accessLogFlushInterval ?? message.accessLogFlushInterval, 0),
    localReplies: message.localReplyConfig === undefined ? undefined : compileLocalReplies(message.localReplyConfig, context),
    idleTimeoutMs: durationMs(common?.idleTimeout, 3_600_000),
    maxConnectionDurationMs: durationMs(common?.maxConnectionDuration, 0),
    maxStreamDurationMs: durationMs(common?.maxStreamDuration, 0),
    maxRequestsPerConnection: common?.maxRequestsPerConnection ?? 0,
    streamIdleTimeoutMs: durationMs(message.streamIdleTimeout, 300_000),
    requestTimeoutMs: durationMs(message.requestTimeout, 0),
    requestHeadersTimeoutMs: durationMs(message.requestHeadersTimeout, 0),
    drainTimeoutMs: durationMs(message.drainTimeout, 5000),
    delayedCloseTimeoutMs: durationMs(message.delayedCloseTimeout, 1000),
    serverName: message.serverName === "" ? "envoy" : message.serverName,
    serverHeader: serverHeaderActions[message.serverHeaderTransformation],
    via: message.via,
    useRemoteAddress: message.useRemoteAddress ?? false,
    xffNumTrustedHops: message.xffNumTrustedHops,
    skipXffAppend: message.skipXffAppend,
    internalAddresses: message.internalAddressConfig === undefined ? undefined : compileCidrList(message.internalAddressConfig.cidrRanges, context),
    unixSocketsInternal: message.internalAddressConfig?.unixSockets ?? false,
    appendXForwardedPort: message.appendXForwardedPort,
    generateRequestId: message.generateRequestId ?? true,
    preserveExternalRequestId: message.preserveExternalRequestId,
    alwaysSetRequestIdInResponse: message.alwaysSetRequestIdInResponse,
    proxy100Continue: message.proxy100Continue,
    normalizePath: message.normalizePath ?? false,
    mergeSlashes: message.mergeSlashes,
    escapedSlashes: escapedActions[message.pathWithEscapedSlashesAction],
    changesPaths: (message.normalizePath ?? false) || message.mergeSlashes || message.pathWithEscapedSlashesAction > 1,
    changesHosts:
      (message.stripPortMode.case === "stripAnyHostPort" && message.stripPortMode.value) || message.stripMatchingHostPort || message.stripTrailingHostDot,
    stripPort: message.stripPortMode.case === "stripAnyHostPort" && message.stripPortMode.value ? "any" : message.stripMatchingHostPort ? "matching" : "no",
    stripTrailingHostDot: message.stripTrailingHostDot,
    schemeToOverwrite: scheme?.case === "schemeToOverwrite" ? scheme.value : "",
    addUserAgent: message.addUserAgent ?? false,
    node: context.node,
    forwardClientCert: clientCertActions[message.forwardClientCertDetails],
    clientCertDetails:
      message.setCurrentClientCertDetails === undefined
        ? undefined
        : {
            subject: message.setCurrentClientCertDetails.subject ?? false,
            cert: message.setCurrentClientCertDetails.cert,
            chain: message.setCurrentClientCertDetails.chain,
            dns: message.setCurrentClientCertDetails.dns,
            uri: message.setCurrentClientCertDetails.uri,
          },
    headerPrefix: context.headerPrefix,
    overload: context.overload ?? noOverload,
    context,
    listener: scope.listener,
  };
}

/** The chain's factories; the last filter, and only it, must be terminal. */
function compileFilters(list: HttpConnectionManager["httpFilters"], context: CompileContext, statPrefix: string): ChainFilter[] {
  const filters: ChainFilter[] = [];
  // is_optional: a filter that is not there is left out.
  const present = list.filter(
    ({ isOptional, configType }) => !(isOptional && configType.case === "typedConfig" && extensionOfMessage(configType.value.$typeName) === undefined),
  );
  present.forEach((filter, index) => {
    const { configType } = filter;
    if (configType.case === "configDiscovery") return; // refused by `honours`
    const extension = context.extension("envoy.filters.http", configType.value, filter, "typed_config", filter.name);
    const last = index === present.length - 1;
    const terminal = extension?.httpFilter?.terminal === true;
    if (terminal && !last) {
      context.report(filter, "name", {
        code: "OR3011",
        text: `http filter '${filter.name}' is terminal: it must be the last filter in its chain`,
        hint: "move it to the end",
      });
    }
    if (!terminal && last) {
      context.report(filter, "name", {
        code: "OR3011",
        text: `the last http filter, '${filter.name}', is not a terminal filter: the chain would answer nothing`,
        hint: "end the chain with envoy.filters.http.router",
      });
    }
    if (terminal && last && filter.disabled) {
      context.report(filter, "disabled", {
        code: "OR3011",
        text: `the last http filter, '${filter.name}', is terminal: it cannot be disabled by default`,
        hint: "take `disabled` away",
      });
    }
    if (extension?.httpFilter === undefined || configType.value === undefined) return;
    const scope: HttpFilterScope = { name: filter.name, statPrefix, scope: context.stats.scope(statPrefix) };
    filters.push({ name: filter.name, factory: extension.httpFilter.compile(configType.value, context, scope), disabled: filter.disabled });
  });
  return filters;
}
