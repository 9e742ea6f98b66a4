/** Checks by a datagram: the answer is another, exactly as wanted. Each check has a socket of its own, so that a late answer to one is none to the next. */
import { createSocket, type Socket } from "node:dgram";
import { healthCheckAddress } from "./dial.ts";
import type { CheckedHost, Probe, ProbeCallbacks } from "./health-checker.ts";
import type { UdpCheckSettings } from "./settings.ts";

export class UdpProbe implements Probe {
  readonly #check: UdpCheckSettings;
  readonly #host: CheckedHost;
  readonly #callbacks: ProbeCallbacks;
  #socket: Socket | undefined = undefined;

  constructor(check: UdpCheckSettings, host: CheckedHost, callbacks: ProbeCallbacks) {
    this.#check = check;
    this.#host = host;
    this.#callbacks = callbacks;
  }

  start(): void {
    this.close();
    const address = healthCheckAddress(this.#host.data);
    if (address.kind !== "ip") {
      // Told later, as any other result.
      setImmediate(() => this.#callbacks.onFailure("NETWORK"));
      return;
    }
    const socket = createSocket(address.family === 4 ? "udp4" : "udp6");
    this.#socket = socket;
    socket.on("message", (data) => {
      if (this.#socket !== socket || !data.equals(this.#check.receive)) return;
      this.close();
      this.#callbacks.onSuccess(false);
    });
    // Nobody listens there: the system says so (ICMP).
    socket.on("error", () => this.#onError(socket));
    socket.connect(address.port, address.ip, () => {
      if (this.#socket === socket) socket.send(this.#check.send, (error) => error !== null && this.#onError(socket));
    });
  }

  #onError(socket: Socket): void {
    if (this.#socket !== socket) return;
    this.close();
    this.#callbacks.onFailure("NETWORK");
  }

  timedOut(): void {
    this.close();
  }

  close(): void {
    const socket = this.#socket;
    this.#socket = undefined;
    socket?.close();
  }
}
