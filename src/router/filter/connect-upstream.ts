/** CONNECT ends here (connect_config): its payload goes over a raw connection, which looks like an HTTP stream to the try. Envoy's TcpUpstream. */
import type { BytesMeter, RequestEncoder, ResponseDecoder, Stream, StreamCallbacks, StreamResetReason } from "../../http/codec.ts";
import { ResponseHeaders } from "../../http/header-map.ts";
import { emptyUpstreamInfo } from "../../http/stream-info.ts";
import type { Address, Connection, ConnectionCallbacks, ConnectionEvent, ReadFilter } from "../../net/connection.ts";
import type { Host, LoadBalancerContext, PoolCallbacks, PoolRequest, TcpPoolCallbacks, ThreadLocalCluster } from "../../upstream/upstream.ts";
import type { ForwardRoute } from "../route.ts";
import type { StreamSource } from "./upstream-request.ts";

type FailureReason = Parameters<TcpPoolCallbacks["onPoolFailure"]>[0];

export class ConnectSource implements StreamSource, TcpPoolCallbacks {
  readonly #proxyHeader: Buffer | undefined;
  #dialling: PoolRequest | undefined = undefined;
  #ready: { readonly connection: Connection; readonly host: Host } | undefined = undefined;
  #failed: { readonly reason: FailureReason; readonly detail: string; readonly host: Host | undefined } | undefined = undefined;
  #waiter: { readonly decoder: ResponseDecoder; readonly callbacks: PoolCallbacks } | undefined = undefined;

  private constructor(proxyHeader: Buffer | undefined) {
    this.#proxyHeader = proxyHeader;
  }

  /** Begins to connect; undefined: no healthy host. */
  static open(cluster: ThreadLocalCluster, route: ForwardRoute, context: LoadBalancerContext): ConnectSource | undefined {
    const version = route.connectConfig?.proxyProtocolVersion;
    const info = context.streamInfo;
    const source = new ConnectSource(version === undefined ? undefined : proxyHeader(version, info?.downstreamRemoteAddress, info?.downstreamLocalAddress));
    source.#dialling = cluster.tcpConnection(route.priority, context, source);
    return source.#dialling === undefined && source.#ready === undefined && source.#failed === undefined ? undefined : source;
  }

  newStream(decoder: ResponseDecoder, callbacks: PoolCallbacks): PoolRequest | undefined {
    this.#waiter = { decoder, callbacks };
    if (this.#ready !== undefined) this.#begin(this.#ready.connection, this.#ready.host);
    else if (this.#failed !== undefined) callbacks.onPoolFailure(this.#failed.reason, this.#failed.detail, this.#failed.host);
    else return { cancel: () => this.#dialling?.cancel() };
    return undefined;
  }

  onPoolReady(connection: Connection, host: Host): void {
    if (this.#waiter === undefined) this.#ready = { connection, host };
    else this.#begin(connection, host);
  }

  onPoolFailure(reason: FailureReason, detail: string, host: Host | undefined): void {
    if (this.#waiter === undefined) this.#failed = { reason, detail, host };
    else this.#waiter.callbacks.onPoolFailure(reason, detail, host);
  }

  #begin(connection: Connection, host: Host): void {
    const waiter = this.#waiter;
    if (waiter === undefined) return;
    const upstream = emptyUpstreamInfo();
    upstream.host = host;
    upstream.connectionId = connection.id;
    upstream.localAddress = connection.localAddress;
    upstream.remoteAddress = connection.remoteAddress;
    upstream.tls = connection.tls;
    upstream.connectedMs = connection.connectedAtMs;
    upstream.connectionStreams = 1;
    waiter.callbacks.onPoolReady(new RawTunnel(connection, waiter.decoder, this.#proxyHeader), host, upstream);
  }
}

class RawTunnel implements RequestEncoder, Stream, ReadFilter, ConnectionCallbacks {
  readonly #connection: Connection;
  readonly #decoder: ResponseDecoder;
  readonly #proxyHeader: Buffer | undefined;
  readonly bytesMeter: BytesMeter = { wireBytesReceived: 0, wireBytesSent: 0, headerBytesReceived: 0, headerBytesSent: 0 };
  readonly responseDetails = "";
  #callbacks: StreamCallbacks[] = [];
  #readEnded = false;
  #writeEnded = false;
  #closed = false;

  constructor(connection: Connection, decoder: ResponseDecoder, proxyHeader: Buffer | undefined) {
    this.#connection = connection;
    this.#decoder = decoder;
    this.#proxyHeader = proxyHeader;
    connection.enableHalfClose(true);
    connection.addCallbacks(this);
    connection.setReadFilter(this);
  }

  get stream(): Stream {
    return this;
  }

  /** The tunnel stands: the answer to CONNECT is made here. */
  encodeHeaders(): void {
    if (this.#proxyHeader !== undefined) this.#write(this.#proxyHeader, false);
    this.#decoder.decodeHeaders(new ResponseHeaders(200), false);
  }

  encodeData(chunk: Buffer, endStream: boolean): void {
    this.#write(chunk, endStream);
  }

  encodeTrailers(): void {
    this.#write(Buffer.alloc(0), true);
  }

  enableTcpTunneling(): void {}

  #write(data: Buffer, end: boolean): void {
    if (this.#closed || this.#writeEnded) return;
    this.bytesMeter.wireBytesSent += data.length;
    if (end) this.#writeEnded = true;
    this.#connection.write(data, end);
    if (end) this.#closeIfDone();
  }

  onData(data: Buffer, endStream: boolean): void {
    if (this.#readEnded) return;
    this.bytesMeter.wireBytesReceived += data.length;
    if (endStream) this.#readEnded = true;
    this.#decoder.decodeData(data, endStream);
    if (endStream) this.#closeIfDone();
  }

  onEvent(event: ConnectionEvent): void {
    if (event === "connected" || this.#closed) return;
    this.#closed = true;
    if (!(this.#readEnded && this.#writeEnded)) this.#reset("connection_termination");
  }
  onAboveWriteBufferHighWatermark(): void {
    for (const callbacks of this.#callbacks.slice()) callbacks.onAboveWriteBufferHighWatermark();
  }
  onBelowWriteBufferLowWatermark(): void {
    for (const callbacks of this.#callbacks.slice()) callbacks.onBelowWriteBufferLowWatermark();
  }

  addCallbacks(callbacks: StreamCallbacks): void {
    this.#callbacks.push(callbacks);
  }
  removeCallbacks(callbacks: StreamCallbacks): void {
    this.#callbacks = this.#callbacks.filter((one) => one !== callbacks);
  }
  resetStream(reason: StreamResetReason): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#connection.close("no_flush", "stream reset");
    this.#reset(reason);
  }
  readDisable(disable: boolean): void {
    if (!this.#closed) this.#connection.readDisable(disable);
  }

  #closeIfDone(): void {
    if (!this.#readEnded || !this.#writeEnded || this.#closed) return;
    this.#closed = true;
    this.#connection.close("flush");
  }

  #reset(reason: StreamResetReason): void {
    const callbacks = this.#callbacks;
    this.#callbacks = [];
    for (const one of callbacks) one.onResetStream(reason, "");
  }
}

const signature = Buffer.from("0d0a0d0a000d0a515549540a", "hex");

/** A PROXY protocol header (haproxy.org/download/3.0/doc/proxy-protocol.txt) that tells where the client really is. */
export function proxyHeader(version: 1 | 2, source: Address | undefined, destination: Address | undefined): Buffer {
  const known = source?.kind === "ip" && destination?.kind === "ip" && source.family === destination.family;
  if (version === 1) {
    if (!known) return Buffer.from("PROXY UNKNOWN\r\n");
    return Buffer.from(`PROXY TCP${source.family} ${source.ip} ${destination.ip} ${source.port} ${destination.port}\r\n`);
  }
  // A LOCAL connection carries no addresses.
  if (!known) return Buffer.concat([signature, Buffer.from([0x20, 0, 0, 0])]);
  const size = source.family === 4 ? 4 : 16;
  const body = Buffer.alloc(size * 2 + 4);
  addressBytes(source.ip, source.family).copy(body, 0);
  addressBytes(destination.ip, destination.family).copy(body, size);
  body.writeUInt16BE(source.port, size * 2);
  body.writeUInt16BE(destination.port, size * 2 + 2);
  return Buffer.concat([signature, Buffer.from([0x21, source.family === 4 ? 0x11 : 0x21, 0, body.length]), body]);
}

function addressBytes(ip: string, family: 4 | 6): Buffer {
  if (family === 4) return Buffer.from(ip.split(".").map(Number));
  const [head, tail] = ip.split("%")[0].split("::");
  const groups = (text: string | undefined): number[] => {
    if (text === undefined || text === "") return [];
    const words: number[] = [];
    for (const part of text.split(":")) {
      if (part.includes(".")) {
        const [a, b, c, d] = part.split(".").map(Number);
        words.push((a << 8) | b, (c << 8) | d);
      } else words.push(Number.parseInt(part, 16));
    }
    return words;
  };
  const front = groups(head);
  const back = groups(tail);
  const words = [...front, ...new Array<number>(Math.max(0, 8 - front.length - back.length)).fill(0), ...back];
  const bytes = Buffer.alloc(16);
  for (let i = 0; i < 8; i++) bytes.writeUInt16BE(words[i] & 0xffff, i * 2);
  return bytes;
}
