/** envoy.filters.http.wasm: a WebAssembly module that speaks Proxy-Wasm. */
import { isMessage } from "../../../config/message.ts";
import type { Wasm } from "../../../config/schema/types/envoy.extensions.filters.http.wasm.v3.d.ts";
import type { Extension } from "../../extension.ts";
import { compilePlugin, honours } from "../../wasm/compile.ts";
import { WasmFilter } from "./filter.ts";

const typeName = "envoy.extensions.filters.http.wasm.v3.Wasm";

export default {
  honours: { ...honours, [typeName]: "*" },
  httpFilter: {
    compile(message, context) {
      if (!isMessage<Wasm>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      const plugin = compilePlugin(message.config, context, message, "config");
      return plugin === undefined ? () => ({}) : () => new WasmFilter(plugin);
    },
  },
} satisfies Extension;
