/** One HTTP/2 connection, as both roles have it: frames in and out, settings, windows, and the defences against peers that mean harm. */
import type { Connection } from "../../net/connection.ts";
import type { Timer } from "../../net/timer-wheel.ts";
import type { StreamResetReason } from "../codec.ts";
import type { Trailers } from "../header-map.ts";
import {
  ConnectionError,
  defaultWindow,
  errorCode,
  FrameWriter,
  flag,
  frameHeadBytes,
  frameType,
  maxFrameBytes,
  maxWindow,
  preface,
  setting,
} from "./frames.ts";
import { type BlockKind, details, HeaderCollector } from "./header-collector.ts";
import { HpackDecoder, HpackError } from "./hpack/decoder.ts";
import { HpackEncoder } from "./hpack/encoder.ts";
import type { H2Settings } from "./settings.ts";
import type { H2Stream } from "./stream.ts";

/** How a stream has ended: what its peer may still send depends on it. */
const ended = { whole: 1, byUs: 2, byPeer: 3 } as const;
type Ended = (typeof ended)[keyof typeof ended];
/** So many ended streams are remembered. */
const remembered = 128;

/** All streams together may have so many times what one may have waiting before each that adds to it is paused. */
const sharedBufferFactor = 4;
/**
 * PING and SETTINGS that a peer may send beyond what its traffic explains: so many at once are max_outbound_control_frames, so many more each second. Envoy counts answers
 * that wait only; who reads them as fast as they come could have a worker do nothing else.
 */
const controlFramesPerSecond = 100;

/** Table of the encoder, octets, however much the peer allows. */
const encoderTableBytes = 4096;

export abstract class H2Connection {
  readonly connection: Connection;
  readonly settings: H2Settings;
  readonly writer: FrameWriter;
  readonly streams = new Map<number, H2Stream>();
  readonly collector: HeaderCollector;
  readonly encoder: HpackEncoder;
  readonly #decoder: HpackDecoder;
  readonly #isServer: boolean;
  /** What a stream may have waiting before its source is paused, octets. */
  readonly streamBufferLimit: number;

  /** Octets that wait in all streams. */
  #queuedBytes = 0;

  /** Nothing is read or written any more. */
  dead = false;
  isAboveHigh = false;
  /** SETTINGS of the peer. */
  peerInitialWindow = defaultWindow;
  peerMaxStreams = Number.POSITIVE_INFINITY;
  peerMaxFrame = maxFrameBytes;
  peerAllowsConnect = false;
  /** The highest stream that the peer (server) or we (client) have opened. */
  lastId = 0;
  opened = 0;
  goAwaySent = false;
  goAwayReceived = false;
  /** Streams above it are not taken any more. */
  #lastTaken = maxWindow;
  #sendWindow = defaultWindow;
  #receiveWindow: number;
  readonly #windowSize: number;
  #consumed = 0;
  /** Streams with data and no window for it. */
  readonly #blocked: H2Stream[] = [];
  #sending = false;

  // What is being read.
  #prefaceLeft: number;
  readonly #head = Buffer.alloc(frameHeadBytes);
  #headFill = 0;
  /** Octets of the payload still to come; -1: a head comes first. */
  #left = -1;
  #type = 0;
  #flags = 0;
  #id = 0;
  #payload: Buffer | undefined = undefined;
  #payloadFill = 0;
  #padding = 0;
  #dataStream: H2Stream | undefined = undefined;
  /** DATA and HEADERS frames, read and written, since control frames were last accounted for: peers measure their round trips by pings beside them. */
  #traffic = 0;
  #settingsSeen = false;
  /** The stream whose header block goes on in CONTINUATION frames; 0: none. */
  #blockId = 0;
  #blockEnds = false;
  #block: Buffer | undefined = undefined;
  #blockFill = 0;

  // Defences.
  #emptyFrames = 0;
  #priorityFrames = 0;
  #windowUpdates = 0;
  dataFramesSent = 0;
  #controlTokens: number;
  #controlRefillMs = 0;
  #resetTokens: number;
  #resetRefillMs = 0;

  readonly #recentIds = new Int32Array(remembered);
  readonly #recentEnds = new Uint8Array(remembered);
  #recentAt = 0;

  #pingTimer: Timer | undefined = undefined;
  #pingDue = false;
  #pingSent = false;

  constructor(connection: Connection, settings: H2Settings, isServer: boolean, bufferLimit: number) {
    this.connection = connection;
    this.settings = settings;
    this.#isServer = isServer;
    this.writer = new FrameWriter(connection);
    this.collector = new HeaderCollector(settings);
    this.encoder = new HpackEncoder(encoderTableBytes, settings.huffman);
    this.#decoder = new HpackDecoder(settings.hpackTableSize);
    this.#windowSize = Math.max(defaultWindow, settings.initialConnectionWindowSize);
    this.#receiveWindow = this.#windowSize;
    this.#prefaceLeft = isServer ? preface.length : 0;
    this.#resetTokens = settings.resetBurst;
    this.#controlTokens = settings.maxOutboundControlFrames;
    this.streamBufferLimit = bufferLimit > 0 ? Math.min(bufferLimit, settings.initialStreamWindowSize) : settings.initialStreamWindowSize;
    this.#begin();
  }

  #begin(): void {
    const { settings, writer } = this;
    if (!this.#isServer) writer.raw(preface);
    const pairs: number[] = [...settings.customSettings];
    const add = (identifier: number, value: number): void => {
      if (!settings.customSettings.some((one, i) => i % 2 === 0 && one === identifier)) pairs.push(identifier, value);
    };
    add(setting.headerTableSize, settings.hpackTableSize);
    if (this.#isServer) add(setting.enableConnectProtocol, settings.allowConnect ? 1 : 0);
    else add(setting.enablePush, 0);
    add(setting.maxConcurrentStreams, settings.maxConcurrentStreams);
    add(setting.initialWindowSize, settings.initialStreamWindowSize);
    writer.settings(pairs);
    if (this.#windowSize > defaultWindow) writer.word(frameType.windowUpdate, 0, this.#windowSize - defaultWindow);
    if (settings.pingIntervalMs > 0) {
      this.#pingTimer = settings.timers.createTimer(() => this.#onPingTimer());
      this.#pingTimer.enable(this.#pingPause());
    }
  }

  // ---- what the roles are told ---------------------------------------------------------------------------------------------

  /** A whole header block: its fields are in the collector, once `decode` was called. */
  protected abstract onHeaderBlock(id: number, endStream: boolean, decode: (kind: BlockKind) => void, frameBytes: number): void;
  protected abstract onPeerGoAway(lastId: number, code: number): void;
  protected abstract onPeerSettings(): void;
  /** The connection cannot go on: streams have been told. */
  protected abstract onBroken(details: string, isProtocolError: boolean, hadStreams: boolean): void;
  /** A stream has left. */
  protected abstract onStreamGone(stream: H2Stream): void;
  /** The peer does not answer pings. */
  protected abstract onPingTimeout(): void;

  /** A head that no stream has been begun for yet. */
  get readingHead(): boolean {
    return this.#blockId > this.lastId;
  }

  wantsToWrite(): boolean {
    return this.writer.waiting > 0 || this.connection.writeBuffered > 0 || this.#blocked.length > 0;
  }

  flush(): void {
    this.writer.flush();
  }

  /** Streams together have more waiting than is good. */
  get holdsMuch(): boolean {
    return this.#queuedBytes > this.streamBufferLimit * sharedBufferFactor;
  }
  /** @internal */
  addQueued(octets: number): void {
    this.#queuedBytes += octets;
    this.settings.stats.pending_send_bytes.add(octets);
  }

  // ---- bytes in --------------------------------------------------------------------------------------------------------------

  dispatch(data: Buffer): void {
    if (this.dead) return;
    try {
      this.#read(data);
      if (!this.dead) this.#checkOutbound();
    } catch (error) {
      if (error instanceof HpackError)
        this.fail(new ConnectionError(errorCode.compressionError, error.message, "codec_error:The_user_callback_function_failed"));
      else if (error instanceof ConnectionError) this.fail(error);
      else throw error;
    }
  }

  #read(data: Buffer): void {
    let at = 0;
    const end = data.length;
    if (this.#prefaceLeft > 0) {
      const from = preface.length - this.#prefaceLeft;
      const take = Math.min(this.#prefaceLeft, end);
      if (preface.compare(data, 0, take, from, from + take) !== 0)
        throw new ConnectionError(errorCode.protocolError, "no connection preface", "codec_error:Received_bad_client_magic_byte_string");
      this.#prefaceLeft -= take;
      at = take;
    }
    while (!this.dead) {
      if (this.#left < 0) {
        if (at >= end) return;
        let head = data;
        let from = at;
        if (this.#headFill === 0 && end - at >= frameHeadBytes) at += frameHeadBytes;
        else {
          const take = Math.min(frameHeadBytes - this.#headFill, end - at);
          data.copy(this.#head, this.#headFill, at, at + take);
          this.#headFill += take;
          at += take;
          if (this.#headFill < frameHeadBytes) return;
          this.#headFill = 0;
          head = this.#head;
          from = 0;
        }
        this.#type = head[from + 3];
        this.#flags = head[from + 4];
        this.#id = ((head[from + 5] & 0x7f) << 24) | (head[from + 6] << 16) | (head[from + 7] << 8) | head[from + 8];
        this.#left = (head[from] << 16) | (head[from + 1] << 8) | head[from + 2];
        this.#onFrameHead();
      }
      if (this.#type === frameType.data) {
        at = this.#takeData(data, at, end);
        if (this.#left >= 0) return;
        continue;
      }
      const left = this.#left;
      if (this.#payloadFill === 0 && end - at >= left) {
        this.#left = -1;
        this.#onFrame(data, at, at + left);
        at += left;
        continue;
      }
      this.#payload ??= Buffer.allocUnsafeSlow(maxFrameBytes);
      const take = Math.min(left, end - at);
      data.copy(this.#payload, this.#payloadFill, at, at + take);
      this.#payloadFill += take;
      this.#left -= take;
      at += take;
      if (this.#left > 0) return;
      const length = this.#payloadFill;
      this.#payloadFill = 0;
      this.#left = -1;
      const payload = this.#payload;
      // Kept while a frame is cut in two only: most connections never need it again.
      this.#payload = undefined;
      this.#onFrame(payload, 0, length);
    }
  }

  #onFrameHead(): void {
    const type = this.#type;
    const length = this.#left;
    if (length > maxFrameBytes) throw protocolError("frame too large", errorCode.frameSizeError);
    if (!this.#settingsSeen) {
      if (type !== frameType.settings || (this.#flags & flag.ack) !== 0) throw protocolError("no SETTINGS at the beginning");
      this.#settingsSeen = true;
    }
    if (this.#blockId !== 0 ? type !== frameType.continuation || this.#id !== this.#blockId : type === frameType.continuation)
      throw protocolError("a header block is not continued as it must be");
    if (type <= frameType.headers) this.#traffic++;
    if (type === frameType.data) this.#onDataHead(length);
  }

  // ---- DATA ------------------------------------------------------------------------------------------------------------------

  #onDataHead(length: number): void {
    const id = this.#id;
    if (id === 0) throw protocolError("DATA without a stream");
    const stream = this.streams.get(id);
    this.#padding = (this.#flags & flag.padded) !== 0 ? -1 : 0;
    if (this.#padding < 0 && length === 0) throw protocolError("no room for the padding's length");
    if (this.#padding === 0) this.#trackEmpty(length === 0, stream);
    this.#receiveWindow -= length;
    if (this.#receiveWindow < 0) throw protocolError("more DATA than the connection's window", errorCode.flowControlError);
    this.#dataStream = undefined;
    if (stream === undefined) {
      this.#onStrayData(id);
      this.#consumeConnection(length);
      return;
    }
    if (stream.remoteEnded)
      throw new ConnectionError(errorCode.streamClosed, "DATA: stream in half-closed(remote)", "codec_error:The_user_callback_function_failed");
    if (!stream.mayReceiveData) throw protocolError("DATA: stream not opened");
    stream.meter.wireBytesReceived += length + frameHeadBytes;
    stream.receiveWindow -= length;
    if (stream.receiveWindow < 0) {
      this.#consumeConnection(length);
      this.resetWith(stream, errorCode.flowControlError, "protocol_error", details.remoteReset);
      return;
    }
    this.#dataStream = stream;
  }

  #onStrayData(id: number): void {
    if (id > this.#lastTaken) return;
    if (id > this.lastId || (id & 1) === 0) throw protocolError("DATA on a stream that is idle");
    const how = this.#howEnded(id);
    if (how === ended.byUs) return;
    if (how === ended.whole) throw protocolError("DATA: stream closed", errorCode.streamClosed);
    this.#sendReset(id, errorCode.streamClosed);
  }

  #takeData(data: Buffer, at: number, end: number): number {
    if (this.#padding < 0) {
      if (at >= end) return at;
      this.#padding = data[at++];
      this.#left--;
      if (this.#padding > this.#left) throw protocolError("more padding than frame");
      this.#trackEmpty(this.#left === this.#padding, this.#dataStream);
      if (this.#dataStream !== undefined) this.#take(this.#dataStream, 1 + this.#padding);
    }
    const content = this.#left - this.#padding;
    if (content > 0) {
      const take = Math.min(content, end - at);
      if (take === 0) return at;
      this.#left -= take;
      const whole = this.#left === 0;
      this.#deliver(data, at, at + take, take === content && (this.#flags & flag.endStream) !== 0);
      at += take;
      if (whole) {
        this.#left = -1;
        return at;
      }
      if (this.#left > this.#padding || at >= end) return at;
    } else if (this.#left === 0) {
      this.#left = -1;
      this.#deliver(data, at, at, (this.#flags & flag.endStream) !== 0);
      return at;
    }
    // Padding: what it ends was delivered with the content, or there was none.
    const skip = Math.min(this.#left, end - at);
    const empty = content === 0 && this.#left === this.#padding;
    this.#left -= skip;
    this.#padding -= skip;
    if (this.#left === 0) this.#left = -1;
    if (empty && (this.#flags & flag.endStream) !== 0) this.#deliver(data, at, at, true);
    return at + skip;
  }

  #deliver(data: Buffer, from: number, to: number, endStream: boolean): void {
    const stream = this.#dataStream;
    if (stream === undefined || stream.closed) {
      // Ended while its frame came in.
      if (stream !== undefined) this.#consumeConnection(to - from);
      return;
    }
    const length = to - from;
    if (stream.expectedContent >= 0) {
      stream.expectedContent -= length;
      if (stream.expectedContent < 0 || (endStream && stream.expectedContent > 0)) {
        this.#consumeConnection(length);
        this.resetWith(stream, errorCode.protocolError, "protocol_error", details.remoteReset);
        return;
      }
    }
    if (length > 0) this.#take(stream, length);
    if (length === 0 && !endStream) return;
    if (endStream) {
      stream.remoteEnded = true;
      // A client's account is closed before the end is told: who hears it may begin the next request.
      if (!this.#isServer) this.streamMayEnd(stream);
    }
    stream.onData(from === 0 && to === data.length ? data : data.subarray(from, to), endStream);
    if (endStream) this.streamMayEnd(stream);
  }

  /** Octets that somebody has taken go back to the peer's windows, or wait while reading is disabled. */
  #take(stream: H2Stream, octets: number): void {
    if (stream.readsDisabled) stream.unconsumed += octets;
    else this.consume(stream, octets);
  }

  consume(stream: H2Stream, octets: number): void {
    this.#consumeConnection(octets);
    if (stream.closed || stream.remoteEnded) return;
    stream.consumed += octets;
    if (stream.consumed * 2 < this.settings.initialStreamWindowSize) return;
    stream.receiveWindow += stream.consumed;
    if (!this.dead) this.writer.word(frameType.windowUpdate, stream.id, stream.consumed);
    stream.consumed = 0;
  }

  #consumeConnection(octets: number): void {
    this.#consumed += octets;
    if (this.#consumed * 2 < this.#windowSize) return;
    this.#receiveWindow += this.#consumed;
    if (!this.dead) this.writer.word(frameType.windowUpdate, 0, this.#consumed);
    this.#consumed = 0;
  }

  // ---- other frames ----------------------------------------------------------------------------------------------------------

  #onFrame(bytes: Buffer, from: number, to: number): void {
    const id = this.#id;
    switch (this.#type) {
      case frameType.headers:
        this.#onHeaders(bytes, from, to);
        return;
      case frameType.continuation:
        this.#onContinuation(bytes, from, to);
        return;
      case frameType.priority:
        if (id === 0) throw protocolError("PRIORITY without a stream");
        if (++this.#priorityFrames > this.settings.maxPriorityFramesPerStream * (1 + this.opened))
          throw this.#flood("inbound_priority_frames_flood", "Too many PRIORITY frames");
        if (to - from !== 5) this.#streamError(id, errorCode.frameSizeError);
        else if ((bytes.readUInt32BE(from) & 0x7fff_ffff) === id) this.#streamError(id, errorCode.protocolError);
        return;
      case frameType.rstStream:
        this.#onRstStream(bytes, from, to);
        return;
      case frameType.settings:
        this.#onSettings(bytes, from, to);
        return;
      case frameType.pushPromise:
        throw protocolError("PUSH_PROMISE was not asked for");
      case frameType.ping:
        if (id !== 0) throw protocolError("PING on a stream");
        if (to - from !== 8) throw protocolError("PING of another size than 8", errorCode.frameSizeError);
        if ((this.#flags & flag.ack) !== 0) this.#onPong();
        else {
          this.#countControl();
          this.writer.ping(true, bytes, from);
        }
        this.#checkOutbound();
        return;
      case frameType.goAway:
        if (id !== 0) throw protocolError("GOAWAY on a stream");
        if (to - from < 8) throw protocolError("GOAWAY cut off", errorCode.frameSizeError);
        this.goAwayReceived = true;
        this.onPeerGoAway(bytes.readUInt32BE(from) & 0x7fff_ffff, bytes.readUInt32BE(from + 4));
        return;
      case frameType.windowUpdate:
        this.#onWindowUpdate(bytes, from, to);
        return;
      default: // RFC 9113 4.1: unknown types are ignored
    }
  }

  #onHeaders(bytes: Buffer, from: number, to: number): void {
    const id = this.#id;
    const flags = this.#flags;
    if (id === 0) throw protocolError("HEADERS without a stream");
    if ((flags & flag.padded) !== 0) {
      if (to - from < 1) throw protocolError("no room for the padding's length");
      to -= bytes[from++];
      if (to < from) throw protocolError("more padding than frame");
    }
    let dependsOnItself = false;
    if ((flags & flag.priority) !== 0) {
      if (to - from < 5) throw protocolError("no room for the priority", errorCode.frameSizeError);
      dependsOnItself = (bytes.readUInt32BE(from) & 0x7fff_ffff) === id;
      from += 5;
    }
    if (dependsOnItself) throw protocolError("a stream that depends on itself");
    this.#trackEmpty(to === from && (flags & flag.endStream) === 0, this.streams.get(id));
    const endStream = (flags & flag.endStream) !== 0;
    if ((flags & flag.endHeaders) !== 0) {
      this.#onBlock(id, endStream, bytes, from, to);
      return;
    }
    this.#blockId = id;
    this.#blockEnds = endStream;
    this.#blockFill = 0;
    this.#keepBlock(bytes, from, to);
  }

  #onContinuation(bytes: Buffer, from: number, to: number): void {
    this.#trackEmpty(to === from && (this.#flags & flag.endHeaders) === 0, this.streams.get(this.#id));
    this.#keepBlock(bytes, from, to);
    if ((this.#flags & flag.endHeaders) === 0) return;
    const id = this.#blockId;
    const block = this.#block as Buffer;
    this.#blockId = 0;
    this.#block = undefined;
    this.#onBlock(id, this.#blockEnds, block, 0, this.#blockFill);
  }

  /** A block that is cut in pieces is put together; one that is longer than any head may be ends the connection, as its tables are lost. */
  #keepBlock(bytes: Buffer, from: number, to: number): void {
    const length = this.#blockFill + to - from;
    if (length > this.settings.maxHeadBytes * 2 + 4 * maxFrameBytes) throw protocolError("a header block without end", errorCode.enhanceYourCalm);
    if (this.#block === undefined || this.#block.length < length) {
      const grown = Buffer.allocUnsafe(Math.max(length * 2, 2048));
      this.#block?.copy(grown, 0, 0, this.#blockFill);
      this.#block = grown;
    }
    bytes.copy(this.#block, this.#blockFill, from, to);
    this.#blockFill = length;
  }

  #onBlock(id: number, endStream: boolean, bytes: Buffer, from: number, to: number): void {
    this.onHeaderBlock(
      id,
      endStream,
      (kind) => {
        this.collector.begin(kind);
        this.#decoder.decode(bytes, from, to, this.collector);
        this.collector.finish();
      },
      to - from + frameHeadBytes,
    );
  }

  #onRstStream(bytes: Buffer, from: number, to: number): void {
    const id = this.#id;
    if (id === 0) throw protocolError("RST_STREAM without a stream");
    if (to - from !== 4) throw protocolError("RST_STREAM of another size than 4", errorCode.frameSizeError);
    const stream = this.streams.get(id);
    if (stream === undefined) {
      if (id > this.lastId && id <= this.#lastTaken) throw protocolError("RST_STREAM on a stream that is idle");
      return;
    }
    const code = bytes.readUInt32BE(from);
    this.settings.stats.rx_reset.inc();
    stream.countReceived(4);
    this.#close(stream, ended.byPeer);
    this.onPeerReset(stream, code);
    this.#countReset();
  }

  protected onPeerReset(stream: H2Stream, code: number): void {
    if (code === errorCode.refusedStream) stream.tellReset("remote_refused_stream_reset", details.remoteRefuse);
    else {
      const reason = code === errorCode.connectError ? "connect_error" : code === errorCode.protocolError ? "protocol_error" : "remote_reset";
      stream.tellReset(reason, details.remoteReset);
    }
  }

  /** stream_reset_burst and stream_reset_rate. */
  #countReset(): void {
    const { resetBurst, resetRate, timers } = this.settings;
    if (resetBurst <= 0) return;
    const now = timers.clock.now();
    this.#resetTokens = Math.min(resetBurst, this.#resetTokens + ((now - this.#resetRefillMs) / 1000) * resetRate);
    this.#resetRefillMs = now;
    if (this.#resetTokens < 1) throw protocolError("too many streams were reset", errorCode.internalError);
    this.#resetTokens--;
  }

  #onSettings(bytes: Buffer, from: number, to: number): void {
    const length = to - from;
    if (this.#id !== 0) throw protocolError("SETTINGS on a stream");
    if ((this.#flags & flag.ack) !== 0) {
      if (length !== 0) throw protocolError("SETTINGS ACK with content", errorCode.frameSizeError);
      return;
    }
    if (length % 6 !== 0) throw protocolError("SETTINGS cut off", errorCode.frameSizeError);
    for (let at = from; at < to; at += 6) this.#onSetting(bytes.readUInt16BE(at), bytes.readUInt32BE(at + 2));
    this.#countControl();
    this.writer.settingsAck();
    this.#checkOutbound();
    this.onPeerSettings();
    this.#sendBlocked();
  }

  #onSetting(identifier: number, value: number): void {
    switch (identifier) {
      case setting.headerTableSize:
        this.encoder.setAllowedSize(value);
        break;
      case setting.enablePush:
        if (value > 1 || (value === 1 && !this.#isServer)) throw protocolError("SETTINGS_ENABLE_PUSH");
        break;
      case setting.maxConcurrentStreams:
        this.peerMaxStreams = value;
        break;
      case setting.initialWindowSize: {
        if (value > maxWindow) throw protocolError("SETTINGS_INITIAL_WINDOW_SIZE", errorCode.flowControlError);
        const change = value - this.peerInitialWindow;
        this.peerInitialWindow = value;
        for (const stream of this.streams.values()) {
          stream.sendWindow += change;
          if (stream.sendWindow > maxWindow) throw protocolError("a window over its limit", errorCode.flowControlError);
        }
        break;
      }
      case setting.maxFrameSize:
        if (value < maxFrameBytes || value > 0xff_ffff) throw protocolError("SETTINGS_MAX_FRAME_SIZE");
        this.peerMaxFrame = value;
        break;
      case setting.enableConnectProtocol:
        if (value > 1 || (value === 0 && this.peerAllowsConnect)) throw protocolError("SETTINGS_ENABLE_CONNECT_PROTOCOL");
        this.peerAllowsConnect = value === 1;
        break;
    }
  }

  #onWindowUpdate(bytes: Buffer, from: number, to: number): void {
    const id = this.#id;
    if (to - from !== 4) throw protocolError("WINDOW_UPDATE of another size than 4", errorCode.frameSizeError);
    const { maxWindowUpdatesPerDataFrame } = this.settings;
    if (++this.#windowUpdates > 5 + 2 * (this.opened + maxWindowUpdatesPerDataFrame * this.dataFramesSent))
      throw this.#flood("inbound_window_update_frames_flood", "Too many WINDOW_UPDATE frames");
    const octets = bytes.readUInt32BE(from) & 0x7fff_ffff;
    if (id === 0) {
      if (octets === 0) throw protocolError("WINDOW_UPDATE by 0");
      this.#sendWindow += octets;
      if (this.#sendWindow > maxWindow) throw protocolError("the connection's window over its limit", errorCode.flowControlError);
      this.#sendBlocked();
      return;
    }
    const stream = this.streams.get(id);
    if (stream === undefined) {
      if (id > this.lastId && id <= this.#lastTaken) throw protocolError("WINDOW_UPDATE on a stream that is idle");
      return;
    }
    stream.countReceived(4);
    stream.sendWindow += octets;
    if (octets === 0) this.resetWith(stream, errorCode.protocolError, "protocol_error", "http2.unknown.nghttp2.error");
    else if (stream.sendWindow > maxWindow) this.resetWith(stream, errorCode.flowControlError, "protocol_error", "http2.unknown.nghttp2.error");
    else if (stream.blocked) this.#sendBlocked();
  }

  /** On a stream that may not even be there. */
  #streamError(id: number, code: number): void {
    const stream = this.streams.get(id);
    if (stream !== undefined) this.resetWith(stream, code, "protocol_error", "http2.unknown.nghttp2.error");
    else if (id > this.lastId) throw protocolError("PRIORITY", code);
    else this.#sendReset(id, code);
  }

  // ---- defences ----------------------------------------------------------------------------------------------------------------

  #trackEmpty(empty: boolean, stream: H2Stream | undefined): void {
    if (!empty || (this.#type === frameType.data && (this.#flags & flag.endStream) !== 0)) {
      this.#emptyFrames = 0;
      return;
    }
    if (++this.#emptyFrames <= this.settings.maxConsecutiveEmptyFrames) return;
    if (stream !== undefined) stream.responseDetails = details.emptyFrames;
    throw this.#flood("inbound_empty_frames_flood", "Too many consecutive frames with an empty payload", details.emptyFrames);
  }

  #countControl(): void {
    if (--this.#controlTokens >= 0) return;
    const { maxOutboundControlFrames, timers } = this.settings;
    const now = timers.clock.now();
    // What streams there were since, and the time that has passed, stand for as many frames again.
    const earned = Math.floor(((now - this.#controlRefillMs) / 1000) * controlFramesPerSecond) + this.#traffic;
    this.#controlRefillMs = now;
    this.#traffic = 0;
    this.#controlTokens = Math.min(maxOutboundControlFrames, earned) - 1;
    if (this.#controlTokens < 0) throw this.#flood("outbound_control_flood", "Too many control frames.");
  }

  #checkOutbound(): void {
    const { maxOutboundControlFrames, maxOutboundFrames } = this.settings;
    const { writer } = this;
    if (writer.outboundFrames <= maxOutboundControlFrames) return;
    // What the kernel takes now is no backlog.
    writer.flush();
    if (writer.outboundControlFrames > maxOutboundControlFrames) throw this.#flood("outbound_control_flood", "Too many control frames in the outbound queue.");
    if (writer.outboundFrames > maxOutboundFrames) throw this.#flood("outbound_flood", "Too many frames in the outbound queue.");
  }

  #flood(
    stat: "inbound_empty_frames_flood" | "inbound_priority_frames_flood" | "inbound_window_update_frames_flood" | "outbound_control_flood" | "outbound_flood",
    text: string,
    streamDetails?: string,
  ): FloodError {
    this.settings.stats[stat].inc();
    return new FloodError(errorCode.enhanceYourCalm, text, streamDetails ?? `codec_error:${text.replaceAll(" ", "_")}`);
  }

  // ---- sending -------------------------------------------------------------------------------------------------------------------

  /**
   * Sends as much of `chunk` from `from` as windows allow, in at most `maxFrames` frames; where the stream's end is part of it, END_STREAM goes with the
   * last octet. Answers the octets sent.
   */
  sendData(stream: H2Stream, chunk: Buffer, from: number, endStream: boolean, maxFrames = Number.POSITIVE_INFINITY): number {
    const { writer } = this;
    const to = chunk.length;
    let at = from;
    // The end of a stream needs no window.
    if (at === to) {
      if (!endStream) return 0;
      stream.meter.wireBytesSent += writer.data(flag.endStream, stream.id, chunk, at, at);
      this.dataFramesSent++;
      this.localEnd(stream);
      return 0;
    }
    for (let frames = 0; at < to && frames < maxFrames; frames++) {
      const length = Math.min(to - at, maxFrameBytes, stream.sendWindow, this.#sendWindow);
      if (length <= 0) break;
      const last = endStream && at + length === to;
      stream.meter.wireBytesSent += writer.data(last ? flag.endStream : 0, stream.id, chunk, at, at + length);
      this.dataFramesSent++;
      this.#traffic++;
      stream.sendWindow -= length;
      this.#sendWindow -= length;
      at += length;
      if (last) this.localEnd(stream);
    }
    return at - from;
  }

  sendTrailers(stream: H2Stream, trailers: Trailers): void {
    if (trailers.size === 0) {
      this.sendData(stream, nothing, 0, true);
      return;
    }
    const { encoder } = this;
    encoder.begin();
    const { list } = trailers;
    for (let i = 0; i < list.length; i += 2) encoder.field(list[i], list[i + 1]);
    this.sendBlock(stream, true);
  }

  /** The encoder's block as HEADERS of the stream. */
  sendBlock(stream: H2Stream, endStream: boolean): void {
    const { encoder, writer } = this;
    this.#traffic++;
    const octets = writer.headers(stream.id, endStream, encoder.end(), encoder.length);
    stream.headersSent = true;
    stream.meter.headerBytesSent += octets;
    stream.meter.wireBytesSent += octets;
    if (endStream) {
      stream.localEnded = true;
      this.localEnd(stream);
    }
  }

  /** END_STREAM is out. */
  protected localEnd(stream: H2Stream): void {
    this.streamMayEnd(stream);
  }

  block(stream: H2Stream): void {
    if (stream.blocked) return;
    stream.blocked = true;
    this.#blocked.push(stream);
  }

  /** Streams that wait take turns, a frame each. */
  #sendBlocked(): void {
    if (this.#sending) return;
    this.#sending = true;
    const blocked = this.#blocked;
    let stuck = 0;
    while (blocked.length > stuck && !this.dead) {
      const stream = blocked.shift() as H2Stream;
      if (stream.closed) continue;
      const window = Math.min(this.#sendWindow, stream.sendWindow);
      if (window <= 0 && stream.queuedBytes > 0) {
        blocked.push(stream);
        stuck++;
        continue;
      }
      stuck = 0;
      stream.blocked = false;
      if (!stream.sendQueued() && !stream.closed && !stream.blocked) this.block(stream);
    }
    this.#sending = false;
  }

  // ---- ends ----------------------------------------------------------------------------------------------------------------------

  protected addStream(stream: H2Stream, id: number): void {
    stream.id = id;
    this.lastId = id;
    this.opened++;
    this.streams.set(id, stream);
    this.settings.stats.streams_active.inc();
  }

  /** After an end of either side. */
  streamMayEnd(stream: H2Stream): void {
    if (stream.closed || !stream.remoteEnded || !stream.localEnded || stream.waitsToSend) return;
    this.#close(stream, ended.whole);
    stream.forgetCallbacks();
  }

  #close(stream: H2Stream, how: Ended): void {
    if (stream.closed) return;
    this.streams.delete(stream.id);
    this.#recentIds[this.#recentAt] = stream.id;
    this.#recentEnds[this.#recentAt] = how;
    this.#recentAt = (this.#recentAt + 1) % remembered;
    this.settings.stats.streams_active.dec();
    const { unconsumed } = stream;
    stream.unconsumed = 0;
    stream.release();
    if (unconsumed > 0) this.#consumeConnection(unconsumed);
    this.onStreamGone(stream);
  }

  #howEnded(id: number): Ended | 0 {
    const at = this.#recentIds.indexOf(id);
    return at < 0 ? 0 : (this.#recentEnds[at] as Ended);
  }

  /** For HEADERS on a stream that is no more: whether they are to be passed over (the peer could not know). */
  protected passesOver(id: number): boolean {
    const how = this.#howEnded(id);
    if (how === ended.byUs) return true;
    throw how === 0
      ? protocolError("a stream identifier lower than one before")
      : new ConnectionError(errorCode.streamClosed, "HEADERS: stream closed", "codec_error:The_user_callback_function_failed");
  }

  /** Of our own accord. */
  resetStream(stream: H2Stream, reason: StreamResetReason): void {
    if (stream.closed) return;
    this.#sendReset(stream.id, this.resetCode(stream, reason), stream);
    this.#close(stream, ended.byUs);
    stream.tellReset(reason, "");
  }

  /** For something the peer did. */
  resetWith(stream: H2Stream, code: number, reason: StreamResetReason, why: string): void {
    if (stream.closed) return;
    this.#sendReset(stream.id, code, stream);
    this.#close(stream, ended.byUs);
    stream.tellReset(reason, why);
  }

  /** The peer will not take it up: nothing is sent. */
  protected giveUp(stream: H2Stream, reason: StreamResetReason, why: string): void {
    if (stream.closed) return;
    this.#close(stream, ended.byUs);
    stream.tellReset(reason, why);
  }

  protected abstract resetCode(stream: H2Stream, reason: StreamResetReason): number;

  /** Answers a stream that was never begun. */
  protected refuse(id: number, code: number): void {
    this.#recentIds[this.#recentAt] = id;
    this.#recentEnds[this.#recentAt] = ended.byUs;
    this.#recentAt = (this.#recentAt + 1) % remembered;
    this.#sendReset(id, code);
  }

  #sendReset(id: number, code: number, stream?: H2Stream): void {
    if (this.dead) return;
    this.settings.stats.tx_reset.inc();
    this.writer.word(frameType.rstStream, id, code);
    if (stream !== undefined) stream.meter.wireBytesSent += frameHeadBytes + 4;
  }

  /** Streams the peer opened beyond it are not taken. */
  get lastTaken(): number {
    return this.#lastTaken;
  }

  shutdownNotice(): void {
    if (this.dead || this.goAwaySent) return;
    this.writer.goAway(maxWindow, errorCode.noError);
  }

  goAway(): void {
    if (this.dead || this.goAwaySent) return;
    this.goAwaySent = true;
    if (this.#isServer) this.#lastTaken = this.lastId;
    this.writer.goAway(this.#isServer ? this.lastId : 0, errorCode.noError);
    this.settings.stats.goaway_sent.inc();
  }

  /** The stream whose header block is coming in, 0: none. */
  protected get blockId(): number {
    return this.#blockId;
  }

  /** The peer broke the protocol: GOAWAY, every stream ends, the connection is closed by whoever owns it. */
  fail(error: ConnectionError): void {
    if (this.dead) return;
    this.writer.goAway(this.#isServer ? this.lastId : 0, error.code, error.message);
    this.writer.flush();
    const hadStreams = this.streams.size > 0;
    this.#die("protocol_error", error.details);
    this.onBroken(error.details, !(error instanceof FloodError), hadStreams);
  }

  #die(reason: StreamResetReason, why: string): void {
    this.dead = true;
    this.#pingTimer?.disable();
    for (const stream of [...this.streams.values()]) {
      this.#close(stream, ended.byUs);
      stream.tellReset(reason, stream.responseDetails !== "" && why !== "" ? stream.responseDetails : why);
    }
  }

  onConnectionEnd(): void {
    if (this.dead) return;
    this.#die("connection_termination", "");
  }

  onUnderlyingConnectionAboveWriteBufferHighWatermark(): void {
    this.isAboveHigh = true;
    for (const stream of [...this.streams.values()]) stream.onAboveHigh();
  }
  onUnderlyingConnectionBelowWriteBufferLowWatermark(): void {
    this.isAboveHigh = false;
    for (const stream of [...this.streams.values()]) stream.onBelowLow();
  }

  // ---- keepalive -----------------------------------------------------------------------------------------------------------------

  #pingPause(): number {
    const { pingIntervalMs, pingJitterPercent } = this.settings;
    return pingIntervalMs * (1 + (Math.random() * pingJitterPercent) / 100);
  }

  /** Asks the peer whether it is there. */
  sendPing(): void {
    if (this.dead || this.#pingSent) return;
    const { settings } = this;
    this.#pingSent = true;
    this.writer.ping(false, pingPayload, 0);
    this.writer.flush();
    this.#pingTimer ??= settings.timers.createTimer(() => this.#onPingTimer());
    this.#pingDue = true;
    this.#pingTimer.enable(settings.pingTimeoutMs);
  }

  #onPingTimer(): void {
    if (this.dead) return;
    if (!this.#pingDue) {
      this.sendPing();
      return;
    }
    this.settings.stats.keepalive_timeout.inc();
    this.onPingTimeout();
  }

  #onPong(): void {
    if (!this.#pingSent) return;
    this.#pingSent = false;
    this.#pingDue = false;
    if (this.settings.pingIntervalMs > 0) this.#pingTimer?.enable(this.#pingPause());
    else this.#pingTimer?.disable();
  }
}

/** A peer that sends what costs us more than it: no breach of the protocol. */
class FloodError extends ConnectionError {}

export function protocolError(message: string, code: number = errorCode.protocolError): ConnectionError {
  return new ConnectionError(code, message, "codec_error:The_user_callback_function_failed");
}

const nothing = Buffer.alloc(0);
const pingPayload = Buffer.from("outrider", "latin1");
