/**
 * Rate limit actions (`rate_limits` of routes, virtual hosts and the rate limit filters): what of a request makes up the descriptors that a
 * limit is looked up by. Texts are octets, as everywhere in headers.
 */
import type { JsonObject, JsonValue } from "../config/message.ts";
import type {
  RateLimit_Action as ActionMessage,
  RateLimit_Action_MetaData as MetaDataMessage,
  RateLimit as RateLimitMessage,
} from "../config/schema/types/envoy.config.route.v3.d.ts";
import type { MetadataKey } from "../config/schema/types/envoy.type.metadata.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import { compileFormat } from "../formatter/compile.ts";
import type { RequestHeaders } from "../http/header-map.ts";
import type { StreamInfo } from "../http/stream-info.ts";
import { compileCidrList, maskAddress } from "../matching/cidr.ts";
import { compileHeaderMatchers, matchesAllHeaders } from "../matching/header-matcher.ts";
import { compileQueryParameterMatcher, decodedQueryParameter } from "../matching/query-parameters.ts";
import { toBytes } from "../matching/string-matcher.ts";
import { valueAt } from "../matching/value-matcher.ts";
import type { Route } from "./route.ts";

const typeName = "envoy.config.route.v3.RateLimit";

export const honours: Honours = {
  [typeName]: ["stage", "disable_key", "actions", "limit", "hits_addend", "apply_on_stream_done", "x_ratelimit_option"],
  [`${typeName}.Action`]: [
    "source_cluster",
    "destination_cluster",
    "request_headers",
    "query_parameters",
    "remote_address",
    "generic_key",
    "header_value_match",
    "dynamic_metadata",
    "metadata",
    "masked_remote_address",
    "query_parameter_value_match",
    "remote_address_match",
  ],
  [`${typeName}.Action.SourceCluster`]: "*",
  [`${typeName}.Action.DestinationCluster`]: "*",
  [`${typeName}.Action.RequestHeaders`]: "*",
  [`${typeName}.Action.QueryParameters`]: "*",
  [`${typeName}.Action.RemoteAddress`]: "*",
  [`${typeName}.Action.MaskedRemoteAddress`]: "*",
  [`${typeName}.Action.GenericKey`]: "*",
  [`${typeName}.Action.HeaderValueMatch`]: "*",
  [`${typeName}.Action.DynamicMetaData`]: "*",
  [`${typeName}.Action.MetaData`]: "*",
  [`${typeName}.Action.QueryParameterValueMatch`]: "*",
  [`${typeName}.Action.RemoteAddressMatch`]: "*",
  [`${typeName}.Override`]: "*",
  [`${typeName}.Override.DynamicMetadata`]: "*",
  [`${typeName}.Override.RateLimitOverride`]: "*",
  [`${typeName}.HitsAddend`]: "*",
  "envoy.type.metadata.v3.MetadataKey": "*",
  "envoy.type.metadata.v3.MetadataKey.PathSegment": ["key"],
};

export interface DescriptorEntry {
  readonly key: string;
  readonly value: string;
}

/** A limit that goes with the request to the service, in place of the service's own. */
export interface LimitOverride {
  readonly requestsPerUnit: number;
  /** envoy.type.v3.RateLimitUnit by number. */
  readonly unit: number;
}

export interface RateLimitDescriptor {
  readonly entries: readonly DescriptorEntry[];
  readonly limit: LimitOverride | undefined;
  /** How many hits this request is; undefined: one, or what the service says. */
  readonly hits: number | undefined;
  readonly isNegativeHits: boolean;
  /** Whether x-ratelimit-* tell of this one; undefined: as the filter has it. */
  readonly xRateLimitHeaders: boolean | undefined;
}

/** What actions may look at. */
export interface RateLimitSubject {
  readonly headers: RequestHeaders;
  readonly info: StreamInfo;
  readonly route: Route | undefined;
  /** node.cluster */
  readonly localCluster: string;
}

/** One `rate_limits` entry. */
export interface RateLimitEntry {
  readonly stage: number;
  /** Runtime key that switches it off; "" for none. */
  readonly disableKey: string;
  readonly applyOnStreamDone: boolean;
  /** undefined: an action found nothing, so this request is not counted here. */
  descriptor(subject: RateLimitSubject): RateLimitDescriptor | undefined;
}

export const noRateLimits: readonly RateLimitEntry[] = [];

/** An entry for the descriptor, "skip" for none, or undefined where the whole descriptor falls away. */
type Action = (subject: RateLimitSubject) => DescriptorEntry | "skip" | undefined;

const units: Readonly<Record<string, number>> = { UNKNOWN: 0, SECOND: 1, MINUTE: 2, HOUR: 3, DAY: 4, MONTH: 5, YEAR: 6 };
const maxHits = 1_000_000_000;

/**
 * Compiles `rate_limits`. `ofFilter`: those in the configuration of a rate limit filter itself, which know neither stages nor overrides; the
 * hits_addend is theirs alone, Envoy does not act on it in routes.
 */
export function compileRateLimits(messages: readonly RateLimitMessage[], context: CompileContext, ofFilter = false): readonly RateLimitEntry[] {
  if (messages.length === 0) return noRateLimits;
  return messages.map((message) => compileEntry(message, context, ofFilter));
}

function compileEntry(message: RateLimitMessage, context: CompileContext, ofFilter: boolean): RateLimitEntry {
  const actions = message.actions.map((action) => compileAction(action, context));
  if (ofFilter && message.limit !== undefined) context.report(message, "limit", { code: "OR3640", text: "'limit' field is not supported" });
  if (ofFilter && ((message.stage ?? 0) !== 0 || message.disableKey !== ""))
    context.report(message, message.disableKey !== "" ? "disable_key" : "stage", {
      code: "OR3641",
      text: "'stage' field and 'disable_key' field are not supported",
      hint: "they belong to rate_limits of routes and virtual hosts",
    });
  const limit = compileOverride(message);
  const hits = ofFilter ? compileHits(message, context) : () => undefined;
  const isNegativeHits = ofFilter && (message.hitsAddend?.isNegativeHits ?? false);
  const xRateLimitHeaders = message.xRatelimitOption === 0 ? undefined : message.xRatelimitOption === 2;
  return {
    stage: message.stage ?? 0,
    disableKey: message.disableKey,
    applyOnStreamDone: message.applyOnStreamDone,
    descriptor(subject) {
      const entries: DescriptorEntry[] = [];
      for (const action of actions) {
        const entry = action(subject);
        if (entry === undefined) return undefined;
        if (entry !== "skip") entries.push(entry);
      }
      const count = hits(subject);
      if (count === null) return undefined;
      return { entries, limit: limit(subject), hits: count, isNegativeHits, xRateLimitHeaders };
    },
  };
}

/** null: the format gave no number, and the descriptor falls away. */
function compileHits(message: RateLimitMessage, context: CompileContext): (subject: RateLimitSubject) => number | undefined | null {
  const addend = message.hitsAddend;
  if (addend === undefined) return () => undefined;
  if (addend.format === "") {
    const fixed = addend.number === undefined ? undefined : Number(addend.number);
    return () => fixed;
  }
  if (addend.number !== undefined) context.report(addend, "format", { code: "OR3642", text: "hits_addend: only one of number and format may be set" });
  const formatter = compileFormat(addend.format, context, { at: addend, field: "format" });
  return ({ headers, info }) => {
    const text = formatter.format({
      info,
      requestHeaders: headers,
      responseHeaders: undefined,
      responseTrailers: undefined,
      localReplyBody: "",
      accessLogType: "NotSet",
    });
    return /^[0-9]{1,10}(?:\.[0-9]*)?$/.test(text) && Number(text) <= maxHits ? Math.trunc(Number(text)) : null;
  };
}

function compileOverride(message: RateLimitMessage): (subject: RateLimitSubject) => LimitOverride | undefined {
  const specifier = message.limit?.overrideSpecifier;
  if (specifier?.case === "rateLimit") {
    const fixed: LimitOverride = { requestsPerUnit: specifier.value.requestsPerUnit, unit: specifier.value.unit };
    return () => fixed;
  }
  if (specifier?.case !== "dynamicMetadata" || specifier.value.metadataKey === undefined) return () => undefined;
  const { key, path } = pathOf(specifier.value.metadataKey);
  return ({ info }) => {
    const found = info.hasDynamicMetadata && Object.hasOwn(info.dynamicMetadata, key) ? valueAt(info.dynamicMetadata[key], path) : undefined;
    if (found === null || typeof found !== "object" || Array.isArray(found)) return undefined;
    const { requests_per_unit: requests, unit } = found as JsonObject;
    if (typeof requests !== "number" || typeof unit !== "string" || !Object.hasOwn(units, unit)) return undefined;
    return { requestsPerUnit: Math.min(Math.max(Math.trunc(requests), 0), 0xffff_ffff), unit: units[unit] };
  };
}

function pathOf(key: MetadataKey): { readonly key: string; readonly path: readonly string[] } {
  return { key: key.key, path: key.path.map(({ segment }) => (segment.case === "key" ? segment.value : "")) };
}

function ipOf(info: StreamInfo): string | undefined {
  const address = info.downstreamRemoteAddress;
  return address?.kind === "ip" ? address.ip : undefined;
}

/** An entry, unless its value is empty. */
function compileValue(key: string, descriptorValue: string, defaultValue: string): DescriptorEntry | undefined {
  const value = toBytes(descriptorValue === "" ? defaultValue : descriptorValue);
  return value === "" ? undefined : { key: toBytes(key), value };
}

function compileAction(message: ActionMessage, context: CompileContext): Action {
  const action = message.actionSpecifier;
  switch (action.case) {
    case "sourceCluster":
      return ({ localCluster }) => ({ key: "source_cluster", value: toBytes(localCluster) });
    case "destinationCluster":
      return ({ route }) => (route?.kind === "forward" ? { key: "destination_cluster", value: toBytes(route.clusterName) } : undefined);
    case "requestHeaders": {
      const { descriptorKey, skipIfAbsent } = action.value;
      const [name, key] = [action.value.headerName.toLowerCase(), toBytes(descriptorKey)];
      return ({ headers }) => {
        const value = headers.get(name);
        return value === undefined ? (skipIfAbsent ? "skip" : undefined) : { key, value };
      };
    }
    case "queryParameters": {
      const { queryParameterName, descriptorKey, skipIfAbsent } = action.value;
      const [name, key] = [toBytes(queryParameterName), toBytes(descriptorKey)];
      return ({ headers }) => {
        const value = decodedQueryParameter(headers.path ?? "", name);
        return value === undefined ? (skipIfAbsent ? "skip" : undefined) : { key, value };
      };
    }
    case "remoteAddress":
      return ({ info }) => {
        const value = ipOf(info);
        return value === undefined ? undefined : { key: "remote_address", value };
      };
    case "maskedRemoteAddress": {
      const [v4, v6] = [action.value.v4PrefixMaskLen ?? 32, action.value.v6PrefixMaskLen ?? 128];
      return ({ info }) => {
        const ip = ipOf(info);
        const value = ip === undefined ? undefined : maskAddress(ip, v4, v6);
        return value === undefined ? undefined : { key: "masked_remote_address", value };
      };
    }
    case "genericKey": {
      const entry = compileValue(action.value.descriptorKey || "generic_key", action.value.descriptorValue, action.value.defaultValue);
      return () => entry;
    }
    case "headerValueMatch": {
      const entry = compileValue(action.value.descriptorKey || "header_match", action.value.descriptorValue, action.value.defaultValue);
      const matchers = compileHeaderMatchers(action.value.headers, context);
      const wanted = action.value.expectMatch ?? true;
      return ({ headers }) => (matchesAllHeaders(matchers, headers) === wanted ? entry : undefined);
    }
    case "queryParameterValueMatch": {
      const entry = compileValue(action.value.descriptorKey || "query_match", action.value.descriptorValue, action.value.defaultValue);
      const matchers = action.value.queryParameters.map((matcher) => compileQueryParameterMatcher(matcher, context));
      const wanted = action.value.expectMatch ?? true;
      return ({ headers }) => (matchers.every((matcher) => matcher.matches(headers.path ?? "")) === wanted ? entry : undefined);
    }
    case "remoteAddressMatch": {
      const entry = compileValue(action.value.descriptorKey || "remote_address_match", action.value.descriptorValue, action.value.defaultValue);
      const ranges = compileCidrList(action.value.addressMatcher?.ranges ?? [], context);
      const invert = action.value.addressMatcher?.invertMatch ?? false;
      return ({ info }) => {
        const ip = ipOf(info);
        return ip !== undefined && ranges.contains(ip) !== invert ? entry : undefined;
      };
    }
    case "dynamicMetadata":
      return metadataAction({ ...action.value, source: 0, skipIfAbsent: false }, context, message);
    case "metadata":
      return metadataAction(action.value, context, message);
    default:
      // `extension` and an empty action are findings of the loader.
      return () => undefined;
  }
}

function metadataAction(
  message: Pick<MetaDataMessage, "descriptorKey" | "defaultValue" | "source" | "skipIfAbsent" | "metadataKey">,
  context: CompileContext,
  at: object,
): Action {
  const key = toBytes(message.descriptorKey);
  const fallback = toBytes(message.defaultValue);
  if (message.source === 3)
    context.report(at, "metadata", {
      code: "OR4003",
      text: "rate limit action metadata: source CLUSTER_LOCALITY_ENTRY is not supported",
      hint: "use ROUTE_ENTRY, CLUSTER_ENTRY or DYNAMIC",
    });
  const { key: namespace, path } = message.metadataKey === undefined ? { key: "", path: [] } : pathOf(message.metadataKey);
  const read = ({ info, route }: RateLimitSubject): JsonValue | undefined => {
    const all = message.source === 0 ? (info.hasDynamicMetadata ? info.dynamicMetadata : {}) : message.source === 1 ? route?.metadata : info.cluster?.metadata;
    return all !== undefined && Object.hasOwn(all, namespace) ? valueAt(all[namespace], path) : undefined;
  };
  return (subject) => {
    const found = read(subject);
    const value = typeof found === "string" && found !== "" ? toBytes(found) : fallback;
    if (value !== "") return { key, value };
    return message.skipIfAbsent ? "skip" : undefined;
  };
}
