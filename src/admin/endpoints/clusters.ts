/** /clusters: clusters, their hosts, what each host has served. */
import type { Address } from "../../net/connection.ts";
import { compileRegex } from "../../regex/regex.ts";
import { jsonPieces, LazyList } from "../json-pieces.ts";
import { type AdminEndpoint, applicationJson, text } from "../request.ts";
import type { AdminCluster, AdminHealthFlag, AdminHost, AdminThresholds } from "../server.ts";

export const clusters: AdminEndpoint = {
  path: "/clusters",
  help: "upstream cluster status",
  params: [{ kind: "string", id: "filter", help: "Regular expression (Google re2) for filtering clusters by name" }],
  handle: ({ server, params }) => {
    const filter = params.first("filter");
    let all = [...server.clusters()].sort((a, b) => (a.name < b.name ? -1 : 1));
    if (filter !== undefined && filter !== "") {
      const compiled = compileRegex(filter);
      if (!compiled.ok) return text("Invalid re2 regex", 400);
      all = all.filter((cluster) => compiled.regex.partialMatch(Buffer.from(cluster.name).toString("latin1")));
    }
    if (params.first("format") !== "json") return text(all.length === 0 ? "" : clusterLines(all));
    const statuses = new LazyList(all.map((cluster) => () => clusterJson(cluster)));
    return { status: 200, contentType: applicationJson, body: jsonPieces(all.length === 0 ? {} : { cluster_statuses: statuses }) };
  },
};

const thresholdNames = [
  ["max_connections", "maxConnections"],
  ["max_pending_requests", "maxPendingRequests"],
  ["max_requests", "maxRequests"],
  ["max_retries", "maxRetries"],
] as const;

/** In the order of their names, as the text form lists them. */
const textStats = ["cx_active", "cx_connect_fail", "cx_total", "rq_active", "rq_error", "rq_pending_active", "rq_success", "rq_timeout", "rq_total"] as const;
const counterStats = ["cx_connect_fail", "cx_total", "rq_error", "rq_success", "rq_timeout", "rq_total"] as const;
const gaugeStats = ["cx_active", "rq_active", "rq_pending_active"] as const;

/** Words of the text form. */
const flagWords: readonly (readonly [AdminHealthFlag, string])[] = [
  ["failed_active_hc", "/failed_active_hc"],
  ["failed_outlier_check", "/failed_outlier_check"],
  ["failed_eds_health", "/failed_eds_health"],
  ["degraded_active_hc", "/degraded_active_hc"],
  ["degraded_eds_health", "/degraded_eds_health"],
  ["pending_dynamic_removal", "/pending_dynamic_removal"],
  ["pending_active_hc", "/pending_active_hc"],
  ["excluded_via_immediate_hc_fail", "/excluded_via_immediate_hc_fail"],
  ["active_hc_timeout", "/active_hc_timeout"],
  ["eds_status_draining", "/eds_status_draining"],
  ["degraded_outlier_detection", "/degraded_outlier_detection"],
];

function* clusterLines(all: readonly AdminCluster[]): Generator<string> {
  for (const cluster of all) {
    const name = cluster.name;
    let out = `${name}::observability_name::${cluster.observabilityName}\n`;
    if (cluster.edsServiceName !== undefined && cluster.edsServiceName !== "") out += `${name}::eds_service_name::${cluster.edsServiceName}\n`;
    const outlier = cluster.outlier;
    if (outlier !== undefined) {
      out += `${name}::outlier::success_rate_average::${shortNumber(outlier.successRateAverage)}\n`;
      out += `${name}::outlier::success_rate_ejection_threshold::${shortNumber(outlier.successRateEjectionThreshold)}\n`;
      out += `${name}::outlier::local_origin_success_rate_average::${shortNumber(outlier.localOriginSuccessRateAverage)}\n`;
      out += `${name}::outlier::local_origin_success_rate_ejection_threshold::${shortNumber(outlier.localOriginSuccessRateEjectionThreshold)}\n`;
    }
    for (const priority of ["default", "high"] as const) {
      for (const [word, key] of thresholdNames) out += `${name}::${priority}_priority::${word}::${cluster.circuitBreakers[priority][key]}\n`;
    }
    out += `${name}::added_via_api::${cluster.addedViaApi}\n`;
    yield out;
    for (const host of cluster.hosts) yield hostLines(name, host);
  }
}

function hostLines(cluster: string, host: AdminHost): string {
  const prefix = `${cluster}::${host.address.text}::`;
  const flags = flagWords.filter(([flag]) => host.healthFlags.includes(flag)).map(([, word]) => word);
  let out = "";
  for (const stat of textStats) out += `${prefix}${stat}::${host.stats[stat]}\n`;
  out += `${prefix}hostname::${host.hostname}\n${prefix}health_flags::${flags.length === 0 ? "healthy" : flags.join("")}\n${prefix}weight::${host.weight}\n`;
  out += `${prefix}region::${host.locality.region}\n${prefix}zone::${host.locality.zone}\n${prefix}sub_zone::${host.locality.subZone}\n`;
  out += `${prefix}canary::${host.canary}\n${prefix}priority::${host.priority}\n`;
  out += `${prefix}success_rate::${shortNumber(host.successRate ?? -1)}\n${prefix}local_origin_success_rate::${shortNumber(host.localOriginSuccessRate ?? -1)}\n`;
  return out;
}

function clusterJson(cluster: AdminCluster): object {
  const outlier = cluster.outlier;
  return {
    name: cluster.name,
    ...(cluster.addedViaApi ? { added_via_api: true } : {}),
    // A negative rate is one that is not known yet: such fields are left out.
    ...percent("success_rate_ejection_threshold", outlier?.successRateEjectionThreshold),
    ...(cluster.hosts.length > 0 ? { host_statuses: cluster.hosts.map(hostJson) } : {}),
    ...percent("local_origin_success_rate_ejection_threshold", outlier?.localOriginSuccessRateEjectionThreshold),
    circuit_breakers: { thresholds: [thresholdsJson(cluster.circuitBreakers.default), { priority: "HIGH", ...thresholdsJson(cluster.circuitBreakers.high) }] },
    observability_name: cluster.observabilityName,
    ...(cluster.edsServiceName === undefined || cluster.edsServiceName === "" ? {} : { eds_service_name: cluster.edsServiceName }),
  };
}

function thresholdsJson(thresholds: AdminThresholds): Record<string, number> {
  return Object.fromEntries(thresholdNames.map(([word, key]) => [word, thresholds[key]]));
}

function hostJson(host: AdminHost): object {
  const { region, zone, subZone } = host.locality;
  const number = (name: (typeof textStats)[number]) => (host.stats[name] === 0 ? {} : { value: String(host.stats[name]) });
  return {
    address: addressJson(host.address),
    stats: [...counterStats.map((name) => ({ ...number(name), name })), ...gaugeStats.map((name) => ({ type: "GAUGE", ...number(name), name }))],
    health_status: healthJson(host.healthFlags),
    ...percent("success_rate", host.successRate),
    weight: host.weight,
    ...(host.hostname === "" ? {} : { hostname: host.hostname }),
    ...(host.priority === 0 ? {} : { priority: host.priority }),
    ...percent("local_origin_success_rate", host.localOriginSuccessRate),
    locality: { ...(region === "" ? {} : { region }), ...(zone === "" ? {} : { zone }), ...(subZone === "" ? {} : { sub_zone: subZone }) },
  };
}

/** envoy.admin.v3.HostHealthStatus, fields in the order of their numbers. */
function healthJson(flags: readonly AdminHealthFlag[]): object {
  const has = (flag: AdminHealthFlag) => flags.includes(flag);
  const shown: Record<string, unknown> = {};
  const show = (names: readonly (readonly [AdminHealthFlag, string])[]): void => {
    for (const [flag, name] of names) if (has(flag)) shown[name] = true;
  };
  show([
    ["failed_active_hc", "failed_active_health_check"],
    ["failed_outlier_check", "failed_outlier_check"],
  ]);
  shown["eds_health_status"] = has("failed_eds_health")
    ? "UNHEALTHY"
    : has("degraded_eds_health")
      ? "DEGRADED"
      : has("eds_status_draining")
        ? "DRAINING"
        : "HEALTHY";
  show([
    ["degraded_active_hc", "failed_active_degraded_check"],
    ["pending_dynamic_removal", "pending_dynamic_removal"],
    ["pending_active_hc", "pending_active_hc"],
    ["excluded_via_immediate_hc_fail", "excluded_via_immediate_hc_fail"],
    ["active_hc_timeout", "active_hc_timeout"],
    ["degraded_outlier_detection", "failed_degraded_outlier_detection"],
  ]);
  return shown;
}

function addressJson(address: Address): object {
  return address.kind === "pipe" ? { pipe: { path: address.path } } : { socket_address: { address: address.ip, port_value: address.port } };
}

function percent(name: string, value: number | undefined): object {
  return value === undefined || value < 0 ? {} : { [name]: value === 0 ? {} : { value } };
}

/** Six significant digits, as C++ streams print doubles. */
function shortNumber(value: number): string {
  return String(Number(value.toPrecision(6)));
}
