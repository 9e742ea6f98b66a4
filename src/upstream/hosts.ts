/** Hosts as plain data, as the main thread knows them and tells the workers. */
import type { JsonObject } from "../config/message.ts";
import type { Address } from "../net/connection.ts";

/** Endpoint health as configured (LbEndpoint.health_status). */
export type ConfiguredHealth = "healthy" | "degraded" | "unhealthy" | "draining" | "timeout";

export interface HostData {
  readonly address: Address;
  readonly hostname: string;
  readonly healthCheckHostname: string;
  readonly weight: number;
  readonly priority: number;
  /** load_balancing_weight of its locality; 0 where it has none. */
  readonly localityWeight: number;
  readonly locality: { readonly region: string; readonly zone: string; readonly subZone: string };
  readonly metadata: Record<string, JsonObject>;
  readonly health: ConfiguredHealth;
  /** LOGICAL_DNS: the host stays the same when its address changes. */
  readonly logicalName?: string;
}

/** The members of one cluster, whole; sent to each worker whenever they change. */
export interface HostUpdate {
  readonly cluster: string;
  readonly hosts: readonly HostData[];
  /** Where it came with the members (EDS). */
  readonly overprovisioningPercent?: number;
  /** Circuit breaker cells, see resource-manager.ts. */
  readonly cells: SharedArrayBuffer;
}

/** What makes a host the same one over updates. */
export function hostKey(host: HostData): string {
  return host.logicalName ?? `${host.address.text}|${host.hostname}|${host.priority}`;
}
