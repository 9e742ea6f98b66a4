/** Subject alternative names of a certificate. */
import type { X509Certificate } from "node:crypto";

export interface SubjectName {
  /** Node's words: "DNS", "URI", "IP Address", "email", "othername", "DirName", "Registered ID". */
  readonly kind: string;
  readonly value: string;
}

/** In the certificate's order. Node writes "DNS:a, URI:spiffe://x"; a value with special characters is a JSON string there, so that it cannot pass for another name. */
export function subjectNames(certificate: X509Certificate): SubjectName[] {
  const found: SubjectName[] = [];
  const text = certificate.subjectAltName ?? "";
  let at = 0;
  while (at < text.length) {
    const colon = text.indexOf(":", at);
    if (colon < 0) break;
    const kind = text.slice(at, colon);
    let end: number;
    let value: string;
    if (text[colon + 1] === '"') {
      end = colon + 2;
      while (end < text.length && text[end] !== '"') end += text[end] === "\\" ? 2 : 1;
      end = Math.min(end + 1, text.length);
      try {
        value = String(JSON.parse(text.slice(colon + 1, end)));
      } catch {
        value = "";
      }
    } else {
      end = text.indexOf(", ", colon);
      if (end < 0) end = text.length;
      value = text.slice(colon + 1, end);
    }
    found.push({ kind, value });
    at = end + 2;
  }
  return found;
}

/** Whether a DNS name of a certificate covers a host: equal, or "*." for exactly one label (RFC 6125 6.4.3). */
export function dnsMatches(host: string, pattern: string): boolean {
  const a = host.toLowerCase();
  const b = pattern.toLowerCase();
  if (a === b) return true;
  if (!b.startsWith("*.") || b.length < 4) return false;
  const dot = a.indexOf(".");
  return dot > 0 && a.slice(dot) === b.slice(1);
}
