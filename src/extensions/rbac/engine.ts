/**
 * Role-based access control: who may do what, for connections and requests alike (envoy.config.rbac.v3, or a generic matcher with its actions).
 * https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/rbac_filter
 */
import { type AnyMessage, isMessage, type JsonObject } from "../../config/message.ts";
import type { Action, Permission, Principal, RBAC, SourcedMetadata } from "../../config/schema/types/envoy.config.rbac.v3.d.ts";
import type { UriTemplateMatchConfig } from "../../config/schema/types/envoy.extensions.path.match.uri_template.v3.d.ts";
import type { PathMatcher } from "../../config/schema/types/envoy.type.matcher.v3.d.ts";
import type { Matcher as XdsMatcher } from "../../config/schema/types/xds.type.matcher.v3.d.ts";
import type { RequestHeaders } from "../../http/header-map.ts";
import type { StreamInfo } from "../../http/stream-info.ts";
import { compileCidrList } from "../../matching/cidr.ts";
import { compileFilterStateMatcher, honours as filterStateHonours } from "../../matching/filter-state-matcher.ts";
import { compileHeaderMatcher } from "../../matching/header-matcher.ts";
import { compileHttpMatcher } from "../../matching/http-inputs.ts";
import { compileStringMatcher, toBytes } from "../../matching/string-matcher.ts";
import { parseUriTemplate } from "../../matching/uri-template.ts";
import { compileMetadataMatcher, honours as valueHonours } from "../../matching/value-matcher.ts";
import type { Connection } from "../../net/connection.ts";
import { subjectNames } from "../../net/tls/names.ts";
import type { CompileContext, Honours } from "../extension.ts";

const pkg = "envoy.config.rbac.v3.";
const uriTemplate = "envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig";

export const honours: Honours = {
  ...filterStateHonours,
  ...valueHonours,
  [`${pkg}RBAC`]: ["action", "policies"],
  [`${pkg}Policy`]: ["permissions", "principals"],
  [`${pkg}Permission`]: [
    "and_rules",
    "or_rules",
    "any",
    "header",
    "url_path",
    "destination_ip",
    "destination_port",
    "destination_port_range",
    "metadata",
    "not_rule",
    "requested_server_name",
    "uri_template",
    "sourced_metadata",
  ],
  [`${pkg}Permission.Set`]: "*",
  [`${pkg}Principal`]: [
    "and_ids",
    "or_ids",
    "any",
    "authenticated",
    "source_ip",
    "direct_remote_ip",
    "remote_ip",
    "header",
    "url_path",
    "metadata",
    "filter_state",
    "not_id",
    "sourced_metadata",
  ],
  [`${pkg}Principal.Set`]: "*",
  [`${pkg}Principal.Authenticated`]: "*",
  [`${pkg}SourcedMetadata`]: "*",
  [`${pkg}Action`]: "*",
  [uriTemplate]: "*",
  "envoy.type.matcher.v3.PathMatcher": "*",
  "envoy.type.v3.Int32Range": "*",
  "envoy.config.core.v3.TypedExtensionConfig": "*",
};

/** What rules look at. */
export interface Subject {
  readonly connection: Connection | undefined;
  readonly info: StreamInfo;
  /** Undefined for connections that carry no HTTP. */
  readonly headers: RequestHeaders | undefined;
  routeMetadata(): Record<string, JsonObject>;
}

type Test = (subject: Subject) => boolean;

export interface Verdict {
  readonly allowed: boolean;
  /** The policy that matched. */
  readonly policy: string | undefined;
}

export interface Engine {
  /** `isEnforced`: a LOG action leaves its hint for the access log. */
  decide(subject: Subject, isEnforced: boolean): Verdict;
  /** Names of policies, where there are such. */
  readonly policies: readonly string[];
}

/** Envoy's words for response code and termination details: the policy's name without white space. */
export function denialDetails(policy: string | undefined): string {
  return `rbac_access_denied_matched_policy[${(policy ?? "none").replaceAll(/\s/g, "_")}]`;
}

const ALLOW = 0;
const DENY = 1;
const LOG = 2;

/** For access log filters: whether a policy with the action LOG matched. */
function leaveHint(info: StreamInfo, isLogged: boolean): void {
  info.setDynamicMetadata("envoy.common", { access_log_hint: isLogged });
}

export function compileRules(message: RBAC, context: CompileContext): Engine {
  const policies = Object.entries(message.policies)
    .sort(([a], [b]) => (a < b ? -1 : 1))
    .map(([name, policy]) => {
      const may = policy.permissions.map((one) => compilePermission(one, context));
      const who = policy.principals.map((one) => compilePrincipal(one, context));
      return { name, matches: (subject: Subject): boolean => may.some((test) => test(subject)) && who.some((test) => test(subject)) };
    });
  const { action } = message;
  return {
    policies: policies.map(({ name }) => name),
    decide(subject, isEnforced) {
      const policy = policies.find(({ matches }) => matches(subject))?.name;
      const isMatched = policy !== undefined;
      if (action === LOG && isEnforced) leaveHint(subject.info, isMatched);
      return { allowed: action === LOG || (action === ALLOW ? isMatched : !isMatched), policy };
    },
  };
}

export function compileRulesMatcher(message: XdsMatcher, context: CompileContext): Engine {
  const matcher = compileHttpMatcher<Action>(message, context, (action: AnyMessage, _name, at) => {
    if (isMessage<Action>(action, `${pkg}Action`)) return action;
    context.report(at, "typed_config", { code: "OR3045", text: `${action.$typeName} is no action of RBAC`, hint: `use ${pkg}Action` });
    return undefined;
  });
  return {
    policies: [],
    decide({ headers, info }, isEnforced) {
      const action = matcher.match(headers, undefined, info);
      // What no branch takes is refused.
      if (action === undefined) return { allowed: false, policy: undefined };
      if (action.action === LOG && isEnforced) leaveHint(info, true);
      return { allowed: action.action !== DENY, policy: action.name };
    },
  };
}

function compilePermission(message: Permission, context: CompileContext): Test {
  const { rule } = message;
  switch (rule.case) {
    case "andRules": {
      const tests = rule.value.rules.map((one) => compilePermission(one, context));
      return (subject) => tests.every((test) => test(subject));
    }
    case "orRules": {
      const tests = rule.value.rules.map((one) => compilePermission(one, context));
      return (subject) => tests.some((test) => test(subject));
    }
    case "notRule": {
      const test = compilePermission(rule.value, context);
      return (subject) => !test(subject);
    }
    case "any":
      return () => true;
    case "header":
      return headerTest(rule.value, context);
    case "urlPath":
      return pathTest(rule.value, context);
    case "destinationIp": {
      const ranges = compileCidrList([rule.value], context);
      return ({ info }) => info.downstreamLocalAddress?.kind === "ip" && ranges.contains(info.downstreamLocalAddress.ip);
    }
    case "destinationPort":
      return ({ info }) => info.downstreamLocalAddress?.kind === "ip" && info.downstreamLocalAddress.port === rule.value;
    case "destinationPortRange": {
      const { start, end } = rule.value;
      if (start < 0 || end > 65536 || start >= end)
        context.report(message, "destination_port_range", {
          code: "OR2001",
          text: `range start ${start} cannot be greater or equal than range end ${end}, and both must be between 0 and 65536`,
        });
      return ({ info }) => info.downstreamLocalAddress?.kind === "ip" && info.downstreamLocalAddress.port >= start && info.downstreamLocalAddress.port < end;
    }
    case "metadata": {
      const test = compileMetadataMatcher(rule.value, context);
      return ({ info }) => test(info.dynamicMetadata);
    }
    case "sourcedMetadata":
      return sourcedTest(rule.value, context);
    case "requestedServerName": {
      const test = compileStringMatcher(rule.value, context);
      return ({ info }) => test.matches(toBytes(info.requestedServerName));
    }
    case "uriTemplate": {
      const config = rule.value.typedConfig;
      if (!isMessage<UriTemplateMatchConfig>(config, uriTemplate)) {
        context.report(message, "uri_template", { code: "OR4006", text: `${config?.$typeName ?? "nothing"} is no path template` });
        return () => false;
      }
      try {
        const template = parseUriTemplate(config.pathTemplate);
        return ({ headers }) => headers?.path !== undefined && template.match(withoutQuery(headers.path)) !== undefined;
      } catch (error) {
        context.report(config, "path_template", { code: "OR2112", text: (error as Error).message });
        return () => false;
      }
    }
    default:
      return () => false; // refused by the rules of the API or by `honours`
  }
}

function compilePrincipal(message: Principal, context: CompileContext): Test {
  const id = message.identifier;
  switch (id.case) {
    case "andIds": {
      const tests = id.value.ids.map((one) => compilePrincipal(one, context));
      return (subject) => tests.every((test) => test(subject));
    }
    case "orIds": {
      const tests = id.value.ids.map((one) => compilePrincipal(one, context));
      return (subject) => tests.some((test) => test(subject));
    }
    case "notId": {
      const test = compilePrincipal(id.value, context);
      return (subject) => !test(subject);
    }
    case "any":
      return () => true;
    case "authenticated":
      return authenticatedTest(id.value.principalName, context);
    case "sourceIp": {
      // The connection's peer, whatever X-Forwarded-For says.
      const ranges = compileCidrList([id.value], context);
      return ({ connection }) => connection?.remoteAddress.kind === "ip" && ranges.contains(connection.remoteAddress.ip);
    }
    case "directRemoteIp": {
      const ranges = compileCidrList([id.value], context);
      return ({ info }) => info.downstreamDirectRemoteAddress?.kind === "ip" && ranges.contains(info.downstreamDirectRemoteAddress.ip);
    }
    case "remoteIp": {
      const ranges = compileCidrList([id.value], context);
      return ({ info }) => info.downstreamRemoteAddress?.kind === "ip" && ranges.contains(info.downstreamRemoteAddress.ip);
    }
    case "header":
      return headerTest(id.value, context);
    case "urlPath":
      return pathTest(id.value, context);
    case "metadata": {
      const test = compileMetadataMatcher(id.value, context);
      return ({ info }) => test(info.dynamicMetadata);
    }
    case "sourcedMetadata":
      return sourcedTest(id.value, context);
    case "filterState": {
      const test = compileFilterStateMatcher(id.value, context);
      return ({ info }) => test(info);
    }
    default:
      return () => false;
  }
}

function headerTest(message: Parameters<typeof compileHeaderMatcher>[0], context: CompileContext): Test {
  const test = compileHeaderMatcher(message, context);
  return ({ headers }) => headers !== undefined && test.matches(headers);
}

function pathTest(message: PathMatcher, context: CompileContext): Test {
  if (message.rule.case !== "path") return () => false;
  const test = compileStringMatcher(message.rule.value, context);
  return ({ headers }) => headers?.path !== undefined && test.matches(withoutQuery(headers.path));
}

function withoutQuery(path: string): string {
  const end = path.search(/[?#]/);
  return end < 0 ? path : path.slice(0, end);
}

function sourcedTest({ metadataMatcher, metadataSource }: SourcedMetadata, context: CompileContext): Test {
  if (metadataMatcher === undefined) return () => false;
  const test = compileMetadataMatcher(metadataMatcher, context);
  return metadataSource === 1 ? (subject) => test(subject.routeMetadata()) : ({ info }) => test(info.dynamicMetadata);
}

/** Who the client's certificate says it is: one of its URIs, else of its DNS names, else its subject. Without a name any TLS connection will do. */
function authenticatedTest(name: Parameters<typeof compileStringMatcher>[0] | undefined, context: CompileContext): Test {
  if (name === undefined) return ({ connection }) => connection?.tls !== undefined;
  const test = compileStringMatcher(name, context);
  return ({ connection }) => {
    const certificate = connection?.tls?.peerCertificate;
    if (certificate === undefined) return connection?.tls !== undefined && test.matches("");
    const names = subjectNames(certificate);
    for (const kind of ["URI", "DNS"]) for (const one of names) if (one.kind === kind && test.matches(toBytes(one.value))) return true;
    return test.matches(toBytes(certificate.subject.split("\n").reverse().join(",")));
  };
}
