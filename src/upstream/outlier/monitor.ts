/**
 * What a worker tells of the exchanges with one host. All workers count in the same cells, so that together they see what one process would:
 * five failures in a row are five, wherever they happen.
 */
import type { ResponseHeaders } from "../../http/header-map.ts";
import type { Runtime } from "../../runtime/runtime.ts";
import { type Column, column, type HostCells } from "../host-cells.ts";
import { healthFlags } from "../host-health.ts";
import type { HostMonitor, OutlierResult } from "../upstream.ts";
import type { OutlierSettings, ReportedType } from "./settings.ts";

/** What the main thread is told of a host; "unhealthy": the host said so itself. */
export type HostEvent = ReportedType | "unhealthy";

export interface MonitorOptions {
  readonly outlier: OutlierSettings | undefined;
  /** Somebody checks this host's health. */
  readonly checked: boolean;
  readonly cells: HostCells;
  readonly runtime: Runtime;
  readonly tell: (event: HostEvent) => void;
}

export class WorkerHostMonitor implements HostMonitor {
  readonly #options: MonitorOptions;
  readonly #cells: HostCells;

  constructor(options: MonitorOptions) {
    this.#options = options;
    this.#cells = options.cells;
  }

  putResult(result: OutlierResult, httpStatus: number | undefined): void {
    const { outlier } = this.#options;
    if (outlier === undefined) return;
    if (!outlier.splitExternalLocalOriginErrors) {
      const status = httpStatus ?? meaning[result];
      if (status !== undefined) this.#putStatus(status, outlier);
      return;
    }
    switch (result) {
      case "local_origin_connect_success":
      case "local_origin_connect_success_final":
        this.#localSuccess();
        break;
      case "local_origin_timeout":
      case "local_origin_connect_failed":
        this.#cells.add(column.localTotal, 1);
        this.#failed(column.consecutiveLocalOriginFailure, "consecutive_local_origin_failure", outlier.consecutiveLocalOriginFailure);
        break;
      case "ext_origin_request_failed":
        this.#putStatus(httpStatus ?? 503, outlier);
        break;
      case "ext_origin_request_success":
        this.#putStatus(httpStatus ?? 200, outlier);
        this.#localSuccess();
        break;
    }
  }

  putResponse(headers: ResponseHeaders, httpStatus: number): void {
    const matches = this.#options.outlier?.errorMatcher;
    // Where a matcher decides, the status itself says nothing.
    if (matches !== undefined) {
      if (matches(headers)) this.putResult("ext_origin_request_failed", 500);
      else this.putResult("ext_origin_request_success", 200);
    } else this.putResult(httpStatus >= 500 ? "ext_origin_request_failed" : "ext_origin_request_success", httpStatus);
  }

  putResponseTime(): void {}

  putDegraded(): void {
    if (this.#options.outlier?.detectDegraded !== true) return;
    if ((this.#cells.get(column.flags) & healthFlags.degraded_outlier_detection) === 0) this.#options.tell("degradation");
  }

  setUnhealthy(): void {
    if (this.#options.checked) this.#options.tell("unhealthy");
  }

  #putStatus(status: number, outlier: OutlierSettings): void {
    const cells = this.#cells;
    cells.add(column.externalTotal, 1);
    if (status < 500 || status > 599) {
      cells.add(column.externalSuccesses, 1);
      this.#clear(column.consecutive5xx);
      this.#clear(column.consecutiveGatewayFailure);
      return;
    }
    if (status >= 502 && status <= 504) this.#failed(column.consecutiveGatewayFailure, "consecutive_gateway_failure", outlier.consecutiveGatewayFailure);
    else this.#clear(column.consecutiveGatewayFailure);
    this.#failed(column.consecutive5xx, "consecutive_5xx", outlier.consecutive5xx);
  }

  #localSuccess(): void {
    this.#cells.add(column.localTotal, 1);
    this.#cells.add(column.localSuccesses, 1);
    this.#clear(column.consecutiveLocalOriginFailure);
  }

  #failed(at: Column, event: ReportedType, threshold: number): void {
    const count = this.#cells.add(at, 1) + 1;
    if (count === this.#options.runtime.snapshot.integer(`outlier_detection.${event}`, threshold)) this.#options.tell(event);
  }

  /** Mostly it is 0: reading costs less than writing a cell that others read too. */
  #clear(at: Column): void {
    if (this.#cells.get(at) !== 0) this.#cells.set(at, 0);
  }
}

/** The status that stands for a result; undefined: the answer will tell. */
const meaning: Readonly<Record<OutlierResult, number | undefined>> = {
  local_origin_connect_success: undefined,
  local_origin_connect_success_final: 200,
  local_origin_connect_failed: 503,
  local_origin_timeout: 504,
  ext_origin_request_success: 200,
  ext_origin_request_failed: 500,
};
