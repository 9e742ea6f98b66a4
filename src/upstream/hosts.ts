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
  /** Where health checks go, where not to `address`; port 0: that of the address. */
  readonly healthCheckAddress?: Address;
  readonly healthCheckPort?: number;
  /** Active health checks leave it out. */
  readonly isNotChecked?: boolean;
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
  /** Where hosts are watched (health checks, outlier detection): what all threads know of them, see host-cells.ts. In the order of `hosts`. */
  readonly watched?: {
    readonly slabs: readonly SharedArrayBuffer[];
    readonly rows: readonly number[];
    /** What to call a host by towards the main thread. */
    readonly ids: readonly number[];
  };
}

/** What makes a host the same one over updates. */
export function hostKey(host: HostData): string {
  const key = host.logicalName ?? `${host.address.text}|${host.hostname}|${host.priority}`;
  // Checked elsewhere, or not at all: what was found out before says nothing.
  if (host.healthCheckAddress === undefined && host.healthCheckPort === undefined && host.isNotChecked === undefined) return key;
  return `${key}|${host.healthCheckAddress?.text ?? ""}|${host.healthCheckPort ?? 0}|${host.isNotChecked ?? false}`;
}
