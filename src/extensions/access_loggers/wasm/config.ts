/** envoy.access_loggers.wasm: a WebAssembly module is told of each stream that ends. */
import { isMessage } from "../../../config/message.ts";
import type { WasmAccessLog } from "../../../config/schema/types/envoy.extensions.access_loggers.wasm.v3.d.ts";
import type { Extension } from "../../extension.ts";
import { compilePlugin, honours } from "../../wasm/compile.ts";

const typeName = "envoy.extensions.access_loggers.wasm.v3.WasmAccessLog";

export default {
  honours: { ...honours, [typeName]: "*" },
  accessLogger: {
    compile(message, context) {
      if (!isMessage<WasmAccessLog>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      const plugin = compilePlugin(message.config, context, message, "config");
      return {
        log: ({ info, requestHeaders, responseHeaders, responseTrailers }) => {
          plugin?.acquire()?.root.onLog({ info, requestHeaders, responseHeaders, responseTrailers });
        },
      };
    },
  },
} satisfies Extension;
