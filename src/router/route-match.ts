/** RouteMatch: the path condition for the index, and all other conditions of a route. */
import type { RouteMatch } from "../config/schema/types/envoy.config.route.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import type { RequestHeaders } from "../http/header-map.ts";
import type { StreamInfo } from "../http/stream-info.ts";
import { compileFilterStateMatcher } from "../matching/filter-state-matcher.ts";
import { compileHeaderMatcher } from "../matching/header-matcher.ts";
import type { PathMatchExtension, PathMatchPolicy } from "../matching/path-policy.ts";
import { compileQueryParameterMatcher } from "../matching/query-parameters.ts";
import { asciiLower, compileRegexMatcher, compileStringMatcher, toBytes } from "../matching/string-matcher.ts";
import { compileMetadataMatcher } from "../matching/value-matcher.ts";
import { cookieValue } from "./cookie.ts";
import { compileRuntimeFraction } from "./fraction.ts";
import type { PathIndex } from "./path-index.ts";

export const honours: Honours = {
  "envoy.config.route.v3.RouteMatch": "*",
  "envoy.config.route.v3.RouteMatch.GrpcRouteMatchOptions": "*",
  "envoy.config.route.v3.RouteMatch.TlsContextMatchOptions": "*",
  "envoy.config.route.v3.RouteMatch.ConnectMatcher": "*",
  "envoy.config.route.v3.CookieMatcher": "*",
};

export type Condition = (headers: RequestHeaders, info: StreamInfo, randomValue: number) => boolean;

/** The path part of a route: how it is found, and how much of the path a prefix rewrite replaces. */
export interface PathSpecifier {
  readonly kind: "prefix" | "exact" | "separated" | "regex" | "connect" | "template" | "never";
  readonly text: string;
  /** Code units at the start of the path that prefix_rewrite replaces; "all" is the whole path. */
  readonly rewriteLength: number | "all";
  readonly policy: PathMatchPolicy | undefined;
  /** Whether the path (without query; undefined where there is none) fits: what the index decides, for one route. */
  test(path: string | undefined): boolean;
  addTo(index: PathIndex, route: number): void;
}

export interface CompiledMatch {
  readonly path: PathSpecifier;
  /** CONNECT only (connect_matcher). */
  readonly conditions: readonly Condition[];
}

/** A path without query and fragment. */
export function barePath(path: string): string {
  const question = path.indexOf("?");
  const fragment = path.indexOf("#");
  if (question < 0 && fragment < 0) return path;
  return path.slice(0, question < 0 ? fragment : fragment < 0 ? question : Math.min(question, fragment));
}

const never: PathSpecifier = { kind: "never", text: "", rewriteLength: 0, policy: undefined, test: () => false, addTo: () => {} };

function scanned(
  kind: PathSpecifier["kind"],
  text: string,
  rewriteLength: number | "all",
  test: (path: string | undefined) => boolean,
  policy?: PathMatchPolicy,
): PathSpecifier {
  return { kind, text, rewriteLength, policy, test, addTo: (index, route) => index.addTest(test, route) };
}

function compilePath(match: RouteMatch, context: CompileContext): PathSpecifier {
  const specifier = match.pathSpecifier;
  const sensitive = match.caseSensitive ?? true;
  switch (specifier.case) {
    case "prefix": {
      const text = toBytes(specifier.value);
      if (!sensitive) {
        const folded = asciiLower(text);
        return scanned("prefix", text, text.length, (path) => path !== undefined && asciiLower(path.slice(0, folded.length)) === folded);
      }
      return {
        kind: "prefix",
        text,
        rewriteLength: text.length,
        policy: undefined,
        test: (path) => path?.startsWith(text) === true,
        addTo: (index, route) => index.addPrefix(text, route),
      };
    }
    case "path": {
      const text = toBytes(specifier.value);
      if (!sensitive) {
        const folded = asciiLower(text);
        return scanned("exact", text, text.length, (path) => path !== undefined && path.length === folded.length && asciiLower(path) === folded);
      }
      return {
        kind: "exact",
        text,
        rewriteLength: text.length,
        policy: undefined,
        test: (path) => path === text,
        addTo: (index, route) => index.addExact(text, route),
      };
    }
    case "pathSeparatedPrefix": {
      const text = toBytes(specifier.value);
      const ends = (path: string): boolean => path.length === text.length || path[text.length] === "/";
      if (!sensitive) {
        const folded = asciiLower(text);
        return scanned("separated", text, text.length, (path) => path !== undefined && asciiLower(path.slice(0, folded.length)) === folded && ends(path));
      }
      return {
        kind: "separated",
        text,
        rewriteLength: text.length,
        policy: undefined,
        test: (path) => path?.startsWith(text) === true && ends(path),
        addTo: (index, route) => index.addSeparatedPrefix(text, route),
      };
    }
    case "safeRegex": {
      const regex = compileRegexMatcher(specifier.value, context);
      if (regex === undefined) return never;
      return scanned("regex", specifier.value.regex, "all", (path) => path !== undefined && regex.fullMatch(path));
    }
    case "connectMatcher":
      // Pathless requests included; the method is one of the conditions.
      return scanned("connect", "", "all", () => true);
    case "pathMatchPolicy": {
      const config = specifier.value;
      if (config.typedConfig === undefined) {
        context.report(config, "typed_config", { code: "OR2001", text: `path_match_policy ${config.name}: typed_config is required` });
        return never;
      }
      const extension = context.extension("envoy.path.match", config.typedConfig, config, "typed_config", config.name);
      const policy = (extension?.other?.pathMatch as PathMatchExtension | undefined)?.compile(config.typedConfig, context);
      if (policy === undefined) return never;
      return scanned("template", policy.text, "all", (path) => path !== undefined && policy.match(path) !== undefined, policy);
    }
    default:
      context.report(match, "path_specifier", { code: "OR2002", text: "a route match needs a path_specifier (prefix, path, safe_regex, ...)" });
      return never;
  }
}

const grpcContentType = /^application\/grpc(?:$|\+)/;

/** Whether a request is gRPC by its content type. */
export function isGrpcRequest(headers: RequestHeaders): boolean {
  const type = headers.get("content-type");
  return type !== undefined && grpcContentType.test(type);
}

export function compileRouteMatch(match: RouteMatch, context: CompileContext): CompiledMatch {
  const path = compilePath(match, context);
  const conditions: Condition[] = [];
  if (path.kind === "connect")
    conditions.push((headers) => headers.method === "CONNECT" && (headers.protocol === undefined || headers.protocol === "connect-udp"));
  if (match.runtimeFraction !== undefined) {
    const enabled = compileRuntimeFraction(match.runtimeFraction, context.runtime);
    conditions.push((_headers, _info, random) => enabled(random));
  }
  if (match.grpc !== undefined) conditions.push(isGrpcRequest);
  for (const message of match.headers) {
    const matcher = compileHeaderMatcher(message, context);
    conditions.push((headers) => matcher.matches(headers));
  }
  for (const message of match.queryParameters) {
    const matcher = compileQueryParameterMatcher(message, context);
    conditions.push((headers) => headers.path !== undefined && matcher.matches(headers.path));
  }
  for (const message of match.cookies) {
    const name = toBytes(message.name);
    const matcher = message.stringMatch === undefined ? undefined : compileStringMatcher(message.stringMatch, context);
    const invert = message.invertMatch;
    conditions.push((headers) => {
      const value = cookieValue(headers, name);
      return (value !== undefined && (matcher === undefined || matcher.matches(value))) !== invert;
    });
  }
  const tls = match.tlsContext;
  if (tls !== undefined) {
    const { presented, validated } = tls;
    conditions.push((_headers, info) => {
      const connection = info.downstreamTls;
      if (connection === undefined) return presented !== true && validated !== true;
      if (presented !== undefined && connection.peerCertificatePresented !== presented) return false;
      return validated === undefined || connection.peerCertificateValidated === validated;
    });
  }
  for (const message of match.dynamicMetadata) {
    const test = compileMetadataMatcher(message, context);
    conditions.push((_headers, info) => test(info.hasDynamicMetadata ? info.dynamicMetadata : noMetadata));
  }
  for (const message of match.filterState) {
    const test = compileFilterStateMatcher(message, context);
    conditions.push((_headers, info) => test(info));
  }
  return { path, conditions };
}

const noMetadata = {};
