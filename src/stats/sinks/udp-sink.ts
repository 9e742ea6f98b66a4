/** statsd over UDP. What the network loses is lost: statsd asks for no more. */
import { createSocket, type Socket } from "node:dgram";
import type { Address } from "../../net/connection.ts";
import type { SinkEnvironment, StatsPicture, StatsSink } from "./sink.ts";
import { datagrams, type StatsdFormat, statsdLines } from "./statsd.ts";

/** So many datagrams leave in one turn of the event loop, for the receiver's buffer is small. */
const burst = 32;

export class UdpSink implements StatsSink {
  readonly #format: StatsdFormat;
  readonly #maxBytes: number;
  readonly #socket: Socket;
  readonly #ready: Promise<void>;
  #closed = false;

  /** `maxBytes`: of a datagram; 0: one line each. */
  constructor(to: Extract<Address, { kind: "ip" }>, format: StatsdFormat, maxBytes: number, environment: SinkEnvironment) {
    this.#format = format;
    this.#maxBytes = maxBytes;
    this.#socket = createSocket({ type: to.family === 4 ? "udp4" : "udp6" });
    this.#socket.unref();
    let said = false;
    this.#ready = new Promise((resolve) => {
      this.#socket.on("error", (error) => {
        if (!said) environment.warn(`statsd at ${to.text}: ${error.message}`);
        said = true;
        resolve();
      });
      this.#socket.connect(to.port, to.ip, resolve);
    });
  }

  async flush(picture: StatsPicture): Promise<void> {
    await this.#ready;
    const { counters, gauges, timers } = statsdLines(picture, this.#format);
    // Histograms are written one by one, whatever the size of a datagram.
    const all = [...timers, ...datagrams(counters, this.#maxBytes), ...datagrams(gauges, this.#maxBytes)];
    for (let at = 0; at < all.length; at += burst) {
      await Promise.all(all.slice(at, at + burst).map((text) => this.#send(text)));
    }
  }

  /** Resolves when the system has the datagram, or will not take it: that nobody listens there is no news. */
  #send(text: string): Promise<void> {
    return new Promise((resolve) => {
      try {
        if (this.#closed) resolve();
        else this.#socket.send(text, () => resolve());
      } catch {
        resolve(); // never connected: said once, when it failed
      }
    });
  }

  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#socket.close();
  }
}
