/** envoy.filters.network.http_connection_manager */
import type { AnyMessage } from "../../config/message.ts";
import type { HttpConnectionManager } from "../../config/schema/types/envoy.extensions.filters.network.http_connection_manager.v3.d.ts";
import type { Extension } from "../../extensions/extension.ts";
import { ConnectionManager } from "./connection-manager.ts";
import { honours } from "./honours.ts";
import { compileManager } from "./settings.ts";

export default {
  honours,
  networkFilter: {
    terminal: true,
    compile(message: AnyMessage, context, scope) {
      const settings = compileManager(message as unknown as HttpConnectionManager, context, scope);
      return () => new ConnectionManager(settings);
    },
  },
} satisfies Extension;
