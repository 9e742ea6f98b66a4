/** Messages of gRPC in a body: five octets before each say whether it is compressed and how long it is. https://github.com/grpc/grpc/blob/master/doc/PROTOCOL-HTTP2.md */

export const messageHeadBytes = 5;

/** A message with its five octets. */
export function frameMessage(message: Uint8Array): Buffer {
  const framed = Buffer.allocUnsafe(messageHeadBytes + message.length);
  framed[0] = 0;
  framed.writeUInt32BE(message.length, 1);
  framed.set(message, messageHeadBytes);
  return framed;
}

export class MessageReader {
  readonly #maxBytes: number;
  readonly #head = Buffer.alloc(messageHeadBytes);
  #headFill = 0;
  #message: Buffer | undefined = undefined;
  #fill = 0;

  /** `maxBytes`: of one message; 0: no limit. */
  constructor(maxBytes: number) {
    this.#maxBytes = maxBytes;
  }

  /** Nothing of a message that is cut off is here. */
  get isBetweenMessages(): boolean {
    return this.#headFill === 0;
  }

  /**
   * Takes a piece of the body and tells every message that is whole now: valid during the call. Stops when `onMessage` says false. Answers why the body
   * cannot be read on, undefined while it can.
   */
  feed(chunk: Buffer, onMessage: (message: Buffer) => boolean): "too large" | "compressed" | undefined {
    let at = 0;
    while (at < chunk.length) {
      if (this.#headFill < messageHeadBytes) {
        const take = Math.min(messageHeadBytes - this.#headFill, chunk.length - at);
        chunk.copy(this.#head, this.#headFill, at, at + take);
        this.#headFill += take;
        at += take;
        if (this.#headFill < messageHeadBytes) return undefined;
        if (this.#head[0] !== 0) return "compressed";
        const length = this.#head.readUInt32BE(1);
        if (this.#maxBytes > 0 && length > this.#maxBytes) return "too large";
        if (chunk.length - at >= length) {
          this.#headFill = 0;
          const goesOn = onMessage(chunk.subarray(at, at + length));
          at += length;
          if (!goesOn) return undefined;
          continue;
        }
        // Grows with what comes: a length alone must not cost memory.
        this.#message = Buffer.allocUnsafe(Math.min(length, Math.max(chunk.length * 2, 4096)));
        this.#fill = 0;
      }
      const length = this.#head.readUInt32BE(1);
      const take = Math.min(length - this.#fill, chunk.length - at);
      let message = this.#message as Buffer;
      if (this.#fill + take > message.length) {
        const grown = Buffer.allocUnsafe(Math.min(length, Math.max((this.#fill + take) * 2, 4096)));
        message.copy(grown, 0, 0, this.#fill);
        this.#message = message = grown;
      }
      chunk.copy(message, this.#fill, at, at + take);
      this.#fill += take;
      at += take;
      if (this.#fill < length) return undefined;
      this.#headFill = 0;
      this.#message = undefined;
      if (!onMessage(message.subarray(0, length))) return undefined;
    }
    return undefined;
  }
}
