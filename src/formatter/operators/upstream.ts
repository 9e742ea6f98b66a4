/** Operators about the upstream: host, cluster, addresses, TLS. */
import type { Host } from "../../upstream/upstream.ts";
import type { FormatContext } from "../formatter.ts";
import { withoutPort, withoutPortRow } from "./address.ts";
import { certificateText, certificateTime, sanText } from "./certificates.ts";
import { nonEmpty, number, type OperatorRow, type OperatorTable, text, toBytes } from "./operator.ts";
import { underscoreSpaces } from "./stream.ts";

const hostName = (host: Host): string => (host.hostname === "" ? host.address.text : toBytes(host.hostname));

/** A host name's "name:port" without the port. */
function hostNameWithoutPort(host: Host): string {
  if (host.hostname === "") return withoutPort(host.address);
  const colon = host.hostname.lastIndexOf(":");
  return toBytes(
    colon > 0 && /^[0-9]+$/.test(host.hostname.slice(colon + 1)) && host.hostname.indexOf(":") === colon ? host.hostname.slice(0, colon) : host.hostname,
  );
}

function attempted(print: (host: Host) => string): OperatorRow {
  return text(({ info }) =>
    info.attemptedHosts === undefined || info.attemptedHosts.length === 0 ? undefined : info.attemptedHosts.map((attempt) => print(attempt.host)).join(","),
  );
}

const port = (context: FormatContext, end: "localAddress" | "remoteAddress"): number | undefined => {
  const address = context.info.upstream?.[end];
  return address?.kind === "ip" ? address.port : undefined;
};

export const upstreamOperators: OperatorTable = {
  UPSTREAM_HOST: text(({ info }) => info.upstream?.host?.address.text),
  UPSTREAM_HOST_NAME: text(({ info }) => (info.upstream?.host === undefined ? undefined : hostName(info.upstream.host))),
  UPSTREAM_HOST_NAME_WITHOUT_PORT: text(({ info }) => (info.upstream?.host === undefined ? undefined : hostNameWithoutPort(info.upstream.host))),
  UPSTREAM_HOSTS_ATTEMPTED: attempted((host) => host.address.text),
  UPSTREAM_HOSTS_ATTEMPTED_WITHOUT_PORT: attempted((host) => withoutPort(host.address)),
  UPSTREAM_HOST_NAMES_ATTEMPTED: attempted(hostName),
  UPSTREAM_HOST_NAMES_ATTEMPTED_WITHOUT_PORT: attempted(hostNameWithoutPort),
  UPSTREAM_CONNECTION_IDS_ATTEMPTED: text(({ info }) => {
    const ids = info.attemptedHosts?.flatMap((attempt) => (attempt.connectionId === undefined ? [] : [attempt.connectionId]));
    return ids === undefined || ids.length === 0 ? undefined : ids.join(",");
  }),
  UPSTREAM_CLUSTER: nonEmpty(({ info }) => (info.cluster === undefined ? undefined : toBytes(info.cluster.observabilityName))),
  UPSTREAM_CLUSTER_RAW: nonEmpty(({ info }) => (info.cluster === undefined ? undefined : toBytes(info.cluster.name))),
  UPSTREAM_LOCAL_ADDRESS: text(({ info }) => info.upstream?.localAddress?.text),
  UPSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: withoutPortRow(({ info }) => info.upstream?.localAddress),
  UPSTREAM_LOCAL_PORT: number((context) => port(context, "localAddress")),
  UPSTREAM_REMOTE_ADDRESS: text(({ info }) => (info.upstream?.remoteAddress ?? info.upstream?.host?.address)?.text),
  UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: withoutPortRow(({ info }) => info.upstream?.remoteAddress ?? info.upstream?.host?.address),
  UPSTREAM_REMOTE_PORT: number((context) => {
    const address = context.info.upstream?.remoteAddress ?? context.info.upstream?.host?.address;
    return address?.kind === "ip" ? address.port : undefined;
  }),
  UPSTREAM_REMOTE_ADDRESS_ENDPOINT_ID: text(() => undefined),
  UPSTREAM_CONNECTION_ID: number(({ info }) => info.upstream?.connectionId ?? 0),
  UPSTREAM_TRANSPORT_FAILURE_REASON: nonEmpty(({ info }) => (info.upstream === undefined ? undefined : underscoreSpaces(info.upstream.transportFailureReason))),
  UPSTREAM_LOCAL_CLOSE_REASON: nonEmpty(({ info }) => info.upstream?.localCloseReason),
  UPSTREAM_DETECTED_CLOSE_TYPE: nonEmpty(({ info }) => info.upstream?.detectedCloseType),
  UPSTREAM_REQUEST_ATTEMPT_COUNT: number(({ info }) => info.attemptCount),
  UPSTREAM_PROTOCOL: text(({ info }) => info.upstream?.protocol),

  UPSTREAM_TLS_VERSION: nonEmpty(({ info }) => info.upstream?.tls?.version),
  UPSTREAM_TLS_CIPHER: nonEmpty(({ info }) => info.upstream?.tls?.cipher),
  UPSTREAM_TLS_GROUP: nonEmpty(({ info }) => info.upstream?.tls?.group),
  UPSTREAM_TLS_SESSION_ID: nonEmpty(({ info }) => info.upstream?.tls?.sessionId),
  UPSTREAM_SERVER_NAME: nonEmpty(({ info }) => info.upstream?.tls?.sni),
  UPSTREAM_PEER_CERT: certificateText(({ info }) => info.upstream?.tls?.peerCertificate, "pem"),
  UPSTREAM_PEER_SUBJECT: certificateText(({ info }) => info.upstream?.tls?.peerCertificate, "subject"),
  UPSTREAM_PEER_ISSUER: certificateText(({ info }) => info.upstream?.tls?.peerCertificate, "issuer"),
  UPSTREAM_PEER_URI_SAN: sanText(({ info }) => info.upstream?.tls?.peerCertificate, "URI"),
  UPSTREAM_PEER_DNS_SAN: sanText(({ info }) => info.upstream?.tls?.peerCertificate, "DNS"),
  UPSTREAM_PEER_IP_SAN: sanText(({ info }) => info.upstream?.tls?.peerCertificate, "IP Address"),
  UPSTREAM_PEER_CERT_V_START: certificateTime(({ info }) => info.upstream?.tls?.peerCertificate, "start"),
  UPSTREAM_PEER_CERT_V_END: certificateTime(({ info }) => info.upstream?.tls?.peerCertificate, "end"),
  UPSTREAM_LOCAL_URI_SAN: sanText(({ info }) => info.upstream?.tls?.localCertificate, "URI"),
  UPSTREAM_LOCAL_DNS_SAN: sanText(({ info }) => info.upstream?.tls?.localCertificate, "DNS"),
  UPSTREAM_LOCAL_IP_SAN: sanText(({ info }) => info.upstream?.tls?.localCertificate, "IP Address"),
};
