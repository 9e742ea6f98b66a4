/** The HTTP/1 codecs with nothing around them: bytes in, events out as text. For tests and fuzzing. */
import { StatsStore } from "../../stats/stats.ts";
import type { RequestDecoder, ResponseDecoder, ResponseEncoder } from "../codec.ts";
import { type HeaderMap, RequestHeaders, ResponseHeaders, type Trailers } from "../header-map.ts";
import { FakeConnection } from "../manager/testing.ts";
import { H1ClientConnection, type H1ClientStream } from "./client-connection.ts";
import { H1ServerConnection } from "./server-connection.ts";
import { type H1Settings, h1Stats } from "./settings.ts";

export function testSettings(changes: Partial<H1Settings> = {}): H1Settings {
  return {
    acceptHttp10: false,
    defaultHost: "",
    enableTrailers: false,
    nameFormat: "lower",
    allowChunkedLength: false,
    maxHeadBytes: 60 * 1024,
    maxHeaderCount: 100,
    underscores: "allow",
    absoluteTargets: false,
    stats: h1Stats(new StatsStore().scope("")),
    ...changes,
  };
}

function fields(headers: HeaderMap): string {
  let text = "";
  headers.forEach((name, value) => {
    text += ` ${name}=${value}`;
  });
  return text;
}

/** A request as it came out of the server codec. */
export interface SeenRequest {
  headers: RequestHeaders;
  body: Buffer;
  trailers: Trailers | undefined;
  ended: boolean;
}

/** What to do with a request: at its head, and when it is complete. */
export interface Answering {
  onHead?(encoder: ResponseEncoder, request: SeenRequest): void;
  onEnd?(encoder: ResponseEncoder, request: SeenRequest): void;
}

/** Answers each request, when it is complete, with 200 and the body "ok". */
export const answerOk: Answering = {
  onEnd(encoder) {
    encoder.encodeHeaders(new ResponseHeaders(200, ["content-length", "2"]), false);
    encoder.encodeData(Buffer.from("ok"), true);
  },
};

export class ServerHarness {
  readonly connection = new FakeConnection();
  readonly codec: H1ServerConnection;
  /** "head GET /path host name=value", "data bytes", "end", "trailers ...", "refused 400 details", "reset reason". Data in a row is one event. */
  readonly events: string[] = [];
  readonly requests: SeenRequest[] = [];
  readonly encoders: ResponseEncoder[] = [];

  constructor(settings: Partial<H1Settings> = {}, answering: Answering = answerOk) {
    this.codec = new H1ServerConnection(this.connection, testSettings(settings), {
      newStream: (encoder) => this.#newStream(encoder, answering),
      onGoAway: () => {},
    });
  }

  receive(data: string | Buffer): void {
    this.codec.dispatch(typeof data === "string" ? Buffer.from(data, "latin1") : data);
  }

  /** In pieces that end at these places. */
  receiveCut(data: Buffer, cuts: readonly number[]): void {
    let from = 0;
    for (const cut of [...cuts, data.length]) {
      // A copy, so that whoever keeps a view of it is found out.
      const piece = Buffer.from(data.subarray(from, cut));
      if (piece.length > 0) this.codec.dispatch(piece);
      piece.fill(0x58);
      from = Math.max(from, cut);
    }
  }

  #newStream(encoder: ResponseEncoder, answering: Answering): RequestDecoder {
    const { events } = this;
    const request: SeenRequest = {
      headers: new RequestHeaders("", undefined, undefined, undefined, []),
      body: Buffer.alloc(0),
      trailers: undefined,
      ended: false,
    };
    this.encoders.push(encoder);
    encoder.stream.addCallbacks({
      onResetStream: (reason) => events.push(`reset ${reason}`),
      onAboveWriteBufferHighWatermark: () => {},
      onBelowWriteBufferLowWatermark: () => {},
    });
    const end = (): void => {
      request.ended = true;
      events.push("end");
      answering.onEnd?.(encoder, request);
    };
    return {
      decodeHeaders: (headers, endStream) => {
        request.headers = headers;
        this.requests.push(request);
        events.push(`head ${headers.method} ${headers.path ?? "-"} ${headers.authority ?? "-"}${fields(headers)}`);
        answering.onHead?.(encoder, request);
        if (endStream) end();
      },
      decodeData: (chunk, endStream) => {
        if (chunk.length > 0) {
          request.body = Buffer.concat([request.body, chunk]);
          const text = chunk.toString("latin1");
          const last = events.length - 1;
          if (events[last]?.startsWith("data ")) events[last] += text;
          else events.push(`data ${text}`);
        }
        if (endStream) end();
      },
      decodeTrailers: (trailers) => {
        request.trailers = trailers;
        events.push(`trailers${fields(trailers)}`);
        end();
      },
      sendLocalReply: (status, body, details) => {
        events.push(`refused ${status} ${details}`);
        encoder.encodeHeaders(new ResponseHeaders(status, ["content-length", String(body.length), "connection", "close"]), false);
        encoder.encodeData(Buffer.from(body), true);
      },
    };
  }
}

export class ClientHarness {
  readonly connection = new FakeConnection();
  readonly codec: H1ClientConnection;
  readonly events: string[] = [];
  stream!: H1ClientStream;
  body = Buffer.alloc(0);

  constructor(settings: Partial<H1Settings> = {}) {
    this.codec = new H1ClientConnection(this.connection, testSettings(settings), {
      onGoAway: () => {},
      onProtocolError: (details) => {
        this.events.push(`protocol error ${details}`);
      },
    });
  }

  /** Begins an exchange; the request is sent as it stands, without a body unless `endStream` is false. */
  request(method = "GET", path = "/", list: string[] = [], endStream = true): H1ClientStream {
    const { events } = this;
    const decoder: ResponseDecoder = {
      decode1xxHeaders: (headers) => events.push(`interim ${headers.status}${fields(headers)}`),
      decodeHeaders: (headers, end) => {
        events.push(`head ${headers.status}${fields(headers)}`);
        if (end) events.push("end");
      },
      decodeData: (chunk, end) => {
        if (chunk.length > 0) {
          this.body = Buffer.concat([this.body, chunk]);
          const last = events.length - 1;
          const text = chunk.toString("latin1");
          if (events[last]?.startsWith("data ")) events[last] += text;
          else events.push(`data ${text}`);
        }
        if (end) events.push("end");
      },
      decodeTrailers: (trailers) => events.push(`trailers${fields(trailers)}`, "end"),
    };
    const stream = this.codec.newStream(decoder);
    stream.addCallbacks({
      onResetStream: (reason, details) => events.push(`reset ${reason} ${details}`.trimEnd()),
      onAboveWriteBufferHighWatermark: () => {},
      onBelowWriteBufferLowWatermark: () => {},
    });
    stream.encodeHeaders(new RequestHeaders(method, method === "CONNECT" ? undefined : path, "a.test", "http", list), endStream);
    this.stream = stream;
    return stream;
  }

  receive(data: string | Buffer): void {
    this.codec.dispatch(typeof data === "string" ? Buffer.from(data, "latin1") : data);
  }

  receiveCut(data: Buffer, cuts: readonly number[]): void {
    let from = 0;
    for (const cut of [...cuts, data.length]) {
      const piece = Buffer.from(data.subarray(from, cut));
      if (piece.length > 0) this.codec.dispatch(piece);
      piece.fill(0x58);
      from = Math.max(from, cut);
    }
  }
}

/** The same bytes in pieces: whole, one by one, and cut once at each of these places. */
export function cutsOf(length: number): number[][] {
  const every = Array.from({ length: Math.max(0, length - 1) }, (_, i) => i + 1);
  return [[], every, ...every.map((at) => [at])];
}
