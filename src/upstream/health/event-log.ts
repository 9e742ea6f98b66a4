/** envoy.data.core.v3.HealthCheckEvent, a line of JSON for each. Fields are in the order of their numbers, as Envoy prints them. */
import type { LogWriter } from "../../extensions/extension.ts";
import type { Address } from "../../net/connection.ts";
import type { HostData } from "../hosts.ts";

export type FailureType = "ACTIVE" | "PASSIVE" | "NETWORK" | "NETWORK_TIMEOUT";

export type HealthCheckEvent =
  | { readonly kind: "add_healthy_event"; readonly firstCheck: boolean }
  | { readonly kind: "eject_unhealthy_event"; readonly failure: FailureType; readonly status: number }
  | { readonly kind: "health_check_failure_event"; readonly failure: FailureType; readonly firstCheck: boolean; readonly status: number }
  | { readonly kind: "degraded_healthy_host" | "no_longer_degraded_host" | "successful_health_check_event" };

export class HealthEventLog {
  readonly #writers: readonly LogWriter[];
  readonly #cluster: string;
  readonly #checker: string;
  readonly #wall: () => number;
  readonly #printsEmptyMetadata: boolean;

  /** `checker`: "HTTP", "TCP". `wall`: milliseconds since 1970. `printsEmptyMetadata`: hosts that come from DNS have metadata, be it empty. */
  constructor(writers: readonly LogWriter[], cluster: string, checker: string, printsEmptyMetadata: boolean, wall: () => number) {
    this.#writers = writers;
    this.#cluster = cluster;
    this.#checker = checker;
    this.#wall = wall;
    this.#printsEmptyMetadata = printsEmptyMetadata;
  }

  write(host: HostData, event: HealthCheckEvent): void {
    if (this.#writers.length === 0) return;
    const { kind } = event;
    const body = bodyOf(event);
    const early = kind === "eject_unhealthy_event" || kind === "add_healthy_event";
    const metadata =
      Object.keys(host.metadata).length === 0 && !this.#printsEmptyMetadata ? {} : { metadata: { filter_metadata: host.metadata, typed_filter_metadata: {} } };
    const { region, zone, subZone } = host.locality;
    const line = JSON.stringify({
      health_checker_type: this.#checker,
      host: addressJson(host.address),
      cluster_name: this.#cluster,
      ...(early && { [kind]: body }),
      timestamp: new Date(this.#wall()).toISOString(),
      ...(!early && kind !== "successful_health_check_event" && { [kind]: body }),
      ...metadata,
      locality: { region, zone, sub_zone: subZone },
      ...(kind === "successful_health_check_event" && { [kind]: body }),
    });
    // Bytes: writers take latin1.
    const bytes = `${Buffer.from(line).toString("latin1")}\n`;
    for (const writer of this.#writers) writer.write(bytes);
  }
}

function bodyOf(event: HealthCheckEvent): object {
  switch (event.kind) {
    case "add_healthy_event":
      return { first_check: event.firstCheck };
    case "eject_unhealthy_event":
      return { failure_type: event.failure, http_status_code: event.status };
    case "health_check_failure_event":
      return { failure_type: event.failure, first_check: event.firstCheck, http_status_code: event.status };
    default:
      return {};
  }
}

function addressJson(address: Address): object {
  if (address.kind === "pipe") return { pipe: { path: address.path, mode: 0 } };
  return {
    socket_address: {
      protocol: "TCP",
      address: address.ip,
      port_value: address.port,
      resolver_name: "",
      ipv4_compat: false,
      network_namespace_filepath: "",
    },
  };
}
