/** Body data that a stopped filter chain keeps: owned copies, joined only when someone asks for one buffer. */
export class HeldData {
  #chunks: Buffer[] | undefined = undefined;
  length = 0;

  /** Whether anything was ever put here since the last `take`: an empty buffer counts (a body that ended without bytes). */
  get present(): boolean {
    return this.#chunks !== undefined;
  }

  /** `owned`: the memory is ours already; otherwise it is copied. */
  add(data: Buffer, owned: boolean): void {
    const chunks = (this.#chunks ??= []);
    if (data.length === 0) return;
    chunks.push(owned ? data : Buffer.from(data));
    this.length += data.length;
  }

  peek(): Buffer | undefined {
    const chunks = this.#chunks;
    if (chunks === undefined) return undefined;
    if (chunks.length > 1) {
      const all = Buffer.concat(chunks, this.length);
      this.#chunks = [all];
      return all;
    }
    return chunks[0] ?? nothing;
  }

  take(): Buffer | undefined {
    const all = this.peek();
    this.#chunks = undefined;
    this.length = 0;
    return all;
  }

  replace(data: Buffer): void {
    this.#chunks = [Buffer.from(data)];
    this.length = data.length;
  }

  clear(): void {
    this.#chunks = undefined;
    this.length = 0;
  }
}

const nothing = Buffer.alloc(0);
