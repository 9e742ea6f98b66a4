/** Fields of certificates in Envoy's spelling: RFC 2253 names, lower-case hex without colons, URL-encoded PEM. */
import type { X509Certificate } from "node:crypto";
import type { FormatContext } from "../formatter.ts";
import { compileTimeFormat } from "../time-format.ts";
import { type OperatorRow, text, toBytes } from "./operator.ts";

type ReadCertificate = (context: FormatContext) => X509Certificate | undefined;
type Field = "pem" | "subject" | "issuer" | "serial" | "fingerprint1" | "fingerprint256";

/** A name as RFC 2253 writes it: the last part first, separated by commas. */
export function rfc2253(name: string): string {
  return name.split("\n").reverse().join(",");
}

const lowerHex = (fingerprint: string): string => fingerprint.replaceAll(":", "").toLowerCase();

const fields: Readonly<Record<Field, (certificate: X509Certificate) => string>> = {
  pem: (certificate) => encodeURIComponent(certificate.toString().endsWith("\n") ? certificate.toString() : `${certificate.toString()}\n`),
  subject: (certificate) => toBytes(rfc2253(certificate.subject ?? "")),
  issuer: (certificate) => toBytes(rfc2253(certificate.issuer ?? "")),
  serial: (certificate) => certificate.serialNumber.toLowerCase(),
  fingerprint1: (certificate) => lowerHex(certificate.fingerprint),
  fingerprint256: (certificate) => lowerHex(certificate.fingerprint256),
};

/** Parsing a certificate's fields costs far more than a lookup, and connections share few certificates. */
const cache = new WeakMap<X509Certificate, Map<string, string>>();
function cached(certificate: X509Certificate, key: string, make: () => string): string {
  let values = cache.get(certificate);
  if (values === undefined) cache.set(certificate, (values = new Map()));
  let value = values.get(key);
  if (value === undefined) values.set(key, (value = make()));
  return value;
}

/** One field as text; "" where the certificate has none. */
export function certificateField(certificate: X509Certificate, field: Field): string {
  return cached(certificate, field, () => fields[field](certificate));
}

/** When it begins or ends to be valid, seconds since 1970; 0 where that cannot be read. */
export function certificateSeconds(certificate: X509Certificate, which: "start" | "end"): number {
  const at = (which === "start" ? certificate.validFromDate : certificate.validToDate).getTime();
  return Number.isNaN(at) ? 0 : Math.floor(at / 1000);
}

const orAbsent = (value: string): string | undefined => (value === "" ? undefined : value);

export function certificateText(read: ReadCertificate, field: Field): OperatorRow {
  return text((context) => {
    const certificate = read(context);
    return certificate === undefined ? undefined : orAbsent(cached(certificate, field, () => fields[field](certificate)));
  });
}

/** The same field of each certificate of a chain, comma separated. */
export function chainText(read: (context: FormatContext) => readonly X509Certificate[] | undefined, field: Field): OperatorRow {
  return text((context) => orAbsent((read(context) ?? []).map((certificate) => cached(certificate, field, () => fields[field](certificate))).join(",")));
}

/** The parts of node's subjectAltName ("DNS:a, URI:spiffe://x, IP Address:::1"); values with special characters are JSON strings there. */
export function subjectAltNames(certificate: X509Certificate): { kind: string; value: string }[] {
  const found: { kind: string; value: string }[] = [];
  const names = certificate.subjectAltName ?? "";
  let at = 0;
  while (at < names.length) {
    const colon = names.indexOf(":", at);
    if (colon < 0) break;
    const kind = names.slice(at, colon);
    let end: number;
    let value: string;
    if (names[colon + 1] === '"') {
      end = colon + 2;
      while (end < names.length && names[end] !== '"') end += names[end] === "\\" ? 2 : 1;
      try {
        value = String(JSON.parse(names.slice(colon + 1, end + 1)));
      } catch {
        value = names.slice(colon + 2, end);
      }
      end++;
    } else {
      end = names.indexOf(", ", colon);
      if (end < 0) end = names.length;
      value = names.slice(colon + 1, end);
    }
    found.push({ kind, value });
    at = end + 2;
  }
  return found;
}

export function sanText(read: ReadCertificate, kind: "URI" | "DNS" | "IP Address" | "email" | "othername"): OperatorRow {
  return text((context) => {
    const certificate = read(context);
    if (certificate === undefined) return undefined;
    return orAbsent(
      cached(certificate, kind, () =>
        toBytes(
          subjectAltNames(certificate)
            .filter((name) => name.kind === kind)
            .map((name) => name.value)
            .join(","),
        ),
      ),
    );
  });
}

export function certificateTime(read: ReadCertificate, which: "start" | "end"): OperatorRow {
  return {
    parameters: "optional",
    make(argument) {
      const format = compileTimeFormat(argument === "" ? "%Y-%m-%dT%H:%M:%E3SZ" : argument);
      return {
        text(context) {
          const certificate = read(context);
          if (certificate === undefined) return undefined;
          const at = (which === "start" ? certificate.validFromDate : certificate.validToDate).getTime();
          return Number.isNaN(at) ? undefined : format(at);
        },
      };
    },
  };
}
