/** Token buckets of one local_ratelimit configuration: one for all requests, one for each descriptor. */
import type { LocalRateLimitDescriptor } from "../../../config/schema/types/envoy.extensions.common.ratelimit.v3.d.ts";
import type { LocalRateLimit } from "../../../config/schema/types/envoy.extensions.filters.http.local_ratelimit.v3.d.ts";
import { toBytes } from "../../../matching/string-matcher.ts";
import type { DescriptorEntry, RateLimitDescriptor } from "../../../router/rate-limit.ts";
import type { CompileContext } from "../../extension.ts";
import { type BucketRule, SharedBucketTable, SharedTokenBucket } from "../../shared-cells.ts";
import { compileBucketRule } from "../../token-bucket.ts";

export type Bucket = Pick<SharedTokenBucket, "rule" | "take" | "available">;

export interface LimitResult {
  readonly isAllowed: boolean;
  /** It would not have been allowed, were the descriptor not in shadow mode. */
  readonly isShadow: boolean;
  /** What x-ratelimit-* tell of; undefined where nothing limits. */
  readonly bucket: Bucket | undefined;
  readonly descriptor: RateLimitDescriptor | undefined;
}

export interface LocalRateLimiter {
  request(descriptors: readonly RateLimitDescriptor[]): LimitResult;
}

const defaultMaxDynamicDescriptors = 20;

interface Limit {
  readonly message: LocalRateLimitDescriptor;
  readonly entries: readonly DescriptorEntry[];
  readonly rule: BucketRule;
  readonly isShadow: boolean;
}

/** The settings of a limiter; `create` makes one: for all workers, or one of its own for a connection. */
export class LimiterSettings {
  readonly hasDescriptors: boolean;
  readonly #owner: LocalRateLimit;
  readonly #default: BucketRule | undefined;
  readonly #alwaysConsumesDefault: boolean;
  readonly #exact = new Map<string, Limit>();
  readonly #wild: Limit[] = [];
  readonly #maxDynamic: number;

  constructor(message: LocalRateLimit, context: CompileContext) {
    this.#owner = message;
    this.hasDescriptors = message.descriptors.length > 0;
    this.#default = message.tokenBucket === undefined ? undefined : compileBucketRule(message.tokenBucket, message, context);
    this.#alwaysConsumesDefault = message.alwaysConsumeDefaultTokenBucket ?? true;
    this.#maxDynamic = message.maxDynamicDescriptors ?? defaultMaxDynamicDescriptors;
    for (const descriptor of message.descriptors) {
      const rule = compileBucketRule(descriptor.tokenBucket, descriptor, context, "local rate limit descriptor token bucket");
      const entries = descriptor.entries.map(({ key, value }) => ({ key: toBytes(key), value: toBytes(value) }));
      const limit: Limit = { message: descriptor, entries, rule, isShadow: descriptor.shadowMode };
      const name = nameOf(entries);
      if (this.#exact.has(name))
        context.report(descriptor, undefined, {
          code: "OR3643",
          text: `duplicate descriptor in the local rate descriptor: ${descriptor.entries.map(({ key, value }) => `${key}=${value}`).join(", ")}`,
        });
      this.#exact.set(name, limit);
      if (entries.some(({ value }) => value === "")) this.#wild.push(limit);
    }
  }

  create(isShared: boolean): LocalRateLimiter {
    const owner = (message: object): object | undefined => (isShared ? message : undefined);
    const byDefault = this.#default === undefined ? undefined : new SharedTokenBucket(owner(this.#owner), this.#default);
    const exact = new Map<string, { readonly limit: Limit; readonly bucket: Bucket }>();
    for (const [name, limit] of this.#exact)
      if (!this.#wild.includes(limit)) exact.set(name, { limit, bucket: new SharedTokenBucket(owner(limit.message), limit.rule) });
    const wild = this.#wild.map((limit) => ({ limit, table: new SharedBucketTable(owner(limit.message) ?? {}, this.#maxDynamic, limit.rule) }));
    const alwaysConsumesDefault = this.#alwaysConsumesDefault;

    function find(descriptor: RateLimitDescriptor): { readonly limit: Limit; readonly bucket: Bucket } | undefined {
      const name = nameOf(descriptor.entries);
      const known = exact.get(name);
      if (known !== undefined) return known;
      for (const { limit, table } of wild) if (fits(limit.entries, descriptor.entries)) return { limit, bucket: table.bucket(name) };
      return undefined;
    }

    return {
      request(descriptors) {
        const matches: { readonly limit: Limit; readonly bucket: Bucket; readonly descriptor: RateLimitDescriptor }[] = [];
        for (const descriptor of descriptors) {
          const found = find(descriptor);
          if (found !== undefined) matches.push({ ...found, descriptor });
        }
        // The slowest bucket first: the sort is stable.
        if (matches.length > 1) matches.sort((a, b) => b.bucket.rule.nsPerToken - a.bucket.rule.nsPerToken);
        let shadow: LimitResult | undefined;
        for (const { limit, bucket, descriptor } of matches) {
          // As in Envoy, who asks for no tokens gets none.
          const hits = descriptor.hits ?? 1;
          if (hits > 0 && bucket.take(hits)) continue;
          if (!limit.isShadow) return { isAllowed: false, isShadow: false, bucket, descriptor };
          shadow ??= { isAllowed: true, isShadow: true, bucket, descriptor };
        }
        const first = matches[0] as (typeof matches)[number] | undefined;
        if (byDefault !== undefined && (first === undefined || alwaysConsumesDefault) && !byDefault.take())
          return { isAllowed: false, isShadow: false, bucket: byDefault, descriptor: undefined };
        return shadow ?? { isAllowed: true, isShadow: false, bucket: first?.bucket ?? byDefault, descriptor: first?.descriptor };
      },
    };
  }
}

function nameOf(entries: readonly DescriptorEntry[]): string {
  let name = "";
  for (const { key, value } of entries) name += `${key.length}:${key}${value.length}:${value}`;
  return name;
}

/** An empty value in the configuration stands for any. */
function fits(wanted: readonly DescriptorEntry[], given: readonly DescriptorEntry[]): boolean {
  return wanted.length === given.length && wanted.every(({ key, value }, i) => key === given[i].key && (value === "" || value === given[i].value));
}
