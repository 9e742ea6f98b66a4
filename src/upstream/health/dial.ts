/** Connections for checks: they belong to no pool and count nowhere. */
import { ipAddress } from "../../net/address.ts";
import type { Address } from "../../net/connection.ts";
import { connect, type SocketConnection } from "../../net/socket-connection.ts";
import type { TimerWheel } from "../../net/timer-wheel.ts";
import type { HostData } from "../hosts.ts";
import type { CompiledCluster } from "../settings.ts";
import { transportSocketFor, transportSocketMatchNamespace } from "../transport-socket-match.ts";
import type { HealthCheckSettings } from "./settings.ts";

export function healthCheckAddress(host: HostData): Address {
  const address = host.healthCheckAddress ?? host.address;
  const port = host.healthCheckPort ?? 0;
  return port === 0 || address.kind !== "ip" ? address : ipAddress(address.ip, port);
}

export function dialForCheck(cluster: CompiledCluster, settings: HealthCheckSettings, host: HostData, timers: TimerWheel): SocketConnection {
  const match = settings.transportSocketMatch;
  const seen = match === undefined ? host : { ...host, metadata: { [transportSocketMatchNamespace]: match } };
  const { name, socket: transport } = transportSocketFor(cluster, seen);
  if (match !== undefined) cluster.scope.counter(`${name}.total_match_count`).inc();
  const tls = transport?.options({ hostname: host.hostname, sni: undefined });
  // Changed in place: by this object the transport socket knows again what it wanted of the peer.
  if (tls !== undefined && settings.alpn.length > 0) tls.ALPNProtocols = [...settings.alpn];
  else if (tls !== undefined && (settings.check.kind === "grpc" || (settings.check.kind === "http" && settings.check.http2))) tls.ALPNProtocols ??= ["h2"];
  return connect(healthCheckAddress(host), {
    timers,
    side: "upstream",
    bufferLimitBytes: cluster.perConnectionBufferLimitBytes,
    tls,
    accept: transport?.accept === undefined ? undefined : (socket) => transport.accept?.(socket),
    onTlsError: transport?.onError === undefined ? undefined : (error) => transport.onError?.(error),
    bindAddress: cluster.bindAddress,
    keepAlive: cluster.keepAlive,
  });
}
