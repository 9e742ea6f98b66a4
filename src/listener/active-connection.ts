/** A connection that has its filter chain: what its listener counts and logs of it. */
import type { NetworkFilter } from "../extensions/extension.ts";
import type { AccessLogType, FormatContext } from "../formatter/formatter.ts";
import type { StreamInfo } from "../http/stream-info.ts";
import type { ConnectionCallbacks, ConnectionEvent } from "../net/connection.ts";
import type { SocketConnection } from "../net/socket-connection.ts";
import type { TimerWheel } from "../net/timer-wheel.ts";
import type { MemoryHolder } from "../overload/thread-state.ts";
import type { CompiledChain, CompiledListener } from "./compile.ts";
import { startNetworkFilters } from "./network-filter-chain.ts";
import type { ListenerStats } from "./stats.ts";

export function countOpened(stats: ListenerStats): void {
  stats.downstream_cx_total.inc();
  stats.downstream_cx_active.inc();
  stats.worker_downstream_cx_total.inc();
  stats.worker_downstream_cx_active.inc();
}

export function countClosed(stats: ListenerStats, lengthMs: number): void {
  stats.downstream_cx_destroy.inc();
  stats.downstream_cx_active.dec();
  stats.worker_downstream_cx_active.dec();
  stats.downstream_cx_length_ms.record(Math.round(lengthMs));
}

export class ActiveConnection implements ConnectionCallbacks {
  readonly chain: CompiledChain;
  readonly connection: SocketConnection;
  readonly listener: CompiledListener;
  readonly #info: StreamInfo;
  readonly #timers: TimerWheel;
  readonly #openedMs: number;
  readonly #onGone: (gone: ActiveConnection) => void;
  #filters: readonly NetworkFilter[] = [];

  constructor(
    compiled: CompiledListener,
    chain: CompiledChain,
    connection: SocketConnection,
    info: StreamInfo,
    openedMs: number,
    onGone: (gone: ActiveConnection) => void,
    timers: TimerWheel,
  ) {
    this.listener = compiled;
    this.chain = chain;
    this.connection = connection;
    this.#info = info;
    this.#openedMs = openedMs;
    this.#onGone = onGone;
    this.#timers = timers;
  }

  start(): void {
    const { chain } = this;
    if (chain.filters.length === 0) {
      this.listener.stats.network_extension_config_missing.inc();
      this.#info.downstreamLocalCloseReason = "no_filters";
    }
    this.#filters = startNetworkFilters(chain.filters, this.connection, this.#info);
    // Told last, so that the filters' own accounts are closed when this one is.
    this.connection.addCallbacks(this);
    if (this.connection.state === "closed") this.onEvent("local_close");
  }

  onEvent(event: ConnectionEvent): void {
    if (event === "connected") return;
    const { stats, accessLog, logsAccess } = this.listener;
    const now = this.#timers.clock.now();
    countClosed(stats, now - this.#openedMs);
    for (const filter of this.#filters) filter.onDestroy?.();
    this.#filters = [];
    this.#onGone(this);
    if (!logsAccess) return;
    const info = this.#info;
    info.endMs = now;
    info.bytesReceived = this.connection.bytesReceived;
    info.bytesSent = this.connection.bytesSent;
    accessLog.log(new ConnectionLog(info));
  }

  memoryHolders(): MemoryHolder[] {
    return this.#filters.flatMap((filter) => filter.memoryHolders?.() ?? []);
  }

  onAboveWriteBufferHighWatermark(): void {}
  onBelowWriteBufferLowWatermark(): void {}
}

/** A connection as its listener's access logs see it. */
export class ConnectionLog implements FormatContext {
  readonly info: StreamInfo;
  readonly requestHeaders = undefined;
  readonly responseHeaders = undefined;
  readonly responseTrailers = undefined;
  readonly localReplyBody = "";
  /** Envoy's listeners say none. */
  readonly accessLogType: AccessLogType = "NotSet";
  constructor(info: StreamInfo) {
    this.info = info;
  }
}
