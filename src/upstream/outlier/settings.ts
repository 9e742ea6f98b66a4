/** outlier_detection of a cluster, compiled. Times in milliseconds, chances and shares in percent. Runtime keys may change most of it. */
import type { ErrorMatcher } from "./error-matcher.ts";

export interface OutlierSettings {
  readonly intervalMs: number;
  readonly baseEjectionTimeMs: number;
  readonly maxEjectionTimeMs: number;
  readonly maxEjectionTimeJitterMs: number;
  readonly maxEjectionPercent: number;
  readonly alwaysEjectOneHost: boolean;
  readonly splitExternalLocalOriginErrors: boolean;
  readonly consecutive5xx: number;
  readonly consecutiveGatewayFailure: number;
  readonly consecutiveLocalOriginFailure: number;
  readonly successRateMinimumHosts: number;
  readonly successRateRequestVolume: number;
  /** Thousandths. */
  readonly successRateStdevFactor: number;
  readonly failurePercentageThreshold: number;
  readonly failurePercentageMinimumHosts: number;
  readonly failurePercentageRequestVolume: number;
  /** How often what is detected is acted on. */
  readonly enforcing: Readonly<Record<EjectionType, number>>;
  /** A health check that a host passes ends its ejection. */
  readonly healthCheckUnejects: boolean;
  readonly detectDegraded: boolean;
  /** Says which answers are failures; undefined: those of status 5xx. */
  readonly errorMatcher: ErrorMatcher | undefined;
}

/** In the words of statistics. */
export type EjectionType =
  | "consecutive_5xx"
  | "consecutive_gateway_failure"
  | "consecutive_local_origin_failure"
  | "success_rate"
  | "local_origin_success_rate"
  | "failure_percentage"
  | "local_origin_failure_percentage";

/** What workers find out at once. */
export type ReportedType = "consecutive_5xx" | "consecutive_gateway_failure" | "consecutive_local_origin_failure" | "degradation";
