/** envoy.transport_sockets.raw_buffer: plain bytes, said aloud. */
import type { Extension } from "../../extension.ts";

export default {
  honours: { "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer": "*" },
  transportSocket: {
    downstream: () => ({ tls: undefined }),
    upstream: () => ({ options: () => undefined }),
  },
} satisfies Extension;
