/** type.v3.TokenBucket of the connection rate limits. */
import { durationMs } from "../config/message.ts";
import type { TokenBucket } from "../config/schema/types/envoy.type.v3.d.ts";
import type { CompileContext, Honours } from "./extension.ts";
import { BucketRule, SharedTokenBucket } from "./shared-cells.ts";

export const honours: Honours = { "envoy.type.v3.TokenBucket": "*" };

const minFillMs = 50;

/** Reports what Envoy refuses; a missing bucket is the loader's finding. `what`: how the message begins. */
export function compileBucketRule(
  message: TokenBucket | undefined,
  owner: object,
  context: CompileContext,
  what = "local rate limit token bucket",
): BucketRule {
  const fillMs = durationMs(message?.fillInterval, minFillMs);
  if (fillMs < minFillMs)
    context.report(message ?? owner, "fill_interval", {
      code: "OR2112",
      text: `${what} fill timer must be >= ${minFillMs}ms`,
      hint: "fill less often, with more tokens",
    });
  return new BucketRule(message?.maxTokens ?? 1, message?.tokensPerFill ?? 1, Math.max(fillMs, minFillMs));
}

/** The bucket of all workers that belongs to `owner`. */
export function compileTokenBucket(message: TokenBucket | undefined, owner: object, context: CompileContext): SharedTokenBucket {
  return new SharedTokenBucket(owner, compileBucketRule(message, owner, context));
}
