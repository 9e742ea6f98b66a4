/** The rate limit service: envoy.service.ratelimit.v3.RateLimitService. */
import { decodeMessage } from "../../../config/binary.ts";
import { encodeMessage } from "../../../config/binary-encode.ts";
import { durationMs } from "../../../config/message.ts";
import { envoySchema } from "../../../config/schema/registry.ts";
import type { RateLimitRequest, RateLimitResponse } from "../../../config/schema/types/envoy.service.ratelimit.v3.d.ts";
import type { RateLimitUnit } from "../../../config/schema/types/envoy.type.v3.d.ts";
import type { RateLimitDescriptor } from "../../../router/rate-limit.ts";

const pkg = "envoy.service.ratelimit.v3.";
const common = "envoy.extensions.common.ratelimit.v3.RateLimitDescriptor";

/** Octets of a header to what protobuf wants; what is no UTF-8 is replaced. */
const text = (octets: string): string => Buffer.from(octets, "latin1").toString("utf8");

export function encodeRequest(domain: string, descriptors: readonly RateLimitDescriptor[]): Buffer {
  const message: RateLimitRequest = {
    $typeName: `${pkg}RateLimitRequest`,
    domain,
    descriptors: descriptors.map(({ entries, limit, hits, isNegativeHits }) => ({
      $typeName: common,
      entries: entries.map(({ key, value }) => ({ $typeName: `${common}.Entry`, key: text(key), value: text(value) })),
      limit: limit && { $typeName: `${common}.RateLimitOverride`, requestsPerUnit: limit.requestsPerUnit, unit: limit.unit as RateLimitUnit },
      hitsAddend: hits === undefined ? undefined : BigInt(hits),
      isNegativeHits,
    })),
    hitsAddend: 0,
  };
  return encodeMessage(message);
}

/** undefined: it is none. */
export function decodeResponse(data: Buffer): RateLimitResponse | undefined {
  const desc = envoySchema().message(`${pkg}RateLimitResponse`);
  if (desc === undefined) return undefined;
  try {
    return decodeMessage(desc, data, undefined) as unknown as RateLimitResponse;
  } catch {
    return undefined;
  }
}

const day = 86_400;
/** Seconds of RateLimitResponse.RateLimit.Unit, by number. */
const unitSeconds = [0, 1, 60, 3600, day, 30 * day, 365 * day, 7 * day];

export interface XRateLimitHeaders {
  readonly limit: string;
  readonly remaining: string;
  readonly reset: string;
}

/** draft-polli-ratelimit-headers-03: the limit that is nearest, and all that there are. undefined where the service told of none. */
export function xRateLimitHeaders(statuses: RateLimitResponse["statuses"]): XRateLimitHeaders | undefined {
  let nearest: RateLimitResponse["statuses"][number] | undefined;
  let policy = "";
  for (const status of statuses) {
    const limit = status.currentLimit;
    if (limit === undefined) continue;
    if (nearest === undefined || status.limitRemaining < nearest.limitRemaining) nearest = status;
    const window = (unitSeconds[limit.unit] ?? 0) * (limit.unitMultiplier ?? 1);
    if (window === 0) continue;
    policy += `, ${limit.requestsPerUnit};w=${window}`;
    if (limit.name !== "") policy += `;name="${limit.name.replaceAll(/[^\x20-\x7e]|["\\]/g, "")}"`;
  }
  if (nearest?.currentLimit === undefined) return undefined;
  return {
    limit: `${nearest.currentLimit.requestsPerUnit}${policy}`,
    remaining: String(nearest.limitRemaining),
    reset: String(resetSeconds(nearest)),
  };
}

export function resetSeconds(status: RateLimitResponse["statuses"][number]): number {
  return Math.trunc(durationMs(status.durationUntilReset, 0) / 1000);
}
