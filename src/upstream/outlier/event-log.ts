/** envoy.data.cluster.v3.OutlierDetectionEvent, a line of JSON for each, as Envoy prints it. */
import type { LogWriter } from "../../extensions/extension.ts";
import type { EjectionType } from "./settings.ts";

export interface OutlierEvent {
  /** Undefined for the end of an ejection. */
  readonly type: EjectionType | "degraded" | undefined;
  readonly url: string;
  readonly enforced: boolean;
  readonly ejections: number;
  /** Whole seconds since the host was put back or taken out. */
  readonly secondsSinceLastAction: number | undefined;
  readonly successRate?: number;
  readonly average?: number;
  readonly threshold?: number;
}

const typeNames: Readonly<Record<EjectionType | "degraded", string>> = {
  consecutive_5xx: "CONSECUTIVE_5XX",
  consecutive_gateway_failure: "CONSECUTIVE_GATEWAY_FAILURE",
  consecutive_local_origin_failure: "CONSECUTIVE_LOCAL_ORIGIN_FAILURE",
  success_rate: "SUCCESS_RATE",
  local_origin_success_rate: "SUCCESS_RATE_LOCAL_ORIGIN",
  failure_percentage: "FAILURE_PERCENTAGE",
  local_origin_failure_percentage: "FAILURE_PERCENTAGE_LOCAL_ORIGIN",
  degraded: "DEGRADED",
};

export class OutlierEventLog {
  readonly #writer: LogWriter | undefined;
  readonly #cluster: string;
  readonly #wall: () => number;

  constructor(writer: LogWriter | undefined, cluster: string, wall: () => number) {
    this.#writer = writer;
    this.#cluster = cluster;
    this.#wall = wall;
  }

  write(event: OutlierEvent): void {
    if (this.#writer === undefined) return;
    const { type, secondsSinceLastAction: seconds } = event;
    const line = JSON.stringify({
      // The end of an ejection has no type: the first is printed.
      type: type === undefined ? "CONSECUTIVE_5XX" : typeNames[type],
      timestamp: new Date(this.#wall()).toISOString(),
      ...(seconds !== undefined && { secs_since_last_action: String(seconds) }),
      cluster_name: this.#cluster,
      upstream_url: event.url,
      action: type === undefined ? "UNEJECT" : "EJECT",
      num_ejections: event.ejections,
      enforced: event.enforced,
      ...detail(event),
    });
    this.#writer.write(`${Buffer.from(line).toString("latin1")}\n`);
  }
}

/** Whole percents: the messages hold integers. */
function detail({ type, successRate = 0, average = 0, threshold = 0 }: OutlierEvent): object {
  switch (type) {
    case undefined:
      return {};
    case "success_rate":
    case "local_origin_success_rate":
      return {
        eject_success_rate_event: {
          host_success_rate: whole(successRate),
          cluster_average_success_rate: whole(average),
          cluster_success_rate_ejection_threshold: whole(threshold),
        },
      };
    case "failure_percentage":
    case "local_origin_failure_percentage":
      return { eject_failure_percentage_event: { host_success_rate: whole(successRate) } };
    default:
      return { eject_consecutive_event: {} };
  }
}

function whole(percent: number): number {
  return Math.max(0, Math.trunc(percent));
}
