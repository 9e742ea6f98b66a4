/** RouteConfiguration to RouteTable. */
import { type AnyMessage, durationMs, type JsonObject } from "../config/message.ts";
import type { DataSource, Metadata } from "../config/schema/types/envoy.config.core.v3.d.ts";
import type {
  ClusterSpecifierPlugin,
  RouteAction,
  RouteAction_RequestMirrorPolicy,
  RouteConfiguration,
  RouteList as RouteListMessage,
  Route as RouteMessage,
  VirtualHost as VirtualHostMessage,
  WeightedCluster,
} from "../config/schema/types/envoy.config.route.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import { extensionOfMessage } from "../extensions/registry.ts";
import { compileFormat, compileSubstitutionFormatString } from "../formatter/compile.ts";
import type { RequestHeaders, ResponseHeaders } from "../http/header-map.ts";
import type { StreamInfo } from "../http/stream-info.ts";
import { compileHeaderMatchers, matchesAllHeaders } from "../matching/header-matcher.ts";
import { compileHttpMatcher, type HttpMatcher } from "../matching/http-inputs.ts";
import type { PathRewriteExtension } from "../matching/path-policy.ts";
import { compileRegexRewrite, toBytes } from "../matching/string-matcher.ts";
import { DomainIndex, withoutPort } from "./domain-index.ts";
import { compileRuntimeFraction, percentOf } from "./fraction.ts";
import { compileHashPolicy } from "./hash-policy.ts";
import { compileHeaderMutations, compileRequestMutation, compileResponseMutation, type HeaderMutation } from "./header-mutation.ts";
import { PathIndex } from "./path-index.ts";
import { compilePerFilterConfig, PerFilterLevels } from "./per-filter-config.ts";
import { compileRateLimits } from "./rate-limit.ts";
import { compileHedgePolicy, compileRetryPolicy } from "./retry-policy.ts";
import type {
  HashPolicy,
  HedgePolicy,
  InternalRedirectPolicy,
  MirrorPolicy,
  PerFilterConfig,
  RetryPolicy,
  Route,
  RouteTable,
  VirtualClusterStats,
  VirtualHost,
} from "./route.ts";
import {
  DirectRouteEntry,
  ForwardRouteEntry,
  type ForwardSettings,
  type HostRewrite,
  NonForwardingRouteEntry,
  noPathRewrite,
  type PathRewrite,
  type RouteCommon,
  replaceHost,
  requestScheme,
} from "./route-entry.ts";
import { barePath, type CompiledMatch, compileRouteMatch, type PathSpecifier } from "./route-match.ts";
import { VirtualClusterCounters } from "./virtual-cluster.ts";

export const honours: Honours = {
  "envoy.config.route.v3.RouteConfiguration": [
    "name",
    "virtual_hosts",
    "internal_only_headers",
    "response_headers_to_add",
    "response_headers_to_remove",
    "request_headers_to_add",
    "request_headers_to_remove",
    "most_specific_header_mutations_wins",
    "validate_clusters",
    "max_direct_response_body_size_bytes",
    "request_mirror_policies",
    "ignore_port_in_host_matching",
    "vhost_header",
    "ignore_path_parameters_in_path_matching",
    "typed_per_filter_config",
    "metadata",
    "cluster_specifier_plugins",
  ],
  "envoy.config.route.v3.ClusterSpecifierPlugin": "*",
  "envoy.config.route.v3.VirtualHost": [
    "name",
    "domains",
    "routes",
    "matcher",
    "require_tls",
    "virtual_clusters",
    "request_headers_to_add",
    "request_headers_to_remove",
    "response_headers_to_add",
    "response_headers_to_remove",
    "typed_per_filter_config",
    "include_request_attempt_count",
    "include_attempt_count_in_response",
    "retry_policy",
    "retry_policy_typed_config",
    "hedge_policy",
    "include_is_timeout_retry_header",
    "per_request_buffer_limit_bytes",
    "request_body_buffer_limit",
    "request_mirror_policies",
    "rate_limits",
    "metadata",
  ],
  "envoy.config.route.v3.VirtualCluster": "*",
  "envoy.config.route.v3.RouteList": "*",
  "envoy.config.route.v3.Route": [
    "name",
    "match",
    "route",
    "redirect",
    "direct_response",
    "non_forwarding_action",
    "metadata",
    "decorator",
    "typed_per_filter_config",
    "request_headers_to_add",
    "request_headers_to_remove",
    "response_headers_to_add",
    "response_headers_to_remove",
    "tracing",
    "per_request_buffer_limit_bytes",
    "stat_prefix",
    "request_body_buffer_limit",
  ],
  "envoy.config.route.v3.NonForwardingAction": "*",
  "envoy.config.route.v3.Decorator": "*",
  "envoy.config.route.v3.Tracing": ["client_sampling", "random_sampling", "overall_sampling"],
  "envoy.config.route.v3.RouteAction": [
    "cluster",
    "cluster_header",
    "weighted_clusters",
    "cluster_specifier_plugin",
    "inline_cluster_specifier_plugin",
    "cluster_not_found_response_code",
    "metadata_match",
    "prefix_rewrite",
    "regex_rewrite",
    "path_rewrite_policy",
    "path_rewrite",
    "host_rewrite_literal",
    "auto_host_rewrite",
    "host_rewrite_header",
    "host_rewrite_path_regex",
    "host_rewrite",
    "append_x_forwarded_host",
    "timeout",
    "idle_timeout",
    "flush_timeout",
    "early_data_policy",
    "retry_policy",
    "retry_policy_typed_config",
    "request_mirror_policies",
    "priority",
    "rate_limits",
    "include_vh_rate_limits",
    "hash_policy",
    "max_grpc_timeout",
    "grpc_timeout_offset",
    "upgrade_configs",
    "internal_redirect_policy",
    "internal_redirect_action",
    "max_internal_redirects",
    "hedge_policy",
    "max_stream_duration",
  ],
  "envoy.config.route.v3.RouteAction.RequestMirrorPolicy": "*",
  "envoy.config.route.v3.RouteAction.UpgradeConfig": "*",
  "envoy.config.route.v3.RouteAction.UpgradeConfig.ConnectConfig": "*",
  "envoy.config.route.v3.RouteAction.MaxStreamDuration": "*",
  "envoy.config.route.v3.WeightedCluster": "*",
  "envoy.config.route.v3.WeightedCluster.ClusterWeight": "*",
  "envoy.config.route.v3.InternalRedirectPolicy": "*",
  "envoy.config.route.v3.RedirectAction": "*",
  "envoy.config.route.v3.DirectResponseAction": "*",
  "envoy.config.core.v3.Metadata": "*",
};

export interface RouteCompileOptions {
  /** What validate_clusters is where the message does not say: true for inline configurations, false for those from RDS. */
  readonly validateClustersByDefault?: boolean;
}

/** Compiles a route configuration. Findings are reported to the context; the table is usable even then (bad routes never match). */
export function compileRouteConfiguration(message: RouteConfiguration, context: CompileContext, options: RouteCompileOptions = {}): RouteTable {
  return new Compiler(message, context, options.validateClustersByDefault ?? true).table();
}

interface VirtualHostScope {
  readonly message: VirtualHostMessage;
  readonly host: VirtualHost;
  readonly requestMutation: HeaderMutation | undefined;
  readonly responseMutation: HeaderMutation | undefined;
  readonly retryPolicy: RetryPolicy | undefined;
  readonly hedgePolicy: HedgePolicy | undefined;
  readonly mirrors: readonly MirrorPolicy[];
}

/** One route as the table holds it: its condition, and how the request's own Route is chosen (weights, headers). */
interface Candidate {
  readonly match: CompiledMatch;
  /** The route itself, where it is the same for all requests. */
  readonly route: Route | undefined;
  readonly choose: ((headers: RequestHeaders, info: StreamInfo, random: number) => Route) | undefined;
}

const defaultMaxDirectResponseBodyBytes = 4096;
const notFoundStatus = [503, 404, 500] as const;
const redirectStatus = [301, 302, 303, 307, 308] as const;
const maxUint32 = 4294967295;
const noUpgrades = new Map<string, boolean>();

class Compiler {
  readonly #message: RouteConfiguration;
  readonly #context: CompileContext;
  readonly #validateClusters: boolean;
  readonly #requestMutation: HeaderMutation | undefined;
  readonly #responseMutation: HeaderMutation | undefined;
  readonly #perFilter: ReadonlyMap<string, PerFilterConfig>;
  readonly #mirrors: readonly MirrorPolicy[];
  readonly #maxBody: number;

  constructor(message: RouteConfiguration, context: CompileContext, validateByDefault: boolean) {
    this.#message = message;
    this.#context = context;
    this.#validateClusters = message.validateClusters ?? validateByDefault;
    this.#requestMutation = compileRequestMutation(message, context);
    this.#responseMutation = compileResponseMutation(message, context);
    this.#perFilter = compilePerFilterConfig(message.typedPerFilterConfig, message, context);
    this.#mirrors = this.#compileMirrors(message.requestMirrorPolicies);
    this.#maxBody = message.maxDirectResponseBodySizeBytes ?? defaultMaxDirectResponseBodyBytes;
  }

  table(): RouteTable {
    const message = this.#message;
    const domains = new DomainIndex<VirtualHostEntry>();
    for (const hostMessage of message.virtualHosts) {
      const entry = this.#virtualHost(hostMessage);
      for (const domain of hostMessage.domains) {
        if (domains.add(toBytes(domain), entry)) continue;
        if (domain === "*")
          this.#context.report(hostMessage, "domains", {
            code: "OR3601",
            text: `Only a single wildcard domain is permitted in route ${message.name}: virtual host ${hostMessage.name} has "*" as well`,
          });
        else
          this.#context.report(hostMessage, "domains", {
            code: "OR3602",
            text: `Only unique values for domains are permitted. Duplicate entry of domain ${domain} in route ${message.name}`,
          });
      }
    }
    return new CompiledTable(message, domains, this.#perFilter, this.#maxBody);
  }

  #virtualHost(message: VirtualHostMessage): VirtualHostEntry {
    const context = this.#context;
    const perFilter = compilePerFilterConfig(message.typedPerFilterConfig, message, context);
    const statName = message.name;
    const virtualClusters: { readonly test: (headers: RequestHeaders) => boolean; readonly stats: VirtualClusterStats }[] = [];
    let other: VirtualClusterStats | undefined;
    if (message.virtualClusters.length > 0) {
      for (const cluster of message.virtualClusters) {
        if (cluster.headers.length === 0)
          context.report(cluster, "headers", { code: "OR3603", text: `virtual clusters must define 'headers': ${cluster.name}` });
        const matchers = compileHeaderMatchers(cluster.headers, context);
        virtualClusters.push({
          test: (headers) => matchesAllHeaders(matchers, headers),
          stats: new VirtualClusterCounters(cluster.name, context.stats.scope(`vhost.${statName}.vcluster.${cluster.name}.`)),
        });
      }
      other = new VirtualClusterCounters("other", context.stats.scope(`vhost.${statName}.vcluster.other.`));
    }
    const host: VirtualHost = {
      name: message.name,
      statName,
      includeRequestAttemptCount: message.includeRequestAttemptCount,
      includeAttemptCountInResponse: message.includeAttemptCountInResponse,
      includeIsTimeoutRetryHeader: message.includeIsTimeoutRetryHeader,
      requestBodyBufferLimitBytes: bufferLimit(message),
      perFilter,
      metadata: filterMetadata(message.metadata),
      rateLimits: compileRateLimits(message.rateLimits, context),
      virtualCluster(headers) {
        for (const cluster of virtualClusters) if (cluster.test(headers)) return cluster.stats;
        return undefined;
      },
      otherVirtualCluster: other,
    };
    if (message.perRequestBufferLimitBytes !== undefined && message.requestBodyBufferLimit !== undefined) this.#bothBufferLimits(message);
    const scope: VirtualHostScope = {
      message,
      host,
      requestMutation: compileRequestMutation(message, context),
      responseMutation: compileResponseMutation(message, context),
      retryPolicy: this.#retryPolicy(message),
      hedgePolicy: message.hedgePolicy === undefined ? undefined : compileHedgePolicy(message.hedgePolicy),
      mirrors: message.requestMirrorPolicies.length > 0 ? this.#compileMirrors(message.requestMirrorPolicies) : this.#mirrors,
    };
    const tlsRedirect = message.requireTls === 0 ? undefined : this.#tlsRedirect(scope);
    if (message.matcher !== undefined) {
      if (message.routes.length > 0)
        context.report(message, "matcher", { code: "OR3604", text: `cannot set both matcher and routes on virtual host ${message.name}` });
      const tree = compileHttpMatcher(message.matcher, context, (action) => this.#matcherAction(action, scope, message));
      return new VirtualHostEntry(host, message.requireTls, tlsRedirect, undefined, tree);
    }
    return new VirtualHostEntry(host, message.requireTls, tlsRedirect, this.#routeList(message.routes, scope), undefined);
  }

  #bothBufferLimits(message: object): void {
    this.#context.report(message, "request_body_buffer_limit", {
      code: "OR3605",
      text: "Only one of request_body_buffer_limit and per_request_buffer_limit_bytes could be set.",
    });
  }

  #routeList(messages: readonly RouteMessage[], scope: VirtualHostScope): RouteList {
    const candidates: Candidate[] = [];
    for (const message of messages) {
      const candidate = this.#route(message, scope);
      if (candidate !== undefined) candidates.push(candidate);
    }
    return new RouteList(candidates, this.#message.ignorePathParametersInPathMatching);
  }

  /** Actions of a virtual host's matcher: a route, or a list of them. */
  #matcherAction(action: AnyMessage, scope: VirtualHostScope, at: object): RouteList | undefined {
    if (action.$typeName === "envoy.config.route.v3.Route") return this.#routeList([action as RouteMessage], scope);
    if (action.$typeName === "envoy.config.route.v3.RouteList") return this.#routeList((action as RouteListMessage).routes, scope);
    this.#context.report(at, "matcher", {
      code: "OR3606",
      text: `a virtual host's matcher needs actions of type envoy.config.route.v3.Route or RouteList, not ${action.$typeName}`,
    });
    return undefined;
  }

  #retryPolicy(message: {
    readonly retryPolicy?: Parameters<typeof compileRetryPolicy>[0] | undefined;
    readonly retryPolicyTypedConfig?: AnyMessage | undefined;
  }): RetryPolicy | undefined {
    const typed = message.retryPolicyTypedConfig;
    if (message.retryPolicy !== undefined) return compileRetryPolicy(message.retryPolicy, this.#context);
    if (typed === undefined) return undefined;
    if (typed.$typeName === "envoy.config.route.v3.RetryPolicy") return compileRetryPolicy(typed as Parameters<typeof compileRetryPolicy>[0], this.#context);
    this.#context.report(message, "retry_policy_typed_config", {
      code: "OR4003",
      text: `retry_policy_typed_config of type ${typed.$typeName} is not supported`,
    });
    return undefined;
  }

  #checkCluster(at: object, field: string, kind: string, name: string): void {
    if (!this.#validateClusters || name === "" || this.#context.hasCluster(name)) return;
    const near = this.#context.nearestCluster?.(name);
    this.#context.report(at, field, {
      code: "OR3610",
      text: `route: unknown ${kind} '${name}'`,
      hint: near === undefined ? undefined : `did you mean "${near}"?`,
    });
  }

  #compileMirrors(messages: readonly RouteAction_RequestMirrorPolicy[]): MirrorPolicy[] {
    const context = this.#context;
    return messages.map((message) => {
      if (message.cluster !== "" && message.clusterHeader !== "")
        context.report(message, "cluster_header", { code: "OR3611", text: "request_mirror_policies: only one of cluster or cluster_header can be specified" });
      else if (message.cluster === "" && message.clusterHeader === "")
        context.report(message, "cluster", {
          code: "OR3612",
          text: "request_mirror_policies: at least one of cluster or cluster_header needs to be specified",
        });
      this.#checkCluster(message, "cluster", "shadow cluster", message.cluster);
      const headerName = message.clusterHeader.toLowerCase();
      const enabled = message.runtimeFraction === undefined ? undefined : compileRuntimeFraction(message.runtimeFraction, context.runtime);
      const mutation = compileHeaderMutations(message.requestHeadersMutations, context);
      return {
        cluster: (headers) => (message.cluster !== "" ? message.cluster : headers.get(headerName)),
        disableShadowHostSuffixAppend: message.disableShadowHostSuffixAppend,
        isEnabled: (random) => enabled === undefined || enabled(random),
        mutateHeaders(headers, info) {
          mutation?.evaluate(headers, info, headers, undefined);
        },
        hostRewriteLiteral: toBytes(message.hostRewriteLiteral),
        traceSampled: message.traceSampled,
      };
    });
  }

  #common(message: RouteMessage, match: PathSpecifier, scope: VirtualHostScope): RouteCommon {
    const context = this.#context;
    const perFilter = compilePerFilterConfig(message.typedPerFilterConfig, message, context);
    if (message.perRequestBufferLimitBytes !== undefined && message.requestBodyBufferLimit !== undefined) this.#bothBufferLimits(message);
    const tracing = message.tracing;
    return {
      name: message.name,
      statPrefix: message.statPrefix,
      virtualHost: scope.host,
      metadata: filterMetadata(message.metadata),
      perFilter,
      levels: new PerFilterLevels([this.#perFilter, scope.host.perFilter, perFilter]),
      requestBodyBufferLimitBytes: bufferLimit(message) ?? scope.host.requestBodyBufferLimitBytes,
      decorator: message.decorator === undefined ? undefined : { operation: message.decorator.operation, propagate: message.decorator.propagate ?? true },
      tracing:
        tracing === undefined
          ? undefined
          : {
              clientSampling: tracing.clientSampling === undefined ? undefined : percentOf(tracing.clientSampling),
              randomSampling: tracing.randomSampling === undefined ? undefined : percentOf(tracing.randomSampling),
              overallSampling: tracing.overallSampling === undefined ? undefined : percentOf(tracing.overallSampling),
            },
      routeStats:
        message.statPrefix === ""
          ? undefined
          : new VirtualClusterCounters(message.statPrefix, context.stats.scope(`vhost.${scope.host.statName}.route.${message.statPrefix}.`)),
      matchText: match.text,
      requestMutations: this.#ordered(compileRequestMutation(message, context), scope.requestMutation, this.#requestMutation),
      responseMutations: this.#ordered(compileResponseMutation(message, context), scope.responseMutation, this.#responseMutation),
    };
  }

  /** Most specific first, unless most_specific_header_mutations_wins asks that it has the last word. */
  #ordered(...mutations: (HeaderMutation | undefined)[]): HeaderMutation[] {
    const present = mutations.filter((mutation) => mutation !== undefined);
    return this.#message.mostSpecificHeaderMutationsWins ? present.reverse() : present;
  }

  #tlsRedirect(scope: VirtualHostScope): Route {
    const match = compileAlways();
    const none: ReadonlyMap<string, PerFilterConfig> = new Map();
    return new TlsRedirectRoute({
      common: {
        name: "",
        statPrefix: "",
        virtualHost: scope.host,
        metadata: {},
        perFilter: none,
        levels: new PerFilterLevels([this.#perFilter, scope.host.perFilter]),
        requestBodyBufferLimitBytes: undefined,
        decorator: undefined,
        tracing: undefined,
        routeStats: undefined,
        matchText: "",
        requestMutations: [],
        responseMutations: [],
      },
      match,
      status: 301,
      redirect: { scheme: "https", host: "", port: "", path: "", pathHasQuery: false, rewrite: noPathRewrite, stripQuery: false },
      body: undefined,
      bodyFormat: undefined,
      headerPrefix: this.#context.headerPrefix,
    });
  }

  #route(message: RouteMessage, scope: VirtualHostScope): Candidate | undefined {
    const context = this.#context;
    if (message.match === undefined) {
      context.report(message, "match", { code: "OR2001", text: "route without match: value is required" });
      return undefined;
    }
    const match = compileRouteMatch(message.match, context);
    const common = this.#common(message, match.path, scope);
    const action = message.action;
    switch (action.case) {
      case "route":
        return this.#forward(action.value, match, common, scope);
      case "redirect": {
        const redirect = action.value;
        const scheme = redirect.schemeRewriteSpecifier;
        const path = redirect.pathRewriteSpecifier;
        let rewrite = noPathRewrite;
        if (path.case === "prefixRewrite" && path.value !== "") rewrite = { ...noPathRewrite, prefix: toBytes(path.value) };
        else if (path.case === "regexRewrite") rewrite = { ...noPathRewrite, regex: compileRegexRewrite(path.value, context) };
        else if (path.case === "pathRewrite" && path.value !== "")
          rewrite = { ...noPathRewrite, format: compileFormat(path.value, context, { at: redirect, field: "path_rewrite", omitEmpty: true }) };
        const fixedPath = path.case === "pathRedirect" ? toBytes(path.value) : "";
        return {
          match,
          choose: undefined,
          route: new DirectRouteEntry({
            common,
            match: match.path,
            status: redirectStatus[redirect.responseCode] ?? 301,
            redirect: {
              scheme: scheme.case === "httpsRedirect" ? (scheme.value ? "https" : "") : scheme.case === "schemeRedirect" ? toBytes(scheme.value) : "",
              host: toBytes(redirect.hostRedirect),
              port: redirect.portRedirect === 0 ? "" : `:${redirect.portRedirect}`,
              path: fixedPath,
              pathHasQuery: fixedPath.includes("?"),
              rewrite,
              stripQuery: redirect.stripQuery,
            },
            body: undefined,
            bodyFormat: undefined,
            headerPrefix: context.headerPrefix,
          }),
        };
      }
      case "directResponse": {
        const direct = action.value;
        return {
          match,
          choose: undefined,
          route: new DirectRouteEntry({
            common,
            match: match.path,
            status: direct.status,
            redirect: undefined,
            body: direct.body === undefined ? undefined : this.#body(direct.body),
            bodyFormat: direct.bodyFormat === undefined ? undefined : compileSubstitutionFormatString(direct.bodyFormat, context),
            headerPrefix: context.headerPrefix,
          }),
        };
      }
      case "nonForwardingAction":
        return { match, choose: undefined, route: new NonForwardingRouteEntry(common) };
      case "filterAction":
        context.report(message, "filter_action", { code: "OR4001", text: "filter_action is not implemented" });
        return undefined;
      default:
        context.report(message, "action", { code: "OR2002", text: "a route needs an action: route, redirect, direct_response or non_forwarding_action" });
        return undefined;
    }
  }

  /** Contents of a direct response, checked against the limit. */
  #body(source: DataSource): string | Buffer | undefined {
    const context = this.#context;
    const { specifier } = source;
    let body: string | Buffer | undefined;
    let field = "inline_string";
    switch (specifier.case) {
      case "inlineString":
        body = toBytes(specifier.value);
        break;
      case "inlineBytes":
        field = "inline_bytes";
        body = Buffer.from(specifier.value);
        break;
      case "environmentVariable": {
        field = "environment_variable";
        const value = process.env[specifier.value];
        if (value === undefined) context.report(source, field, { code: "OR3613", text: `Environment variable doesn't exist: ${specifier.value}` });
        else body = toBytes(value);
        break;
      }
      case "filename":
        field = "filename";
        body = context.readFile(specifier.value, source, field);
        break;
    }
    if (body !== undefined && body.length > this.#maxBody) {
      context.report(source, field, {
        code: "OR3614",
        text: `response body size is ${body.length} bytes; maximum is ${this.#maxBody}`,
        hint: "raise max_direct_response_body_size_bytes of the route configuration",
      });
    }
    return body === undefined || body.length === 0 ? undefined : body;
  }

  #forward(action: RouteAction, match: CompiledMatch, common: RouteCommon, scope: VirtualHostScope): Candidate {
    const settings = this.#forwardSettings(action, match.path, common, scope);
    const specifier = action.clusterSpecifier;
    switch (specifier.case) {
      case "cluster":
        this.#checkCluster(action, "cluster", "cluster", specifier.value);
        return { match, route: new ForwardRouteEntry(settings, specifier.value), choose: undefined };
      case "clusterHeader": {
        const routes = new RoutesByCluster(settings);
        const name = specifier.value.toLowerCase();
        return { match, route: undefined, choose: (headers) => routes.get(headers.get(name) ?? "") };
      }
      case "weightedClusters":
        return { match, route: undefined, choose: this.#weighted(specifier.value, settings) };
      case "clusterSpecifierPlugin":
        return {
          match,
          route: undefined,
          choose: this.#plugin(
            action,
            "cluster_specifier_plugin",
            this.#message.clusterSpecifierPlugins.find((plugin) => plugin.extension?.name === specifier.value),
            specifier.value,
            settings,
          ),
        };
      case "inlineClusterSpecifierPlugin":
        return {
          match,
          route: undefined,
          choose: this.#plugin(action, "inline_cluster_specifier_plugin", specifier.value, specifier.value.extension?.name ?? "", settings),
        };
      default:
        this.#context.report(action, "cluster_specifier", {
          code: "OR2002",
          text: "a route action needs a cluster_specifier: cluster, cluster_header or weighted_clusters",
        });
        return { match, route: new ForwardRouteEntry(settings, ""), choose: undefined };
    }
  }

  #plugin(
    action: RouteAction,
    field: string,
    plugin: ClusterSpecifierPlugin | undefined,
    name: string,
    settings: ForwardSettings,
  ): (headers: RequestHeaders, info: StreamInfo) => Route {
    if (plugin === undefined)
      this.#context.report(action, field, { code: "OR3615", text: `Unknown cluster specifier plugin name: ${name} is used in the route` });
    else {
      const message = plugin.extension?.typedConfig;
      const isKnown = message !== undefined && extensionOfMessage(message.$typeName) !== undefined;
      const specifier =
        plugin.isOptional && !isKnown
          ? undefined
          : this.#context.extension("envoy.router.cluster_specifier_plugin", message, plugin.extension ?? plugin, "typed_config", name)?.clusterSpecifier;
      if (specifier !== undefined && message !== undefined) {
        const choose = specifier.compile(message, this.#context);
        const routes = new RoutesByCluster(settings);
        return (headers, info) => routes.get(choose(headers, info));
      }
    }
    const route = new ForwardRouteEntry(settings, "");
    return () => route;
  }

  #forwardSettings(action: RouteAction, match: PathSpecifier, common: RouteCommon, scope: VirtualHostScope): ForwardSettings {
    const context = this.#context;
    const hostRewrite = this.#hostRewrite(action);
    const stream = action.maxStreamDuration;
    const upgrades = action.upgradeConfigs.length === 0 ? noUpgrades : new Map<string, boolean>();
    let connectConfig: ForwardSettings["connectConfig"];
    for (const upgrade of action.upgradeConfigs) {
      const type = upgrade.upgradeType.toLowerCase();
      if (upgrades.has(type)) context.report(upgrade, "upgrade_type", { code: "OR3616", text: `Duplicate upgrade ${upgrade.upgradeType}` });
      upgrades.set(type, upgrade.enabled ?? true);
      if (upgrade.connectConfig === undefined) continue;
      if (type !== "connect" && type !== "connect-udp")
        context.report(upgrade, "connect_config", { code: "OR3617", text: `Non-CONNECT upgrade type ${upgrade.upgradeType} has ConnectConfig` });
      const proxy = upgrade.connectConfig.proxyProtocolConfig;
      connectConfig = { proxyProtocolVersion: proxy === undefined ? undefined : proxy.version === 1 ? 2 : 1, allowPost: upgrade.connectConfig.allowPost };
    }
    const mirrors = action.requestMirrorPolicies.length > 0 ? this.#compileMirrors(action.requestMirrorPolicies) : scope.mirrors;
    const metadataMatch = action.metadataMatch?.filterMetadata["envoy.lb"];
    return {
      common,
      match,
      rewrite: this.#pathRewrite(action, match),
      hostRewrite,
      clusterHostRewrite: "",
      clusterNotFoundStatus: notFoundStatus[action.clusterNotFoundResponseCode] ?? 503,
      timeoutMs: durationMs(action.timeout, 15_000),
      idleTimeoutMs: durationMs(action.idleTimeout),
      flushTimeoutMs: durationMs(action.flushTimeout),
      maxStreamDuration:
        stream === undefined
          ? undefined
          : {
              maxMs: durationMs(stream.maxStreamDuration),
              grpcTimeoutHeaderMaxMs: durationMs(stream.grpcTimeoutHeaderMax),
              grpcTimeoutHeaderOffsetMs: durationMs(stream.grpcTimeoutHeaderOffset, 0),
            },
      maxGrpcTimeoutMs: durationMs(action.maxGrpcTimeout),
      grpcTimeoutOffsetMs: durationMs(action.grpcTimeoutOffset),
      priority: action.priority === 1 ? "high" : "default",
      retryPolicy: this.#retryPolicy(action) ?? scope.retryPolicy,
      hedgePolicy: action.hedgePolicy === undefined ? (scope.hedgePolicy ?? compileHedgePolicy(undefined)) : compileHedgePolicy(action.hedgePolicy),
      mirrors,
      hashPolicy: compileHashPolicy(action.hashPolicy, context),
      rateLimits: compileRateLimits(action.rateLimits, context),
      includeVhRateLimits: action.includeVhRateLimits ?? false,
      internalRedirect: this.#internalRedirect(action),
      metadataMatch,
      autoHostRewrite: action.hostRewriteSpecifier.case === "autoHostRewrite" && action.hostRewriteSpecifier.value,
      appendXForwardedHost: action.appendXForwardedHost,
      upgrades,
      connectConfig,
      earlyDataPolicy: action.earlyDataPolicy?.typedConfig,
      headerPrefix: context.headerPrefix,
    };
  }

  #hostRewrite(action: RouteAction): HostRewrite | undefined {
    const specifier = action.hostRewriteSpecifier;
    switch (specifier.case) {
      case "hostRewriteLiteral":
        return specifier.value === "" ? undefined : { kind: "literal", host: toBytes(specifier.value) };
      case "hostRewriteHeader":
        return specifier.value === "" ? undefined : { kind: "header", name: specifier.value.toLowerCase() };
      case "hostRewritePathRegex": {
        const rewrite = compileRegexRewrite(specifier.value, this.#context);
        return rewrite === undefined ? undefined : { kind: "path_regex", rewrite };
      }
      case "hostRewrite":
        return specifier.value === ""
          ? undefined
          : { kind: "format", format: compileFormat(specifier.value, this.#context, { at: action, field: "host_rewrite" }) };
      default:
        return undefined;
    }
  }

  #pathRewrite(action: RouteAction, match: PathSpecifier): PathRewrite {
    const context = this.#context;
    const set = [action.prefixRewrite !== "", action.regexRewrite !== undefined, action.pathRewritePolicy !== undefined, action.pathRewrite !== ""].filter(
      Boolean,
    ).length;
    if (set > 1) {
      const field = action.regexRewrite !== undefined ? "regex_rewrite" : action.pathRewritePolicy !== undefined ? "path_rewrite_policy" : "path_rewrite";
      context.report(action, field, { code: "OR3618", text: "Specify only one of prefix_rewrite, regex_rewrite, path_rewrite_policy or path_rewrite" });
    }
    if (action.prefixRewrite !== "") return { ...noPathRewrite, prefix: toBytes(action.prefixRewrite) };
    if (action.regexRewrite !== undefined) {
      const regex = compileRegexRewrite(action.regexRewrite, context);
      return regex === undefined ? noPathRewrite : { ...noPathRewrite, regex };
    }
    const policy = action.pathRewritePolicy;
    if (policy !== undefined) {
      if (policy.typedConfig === undefined) {
        context.report(policy, "typed_config", { code: "OR2001", text: `path_rewrite_policy ${policy.name}: typed_config is required` });
        return noPathRewrite;
      }
      const extension = context.extension("envoy.path.rewrite", policy.typedConfig, policy, "typed_config", policy.name);
      const rewrite = (extension?.other?.pathRewrite as PathRewriteExtension | undefined)?.compile(policy.typedConfig, context, match.policy);
      return rewrite === undefined ? noPathRewrite : { ...noPathRewrite, policy: rewrite };
    }
    if (action.pathRewrite !== "")
      return { ...noPathRewrite, format: compileFormat(action.pathRewrite, context, { at: action, field: "path_rewrite", omitEmpty: true }) };
    return noPathRewrite;
  }

  #internalRedirect(action: RouteAction): InternalRedirectPolicy | undefined {
    const policy = action.internalRedirectPolicy;
    if (policy === undefined) {
      // The deprecated pair of fields.
      if (action.internalRedirectAction !== 1) return undefined;
      return {
        maxInternalRedirects: action.maxInternalRedirects ?? 1,
        responseCodes: new Set([302]),
        allowCrossScheme: false,
        predicates: [],
        responseHeadersToCopy: [],
      };
    }
    const allowed = [301, 302, 303, 307, 308];
    const codes = policy.redirectResponseCodes.filter((code) => allowed.includes(code));
    const predicates: { readonly $typeName: string }[] = [];
    for (const predicate of policy.predicates) if (predicate.typedConfig !== undefined) predicates.push(predicate.typedConfig);
    for (const name of policy.responseHeadersToCopy) {
      if (name.startsWith(":") || name.toLowerCase() === "host")
        this.#context.report(policy, "response_headers_to_copy", {
          code: "OR3619",
          text: `response_headers_to_copy: :-prefixed headers or host headers may not be copied: ${name}`,
        });
    }
    return {
      maxInternalRedirects: policy.maxInternalRedirects ?? 1,
      responseCodes: new Set(policy.redirectResponseCodes.length === 0 ? [302] : codes),
      allowCrossScheme: policy.allowCrossSchemeRedirect,
      predicates,
      responseHeadersToCopy: policy.responseHeadersToCopy.map((name) => name.toLowerCase()),
    };
  }

  #weighted(message: WeightedCluster, base: ForwardSettings): (headers: RequestHeaders, info: StreamInfo, random: number) => Route {
    const context = this.#context;
    const winsLast = this.#message.mostSpecificHeaderMutationsWins;
    let total = 0;
    const keyPrefix = message.runtimeKeyPrefix;
    const entries = message.clusters.map((cluster) => {
      if (cluster.name !== "" && cluster.clusterHeader !== "")
        context.report(cluster, "cluster_header", { code: "OR3620", text: "Only one of name or cluster_header can be specified" });
      else if (cluster.name === "" && cluster.clusterHeader === "")
        context.report(cluster, "name", { code: "OR3621", text: "At least one of name or cluster_header need to be specified" });
      this.#checkCluster(cluster, "name", "weighted cluster", cluster.name);
      const weight = cluster.weight ?? 0;
      total += weight;
      const perFilter = compilePerFilterConfig(cluster.typedPerFilterConfig, cluster, context);
      const request = compileRequestMutation(cluster, context);
      const response = compileResponseMutation(cluster, context);
      const own = (mutation: HeaderMutation | undefined, rest: readonly HeaderMutation[]): readonly HeaderMutation[] =>
        mutation === undefined ? rest : winsLast ? [...rest, mutation] : [mutation, ...rest];
      const metadata = cluster.metadataMatch?.filterMetadata["envoy.lb"];
      const literal = cluster.hostRewriteSpecifier.case === "hostRewriteLiteral" ? toBytes(cluster.hostRewriteSpecifier.value) : "";
      const settings: ForwardSettings = {
        ...base,
        common: {
          ...base.common,
          perFilter: perFilter.size === 0 ? base.common.perFilter : perFilter,
          levels:
            perFilter.size === 0
              ? base.common.levels
              : new PerFilterLevels([this.#perFilter, base.common.virtualHost.perFilter, base.common.perFilter, perFilter]),
          requestMutations: own(request, base.common.requestMutations),
          responseMutations: own(response, base.common.responseMutations),
        },
        metadataMatch: metadata === undefined ? base.metadataMatch : { ...base.metadataMatch, ...metadata },
        clusterHostRewrite: literal,
      };
      const headerName = cluster.clusterHeader.toLowerCase();
      const byHeader = headerName === "" ? undefined : new RoutesByCluster(settings);
      return {
        weight,
        runtimeKey: keyPrefix === "" ? "" : `${keyPrefix}.${cluster.name}`,
        route: byHeader === undefined ? new ForwardRouteEntry(settings, cluster.name) : undefined,
        byHeader,
        headerName,
      };
    });
    if (total === 0) context.report(message, "clusters", { code: "OR3622", text: "Sum of weights in the weighted_cluster must be greater than 0." });
    if (total > maxUint32)
      context.report(message, "clusters", { code: "OR3623", text: `The sum of weights of all weighted clusters of route exceeds ${maxUint32}` });
    const random = message.randomValueSpecifier;
    const randomHeader = random.case === "headerName" ? random.value.toLowerCase() : "";
    const hashPolicy: HashPolicy | undefined = random.case === "useHashPolicy" && random.value ? base.hashPolicy : undefined;
    const usesRuntime = keyPrefix !== "";
    const fallback = new ForwardRouteEntry(base, "");
    return (headers, info, randomValue) => {
      let value = randomValue;
      if (randomHeader !== "") {
        const text = headers.get(randomHeader);
        // A header that is no number falls back to the stream's own random value.
        if (text !== undefined && /^[0-9]{1,19}$/.test(text)) value = Number(BigInt(text) % BigInt(total));
      } else if (hashPolicy !== undefined) {
        const hash = hashPolicy.hash(headers, info, () => {});
        if (hash !== undefined) value = Number(hash % BigInt(total));
      }
      const selected = value % total;
      let begin = 0;
      for (const entry of entries) {
        const weight = usesRuntime ? context.runtime.snapshot.integer(entry.runtimeKey, entry.weight) : entry.weight;
        const end = begin + weight;
        // Weights from runtime may add up to more than the total: the entry that goes past it takes the rest.
        if ((selected >= begin && selected < end) || end > total) return entry.route ?? entry.byHeader?.get(headers.get(entry.headerName) ?? "") ?? fallback;
        begin = end;
      }
      return fallback;
    };
  }
}

/** Bytes that may be buffered for retries and shadows; the newer field has 64 bits. */
function bufferLimit(message: {
  readonly perRequestBufferLimitBytes?: number | undefined;
  readonly requestBodyBufferLimit?: bigint | undefined;
}): number | undefined {
  if (message.requestBodyBufferLimit !== undefined) return Number(message.requestBodyBufferLimit);
  return message.perRequestBufferLimitBytes;
}

function filterMetadata(metadata: Metadata | undefined): Record<string, JsonObject> {
  return metadata?.filterMetadata ?? {};
}

function compileAlways(): PathSpecifier {
  return { kind: "prefix", text: "", rewriteLength: 0, policy: undefined, test: () => true, addTo: () => {} };
}

/** A redirect to https that keeps host, port and path as they are. */
class TlsRedirectRoute extends DirectRouteEntry {
  override location(headers: RequestHeaders): string {
    return `https://${headers.authority ?? ""}${headers.path ?? ""}`;
  }
}

/** How many clusters named by headers keep their Route object: such names come from requests. */
const maxCachedClusters = 256;

/** Routes that differ only in the cluster that a request names. */
class RoutesByCluster {
  readonly #settings: ForwardSettings;
  readonly #routes = new Map<string, ForwardRouteEntry>();
  constructor(settings: ForwardSettings) {
    this.#settings = settings;
  }
  get(name: string): ForwardRouteEntry {
    const cached = this.#routes.get(name);
    if (cached !== undefined) return cached;
    const made = new ForwardRouteEntry(this.#settings, name);
    if (this.#routes.size < maxCachedClusters) this.#routes.set(name, made);
    return made;
  }
}

/** Routes in order, behind their index. */
class RouteList {
  readonly #candidates: readonly Candidate[];
  readonly #index = new PathIndex();
  readonly #ignoreParameters: boolean;
  // The request at hand: a match is synchronous, so the acceptance test needs no closure of its own.
  #headers: RequestHeaders | undefined = undefined;
  #info: StreamInfo | undefined = undefined;
  #random = 0;
  readonly #accept = (route: number): boolean => {
    const conditions = this.#candidates[route].match.conditions;
    for (let i = 0; i < conditions.length; i++) if (!conditions[i](this.#headers as RequestHeaders, this.#info as StreamInfo, this.#random)) return false;
    return true;
  };

  constructor(candidates: readonly Candidate[], ignoreParameters: boolean) {
    this.#candidates = candidates;
    this.#ignoreParameters = ignoreParameters;
    for (let i = 0; i < candidates.length; i++) candidates[i].match.path.addTo(this.#index, i);
  }

  match(headers: RequestHeaders, info: StreamInfo, random: number): Route | undefined {
    let path = headers.path;
    if (path !== undefined) {
      path = barePath(path);
      if (this.#ignoreParameters) {
        const semicolon = path.indexOf(";");
        if (semicolon >= 0) path = path.slice(0, semicolon);
      }
    }
    this.#headers = headers;
    this.#info = info;
    this.#random = random;
    const found = this.#index.first(path, this.#accept);
    this.#headers = undefined;
    this.#info = undefined;
    if (found < 0) return undefined;
    const candidate = this.#candidates[found];
    return candidate.route ?? candidate.choose?.(headers, info, random);
  }
}

class VirtualHostEntry {
  readonly host: VirtualHost;
  readonly #requireTls: 0 | 1 | 2;
  readonly #tlsRedirect: Route | undefined;
  readonly #routes: RouteList | undefined;
  readonly #matcher: HttpMatcher<RouteList> | undefined;

  constructor(
    host: VirtualHost,
    requireTls: 0 | 1 | 2,
    tlsRedirect: Route | undefined,
    routes: RouteList | undefined,
    matcher: HttpMatcher<RouteList> | undefined,
  ) {
    this.host = host;
    this.#requireTls = requireTls;
    this.#tlsRedirect = tlsRedirect;
    this.#routes = routes;
    this.#matcher = matcher;
  }

  match(headers: RequestHeaders, info: StreamInfo, random: number): Route | undefined {
    if (this.#requireTls !== 0 && requestScheme(headers) !== "https" && (this.#requireTls === 2 || headers.get("x-envoy-internal") !== "true"))
      return this.#tlsRedirect;
    if (this.#matcher !== undefined) return this.#matcher.match(headers, noResponse, info)?.match(headers, info, random);
    return this.#routes?.match(headers, info, random);
  }
}

const noResponse: ResponseHeaders | undefined = undefined;

class CompiledTable implements RouteTable {
  readonly name: string;
  readonly internalOnlyHeaders: readonly string[];
  readonly usesVhds: boolean;
  readonly maxDirectResponseBodyBytes: number;
  readonly ignorePortInHostMatching: boolean;
  readonly perFilter: ReadonlyMap<string, PerFilterConfig>;
  readonly #domains: DomainIndex<VirtualHostEntry>;
  readonly #onlyAny: boolean;
  readonly #hostHeader: string;

  constructor(message: RouteConfiguration, domains: DomainIndex<VirtualHostEntry>, perFilter: ReadonlyMap<string, PerFilterConfig>, maxBody: number) {
    this.name = message.name;
    this.internalOnlyHeaders = message.internalOnlyHeaders.map((name) => name.toLowerCase());
    this.usesVhds = message.vhds !== undefined;
    this.maxDirectResponseBodyBytes = maxBody;
    this.ignorePortInHostMatching = message.ignorePortInHostMatching;
    this.perFilter = perFilter;
    this.#domains = domains;
    this.#onlyAny = domains.hasOnlyAny;
    this.#hostHeader = message.vhostHeader.toLowerCase();
  }

  match(headers: RequestHeaders, info: StreamInfo, randomValue: number): Route | undefined {
    return this.#find(headers)?.match(headers, info, randomValue);
  }

  virtualHost(headers: RequestHeaders): VirtualHost | undefined {
    return this.#find(headers)?.host;
  }

  #find(headers: RequestHeaders): VirtualHostEntry | undefined {
    if (this.#onlyAny) return this.#domains.any;
    const host = this.#hostHeader === "" ? headers.authority : headers.get(this.#hostHeader);
    if (host === undefined) return undefined;
    return this.#domains.find(this.ignorePortInHostMatching ? withoutPort(host) : host);
  }
}

export { replaceHost };
