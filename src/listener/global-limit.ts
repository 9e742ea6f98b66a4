/** The limit on connections of clients over all listeners and workers: the overload manager's monitor, or the runtime key that came before it. */
import { isMessage } from "../config/message.ts";
import type { Bootstrap } from "../config/schema/types/envoy.config.bootstrap.v3.d.ts";
import type { DownstreamConnectionsConfig } from "../config/schema/types/envoy.extensions.resource_monitors.downstream_connections.v3.d.ts";
import { SharedCount } from "../extensions/shared-cells.ts";
import type { Runtime } from "../runtime/runtime.ts";

const runtimeKey = "overload.global_downstream_max_connections";

/** What workers are started with. */
export interface GlobalLimitSettings {
  /** undefined: only the runtime key may say. */
  readonly limit: number | undefined;
  readonly cells: SharedArrayBuffer;
}

export function compileGlobalLimit(bootstrap: Bootstrap, concurrency: number): GlobalLimitSettings {
  let limit: number | undefined;
  for (const { configType } of bootstrap.overloadManager?.resourceMonitors ?? [])
    if (isMessage<DownstreamConnectionsConfig>(configType.value, "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig"))
      limit = Number(configType.value.maxActiveDownstreamConnections);
  return { limit, cells: new SharedArrayBuffer((concurrency + 1) * 4) };
}

/** The limit as one worker asks it. */
export class GlobalLimit {
  readonly #count: SharedCount;
  readonly #limit: number | undefined;
  readonly #runtime: Runtime;

  constructor(settings: GlobalLimitSettings, concurrency: number, workerIndex: number, runtime: Runtime) {
    this.#count = new SharedCount({ $cells: settings.cells }, concurrency, workerIndex);
    this.#limit = settings.limit;
    this.#runtime = runtime;
  }

  tryAdd(): boolean {
    return this.#count.tryAdd(this.#limit ?? this.#runtime.snapshot.integer(runtimeKey, Number.POSITIVE_INFINITY));
  }
  remove(): void {
    this.#count.remove();
  }
}
