/** How a cluster's names are resolved: the fields of Cluster, or envoy.clusters.dns with the same ones. */
import { type AnyMessage, durationMs, isMessage } from "../config/message.ts";
import type { Cluster } from "../config/schema/types/envoy.config.cluster.v3.d.ts";
import type { Address } from "../config/schema/types/envoy.config.core.v3.d.ts";
import type { DnsCluster } from "../config/schema/types/envoy.extensions.clusters.dns.v3.d.ts";
import type { CaresDnsResolverConfig } from "../config/schema/types/envoy.extensions.network.dns_resolver.cares.v3.d.ts";
import type { CompileContext, Honours } from "../extensions/extension.ts";
import { parseAddressMessage } from "../net/address.ts";
import type { DnsSettings, DnsTarget } from "./settings.ts";

export const dnsCluster = "envoy.extensions.clusters.dns.v3.DnsCluster";
const cares = "envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig";

export const honours: Honours = {
  "envoy.config.cluster.v3.Cluster.RefreshRate": "*",
  "envoy.config.core.v3.DnsResolutionConfig": ["resolvers"],
  [dnsCluster]: [
    "dns_refresh_rate",
    "dns_failure_refresh_rate",
    "respect_dns_ttl",
    "dns_jitter",
    "typed_dns_resolver_config",
    "dns_lookup_family",
    "all_addresses_in_single_endpoint",
    "dns_min_refresh_rate",
  ],
  [`${dnsCluster}.RefreshRate`]: "*",
  [cares]: ["resolvers", "query_timeout_seconds", "query_tries"],
};

const families = { 0: "auto", 1: "v4", 2: "v6", 3: "v4_preferred", 4: "all" } as const;

/** c-ares' defaults, as Envoy leaves them. */
const defaultQueryTimeoutMs = 5000;
const defaultQueryTries = 4;

export function compileDns(message: Cluster, targets: readonly DnsTarget[], logical: boolean, context: CompileContext): DnsSettings {
  const custom = message.clusterDiscoveryType.case === "clusterType" ? message.clusterDiscoveryType.value.typedConfig : undefined;
  const own = isMessage<DnsCluster>(custom, dnsCluster) ? custom : undefined;
  const source = own ?? message;
  const failure = source.dnsFailureRefreshRate;
  const refreshMs = durationMs(source.dnsRefreshRate, 5000);
  // DnsLookupFamily of envoy.clusters.dns has UNSPECIFIED (automatic) before AUTO.
  const family = own === undefined ? message.dnsLookupFamily : (Math.max(0, own.dnsLookupFamily - 1) as 0 | 1 | 2 | 3 | 4);
  const base = durationMs(failure?.baseInterval, 5000);
  return {
    targets,
    logical,
    family: families[family],
    refreshMs,
    minRefreshMs: durationMs(own?.dnsMinRefreshRate, 0),
    failureRefreshMs: failure === undefined ? undefined : { base, max: durationMs(failure.maxInterval, base * 10) },
    respectTtl: source.respectDnsTtl,
    jitterMs: durationMs(source.dnsJitter, 0),
    ...compileResolver(message, own?.typedDnsResolverConfig?.typedConfig ?? message.typedDnsResolverConfig?.typedConfig, context),
  };
}

function compileResolver(
  message: Cluster,
  config: AnyMessage | undefined,
  context: CompileContext,
): Pick<DnsSettings, "servers" | "queryTimeoutMs" | "queryTries"> {
  const own = message.dnsResolutionConfig?.resolvers ?? message.dnsResolvers;
  const defaults = context.clusterDefaults;
  // A cluster that names no resolver takes the bootstrap's.
  if (config === undefined && own.length === 0) config = defaults?.dnsResolver;
  let resolvers: readonly Address[] = own.length > 0 ? own : (defaults?.dnsResolvers ?? []);
  let queryTimeoutMs = defaultQueryTimeoutMs;
  let queryTries = defaultQueryTries;
  if (isMessage<CaresDnsResolverConfig>(config, cares)) {
    resolvers = config.resolvers;
    if (config.queryTimeoutSeconds !== undefined) queryTimeoutMs = Number(config.queryTimeoutSeconds) * 1000;
    queryTries = config.queryTries ?? queryTries;
  }
  const servers: string[] = [];
  for (const resolver of resolvers) {
    const address = parseAddressMessage(resolver);
    // Without a port it is DNS' own.
    if (address?.kind === "ip") servers.push(address.port === 0 ? (address.family === 6 ? `[${address.ip}]:53` : `${address.ip}:53`) : address.text);
    else context.report(resolver, undefined, { code: "OR2111", text: "a DNS resolver must be an IP address and a port" });
  }
  return { servers, queryTimeoutMs, queryTries };
}
