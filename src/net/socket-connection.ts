/**
 * `Connection` over a TCP or Unix socket, with or without TLS, accepted or dialled.
 *
 * Writes of one turn of the event loop leave in one system call (the socket is corked until the turn ends). Reads go through the
 * shared buffers of read-buffers.ts. Watermarks: above `limit` bytes unsent, callbacks hear "high"; at half of it, "low".
 */

import type { X509Certificate } from "node:crypto";
import { createConnection, Socket } from "node:net";
import { type ConnectionOptions, TLSSocket, type TLSSocketOptions, connect as tlsConnect } from "node:tls";
import { getLogger } from "../log/log.ts";
import type { Counter } from "../stats/stats.ts";
import { anonymousPipe, ipAddress, pipeAddress } from "./address.ts";
import type { Address, CloseKind, Connection, ConnectionCallbacks, ConnectionEvent, ReadFilter, TlsInfo } from "./connection.ts";
import { downstreamBuffers, type ReadBuffers, upstreamBuffers } from "./read-buffers.ts";
import type { Timer, TimerWheel } from "./timer-wheel.ts";
import { type ClientHello, parseClientHello } from "./tls/client-hello.ts";
import { peerCertificate, sentCertificates } from "./tls/peer-chain.ts";

const log = getLogger("connection");
let nextId = 1;

/** Chunks below this are joined with what is corked before them; larger ones are written as they are. */
const smallWrite = 16 * 1024;

export type ConnectionState = Connection["state"];

export interface SocketConnectionOptions {
  readonly timers: TimerWheel;
  readonly side: "downstream" | "upstream";
  readonly localAddress?: Address;
  /** See Connection. */
  readonly isLocalAddressRestored?: boolean;
  readonly remoteAddress?: Address;
  /** per_connection_buffer_limit_bytes; 0 = none. */
  readonly bufferLimitBytes: number;
}

export class SocketConnection implements Connection {
  readonly id = nextId++;
  readonly connectedAtMs: number;
  transportFailureReason = "";
  /** The source address could not be had: nothing was dialled. */
  bindFailed = false;
  state: ConnectionState;
  bytesReceived = 0;
  bytesSent = 0;
  wasReset = false;
  /** Counted while it lives, where someone else does not. */
  receivedCounter: Counter | undefined = undefined;
  sentCounter: Counter | undefined = undefined;
  remoteAddress: Address;
  localAddress: Address;
  readonly directRemoteAddress: Address;
  readonly isLocalAddressRestored: boolean;
  tls: TlsInfo | undefined = undefined;
  /** Dialled with TLS: looks at the peer once the handshake is done. */
  acceptPeer: ((socket: TLSSocket) => string | undefined) | undefined = undefined;
  readonly #timers: TimerWheel;
  readonly #buffers: ReadBuffers;
  #socket: Socket;
  #filter: ReadFilter | undefined = undefined;
  #callbacks: ConnectionCallbacks[] = [];
  #limit: number;
  #aboveHigh = false;
  #readDisabled = 0;
  #corked = false;
  /** Text of this turn not yet given to the socket: heads and small bodies are joined here. */
  #pending = "";
  #halfClose = false;
  #peerEnded = false;
  #ended = false;
  #delayedCloseMs = 1000;
  #closeTimer: Timer | undefined = undefined;
  #watching = false;
  #releasePinned: (() => void) | undefined = undefined;
  #connecting: boolean;
  /** Bytes that arrived while reading was disabled (TLS, or a chunk that was under way). */
  #held: Buffer[] | undefined = undefined;

  /** Wraps a socket that is open (accepted) or connecting (dialled). `attach` must have been given `onread` where the socket is plain. */
  constructor(socket: Socket, options: SocketConnectionOptions, connecting: boolean) {
    this.#socket = socket;
    this.#timers = options.timers;
    this.#buffers = options.side === "downstream" ? downstreamBuffers : upstreamBuffers;
    this.#limit = options.bufferLimitBytes;
    this.#connecting = connecting;
    this.state = connecting ? "connecting" : "open";
    this.connectedAtMs = performance.now();
    this.remoteAddress = options.remoteAddress ?? peerOf(socket);
    this.localAddress = options.localAddress ?? selfOf(socket);
    this.directRemoteAddress = this.remoteAddress;
    this.isLocalAddressRestored = options.isLocalAddressRestored ?? false;
    this.#listen(socket);
  }

  /** For `onread`: a chunk of the shared buffer. False stops reading. */
  onRead(length: number, buffer: Uint8Array): boolean {
    const chunk = (buffer as Buffer).subarray(0, length);
    this.bytesReceived += length;
    this.receivedCounter?.add(length);
    if (this.#readDisabled > 0 || this.#filter === undefined) {
      (this.#held ??= []).push(Buffer.from(chunk));
      return false;
    }
    this.#deliver(chunk, false);
    return this.#readDisabled === 0;
  }

  /** Puts back bytes that someone read before: they come first, once a filter is there. */
  unread(bytes: Buffer): void {
    this.bytesReceived += bytes.length;
    (this.#held ??= []).unshift(Buffer.from(bytes));
  }

  get writeBuffered(): number {
    return this.#socket.writableLength + this.#pending.length;
  }

  setReadFilter(filter: ReadFilter): void {
    this.#filter = filter;
    if (this.#held !== undefined && this.#readDisabled === 0) queueMicrotask(() => this.#releaseHeld());
  }

  addCallbacks(callbacks: ConnectionCallbacks): void {
    this.#callbacks.push(callbacks);
  }

  removeCallbacks(callbacks: ConnectionCallbacks): void {
    const at = this.#callbacks.indexOf(callbacks);
    if (at >= 0) this.#callbacks.splice(at, 1);
  }

  write(data: Buffer | string, endStream = false): void {
    if (this.#ended || this.state === "closed") return;
    const length = data.length;
    if (length > 0) {
      this.bytesSent += length;
      this.sentCounter?.add(length);
      if (typeof data === "string") {
        this.#pending += data;
        this.#cork();
      } else if (length < smallWrite && this.#pending !== "") {
        // A head and its small body: one string, one write.
        this.#pending += data.toString("latin1");
        this.#cork();
      } else this.#writeChunk(data);
    }
    if (endStream) {
      this.#ended = true;
      this.#flushPending();
      this.#socket.end();
    }
    if (this.#limit > 0 && !this.#aboveHigh && this.writeBuffered > this.#limit) this.#goHigh();
  }

  readDisable(disable: boolean): void {
    if (disable) {
      if (this.#readDisabled++ === 0 && this.state !== "closed") this.#socket.pause();
      return;
    }
    if (this.#readDisabled === 0) return;
    if (--this.#readDisabled > 0 || this.state === "closed") return;
    if (this.#held !== undefined) queueMicrotask(() => this.#releaseHeld());
    else this.#resume();
  }

  setBufferLimit(bytes: number): void {
    this.#limit = bytes;
  }

  close(kind: CloseKind, details = ""): void {
    if (this.state === "closed") return;
    if (details !== "" && log.debugEnabled) log.debug(`[C${this.id}] closing: ${details}`);
    if (this.state === "connecting" || kind === "abort") {
      if (kind === "abort" && this.state === "open") this.#reset();
      else this.#socket.destroy();
      this.#finish("local_close");
      return;
    }
    this.#flushPending();
    if (kind === "no_flush") {
      this.#socket.destroy();
      this.#finish("local_close");
      return;
    }
    if (this.state === "closing") return;
    this.state = "closing";
    this.#ended = true;
    this.#filter = discard;
    this.#held = undefined;
    if (this.#readDisabled > 0) {
      this.#readDisabled = 0;
      this.#resume();
    }
    this.#closeTimer = this.#timers.createTimer(() => {
      this.#socket.destroy();
      this.#finish("local_close");
    });
    if (kind === "flush") {
      this.#socket.end(() => {
        this.#socket.destroy();
        this.#finish("local_close");
      });
      // A peer that never reads must not hold the connection for ever.
      this.#closeTimer.enable(Math.max(this.#delayedCloseMs, 1000));
      return;
    }
    // flush_and_delay: the peer sees the end of the stream, and has this long to close its side, so that a reset does not destroy our answer on its way.
    this.#socket.end(() => {
      if (this.#delayedCloseMs === 0 || this.#peerEnded) {
        this.#socket.destroy();
        this.#finish("local_close");
      } else this.#closeTimer?.enable(this.#delayedCloseMs);
    });
    if (this.#delayedCloseMs > 0) this.#closeTimer.enable(this.#delayedCloseMs);
  }

  noDelay(on: boolean): void {
    this.#socket.setNoDelay(on);
  }

  setDelayedCloseTimeout(ms: number): void {
    this.#delayedCloseMs = ms;
  }

  enableHalfClose(on: boolean): void {
    this.#halfClose = on;
  }

  // ---- events of the socket ---------------------------------------------------------------------------------------------

  #listen(socket: Socket): void {
    socket.on("error", (error: NodeJS.ErrnoException) => this.#onError(error));
    socket.on("close", () => {
      this.#finish(this.bindFailed ? "local_close" : "remote_close");
      this.#buffers.unregister(socket);
      this.#unpin();
    });
    socket.on("end", () => this.#onEnd());
    if (socket instanceof TLSSocket) {
      socket.on("data", (chunk: Buffer) => {
        this.bytesReceived += chunk.length;
        this.receivedCounter?.add(chunk.length);
        if (this.#readDisabled > 0 || this.#filter === undefined) (this.#held ??= []).push(chunk);
        else this.#deliver(chunk, false);
      });
    } else this.#buffers.register(socket);
    if (this.#connecting) {
      socket.once(socket instanceof TLSSocket ? "secureConnect" : "connect", () => this.#onConnected());
    } else if (socket instanceof TLSSocket) this.tls = tlsInfo(socket);
  }

  #onConnected(): void {
    if (this.state !== "connecting") return;
    this.#connecting = false;
    this.state = "open";
    this.localAddress = selfOf(this.#socket);
    if (this.#socket instanceof TLSSocket) {
      this.tls = tlsInfo(this.#socket);
      const refused = this.acceptPeer?.(this.#socket);
      if (refused !== undefined) {
        this.transportFailureReason = refused;
        this.#socket.destroy();
        this.#finish("remote_close");
        return;
      }
    }
    this.#emit("connected");
  }

  #onError(error: NodeJS.ErrnoException): void {
    if (error.code === "ECONNRESET" || error.code === "EPIPE") this.wasReset = true;
    const connecting = this.state === "connecting";
    if (connecting && error.syscall === "bind") {
      this.bindFailed = true;
      const { address = "", port = 0 } = error as { address?: string; port?: number };
      this.transportFailureReason = `failed to bind to ${address}:${port}: ${errnoText(error)}`;
    } else if (this.transportFailureReason === "") this.transportFailureReason = failureText(error, connecting, this.remoteAddress);
    if (log.debugEnabled) log.debug(`[C${this.id}] ${error.code ?? ""} ${error.message}`);
  }

  #onEnd(): void {
    this.#peerEnded = true;
    if (this.state === "closed") return;
    if (this.state === "closing") {
      if (this.#socket.writableLength === 0) {
        this.#socket.destroy();
        this.#finish("local_close");
      }
      return;
    }
    if (this.#halfClose) {
      if (this.#readDisabled > 0 || this.#held !== undefined) return; // told after what is held
      this.#deliver(empty, true);
      return;
    }
    if (this.#held !== undefined) this.#releaseHeld();
    // What we still had to say is lost on a peer that has closed both ways; one that only closed its sending side gets it.
    this.#flushPending();
    const socket = this.#socket;
    socket.end();
    if (socket.writableLength === 0) socket.destroy();
    else this.#timers.createTimer(() => socket.destroy()).enable(Math.max(this.#delayedCloseMs, 1000));
    this.#finish("remote_close");
  }

  /** Node's resetAndDestroy() waits until all is written, which a peer that does not read never lets happen. Covered by socket-connection.test.ts. */
  #reset(): void {
    const socket = this.#socket;
    if (this.remoteAddress.kind === "ip" && !(socket instanceof TLSSocket)) (socket as Socket & { resetAndClosing: boolean }).resetAndClosing = true;
    socket.destroy();
  }

  /** Hears when what is written has left. Node's own "drain" comes only above its own mark, which is not ours. */
  #watchWrites(): void {
    const socket = this.#socket;
    if (this.#watching || socket.destroyed) return;
    this.#watching = true;
    const done = (): void => {
      this.#watching = false;
      this.#onWritten();
    };
    // An empty write is done when all before it are.
    if (socket.writableEnded) socket.once("finish", done);
    else socket.write(empty, done);
  }

  #onWritten(): void {
    if (this.#socket.writableLength > 0) this.#watchWrites();
    else this.#unpin();
    if (this.#aboveHigh && this.writeBuffered <= this.#limit / 2) {
      this.#aboveHigh = false;
      for (const callbacks of this.#callbacks.slice()) callbacks.onBelowWriteBufferLowWatermark();
    }
  }

  #goHigh(): void {
    this.#flushPending();
    if (this.writeBuffered <= this.#limit) return;
    this.#aboveHigh = true;
    for (const callbacks of this.#callbacks.slice()) callbacks.onAboveWriteBufferHighWatermark();
  }

  #finish(event: ConnectionEvent): void {
    if (this.state === "closed") return;
    this.state = "closed";
    this.#closeTimer?.disable();
    // What is on its way out still refers to the memory it was written from: until the socket is closed.
    if (this.#socket.destroyed) this.#unpin();
    this.#held = undefined;
    this.#pending = "";
    this.#emit(event);
    this.#callbacks = [];
    this.#filter = undefined;
  }

  #emit(event: ConnectionEvent): void {
    // Those who are told may add or remove others.
    for (const callbacks of this.#callbacks.slice()) callbacks.onEvent(event);
  }

  // ---- reading ---------------------------------------------------------------------------------------------------------------

  #deliver(chunk: Buffer, endStream: boolean): void {
    try {
      this.#filter?.onData(chunk, endStream);
    } catch (error) {
      // A fault in the code above costs this connection, not the worker.
      log.error(`[C${this.id}] ${error instanceof Error ? error.stack : String(error)}`);
      this.close("no_flush", "internal error");
    }
  }

  #releaseHeld(): void {
    while (this.#held !== undefined && this.#readDisabled === 0 && this.state !== "closed" && this.#filter !== undefined) {
      const chunk = this.#held.shift();
      if (chunk === undefined) {
        this.#held = undefined;
        if (this.#peerEnded && this.#halfClose) this.#deliver(empty, true);
        else this.#resume();
        return;
      }
      this.#deliver(chunk, false);
    }
  }

  #resume(): void {
    if (this.state === "closed") return;
    this.#socket.resume();
  }

  // ---- writing ---------------------------------------------------------------------------------------------------------------

  #cork(): void {
    if (this.#corked) return;
    this.#corked = true;
    queueMicrotask(() => {
      this.#corked = false;
      this.#flushPending();
    });
  }

  #flushPending(): void {
    const text = this.#pending;
    if (text === "") return;
    this.#pending = "";
    if (this.#socket.destroyed) return;
    this.#socket.write(text, "latin1");
    if (this.#socket.writableLength > 0) this.#watchWrites();
  }

  #writeChunk(chunk: Buffer): void {
    const socket = this.#socket;
    if (socket.destroyed) return;
    const shared = downstreamBuffers.owns(chunk) ? downstreamBuffers : upstreamBuffers.owns(chunk) ? upstreamBuffers : undefined;
    const head = this.#pending;
    const tls = socket instanceof TLSSocket;
    // Behind unsent data, and through TLS before it is connected, the memory is kept for later.
    if (shared !== undefined && (socket.writableLength > 0 || !shared.mayPin || this.#connecting)) chunk = Buffer.from(chunk);
    if (head !== "") {
      this.#pending = "";
      socket.cork();
      socket.write(head, "latin1");
      socket.write(chunk);
      socket.uncork();
    } else socket.write(chunk);
    if (socket.writableLength === 0) return;
    this.#watchWrites();
    // TLS copies what it could not encrypt at once; plain sockets refer to our memory until the kernel has taken it.
    if (shared?.owns(chunk) && !tls) {
      const release = shared.pin(chunk);
      const before = this.#releasePinned;
      this.#releasePinned =
        before === undefined
          ? release
          : () => {
              before();
              release();
            };
    }
  }

  #unpin(): void {
    this.#releasePinned?.();
    this.#releasePinned = undefined;
  }
}

const empty = Buffer.alloc(0);
const discard: ReadFilter = { onData: () => {} };

function peerOf(socket: Socket): Address {
  return socket.remoteAddress === undefined ? anonymousPipe : ipAddress(socket.remoteAddress, socket.remotePort ?? 0);
}

function selfOf(socket: Socket): Address {
  return socket.localAddress === undefined ? anonymousPipe : ipAddress(socket.localAddress, socket.localPort ?? 0);
}

/** What the C library calls them. */
const errnoTexts: Record<string, string> = {
  ECONNREFUSED: "Connection refused",
  EHOSTUNREACH: "No route to host",
  ENETUNREACH: "Network is unreachable",
  ETIMEDOUT: "Connection timed out",
  ECONNRESET: "Connection reset by peer",
  ENOENT: "No such file or directory",
  EACCES: "Permission denied",
  EADDRNOTAVAIL: "Cannot assign requested address",
  EADDRINUSE: "Address already in use",
  EMFILE: "Too many open files",
  EINVAL: "Invalid argument",
};
/** Errors of connect() itself, before anything was waited for. */
const immediate = new Set(["ENETUNREACH", "EADDRNOTAVAIL", "EACCES", "EMFILE", "EINVAL"]);

function errnoText(error: NodeJS.ErrnoException): string {
  return errnoTexts[error.code ?? ""] ?? error.code ?? error.message;
}

/** Envoy's words for a failed transport. */
function failureText(error: NodeJS.ErrnoException, connecting: boolean, to: Address): string {
  const code = error.code ?? "";
  if (code.startsWith("ERR_SSL") || code.startsWith("ERR_TLS") || /certificate|self.signed|CERT_|UNABLE_TO|DEPTH_ZERO/i.test(`${code} ${error.message}`)) {
    return `TLS_error:|${/certificate|CERT_|UNABLE_TO|self.signed|DEPTH_ZERO|ALTNAME/i.test(`${code} ${error.message}`) ? "CERTIFICATE_VERIFY_FAILED: " : ""}${error.message}:TLS_error_end`;
  }
  if (!connecting) return "";
  if (to.kind === "pipe" || immediate.has(code)) return `immediate connect error: ${errnoText(error)}|remote address:${to.text}`;
  return `delayed connect error: ${errnoText(error)}`;
}

const validatedPeers = new WeakSet<TLSSocket>();
const dialledWith = new WeakMap<TLSSocket, ConnectionOptions>();

/** The options a socket was dialled with: by them a transport socket knows again what it wanted of the peer. */
export function dialOptions(socket: TLSSocket): ConnectionOptions | undefined {
  return dialledWith.get(socket);
}

/** The peer's certificate was checked against what is configured, and is good. */
export function setPeerValidated(socket: TLSSocket): void {
  validatedPeers.add(socket);
}

/** What TLS agreed on. Certificates are taken at once, since logs may ask for them when the socket has gone; their fields are parsed when first asked for. */
export function tlsInfo(socket: TLSSocket): TlsInfo {
  const peer = peerCertificate(socket);
  const own = socket.getX509Certificate();
  let chain: X509Certificate[] | undefined;
  const cipher = socket.getCipher();
  return {
    version: socket.getProtocol() ?? "",
    cipher: cipher?.standardName === undefined ? "" : (cipher.name ?? ""),
    sni: typeof socket.servername === "string" ? socket.servername : "",
    alpn: typeof socket.alpnProtocol === "string" ? socket.alpnProtocol : "",
    sessionId: socket.getSession()?.toString("hex").slice(0, 64) ?? "",
    peerCertificatePresented: peer !== undefined,
    // Told by the transport socket after it has looked at the peer, which is later than this.
    get peerCertificateValidated() {
      return validatedPeers.has(socket);
    },
    get peerChain() {
      return (chain ??= sentCertificates(socket));
    },
    peerCertificate: peer,
    localCertificate: own,
  };
}

/** A plain accepted socket (`unread`: bytes that were read from it before and are to be read again), made to read into the shared buffers: the handle moves to a new socket whose `onread` is ours. */
export function acceptPlain(accepted: Socket, options: SocketConnectionOptions, unread?: Buffer): SocketConnection {
  const holder = accepted as unknown as { _handle: unknown };
  const handle = holder._handle;
  holder._handle = null;
  let connection: SocketConnection | undefined;
  const socket = new Socket({
    handle,
    allowHalfOpen: true,
    // The pool's buffer, not the one that is passed: after a pin the socket reads into another than its stream remembers.
    onread: { buffer: downstreamBuffers.next, callback: (length: number) => connection?.onRead(length, downstreamBuffers.current) ?? false },
  } as ConstructorParameters<typeof Socket>[0]);
  connection = new SocketConnection(socket, options, false);
  if (unread !== undefined) connection.unread(unread);
  else socket.resume();
  return connection;
}

/** An accepted socket with TLS in front; `done` once the handshake is over, `failed` when it fails. The client's hello is read first: what to answer may depend on it. */
export function acceptTls(
  accepted: Socket,
  tls: TLSSocketOptions | ((hello: ClientHello | undefined) => TLSSocketOptions),
  options: SocketConnectionOptions,
  done: (connection: SocketConnection, socket: TLSSocket, hello: ClientHello | undefined) => void,
  failed: (error: Error | undefined) => void,
): void {
  const remoteAddress = options.remoteAddress ?? peerOf(accepted);
  const localAddress = options.localAddress ?? selfOf(accepted);
  let settled = false;
  const fail = (error?: Error): void => {
    if (settled) return;
    settled = true;
    failed(error);
  };
  const start = (hello: ClientHello | undefined): void => {
    const socket = new TLSSocket(accepted, { ...(typeof tls === "function" ? tls(hello) : tls), isServer: true });
    socket.on("error", fail);
    socket.once("close", () => fail());
    socket.once("secure", () => {
      if (settled) return;
      settled = true;
      done(new SocketConnection(socket, { ...options, remoteAddress, localAddress }, false), socket, hello);
    });
    // The TLS socket starts reading by itself; were `accepted` resumed, the bytes put back would flow past it.
  };
  readHello(accepted, start, fail);
}

/** Reads until the hello is complete, then puts all bytes back. */
function readHello(accepted: Socket, done: (hello: ClientHello | undefined) => void, failed: (error?: Error) => void): void {
  let bytes: Buffer | undefined;
  const stop = (): void => {
    accepted.off("data", onData);
    accepted.off("error", failed);
    accepted.off("end", onEnd);
    accepted.off("close", onEnd);
    accepted.pause();
  };
  const onData = (chunk: Buffer): void => {
    bytes = bytes === undefined ? chunk : Buffer.concat([bytes, chunk]);
    const hello = parseClientHello(bytes);
    if (hello === "partial") return;
    stop();
    accepted.unshift(bytes);
    done(hello === "other" ? undefined : hello);
  };
  const onEnd = (): void => {
    stop();
    accepted.destroy();
    failed();
  };
  accepted.on("data", onData);
  accepted.on("error", failed);
  accepted.on("end", onEnd);
  accepted.on("close", onEnd);
  accepted.resume();
}

/** TCP keep-alive: how long a connection is silent before the first probe, the time between probes, and how many go unanswered before it is given up. */
export interface KeepAlive {
  readonly delayMs: number;
  readonly intervalMs: number;
  readonly probes: number;
}

/** The last two are younger than the type declarations; a Node that does not know them leaves the system's values. */
function keepAlive(socket: Socket, { delayMs, intervalMs, probes }: KeepAlive): void {
  (socket.setKeepAlive as (on: boolean, delay: number, interval: number, count: number) => void).call(socket, true, delayMs, intervalMs, probes);
}

export interface ConnectOptions extends Omit<SocketConnectionOptions, "remoteAddress"> {
  /** undefined: plain bytes. */
  readonly tls?: ConnectionOptions | undefined;
  /** After the TLS handshake: why the peer is refused, or undefined. */
  readonly accept?: ((socket: TLSSocket) => string | undefined) | undefined;
  /** The TLS handshake failed. */
  readonly onTlsError?: ((error: Error) => void) | undefined;
  /** Source address for the connection. */
  readonly bindAddress?: string | undefined;
  readonly keepAlive?: KeepAlive | undefined;
}

/** Dials; the connection says "connected", or closes with a transportFailureReason. */
export function connect(address: Address, options: ConnectOptions): SocketConnection {
  const target =
    address.kind === "ip" ? { host: address.ip, port: address.port } : { path: address.path.startsWith("@") ? `\0${address.path.slice(1)}` : address.path };
  const from = options.bindAddress === undefined ? {} : { localAddress: options.bindAddress };
  if (options.tls !== undefined) {
    const socket = tlsConnect({ ...options.tls, ...target, ...from } as ConnectionOptions);
    socket.setNoDelay(true);
    if (options.keepAlive !== undefined) keepAlive(socket, options.keepAlive);
    const connection = new SocketConnection(socket, { ...options, remoteAddress: address }, true);
    connection.acceptPeer = options.accept;
    dialledWith.set(socket, options.tls);
    const { onTlsError } = options;
    if (onTlsError !== undefined) {
      const failed = (error: Error): void => onTlsError(error);
      socket.once("error", failed);
      socket.once("secureConnect", () => socket.off("error", failed));
    }
    return connection;
  }
  let connection: SocketConnection | undefined;
  const socket = createConnection({
    ...target,
    ...from,
    noDelay: true,
    allowHalfOpen: true,
    onread: { buffer: upstreamBuffers.next, callback: (length: number) => connection?.onRead(length, upstreamBuffers.current) ?? false },
  } as unknown as Parameters<typeof createConnection>[0]);
  if (options.keepAlive !== undefined) keepAlive(socket, options.keepAlive);
  connection = new SocketConnection(socket, { ...options, remoteAddress: address }, true);
  return connection;
}

export { pipeAddress };
