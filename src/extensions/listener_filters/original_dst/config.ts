/** envoy.filters.listener.original_dst: the destination that a connection had before netfilter redirected it here. */
import { nativeSockets } from "../../../listener/native-sockets.ts";
import type { Extension, ListenerFilter } from "../../extension.ts";

export default {
  honours: { "envoy.extensions.filters.listener.original_dst.v3.OriginalDst": "*" },
  listenerFilter: {
    compile(message, context) {
      const native = nativeSockets();
      if (native === undefined)
        context.report(message, undefined, {
          code: "OR4003",
          text: "original_dst needs the optional package koffi, which is not installed",
          hint: "npm install koffi",
        });
      const filter: ListenerFilter = {
        maxReadBytes: 0,
        inspect(_peeked, socket) {
          const { descriptor = -1, localAddress } = socket;
          if (localAddress.kind !== "ip" || descriptor < 0) return "done";
          // A connection that was not redirected has none: it keeps its address.
          const original = native?.originalDestination(descriptor, localAddress.family);
          if (original !== undefined) socket.localAddress = original;
          return "done";
        },
      };
      return () => filter;
    },
  },
} satisfies Extension;
