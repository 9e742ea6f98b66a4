/** envoy.filters.network.local_ratelimit: a token for each new connection, or it is closed. */
import { isMessage } from "../../../config/message.ts";
import type { LocalRateLimit } from "../../../config/schema/types/envoy.extensions.filters.network.local_ratelimit.v3.d.ts";
import type { Counter } from "../../../stats/stats.ts";
import type { Extension, NetworkFilter, NetworkFilterCallbacks } from "../../extension.ts";
import type { SharedTokenBucket } from "../../shared-cells.ts";
import { honours as bucketHonours, compileTokenBucket } from "../../token-bucket.ts";

const typeName = "envoy.extensions.filters.network.local_ratelimit.v3.LocalRateLimit";

class LocalRateLimitFilter implements NetworkFilter {
  readonly #bucket: SharedTokenBucket;
  readonly #limited: Counter;
  readonly #enabled: () => boolean;

  constructor(bucket: SharedTokenBucket, limited: Counter, enabled: () => boolean) {
    this.#bucket = bucket;
    this.#limited = limited;
    this.#enabled = enabled;
  }

  onNewConnection({ connection, info }: NetworkFilterCallbacks): "continue" | "stop" {
    if (!this.#enabled() || this.#bucket.take()) return "continue";
    this.#limited.inc();
    info.setFlag("URX");
    info.downstreamLocalCloseReason = "local_ratelimit_close_over_limit";
    connection.close("no_flush", "local_ratelimit_close_over_limit");
    return "stop";
  }
}

export default {
  honours: { ...bucketHonours, [typeName]: ["stat_prefix", "token_bucket", "runtime_enabled"], "envoy.config.core.v3.RuntimeFeatureFlag": "*" },
  networkFilter: {
    compile(message, context) {
      if (!isMessage<LocalRateLimit>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      const flag = message.runtimeEnabled;
      const enabled = flag === undefined ? () => true : () => context.runtime.snapshot.boolean(flag.runtimeKey, flag.defaultValue ?? true);
      const bucket = compileTokenBucket(message.tokenBucket, message, context);
      const limited = context.stats.counter(`local_rate_limit.${message.statPrefix}.rate_limited`);
      return () => new LocalRateLimitFilter(bucket, limited, enabled);
    },
  },
} satisfies Extension;
