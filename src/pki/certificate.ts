/** Makes keys, authorities and certificates (X.509 version 3, RFC 5280). Signed with the authority's key: ECDSA or RSA, with SHA-256. */
import { createHash, createPublicKey, generateKeyPairSync, type KeyObject, randomBytes, sign, X509Certificate } from "node:crypto";
import * as der from "./der.ts";
import { encodeName, type SubjectName } from "./names.ts";

export type KeyKind = "ec" | "rsa";
export const KEY_KINDS: readonly KeyKind[] = ["ec", "rsa"];
export type Usage = "server" | "client";

/** From when until when, to the second. */
export interface Validity {
  readonly from: Date;
  readonly until: Date;
}
export interface Authority {
  readonly certificate: X509Certificate;
  readonly key: KeyObject;
}
export interface LeafRequest extends Validity {
  /** At most 64 characters (RFC 5280's bound); nothing looks at it but people. */
  readonly commonName: string;
  /** At least one. */
  readonly names: readonly SubjectName[];
  readonly usages: readonly Usage[];
  readonly key: KeyObject;
}

const ORGANISATION = "Outrider local";
const oid = {
  commonName: "2.5.4.3",
  organisation: "2.5.4.10",
  ecdsaSha256: "1.2.840.10045.4.3.2",
  rsaSha256: "1.2.840.113549.1.1.11",
  subjectKeyIdentifier: "2.5.29.14",
  keyUsage: "2.5.29.15",
  subjectAltName: "2.5.29.17",
  basicConstraints: "2.5.29.19",
  authorityKeyIdentifier: "2.5.29.35",
  extendedKeyUsage: "2.5.29.37",
  server: "1.3.6.1.5.5.7.3.1",
  client: "1.3.6.1.5.5.7.3.2",
} as const;
const keyUsage = { digitalSignature: 0, keyEncipherment: 2, certSign: 5, crlSign: 6 } as const;

/** P-256, or RSA with 2048 bits for peers that know nothing else. */
export function newKey(kind: KeyKind): KeyObject {
  return kind === "ec" ? generateKeyPairSync("ec", { namedCurve: "P-256" }).privateKey : generateKeyPairSync("rsa", { modulusLength: 2048 }).privateKey;
}

export function keyToPem(key: KeyObject): string {
  return String(key.export({ type: "pkcs8", format: "pem" }));
}

/** An authority that signs itself and may sign certificates, but no other authorities. */
export function makeAuthority(commonName: string, key: KeyObject, validity: Validity): X509Certificate {
  const subject = distinguishedName(commonName);
  const extensions = [
    extension(oid.basicConstraints, true, der.sequence(der.boolean(true), der.integer(Uint8Array.of(0)))),
    extension(oid.keyUsage, true, der.namedBits([keyUsage.certSign, keyUsage.crlSign])),
    extension(oid.subjectKeyIdentifier, false, der.octetString(keyIdentifier(key))),
  ];
  return issue({ subject, issuer: subject, publicKey: key, validity, extensions, signer: key });
}

export function makeCertificate(authority: Authority, request: LeafRequest): X509Certificate {
  const isRsa = request.key.asymmetricKeyType === "rsa";
  const extensions = [
    extension(oid.basicConstraints, true, der.sequence()),
    extension(oid.keyUsage, true, der.namedBits([keyUsage.digitalSignature, ...(isRsa ? [keyUsage.keyEncipherment] : [])])),
    usageExtension(request.usages),
    nameExtension(request.names),
    extension(oid.subjectKeyIdentifier, false, der.octetString(keyIdentifier(request.key))),
    extension(oid.authorityKeyIdentifier, false, der.sequence(der.implicit(0, keyIdentifier(authority.key)))),
  ];
  return issue({
    subject: distinguishedName(request.commonName),
    issuer: subjectOf(authority.certificate),
    publicKey: request.key,
    validity: request,
    extensions,
    signer: authority.key,
  });
}

/** Whether a certificate is for exactly these names and uses. */
export function isFor(certificate: X509Certificate, names: readonly SubjectName[], usages: readonly Usage[]): boolean {
  return certificate.raw.includes(nameExtension(names)) && certificate.raw.includes(usageExtension(usages));
}

const nameExtension = (names: readonly SubjectName[]): Buffer => extension(oid.subjectAltName, false, der.sequence(...names.map(encodeName)));
const usageExtension = (usages: readonly Usage[]): Buffer =>
  extension(oid.extendedKeyUsage, false, der.sequence(...usages.map((usage) => der.objectIdentifier(oid[usage]))));

interface Issue {
  readonly subject: Buffer;
  readonly issuer: Buffer;
  readonly publicKey: KeyObject;
  readonly validity: Validity;
  readonly extensions: readonly Buffer[];
  readonly signer: KeyObject;
}

function issue({ subject, issuer, publicKey, validity, extensions, signer }: Issue): X509Certificate {
  // RFC 5758 wants no parameters behind the ECDSA algorithm; RFC 4055 wants a NULL behind the RSA one.
  const algorithm =
    signer.asymmetricKeyType === "rsa"
      ? der.sequence(der.objectIdentifier(oid.rsaSha256), der.tagged(0x05, new Uint8Array(0)))
      : der.sequence(der.objectIdentifier(oid.ecdsaSha256));
  const serial = randomBytes(16);
  // Positive, and never zero.
  serial[0] = (serial[0] & 0x7f) | 0x40;
  const body = der.sequence(
    der.explicit(0, der.integer(Uint8Array.of(2))),
    der.integer(serial),
    algorithm,
    issuer,
    der.sequence(der.time(validity.from), der.time(validity.until)),
    subject,
    publicKeyInfo(publicKey),
    der.explicit(3, der.sequence(...extensions)),
  );
  return new X509Certificate(der.sequence(body, algorithm, der.bitString(sign("sha256", body, signer))));
}

function distinguishedName(commonName: string): Buffer {
  const attribute = (type: string, value: string): Buffer => der.set(der.sequence(der.objectIdentifier(type), der.utf8String(value)));
  return der.sequence(attribute(oid.organisation, ORGANISATION), attribute(oid.commonName, commonName));
}

function extension(type: string, isCritical: boolean, value: Buffer): Buffer {
  return der.sequence(der.objectIdentifier(type), ...(isCritical ? [der.boolean(true)] : []), der.octetString(value));
}

function publicKeyInfo(key: KeyObject): Buffer {
  return createPublicKey(key).export({ type: "spki", format: "der" });
}

/** RFC 5280 4.2.1.2, method 1: SHA-1 of the key's bits. A name, not a protection. */
function keyIdentifier(key: KeyObject): Buffer {
  const info = der.readElement(publicKeyInfo(key), 0).contents;
  const algorithm = der.readElement(info, 0);
  const bits = der.readElement(info, algorithm.end).contents;
  return createHash("sha1").update(bits.subarray(1)).digest();
}

/** The subject exactly as it was encoded: an issuer is compared by its bytes. */
function subjectOf(certificate: X509Certificate): Buffer {
  const body = der.readElement(der.readElement(certificate.raw, 0).contents, 0).contents;
  let at = 0;
  const next = (): { readonly tag: number; readonly from: number; readonly end: number } => {
    const from = at;
    const element = der.readElement(body, at);
    at = element.end;
    return { tag: element.tag, from, end: at };
  };
  if (body[0] === 0xa0) next();
  for (let skipped = 0; skipped < 4; skipped++) next();
  const { from, end } = next();
  return Buffer.from(body.subarray(from, end));
}
