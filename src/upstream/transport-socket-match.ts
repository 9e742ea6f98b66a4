/** Which of a cluster's transport sockets a host's connections go through. */
import type { JsonObject, JsonValue } from "../config/message.ts";
import type { HostData } from "./hosts.ts";
import type { CompiledCluster, TransportSocketMatch } from "./settings.ts";

/** The namespace of endpoint metadata that is looked at. */
export const transportSocketMatchNamespace = "envoy.transport_socket_match";

export function transportSocketFor(settings: CompiledCluster, host: HostData): Pick<TransportSocketMatch, "name" | "socket"> {
  const metadata = host.metadata[transportSocketMatchNamespace] ?? {};
  return settings.transportSocketMatches.find(({ match }) => contains(metadata, match)) ?? { name: "default", socket: settings.transportSocket };
}

/** Whether `metadata` has each entry of `wanted`; a list there holds one that is wanted. */
export function contains(metadata: JsonObject, wanted: JsonObject): boolean {
  return Object.entries(wanted).every(([key, value]) => {
    const own = metadata[key];
    if (own === undefined) return false;
    return equal(own, value) || (Array.isArray(own) && own.some((item) => equal(item, value)));
  });
}

function equal(a: JsonValue, b: JsonValue): boolean {
  if (a === b) return true;
  if (typeof a !== "object" || typeof b !== "object" || a === null || b === null) return false;
  if (Array.isArray(a) || Array.isArray(b)) return Array.isArray(a) && Array.isArray(b) && a.length === b.length && a.every((item, i) => equal(item, b[i]));
  const keys = Object.keys(a);
  return keys.length === Object.keys(b).length && keys.every((key) => b[key] !== undefined && equal(a[key], b[key]));
}
