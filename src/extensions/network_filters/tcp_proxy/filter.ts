/** One proxied TCP connection: chooses a cluster, connects, moves bytes both ways. Envoy's TcpProxy::Filter. */
import { randomUUID } from "node:crypto";
import type { AccessLogType, FormatContext } from "../../../formatter/formatter.ts";
import type { BytesMeter } from "../../../http/codec.ts";
import { emptyUpstreamInfo, type StreamInfo, type UpstreamInfo } from "../../../http/stream-info.ts";
import type { Connection, ConnectionCallbacks, ConnectionEvent } from "../../../net/connection.ts";
import type { Timer } from "../../../net/timer-wheel.ts";
import type { Counter } from "../../../stats/stats.ts";
import type { Host, LoadBalancerContext, PoolRequest, TcpPoolCallbacks, ThreadLocalCluster } from "../../../upstream/upstream.ts";
import type { NetworkFilter, NetworkFilterCallbacks } from "../../extension.ts";
import { clusterFilterState, type Target, type TcpProxySettings } from "./settings.ts";
import { openTunnel, type TunnelUser } from "./tunnel.ts";
import { RawUpstream, type Upstream } from "./upstream.ts";

type FailureReason = Parameters<TcpPoolCallbacks["onPoolFailure"]>[0];

/** Numbers that Envoy prints in %DOWNSTREAM_LOCAL_CLOSE_REASON%. */
const initFailures = { connect: 0, unhealthy: 1, limit: 2, route: 3 } as const;

export class TcpProxyFilter implements NetworkFilter, ConnectionCallbacks, TunnelUser, TcpPoolCallbacks {
  readonly #settings: TcpProxySettings;
  #connection!: Connection;
  #info!: StreamInfo;
  #target: Target | undefined = undefined;
  #cluster: ThreadLocalCluster | undefined = undefined;
  #pending: PoolRequest | undefined = undefined;
  #upstream: Upstream | undefined = undefined;
  #attempts = 0;
  /** The attempt has an outcome. */
  #settled = false;
  #idleTimer: Timer | undefined = undefined;
  #durationTimer: Timer | undefined = undefined;
  #logTimer: Timer | undefined = undefined;
  #backoffTimer: Timer | undefined = undefined;
  /** What the client said before there was an upstream. */
  #early: Buffer[] = [];
  #earlyBytes = 0;
  #earlyEnd = false;
  #waitsForData = false;
  #readDisabled = false;
  /** What of the client's answer is held back by a client that reads slowly. */
  #heldBack = 0;
  #closed = false;
  readonly #down: BytesMeter = newMeter();
  readonly #up = new UpstreamMeter();

  constructor(settings: TcpProxySettings) {
    this.#settings = settings;
  }

  // ---- downstream ---------------------------------------------------------------------------------------------------------

  onNewConnection({ connection, info }: NetworkFilterCallbacks): "stop" {
    const { stats, context, maxDurationMs, durationJitterPercent, logsAccess, logOnStart, logIntervalMs, earlyDataBytes } = this.#settings;
    this.#connection = connection;
    this.#info = info;
    info.downstreamMeter = this.#down;
    info.upstreamMeter = this.#up;
    info.upstream = newUpstreamInfo();
    stats.downstream_cx_total.inc();
    connection.enableHalfClose(true);
    connection.addCallbacks(this);
    if (maxDurationMs > 0) {
      this.#durationTimer = context.timers.createTimer(() => this.#onMaxDuration());
      this.#durationTimer.enable(maxDurationMs * (1 + (Math.random() * durationJitterPercent) / 100));
    }
    if (logsAccess) {
      info.streamId = randomUUID();
      if (logOnStart) this.#log("TcpConnectionStart");
      if (logIntervalMs > 0) {
        const timer = context.timers.createTimer(() => {
          this.#log("TcpPeriodic");
          timer.enable(logIntervalMs);
        });
        this.#logTimer = timer;
        timer.enable(logIntervalMs);
      }
    }
    if (earlyDataBytes !== undefined) {
      this.#waitsForData = true;
      return "stop";
    }
    this.#stopReading();
    this.#connect();
    return "stop";
  }

  onData(data: Buffer, endStream: boolean): "stop" {
    if (this.#closed) return "stop";
    const { stats } = this.#settings;
    stats.downstream_cx_rx_bytes_total.add(data.length);
    this.#info.bytesReceived += data.length;
    this.#down.wireBytesReceived += data.length;
    if (this.#upstream === undefined) {
      this.#keepEarly(data, endStream);
      return "stop";
    }
    this.#active();
    this.#up.sent(data.length);
    this.#upstream.write(data, endStream);
    return "stop";
  }

  onEvent(event: ConnectionEvent): void {
    if (event === "connected" || this.#closed) return;
    this.#closed = true;
    const { stats } = this.#settings;
    for (const timer of [this.#idleTimer, this.#durationTimer, this.#logTimer, this.#backoffTimer]) timer?.disable();
    stats.downstream_cx_tx_bytes_buffered.sub(this.#heldBack);
    this.#heldBack = 0;
    this.#pending?.cancel();
    this.#pending = undefined;
    this.#early = [];
    if (event === "remote_close" && this.#connection.wasReset === true) this.#info.downstreamDetectedCloseType = "RemoteReset";
    this.#closeUpstream(event);
    if (!this.#settings.logsAccess) return;
    this.#info.endMs = this.#settings.context.timers.clock.now();
    this.#log("TcpConnectionEnd");
  }

  #closeUpstream(event: ConnectionEvent): void {
    const upstream = this.#upstream;
    if (upstream === undefined) return;
    this.#upstream = undefined;
    const { stats, idleTimeoutMs } = this.#settings;
    if (event !== "remote_close") {
      upstream.close("no_flush", 0);
      return;
    }
    if (this.#connection.wasReset === true) {
      upstream.close("abort", 0);
      return;
    }
    if (upstream.writeBuffered > 0) stats.upstream_flush_total.inc();
    upstream.close("flush", idleTimeoutMs);
  }

  /** The client reads slowly: its upstream waits. */
  onAboveWriteBufferHighWatermark(): void {
    if (this.#upstream === undefined) return;
    this.#heldBack = this.#connection.writeBuffered;
    this.#settings.stats.downstream_cx_tx_bytes_buffered.add(this.#heldBack);
    this.#upstream.readDisable(true);
    (this.#cluster?.info.stats["upstream_flow_control_paused_reading_total"] as Counter | undefined)?.inc();
  }
  onBelowWriteBufferLowWatermark(): void {
    this.#settings.stats.downstream_cx_tx_bytes_buffered.sub(this.#heldBack);
    this.#heldBack = 0;
    if (this.#upstream === undefined) return;
    this.#upstream.readDisable(false);
    (this.#cluster?.info.stats["upstream_flow_control_resumed_reading_total"] as Counter | undefined)?.inc();
  }

  #stopReading(): void {
    if (this.#readDisabled) return;
    this.#readDisabled = true;
    this.#connection.readDisable(true);
  }
  #startReading(): void {
    if (!this.#readDisabled) return;
    this.#readDisabled = false;
    this.#connection.readDisable(false);
  }

  #keepEarly(data: Buffer, endStream: boolean): void {
    const { stats, earlyDataBytes } = this.#settings;
    if (data.length > 0) this.#early.push(Buffer.from(data));
    this.#earlyBytes += data.length;
    this.#earlyEnd ||= endStream;
    if (this.#earlyBytes >= (earlyDataBytes ?? 0)) this.#stopReading();
    if (!this.#waitsForData || (data.length === 0 && !endStream)) return;
    this.#waitsForData = false;
    stats.early_data_received_count_total.inc();
    this.#connect();
  }

  // ---- connecting -----------------------------------------------------------------------------------------------------------

  #connect(): void {
    const { context, maxConnectAttempts, tunneling } = this.#settings;
    const info = this.#info;
    const target = this.#pickTarget();
    const cluster = target === undefined ? undefined : context.clusters.get(target.cluster);
    if (target === undefined || cluster === undefined) {
      this.#settings.stats.downstream_cx_no_route.inc();
      info.setFlag("NC");
      this.#giveUp("route");
      return;
    }
    this.#target = target;
    this.#cluster = cluster;
    info.cluster = cluster.info;
    info.upstreamClusterName = cluster.info.name;
    if (this.#attempts >= maxConnectAttempts) {
      (cluster.info.stats["upstream_cx_connect_attempts_exceeded"] as Counter).inc();
      info.setFlag("URX");
      this.#giveUp("connect");
      return;
    }
    this.#attempts++;
    // The pool may answer before it returns.
    this.#settled = false;
    const request =
      tunneling === undefined ? cluster.tcpConnection("default", this.#balancing(), this) : openTunnel(cluster, tunneling, this.#balancing(), info, this);
    if (this.#settled) return;
    if (request === undefined) {
      info.setFlag("UH");
      this.#giveUp("unhealthy");
    } else this.#pending = request;
  }

  #pickTarget(): Target | undefined {
    const named = this.#info.getFilterState(clusterFilterState)?.serializeAsString();
    const { targets, totalWeight } = this.#settings;
    if (named !== undefined) return { cluster: named, weight: 1, metadataMatch: targets[0]?.metadataMatch };
    if (targets.length === 1) return targets[0];
    let point = Math.random() * totalWeight;
    for (const target of targets) {
      point -= target.weight;
      if (point < 0) return target;
    }
    return targets[targets.length - 1];
  }

  #balancing(): LoadBalancerContext {
    return {
      hash: this.#settings.hash?.(this.#info),
      metadataMatch: this.#target?.metadataMatch,
      requestHeaders: undefined,
      downstreamConnection: this.#connection,
      streamInfo: this.#info,
      shouldSelectAnotherHost: () => false,
      hostSelectionMaxAttempts: 0,
      overrideHost: undefined,
      triedPriorities: [],
    };
  }

  onPoolReady(connection: Connection, host: Host): void {
    if (this.#closed) {
      connection.close("no_flush");
      return;
    }
    host.monitor?.putResult("local_origin_connect_success_final", undefined);
    const upstream = new RawUpstream(connection, host, this);
    upstream.start();
    this.onTunnelReady(upstream);
  }

  onTunnelRequest(meter: BytesMeter): void {
    this.#up.tunnels.push(meter);
  }

  onTunnelReady(upstream: Upstream): void {
    this.#settled = true;
    this.#pending = undefined;
    if (this.#closed) {
      upstream.close("no_flush", 0);
      return;
    }
    const { context, idleTimeoutMs, logsAccess, logOnConnected } = this.#settings;
    this.#upstream = upstream;
    this.#info.upstream = upstream.info;
    upstream.info.detectedCloseType = "Normal";
    this.#rememberHost(upstream.info.host, upstream.info.connectionId);
    if (idleTimeoutMs > 0) {
      this.#idleTimer = context.timers.createTimer(() => this.#onIdle());
      this.#idleTimer.enable(idleTimeoutMs);
    }
    if (logsAccess && logOnConnected) this.#log("TcpUpstreamConnected");
    if (this.#early.length > 0 || this.#earlyEnd) {
      const data = Buffer.concat(this.#early);
      this.#early = [];
      this.#up.sent(data.length);
      upstream.write(data, this.#earlyEnd);
    }
    this.#startReading();
  }

  onPoolFailure(reason: FailureReason, transportFailureReason: string, host: Host | undefined): void {
    this.#settled = true;
    this.#pending = undefined;
    if (this.#closed) return;
    const info = this.#info;
    if (reason === "overflow") {
      info.setFlag("UO");
      this.#attempts--;
      this.#giveUp("limit");
      return;
    }
    host?.monitor?.putResult(reason === "timeout" ? "local_origin_timeout" : "local_origin_connect_failed", undefined);
    this.#rememberHost(host, undefined);
    info.setFlag("UF");
    info.upstream = { ...newUpstreamInfo(), host, transportFailureReason };
    const { backoff, context, maxConnectAttempts } = this.#settings;
    if (backoff === undefined || this.#attempts >= maxConnectAttempts) {
      // Not from within the failing attempt, which may be on its way out of the pool.
      queueMicrotask(() => {
        if (!this.#closed) this.#connect();
      });
      return;
    }
    this.#backoffTimer ??= context.timers.createTimer(() => this.#connect());
    this.#backoffTimer.enable(Math.random() * Math.min(backoff.maxMs, backoff.baseMs * (2 ** this.#attempts - 1)));
  }

  #rememberHost(host: Host | undefined, connectionId: number | undefined): void {
    this.#info.attemptCount = this.#attempts;
    if (host !== undefined) (this.#info.attemptedHosts ??= []).push({ host, connectionId });
  }

  /** The connection cannot be served. */
  #giveUp(why: keyof typeof initFailures): void {
    this.#info.downstreamLocalCloseReason = `tcp_initializion_failure:${initFailures[why]}`;
    this.#connection.close("no_flush", `tcp proxy: ${why}`);
  }

  // ---- upstream -------------------------------------------------------------------------------------------------------------

  onUpstreamData(data: Buffer, endStream: boolean): void {
    if (this.#closed) return;
    this.#settings.stats.downstream_cx_tx_bytes_total.add(data.length);
    this.#info.bytesSent += data.length;
    this.#up.received(data.length);
    this.#down.wireBytesSent += data.length;
    this.#active();
    this.#connection.write(data, endStream);
  }

  onUpstreamClosed(reset: boolean): void {
    this.#upstream = undefined;
    if (this.#closed) return;
    if (reset) {
      if (this.#info.upstream !== undefined) this.#info.upstream.detectedCloseType = "RemoteReset";
      this.#info.setFlag("UR");
      this.#info.downstreamDetectedCloseType = "LocalReset";
      this.#connection.close("abort", "upstream reset");
      return;
    }
    this.#connection.close("flush", "upstream closed");
  }

  onUpstreamFull(): void {
    this.#settings.stats.downstream_flow_control_paused_reading_total.inc();
    this.#connection.readDisable(true);
  }
  onUpstreamDrained(): void {
    this.#settings.stats.downstream_flow_control_resumed_reading_total.inc();
    this.#connection.readDisable(false);
  }

  // ---- time -----------------------------------------------------------------------------------------------------------------

  #active(): void {
    this.#idleTimer?.enable(this.#settings.idleTimeoutMs);
  }

  #onIdle(): void {
    this.#settings.stats.idle_timeout.inc();
    this.#end("tcp_session_idle_timeout");
  }

  #onMaxDuration(): void {
    this.#settings.stats.max_downstream_connection_duration.inc();
    this.#info.setFlag("DT");
    this.#end("max_connection_duration_reached");
  }

  #end(reason: string): void {
    this.#info.downstreamLocalCloseReason = reason;
    if (this.#info.upstream !== undefined) this.#info.upstream.localCloseReason = reason;
    this.#connection.close("no_flush", reason);
  }

  #log(type: AccessLogType): void {
    this.#settings.accessLog.log(new TcpLog(this.#info, type));
  }
}

function newUpstreamInfo(): UpstreamInfo {
  return { ...emptyUpstreamInfo(), detectedCloseType: "Normal" };
}

/** Payload, and whole requests and answers where it went through HTTP proxies; those count their payload themselves. */
class UpstreamMeter implements BytesMeter {
  readonly tunnels: BytesMeter[] = [];
  #received = 0;
  #sent = 0;
  get wireBytesReceived(): number {
    return this.tunnels.length === 0 ? this.#received : this.tunnels.reduce((sum, meter) => sum + meter.wireBytesReceived, 0);
  }
  received(bytes: number): void {
    this.#received += bytes;
  }
  get wireBytesSent(): number {
    return this.tunnels.length === 0 ? this.#sent : this.tunnels.reduce((sum, meter) => sum + meter.wireBytesSent, 0);
  }
  sent(bytes: number): void {
    this.#sent += bytes;
  }
  get headerBytesReceived(): number {
    return this.tunnels.reduce((sum, meter) => sum + meter.headerBytesReceived, 0);
  }
  get headerBytesSent(): number {
    return this.tunnels.reduce((sum, meter) => sum + meter.headerBytesSent, 0);
  }
}

function newMeter(): BytesMeter {
  return { wireBytesReceived: 0, wireBytesSent: 0, headerBytesReceived: 0, headerBytesSent: 0 };
}

class TcpLog implements FormatContext {
  readonly info: StreamInfo;
  readonly accessLogType: AccessLogType;
  readonly requestHeaders = undefined;
  readonly responseHeaders = undefined;
  readonly responseTrailers = undefined;
  readonly localReplyBody = "";
  constructor(info: StreamInfo, accessLogType: AccessLogType) {
    this.info = info;
    this.accessLogType = accessLogType;
  }
}
