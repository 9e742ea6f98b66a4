/** The certificates a TLS peer sent. */
import { X509Certificate } from "node:crypto";
import type { TLSSocket } from "node:tls";

/** At most this many certificates between a peer's and an authority's. */
export const maxChainLength = 10;

/** The peer's certificates, its own first. */
export function sentCertificates(socket: TLSSocket): X509Certificate[] {
  const found: X509Certificate[] = [];
  let at: { readonly raw?: Buffer; readonly issuerCertificate?: unknown } | undefined = socket.getPeerCertificate(true);
  while (at?.raw !== undefined && found.length <= maxChainLength) {
    const certificate = new X509Certificate(at.raw);
    if (found.some((known) => known.fingerprint256 === certificate.fingerprint256)) break;
    found.push(certificate);
    at = at.issuerCertificate as typeof at;
  }
  return found;
}
