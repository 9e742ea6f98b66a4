/** envoy.filters.listener.local_ratelimit: a token for each accepted connection, before anything is read from it. */
import { isMessage } from "../../../config/message.ts";
import type { LocalRateLimit } from "../../../config/schema/types/envoy.extensions.filters.listener.local_ratelimit.v3.d.ts";
import type { Extension, ListenerFilter } from "../../extension.ts";
import { honours as bucketHonours, compileTokenBucket } from "../../token-bucket.ts";

const typeName = "envoy.extensions.filters.listener.local_ratelimit.v3.LocalRateLimit";

export default {
  honours: { ...bucketHonours, [typeName]: "*", "envoy.config.core.v3.RuntimeFeatureFlag": "*" },
  listenerFilter: {
    compile(message, context) {
      if (!isMessage<LocalRateLimit>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      const flag = message.runtimeEnabled;
      const enabled = flag === undefined ? () => true : () => context.runtime.snapshot.boolean(flag.runtimeKey, flag.defaultValue ?? true);
      const bucket = compileTokenBucket(message.tokenBucket, message, context);
      const limited = context.stats.counter(`listener_local_ratelimit.${message.statPrefix}.rate_limited`);
      const filter: ListenerFilter = {
        maxReadBytes: 0,
        inspect() {
          if (!enabled() || bucket.take()) return "done";
          limited.inc();
          return "close";
        },
      };
      return () => filter;
    },
  },
} satisfies Extension;
