/** envoy.filters.http.buffer: a request goes on when its body is there whole. */
import { type AnyMessage, isMessage } from "../../../config/message.ts";
import type { Buffer as BufferMessage, BufferPerRoute } from "../../../config/schema/types/envoy.extensions.filters.http.buffer.v3.d.ts";
import type { DecoderFilterCallbacks, FilterDataStatus, FilterHeadersStatus, FilterTrailersStatus, HttpFilter } from "../../../http/filter.ts";
import type { RequestHeaders } from "../../../http/header-map.ts";
import type { Extension } from "../../extension.ts";

const pkg = "envoy.extensions.filters.http.buffer.v3.";
const typeName = `${pkg}Buffer`;
const perRoute = `${pkg}BufferPerRoute`;

/** Bytes; undefined: nothing is buffered. */
interface Limit {
  readonly maxBytes: number | undefined;
}

class BufferFilter implements HttpFilter {
  readonly #own: Limit;
  #callbacks!: DecoderFilterCallbacks;
  #headers: RequestHeaders | undefined;
  #length = 0;

  constructor(own: Limit) {
    this.#own = own;
  }

  setDecoderCallbacks(callbacks: DecoderFilterCallbacks): void {
    this.#callbacks = callbacks;
  }

  decodeHeaders(headers: RequestHeaders, endStream: boolean): FilterHeadersStatus {
    // A request that is only its head needs no settings.
    if (endStream) return "continue";
    const { maxBytes } = this.#callbacks.routeConfig<Limit>() ?? this.#own;
    if (maxBytes === undefined) return "continue";
    this.#callbacks.setDecoderBufferLimit(maxBytes);
    this.#headers = headers;
    return "stop";
  }

  decodeData(data: Buffer, endStream: boolean): FilterDataStatus {
    if (this.#headers === undefined) return "continue";
    this.#length += data.length;
    if (!endStream) return "stop_and_buffer";
    this.#addLength(this.#headers);
    return "continue";
  }

  decodeTrailers(): FilterTrailersStatus {
    if (this.#headers !== undefined) this.#addLength(this.#headers);
    return "continue";
  }

  #addLength(headers: RequestHeaders): void {
    if (headers.get("content-length") === undefined) headers.set("content-length", String(this.#length));
  }
}

export default {
  honours: { [typeName]: "*", [perRoute]: "*" },
  httpFilter: {
    compile(message: AnyMessage) {
      if (!isMessage<BufferMessage>(message, typeName)) throw new Error(`${message.$typeName} is no ${typeName}`);
      const own: Limit = { maxBytes: message.maxRequestBytes };
      return () => new BufferFilter(own);
    },
    compileRoute(message: AnyMessage): Limit {
      if (!isMessage<BufferPerRoute>(message, perRoute)) throw new Error(`${message.$typeName} is no ${perRoute}`);
      return { maxBytes: message.override.case === "buffer" ? message.override.value.maxRequestBytes : undefined };
    },
  },
} satisfies Extension;
