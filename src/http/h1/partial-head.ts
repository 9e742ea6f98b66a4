/**
 * A head that comes in pieces. Kept as bytes and looked at once, piece by piece: a sender of single bytes costs time and memory
 * in proportion to what it sent, not to its square.
 */

const firstBytes = 512;

export class PartialHead {
  #bytes: Buffer | undefined = undefined;
  #length = 0;
  /** Where the first line ends, -1 until it does. */
  #firstLine = -1;
  /** Of the line that is coming in: nothing, a CR, more. */
  #line: "empty" | "cr" | "text" = "empty";

  /** Bytes kept so far. */
  get length(): number {
    return this.#length;
  }

  /** Index of the first LF in all that is kept, -1 without one. */
  get firstLine(): number {
    return this.#firstLine;
  }

  /** Keeps bytes of `data`. The index in `data` behind the head's empty line, -1 when that has not come. */
  add(data: Buffer, from: number, end: number): number {
    const stop = this.#scan(data, from, end);
    const to = stop < 0 ? end : stop;
    const length = this.#length + to - from;
    let bytes = this.#bytes;
    if (bytes === undefined || bytes.length < length) {
      const larger = Buffer.allocUnsafeSlow(Math.max(firstBytes, 2 ** Math.ceil(Math.log2(length))));
      bytes?.copy(larger, 0, 0, this.#length);
      this.#bytes = bytes = larger;
    }
    data.copy(bytes, this.#length, from, to);
    this.#length = length;
    return stop;
  }

  text(): string {
    return this.#bytes?.toString("latin1", 0, this.#length) ?? "";
  }

  clear(): void {
    this.#bytes = undefined;
    this.#length = 0;
    this.#firstLine = -1;
    this.#line = "empty";
  }

  #scan(data: Buffer, from: number, end: number): number {
    let at = from;
    for (;;) {
      const lf = data.indexOf(10, at);
      if (lf < 0 || lf >= end) {
        if (at < end) this.#line = this.#line === "empty" && end === at + 1 && data[at] === 13 ? "cr" : "text";
        return -1;
      }
      if (this.#firstLine < 0) this.#firstLine = this.#length + lf - from;
      const empty = this.#line === "empty" ? lf === at || (lf === at + 1 && data[at] === 13) : this.#line === "cr" && lf === at;
      if (empty) return lf + 1;
      this.#line = "empty";
      at = lf + 1;
    }
  }
}
