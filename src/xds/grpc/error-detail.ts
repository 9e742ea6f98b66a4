/** Why an answer was refused, as the management server is told. */
import type { DiscoveryRequest } from "../../config/schema/types/envoy.service.discovery.v3.d.ts";

/** google.rpc.Code INTERNAL, as Envoy has it. */
const internal = 13;
/** Servers limit the size of headers and messages; the log has all of it. */
const maxLength = 4096;

export function errorDetail(refusal: string): NonNullable<DiscoveryRequest["errorDetail"]> {
  const message = refusal.length > maxLength ? `${refusal.slice(0, maxLength)}...(truncated)` : refusal;
  return { $typeName: "google.rpc.Status", code: internal, message, details: [] } as NonNullable<DiscoveryRequest["errorDetail"]>;
}
