/** What local_ratelimit and ratelimit share: which `rate_limits` count for a request. */
import { noRateLimits, type RateLimitDescriptor, type RateLimitEntry, type RateLimitSubject } from "../../router/rate-limit.ts";
import type { Runtime } from "../../runtime/runtime.ts";

/** Whether those of the virtual host count, where the route itself does not say that they do (by number, as in the protos). */
export const vhRateLimits = ["override", "include", "ignore"] as const;
export type VhRateLimits = (typeof vhRateLimits)[number];

/** The lists that count: of the route, then of its virtual host. */
export function applicableRateLimits(route: RateLimitSubject["route"], option: VhRateLimits): readonly (readonly RateLimitEntry[])[] {
  if (route === undefined) return [];
  const own = route.kind === "forward" ? route.rateLimits : noRateLimits;
  const includes = option === "include" || (route.kind === "forward" && route.includeVhRateLimits);
  if (includes || (option === "override" && own.length === 0)) return [own, route.virtualHost.rateLimits];
  return [own];
}

export function addDescriptors(
  to: RateLimitDescriptor[],
  entries: readonly RateLimitEntry[],
  subject: RateLimitSubject,
  counts: (entry: RateLimitEntry) => boolean,
): void {
  for (const entry of entries) {
    if (!counts(entry)) continue;
    const descriptor = entry.descriptor(subject);
    if (descriptor !== undefined) to.push(descriptor);
  }
}

/** `ratelimit.<disable_key>.http_filter_enabled` */
export function isSwitchedOn(entry: RateLimitEntry, runtime: Runtime, random: number): boolean {
  return entry.disableKey === "" || runtime.snapshot.featureEnabled(`ratelimit.${entry.disableKey}.http_filter_enabled`, hundred, random);
}

const hundred = { numerator: 100, denominator: 100 } as const;
