/**
 * The connections that wait in the kernel's queue of one listening socket. libuv accepts one in each turn of its event loop, and a turn is long where
 * many connections are busy: the thousandth client would be let in after seconds. What waits behind the first is taken by hand.
 */
import { type NativeSockets, nativeSockets } from "./native-sockets.ts";

export class AcceptQueue {
  readonly #listening: number;
  #native: NativeSockets | undefined = undefined;
  /** The turn before this one accepted a connection too. */
  #busy = false;

  /** `listening`: a descriptor that stays open as long as this is used; below 0: there is none to be had. */
  constructor(listening: number) {
    this.#listening = listening;
  }

  /**
   * To be called when the event loop accepted a connection: passes on up to `most` further ones (the callee owns the descriptors), and tells how many.
   * None where koffi is missing. It is loaded when connections come in a burst for the first time: who has few does without.
   */
  takeRest(most: number, take: (fd: number) => void): number {
    if (this.#listening < 0) return 0;
    if (this.#native === undefined) {
      if (!this.#busy) {
        this.#watch();
        return 0;
      }
      this.#native = nativeSockets();
      if (this.#native === undefined) return 0;
    }
    let taken = 0;
    for (; taken < most; taken++) {
      const fd = this.#native.accept(this.#listening);
      if (fd < 0) break;
      take(fd);
    }
    return taken;
  }

  /** Before the socket is closed: whoever waits would be reset. At most as many as a queue can hold. */
  takeAll(take: (fd: number) => void): void {
    if (this.#listening < 0) return;
    this.#native ??= nativeSockets();
    if (this.#native !== undefined) this.takeRest(65_536, take);
  }

  /** With an immediate pending the loop does not sleep: what its next turn accepts was waiting already. */
  #watch(): void {
    setImmediate(() => {
      this.#busy = true;
      setImmediate(() => {
        this.#busy = false;
      });
    });
  }
}
