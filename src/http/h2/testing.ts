/** Frames by hand, and a server or client codec on a connection in memory: for tests of the codec and for its fuzz target. */

import { TimerWheel } from "../../net/timer-wheel.ts";
import { StatsStore } from "../../stats/stats.ts";
import type { ResponseEncoder, StreamCallbacks, StreamResetReason } from "../codec.ts";
import type { RequestHeaders, ResponseHeaders, Trailers } from "../header-map.ts";
import { FakeClock, FakeConnection } from "../manager/testing.ts";
import { frameHeadBytes, frameType, preface } from "./frames.ts";
import { HpackDecoder } from "./hpack/decoder.ts";
import { HpackEncoder } from "./hpack/encoder.ts";
import { H2ServerConnection } from "./server-connection.ts";
import { type H2Settings, h2Stats } from "./settings.ts";

export function testSettings(changes: Partial<H2Settings> = {}, timers = new TimerWheel(new FakeClock())): H2Settings {
  return {
    hpackTableSize: 4096,
    maxConcurrentStreams: 100,
    initialStreamWindowSize: 65535,
    initialConnectionWindowSize: 65535,
    allowConnect: false,
    customSettings: [],
    maxOutboundFrames: 10_000,
    maxOutboundControlFrames: 1000,
    maxConsecutiveEmptyFrames: 1,
    maxPriorityFramesPerStream: 100,
    maxWindowUpdatesPerDataFrame: 10,
    streamErrorOnInvalidMessage: true,
    pingIntervalMs: 0,
    pingTimeoutMs: 0,
    pingJitterPercent: 0,
    pingAfterIdleMs: 0,
    huffman: true,
    refusesObsText: false,
    maxFieldBytes: 0,
    resetBurst: 1000,
    resetRate: 33,
    maxHeadBytes: 8192,
    maxHeaderCount: 20,
    underscores: "allow",
    flushTimeoutMs: 0,
    stats: h2Stats(new StatsStore().scope("")),
    timers,
    ...changes,
  };
}

export interface SeenFrame {
  readonly type: number;
  readonly flags: number;
  readonly id: number;
  readonly payload: Buffer;
}

export function frame(type: number, flags: number, id: number, payload: Buffer = Buffer.alloc(0)): Buffer {
  const head = Buffer.alloc(frameHeadBytes);
  head.writeUIntBE(payload.length, 0, 3);
  head[3] = type;
  head[4] = flags;
  head.writeUInt32BE(id, 5);
  return Buffer.concat([head, payload]);
}

/** RST_STREAM, WINDOW_UPDATE. */
export function word(type: number, id: number, value: number): Buffer {
  const payload = Buffer.alloc(4);
  payload.writeUInt32BE(value);
  return frame(type, 0, id, payload);
}

export function settingsFrame(...pairs: number[]): Buffer {
  const payload = Buffer.alloc((pairs.length >> 1) * 6);
  for (let i = 0; i < pairs.length; i += 2) {
    payload.writeUInt16BE(pairs[i], i * 3);
    payload.writeUInt32BE(pairs[i + 1], i * 3 + 2);
  }
  return frame(frameType.settings, 0, 0, payload);
}

/** Whole frames, and what is left of one that is cut off. */
export function framesOf(bytes: Buffer): SeenFrame[] {
  const seen: SeenFrame[] = [];
  for (let at = 0; at + frameHeadBytes <= bytes.length; ) {
    const length = bytes.readUIntBE(at, 3);
    const payload = bytes.subarray(at + frameHeadBytes, at + frameHeadBytes + length);
    seen.push({ type: bytes[at + 3], flags: bytes[at + 4], id: bytes.readUInt32BE(at + 5), payload });
    at += frameHeadBytes + length;
  }
  return seen;
}

const typeNames = ["DATA", "HEADERS", "PRIORITY", "RST_STREAM", "SETTINGS", "PUSH_PROMISE", "PING", "GOAWAY", "WINDOW_UPDATE", "CONTINUATION"];

/** One side of a connection: writes header blocks, reads those of the other. */
export class Peer {
  readonly encoder = new HpackEncoder(4096, false);
  readonly decoder = new HpackDecoder(4096);

  block(fields: readonly string[]): Buffer {
    this.encoder.begin();
    for (let i = 0; i < fields.length; i += 2) this.encoder.field(fields[i], fields[i + 1]);
    return Buffer.from(this.encoder.end().subarray(0, this.encoder.length));
  }

  headers(id: number, fields: readonly string[], endStream = true): Buffer {
    return frame(frameType.headers, endStream ? 5 : 4, id, this.block(fields));
  }

  /** "HEADERS 1 end :status=200", "RST_STREAM 1 8", ... */
  describe({ type, flags, id, payload }: SeenFrame): string {
    const end = (type === frameType.data || type === frameType.headers) && (flags & 1) !== 0 ? " end" : "";
    const name = `${typeNames[type]} ${id}${end}`;
    switch (type) {
      case frameType.headers: {
        const list: string[] = [];
        this.decoder.decode(payload, 0, payload.length, { onField: (field, value) => list.push(`${field}=${value}`) });
        return `${name} ${list.join(" ")}`;
      }
      case frameType.data:
        return payload.length > 40 ? `${name} ${payload.length} octets` : `${name} ${payload.toString("latin1")}`.trimEnd();
      case frameType.rstStream:
      case frameType.windowUpdate:
        return `${name} ${payload.readUInt32BE(0)}`;
      case frameType.goAway:
        return `${name} ${payload.readUInt32BE(0)} ${payload.readUInt32BE(4)}`;
      case frameType.settings:
        return (flags & 1) !== 0 ? "SETTINGS ack" : "SETTINGS";
      default:
        return (flags & 1) !== 0 ? `${name} ack` : name;
    }
  }
}

/** What came to a stream of the server codec. */
export class SeenStream implements StreamCallbacks {
  readonly encoder: ResponseEncoder;
  readonly #log: (text: string) => void;
  headers: RequestHeaders | undefined = undefined;
  body = "";
  reset: string | undefined = undefined;
  paused = 0;

  constructor(encoder: ResponseEncoder, log: (text: string) => void) {
    this.encoder = encoder;
    this.#log = log;
    encoder.stream.addCallbacks(this);
  }
  decodeHeaders(headers: RequestHeaders, endStream: boolean): void {
    this.headers = headers;
    const fields = headers.list.flatMap((text, i) => (i % 2 === 0 ? [`${text}=${headers.list[i + 1]}`] : []));
    this.#log([`${headers.method} ${headers.scheme}://${headers.authority}${headers.path}${endStream ? " end" : ""}`, ...fields].join(" "));
  }
  decodeData(chunk: Buffer, endStream: boolean): void {
    this.body += chunk.toString("latin1");
    this.#log(`data ${chunk.length}${endStream ? " end" : ""}`);
  }
  decodeTrailers(trailers: Trailers): void {
    this.#log(`trailers ${trailers.list.join(" ")}`);
  }
  sendLocalReply(status: number): void {
    this.#log(`refused ${status}`);
  }
  onResetStream(reason: StreamResetReason, details: string): void {
    this.reset = `${reason} ${details}`.trim();
    this.#log(`reset ${this.reset}`);
  }
  onAboveWriteBufferHighWatermark(): void {
    this.paused++;
  }
  onBelowWriteBufferLowWatermark(): void {
    this.paused--;
  }
  respond(headers: ResponseHeaders, body?: string): void {
    this.encoder.encodeHeaders(headers, body === undefined);
    if (body !== undefined) this.encoder.encodeData(Buffer.from(body, "latin1"), true);
  }
}

export class ServerHarness {
  readonly connection = new FakeConnection();
  readonly clock = new FakeClock();
  readonly timers = new TimerWheel(this.clock);
  readonly events: string[] = [];
  readonly streams: SeenStream[] = [];
  readonly peer = new Peer();
  readonly settings: H2Settings;
  readonly codec: H2ServerConnection;
  #read = 0;

  constructor(changes: Partial<H2Settings> = {}, bufferLimit = 0, start = true) {
    this.settings = testSettings(changes, this.timers);
    this.codec = new H2ServerConnection(
      this.connection,
      this.settings,
      {
        newStream: (encoder) => {
          const stream = new SeenStream(encoder, (text) => this.events.push(text));
          this.streams.push(stream);
          return stream;
        },
        onGoAway: () => this.events.push("goaway"),
        onConnectionError: (details) => {
          this.events.push(`error ${details}`);
          this.connection.close("flush_and_delay");
        },
      },
      bufferLimit,
    );
    if (!start) return;
    this.codec.dispatch(Buffer.concat([preface, settingsFrame()]));
    this.written();
  }

  receive(...frames: Buffer[]): string[] {
    this.codec.dispatch(Buffer.concat(frames));
    return this.written();
  }

  /** Frames written since the last look. */
  written(): string[] {
    this.codec.flush();
    const bytes = Buffer.from(this.connection.written.slice(this.#read), "latin1");
    this.#read = this.connection.written.length;
    return framesOf(bytes).map((one) => this.peer.describe(one));
  }

  pass(ms: number): void {
    this.clock.ms += ms;
    this.timers.advance();
  }
}
