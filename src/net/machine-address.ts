/** The machine's own address, for X-Forwarded-For where the client is this machine. */
import { networkInterfaces } from "node:os";

let known: string | undefined;

/** The first IPv4 address that is not a loopback one, 127.0.0.1 where there is none (Envoy's Network::Utility::getLocalAddress). Looked up once. */
export function machineAddress(): string {
  if (known === undefined) {
    known = "127.0.0.1";
    for (const addresses of Object.values(networkInterfaces())) {
      const found = addresses?.find((address) => address.family === "IPv4" && !address.internal);
      if (found === undefined) continue;
      known = found.address;
      break;
    }
  }
  return known;
}
