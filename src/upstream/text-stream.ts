/**
 * Text that is written to a cluster over one connection for as long as that lasts, and over a new one then; nothing is read. For statsd over TCP.
 * What cannot be sent (no host, a peer that does not read) is dropped: the next flush says newer things.
 */
import type { Connection, ConnectionEvent } from "../net/connection.ts";
import type { Counter } from "../stats/stats.ts";
import type { LoadBalancerContext, PoolRequest, ThreadLocalClusters } from "./upstream.ts";

/** Envoy's bound of what waits to be sent. */
const maxBuffered = 16 * 1024 * 1024;

const anyHost: LoadBalancerContext = {
  hash: undefined,
  metadataMatch: undefined,
  requestHeaders: undefined,
  downstreamConnection: undefined,
  streamInfo: undefined,
  shouldSelectAnotherHost: () => false,
  hostSelectionMaxAttempts: 1,
  overrideHost: undefined,
  triedPriorities: [],
};

export class TextStream {
  readonly #clusters: ThreadLocalClusters;
  readonly #cluster: string;
  readonly #overflow: Counter;
  #connection: Connection | undefined;
  #request: PoolRequest | undefined;
  #waiting: Buffer[] = [];
  #waitingBytes = 0;
  #closed = false;

  /** `overflow` counts what was dropped because the peer does not read. */
  constructor(clusters: ThreadLocalClusters, cluster: string, overflow: Counter) {
    this.#clusters = clusters;
    this.#cluster = cluster;
    this.#overflow = overflow;
  }

  write(text: string): void {
    if (this.#closed) return;
    const data = Buffer.from(text);
    const connection = this.#connection;
    if ((connection?.writeBuffered ?? this.#waitingBytes) + data.length > maxBuffered) {
      this.#overflow.inc();
      return;
    }
    if (connection !== undefined) {
      connection.write(data, false);
      return;
    }
    this.#waiting.push(data);
    this.#waitingBytes += data.length;
    if (this.#request === undefined) this.#connect();
  }

  close(): void {
    this.#closed = true;
    this.#request?.cancel();
    this.#connection?.close("flush");
    this.#forget();
  }

  #forget(): void {
    this.#request = undefined;
    this.#connection = undefined;
    this.#waiting = [];
    this.#waitingBytes = 0;
  }

  #connect(): void {
    this.#request = this.#clusters.get(this.#cluster)?.tcpConnection("default", anyHost, {
      onPoolReady: (connection) => {
        this.#request = undefined;
        this.#connection = connection;
        connection.setReadFilter({ onData: () => {} });
        connection.addCallbacks({
          onEvent: (event: ConnectionEvent) => {
            if (event !== "connected") this.#forget();
          },
          onAboveWriteBufferHighWatermark: () => {},
          onBelowWriteBufferLowWatermark: () => {},
        });
        for (const data of this.#waiting) connection.write(data, false);
        this.#waiting = [];
        this.#waitingBytes = 0;
      },
      onPoolFailure: () => this.#forget(),
    });
    if (this.#request === undefined && this.#connection === undefined) this.#forget();
  }
}
