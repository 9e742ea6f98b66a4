/** envoy.transport_sockets.tls: TLS for listeners and clusters. */
import { isMessage } from "../../../config/message.ts";
import type { DownstreamTlsContext, UpstreamTlsContext } from "../../../config/schema/types/envoy.extensions.transport_sockets.tls.v3.d.ts";
import { honours as stringMatcherHonours } from "../../../matching/string-matcher.ts";
import { compileDownstreamTls, compileUpstreamTls, honours } from "../../../net/tls-context.ts";
import type { Extension } from "../../extension.ts";

const downstreamName = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext";
const upstreamName = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";

export default {
  honours: { ...stringMatcherHonours, ...honours },
  transportSocket: {
    downstream(message, context, { listenerScope }) {
      if (isMessage<DownstreamTlsContext>(message, downstreamName)) return compileDownstreamTls(message, context, listenerScope);
      context.report(message, undefined, {
        code: "OR3024",
        text: `${message.$typeName} is not for listeners`,
        hint: "a listener needs a DownstreamTlsContext",
      });
      return undefined;
    },
    upstream(message, context, scope) {
      if (isMessage<UpstreamTlsContext>(message, upstreamName)) return compileUpstreamTls(message, context, scope);
      context.report(message, undefined, { code: "OR3024", text: `${message.$typeName} is not for clusters`, hint: "a cluster needs an UpstreamTlsContext" });
      return undefined;
    },
  },
} satisfies Extension;
