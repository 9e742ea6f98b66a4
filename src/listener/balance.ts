/**
 * connection_balance_config.exact_balance: each connection goes to the worker that has the fewest of this listener. Sockets stay where they are; what
 * changes hands is a duplicate of the descriptor, by a message to the worker.
 */
import { BroadcastChannel } from "node:worker_threads";
import { sharedCells } from "../extensions/shared-cells.ts";

/** Counts of one listener by worker, shared by all. */
export class ExactBalance {
  /** A pair for each worker: connections, and whether it takes any. */
  readonly #cells: Int32Array;
  readonly #own: number;

  constructor(message: object, concurrency: number, workerIndex: number) {
    this.#cells = new Int32Array(sharedCells(message, concurrency * 8));
    this.#own = workerIndex;
  }

  /** This worker takes connections from now on; it has none. */
  join(): void {
    if (this.#own < 0) return;
    Atomics.store(this.#cells, this.#own * 2, 0);
    Atomics.store(this.#cells, this.#own * 2 + 1, 1);
  }

  leave(): void {
    if (this.#own >= 0) Atomics.store(this.#cells, this.#own * 2 + 1, 0);
  }

  /** The worker that is to have a connection, which is counted for it. This one where none has fewer, or where it cannot be handed over. */
  assign(mayHandOver: boolean): number {
    let best = this.#own;
    let fewest = Atomics.load(this.#cells, best * 2);
    for (let worker = 0; mayHandOver && worker * 2 < this.#cells.length; worker++) {
      if (worker === this.#own || Atomics.load(this.#cells, worker * 2 + 1) === 0) continue;
      const count = Atomics.load(this.#cells, worker * 2);
      if (count < fewest) {
        fewest = count;
        best = worker;
      }
    }
    Atomics.add(this.#cells, best * 2, 1);
    return best;
  }

  /** A connection of this worker has ended, or of another that did not get it. */
  release(worker: number = this.#own): void {
    Atomics.sub(this.#cells, worker * 2, 1);
  }

  /** Another worker could not be given its connection: it is ours. */
  takeBack(worker: number): void {
    this.release(worker);
    Atomics.add(this.#cells, this.#own * 2, 1);
  }
}

interface Handover {
  readonly worker: number;
  readonly listener: string;
  readonly fd: number;
}

/** Connections for other workers, and from them. One for each listener. */
export class HandoverChannel {
  readonly #channel = new BroadcastChannel("listener-connections");
  readonly #listener: string;

  constructor(worker: number, listener: string, onConnection: (fd: number) => void) {
    this.#listener = listener;
    this.#channel.onmessage = (event: unknown) => {
      const message = (event as { readonly data: Handover }).data;
      if (message.worker === worker && message.listener === listener) onConnection(message.fd);
    };
    this.#channel.unref();
  }

  send(worker: number, fd: number): void {
    this.#channel.postMessage({ worker, listener: this.#listener, fd } satisfies Handover);
  }

  close(): void {
    this.#channel.close();
  }
}
