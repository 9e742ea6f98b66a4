/** envoy.filters.network.connection_limit: at most so many connections at once, over all workers. */
import { durationMs, isMessage } from "../../../config/message.ts";
import type { ConnectionLimit } from "../../../config/schema/types/envoy.extensions.filters.network.connection_limit.v3.d.ts";
import type { Timer, TimerWheel } from "../../../net/timer-wheel.ts";
import type { Counter, Gauge } from "../../../stats/stats.ts";
import type { Extension, NetworkFilter, NetworkFilterCallbacks } from "../../extension.ts";
import { SharedCount } from "../../shared-cells.ts";

const typeName = "envoy.extensions.filters.network.connection_limit.v3.ConnectionLimit";

interface Settings {
  readonly max: number;
  readonly delayMs: number;
  readonly enabled: () => boolean;
  readonly count: SharedCount;
  readonly timers: TimerWheel;
  readonly active: Gauge;
  readonly limited: Counter;
}

class ConnectionLimitFilter implements NetworkFilter {
  readonly #settings: Settings;
  #state: "idle" | "counted" | "refused" = "idle";
  #timer: Timer | undefined = undefined;

  constructor(settings: Settings) {
    this.#settings = settings;
  }

  onNewConnection({ connection, info }: NetworkFilterCallbacks): "continue" | "stop" {
    const { count, max, active, limited, enabled, delayMs, timers } = this.#settings;
    if (!enabled()) return "continue";
    if (count.tryAdd(max)) {
      this.#state = "counted";
      active.inc();
      return "continue";
    }
    this.#state = "refused";
    limited.inc();
    const close = (): void => {
      info.downstreamLocalCloseReason = "over_connection_limit";
      connection.close("no_flush", "over_connection_limit");
    };
    if (delayMs > 0) {
      this.#timer = timers.createTimer(close);
      this.#timer.enable(delayMs);
    } else close();
    return "stop";
  }

  onData(): "continue" | "stop" {
    return this.#state === "refused" ? "stop" : "continue";
  }

  onDestroy(): void {
    this.#timer?.disable();
    if (this.#state !== "counted") return;
    this.#state = "idle";
    this.#settings.count.remove();
    this.#settings.active.dec();
  }
}

export default {
  honours: { [typeName]: "*", "envoy.config.core.v3.RuntimeFeatureFlag": "*" },
  networkFilter: {
    compile(message, context) {
      if (!isMessage<ConnectionLimit>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      const flag = message.runtimeEnabled;
      const scope = context.stats.scope(`connection_limit.${message.statPrefix}.`);
      const settings: Settings = {
        max: Number(message.maxConnections ?? 1n),
        delayMs: durationMs(message.delay, 0),
        enabled: flag === undefined ? () => true : () => context.runtime.snapshot.boolean(flag.runtimeKey, flag.defaultValue ?? true),
        count: new SharedCount(message, context.options.concurrency, context.workerIndex),
        timers: context.timers,
        active: scope.gauge("active_connections"),
        limited: scope.counter("limited_connections"),
      };
      return () => new ConnectionLimitFilter(settings);
    },
  },
} satisfies Extension;
