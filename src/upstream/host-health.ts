/** What is known against a host, as bits (Envoy's Host::HealthFlag), and what follows for the balancer. */
import type { ConfiguredHealth } from "./hosts.ts";

export const healthFlags = {
  failed_active_hc: 0x1,
  failed_outlier_check: 0x2,
  failed_eds_health: 0x4,
  degraded_active_hc: 0x8,
  degraded_eds_health: 0x10,
  /** Gone from discovery, but it passes its checks: it stays until it fails one. */
  pending_dynamic_removal: 0x20,
  /** Not checked yet, and not to be counted until then (ignore_new_hosts_until_first_hc). */
  pending_active_hc: 0x40,
  excluded_via_immediate_hc_fail: 0x80,
  active_hc_timeout: 0x100,
  eds_status_draining: 0x200,
  degraded_outlier_detection: 0x400,
} as const;
export type HealthFlag = keyof typeof healthFlags;

const unhealthy = healthFlags.failed_active_hc | healthFlags.failed_outlier_check | healthFlags.failed_eds_health | healthFlags.eds_status_draining;
const degraded = healthFlags.degraded_active_hc | healthFlags.degraded_eds_health | healthFlags.degraded_outlier_detection;
const excluded = healthFlags.pending_active_hc | healthFlags.excluded_via_immediate_hc_fail | healthFlags.eds_status_draining;

/** The bits that discovery sets; all others are the checkers'. */
export const discoveredFlags = healthFlags.failed_eds_health | healthFlags.degraded_eds_health | healthFlags.eds_status_draining;

const configured: Readonly<Record<ConfiguredHealth, number>> = {
  healthy: 0,
  degraded: healthFlags.degraded_eds_health,
  unhealthy: healthFlags.failed_eds_health,
  timeout: healthFlags.failed_eds_health,
  draining: healthFlags.eds_status_draining,
};

export function flagsOf(health: ConfiguredHealth): number {
  return configured[health];
}

export function coarseHealth(flags: number): "healthy" | "degraded" | "unhealthy" {
  if ((flags & unhealthy) !== 0) return "unhealthy";
  return (flags & degraded) !== 0 ? "degraded" : "healthy";
}

/** Whether the host counts as no member when shares and panic are computed. */
export function isExcluded(flags: number): boolean {
  return (flags & excluded) !== 0;
}

export function flagNames(flags: number): HealthFlag[] {
  return (Object.keys(healthFlags) as HealthFlag[]).filter((name) => (flags & healthFlags[name]) !== 0);
}
