/** Where a statsd sink sends to. */
import type { Address as AddressMessage } from "../../config/schema/types/envoy.config.core.v3.d.ts";
import { parseAddressMessage } from "../../net/address.ts";
import type { Address } from "../../net/connection.ts";
import type { CompileContext } from "../extension.ts";

/** An IP address and a port; undefined, with a finding, for anything else. */
export function compileDatagramAddress(owner: object, message: AddressMessage, context: CompileContext): Extract<Address, { kind: "ip" }> | undefined {
  const address = parseAddressMessage(message);
  if (address?.kind === "ip") return address;
  context.report(owner, "address", {
    code: address === undefined ? "OR2111" : "OR4003",
    text:
      address === undefined ? "malformed IP address: a statsd sink sends to an IP address" : "a statsd sink sends to an IP address: a pipe is not supported",
    hint: "address: { socket_address: { protocol: UDP, address: 127.0.0.1, port_value: 8125 } }",
  });
  return undefined;
}

/** Envoy's where none is given. */
export const defaultPrefix = "envoy";
