/** The certificates a TLS peer sent. */
import { X509Certificate } from "node:crypto";
import type { TLSSocket } from "node:tls";

/** At most this many certificates between a peer's and an authority's. */
export const maxChainLength = 10;

const peers = new WeakMap<TLSSocket, X509Certificate | undefined>();

/**
 * The peer's own certificate, also when the socket has gone, provided it was asked for before. Node must be asked but once: on a client's socket its
 * `getPeerX509Certificate()` takes the certificate out of the chain, so that a second call has the next one or none. A client that resumes a session
 * of TLS 1.3 has none: the certificate was seen when the session began.
 */
export function peerCertificate(socket: TLSSocket): X509Certificate | undefined {
  if (peers.has(socket)) return peers.get(socket);
  const found = socket.getPeerX509Certificate();
  peers.set(socket, found);
  return found;
}

/** The peer's certificates, its own first. */
export function sentCertificates(socket: TLSSocket): X509Certificate[] {
  const own = peerCertificate(socket);
  const found: X509Certificate[] = own === undefined ? [] : [own];
  let at: { readonly raw?: Buffer; readonly issuerCertificate?: unknown } | undefined = socket.getPeerCertificate(true);
  for (let depth = 0; at?.raw !== undefined && depth <= maxChainLength; depth++) {
    const certificate = new X509Certificate(at.raw);
    if (!found.some((known) => known.fingerprint256 === certificate.fingerprint256)) found.push(certificate);
    // The last one is its own issuer.
    if (at.issuerCertificate === at) break;
    at = at.issuerCertificate as typeof at;
  }
  return found;
}
