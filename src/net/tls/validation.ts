/**
 * envoy.extensions.transport_sockets.tls.v3.CertificateValidationContext: what a peer must show.
 *
 * OpenSSL checks the chain during the handshake and lets it end either way; the verdict is read, and names and pins are checked, before a byte
 * of the application passes.
 */
import { createHash, X509Certificate } from "node:crypto";
import { getCACertificates, type SecureContextOptions, type TLSSocket } from "node:tls";
import type { CertificateValidationContext, SubjectAltNameMatcher } from "../../config/schema/types/envoy.extensions.transport_sockets.tls.v3.d.ts";
import type { CompileContext } from "../../extensions/extension.ts";
import { compileStringMatcher, type StringMatcher } from "../../matching/string-matcher.ts";
import { pemBlocks } from "./certificates.ts";
import { readDataSource, sourceName } from "./data-source.ts";
import { dnsMatches, type SubjectName, subjectNames } from "./names.ts";
import { maxChainLength, peerCertificate, sentCertificates } from "./peer-chain.ts";

export type Failure = "fail_verify_error" | "fail_verify_san" | "fail_verify_cert_hash" | "fail_verify_no_cert";
export interface Verdict {
  /** undefined: taken. */
  readonly failure: Failure | undefined;
  /** Envoy's words: "verify cert failed: ...". */
  readonly reason: string;
  /** The chain, pins and names were all checked and good. */
  readonly validated: boolean;
}

export interface CompiledValidation {
  readonly options: SecureContextOptions;
  /** There is something to check: a server asks clients for a certificate. */
  readonly active: boolean;
  /** The chain is checked against authorities. */
  readonly hasAuthorities: boolean;
  /** `name`: besides, the certificate must cover this host. */
  verify(socket: TLSSocket, name?: string): Verdict;
}

const good: Verdict = { failure: undefined, reason: "", validated: true };
const taken: Verdict = { failure: undefined, reason: "", validated: false };

export const noValidation: CompiledValidation = { options: {}, active: false, hasAuthorities: false, verify: () => taken };

/** Envoy's SAN types to Node's words. */
const kinds: Readonly<Record<number, string>> = { 1: "email", 2: "DNS", 3: "URI", 4: "IP Address" };

interface NameMatcher {
  readonly kind: string;
  readonly matcher: StringMatcher;
  /** An exact DNS matcher takes wildcard names of certificates, as Envoy. */
  readonly exactDns: string | undefined;
}

export function compileValidation(message: CertificateValidationContext | undefined, context: CompileContext): CompiledValidation {
  if (message === undefined) return noValidation;
  const options: SecureContextOptions = {};
  const authorities = compileAuthorities(message, context);
  if (authorities !== undefined) {
    options.ca = authorities;
    options.allowPartialTrustChain = true;
  }
  const crl = readDataSource(message.crl, context);
  if (crl !== undefined) {
    const text = crl.toString("latin1");
    if (!text.includes("-----BEGIN X509 CRL-----"))
      context.report(message, "crl", { code: "OR5103", text: `Failed to load CRL from ${sourceName(message.crl)}` });
    else options.crl = text;
  }
  const hashes = compileHashes(message, context);
  const spkis = compileSpkis(message, context);
  const names = message.matchTypedSubjectAltNames.map((name) => compileName(name, context)).filter((name) => name !== undefined);
  // The older list matches a name of any type.
  for (const matcher of message.matchSubjectAltNames) {
    const compiled = compileStringMatcher(matcher, context);
    const exact = matcher.matchPattern.case === "exact" ? matcher.matchPattern.value : undefined;
    for (const kind of Object.values(kinds)) names.push({ kind, matcher: compiled, exactDns: kind === "DNS" ? exact : undefined });
  }
  if (names.length > 0 && authorities === undefined && message.trustedCa === undefined) {
    context.report(message, "match_typed_subject_alt_names", {
      code: "OR3811",
      text: "SAN-based verification of peer certificates without trusted CA is insecure and not allowed",
      hint: "add trusted_ca",
    });
  }
  if (message.allowExpiredCertificate && authorities === undefined && message.trustedCa === undefined) {
    context.report(message, "allow_expired_certificate", { code: "OR3812", text: "Certificate validity period is always ignored without trusted CA" });
  }
  const trusted = message.allowExpiredCertificate ? (authorities ?? []).map((pem) => new X509Certificate(pem)) : undefined;
  const validator = new Validator(authorities !== undefined, hashes, spkis, names, trusted, message.trustChainVerification === 1);
  return {
    options,
    active: authorities !== undefined || hashes.size > 0 || spkis.size > 0,
    hasAuthorities: authorities !== undefined,
    verify: (socket, name) => validator.verify(socket, name),
  };
}

function compileAuthorities(message: CertificateValidationContext, context: CompileContext): string[] | undefined {
  if (message.systemRootCerts !== undefined && message.trustedCa === undefined) return getCACertificates("system");
  const bytes = readDataSource(message.trustedCa, context);
  if (bytes === undefined) return undefined;
  const blocks = pemBlocks(bytes.toString("latin1"));
  try {
    if (blocks.length === 0) throw new Error("no PEM certificate");
    for (const block of blocks) new X509Certificate(block);
    return blocks;
  } catch {
    context.report(message, "trusted_ca", {
      code: "OR5102",
      text: `Failed to load trusted CA certificates from ${sourceName(message.trustedCa)}`,
      hint: "it must be PEM",
    });
    return undefined;
  }
}

function compileHashes(message: CertificateValidationContext, context: CompileContext): Set<string> {
  const found = new Set<string>();
  for (const text of message.verifyCertificateHash) {
    const hex = text.replaceAll(":", "").toLowerCase();
    if (/^[0-9a-f]{64}$/.test(hex)) found.add(hex);
    else context.report(message, "verify_certificate_hash", { code: "OR3813", text: `Invalid hex-encoded SHA-256 ${text}` });
  }
  return found;
}

function compileSpkis(message: CertificateValidationContext, context: CompileContext): Set<string> {
  const found = new Set<string>();
  for (const text of message.verifyCertificateSpki) {
    if (/^[A-Za-z0-9+/]{43}=$/.test(text)) found.add(Buffer.from(text, "base64").toString("base64"));
    else context.report(message, "verify_certificate_spki", { code: "OR3814", text: `Invalid base64-encoded SHA-256 ${text}` });
  }
  return found;
}

function compileName(message: SubjectAltNameMatcher, context: CompileContext): NameMatcher | undefined {
  const kind = kinds[message.sanType];
  if (kind === undefined) {
    context.report(message, "san_type", {
      code: "OR4003",
      text: `subject alternative names of type ${message.sanType === 5 ? "OTHER_NAME" : message.sanType} are not supported`,
    });
    return undefined;
  }
  if (message.matcher === undefined) return undefined;
  const exact = message.matcher.matchPattern.case === "exact" ? message.matcher.matchPattern.value : undefined;
  return { kind, matcher: compileStringMatcher(message.matcher, context), exactDns: kind === "DNS" ? exact : undefined };
}

class Validator {
  readonly #chain: boolean;
  readonly #hashes: ReadonlySet<string>;
  readonly #spkis: ReadonlySet<string>;
  readonly #names: readonly NameMatcher[];
  /** Authorities, where dates do not count. */
  readonly #trusted: readonly X509Certificate[] | undefined;
  readonly #acceptUntrusted: boolean;

  constructor(
    chain: boolean,
    hashes: ReadonlySet<string>,
    spkis: ReadonlySet<string>,
    names: readonly NameMatcher[],
    trusted: readonly X509Certificate[] | undefined,
    acceptUntrusted: boolean,
  ) {
    this.#chain = chain;
    this.#hashes = hashes;
    this.#spkis = spkis;
    this.#names = names;
    this.#trusted = trusted;
    this.#acceptUntrusted = acceptUntrusted;
  }

  verify(socket: TLSSocket, name: string | undefined): Verdict {
    const verdict = this.#check(socket, name);
    if (verdict.failure !== undefined && this.#acceptUntrusted) return taken;
    return verdict;
  }

  #check(socket: TLSSocket, host: string | undefined): Verdict {
    const peer = peerCertificate(socket);
    if (peer === undefined) return taken;
    let validated = false;
    if (this.#chain) {
      const why = chainError(socket);
      if (why !== undefined && !(dateErrors.has(why.code) && this.#trusted !== undefined && chainIsTrusted(peer, socket, this.#trusted))) {
        return refused("fail_verify_error", `X509_verify_cert: certificate verification error at depth 0: ${why.text}`);
      }
      validated = true;
    }
    const alternatives = host === undefined && this.#names.length === 0 ? none : subjectNames(peer);
    if (
      host !== undefined &&
      !alternatives.some((name) => (name.kind === "DNS" && dnsMatches(host, name.value)) || (name.kind === "IP Address" && name.value === host))
    ) {
      return refused("fail_verify_san", "verify SAN list");
    }
    if (this.#names.length > 0 && !this.#names.some((wanted) => alternatives.some((name) => nameMatches(wanted, name)))) {
      return refused("fail_verify_san", `SAN matcher, certificate SANs are [${alternatives.map((name) => name.value).join(", ")}]`);
    }
    if (this.#hashes.size + this.#spkis.size > 0) {
      const pinned =
        (this.#hashes.size > 0 && this.#hashes.has(createHash("sha256").update(peer.raw).digest("hex"))) ||
        (this.#spkis.size > 0 &&
          this.#spkis.has(
            createHash("sha256")
              .update(peer.publicKey.export({ type: "spki", format: "der" }))
              .digest("base64"),
          ));
      if (!pinned) return refused("fail_verify_cert_hash", "cert hash and spki");
      validated = true;
    }
    return validated ? good : taken;
  }
}

const none: readonly SubjectName[] = [];

function refused(failure: Failure, why: string): Verdict {
  return { failure, reason: `verify cert failed: ${why}`, validated: false };
}

function nameMatches(wanted: NameMatcher, name: SubjectName): boolean {
  if (wanted.kind !== name.kind) return false;
  if (wanted.exactDns !== undefined && dnsMatches(wanted.exactDns, name.value)) return true;
  return wanted.matcher.matches(name.value);
}

const dateErrors: ReadonlySet<string> = new Set(["CERT_HAS_EXPIRED", "CERT_NOT_YET_VALID"]);

/** OpenSSL's verdict on the peer's chain. Node publishes it for clients (`authorizationError`); for server sockets it is read where Node itself reads it. */
function chainError(socket: TLSSocket): { readonly code: string; readonly text: string } | undefined {
  const handle = (socket as unknown as { readonly _handle: { verifyError?(): (Error & { code?: string }) | null } | null })._handle;
  // Without a verdict there is no trust.
  if (handle === null || typeof handle.verifyError !== "function") return { code: "UNSPECIFIED", text: "no verdict" };
  const error = handle.verifyError();
  return error === null || error === undefined ? undefined : { code: error.code ?? "UNSPECIFIED", text: error.message };
}

/**
 * Whether signatures lead from a certificate to an authority, dates aside. OpenSSL tells its last error only, and behind "expired" another
 * may hide: where expiry is allowed, the chain is walked here.
 */
function chainIsTrusted(peer: X509Certificate, socket: TLSSocket, authorities: readonly X509Certificate[]): boolean {
  const sent = sentCertificates(socket);
  let at = peer;
  for (let depth = 0; depth <= maxChainLength; depth++) {
    const below = at;
    if (authorities.some((authority) => authority.fingerprint256 === below.fingerprint256)) return true;
    if (authorities.some((authority) => signed(authority, below))) return true;
    const issuer = sent.find((certificate) => certificate.fingerprint256 !== below.fingerprint256 && certificate.ca && signed(certificate, below));
    if (issuer === undefined) return false;
    at = issuer;
  }
  return false;
}

function signed(issuer: X509Certificate, certificate: X509Certificate): boolean {
  return certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey);
}
