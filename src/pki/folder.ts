/**
 * A folder of certificates for local use, kept as it was asked for: what is missing, unfit or about to expire is made, all else stays.
 *
 * Each file is replaced by a rename, so that whoever reads it sees the old one or the new one, never a part.
 */
import { createPrivateKey, type KeyObject, randomBytes, X509Certificate } from "node:crypto";
import { chmodSync, closeSync, fsyncSync, mkdirSync, openSync, readFileSync, renameSync, rmSync, statSync, writeSync } from "node:fs";
import { join } from "node:path";
import { type Authority, isFor, type KeyKind, keyToPem, makeAuthority, makeCertificate, newKey, type Usage } from "./certificate.ts";
import type { SubjectName } from "./names.ts";

export interface CertificateRequest {
  /** The files are called NAME.crt, NAME.key. */
  readonly name: string;
  readonly names: readonly SubjectName[];
  readonly usages: readonly Usage[];
}
export interface FolderRequest {
  readonly folder: string;
  readonly certificates: readonly CertificateRequest[];
  readonly keyKind: KeyKind;
  /** How long new certificates last, in days. */
  readonly days: number;
  readonly authorityDays: number;
  /** A certificate with less time left is made anew; never more than a third of its whole time, so that it does not renew at each run. */
  readonly renewBeforeDays: number;
  /** Whatever there is: new certificates with new keys. The authority stays. */
  readonly renewAll: boolean;
  /**
   * A new authority with a new key. The old one goes on being trusted until it expires, and certificates that it signed stay for this once: the next
   * run makes new ones, when all peers have been given the new trust.
   */
  readonly newAuthority: boolean;
  /** Also NAME.sds.yaml and ca.sds.yaml, for SDS by file. */
  readonly sds: boolean;
  /** Milliseconds since 1970. */
  readonly now: number;
}

export interface FolderEntry {
  readonly name: string;
  /** Without keys: those are beside it. */
  readonly path: string;
  readonly done: "made" | "renewed" | "kept";
  /** Why it was made again. */
  readonly why: string | undefined;
  /** What it is for; empty: the authority. */
  readonly names: readonly SubjectName[];
  readonly certificate: X509Certificate;
}
export interface FolderResult {
  readonly entries: readonly FolderEntry[];
  /** Key files that others could read, which they now cannot. */
  readonly tightened: readonly string[];
}

export const AUTHORITY = "ca";
const DAY_MS = 86_400_000;
/** Clocks of peers may be behind ours. */
const BACKDATE_MS = 3_600_000;
const PUBLIC = 0o644;
const PRIVATE = 0o600;

export function maintainFolder(request: FolderRequest): FolderResult {
  mkdirSync(request.folder, { recursive: true, mode: 0o755 });
  const folder = new Folder(request);
  const authority = folder.authority();
  const entries = [authority.entry, ...request.certificates.map((one) => folder.certificate(one, authority))];
  return { entries, tightened: folder.tightened };
}

interface TrustedAuthority extends Authority {
  /** Itself, and those before it that peers still trust. */
  readonly trusted: readonly X509Certificate[];
  readonly entry: FolderEntry;
}

class Folder {
  readonly #request: FolderRequest;
  readonly tightened: string[] = [];

  constructor(request: FolderRequest) {
    this.#request = request;
  }

  authority(): TrustedAuthority {
    const { keyKind, authorityDays, newAuthority, sds } = this.#request;
    const path = this.#path(AUTHORITY, "crt");
    const trusted = this.#readCertificates(path);
    const current = trusted.at(0);
    const key = this.#readKey(AUTHORITY);
    const validity = this.#validity(authorityDays);
    let why: string | undefined;
    if (current === undefined || key === undefined)
      why = current === undefined && key === undefined ? "" : `${current === undefined ? path : this.#path(AUTHORITY, "key")} is missing`;
    else if (!current.checkPrivateKey(key)) why = "certificate and key do not belong together";
    else if (!current.ca) why = "it is no authority's certificate";
    else if (newAuthority) why = "asked for";
    const needsKey = why !== undefined;
    if (why === undefined && this.#isDue(current)) why = this.#left(current);
    if (why === undefined && current !== undefined && key !== undefined) {
      if (sds) this.#write(AUTHORITY, "sds.yaml", trustSecret(trusted), PUBLIC);
      return { certificate: current, key, trusted, entry: { name: AUTHORITY, path, done: "kept", why: undefined, names: [], certificate: current } };
    }
    const newest = needsKey || key === undefined ? newKey(keyKind) : key;
    // Its name tells it from others: with two authorities of one name, OpenSSL may try the wrong one.
    const commonName = needsKey || current === undefined ? `Outrider local CA ${randomBytes(4).toString("hex")}` : commonNameOf(current);
    const certificate = makeAuthority(commonName, newest, validity);
    // A renewed authority replaces the one with its key. Another one stays beside it, so that what it signed is still taken.
    const stay = needsKey ? trusted.filter((one) => one.validToDate.getTime() > this.#request.now) : [];
    if (needsKey) this.#write(AUTHORITY, "key", keyToPem(newest), PRIVATE);
    this.#write(AUTHORITY, "crt", [certificate, ...stay].map(String).join(""), PUBLIC);
    if (sds) this.#write(AUTHORITY, "sds.yaml", trustSecret([certificate, ...stay]), PUBLIC);
    const done = current === undefined && why === "" ? "made" : "renewed";
    return { certificate, key: newest, trusted: [certificate, ...stay], entry: { name: AUTHORITY, path, done, why: why || undefined, names: [], certificate } };
  }

  certificate(wanted: CertificateRequest, authority: TrustedAuthority): FolderEntry {
    const { keyKind, days, renewAll, sds } = this.#request;
    const path = this.#path(wanted.name, "crt");
    const current = this.#readCertificates(path).at(0);
    const key = this.#readKey(wanted.name);
    const why = renewAll && current !== undefined ? "asked for" : this.#unfit(wanted, current, key, authority);
    if (why === undefined && current !== undefined && key !== undefined) {
      if (sds) this.#write(wanted.name, "sds.yaml", certificateSecret(wanted.name, current, key), PRIVATE);
      return { name: wanted.name, path, done: "kept", why, names: wanted.names, certificate: current };
    }
    const validity = this.#validity(days);
    const until = new Date(Math.min(validity.until.getTime(), authority.certificate.validToDate.getTime()));
    const fresh = newKey(keyKind);
    const certificate = makeCertificate(authority, {
      commonName: wanted.name,
      names: wanted.names,
      usages: wanted.usages,
      key: fresh,
      from: validity.from,
      until,
    });
    this.#write(wanted.name, "key", keyToPem(fresh), PRIVATE);
    this.#write(wanted.name, "crt", String(certificate), PUBLIC);
    if (sds) this.#write(wanted.name, "sds.yaml", certificateSecret(wanted.name, certificate, fresh), PRIVATE);
    return { name: wanted.name, path, done: why === "" ? "made" : "renewed", why: why || undefined, names: wanted.names, certificate };
  }

  /** Why a certificate cannot stay: "" where there is none, undefined where it can. */
  #unfit(wanted: CertificateRequest, current: X509Certificate | undefined, key: KeyObject | undefined, authority: TrustedAuthority): string | undefined {
    if (current === undefined && key === undefined) return "";
    if (current === undefined || key === undefined) return `${this.#path(wanted.name, current === undefined ? "crt" : "key")} is missing`;
    if (!current.checkPrivateKey(key)) return "certificate and key do not belong together";
    const signers = this.#request.newAuthority ? authority.trusted : [authority.certificate];
    if (!signers.some((one) => current.verify(one.publicKey))) return "another authority signed it";
    if (!isFor(current, wanted.names, wanted.usages)) return "other names were asked for";
    return this.#isDue(current) ? this.#left(current) : undefined;
  }

  #validity(days: number): { readonly from: Date; readonly until: Date } {
    const { now } = this.#request;
    return { from: new Date(now - BACKDATE_MS), until: new Date(now + days * DAY_MS) };
  }

  #isDue(certificate: X509Certificate | undefined): boolean {
    if (certificate === undefined) return true;
    const until = certificate.validToDate.getTime();
    const whole = until - certificate.validFromDate.getTime();
    return until - this.#request.now <= Math.min(this.#request.renewBeforeDays * DAY_MS, whole / 3);
  }

  #left(certificate: X509Certificate | undefined): string {
    const left = (certificate?.validToDate.getTime() ?? 0) - this.#request.now;
    return left <= 0 ? "it had expired" : `it had ${describeDays(left)} left`;
  }

  #path(name: string, suffix: string): string {
    return join(this.#request.folder, `${name}.${suffix}`);
  }

  #readCertificates(path: string): X509Certificate[] {
    const found: X509Certificate[] = [];
    for (const [block] of (readIfThere(path) ?? "").matchAll(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g)) {
      try {
        found.push(new X509Certificate(block));
      } catch {
        // Nothing that could be kept.
      }
    }
    return found;
  }

  #readKey(name: string): KeyObject | undefined {
    const path = this.#path(name, "key");
    const text = readIfThere(path);
    if (text === undefined) return undefined;
    if ((statSync(path).mode & 0o077) !== 0) {
      chmodSync(path, PRIVATE);
      this.tightened.push(path);
    }
    try {
      return createPrivateKey(text);
    } catch {
      return undefined;
    }
  }

  /** Nothing happens where the file is so already. */
  #write(name: string, suffix: string, text: string, mode: number): void {
    const path = this.#path(name, suffix);
    if (readIfThere(path) === text && (statSync(path).mode & 0o777) === mode) return;
    const temporary = `${path}.${randomBytes(6).toString("hex")}.new`;
    const file = openSync(temporary, "wx", mode);
    try {
      // The umask may take bits away from a certificate, which others are meant to read.
      chmodSync(temporary, mode);
      writeSync(file, text);
      fsyncSync(file);
    } catch (error) {
      rmSync(temporary, { force: true });
      throw error;
    } finally {
      closeSync(file);
    }
    renameSync(temporary, path);
  }
}

function readIfThere(path: string): string | undefined {
  try {
    return readFileSync(path, "utf8");
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "ENOENT") return undefined;
    throw error;
  }
}

export function commonNameOf(certificate: X509Certificate): string {
  return /^CN=(.*)$/m.exec(certificate.subject)?.[1] ?? "";
}

export function describeDays(milliseconds: number): string {
  const days = Math.floor(milliseconds / DAY_MS);
  return days === 0 ? "less than a day" : `${days} day${days === 1 ? "" : "s"}`;
}

const SECRET = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

/** A discovery response with one secret; its text changes only when the secret does. */
export function certificateSecret(name: string, certificate: X509Certificate, key: KeyObject): string {
  return secretFile(certificate.serialNumber, name, [
    "  tls_certificate:",
    ...inline("certificate_chain", String(certificate)),
    ...inline("private_key", keyToPem(key)),
  ]);
}

export function trustSecret(trusted: readonly X509Certificate[]): string {
  const version = trusted.map((one) => one.serialNumber).join("-");
  return secretFile(version, AUTHORITY, ["  validation_context:", ...inline("trusted_ca", trusted.map(String).join(""))]);
}

function secretFile(version: string, name: string, lines: readonly string[]): string {
  return [`version_info: "${version}"`, "resources:", `- "@type": ${SECRET}`, `  name: ${name}`, ...lines, ""].join("\n");
}

function inline(field: string, pem: string): string[] {
  const text = pem.trimEnd().split("\n");
  return [`    ${field}:`, "      inline_string: |", ...text.map((line) => `        ${line}`)];
}
