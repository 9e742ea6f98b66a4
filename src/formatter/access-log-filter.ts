/** envoy.config.accesslog.v3.AccessLogFilter: which exchanges are logged. */
import { randomInt } from "node:crypto";
import type { AccessLogFilter, ComparisonFilter } from "../config/schema/types/envoy.config.accesslog.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import { type ResponseFlag, responseFlags } from "../http/stream-info.ts";
import { compileHeaderMatcher } from "../matching/header-matcher.ts";
import { compileMetadataMatcher, valueAt } from "../matching/value-matcher.ts";
import type { AccessLogType, FormatContext } from "./formatter.ts";
import { durationOf, grpcStatusOf } from "./operators/stream.ts";

export const honours: Honours = {
  "envoy.config.accesslog.v3.AccessLogFilter": "*",
  "envoy.config.accesslog.v3.ComparisonFilter": "*",
  "envoy.config.accesslog.v3.StatusCodeFilter": "*",
  "envoy.config.accesslog.v3.DurationFilter": "*",
  "envoy.config.accesslog.v3.NotHealthCheckFilter": "*",
  "envoy.config.accesslog.v3.TraceableFilter": "*",
  "envoy.config.accesslog.v3.RuntimeFilter": "*",
  "envoy.config.accesslog.v3.AndFilter": "*",
  "envoy.config.accesslog.v3.OrFilter": "*",
  "envoy.config.accesslog.v3.HeaderFilter": "*",
  "envoy.config.accesslog.v3.ResponseFlagFilter": "*",
  "envoy.config.accesslog.v3.GrpcStatusFilter": "*",
  "envoy.config.accesslog.v3.ExtensionFilter": "*",
  "envoy.config.accesslog.v3.MetadataFilter": "*",
  "envoy.config.accesslog.v3.LogTypeFilter": "*",
  "envoy.config.core.v3.RuntimeUInt32": "*",
  "envoy.type.v3.FractionalPercent": "*",
};

export type AccessLogTest = (context: FormatContext) => boolean;

/** AccessLogType by number, as formats name them. */
const logTypes: readonly AccessLogType[] = [
  "NotSet",
  "TcpUpstreamConnected",
  "TcpPeriodic",
  "TcpConnectionEnd",
  "DownstreamStart",
  "DownstreamPeriodic",
  "DownstreamEnd",
  "UpstreamPoolReady",
  "UpstreamPeriodic",
  "UpstreamEnd",
  "DownstreamTunnelSuccessfullyEstablished",
  "UdpTunnelUpstreamConnected",
  "UdpPeriodic",
  "UdpSessionEnd",
  "TcpConnectionStart",
];

const always: AccessLogTest = () => true;
const never: AccessLogTest = () => false;

function compileComparison(message: ComparisonFilter | undefined, context: CompileContext): (value: number) => boolean {
  const fallback = message?.value?.defaultValue ?? 0;
  const key = message?.value?.runtimeKey ?? "";
  const { runtime } = context;
  const limit = key === "" ? () => fallback : () => runtime.snapshot.integer(key, fallback);
  switch (message?.op) {
    case 1:
      return (value) => value >= limit();
    case 2:
      return (value) => value <= limit();
    case 3:
      return (value) => value !== limit();
    default:
      return (value) => value === limit();
  }
}

const denominators = [100, 10_000, 1_000_000] as const;

/** The request id's random part decides where there is one, so that all proxies on the way sample the same requests. */
function stableRandom(requestId: string | undefined): number | undefined {
  if (requestId === undefined || requestId.length < 8) return undefined;
  const value = Number.parseInt(requestId.slice(0, 8), 16);
  return Number.isNaN(value) || !/^[0-9a-fA-F]{8}/.test(requestId) ? undefined : value;
}

export function compileAccessLogFilter(message: AccessLogFilter, context: CompileContext): AccessLogTest {
  const specifier = message.filterSpecifier;
  switch (specifier.case) {
    case "statusCodeFilter": {
      const compare = compileComparison(specifier.value.comparison, context);
      return ({ info }) => compare(info.responseCode ?? 0);
    }
    case "durationFilter": {
      const compare = compileComparison(specifier.value.comparison, context);
      return ({ info }) => compare(durationOf(info));
    }
    case "notHealthCheckFilter":
      return ({ info }) => !info.isHealthCheck;
    case "traceableFilter":
      return ({ info }) => info.traced;
    case "runtimeFilter": {
      const { runtimeKey, percentSampled, useIndependentRandomness } = specifier.value;
      const fraction = { numerator: percentSampled?.numerator ?? 0, denominator: denominators[percentSampled?.denominator ?? 0] ?? 100 };
      const { runtime } = context;
      return ({ info, requestHeaders }) => {
        const stable = useIndependentRandomness ? undefined : stableRandom(info.requestId ?? requestHeaders?.get("x-request-id"));
        return runtime.snapshot.featureEnabled(runtimeKey, fraction, stable ?? randomInt(0x1_0000_0000));
      };
    }
    case "andFilter": {
      const tests = specifier.value.filters.map((filter) => compileAccessLogFilter(filter, context));
      return (logContext) => tests.every((test) => test(logContext));
    }
    case "orFilter": {
      const tests = specifier.value.filters.map((filter) => compileAccessLogFilter(filter, context));
      return (logContext) => tests.some((test) => test(logContext));
    }
    case "headerFilter": {
      if (specifier.value.header === undefined) return never;
      const matcher = compileHeaderMatcher(specifier.value.header, context);
      return ({ requestHeaders }) => requestHeaders !== undefined && matcher.matches(requestHeaders);
    }
    case "responseFlagFilter": {
      let bits = 0;
      for (const flag of specifier.value.flags) {
        if (Object.hasOwn(responseFlags, flag)) bits |= 1 << responseFlags[flag as ResponseFlag].bit;
        else
          context.report(specifier.value, "flags", {
            code: "OR2103",
            text: `unknown response flag "${flag}"`,
            hint: `one of ${Object.keys(responseFlags).join(", ")}`,
          });
      }
      if (specifier.value.flags.length === 0) return ({ info }) => info.flags !== 0;
      return ({ info }) => (info.flags & bits) !== 0;
    }
    case "grpcStatusFilter": {
      const statuses = new Set<number>(specifier.value.statuses);
      const { exclude } = specifier.value;
      return (logContext) => {
        const status = grpcStatusOf(logContext);
        return statuses.has(status === undefined || status < 0 ? 2 : status) !== exclude;
      };
    }
    case "metadataFilter": {
      const { matcher, matchIfKeyNotFound = true } = specifier.value;
      if (matcher === undefined) return matchIfKeyNotFound ? always : never;
      const matches = compileMetadataMatcher(matcher, context);
      const path = matcher.path.map((segment) => (segment.segment.case === "key" ? segment.segment.value : ""));
      const { filter } = matcher;
      return ({ info }) => {
        if (!info.hasDynamicMetadata) return matchIfKeyNotFound;
        const all = info.dynamicMetadata;
        if (!Object.hasOwn(all, filter) || valueAt(all[filter], path) === undefined) return matchIfKeyNotFound;
        return matches(all);
      };
    }
    case "logTypeFilter": {
      const types = new Set(specifier.value.types.map((type) => logTypes[type]));
      const { exclude } = specifier.value;
      return ({ accessLogType }) => types.has(accessLogType) !== exclude;
    }
    case "extensionFilter": {
      const { name, configType } = specifier.value;
      const extension = context.extension("envoy.access_loggers.extension_filters", configType.value, specifier.value, "typed_config", name);
      return configType.value === undefined ? never : (extension?.accessLogFilter?.compile(configType.value, context) ?? never);
    }
    default:
      return always;
  }
}
