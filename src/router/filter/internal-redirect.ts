/** internal_redirect_policy: a redirect of the upstream is followed here. Envoy's convertRequestHeadersForInternalRedirect. */
import { type AnyMessage, isMessage } from "../../config/message.ts";
import type { AllowListedRoutesConfig } from "../../config/schema/types/envoy.extensions.internal_redirect.allow_listed_routes.v3.d.ts";
import type { FilterStateConfig } from "../../config/schema/types/envoy.extensions.internal_redirect.filter_state.v3.d.ts";
import type { Extension } from "../../extensions/extension.ts";
import type { DecoderFilterCallbacks } from "../../http/filter.ts";
import type { RequestHeaders, ResponseHeaders } from "../../http/header-map.ts";
import type { FilterStateObject, StreamInfo } from "../../http/stream-info.ts";
import type { ForwardRoute, InternalRedirectPolicy } from "../route.ts";
import type { RouterConfig } from "./router-config.ts";

const stateKey = "num_internal_redirect";

/** How often a request was redirected, and which routes it met on the way. Lives in filter state, which the next pass inherits. */
class RedirectState implements FilterStateObject {
  count = 0;
  /** Target routes by the route whose policy remembers them. */
  readonly followed = new Map<string, Set<string>>();
  serializeAsString(): string {
    return String(this.count);
  }
}

function redirectState(info: StreamInfo): RedirectState {
  const found = info.getFilterState(stateKey);
  if (found instanceof RedirectState) return found;
  const made = new RedirectState();
  info.setFilterState(stateKey, made);
  return made;
}

interface PredicateInput {
  readonly info: StreamInfo;
  readonly state: RedirectState;
  readonly fromRoute: string;
  readonly toRoute: string;
  readonly fromHttps: boolean;
  readonly toHttps: boolean;
}
type Predicate = (input: PredicateInput) => boolean;

const pkg = "envoy.extensions.internal_redirect.";
const predicatesOf = new WeakMap<InternalRedirectPolicy, readonly Predicate[]>();

function predicates(policy: InternalRedirectPolicy): readonly Predicate[] {
  let found = predicatesOf.get(policy);
  if (found === undefined) {
    found = policy.predicates.map(compilePredicate);
    predicatesOf.set(policy, found);
  }
  return found;
}

function compilePredicate(message: AnyMessage): Predicate {
  if (isMessage<AllowListedRoutesConfig>(message, `${pkg}allow_listed_routes.v3.AllowListedRoutesConfig`)) {
    const names = new Set(message.allowedRouteNames);
    return ({ toRoute }) => names.has(toRoute);
  }
  if (isMessage<FilterStateConfig>(message, `${pkg}filter_state.v3.FilterStateConfig`)) {
    const { redirectEnabledKey, redirectIfAbsent } = message;
    return ({ info }) => {
      const value = info.getFilterState(redirectEnabledKey);
      return value === undefined ? redirectIfAbsent : value.serializeAsString() === "true";
    };
  }
  if (message.$typeName === `${pkg}previous_routes.v3.PreviousRoutesConfig`)
    return ({ state, fromRoute, toRoute }) => {
      let seen = state.followed.get(fromRoute);
      if (seen === undefined) {
        seen = new Set();
        state.followed.set(fromRoute, seen);
      }
      if (seen.has(toRoute)) return false;
      seen.add(toRoute);
      return true;
    };
  if (message.$typeName === `${pkg}safe_cross_scheme.v3.SafeCrossSchemeConfig`) return ({ fromHttps, toHttps }) => fromHttps || !toHttps;
  return () => false;
}

/** An absolute http(s) URL in its parts; undefined for anything else. */
export function parseLocation(location: string): { readonly scheme: string; readonly host: string; readonly path: string } | undefined {
  const match = /^(https?):\/\/([^/?#]+)(.*)$/is.exec(location);
  if (match === null) return undefined;
  const [, scheme, host, rest] = match;
  // The fragment is the client's business (RFC 9110 7.1).
  const hash = rest.indexOf("#");
  const path = hash < 0 ? rest : rest.slice(0, hash);
  return { scheme: scheme.toLowerCase(), host, path: path === "" ? "/" : path };
}

/**
 * Changes `headers` into the request that the redirect asks for; undefined (and `headers` as they were) where it must not be followed.
 * "without_body": the body of the request must not be sent again (303).
 */
export function internalRedirect(
  route: ForwardRoute,
  headers: RequestHeaders,
  response: ResponseHeaders,
  callbacks: DecoderFilterCallbacks,
  config: RouterConfig,
): "same_body" | "without_body" | undefined {
  const { stats } = config;
  const policy = route.internalRedirect;
  const location = response.get("location");
  if (policy === undefined || location === undefined || headers.path === undefined) return undefined;
  const target = parseLocation(location);
  if (target === undefined) {
    stats.passthrough_internal_redirect_bad_location.inc();
    return undefined;
  }
  const info = callbacks.streamInfo;
  const fromHttp = headers.scheme === "http" || info.downstreamTls === undefined;
  const toHttp = target.scheme === "http";
  if (!policy.allowCrossScheme && fromHttp !== toHttp) {
    stats.passthrough_internal_redirect_unsafe_scheme.inc();
    return undefined;
  }
  const state = redirectState(info);
  if (state.count >= policy.maxInternalRedirects) {
    stats.passthrough_internal_redirect_too_many_redirects.inc();
    return undefined;
  }
  const { scheme, authority, path, method } = headers;
  const list = headers.list.slice();
  const rawNames = headers.rawNames?.slice();
  for (const name of policy.responseHeadersToCopy) {
    headers.remove(name);
    for (const value of response.getAll(name)) headers.add(name, value);
  }
  headers.scheme = target.scheme;
  headers.authority = target.host;
  headers.path = target.path;
  callbacks.clearRouteCache();
  const next = callbacks.route();
  let refused = next === undefined;
  if (refused) {
    stats.passthrough_internal_redirect_no_route.inc();
    info.cluster = undefined;
  } else {
    const input = { info, state, fromRoute: route.name, toRoute: next?.name ?? "", fromHttps: !fromHttp, toHttps: !toHttp };
    refused = predicates(policy).some((accepts) => !accepts(input));
    if (refused) stats.passthrough_internal_redirect_predicate.inc();
  }
  if (refused) {
    headers.list = list;
    headers.rawNames = rawNames;
    headers.scheme = scheme;
    headers.authority = authority;
    headers.path = path;
    return undefined;
  }
  // RFC 9110 15.4.4
  const withoutBody = response.status === 303 && method !== "GET" && method !== "HEAD";
  if (withoutBody) {
    headers.method = "GET";
    headers.remove("content-length");
  }
  state.count++;
  headers.set(config.names.originalUrl, `${fromHttp ? "http" : "https"}://${authority ?? ""}${path}`);
  return withoutBody ? "without_body" : "same_body";
}

/** The predicates' extensions: what they do is above. */
export default {
  honours: {
    [`${pkg}allow_listed_routes.v3.AllowListedRoutesConfig`]: "*",
    [`${pkg}filter_state.v3.FilterStateConfig`]: "*",
    [`${pkg}previous_routes.v3.PreviousRoutesConfig`]: "*",
    [`${pkg}safe_cross_scheme.v3.SafeCrossSchemeConfig`]: "*",
  },
} satisfies Extension;
