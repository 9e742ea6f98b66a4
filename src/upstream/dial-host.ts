/** A connection to a host, as its cluster has it: what every pool dials with. */
import { connect, type SocketConnection } from "../net/socket-connection.ts";
import type { HostImpl } from "./host.ts";

/** What to offer in TLS where the configuration names no protocols, or `instead` of those that it names. */
export interface OfferedProtocols {
  readonly protocols: readonly string[];
  readonly instead: boolean;
}

export function dialHost(host: HostImpl, sni: string | undefined, offered: OfferedProtocols | undefined): SocketConnection {
  const { cluster, transport } = host;
  const { settings } = cluster;
  const tls = transport?.options({ hostname: host.hostname, sni });
  // Changed in place: by this object the transport socket knows again what it wanted of the peer.
  if (tls !== undefined && offered !== undefined && (offered.instead || tls.ALPNProtocols === undefined)) tls.ALPNProtocols = [...offered.protocols];
  return connect(host.address, {
    timers: cluster.timers,
    side: "upstream",
    bufferLimitBytes: settings.perConnectionBufferLimitBytes,
    tls,
    accept: transport?.accept === undefined ? undefined : (socket) => transport.accept?.(socket),
    onTlsError: transport?.onError === undefined ? undefined : (error) => transport.onError?.(error),
    bindAddress: settings.bindAddress,
    keepAlive: settings.keepAlive,
  });
}
