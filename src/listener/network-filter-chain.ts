/** The network filters of one connection: bytes go from the first to the last, the last is terminal. */
import type { NetworkFilter, NetworkFilterCallbacks, NetworkFilterFactory } from "../extensions/extension.ts";
import type { StreamInfo } from "../http/stream-info.ts";
import type { Connection, ReadFilter } from "../net/connection.ts";

/** Starts the filters on an open connection and makes the connection read into them. */
export function startNetworkFilters(factories: readonly NetworkFilterFactory[], connection: Connection, info: StreamInfo): readonly NetworkFilter[] {
  const filters = factories.map((make) => make());
  // The usual chain is one terminal filter: it is the connection's read filter itself.
  if (filters.length === 1) {
    const [filter] = filters;
    filter.onNewConnection?.({ connection, info, continueReading: () => {}, injectReadData: () => {}, terminalReadFilter: undefined });
    if (connection.state !== "closed") connection.setReadFilter(filter.onData === undefined ? discard : (filter as ReadFilter));
    return filters;
  }
  if (filters.length === 0) {
    connection.close("no_flush", "empty filter chain");
    return filters;
  }
  new NetworkFilterChain(filters, connection, info).start();
  return filters;
}

const discard: ReadFilter = { onData: () => {} };

/** Of what waits behind a filter that has stopped: then reading stops, too. */
const maxHeldBytes = 64 * 1024;

class NetworkFilterChain implements ReadFilter {
  readonly #filters: readonly NetworkFilter[];
  readonly #connection: Connection;
  readonly #info: StreamInfo;
  /** How many filters have been told of the connection. */
  #started = 0;
  /** Data that came in while a filter had stopped: for the filter behind it. */
  #held: Buffer[] = [];
  #heldBytes = 0;
  #readStopped = false;
  #heldEnd = false;
  #stoppedAt = -1;

  constructor(filters: readonly NetworkFilter[], connection: Connection, info: StreamInfo) {
    this.#filters = filters;
    this.#connection = connection;
    this.#info = info;
  }

  start(): void {
    this.#connection.setReadFilter(this);
    this.#begin();
  }

  onData(data: Buffer, endStream: boolean): void {
    this.#pass(0, data, endStream);
  }

  /** Tells filters of the connection until one stops. */
  #begin(): void {
    while (this.#started < this.#filters.length && this.#connection.state === "open") {
      const index = this.#started++;
      if (this.#filters[index].onNewConnection?.(this.#callbacksOf(index)) === "stop") return;
    }
  }

  #pass(from: number, data: Buffer, endStream: boolean): void {
    const last = this.#filters.length - 1;
    for (let index = from; index <= last; index++) {
      if (this.#connection.state !== "open") return;
      if (index >= this.#started && this.#filters[this.#started++].onNewConnection?.(this.#callbacksOf(index)) === "stop" && index < last) {
        this.#hold(index, data, endStream);
        return;
      }
      if (this.#connection.state !== "open") return;
      if (this.#filters[index].onData?.(data, endStream) === "stop") {
        if (index < last) this.#hold(index, data, endStream);
        return;
      }
      if (index === this.#stoppedAt) {
        // It lets data pass again: what it held back goes first.
        const held = this.#takeHeld();
        if (held.length > 0) data = Buffer.concat([...held, data]);
      }
    }
  }

  /** Keeps data for the filter behind `index`; a client whose data waits is not read from for long. */
  #hold(index: number, data: Buffer, endStream: boolean): void {
    this.#stoppedAt = index;
    this.#heldEnd ||= endStream;
    if (data.length === 0) return;
    this.#held.push(Buffer.from(data));
    this.#heldBytes += data.length;
    if (this.#heldBytes < maxHeldBytes || this.#readStopped) return;
    this.#readStopped = true;
    this.#connection.readDisable(true);
  }

  #takeHeld(): Buffer[] {
    const held = this.#held;
    this.#stoppedAt = -1;
    this.#held = [];
    this.#heldBytes = 0;
    this.#heldEnd = false;
    if (this.#readStopped) {
      this.#readStopped = false;
      this.#connection.readDisable(false);
    }
    return held;
  }

  #callbacksOf(index: number): NetworkFilterCallbacks {
    return {
      connection: this.#connection,
      info: this.#info,
      terminalReadFilter: undefined,
      continueReading: () => {
        this.#begin();
        if (this.#stoppedAt !== index) return;
        const end = this.#heldEnd;
        const held = this.#takeHeld();
        if (held.length > 0 || end) this.#pass(index + 1, Buffer.concat(held), end);
      },
      injectReadData: (data, endStream) => this.#pass(index + 1, data, endStream),
    };
  }
}
