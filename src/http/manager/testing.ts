/** A connection in memory and a manager on it, for tests of the manager and of filters. */
import type { AccessLogger } from "../../extensions/extension.ts";
import type { FormatContext } from "../../formatter/formatter.ts";
import { ipAddress } from "../../net/address.ts";
import type { CloseKind, Connection, ConnectionCallbacks, ReadFilter } from "../../net/connection.ts";
import { type Clock, TimerWheel } from "../../net/timer-wheel.ts";
import type { OverloadState } from "../../overload/thread-state.ts";
import { message, testContext } from "../../testing/compile-context.ts";
import type { HttpFilter } from "../filter.ts";
import { StreamInfo } from "../stream-info.ts";
import { ConnectionManager } from "./connection-manager.ts";
import { compileManager, type ManagerSettings } from "./settings.ts";

export class FakeConnection implements Connection {
  readonly id = 1;
  readonly remoteAddress = ipAddress("192.0.2.1", 40000);
  readonly localAddress = ipAddress("192.0.2.2", 80);
  readonly directRemoteAddress = this.remoteAddress;
  readonly tls = undefined;
  transportFailureReason = "";
  readonly connectedAtMs = 0;
  state: Connection["state"] = "open";
  bytesReceived = 0;
  bytesSent = 0;
  writeBuffered = 0;
  written = "";
  closedAs: CloseKind | undefined = undefined;
  readDisabled = 0;
  readonly callbacks: ConnectionCallbacks[] = [];

  setReadFilter(_filter: ReadFilter): void {}
  addCallbacks(callbacks: ConnectionCallbacks): void {
    this.callbacks.push(callbacks);
  }
  removeCallbacks(callbacks: ConnectionCallbacks): void {
    this.callbacks.splice(this.callbacks.indexOf(callbacks), 1);
  }
  write(data: Buffer | string): void {
    this.bytesSent += data.length;
    this.written += typeof data === "string" ? data : data.toString("latin1");
  }
  readDisable(disable: boolean): void {
    this.readDisabled += disable ? 1 : -1;
  }
  setBufferLimit(): void {}
  close(kind: CloseKind): void {
    if (this.state === "closed") return;
    this.closedAs = kind;
    this.state = "closed";
    for (const callbacks of this.callbacks.slice()) callbacks.onEvent("local_close");
  }
  closeByPeer(): void {
    this.state = "closed";
    for (const callbacks of this.callbacks.slice()) callbacks.onEvent("remote_close");
  }
  noDelay(): void {}
  setDelayedCloseTimeout(): void {}
  enableHalfClose(): void {}
}

export class FakeClock implements Clock {
  ms = 1000;
  now(): number {
    return this.ms;
  }
  wall(): number {
    return Date.UTC(2026, 0, 1) + this.ms;
  }
}

export interface LoggedStream {
  readonly status: number | undefined;
  readonly details: string | undefined;
  readonly info: StreamInfo;
}

export interface Harness {
  readonly connection: FakeConnection;
  readonly manager: ConnectionManager;
  readonly settings: ManagerSettings;
  readonly logged: LoggedStream[];
  /** Text of the client, and the answer that stands so far. */
  receive(text: string): string;
  /** Moves the clock and fires what is due. */
  pass(ms: number): void;
}

/** `config`: fields of HttpConnectionManager. `filters`: made new for each stream. */
export function managerHarness(
  filters: readonly (() => HttpFilter)[],
  config: object = {},
  options: { drainClose?: () => boolean; bufferLimit?: number; overload?: OverloadState } = {},
): Harness {
  const clock = new FakeClock();
  const timers = new TimerWheel(clock);
  const context = testContext({ timers });
  const logged: LoggedStream[] = [];
  const accessLog: AccessLogger = {
    log: ({ info }: FormatContext) => logged.push({ status: info.responseCode, details: info.responseCodeDetails, info }),
  };
  const compiled = compileManager(
    message("envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", { stat_prefix: "test", route_config: {}, ...config }),
    context,
    {
      listenerScope: context.stats.scope("listener.test."),
      listener: {
        name: "test",
        statPrefix: "test",
        direction: "UNSPECIFIED",
        perConnectionBufferLimitBytes: options.bufferLimit ?? 1024,
        metadata: {},
        isTls: false,
        drainClose: options.drainClose ?? (() => false),
      },
    },
  );
  const settings: ManagerSettings = {
    ...compiled,
    filters: filters.map((factory, index) => ({ name: `filter${index}`, factory, disabled: false })),
    accessLog,
    logsAccess: true,
    overload: options.overload ?? compiled.overload,
  };
  const manager = new ConnectionManager(settings);
  const connection = new FakeConnection();
  manager.onNewConnection({
    connection,
    info: new StreamInfo(clock.now(), clock.wall()),
    continueReading: () => {},
    injectReadData: () => {},
    terminalReadFilter: undefined,
  });
  return {
    connection,
    manager,
    settings,
    logged,
    receive(text) {
      manager.onData(Buffer.from(text, "latin1"), false);
      return connection.written;
    },
    pass(ms) {
      clock.ms += ms;
      timers.advance();
    },
  };
}
