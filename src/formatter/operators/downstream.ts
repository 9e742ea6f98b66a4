/** Operators about the downstream connection: addresses, TLS, certificates. */
import type { Address } from "../../net/connection.ts";
import type { FormatContext } from "../formatter.ts";
import { withoutPortRow } from "./address.ts";
import { certificateText, certificateTime, chainText, sanText } from "./certificates.ts";
import { FormatError, nonEmpty, number, type OperatorRow, type OperatorTable, text } from "./operator.ts";
import { underscoreSpaces } from "./stream.ts";

function port(read: (context: FormatContext) => Address | undefined): OperatorRow {
  return number((context) => {
    const address = read(context);
    return address?.kind === "ip" ? address.port : undefined;
  });
}
const remote = (context: FormatContext): Address | undefined => context.info.downstreamRemoteAddress;
const directRemote = (context: FormatContext): Address | undefined => context.info.downstreamDirectRemoteAddress;
const local = (context: FormatContext): Address | undefined => context.info.downstreamLocalAddress;
const directLocal = (context: FormatContext): Address | undefined => context.info.downstreamDirectLocalAddress ?? context.info.downstreamLocalAddress;
const peer = (context: FormatContext) => context.info.downstreamTls?.peerCertificate;
const own = (context: FormatContext) => context.info.downstreamTls?.localCertificate;
const chain = (context: FormatContext) =>
  context.info.downstreamTls?.peerChain ?? (context.info.downstreamTls?.peerCertificate && [context.info.downstreamTls.peerCertificate]);
const issuer = (context: FormatContext) => context.info.downstreamTls?.peerChain?.[1];

function hostOf(value: string | undefined): string | undefined {
  if (value === undefined) return undefined;
  const end = value.startsWith("[") ? value.indexOf("]") + 1 : value.indexOf(":");
  return end > 0 ? value.slice(0, end) : value;
}
const hostSources: Readonly<Record<string, (context: FormatContext) => string | undefined>> = {
  HOST: ({ requestHeaders }) => hostOf(requestHeaders?.authority),
  ORIG: ({ requestHeaders }) => hostOf(requestHeaders?.get("x-envoy-original-host")),
  ORIG_OR_HOST: ({ requestHeaders }) => hostOf(requestHeaders?.get("x-envoy-original-host") ?? requestHeaders?.authority),
};
const notServerName = /[^A-Za-z0-9._:[\]-]/g;
const sniOf = (context: FormatContext): string | undefined =>
  context.info.requestedServerName === "" ? undefined : context.info.requestedServerName.replace(notServerName, "_");

export const downstreamOperators: OperatorTable = {
  CONNECTION_ID: number(({ info }) => info.connectionId),
  DOWNSTREAM_REMOTE_ADDRESS: text((context) => remote(context)?.text),
  DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT: withoutPortRow(remote),
  DOWNSTREAM_REMOTE_PORT: port(remote),
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS: text((context) => directRemote(context)?.text),
  DOWNSTREAM_DIRECT_REMOTE_ADDRESS_WITHOUT_PORT: withoutPortRow(directRemote),
  DOWNSTREAM_DIRECT_REMOTE_PORT: port(directRemote),
  DOWNSTREAM_LOCAL_ADDRESS: text((context) => local(context)?.text),
  DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT: withoutPortRow(local),
  DOWNSTREAM_LOCAL_PORT: port(local),
  DOWNSTREAM_LOCAL_ADDRESS_ENDPOINT_ID: text(() => undefined),
  DOWNSTREAM_DIRECT_LOCAL_ADDRESS: text((context) => directLocal(context)?.text),
  DOWNSTREAM_DIRECT_LOCAL_ADDRESS_WITHOUT_PORT: withoutPortRow(directLocal),
  DOWNSTREAM_DIRECT_LOCAL_PORT: port(directLocal),
  DOWNSTREAM_DIRECT_LOCAL_ADDRESS_ENDPOINT_ID: text(() => undefined),
  DOWNSTREAM_CX_RTT: number(() => undefined),
  DOWNSTREAM_TRANSPORT_FAILURE_REASON: nonEmpty(({ info }) => underscoreSpaces(info.downstreamTransportFailureReason)),
  DOWNSTREAM_LOCAL_CLOSE_REASON: nonEmpty(({ info }) => info.downstreamLocalCloseReason),
  DOWNSTREAM_DETECTED_CLOSE_TYPE: nonEmpty(({ info }) => info.downstreamDetectedCloseType),

  REQUESTED_SERVER_NAME: {
    parameters: "optional",
    make(argument) {
      const [order = "", source = ""] = argument.split(":");
      if (order !== "" && order !== "SNI_ONLY" && order !== "SNI_FIRST" && order !== "HOST_FIRST") {
        throw new FormatError(`Invalid REQUESTED_SERVER_NAME option: '${order}', only 'SNI_ONLY'/'SNI_FIRST'/'HOST_FIRST' are allowed`);
      }
      if (source !== "" && !Object.hasOwn(hostSources, source))
        throw new FormatError(`Invalid REQUESTED_SERVER_NAME option: '${source}', only 'ORIG_OR_HOST'/'HOST'/'ORIG' are allowed`);
      const host = hostSources[source === "" ? "ORIG_OR_HOST" : source];
      if (order === "SNI_FIRST") return { text: (context) => sniOf(context) ?? host(context) };
      if (order === "HOST_FIRST") return { text: (context) => host(context) ?? sniOf(context) };
      return { text: sniOf };
    },
  },
  TLS_JA3_FINGERPRINT: nonEmpty(({ info }) => info.ja3),
  TLS_JA4_FINGERPRINT: nonEmpty(({ info }) => info.ja4),
  DOWNSTREAM_TLS_VERSION: nonEmpty(({ info }) => info.downstreamTls?.version),
  DOWNSTREAM_TLS_CIPHER: nonEmpty(({ info }) => info.downstreamTls?.cipher),
  DOWNSTREAM_TLS_GROUP: nonEmpty(({ info }) => info.downstreamTls?.group),
  DOWNSTREAM_TLS_SESSION_ID: nonEmpty(({ info }) => info.downstreamTls?.sessionId),
  DOWNSTREAM_PEER_CERT: certificateText(peer, "pem"),
  DOWNSTREAM_PEER_SUBJECT: certificateText(peer, "subject"),
  DOWNSTREAM_PEER_ISSUER: certificateText(peer, "issuer"),
  DOWNSTREAM_PEER_SERIAL: certificateText(peer, "serial"),
  DOWNSTREAM_PEER_FINGERPRINT_1: certificateText(peer, "fingerprint1"),
  DOWNSTREAM_PEER_FINGERPRINT_256: certificateText(peer, "fingerprint256"),
  DOWNSTREAM_PEER_ISSUER_FINGERPRINT_256: certificateText(issuer, "fingerprint256"),
  DOWNSTREAM_PEER_ISSUER_SERIAL: certificateText(issuer, "serial"),
  DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_1: chainText(chain, "fingerprint1"),
  DOWNSTREAM_PEER_CHAIN_FINGERPRINTS_256: chainText(chain, "fingerprint256"),
  DOWNSTREAM_PEER_CHAIN_SERIALS: chainText(chain, "serial"),
  DOWNSTREAM_PEER_URI_SAN: sanText(peer, "URI"),
  DOWNSTREAM_PEER_DNS_SAN: sanText(peer, "DNS"),
  DOWNSTREAM_PEER_IP_SAN: sanText(peer, "IP Address"),
  DOWNSTREAM_PEER_EMAIL_SAN: sanText(peer, "email"),
  DOWNSTREAM_PEER_OTHERNAME_SAN: sanText(peer, "othername"),
  DOWNSTREAM_PEER_CERT_V_START: certificateTime(peer, "start"),
  DOWNSTREAM_PEER_CERT_V_END: certificateTime(peer, "end"),
  DOWNSTREAM_LOCAL_SUBJECT: certificateText(own, "subject"),
  DOWNSTREAM_LOCAL_URI_SAN: sanText(own, "URI"),
  DOWNSTREAM_LOCAL_DNS_SAN: sanText(own, "DNS"),
  DOWNSTREAM_LOCAL_IP_SAN: sanText(own, "IP Address"),
  DOWNSTREAM_LOCAL_EMAIL_SAN: sanText(own, "email"),
  DOWNSTREAM_LOCAL_OTHERNAME_SAN: sanText(own, "othername"),
};
