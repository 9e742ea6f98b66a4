/** A tunnel through an HTTP proxy (CONNECT, RFC 9110 9.3.6), which looks like a connection once the proxy has said 200. */
import type { BytesMeter, RequestEncoder, ResponseDecoder, StreamCallbacks, StreamResetReason } from "../../../http/codec.ts";
import { RequestHeaders, type ResponseHeaders } from "../../../http/header-map.ts";
import { emptyUpstreamInfo, type StreamInfo, type UpstreamInfo } from "../../../http/stream-info.ts";
import type { Host, LoadBalancerContext, PoolCallbacks, PoolRequest, TcpPoolCallbacks, ThreadLocalCluster } from "../../../upstream/upstream.ts";
import type { Tunneling } from "./tunneling.ts";
import type { Upstream, UpstreamListener } from "./upstream.ts";

/** Who wants a tunnel. */
export interface TunnelUser extends UpstreamListener, Pick<TcpPoolCallbacks, "onPoolFailure"> {
  /** A request for a tunnel leaves: what it weighs on the wire. */
  onTunnelRequest(meter: BytesMeter): void;
  /** The tunnel stands. */
  onTunnelReady(upstream: Upstream): void;
}

/** Asks for a tunnel; undefined: no healthy host. */
export function openTunnel(
  cluster: ThreadLocalCluster,
  tunneling: Tunneling,
  balancing: LoadBalancerContext,
  info: StreamInfo,
  user: TunnelUser,
): PoolRequest | undefined {
  const pool = cluster.httpPool("default", undefined, balancing);
  if (pool === undefined) return undefined;
  const tunnel = new Tunnel(tunneling, info, user);
  tunnel.waiting = pool.newStream(tunnel, tunnel, { canSendEarlyData: false, upgrade: undefined });
  return tunnel;
}

class Tunnel implements Upstream, PoolRequest, PoolCallbacks, ResponseDecoder, StreamCallbacks {
  info: UpstreamInfo = emptyUpstreamInfo();
  waiting: PoolRequest | undefined = undefined;
  readonly writeBuffered = 0;
  readonly #tunneling: Tunneling;
  readonly #streamInfo: StreamInfo;
  readonly #user: TunnelUser;
  #encoder: RequestEncoder | undefined = undefined;
  #state: "opening" | "open" | "closed" = "opening";
  #readEnded = false;
  #writeEnded = false;

  constructor(tunneling: Tunneling, streamInfo: StreamInfo, user: TunnelUser) {
    this.#tunneling = tunneling;
    this.#streamInfo = streamInfo;
    this.#user = user;
  }

  // ---- opening -----------------------------------------------------------------------------------------------------------

  onPoolReady(encoder: RequestEncoder, host: Host, upstream: UpstreamInfo): void {
    if (this.#state === "closed") {
      encoder.stream.resetStream("local_reset");
      return;
    }
    this.waiting = undefined;
    this.#encoder = encoder;
    this.info = upstream;
    this.info.host = host;
    encoder.stream.addCallbacks(this);
    encoder.enableTcpTunneling();
    this.#user.onTunnelRequest(encoder.stream.bytesMeter);
    const { hostname, post, postPath, headers: mutation } = this.#tunneling;
    const context = {
      info: this.#streamInfo,
      requestHeaders: undefined,
      responseHeaders: undefined,
      responseTrailers: undefined,
      localReplyBody: "",
      accessLogType: "NotSet",
    } as const;
    const authority = hostname.format(context);
    const headers = post ? new RequestHeaders("POST", postPath, authority, "http") : new RequestHeaders("CONNECT", undefined, authority, undefined);
    mutation?.evaluate(headers, this.#streamInfo, undefined, undefined);
    encoder.encodeHeaders(headers, false);
  }

  onPoolFailure(reason: Parameters<PoolCallbacks["onPoolFailure"]>[0], transportFailureReason: string, host: Host | undefined): void {
    if (this.#state === "closed") return;
    this.#state = "closed";
    this.waiting = undefined;
    this.#user.onPoolFailure(reason, transportFailureReason, host);
  }

  cancel(): void {
    if (this.#state !== "opening") return;
    this.#state = "closed";
    this.waiting?.cancel();
    this.#encoder?.stream.resetStream("local_reset");
  }

  decode1xxHeaders(): void {}

  decodeHeaders(headers: ResponseHeaders, endStream: boolean): void {
    if (this.#state !== "opening") return;
    if (headers.status !== 200 || endStream) {
      this.#fail(`tunnel response:${headers.status}`);
      return;
    }
    this.#state = "open";
    this.#user.onTunnelReady(this);
  }

  #fail(why: string): void {
    this.#state = "closed";
    this.#encoder?.stream.resetStream("local_reset");
    this.#user.onPoolFailure("remote_connection_failure", why, this.info.host);
  }

  // ---- open ---------------------------------------------------------------------------------------------------------------

  decodeData(chunk: Buffer, endStream: boolean): void {
    if (this.#state !== "open") return;
    if (endStream) this.#readEnded = true;
    this.#user.onUpstreamData(chunk, endStream);
    this.#closeIfDone();
  }

  decodeTrailers(): void {
    this.decodeData(Buffer.alloc(0), true);
  }

  onResetStream(_reason: StreamResetReason, details: string): void {
    if (this.#state === "closed") return;
    const was = this.#state;
    this.#state = "closed";
    if (was === "opening") this.#user.onPoolFailure("remote_connection_failure", details, this.info.host);
    else this.#user.onUpstreamClosed(false);
  }
  onAboveWriteBufferHighWatermark(): void {
    if (this.#state === "open") this.#user.onUpstreamFull();
  }
  onBelowWriteBufferLowWatermark(): void {
    if (this.#state === "open") this.#user.onUpstreamDrained();
  }

  write(data: Buffer, endStream: boolean): void {
    if (this.#state !== "open" || this.#writeEnded) return;
    if (endStream) this.#writeEnded = true;
    this.#encoder?.encodeData(data, endStream);
    this.#closeIfDone();
  }

  readDisable(disable: boolean): void {
    if (this.#state === "open") this.#encoder?.stream.readDisable(disable);
  }

  close(kind: "flush" | "no_flush" | "abort"): void {
    if (this.#state !== "open") return;
    // The end of what we had to say; whether the proxy still answers is of no interest.
    if (kind === "flush" && !this.#writeEnded) {
      this.#writeEnded = true;
      this.#encoder?.encodeData(Buffer.alloc(0), true);
    }
    this.#state = "closed";
    if (!this.#readEnded) this.#encoder?.stream.resetStream("local_reset");
  }

  #closeIfDone(): void {
    if (this.#readEnded && this.#writeEnded && this.#state === "open") this.#state = "closed";
  }
}
