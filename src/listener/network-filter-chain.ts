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
  new NetworkFilterChain(filters, connection, info).start();
  return filters;
}

const discard: ReadFilter = { onData: () => {} };

class NetworkFilterChain implements ReadFilter {
  readonly #filters: readonly NetworkFilter[];
  readonly #connection: Connection;
  readonly #info: StreamInfo;
  /** How many filters have been told of the connection. */
  #started = 0;
  /** Data that came in while a filter had stopped: for the filter behind it. */
  #held: Buffer[] = [];
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
    while (this.#started < this.#filters.length && this.#connection.state !== "closed") {
      const index = this.#started++;
      if (this.#filters[index].onNewConnection?.(this.#callbacksOf(index)) === "stop") return;
    }
  }

  #pass(from: number, data: Buffer, endStream: boolean): void {
    for (let index = from; index < this.#filters.length; index++) {
      if (this.#connection.state === "closed") return;
      if (index >= this.#started) this.#begin();
      if (this.#filters[index].onData?.(data, endStream) === "stop") {
        if (index < this.#filters.length - 1) {
          this.#stoppedAt = index;
          if (data.length > 0) this.#held.push(Buffer.from(data));
          this.#heldEnd ||= endStream;
        }
        return;
      }
    }
  }

  #callbacksOf(index: number): NetworkFilterCallbacks {
    return {
      connection: this.#connection,
      info: this.#info,
      terminalReadFilter: undefined,
      continueReading: () => {
        this.#begin();
        if (this.#stoppedAt !== index) return;
        this.#stoppedAt = -1;
        const held = this.#held;
        const end = this.#heldEnd;
        this.#held = [];
        this.#heldEnd = false;
        if (held.length > 0 || end) this.#pass(index + 1, Buffer.concat(held), end);
      },
      injectReadData: (data, endStream) => this.#pass(index + 1, data, endStream),
    };
  }
}
