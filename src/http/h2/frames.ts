/** The frames of HTTP/2 (RFC 9113 6), and the writer that puts them on a connection: all of a turn of the event loop in one write. */
import type { Connection } from "../../net/connection.ts";

export const frameType = {
  data: 0,
  headers: 1,
  priority: 2,
  rstStream: 3,
  settings: 4,
  pushPromise: 5,
  ping: 6,
  goAway: 7,
  windowUpdate: 8,
  continuation: 9,
} as const;

export const flag = { endStream: 1, ack: 1, endHeaders: 4, padded: 8, priority: 0x20 } as const;

export const errorCode = {
  noError: 0,
  protocolError: 1,
  internalError: 2,
  flowControlError: 3,
  settingsTimeout: 4,
  streamClosed: 5,
  frameSizeError: 6,
  refusedStream: 7,
  cancel: 8,
  compressionError: 9,
  connectError: 10,
  enhanceYourCalm: 11,
} as const;

export const setting = {
  headerTableSize: 1,
  enablePush: 2,
  maxConcurrentStreams: 3,
  initialWindowSize: 4,
  maxFrameSize: 5,
  maxHeaderListSize: 6,
  enableConnectProtocol: 8,
} as const;

export const preface = Buffer.from("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "latin1");
export const frameHeadBytes = 9;
/** The longest frame that we take: we never ask for more than what every peer must take (RFC 9113 4.2). */
export const maxFrameBytes = 16384;
export const maxWindow = 0x7fff_ffff;
export const defaultWindow = 65535;

/** The peer has broken a rule that the whole connection depends on: GOAWAY with `code`. */
export class ConnectionError extends Error {
  readonly code: number;
  /** Response code details of the streams that end with it. */
  readonly details: string;
  constructor(code: number, message: string, details: string) {
    super(message);
    this.code = code;
    this.details = details;
  }
}

/** Output of a turn is gathered in buffers of this size. */
const bufferBytes = 64 * 1024;
/** What is not longer is copied to go out, and its buffer stays. */
const smallOutput = 4096;
const spare: Buffer[] = [];
const maxSpare = 32;

export class FrameWriter {
  readonly #connection: Connection;
  #buffer: Buffer | undefined = undefined;
  #at = 0;
  /** Where the last frame begins, if it is DATA that more may be put to; -1: it is not. */
  #dataAt = -1;
  #dataId = 0;
  #scheduled = false;
  /** Frames in the buffer, and of them those that are answers to the peer's frames. */
  #frames = 0;
  #controlFrames = 0;
  /** The same of what the connection was given and has not all handed over. */
  #unsentFrames = 0;
  #unsentControlFrames = 0;
  /** Octets of everything that was written. */
  total = 0;

  constructor(connection: Connection) {
    this.#connection = connection;
  }

  readonly #turnEnds = (): void => {
    this.#scheduled = false;
    this.flush();
  };

  /** Frames that the peer has not taken. */
  get outboundFrames(): number {
    return this.#unsentFrames + this.#frames;
  }
  get outboundControlFrames(): number {
    return this.#unsentControlFrames + this.#controlFrames;
  }
  get waiting(): number {
    return this.#at;
  }

  /** Makes room for `octets` in one piece, which must not be more than a frame of `maxFrameBytes` takes. */
  #room(octets: number): Buffer {
    let buffer = this.#buffer;
    if (buffer !== undefined && this.#at + octets > bufferBytes) {
      this.flush();
      buffer = this.#buffer;
    }
    if (buffer === undefined) {
      this.#buffer = buffer = spare.pop() ?? Buffer.allocUnsafeSlow(bufferBytes);
      this.#at = 0;
    }
    if (!this.#scheduled) {
      this.#scheduled = true;
      queueMicrotask(this.#turnEnds);
    }
    return buffer;
  }

  #head(buffer: Buffer, length: number, type: number, flags: number, id: number): void {
    let at = this.#at;
    this.#dataAt = -1;
    buffer[at] = length >>> 16;
    buffer[at + 1] = length >>> 8;
    buffer[at + 2] = length;
    buffer[at + 3] = type;
    buffer[at + 4] = flags;
    at += 5;
    buffer[at] = id >>> 24;
    buffer[at + 1] = id >>> 16;
    buffer[at + 2] = id >>> 8;
    buffer[at + 3] = id;
    this.#at = at + 4;
    this.total += length + frameHeadBytes;
    this.#frames++;
  }

  /** A frame with the payload `bytes[from..to)`, of at most `maxFrameBytes`. */
  frame(type: number, flags: number, id: number, bytes: Buffer, from: number, to: number): void {
    const length = to - from;
    const buffer = this.#room(length + frameHeadBytes);
    this.#head(buffer, length, type, flags, id);
    if (length > 0) {
      bytes.copy(buffer, this.#at, from, to);
      this.#at += length;
    }
  }

  /**
   * DATA of at most `maxFrameBytes`. What follows on DATA of the same stream goes into that frame while there is room: pieces that come in small leave as few
   * frames. Answers the octets written.
   */
  data(flags: number, id: number, bytes: Buffer, from: number, to: number): number {
    const length = to - from;
    const before = this.#dataAt;
    if (before >= 0 && this.#dataId === id && this.#at - before + length <= maxFrameBytes + frameHeadBytes && this.#at + length <= bufferBytes) {
      const buffer = this.#buffer as Buffer;
      bytes.copy(buffer, this.#at, from, to);
      this.#at += length;
      const total = this.#at - before - frameHeadBytes;
      buffer[before] = total >>> 16;
      buffer[before + 1] = total >>> 8;
      buffer[before + 2] = total;
      buffer[before + 4] = flags;
      this.total += length;
      return length;
    }
    this.frame(frameType.data, flags, id, bytes, from, to);
    this.#dataAt = this.#at - length - frameHeadBytes;
    this.#dataId = id;
    return length + frameHeadBytes;
  }

  /** A header block as HEADERS and, where it needs them, CONTINUATION frames. Answers the octets of all. */
  headers(id: number, endStream: boolean, block: Buffer, length: number): number {
    const before = this.total;
    const first = Math.min(length, maxFrameBytes);
    const end = endStream ? flag.endStream : 0;
    this.frame(frameType.headers, first === length ? end | flag.endHeaders : end, id, block, 0, first);
    for (let at = first; at < length; at += maxFrameBytes) {
      const to = Math.min(length, at + maxFrameBytes);
      this.frame(frameType.continuation, to === length ? flag.endHeaders : 0, id, block, at, to);
    }
    return this.total - before;
  }

  /** RST_STREAM, WINDOW_UPDATE. */
  word(type: number, id: number, value: number): void {
    const buffer = this.#room(frameHeadBytes + 4);
    this.#head(buffer, 4, type, 0, id);
    this.#at = buffer.writeUInt32BE(value, this.#at);
    if (type === frameType.rstStream) this.#controlFrames++;
  }

  /** Pairs of identifier and value. */
  settings(pairs: readonly number[]): void {
    const length = (pairs.length >> 1) * 6;
    const buffer = this.#room(frameHeadBytes + length);
    this.#head(buffer, length, frameType.settings, 0, 0);
    for (let i = 0; i < pairs.length; i += 2) {
      this.#at = buffer.writeUInt16BE(pairs[i], this.#at);
      this.#at = buffer.writeUInt32BE(pairs[i + 1], this.#at);
    }
  }

  settingsAck(): void {
    this.#head(this.#room(frameHeadBytes), 0, frameType.settings, flag.ack, 0);
    this.#controlFrames++;
  }

  /** `payload`: eight octets at `from`. */
  ping(ack: boolean, payload: Buffer, from: number): void {
    this.frame(frameType.ping, ack ? flag.ack : 0, 0, payload, from, from + 8);
    if (ack) this.#controlFrames++;
  }

  goAway(lastId: number, code: number, text = ""): void {
    const buffer = this.#room(frameHeadBytes + 8 + text.length);
    this.#head(buffer, 8 + text.length, frameType.goAway, 0, 0);
    this.#at = buffer.writeUInt32BE(lastId, this.#at);
    this.#at = buffer.writeUInt32BE(code, this.#at);
    this.#at += buffer.write(text, this.#at, "latin1");
  }

  raw(bytes: Buffer): void {
    const buffer = this.#room(bytes.length);
    this.#at += bytes.copy(buffer, this.#at);
    this.total += bytes.length;
  }

  /** Hands everything to the connection now. */
  flush(): void {
    const buffer = this.#buffer;
    if (buffer === undefined) return;
    const length = this.#at;
    const connection = this.#connection;
    this.#buffer = undefined;
    this.#at = 0;
    this.#dataAt = -1;
    // TLS tells late that it has handed over what it was given: looked at before more is put to it, too.
    this.#count(connection.writeBuffered === 0);
    if (length <= smallOutput && connection.tls !== undefined) {
      connection.write(Buffer.from(buffer.subarray(0, length)));
      keep(buffer);
    } else {
      connection.write(buffer.subarray(0, length));
      // Still being written from? Then it is not used again.
      if (connection.writeBuffered === 0) keep(buffer);
    }
    if (connection.writeBuffered === 0) this.#count(true);
  }

  #count(isEmpty: boolean): void {
    this.#unsentFrames = (isEmpty ? 0 : this.#unsentFrames) + this.#frames;
    this.#unsentControlFrames = (isEmpty ? 0 : this.#unsentControlFrames) + this.#controlFrames;
    this.#frames = 0;
    this.#controlFrames = 0;
  }
}

function keep(buffer: Buffer): void {
  if (spare.length < maxSpare) spare.push(buffer);
}
