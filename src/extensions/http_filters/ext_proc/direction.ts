/** One direction of a stream: what of it waits for the processor, and what its answers do. */
import type { BodyMutation, CommonResponse } from "../../../config/schema/types/envoy.service.ext_proc.v3.d.ts";
import type { FilterDataStatus, FilterHeadersStatus, FilterTrailersStatus } from "../../../http/filter.ts";
import type { HeaderMap, Trailers } from "../../../http/header-map.ts";
import { bodyMode } from "./settings.ts";

/** What both sets of filter callbacks have in common, under one name. */
export interface Flow {
  continue(): void;
  continueHead(): void;
  buffered(): Buffer | undefined;
  setBuffered(data: Buffer): void;
  takeBuffered(): Buffer | undefined;
  add(data: Buffer): void;
  inject(data: Buffer, endStream: boolean): void;
  replaceChunk(data: Buffer): void;
  addTrailers(): Trailers;
  readonly bufferLimit: number;
}

/** The filter: speaks to the processor. */
export interface Owner {
  /** False: there is no processor (any more); everything passes. */
  readonly active: boolean;
  sendHeaders(direction: Direction, headers: HeaderMap, endStream: boolean): void;
  sendBody(direction: Direction, data: Buffer, endStream: boolean): void;
  sendTrailers(direction: Direction, trailers: Trailers): void;
  /** Changes a head; false: it failed, and the stream has been answered. */
  mutate(direction: Direction, map: HeaderMap, response: CommonResponse["headerMutation"]): boolean;
  /** A message that was not asked for; true: the stream was answered. */
  onSpurious(): void;
  onHeadersChanged(direction: Direction, clear: boolean, changed: boolean): void;
}

interface Chunk {
  readonly data: Buffer;
  readonly endStream: boolean;
}

const nothing = Buffer.alloc(0);

export class Direction {
  readonly isRequest: boolean;
  readonly #owner: Owner;
  readonly flow: Flow;
  headers: HeaderMap | undefined = undefined;
  trailers: Trailers | undefined = undefined;
  sendsHeaders = false;
  body: number = bodyMode.none;
  sendsTrailers = false;
  /** What an answer is waited for. */
  waiting: "none" | "headers" | "body" | "trailers" = "none";
  /** The head is held until body or answer allow. */
  #held = false;
  /** All of the body has come. */
  #ended = false;
  /** Streamed pieces that the processor looks at, in order. */
  readonly #chunks: Chunk[] = [];
  #chunkBytes = 0;
  /** The body was replaced: what still comes of it is dropped. */
  #replaced = false;
  /** A full-duplex body: the processor says what goes on, and when it ends. */
  #duplexOpen = false;
  /** The body is too long for a partial buffer: the rest passes as it is. */
  #passesRest = false;
  /** Trailers that have come wait behind the body. */
  #trailersHeld = false;

  constructor(isRequest: boolean, owner: Owner, flow: Flow) {
    this.isRequest = isRequest;
    this.#owner = owner;
    this.flow = flow;
  }

  get isDuplex(): boolean {
    return this.body === bodyMode.fullDuplex || this.body === bodyMode.grpc;
  }
  get #isBuffered(): boolean {
    return this.body === bodyMode.buffered || this.body === bodyMode.bufferedPartial;
  }

  onHeaders(headers: HeaderMap, endStream: boolean): FilterHeadersStatus {
    this.headers = headers;
    this.#ended = endStream;
    if (this.sendsHeaders) {
      this.#held = true;
      this.waiting = "headers";
      this.#owner.sendHeaders(this, headers, endStream);
      return this.waiting === "headers" || this.#held ? "stop" : "continue";
    }
    if (endStream) return "continue";
    if (this.body === bodyMode.streamed || this.isDuplex) {
      headers.remove("content-length");
      this.#duplexOpen = this.isDuplex;
    } else if (this.#isBuffered) {
      // Its length is known once the processor has seen it.
      this.#held = true;
      return "stop";
    }
    return "continue";
  }

  onData(data: Buffer, endStream: boolean): FilterDataStatus {
    if (endStream) this.#ended = true;
    if (!this.#owner.active) return "continue";
    if (this.#replaced) return "stop_no_buffer";
    if (this.waiting === "headers") return this.#isBuffered ? "stop_and_buffer" : "stop_and_watermark";
    if (this.#isBuffered && !this.#passesRest) return this.#onBuffered(data, endStream);
    if (this.body === bodyMode.streamed || this.#duplexOpen) {
      this.#stream(Buffer.from(data), endStream);
      return "stop_no_buffer";
    }
    return "continue";
  }
  #onBuffered(data: Buffer, endStream: boolean): FilterDataStatus {
    if (this.waiting === "body") return "stop_and_watermark";
    const { flow } = this;
    const size = (flow.buffered()?.length ?? 0) + data.length;
    if (!endStream && this.body === bodyMode.bufferedPartial && flow.bufferLimit > 0 && size > flow.bufferLimit) {
      flow.add(nothing);
      this.#sendBuffered(data, false);
      flow.replaceChunk(nothing);
      return "stop_and_watermark";
    }
    if (!endStream) return "stop_and_buffer";
    this.#sendBuffered(data, true);
    flow.replaceChunk(nothing);
    // An answer that came at once has already let it go.
    return (this.waiting as string) === "body" ? "stop_and_watermark" : "continue";
  }
  #sendBuffered(last: Buffer, endStream: boolean): void {
    const { flow } = this;
    const before = flow.buffered();
    const all = before === undefined || before.length === 0 ? Buffer.from(last) : Buffer.concat([before, last]);
    flow.setBuffered(all);
    this.waiting = "body";
    this.#owner.sendBody(this, all, endStream);
  }

  onTrailers(trailers: Trailers): FilterTrailersStatus {
    this.trailers = trailers;
    this.#ended = true;
    if (!this.#owner.active || this.#replaced) return this.#owner.active ? "stop" : "continue";
    if (this.waiting !== "none" || this.#chunks.length > 0) {
      this.#trailersHeld = true;
      // A full-duplex processor is told at once.
      if (this.#duplexOpen && this.waiting !== "headers" && this.sendsTrailers) this.#owner.sendTrailers(this, trailers);
      return "stop";
    }
    if (this.#isBuffered && this.#held) {
      this.#trailersHeld = true;
      this.#sendBuffered(nothing, false);
      return "stop";
    }
    if (this.sendsTrailers) {
      this.#trailersHeld = true;
      if (!this.#duplexOpen) this.waiting = "trailers";
      this.#owner.sendTrailers(this, trailers);
      return "stop";
    }
    return "continue";
  }

  // ---- the processor's answers

  onHeadersResponse(response: CommonResponse | undefined): void {
    if (this.waiting !== "headers" || this.headers === undefined) {
      this.#owner.onSpurious();
      return;
    }
    if (!this.#owner.mutate(this, this.headers, response?.headerMutation)) return;
    this.waiting = "none";
    this.#owner.onHeadersChanged(this, response?.clearRouteCache === true, response?.headerMutation !== undefined);
    if (response?.status === 1) {
      this.#replaceBody(response);
      return;
    }
    this.#afterHeaders();
  }

  #afterHeaders(): void {
    const { flow } = this;
    const hasBody = !this.#ended || flow.buffered() !== undefined;
    if (hasBody && this.#isBuffered) {
      if (this.trailers !== undefined || this.#ended) this.#sendBuffered(nothing, this.trailers === undefined);
      return;
    }
    if (hasBody && (this.body === bodyMode.streamed || this.isDuplex)) {
      this.headers?.remove("content-length");
      this.#held = false;
      this.#duplexOpen = this.isDuplex;
      const data = flow.takeBuffered();
      flow.continueHead();
      if (data !== undefined) this.#stream(data, this.#ended && this.trailers === undefined);
      if (this.trailers !== undefined) this.#afterBody();
      return;
    }
    this.#held = false;
    if (this.trailers !== undefined && this.sendsTrailers) {
      const data = flow.takeBuffered();
      flow.continueHead();
      if (data !== undefined && data.length > 0) flow.inject(data, false);
      this.#afterBody();
      return;
    }
    flow.continue();
  }

  /** CONTINUE_AND_REPLACE: the answer has the body, what comes of the other is dropped. */
  #replaceBody({ bodyMutation, trailers }: CommonResponse): void {
    const { flow } = this;
    const body = bodyOf(bodyMutation) ?? nothing;
    this.#held = false;
    this.#replaced = !this.#ended;
    this.body = bodyMode.none;
    this.sendsTrailers = false;
    this.headers?.set("content-length", String(body.length));
    flow.takeBuffered();
    flow.continueHead();
    const added = trailers?.headers ?? [];
    flow.inject(body, added.length === 0);
    if (added.length > 0) {
      const map = flow.addTrailers();
      for (const { key, value, rawValue } of added) map.add(key.toLowerCase(), rawValue.length > 0 ? Buffer.from(rawValue).toString("latin1") : value);
      flow.continue();
    }
  }

  onBodyResponse(response: CommonResponse | undefined): void {
    const streamed = response?.bodyMutation?.mutation;
    if (this.#duplexOpen && streamed?.case === "streamedResponse") {
      if (this.headers !== undefined && !this.#owner.mutate(this, this.headers, response?.headerMutation)) return;
      const end = streamed.value.endOfStream || streamed.value.endOfStreamWithoutMessage;
      if (end) this.#duplexOpen = false;
      this.flow.inject(Buffer.from(streamed.value.body), end);
      return;
    }
    const chunk = this.#chunks.shift();
    if (chunk !== undefined) {
      this.#chunkBytes -= chunk.data.length;
      if (this.headers !== undefined && !this.#owner.mutate(this, this.headers, response?.headerMutation)) return;
      this.flow.inject(bodyOf(response?.bodyMutation) ?? chunk.data, chunk.endStream);
      if (this.#chunks.length === 0) {
        this.waiting = "none";
        if (this.#trailersHeld) this.#afterBody();
      }
      return;
    }
    if (this.waiting !== "body" || this.headers === undefined) {
      this.#owner.onSpurious();
      return;
    }
    if (!this.#owner.mutate(this, this.headers, response?.headerMutation)) return;
    this.waiting = "none";
    this.#held = false;
    const changed = bodyOf(response?.bodyMutation);
    if (changed !== undefined) {
      this.flow.setBuffered(changed);
      if (this.#ended) this.headers.set("content-length", String(changed.length));
      else this.headers.remove("content-length");
    }
    this.#owner.onHeadersChanged(this, response?.clearRouteCache === true, response?.headerMutation !== undefined);
    this.#passesRest = true;
    if (this.#trailersHeld && this.sendsTrailers) {
      const data = this.flow.takeBuffered();
      this.flow.continueHead();
      if (data !== undefined && data.length > 0) this.flow.inject(data, false);
      this.#afterBody();
    } else {
      this.#trailersHeld = false;
      this.flow.continue();
    }
  }

  onTrailersResponse(mutation: CommonResponse["headerMutation"]): void {
    if ((this.waiting !== "trailers" && !(this.#duplexOpen && this.#trailersHeld)) || this.trailers === undefined) {
      this.#owner.onSpurious();
      return;
    }
    if (!this.#owner.mutate(this, this.trailers, mutation)) return;
    this.waiting = "none";
    this.#trailersHeld = false;
    this.#duplexOpen = false;
    this.flow.continue();
  }

  /** The body is through: now the trailers. */
  #afterBody(): void {
    const { trailers } = this;
    if (trailers === undefined || this.#chunks.length > 0) return;
    this.#trailersHeld = true;
    if (!this.sendsTrailers) {
      this.#trailersHeld = false;
      this.flow.continue();
      return;
    }
    if (!this.#duplexOpen) this.waiting = "trailers";
    this.#owner.sendTrailers(this, trailers);
  }

  #stream(data: Buffer, endStream: boolean): void {
    if (!this.#duplexOpen) {
      this.#chunks.push({ data, endStream });
      this.#chunkBytes += data.length;
      this.waiting = "body";
    }
    this.#owner.sendBody(this, data, endStream);
  }
  /** Bytes that wait for the processor. */
  get pendingBytes(): number {
    return this.#chunkBytes;
  }

  /** There is no processor any more: everything that waits goes on as it came. */
  release(): void {
    const { flow } = this;
    const wasWaiting = this.waiting !== "none" || this.#held || this.#trailersHeld;
    this.waiting = "none";
    this.#duplexOpen = false;
    if (this.#chunks.length > 0) {
      for (const { data, endStream } of this.#chunks.splice(0)) flow.inject(data, endStream);
      this.#chunkBytes = 0;
      if (!this.#trailersHeld) return;
    }
    this.#held = false;
    this.#trailersHeld = false;
    if (wasWaiting) flow.continue();
  }
}

/** undefined: as it was. */
function bodyOf(mutation: BodyMutation | undefined): Buffer | undefined {
  const change = mutation?.mutation;
  if (change?.case === "body") return Buffer.from(change.value);
  if (change?.case === "clearBody" && change.value) return nothing;
  return undefined;
}
