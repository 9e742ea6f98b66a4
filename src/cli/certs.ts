/** `outrider certs`: an authority, and certificates of it, for local use. */

import { KEY_KINDS, type KeyKind, type Usage } from "../pki/certificate.ts";
import { AUTHORITY, type CertificateRequest, describeDays, type FolderResult, maintainFolder } from "../pki/folder.ts";
import { parseName, type SubjectName } from "../pki/names.ts";
import { flagsHelp, type GivenFlags, parseFlags, type VerbFlag } from "./flags.ts";

export const FLAGS: readonly VerbFlag[] = [
  { name: "server", value: "NAME=NAMES", many: true, help: "a certificate that a server shows, and what for: DNS names, addresses, URIs, with commas" },
  { name: "client", value: "NAME=NAMES", many: true, help: "a certificate that a client shows" },
  { name: "peer", value: "NAME=NAMES", many: true, help: "a certificate for both" },
  { name: "days", value: "DAYS", help: "how long certificates last (default 365)" },
  { name: "ca-days", value: "DAYS", help: "how long the authority lasts (default 3650)" },
  { name: "renew-before", value: "DAYS", help: "what has less time left is made anew (default 30, at most a third of its time)" },
  { name: "renew", help: "make all certificates anew, with new keys; the authority stays" },
  { name: "new-ca", help: "a new authority; the old one is still trusted until it expires, and the next run makes new certificates" },
  { name: "key", value: "KIND", values: KEY_KINDS, help: "the kind of new keys: ec (P-256, the default) or rsa (2048 bits)" },
  { name: "sds", help: "also write NAME.sds.yaml and ca.sds.yaml, for SDS from files: a rotation is one rename" },
  { name: "json", help: "tell what was done as JSON" },
];
const USAGE = "usage: outrider certs [DIR] [--server NAME=NAMES] [--client NAME=NAMES] [...]\n";
const ABOUT = `Makes an authority of your own, and certificates signed by it, in DIR (default certs): DIR/ca.crt is what peers trust, DIR/NAME.crt and
DIR/NAME.key are for tls_certificates. Without --server, --client or --peer: a server for localhost and a client called spiffe://local/client.
Run it again at any time: what is there and fit stays as it is, what is missing or has little time left is made.`;
const DEFAULTS: readonly (readonly [Usage, string])[] = [
  ["server", "server=localhost,127.0.0.1,::1"],
  ["client", "client=spiffe://local/client"],
];
const MOST_DAYS = 36_500;
const MOST_NAMES = 100;

export async function certs(argv: string[]): Promise<number> {
  const parsed = parseFlags(FLAGS, argv);
  const fail = (why: string): number => {
    process.stderr.write(`certs: ${why}\n${USAGE}`);
    return 1;
  };
  if (parsed.kind === "error") return fail(parsed.text);
  const { given, words } = parsed;
  if (given["help"] !== undefined) {
    process.stdout.write(`${USAGE}\n${ABOUT}\n\n${flagsHelp(FLAGS)}`);
    return 0;
  }
  if (words.length > 1) return fail(`takes one folder, and there are ${words.length}: ${words.join(", ")}`);
  const folder = words[0] ?? "certs";
  const certificates = requested(parsed);
  if (typeof certificates === "string") return fail(certificates);
  const days = (name: string, otherwise: number, least: number): number | undefined => {
    const text = String(given[name] ?? otherwise);
    return /^[0-9]{1,5}$/.test(text) && Number(text) >= least && Number(text) <= MOST_DAYS ? Number(text) : undefined;
  };
  const [leafDays, authorityDays, renewBeforeDays] = [days("days", 365, 1), days("ca-days", 3650, 1), days("renew-before", 30, 0)];
  if (leafDays === undefined) return fail(`--days '${given["days"]}' is no number of days from 1 to ${MOST_DAYS}`);
  if (authorityDays === undefined) return fail(`--ca-days '${given["ca-days"]}' is no number of days from 1 to ${MOST_DAYS}`);
  if (renewBeforeDays === undefined) return fail(`--renew-before '${given["renew-before"]}' is no number of days up to ${MOST_DAYS}`);
  let result: FolderResult;
  try {
    result = maintainFolder({
      folder,
      certificates,
      keyKind: (given["key"] ?? "ec") as KeyKind,
      days: leafDays,
      authorityDays,
      renewBeforeDays,
      renewAll: given["renew"] !== undefined,
      newAuthority: given["new-ca"] !== undefined,
      sds: given["sds"] !== undefined,
      now: Date.now(),
    });
  } catch (error) {
    process.stderr.write(`certs: ${(error as Error).message}\n`);
    return 1;
  }
  process.stdout.write(
    given["json"] !== undefined ? `${JSON.stringify(json(result), undefined, 2)}\n` : text(result, Date.now(), given["new-ca"] !== undefined),
  );
  return 0;
}

/** What the flags ask for, in the order servers, clients, both; or what is wrong. */
function requested({ lists }: GivenFlags): CertificateRequest[] | string {
  const asked: (readonly [Usage | "peer", string])[] = (["server", "client", "peer"] as const).flatMap((kind) =>
    (lists[kind] ?? []).map((value) => [kind, value] as const),
  );
  const found: CertificateRequest[] = [];
  for (const [kind, value] of asked.length === 0 ? DEFAULTS : asked) {
    const equals = value.indexOf("=");
    const name = equals < 0 ? "" : value.slice(0, equals);
    if (!/^[a-z0-9][a-z0-9._-]{0,62}$/i.test(name))
      return `--${kind} '${value}': NAME=NAMES is needed, where NAME is what the files are called: letters, digits, dots and dashes`;
    if (name.toLowerCase() === AUTHORITY) return `--${kind} '${value}': '${AUTHORITY}' is the authority's name; take another one`;
    if (found.some((other) => other.name.toLowerCase() === name.toLowerCase()))
      return `--${kind} '${value}': there is a '${name}' already; a certificate for both is --peer`;
    const texts = value.slice(equals + 1).split(",");
    if (texts.length > MOST_NAMES) return `--${kind} '${name}': ${texts.length} names; at most ${MOST_NAMES} fit`;
    const names: SubjectName[] = [];
    for (const text of texts) {
      const parsed = parseName(text);
      if (parsed === undefined) return `--${kind} '${value}': '${text}' is no DNS name, address, URI or e-mail address`;
      names.push(parsed);
    }
    found.push({ name, names, usages: kind === "peer" ? ["server", "client"] : [kind] });
  }
  return found;
}

function text({ entries, tightened }: FolderResult, now: number, isNewAuthority: boolean): string {
  const rows = entries.map((entry) => [
    entry.done,
    entry.path,
    entry.certificate.validToDate.toISOString().slice(0, 10),
    `${describeDays(entry.certificate.validToDate.getTime() - now)} left`,
    entry.name === AUTHORITY ? "the authority: what peers trust" : entry.names.map(({ value }) => value).join(", "),
    entry.why === undefined ? "" : `(${entry.why})`,
  ]);
  const widths = [0, 1, 2, 3].map((column) => Math.max(...rows.map((row) => row[column].length)));
  const lines = rows.map((row) =>
    row
      .map((cell, column) => (column < widths.length ? cell.padEnd(widths[column]) : cell))
      .join("  ")
      .trimEnd(),
  );
  if (isNewAuthority)
    lines.push("Give the new ca.crt to all peers, then run the command again without --new-ca: it makes certificates that the new authority signs.");
  for (const path of tightened) lines.push(`${path} could be read by others: its mode is 0600 now`);
  return lines.map((line) => `${line}\n`).join("");
}

function json({ entries, tightened }: FolderResult): object {
  return {
    certificates: entries.map((entry) => ({
      name: entry.name,
      certificate: entry.path,
      key: entry.path.replace(/crt$/, "key"),
      done: entry.done,
      why: entry.why ?? null,
      names: entry.names.map(({ value }) => value),
      serial: entry.certificate.serialNumber.toLowerCase(),
      fingerprint_sha256: entry.certificate.fingerprint256.replaceAll(":", "").toLowerCase(),
      valid_from: entry.certificate.validFromDate.toISOString(),
      valid_until: entry.certificate.validToDate.toISOString(),
    })),
    tightened,
  };
}
