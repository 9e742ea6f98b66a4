/** envoy.filters.network.echo: gives back what it gets. */
import type { Connection, ConnectionCallbacks } from "../../../net/connection.ts";
import type { Extension, NetworkFilter, NetworkFilterCallbacks } from "../../extension.ts";

class EchoFilter implements NetworkFilter, ConnectionCallbacks {
  #connection!: Connection;

  onNewConnection(callbacks: NetworkFilterCallbacks): "continue" {
    this.#connection = callbacks.connection;
    this.#connection.addCallbacks(this);
    return "continue";
  }

  onData(data: Buffer, endStream: boolean): "stop" {
    this.#connection.write(data, endStream);
    return "stop";
  }

  onEvent(): void {}
  /** A client that sends and does not read is not read from. */
  onAboveWriteBufferHighWatermark(): void {
    this.#connection.readDisable(true);
  }
  onBelowWriteBufferLowWatermark(): void {
    this.#connection.readDisable(false);
  }
}

export default {
  honours: { "envoy.extensions.filters.network.echo.v3.Echo": "*" },
  networkFilter: { terminal: true, compile: () => () => new EchoFilter() },
} satisfies Extension;
