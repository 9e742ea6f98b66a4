/** The compiled routes themselves: what a request does once its route is found. */
import type { JsonObject } from "../config/message.ts";
import type { FormatContext, Formatter } from "../formatter/formatter.ts";
import type { RequestHeaders, ResponseHeaders } from "../http/header-map.ts";
import type { StreamInfo } from "../http/stream-info.ts";
import type { RegexRewrite } from "../matching/string-matcher.ts";
import type { HeaderMutation } from "./header-mutation.ts";
import type { PerFilterLevels } from "./per-filter-config.ts";
import type { RateLimitEntry } from "./rate-limit.ts";
import type {
  DirectRoute,
  ForwardRoute,
  HashPolicy,
  HedgePolicy,
  InternalRedirectPolicy,
  MirrorPolicy,
  NonForwardingRoute,
  PerFilterConfig,
  RetryPolicy,
  RouteTracing,
  VirtualClusterStats,
  VirtualHost,
} from "./route.ts";
import type { PathSpecifier } from "./route-match.ts";
import { barePath } from "./route-match.ts";

/** What every kind of route has. */
export interface RouteCommon {
  readonly name: string;
  readonly statPrefix: string;
  readonly virtualHost: VirtualHost;
  readonly metadata: Record<string, JsonObject>;
  readonly perFilter: ReadonlyMap<string, PerFilterConfig>;
  readonly levels: PerFilterLevels;
  readonly requestBodyBufferLimitBytes: number | undefined;
  readonly decorator: { readonly operation: string; readonly propagate: boolean } | undefined;
  readonly tracing: RouteTracing | undefined;
  readonly routeStats: VirtualClusterStats | undefined;
  readonly matchText: string;
  /** In the order in which they are applied. */
  readonly requestMutations: readonly HeaderMutation[];
  readonly responseMutations: readonly HeaderMutation[];
}

class RouteBase {
  readonly name: string;
  readonly statPrefix: string;
  readonly virtualHost: VirtualHost;
  readonly metadata: Record<string, JsonObject>;
  readonly perFilter: ReadonlyMap<string, PerFilterConfig>;
  readonly requestBodyBufferLimitBytes: number | undefined;
  readonly decorator: { readonly operation: string; readonly propagate: boolean } | undefined;
  readonly tracing: RouteTracing | undefined;
  readonly routeStats: VirtualClusterStats | undefined;
  readonly matchText: string;
  protected readonly requestMutations: readonly HeaderMutation[];
  readonly #responseMutations: readonly HeaderMutation[];
  readonly #levels: PerFilterLevels;

  constructor(common: RouteCommon) {
    this.name = common.name;
    this.statPrefix = common.statPrefix;
    this.virtualHost = common.virtualHost;
    this.metadata = common.metadata;
    this.perFilter = common.perFilter;
    this.requestBodyBufferLimitBytes = common.requestBodyBufferLimitBytes;
    this.decorator = common.decorator;
    this.tracing = common.tracing;
    this.routeStats = common.routeStats;
    this.matchText = common.matchText;
    this.requestMutations = common.requestMutations;
    this.#responseMutations = common.responseMutations;
    this.#levels = common.levels;
  }

  finalizeResponseHeaders(headers: ResponseHeaders, info: StreamInfo, requestHeaders: RequestHeaders): void {
    for (const mutation of this.#responseMutations) mutation.evaluate(headers, info, requestHeaders, headers);
  }
  perFilterSettings(filterName: string): readonly unknown[] {
    return this.#levels.settings(filterName);
  }
  filterDisabled(filterName: string): boolean | undefined {
    return this.#levels.disabled(filterName);
  }
}

export class NonForwardingRouteEntry extends RouteBase implements NonForwardingRoute {
  readonly kind = "non_forwarding";
}

/** How a path changes: at most one of these is set. */
export interface PathRewrite {
  /** Replaces the matched part of the path; "" is none. */
  readonly prefix: string;
  readonly regex: RegexRewrite | undefined;
  /** path_rewrite_policy: from path to path. */
  readonly policy: ((path: string) => string | undefined) | undefined;
  /** path_rewrite: a format that makes the whole path. */
  readonly format: Formatter | undefined;
}

export const noPathRewrite: PathRewrite = { prefix: "", regex: undefined, policy: undefined, format: undefined };

/** The path after a rewrite, query kept; undefined where nothing changes it. */
export function rewritePath(rewrite: PathRewrite, match: PathSpecifier, headers: RequestHeaders, info: StreamInfo): string | undefined {
  const path = headers.path;
  if (path === undefined) return undefined;
  if (rewrite.prefix !== "") {
    const length = match.rewriteLength === "all" ? barePath(path).length : match.rewriteLength;
    return rewrite.prefix + path.slice(length);
  }
  if (rewrite.regex !== undefined) {
    const bare = barePath(path);
    return rewrite.regex.regex.replaceAll(bare, rewrite.regex.substitution) + path.slice(bare.length);
  }
  if (rewrite.policy !== undefined) {
    const bare = barePath(path);
    const changed = rewrite.policy(bare);
    return changed === undefined ? undefined : changed + path.slice(bare.length);
  }
  if (rewrite.format !== undefined) {
    const changed = rewrite.format.format(requestContext(headers, info));
    return changed === "" ? undefined : changed + path.slice(barePath(path).length);
  }
  return undefined;
}

export function requestContext(headers: RequestHeaders, info: StreamInfo): FormatContext {
  return { info, requestHeaders: headers, responseHeaders: undefined, responseTrailers: undefined, localReplyBody: "", accessLogType: "NotSet" };
}

/** How the host changes. */
export type HostRewrite =
  | { readonly kind: "literal"; readonly host: string }
  | { readonly kind: "header"; readonly name: string }
  | { readonly kind: "path_regex"; readonly rewrite: RegexRewrite }
  | { readonly kind: "format"; readonly format: Formatter };

export interface ForwardSettings {
  readonly common: RouteCommon;
  readonly match: PathSpecifier;
  readonly rewrite: PathRewrite;
  readonly hostRewrite: HostRewrite | undefined;
  /** Where the weighted cluster names its own. */
  readonly clusterHostRewrite: string;
  readonly clusterNotFoundStatus: number;
  readonly timeoutMs: number;
  readonly idleTimeoutMs: number | undefined;
  readonly flushTimeoutMs: number | undefined;
  readonly maxStreamDuration: ForwardRoute["maxStreamDuration"];
  readonly maxGrpcTimeoutMs: number | undefined;
  readonly grpcTimeoutOffsetMs: number | undefined;
  readonly priority: "default" | "high";
  readonly retryPolicy: RetryPolicy | undefined;
  readonly hedgePolicy: HedgePolicy;
  readonly mirrors: readonly MirrorPolicy[];
  readonly hashPolicy: HashPolicy | undefined;
  readonly rateLimits: readonly RateLimitEntry[];
  readonly includeVhRateLimits: boolean;
  readonly internalRedirect: InternalRedirectPolicy | undefined;
  readonly metadataMatch: JsonObject | undefined;
  readonly autoHostRewrite: boolean;
  readonly appendXForwardedHost: boolean;
  readonly upgrades: ReadonlyMap<string, boolean>;
  readonly connectConfig: ForwardRoute["connectConfig"];
  readonly earlyDataPolicy: { readonly $typeName: string } | undefined;
  /** "x-envoy" */
  readonly headerPrefix: string;
}

export class ForwardRouteEntry extends RouteBase implements ForwardRoute {
  readonly kind = "forward";
  readonly clusterName: string;
  readonly clusterNotFoundStatus: number;
  readonly timeoutMs: number;
  readonly idleTimeoutMs: number | undefined;
  readonly flushTimeoutMs: number | undefined;
  readonly maxStreamDuration: ForwardRoute["maxStreamDuration"];
  readonly maxGrpcTimeoutMs: number | undefined;
  readonly grpcTimeoutOffsetMs: number | undefined;
  readonly priority: "default" | "high";
  readonly retryPolicy: RetryPolicy | undefined;
  readonly hedgePolicy: HedgePolicy;
  readonly mirrors: readonly MirrorPolicy[];
  readonly hashPolicy: HashPolicy | undefined;
  readonly rateLimits: readonly RateLimitEntry[];
  readonly includeVhRateLimits: boolean;
  readonly internalRedirect: InternalRedirectPolicy | undefined;
  readonly metadataMatch: JsonObject | undefined;
  readonly autoHostRewrite: boolean;
  readonly appendXForwardedHost: boolean;
  readonly upgrades: ReadonlyMap<string, boolean>;
  readonly connectConfig: ForwardRoute["connectConfig"];
  readonly earlyDataPolicy: { readonly $typeName: string } | undefined;
  readonly settings: ForwardSettings;
  readonly #match: PathSpecifier;
  readonly #rewrite: PathRewrite;
  readonly #rewritesPath: boolean;
  readonly #hostRewrite: HostRewrite | undefined;
  readonly #clusterHostRewrite: string;

  constructor(settings: ForwardSettings, clusterName: string) {
    super(settings.common);
    this.settings = settings;
    this.clusterName = clusterName;
    this.clusterNotFoundStatus = settings.clusterNotFoundStatus;
    this.timeoutMs = settings.timeoutMs;
    this.idleTimeoutMs = settings.idleTimeoutMs;
    this.flushTimeoutMs = settings.flushTimeoutMs;
    this.maxStreamDuration = settings.maxStreamDuration;
    this.maxGrpcTimeoutMs = settings.maxGrpcTimeoutMs;
    this.grpcTimeoutOffsetMs = settings.grpcTimeoutOffsetMs;
    this.priority = settings.priority;
    this.retryPolicy = settings.retryPolicy;
    this.hedgePolicy = settings.hedgePolicy;
    this.mirrors = settings.mirrors;
    this.hashPolicy = settings.hashPolicy;
    this.rateLimits = settings.rateLimits;
    this.includeVhRateLimits = settings.includeVhRateLimits;
    this.internalRedirect = settings.internalRedirect;
    this.metadataMatch = settings.metadataMatch;
    this.autoHostRewrite = settings.autoHostRewrite;
    this.appendXForwardedHost = settings.appendXForwardedHost;
    this.upgrades = settings.upgrades;
    this.connectConfig = settings.connectConfig;
    this.earlyDataPolicy = settings.earlyDataPolicy;
    this.#match = settings.match;
    this.#rewrite = settings.rewrite;
    this.#rewritesPath = settings.rewrite !== noPathRewrite;
    this.#hostRewrite = settings.hostRewrite;
    this.#clusterHostRewrite = settings.clusterHostRewrite;
  }

  finalizeRequestHeaders(headers: RequestHeaders, info: StreamInfo, suppressEnvoyHeaders: boolean): void {
    for (const mutation of this.requestMutations) mutation.evaluate(headers, info, headers, undefined);
    if (this.#clusterHostRewrite !== "") headers.authority = this.#clusterHostRewrite;
    const hostRewrite = this.#hostRewrite;
    if (hostRewrite !== undefined) {
      const host = this.#newHost(hostRewrite, headers, info);
      if (host !== undefined) this.#setHost(headers, host, suppressEnvoyHeaders);
    }
    if (this.#rewritesPath) {
      const path = rewritePath(this.#rewrite, this.#match, headers, info);
      if (path !== undefined) {
        if (!suppressEnvoyHeaders && headers.path !== undefined) headers.set(`${this.settings.headerPrefix}-original-path`, headers.path);
        headers.path = path;
      }
    }
  }

  #newHost(rewrite: HostRewrite, headers: RequestHeaders, info: StreamInfo): string | undefined {
    switch (rewrite.kind) {
      case "literal":
        return rewrite.host;
      case "header": {
        const value = headers.get(rewrite.name);
        return value === undefined || value === "" ? undefined : value;
      }
      case "path_regex":
        return headers.path === undefined ? undefined : rewrite.rewrite.regex.replaceAll(barePath(headers.path), rewrite.rewrite.substitution);
      case "format": {
        const value = rewrite.format.format(requestContext(headers, info));
        return value === "" ? undefined : value;
      }
    }
  }

  #setHost(headers: RequestHeaders, host: string, suppressEnvoyHeaders: boolean): void {
    replaceHost(headers, host, this.appendXForwardedHost, suppressEnvoyHeaders ? undefined : this.settings.headerPrefix);
  }
}

/** Replaces :authority; the old one goes to x-forwarded-host (appended) and x-envoy-original-host where that is asked for. */
export function replaceHost(headers: RequestHeaders, host: string, appendXForwardedHost: boolean, headerPrefix: string | undefined): void {
  const old = headers.authority;
  if (old !== undefined && old !== "") {
    if (appendXForwardedHost) {
      const chain = headers.get("x-forwarded-host");
      headers.set("x-forwarded-host", chain === undefined || chain === "" ? old : `${chain},${old}`);
    }
    if (headerPrefix !== undefined) headers.set(`${headerPrefix}-original-host`, old);
  }
  headers.authority = host;
}

export interface DirectSettings {
  readonly common: RouteCommon;
  readonly match: PathSpecifier;
  readonly status: number;
  readonly redirect: Redirect | undefined;
  readonly body: string | Buffer | undefined;
  readonly bodyFormat: (Formatter & { readonly contentType: string }) | undefined;
  readonly headerPrefix: string;
}

export interface Redirect {
  /** "" leaves the scheme of the request. */
  readonly scheme: string;
  readonly host: string;
  /** ":8443" or "". */
  readonly port: string;
  /** "" leaves the path (after `rewrite`). */
  readonly path: string;
  readonly pathHasQuery: boolean;
  readonly rewrite: PathRewrite;
  readonly stripQuery: boolean;
}

export class DirectRouteEntry extends RouteBase implements DirectRoute {
  readonly kind = "direct";
  readonly status: number;
  readonly isRedirect: boolean;
  readonly contentType: string | undefined;
  readonly #redirect: Redirect | undefined;
  readonly #match: PathSpecifier;
  readonly #body: string | Buffer | undefined;
  readonly #bodyFormat: Formatter | undefined;
  readonly #headerPrefix: string;

  constructor(settings: DirectSettings) {
    super(settings.common);
    this.status = settings.status;
    this.isRedirect = settings.redirect !== undefined;
    this.contentType = settings.bodyFormat?.contentType;
    this.#redirect = settings.redirect;
    this.#match = settings.match;
    this.#body = settings.body;
    this.#bodyFormat = settings.bodyFormat;
    this.#headerPrefix = settings.headerPrefix;
  }

  location(headers: RequestHeaders, info: StreamInfo): string | undefined {
    const redirect = this.#redirect;
    if (redirect === undefined) return undefined;
    const scheme = redirect.scheme !== "" ? redirect.scheme : requestScheme(headers);
    const host = redirect.host !== "" ? redirect.host : redirectHost(headers, scheme, redirect.port);
    return `${scheme}://${host}${redirect.port}${this.#location(redirect, headers, info)}`;
  }

  #location(redirect: Redirect, headers: RequestHeaders, info: StreamInfo): string {
    const current = headers.path ?? "";
    if (redirect.path !== "") {
      // A query in path_redirect takes the place of the request's, whatever strip_query says.
      if (redirect.pathHasQuery) return redirect.path;
      const question = current.indexOf("?");
      return question < 0 || redirect.stripQuery ? redirect.path : redirect.path + current.slice(question);
    }
    const path = rewritePath(redirect.rewrite, this.#match, headers, info) ?? current;
    if (!redirect.stripQuery) return path;
    const question = path.indexOf("?");
    return question < 0 ? path : path.slice(0, question);
  }

  body(headers: RequestHeaders, info: StreamInfo): string | Buffer | undefined {
    const format = this.#bodyFormat;
    if (format === undefined) return this.#body;
    const text = this.#body === undefined ? "" : typeof this.#body === "string" ? this.#body : this.#body.toString("latin1");
    return format.format({
      info,
      requestHeaders: headers,
      responseHeaders: undefined,
      responseTrailers: undefined,
      localReplyBody: text,
      accessLogType: "NotSet",
    });
  }

  finalizeRequestHeaders(headers: RequestHeaders, info: StreamInfo): void {
    const redirect = this.#redirect;
    if (redirect === undefined) return;
    const path = redirect.path !== "" ? undefined : rewritePath(redirect.rewrite, this.#match, headers, info);
    if (path === undefined) return;
    if (headers.path !== undefined) headers.set(`${this.#headerPrefix}-original-path`, headers.path);
    headers.path = path;
  }
}

/** x-forwarded-proto is what the client used, as the connection manager set it. */
export function requestScheme(headers: RequestHeaders): string {
  return headers.get("x-forwarded-proto") ?? headers.scheme ?? "http";
}

/** The host for a Location: without its port where a port is set, or where the scheme changes and the port is the old scheme's own. */
function redirectHost(headers: RequestHeaders, newScheme: string, newPort: string): string {
  const host = headers.authority ?? "";
  let end = -1;
  if (host.startsWith("[")) {
    const bracket = host.lastIndexOf("]:");
    if (bracket >= 0) end = bracket + 1;
  } else end = host.lastIndexOf(":");
  if (end < 0) return host;
  const port = host.slice(end);
  const oldScheme = requestScheme(headers);
  let removes = newPort !== "";
  if (newScheme !== oldScheme) removes ||= (oldScheme === "https" && port === ":443") || (oldScheme === "http" && port === ":80");
  return removes ? host.slice(0, end) : host;
}
