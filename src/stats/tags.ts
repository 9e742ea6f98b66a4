/**
 * Tags: parts of a statistic's name that are values, as Envoy takes them out (well_known_names, TagSpecifier). A rule removes its first
 * capture from the name; what is left is the tag-extracted name. Rules are applied in order, each to the name as it was.
 */
import type { StatsConfig } from "../config/schema/types/envoy.config.metrics.v3.d.ts";
import { compileRegex, type SafeRegex } from "../regex/regex.ts";

export interface Tag {
  readonly name: string;
  readonly value: string;
}

export interface Tagged {
  /** The name without what became tags. */
  readonly name: string;
  readonly tags: readonly Tag[];
}

export interface TagRules {
  /** The same object for the same name: extraction is done once. */
  extract(name: string): Tagged;
}

/** What a rule takes: the span to remove and the span that is the value. */
interface Found {
  readonly from: number;
  readonly to: number;
  readonly value: string;
}

interface Rule {
  readonly tag: string;
  find(name: string): Found | undefined;
}

/** Names of at most this many statistics are kept with their tags. */
const maxCached = 200_000;

/** "cluster.$.**": tokens between dots; "$" is the value, "*" any one token, "**" the rest. The value's token goes with the dot before it. */
class TokenRule implements Rule {
  readonly tag: string;
  readonly #tokens: readonly string[];
  constructor(tag: string, pattern: string) {
    this.tag = tag;
    this.#tokens = pattern.split(".");
  }
  find(name: string): Found | undefined {
    const tokens = this.#tokens;
    let at = 0;
    let found: Found | undefined;
    for (let i = 0; i < tokens.length; i++) {
      const token = tokens[i];
      if (token === "**") return found;
      if (at > name.length) return undefined;
      const dot = name.indexOf(".", at);
      const end = dot < 0 ? name.length : dot;
      if (token === "$") found = { from: at, to: Math.min(name.length, end + 1), value: name.slice(at, end) };
      else if (token !== "*" && name.slice(at, end) !== token) return undefined;
      if (dot < 0) return i === tokens.length - 1 ? found : undefined;
      at = dot + 1;
    }
    return found;
  }
}

/** A pattern of our own, linear by its shape: group 1 is removed, group 2 is the value. */
class PatternRule implements Rule {
  readonly tag: string;
  readonly #pattern: RegExp;
  readonly #hint: string;
  constructor(tag: string, pattern: RegExp, hint: string) {
    this.tag = tag;
    this.#pattern = new RegExp(pattern.source, "d");
    this.#hint = hint;
  }
  find(name: string): Found | undefined {
    if (!name.includes(this.#hint)) return undefined;
    const match = this.#pattern.exec(name);
    const span = match?.indices?.[1];
    if (match === null || span === undefined) return undefined;
    return { from: span[0], to: span[1], value: match[2] ?? match[1] };
  }
}

/** A pattern of the configuration. */
class RegexRule implements Rule {
  readonly tag: string;
  readonly #regex: SafeRegex;
  constructor(tag: string, regex: SafeRegex) {
    this.tag = tag;
    this.#regex = regex;
  }
  find(name: string): Found | undefined {
    const groups = this.#regex.groups(name);
    const whole = groups?.[1];
    if (whole === undefined) return undefined;
    return { from: whole.start, to: whole.end, value: (groups?.[2] ?? whole).text };
  }
}

const address = String.raw`[_\[\]a-fA-F\d.]*_\d+`;
/** In Envoy's order: tags of one name are listed so. */
const defaultRules: readonly Rule[] = [
  new PatternRule("envoy.response_code", /_rq(_(\d{3}))$/, "_rq_"),
  new PatternRule("envoy.response_code_class", /_rq_((\d))xx$/, "_rq_"),
  new PatternRule("envoy.http_user_agent", /^http\.[^.]*\.user_agent\.(([^.]*)\.)/, ".user_agent."),
  new TokenRule("envoy.virtual_cluster", "vhost.*.vcluster.$.**"),
  new TokenRule("envoy.fault_downstream_cluster", "http.*.fault.$.**"),
  new PatternRule("envoy.ssl_cipher", /^listener\..*?\.ssl\.ciphers\.(([^.]*))$/, ".ssl.ciphers."),
  new PatternRule("cipher_suite", /^cluster\.[^.]*\.ssl\.ciphers(\.([^.]*))$/, ".ssl.ciphers."),
  new TokenRule("envoy.grpc_bridge_method", "cluster.*.grpc.*.$.**"),
  new TokenRule("envoy.grpc_bridge_service", "cluster.*.grpc.$.**"),
  new TokenRule("envoy.tcp_prefix", "tcp.$.**"),
  new TokenRule("envoy.udp_prefix", "udp.$.**"),
  new TokenRule("envoy.clientssl_prefix", "auth.clientssl.$.**"),
  new TokenRule("envoy.ratelimit_prefix", "ratelimit.$.**"),
  new TokenRule("envoy.cluster_name", "cluster.$.**"),
  new PatternRule("envoy.http_conn_manager_prefix", /^listener\..*?\.http\.(([^.]*)\.)/, ".http."),
  new TokenRule("envoy.http_conn_manager_prefix", "http.$.**"),
  // Only the number is taken out: "listener.worker_downstream_cx_total".
  new PatternRule("envoy.worker_id", /^listener_manager\.((worker_\d+)\.)/, "listener_manager.worker_"),
  new PatternRule("envoy.worker_id", /^(?:listener\..*?|server|thread_local_cluster_manager)\.worker_((\d+)\.)/, ".worker_"),
  new PatternRule("envoy.listener_address", new RegExp(`^listener\\.((${address})\\.)`), "listener."),
  new TokenRule("envoy.virtual_host", "vhost.$.**"),
  new TokenRule("envoy.mongo_prefix", "mongo.$.**"),
  new PatternRule("envoy.rds_route_config", /^http\.[^.]*\.rds\.((.*?)\.)\w+?$/, ".rds."),
  new PatternRule("envoy.scoped_rds_config", /^http\.[^.]*\.scoped_rds\.((.*?)\.)\w+?$/, ".scoped_rds."),
  new TokenRule("envoy.route", "vhost.*.route.$.**"),
  new TokenRule("envoy.thrift_prefix", "thrift.$.**"),
  new TokenRule("envoy.redis_prefix", "redis.$.**"),
  new TokenRule("envoy.dns_filter_prefix", "dns_filter.$.**"),
  new TokenRule("envoy.connection_limit_prefix", "connection_limit.$.**"),
  new TokenRule("envoy.local_network_ratelimit_prefix", "local_rate_limit.$.**"),
  new PatternRule("envoy.local_http_ratelimit_prefix", /^((.*?)\.)http_local_rate_limit\./, ".http_local_rate_limit."),
  new PatternRule("envoy.rbac_http_prefix", /^http\.[^.]*\.rbac\.(?!allowed|denied|shadow)(([^.]*)\.)/, ".rbac."),
  new PatternRule("envoy.ext_authz_prefix", /^(?:http|cluster)\.[^.]*\.ext_authz\.(([^.]*)\.)[^.]+$/, ".ext_authz."),
];

export function isDefaultTag(name: string): boolean {
  return defaultRules.some((rule) => rule.tag === name);
}

export function compileTags(config: StatsConfig | undefined, statsTags: readonly { readonly name: string; readonly value: string }[]): TagRules {
  const rules: Rule[] = [];
  const fixed: Tag[] = statsTags.map(({ name, value }) => ({ name, value }));
  if (config?.useAllDefaultTags ?? true) rules.push(...defaultRules);
  for (const { tagName, tagValue } of config?.statsTags ?? []) {
    if (tagValue.case === "fixedValue") fixed.push({ name: tagName, value: tagValue.value });
    else if (tagValue.case === "regex" && tagValue.value !== "") {
      const compiled = compileRegex(tagValue.value);
      if (compiled.ok) rules.push(new RegexRule(tagName, compiled.regex));
    } else if (!rules.some((rule) => rule.tag === tagName)) rules.push(...defaultRules.filter((rule) => rule.tag === tagName));
  }
  const known = new Map<string, Tagged>();
  return {
    extract(name) {
      let tagged = known.get(name);
      if (tagged === undefined) {
        tagged = apply(name, rules, fixed);
        if (known.size < maxCached) known.set(name, tagged);
      }
      return tagged;
    },
  };
}

function apply(name: string, rules: readonly Rule[], fixed: readonly Tag[]): Tagged {
  const tags: Tag[] = [];
  const spans: (readonly [number, number])[] = [];
  const seen = new Set<string>();
  for (const rule of rules) {
    if (seen.has(rule.tag)) continue;
    const found = rule.find(name);
    if (found === undefined) continue;
    seen.add(rule.tag);
    tags.push({ name: rule.tag, value: found.value });
    spans.push([found.from, found.to]);
  }
  spans.sort(([a], [b]) => a - b);
  let left = "";
  let at = 0;
  for (const [from, to] of spans) {
    if (from > at) left += name.slice(at, from);
    at = Math.max(at, to);
  }
  left += name.slice(at);
  if (left.endsWith(".")) left = left.slice(0, -1);
  return { name: left, tags: fixed.length === 0 ? tags : [...tags, ...fixed] };
}
