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
  /** The first token of every name it can match. Rules without one are tried before those with one, as Envoy does. */
  readonly first: string | undefined;
  find(name: string): Found | undefined;
}

/** Names of at most this many statistics are kept with their tags. */
const maxCached = 200_000;

/** "cluster.$.**": tokens between dots; "$" is the value, "*" any one token, "**" one token or more at the end or before a last token. */
class TokenRule implements Rule {
  readonly tag: string;
  readonly first: string | undefined;
  readonly #tokens: readonly string[];
  readonly #valueAt: number;
  constructor(tag: string, pattern: string) {
    this.tag = tag;
    this.#tokens = pattern.split(".");
    this.#valueAt = this.#tokens.indexOf("$");
    this.first = this.#valueAt === 0 ? undefined : this.#tokens[0];
  }
  find(name: string): Found | undefined {
    const tokens = this.#tokens;
    let at = 0;
    let from = 0;
    let to = 0;
    for (let i = 0; i < tokens.length; i++) {
      const token = tokens[i];
      if (token === "**") return this.#restMatches(name, at, i + 1) ? taken(name, from, to) : undefined;
      if (at > name.length) return undefined;
      const dot = name.indexOf(".", at);
      const end = dot < 0 ? name.length : dot;
      if (i === this.#valueAt) {
        from = at;
        to = end;
      } else if (token !== "*" && (end - at !== token.length || !name.startsWith(token, at))) return undefined;
      at = end + 1;
    }
    return at > name.length ? taken(name, from, to) : undefined;
  }
  /** What follows "**" are the name's last tokens; before them at least one more is left. */
  #restMatches(name: string, at: number, next: number): boolean {
    if (at > name.length) return false;
    let end = name.length;
    for (let i = this.#tokens.length - 1; i >= next; i--) {
      const dot = name.lastIndexOf(".", end - 1);
      if (dot < at) return false;
      const token = this.#tokens[i];
      if (token !== "*" && name.slice(dot + 1, end) !== token) return false;
      end = dot;
    }
    return true;
  }
}

/** A token goes with the dot behind it. */
function taken(name: string, from: number, to: number): Found | undefined {
  return { from, to: Math.min(name.length, to + 1), value: name.slice(from, to) };
}

/** A pattern of our own, linear by its shape: group 1 is removed, group 2 is the value. */
class PatternRule implements Rule {
  readonly tag: string;
  readonly first: string | undefined;
  readonly #pattern: RegExp;
  readonly #hint: string;
  readonly #not: string | undefined;
  /** `first`: the only first token it can match. `not`: a value that is none. */
  constructor(tag: string, first: string | undefined, pattern: RegExp, hint: string, not?: string) {
    this.tag = tag;
    this.first = first;
    this.#pattern = new RegExp(pattern.source, "d");
    this.#hint = hint;
    this.#not = not;
  }
  find(name: string): Found | undefined {
    if (!name.includes(this.#hint)) return undefined;
    const match = this.#pattern.exec(name);
    const span = match?.indices?.[1];
    if (match === null || span === undefined || match[2] === this.#not) return undefined;
    return { from: span[0], to: span[1], value: match[2] };
  }
}

/** A pattern of the configuration. */
class RegexRule implements Rule {
  readonly tag: string;
  readonly first: string | undefined;
  readonly #regex: SafeRegex;
  constructor(tag: string, regex: SafeRegex, pattern: string) {
    this.tag = tag;
    this.first = firstTokenOf(pattern);
    this.#regex = regex;
  }
  find(name: string): Found | undefined {
    const groups = this.#regex.groups(name);
    const whole = groups?.[1];
    if (whole === undefined) return undefined;
    return { from: whole.start, to: whole.end, value: (groups?.[2] ?? whole).text };
  }
}

/** A value that every name has. */
class FixedRule implements Rule {
  readonly tag: string;
  readonly first = undefined;
  readonly #found: Found;
  constructor(tag: string, value: string) {
    this.tag = tag;
    this.#found = { from: 0, to: 0, value };
  }
  find(): Found {
    return this.#found;
  }
}

/** "^cluster\\.": "cluster". */
function firstTokenOf(pattern: string): string | undefined {
  return /^\^(\w+)\\\./.exec(pattern)?.[1];
}

const address = String.raw`(?:\d{1,3}\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[[a-fA-F_\d]+\])_\d+`;
const endpoint = String.raw`^(?:listener|cluster)\..*?\.ssl`;
const workers = String.raw`^(?:listener\.(?:${address}|[^.]+)|server|listener_manager|thread_local_cluster_manager)\.worker_((\d+)\.)`;

/** In Envoy's order: tags of one name are listed so. */
const defaultRules: readonly Rule[] = [
  new PatternRule("envoy.response_code", undefined, /_rq(_(\d{3}))$/, "_rq_"),
  new PatternRule("envoy.response_code_class", undefined, /_rq_((\d))xx$/, "_rq_"),
  new PatternRule("envoy.dynamo_partition_id", "http", /^http\.[^.]+\.dynamodb\.table\.[^.]+\.capacity\.[^.]+(\.__partition_id=(\w{7}))$/, ".dynamodb.table."),
  new PatternRule("envoy.dynamo_operation", "http", /^http\.[^.]+\.dynamodb.(?:operation|table\.[^.]+\.capacity)(\.([^.]+))(?:\.|$)/, ".dynamodb."),
  new TokenRule("envoy.mongo_callsite", "mongo.*.collection.*.callsite.$.query.**"),
  new PatternRule("envoy.dynamo_table", "http", /^http\.[^.]+\.dynamodb.(?:table|error)\.(([^.]+)\.)/, ".dynamodb."),
  new TokenRule("envoy.mongo_collection", "mongo.*.collection.$.**.query.*"),
  new TokenRule("envoy.mongo_cmd", "mongo.*.cmd.$.**"),
  new TokenRule("envoy.grpc_bridge_method", "cluster.*.grpc.*.$.**"),
  new TokenRule("envoy.http_user_agent", "http.*.user_agent.$.**"),
  new TokenRule("envoy.virtual_cluster", "vhost.*.vcluster.$.**"),
  new TokenRule("envoy.fault_downstream_cluster", "http.*.fault.$.**"),
  new PatternRule("envoy.ssl_cipher", "listener", /^listener\..*?\.ssl\.ciphers(\.([\w-]+))$/, ".ssl.ciphers."),
  new PatternRule("envoy.ssl_curve", undefined, new RegExp(`${endpoint}\\.curves(\\.([\\w-]+))$`), ".ssl.curves."),
  new PatternRule("envoy.ssl_sigalg", undefined, new RegExp(`${endpoint}\\.sigalgs(\\.([\\w-]+))$`), ".ssl.sigalgs."),
  new PatternRule("envoy.ssl_version", undefined, new RegExp(`${endpoint}\\.versions(\\.(TLSv\\d\\.\\d))$`), ".ssl.versions."),
  new PatternRule("envoy.tls_certificate", undefined, new RegExp(`${endpoint}\\.certificate\\.(([^.]+)\\.).*$`), ".ssl.certificate."),
  new PatternRule("cipher_suite", "cluster", /^cluster\.[^.]+\.ssl\.ciphers(\.([\w-]+))$/, ".ssl.ciphers."),
  new TokenRule("envoy.grpc_bridge_service", "cluster.*.grpc.$.**"),
  new TokenRule("envoy.tcp_prefix", "tcp.$.**"),
  new TokenRule("envoy.udp_prefix", "udp.$.**"),
  new TokenRule("envoy.clientssl_prefix", "auth.clientssl.$.**"),
  new TokenRule("envoy.ratelimit_prefix", "ratelimit.$.**"),
  new PatternRule("envoy.health_check_name", "cluster", /^cluster\.[^.]+\.health_check(\.name\.([^.]+))\..+/, ".health_check.name."),
  new TokenRule("envoy.cluster_name", "cluster.$.**"),
  new PatternRule("envoy.http_conn_manager_prefix", "listener", /^listener\..*?\.http\.(([^.]+)\.)/, ".http."),
  // The admin interface's listener is listener.admin, which is no address.
  new PatternRule("envoy.listener_address", "listener", new RegExp(`^listener\\.((${address}|[^.]+)\\.)`), "listener.", "admin"),
  new TokenRule("envoy.virtual_host", "vhost.$.**"),
  new TokenRule("envoy.mongo_prefix", "mongo.$.**"),
  new PatternRule("envoy.rds_route_config", "http", /^http\.[^.]+\.rds\.(([\w.-]+)\.)\w+$/, ".rds."),
  new PatternRule("envoy.scoped_rds_config", "http", /^http\.[^.]+\.scoped_rds\.(([\w.-]+)\.)\w+$/, ".scoped_rds."),
  new PatternRule("envoy.worker_id", undefined, new RegExp(workers), ".worker_"),
  new TokenRule("envoy.route", "vhost.*.route.$.**"),
  new TokenRule("envoy.thrift_prefix", "thrift.$.**"),
  new TokenRule("envoy.redis_prefix", "redis.$.**"),
  new PatternRule("envoy.proxy_protocol_prefix", "proxy_proto", /^proxy_proto\.(([^.]+)\.).+$/, "proxy_proto.", "versions"),
  new PatternRule("envoy.proxy_protocol_version", "proxy_proto", /^proxy_proto\.((?:[^.]+\.)?versions\.v(\d)\.)\w+$/, ".v"),
  new TokenRule("envoy.dns_filter_prefix", "dns_filter.$.**"),
  new TokenRule("envoy.connection_limit_prefix", "connection_limit.$.**"),
  new TokenRule("envoy.rbac_prefix", "$.rbac.**"),
  new PatternRule(
    "envoy.rbac_policy_name",
    "http",
    /^http\.[^.]+\.rbac\.(?:[^.]+\.)?policy\.(([^.]+)\.)(?:allowed|shadow_allowed|denied|shadow_denied)$/,
    ".policy.",
  ),
  new PatternRule("envoy.rbac_http_prefix", "http", /^http\.[^.]+\.rbac\.(([^.]+)\.)/, ".rbac.", "policy"),
  new TokenRule("envoy.local_http_ratelimit_prefix", "$.http_local_rate_limit.**"),
  new TokenRule("envoy.local_network_ratelimit_prefix", "local_rate_limit.$.**"),
  new TokenRule("envoy.local_listener_ratelimit_prefix", "listener_local_ratelimit.$.**"),
  new TokenRule("envoy.ext_authz_prefix", "http.*.ext_authz.$.**"),
  new TokenRule("envoy.ext_authz_prefix", "cluster.*.ext_authz.$.**"),
  new TokenRule("envoy.google_grpc_client_prefix", "grpc.$.**"),
  new PatternRule("envoy.xds_resource_name", "sds", /^sds\.(([^.]+)\.).+/, "sds."),
  new TokenRule("envoy.http_conn_manager_prefix", "http.$.**"),
];

export function isDefaultTag(name: string): boolean {
  return defaultRules.some((rule) => rule.tag === name);
}

export function compileTags(config: StatsConfig | undefined, statsTags: readonly { readonly name: string; readonly value: string }[]): TagRules {
  const rules: Rule[] = [];
  if (config?.useAllDefaultTags ?? true) rules.push(...defaultRules);
  rules.push(...statsTags.map(({ name, value }) => new FixedRule(name, value)));
  for (const { tagName, tagValue } of config?.statsTags ?? []) {
    if (tagValue.case === "fixedValue") rules.push(new FixedRule(tagName, tagValue.value));
    else if (tagValue.case === "regex" && tagValue.value !== "") {
      const compiled = compileRegex(tagValue.value);
      if (compiled.ok) rules.push(new RegexRule(tagName, compiled.regex, tagValue.value));
    } else if (!rules.some((rule) => rule.tag === tagName)) rules.push(...defaultRules.filter((rule) => rule.tag === tagName));
  }
  const anywhere = rules.filter((rule) => rule.first === undefined);
  const byFirst = new Map<string, Rule[]>();
  for (const rule of rules) {
    if (rule.first === undefined) continue;
    const list = byFirst.get(rule.first);
    if (list === undefined) byFirst.set(rule.first, [...anywhere, rule]);
    else list.push(rule);
  }
  const known = new Map<string, Tagged>();
  return {
    extract(name) {
      let tagged = known.get(name);
      if (tagged === undefined) {
        const dot = name.indexOf(".");
        tagged = apply(name, byFirst.get(dot < 0 ? name : name.slice(0, dot)) ?? anywhere);
        if (known.size < maxCached) known.set(name, tagged);
      }
      return tagged;
    },
  };
}

function apply(name: string, rules: readonly Rule[]): Tagged {
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
  return { name: left, tags };
}
