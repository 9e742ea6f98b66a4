/** Checks that need more than one message and belong to no single compile function. */
import { isIPv6 } from "node:net";
import type { Finding, Origin } from "./finding.ts";
import { quote } from "./reader.ts";
import type { Bootstrap } from "./schema/types/envoy.config.bootstrap.v3.d.ts";
import type { Address, ApiConfigSource, ConfigSource, GrpcService_EnvoyGrpc, SocketAddress } from "./schema/types/envoy.config.core.v3.d.ts";
import type { Listener } from "./schema/types/envoy.config.listener.v3.d.ts";
import type { RouteConfiguration } from "./schema/types/envoy.config.route.v3.d.ts";
import type { HttpConnectionManager } from "./schema/types/envoy.extensions.filters.network.http_connection_manager.v3.d.ts";
import { walkMessages } from "./walk.ts";

type Locate = (message: object, field?: string) => Origin | undefined;

/** Node flags (--service-node, --service-cluster) must be in `bootstrap.node` already. */
export function checkSemantics(bootstrap: Bootstrap, locate: Locate): Finding[] {
  const findings: Finding[] = [];
  const report = (code: Finding["code"], text: string, message: object, field?: string, hint?: string, severity: Finding["severity"] = "error"): void => {
    findings.push({ code, severity, text, origin: locate(message, field), hint });
  };

  // Clusters of one name.
  const clusters = new Map<string, { readonly cluster: object; readonly eds: boolean }>();
  for (const cluster of bootstrap.staticResources?.clusters ?? []) {
    const first = clusters.get(cluster.name);
    if (first === undefined)
      clusters.set(cluster.name, { cluster, eds: cluster.clusterDiscoveryType.case === "type" && cluster.clusterDiscoveryType.value === 3 });
    else report("OR3001", `duplicate cluster ${quote(cluster.name)}: its name is taken`, cluster, "name", firstSeen(locate(first.cluster, "name")));
  }

  checkListeners(bootstrap.staticResources?.listeners ?? [], report, locate);

  if (bootstrap.statsFlush.case === "statsFlushOnAdmin" && bootstrap.statsFlushInterval !== undefined) {
    report("OR3006", "only one of stats_flush_interval and stats_flush_on_admin may be set", bootstrap, "stats_flush_on_admin");
  }

  const hasNode = (bootstrap.node?.id ?? "") !== "" && (bootstrap.node?.cluster ?? "") !== "";
  let nodeMissing = false;
  walkMessages(bootstrap, ({ message, field }) => {
    switch (message.$typeName) {
      case "envoy.config.core.v3.ConfigSource": {
        const source = message as unknown as ConfigSource;
        const kind = source.configSourceSpecifier.case;
        if (kind === "ads" && bootstrap.dynamicResources?.adsConfig === undefined)
          report(
            "OR3076",
            `${field?.name ?? "config source"}: ADS must be configured to support an ADS config source`,
            message,
            "ads",
            "add dynamic_resources.ads_config, or use another source",
          );
        if (hasNode || nodeMissing || kind === undefined || kind === "self") return true;
        // One finding says it for all: the remedy is one line.
        nodeMissing = true;
        report(
          "OR3005",
          `${field?.name ?? "config source"}: node 'id' and 'cluster' are required. Set it either in 'node' config or via --service-node and --service-cluster options.`,
          message,
          undefined,
          "add node: { id: ..., cluster: ... } to the bootstrap",
        );
        return true;
      }
      case "envoy.config.route.v3.RouteConfiguration":
        checkVirtualHostNames(message as unknown as RouteConfiguration, report, locate);
        return true;
      case "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager":
        if ((message as unknown as HttpConnectionManager).httpFilters.length === 0)
          report(
            "OR6004",
            "the connection manager has no http_filters: nothing answers its requests",
            message,
            "http_filters",
            "add envoy.filters.http.router",
            "warning",
          );
        return true;
      case "envoy.config.core.v3.SocketAddress":
        checkSocketAddress(message as unknown as SocketAddress, report);
        return true;
      case "envoy.config.bootstrap.v3.RuntimeLayer.DiskLayer":
        if (message["symlinkRoot"] === "") report("OR2001", "a disk layer needs symlink_root: invalid file path", message, "symlink_root");
        return true;
      case "envoy.config.core.v3.ApiConfigSource":
        checkApiConfigSource(message as unknown as ApiConfigSource, clusters, report);
        return true;
      case "envoy.config.core.v3.GrpcService.EnvoyGrpc": {
        const grpc = message as unknown as GrpcService_EnvoyGrpc;
        if (grpc.clusterName !== "" && !clusters.has(grpc.clusterName))
          report("OR3003", `unknown cluster ${quote(grpc.clusterName)}: a gRPC service needs a cluster of static_resources`, message, "cluster_name");
        return true;
      }
      default:
        return true;
    }
  });
  return findings;
}

type Report = (code: Finding["code"], text: string, message: object, field?: string, hint?: string, severity?: Finding["severity"]) => void;

function firstSeen(origin: Origin | undefined): string | undefined {
  return origin === undefined || origin.line === 0 ? undefined : `first defined at ${origin.file}:${origin.line}`;
}

function checkListeners(listeners: readonly Listener[], report: Report, locate: Locate): void {
  const addresses = new Map<string, Listener>();
  const names = new Map<string, Listener>();
  for (const listener of listeners) {
    const all = [listener.address, ...listener.additionalAddresses.map((a) => a.address)];
    for (const [index, address] of all.entries()) {
      if (address?.address.case === "socketAddress") checkIpv4Compat(address.address.value, report);
      const key = address === undefined ? undefined : addressKey(address);
      if (key === undefined) continue;
      const first = addresses.get(key);
      if (first === undefined) addresses.set(key, listener);
      else {
        report(
          "OR3002",
          `duplicate address ${key.replace(/^\w+ /, "")}: listener ${quote(first.name)} has it already`,
          listener,
          index === 0 ? "address" : `additional_addresses[${index - 1}]`,
          firstSeen(locate(first, "address")),
        );
      }
    }
    if (listener.name === "") continue;
    const named = names.get(listener.name);
    if (named === undefined) names.set(listener.name, listener);
    else
      report(
        "OR6002",
        `two listeners have the name ${quote(listener.name)}: the later one replaces the earlier`,
        listener,
        "name",
        firstSeen(locate(named, "name")),
        "warning",
      );
  }
}

/** Envoy takes them; statistics and logs cannot tell them apart. */
function checkVirtualHostNames(routes: RouteConfiguration, report: Report, locate: Locate): void {
  const names = new Map<string, object>();
  for (const host of routes.virtualHosts) {
    const first = names.get(host.name);
    if (first === undefined) names.set(host.name, host);
    else report("OR6003", `two virtual hosts have the name ${quote(host.name)}`, host, "name", firstSeen(locate(first, "name")), "warning");
  }
}

/** One text for one address; undefined where any number may share it (port 0, internal). */
function addressKey(address: Address): string | undefined {
  const kind = address.address;
  if (kind.case === "pipe") return `pipe ${kind.value.path}`;
  if (kind.case !== "socketAddress") return undefined;
  const { portSpecifier, protocol, address: host, networkNamespaceFilepath } = kind.value;
  if (portSpecifier.case !== "portValue" || portSpecifier.value === 0) return undefined;
  return `${protocol === 1 ? "udp" : "tcp"} ${isIPv6(host) ? `[${host}]` : host}:${portSpecifier.value}${networkNamespaceFilepath === "" ? "" : ` in ${networkNamespaceFilepath}`}`;
}

/** The only resolver that Envoy has compiled in. */
const ipResolver = "envoy.ip";

function checkSocketAddress(address: SocketAddress, report: Report): void {
  const resolver = address.resolverName;
  if (resolver !== "" && resolver !== ipResolver)
    report("OR3004", `unknown address resolver: ${quote(resolver)}`, address, "resolver_name", `leave it out: "${ipResolver}" is the only one`);
}

/** A listener's address; others may carry the flag without a meaning. */
function checkIpv4Compat(address: SocketAddress, report: Report): void {
  if (address.ipv4Compat && address.address !== "::" && !/^::ffff:/i.test(address.address))
    report("OR3008", `ipv4_compat can only be set on "::" or an IPv4-mapped IPv6 address, not on ${quote(address.address)}`, address, "ipv4_compat");
}

/** Config::Utility::checkApiConfigSourceSubscriptionBackingCluster and its callers. */
function checkApiConfigSource(source: ApiConfigSource, clusters: ReadonlyMap<string, { readonly eds: boolean }>, report: Report): void {
  const grpc = source.apiType === 2 || source.apiType === 3 || source.apiType === 5 || source.apiType === 6;
  if (grpc && source.clusterNames.length > 0) report("OR3007", "a gRPC config source has grpc_services, not cluster_names", source, "cluster_names");
  if (!grpc && source.grpcServices.length > 0) report("OR3007", "a REST config source has cluster_names, not grpc_services", source, "grpc_services");
  if (grpc && source.grpcServices.length === 0 && source.clusterNames.length === 0)
    report("OR3007", "grpc_services is empty: a gRPC config source needs at least one", source, "api_type");
  if (!grpc && source.clusterNames.length === 0) report("OR3007", "cluster_names is empty: a REST config source needs one", source, "api_type");
  const names = [...source.clusterNames];
  for (const service of source.grpcServices) if (service.targetSpecifier.case === "envoyGrpc") names.push(service.targetSpecifier.value.clusterName);
  for (const name of names) {
    const cluster = clusters.get(name);
    if (cluster === undefined && source.clusterNames.includes(name))
      report("OR3003", `unknown cluster ${quote(name)}: a config source needs a cluster of static_resources`, source, "cluster_names");
    else if (cluster?.eds === true)
      report(
        "OR3003",
        `cluster ${quote(name)} is of type EDS: a config source needs one that is defined statically`,
        source,
        source.clusterNames.includes(name) ? "cluster_names" : "grpc_services",
      );
  }
}
