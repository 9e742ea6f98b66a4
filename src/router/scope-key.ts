/** Which scope a request belongs to (ScopedRoutes.scope_key_builder): parts of header values, in order. */
import type { ScopedRouteConfiguration_Key } from "../config/schema/types/envoy.config.route.v3.d.ts";
import type {
  ScopedRoutes_ScopeKeyBuilder_FragmentBuilder_HeaderValueExtractor as HeaderValueExtractor,
  ScopedRoutes_ScopeKeyBuilder,
} from "../config/schema/types/envoy.extensions.filters.network.http_connection_manager.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import type { RequestHeaders } from "../http/header-map.ts";

const pkg = "envoy.extensions.filters.network.http_connection_manager.v3.";
const builder = `${pkg}ScopedRoutes.ScopeKeyBuilder`;

export const honours: Honours = {
  [`${pkg}ScopedRoutes`]: "*",
  [`${pkg}ScopedRds`]: ["scoped_rds_config_source"],
  [`${pkg}ScopedRouteConfigurationsList`]: "*",
  [builder]: "*",
  [`${builder}.FragmentBuilder`]: "*",
  [`${builder}.FragmentBuilder.HeaderValueExtractor`]: "*",
  [`${builder}.FragmentBuilder.HeaderValueExtractor.KvElement`]: "*",
  // Scopes are fetched when they come, which is earlier than on demand.
  "envoy.config.route.v3.ScopedRouteConfiguration": "*",
  "envoy.config.route.v3.ScopedRouteConfiguration.Key": "*",
  "envoy.config.route.v3.ScopedRouteConfiguration.Key.Fragment": "*",
};

/** undefined: the request lacks a part of the key, and belongs to no scope. */
export type ScopeKeyBuilder = (headers: RequestHeaders) => string | undefined;

/** Parts cannot run into each other: header values hold no NUL. */
const separator = "\u0000";

export function scopeKey(key: ScopedRouteConfiguration_Key | undefined): string {
  return (key?.fragments ?? []).map(({ type }) => Buffer.from(type.value ?? "").toString("latin1")).join(separator);
}

export function compileScopeKeyBuilder(message: ScopedRoutes_ScopeKeyBuilder | undefined, context: CompileContext): ScopeKeyBuilder {
  const fragments = (message?.fragments ?? []).flatMap(({ type }) => (type.case === "headerValueExtractor" ? [compileExtractor(type.value, context)] : []));
  return (headers) => {
    let key = "";
    for (let i = 0; i < fragments.length; i++) {
      const fragment = fragments[i](headers);
      if (fragment === undefined) return undefined;
      key = i === 0 ? fragment : key + separator + fragment;
    }
    return key;
  };
}

function compileExtractor(message: HeaderValueExtractor, context: CompileContext): ScopeKeyBuilder {
  const name = message.name.toLowerCase();
  const between = Buffer.from(message.elementSeparator).toString("latin1");
  const { case: kind, value } = message.extractType;
  if (kind === "index" && value > 0 && between === "")
    context.report(message, "index", {
      code: "OR3630",
      text: "Index > 0 for empty string element separator.",
      hint: "give element_separator, or leave index out",
    });
  const split = (text: string): string[] => (between === "" ? [text] : text.split(between));
  if (kind === "element") {
    const [key, middle] = [value.key, value.separator].map((text) => Buffer.from(text).toString("latin1"));
    return (headers) => {
      for (const element of split(headers.get(name) ?? "")) {
        const at = element.indexOf(middle);
        if (at >= 0 ? element.slice(0, at) === key : element === key) return at < 0 ? "" : element.slice(at + middle.length);
      }
      return undefined;
    };
  }
  const index = kind === "index" ? value : 0;
  return (headers) => {
    const text = headers.get(name);
    return text === undefined ? undefined : split(text)[index];
  };
}
