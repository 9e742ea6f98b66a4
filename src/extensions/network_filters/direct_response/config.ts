/** envoy.filters.network.direct_response: says its text and closes. */
import { isMessage } from "../../../config/message.ts";
import type { Config } from "../../../config/schema/types/envoy.extensions.filters.network.direct_response.v3.d.ts";
import { readDataSource } from "../../../net/tls/data-source.ts";
import type { Extension, NetworkFilter, NetworkFilterCallbacks } from "../../extension.ts";

const typeName = "envoy.extensions.filters.network.direct_response.v3.Config";

class DirectResponseFilter implements NetworkFilter {
  readonly #response: Buffer;

  constructor(response: Buffer) {
    this.#response = response;
  }

  onNewConnection({ connection, info }: NetworkFilterCallbacks): "stop" {
    if (this.#response.length > 0) connection.write(this.#response);
    info.responseCodeDetails = "direct_response";
    connection.close("flush", "direct_response");
    return "stop";
  }
}

export default {
  honours: { [typeName]: "*", "envoy.config.core.v3.DataSource": ["filename", "inline_bytes", "inline_string", "environment_variable"] },
  networkFilter: {
    terminal: true,
    compile(message, context) {
      if (!isMessage<Config>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      const response = readDataSource(message.response, context) ?? Buffer.alloc(0);
      return () => new DirectResponseFilter(response);
    },
  },
} satisfies Extension;
