/** Counts the messages in a body of gRPC without keeping any of it. */
export class FrameCounter {
  count = 0;
  #head = 0;
  #length = 0;
  #left = 0;

  /** How many messages begin in this piece. */
  feed(data: Buffer): number {
    const before = this.count;
    let at = 0;
    while (at < data.length) {
      if (this.#left > 0) {
        const skipped = Math.min(this.#left, data.length - at);
        at += skipped;
        this.#left -= skipped;
        continue;
      }
      const byte = data[at++];
      if (this.#head === 0) {
        this.count++;
        this.#length = 0;
      } else this.#length = this.#length * 256 + byte;
      if (++this.#head === 5) {
        this.#head = 0;
        this.#left = this.#length;
      }
    }
    return this.count - before;
  }
}
