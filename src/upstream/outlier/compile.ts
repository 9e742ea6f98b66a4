/** outlier_detection: compiled and checked. */
import { durationMs } from "../../config/message.ts";
import type { Cluster } from "../../config/schema/types/envoy.config.cluster.v3.d.ts";
import type { HttpProtocolOptions } from "../../config/schema/types/envoy.extensions.upstreams.http.v3.d.ts";
import type { CompileContext, Honours } from "../../extensions/extension.ts";
import { compileErrorMatcher } from "./error-matcher.ts";
import type { OutlierSettings } from "./settings.ts";

const message = "envoy.config.cluster.v3.OutlierDetection";
const bootstrap = "envoy.config.bootstrap.v3.";

export const honours: Honours = {
  "envoy.config.cluster.v3.Cluster": ["outlier_detection"],
  [message]: [
    "consecutive_5xx",
    "interval",
    "base_ejection_time",
    "max_ejection_percent",
    "enforcing_consecutive_5xx",
    "enforcing_success_rate",
    "success_rate_minimum_hosts",
    "success_rate_request_volume",
    "success_rate_stdev_factor",
    "consecutive_gateway_failure",
    "enforcing_consecutive_gateway_failure",
    "split_external_local_origin_errors",
    "consecutive_local_origin_failure",
    "enforcing_consecutive_local_origin_failure",
    "enforcing_local_origin_success_rate",
    "failure_percentage_threshold",
    "enforcing_failure_percentage",
    "enforcing_failure_percentage_local_origin",
    "failure_percentage_minimum_hosts",
    "failure_percentage_request_volume",
    "max_ejection_time",
    "max_ejection_time_jitter",
    "successful_active_health_check_uneject_host",
    "always_eject_one_host",
    "detect_degraded_hosts",
  ],
  [`${bootstrap}Bootstrap`]: ["cluster_manager"],
  [`${bootstrap}ClusterManager`]: ["outlier_detection"],
  [`${bootstrap}ClusterManager.OutlierDetection`]: ["event_log_path"],
};

export function compileOutlierDetection(cluster: Cluster, options: HttpProtocolOptions | undefined, context: CompileContext): OutlierSettings | undefined {
  const given = cluster.outlierDetection;
  if (given === undefined) return undefined;
  const baseEjectionTimeMs = durationMs(given.baseEjectionTime, 30_000);
  const maxEjectionTimeMs = durationMs(given.maxEjectionTime, Math.max(300_000, baseEjectionTimeMs));
  if (maxEjectionTimeMs < baseEjectionTimeMs)
    context.report(given, "max_ejection_time", {
      code: "OR3054",
      text: "outlier detector's max_ejection_time cannot be smaller than base_ejection_time",
    });
  return {
    intervalMs: durationMs(given.interval, 10_000),
    baseEjectionTimeMs,
    maxEjectionTimeMs,
    maxEjectionTimeJitterMs: durationMs(given.maxEjectionTimeJitter, 0),
    maxEjectionPercent: given.maxEjectionPercent ?? 10,
    alwaysEjectOneHost: given.alwaysEjectOneHost ?? false,
    splitExternalLocalOriginErrors: given.splitExternalLocalOriginErrors,
    consecutive5xx: given.consecutive5xx ?? 5,
    consecutiveGatewayFailure: given.consecutiveGatewayFailure ?? 5,
    consecutiveLocalOriginFailure: given.consecutiveLocalOriginFailure ?? 5,
    successRateMinimumHosts: given.successRateMinimumHosts ?? 5,
    successRateRequestVolume: given.successRateRequestVolume ?? 100,
    successRateStdevFactor: given.successRateStdevFactor ?? 1900,
    failurePercentageThreshold: given.failurePercentageThreshold ?? 85,
    failurePercentageMinimumHosts: given.failurePercentageMinimumHosts ?? 5,
    failurePercentageRequestVolume: given.failurePercentageRequestVolume ?? 50,
    enforcing: {
      consecutive_5xx: given.enforcingConsecutive5xx ?? 100,
      consecutive_gateway_failure: given.enforcingConsecutiveGatewayFailure ?? 0,
      consecutive_local_origin_failure: given.enforcingConsecutiveLocalOriginFailure ?? 100,
      success_rate: given.enforcingSuccessRate ?? 100,
      local_origin_success_rate: given.enforcingLocalOriginSuccessRate ?? 100,
      failure_percentage: given.enforcingFailurePercentage ?? 0,
      local_origin_failure_percentage: given.enforcingFailurePercentageLocalOrigin ?? 0,
    },
    healthCheckUnejects: given.successfulActiveHealthCheckUnejectHost ?? true,
    detectDegraded: given.detectDegradedHosts ?? false,
    errorMatcher: compileErrorMatcher(options, context),
  };
}
