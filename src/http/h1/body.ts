/** Bodies as they arrive: fixed length, chunked, or until the connection ends. Bytes in, events out; nothing is copied. */
import { HeadError, parseFields } from "./parse.ts";
import { PartialHead } from "./partial-head.ts";

export interface BodyEvents {
  onData(chunk: Buffer): void;
  /** The body is complete; `trailers` as name, value list when there were any. */
  onEnd(trailers: string[] | undefined): void;
}

/** A chunk-size line with its extensions may be this long. Envoy has no limit; memory here does not depend on it. */
const maxChunkLine = 64 * 1024;

/** Chunked transfer coding (RFC 9112 7.1). Strict: CRLF everywhere, no bytes behind chunk data, sizes of at most 13 hexadecimal digits after zeros. */
export class ChunkedDecoder {
  readonly #events: BodyEvents;
  readonly #maxTrailerCount: number;
  readonly #maxTrailerBytes: number;
  #state: "size" | "extension" | "extension_cr" | "size_lf" | "data" | "data_cr" | "data_lf" | "trailers" | "done" = "size";
  #size = 0;
  #digits = 0;
  #extensionBytes = 0;
  #trailers: PartialHead | undefined = undefined;

  constructor(events: BodyEvents, maxTrailerCount: number, maxTrailerBytes: number) {
    this.#events = events;
    this.#maxTrailerCount = maxTrailerCount;
    this.#maxTrailerBytes = maxTrailerBytes;
  }

  get done(): boolean {
    return this.#state === "done";
  }

  /** Takes bytes from `at`; the index of the first byte that is not part of this body. Throws HeadError. */
  feed(data: Buffer, at: number): number {
    const end = data.length;
    while (at < end) {
      switch (this.#state) {
        case "data": {
          const take = Math.min(this.#size, end - at);
          this.#size -= take;
          if (this.#size === 0) this.#state = "data_cr";
          this.#events.onData(at === 0 && take === end ? data : data.subarray(at, at + take));
          at += take;
          break;
        }
        case "size": {
          const byte = data[at++];
          const digit = hexValue[byte];
          if (digit >= 0) {
            if (this.#digits > 0 || digit > 0) this.#digits++;
            if (this.#digits > 13) throw new HeadError("http1.codec_error");
            this.#size = this.#size * 16 + digit;
            this.#extensionBytes++;
            break;
          }
          if (this.#extensionBytes === 0) throw new HeadError("http1.codec_error");
          if (byte === 13) this.#state = "size_lf";
          else if (byte === 59 || byte === 32 || byte === 9) this.#state = "extension";
          else throw new HeadError("http1.codec_error");
          break;
        }
        case "extension": {
          const cr = data.indexOf(13, at);
          const stop = cr < 0 ? end : cr;
          for (let i = at; i < stop; i++) if ((data[i] < 32 && data[i] !== 9) || data[i] === 127) throw new HeadError("http1.codec_error");
          this.#extensionBytes += stop - at;
          if (this.#extensionBytes > maxChunkLine * 64) throw new HeadError("http1.codec_error");
          at = stop;
          if (cr >= 0) {
            at++;
            this.#state = "size_lf";
          }
          break;
        }
        case "size_lf":
          if (data[at++] !== 10) throw new HeadError("http1.codec_error");
          this.#state = this.#size === 0 ? "trailers" : "data";
          this.#digits = 0;
          this.#extensionBytes = 0;
          break;
        case "data_cr":
          if (data[at++] !== 13) throw new HeadError("http1.codec_error");
          this.#state = "data_lf";
          break;
        case "data_lf":
          if (data[at++] !== 10) throw new HeadError("http1.codec_error");
          this.#state = "size";
          break;
        case "trailers": {
          // The plain end, an empty line, without keeping bytes.
          if (this.#trailers === undefined && end - at >= 2 && data[at] === 13 && data[at + 1] === 10) {
            this.#state = "done";
            this.#events.onEnd(undefined);
            return at + 2;
          }
          this.#trailers ??= new PartialHead();
          const trailers = this.#trailers;
          const take = Math.min(end, at + this.#maxTrailerBytes + 1 - trailers.length);
          const stop = trailers.add(data, at, take);
          if (trailers.length > this.#maxTrailerBytes) throw new HeadError("http1.trailers_too_large", 431);
          if (stop < 0) return take;
          const text = trailers.text();
          const { list } = parseFields(text, 0, text.length, this.#maxTrailerCount, false);
          this.#state = "done";
          this.#events.onEnd(list.length === 0 ? undefined : list);
          return stop;
        }
        default:
          return at;
      }
    }
    return at;
  }
}

const hexValue = new Int8Array(256).fill(-1);
for (let i = 0; i < 16; i++) {
  hexValue["0123456789abcdef".charCodeAt(i)] = i;
  hexValue["0123456789ABCDEF".charCodeAt(i)] = i;
}
