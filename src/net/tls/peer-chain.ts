/** The certificates a TLS peer sent. */
import type { X509Certificate } from "node:crypto";
import type { TLSSocket } from "node:tls";

/** At most this many certificates between a peer's and an authority's. */
export const maxChainLength = 10;

const peers = new WeakMap<TLSSocket, X509Certificate | undefined>();

/**
 * The peer's own certificate, also when the socket has gone, provided it was asked for before. Node must be asked but once: on a client's socket its
 * `getPeerX509Certificate()` takes the certificates out of the chain, so that a second call has none. A client that resumes a session of TLS 1.3 has
 * none: the certificate was seen when the session began.
 */
export function peerCertificate(socket: TLSSocket): X509Certificate | undefined {
  if (peers.has(socket)) return peers.get(socket);
  const found = socket.getPeerX509Certificate();
  peers.set(socket, found);
  return found;
}

/** The peer's certificates, its own first, each signed by the next. */
export function sentCertificates(socket: TLSSocket): X509Certificate[] {
  const found: X509Certificate[] = [];
  let at = peerCertificate(socket);
  while (at !== undefined && found.length <= maxChainLength) {
    found.push(at);
    // An authority is its own issuer.
    const issuer: X509Certificate | undefined = at.issuerCertificate;
    at = issuer?.fingerprint256 === at.fingerprint256 ? undefined : issuer;
  }
  return found;
}
