/** x-forwarded-client-cert in all modes (forward_client_cert_details). */
import type { Connection } from "../../net/connection.ts";
import type { RequestHeaders } from "../header-map.ts";
import type { ManagerSettings } from "./settings.ts";

const field = "x-forwarded-client-cert";

export function mutateClientCert(headers: RequestHeaders, connection: Connection, settings: ManagerSettings): void {
  const mode = settings.forwardClientCert;
  if (mode === "always_forward_only") return;
  if (mode === "sanitize" || connection.tls?.peerCertificateValidated !== true) {
    headers.remove(field);
    return;
  }
  if (mode === "forward_only") return;
  const element = describe(connection, settings);
  if (element === "") {
    if (mode === "sanitize_set") headers.remove(field);
    return;
  }
  const given = headers.get(field);
  headers.set(field, mode === "append_forward" && given !== undefined ? `${given},${element}` : element);
}

function describe(connection: Connection, settings: ManagerSettings): string {
  const peer = connection.tls?.peerCertificate;
  const details = settings.clientCertDetails;
  if (peer === undefined) return "";
  const parts: string[] = [];
  for (const uri of names(connection.tls?.localCertificate?.subjectAltName, "URI")) parts.push(`By=${uri}`);
  parts.push(`Hash=${peer.fingerprint256.replaceAll(":", "").toLowerCase()}`);
  if (details?.cert) parts.push(`Cert="${encodeURIComponent(peer.toString())}"`);
  if (details?.chain) parts.push(`Chain="${encodeURIComponent(peer.toString())}"`);
  if (details?.subject) parts.push(`Subject="${peer.subject.split("\n").reverse().join(",").replaceAll('"', '\\"')}"`);
  if (details?.uri) {
    const uris = names(peer.subjectAltName, "URI");
    if (uris.length === 0) parts.push("URI=");
    for (const uri of uris) parts.push(`URI=${uri}`);
  }
  if (details?.dns) for (const dns of names(peer.subjectAltName, "DNS")) parts.push(`DNS=${dns}`);
  return parts.join(";");
}

function names(altNames: string | undefined, kind: string): string[] {
  if (altNames === undefined) return [];
  return altNames
    .split(", ")
    .filter((name) => name.startsWith(`${kind}:`))
    .map((name) => name.slice(kind.length + 1));
}
