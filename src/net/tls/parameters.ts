/** envoy.extensions.transport_sockets.tls.v3.TlsParameters, from BoringSSL's language to OpenSSL's. */
import type { SecureContextOptions, SecureVersion } from "node:tls";
import type { TlsParameters } from "../../config/schema/types/envoy.extensions.transport_sockets.tls.v3.d.ts";
import type { CompileContext } from "../../extensions/extension.ts";

/** Envoy's defaults: BoringSSL's equal-preference groups become a plain order. */
const defaultCiphers = [
  "ECDHE-ECDSA-AES128-GCM-SHA256",
  "ECDHE-ECDSA-CHACHA20-POLY1305",
  "ECDHE-RSA-AES128-GCM-SHA256",
  "ECDHE-RSA-CHACHA20-POLY1305",
  "ECDHE-ECDSA-AES256-GCM-SHA384",
  "ECDHE-RSA-AES256-GCM-SHA384",
];
export const defaultCurves: readonly string[] = ["X25519", "P-256"];

/** The suites of TLS 1.3 cannot be chosen in Envoy: always these. */
const tls13Suites = "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256";

/** Suites for TLS 1.2 and before that BoringSSL has, by OpenSSL's names, with the RFC's names beside. */
const suites = new Map<string, string>([
  ["ECDHE-ECDSA-AES128-GCM-SHA256", "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256"],
  ["ECDHE-ECDSA-AES256-GCM-SHA384", "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384"],
  ["ECDHE-ECDSA-CHACHA20-POLY1305", "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"],
  ["ECDHE-RSA-AES128-GCM-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"],
  ["ECDHE-RSA-AES256-GCM-SHA384", "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"],
  ["ECDHE-RSA-CHACHA20-POLY1305", "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256"],
  ["ECDHE-ECDSA-AES128-SHA", "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA"],
  ["ECDHE-ECDSA-AES256-SHA", "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA"],
  ["ECDHE-RSA-AES128-SHA", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA"],
  ["ECDHE-RSA-AES256-SHA", "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA"],
  ["ECDHE-RSA-AES128-SHA256", "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256"],
  ["AES128-GCM-SHA256", "TLS_RSA_WITH_AES_128_GCM_SHA256"],
  ["AES256-GCM-SHA384", "TLS_RSA_WITH_AES_256_GCM_SHA384"],
  ["AES128-SHA", "TLS_RSA_WITH_AES_128_CBC_SHA"],
  ["AES256-SHA", "TLS_RSA_WITH_AES_256_CBC_SHA"],
]);
const byStandardName = new Map([...suites].map(([name, standard]) => [standard, name]));

const curves = new Set(["X25519", "P-256", "P-384", "P-521", "X25519MLKEM768"]);

const signatureAlgorithms = new Set([
  "rsa_pkcs1_sha256",
  "rsa_pkcs1_sha384",
  "rsa_pkcs1_sha512",
  "ecdsa_secp256r1_sha256",
  "ecdsa_secp384r1_sha384",
  "ecdsa_secp521r1_sha512",
  "rsa_pss_rsae_sha256",
  "rsa_pss_rsae_sha384",
  "rsa_pss_rsae_sha512",
  "ed25519",
  "rsa_pkcs1_sha1",
  "ecdsa_sha1",
]);

const versions: readonly SecureVersion[] = ["TLSv1", "TLSv1.1", "TLSv1.2", "TLSv1.3"];

export interface CompiledParameters {
  readonly options: SecureContextOptions;
  /** Groups in order of preference, Envoy's names. */
  readonly curves: readonly string[];
}

export function compileParameters(message: TlsParameters | undefined, side: "server" | "client", context: CompileContext): CompiledParameters {
  const minimum = message === undefined || message.tlsMinimumProtocolVersion === 0 ? 3 : message.tlsMinimumProtocolVersion;
  // Envoy's clients speak at most TLS 1.2 unless told.
  const maximum = message === undefined || message.tlsMaximumProtocolVersion === 0 ? (side === "server" ? 4 : 3) : message.tlsMaximumProtocolVersion;
  const least = message?.tlsMinimumProtocolVersion === 0 || message === undefined ? Math.min(minimum, maximum) : minimum;
  if (message !== undefined && least > maximum) {
    context.report(message, "tls_minimum_protocol_version", {
      code: "OR3801",
      text: `tls_minimum_protocol_version ${versions[least - 1]} is above tls_maximum_protocol_version ${versions[maximum - 1]}: no TLS protocol version is left`,
    });
  }
  const ciphers = message === undefined || message.cipherSuites.length === 0 ? defaultCiphers : compileCiphers(message, context);
  const groups =
    message === undefined || message.ecdhCurves.length === 0
      ? defaultCurves
      : compileList(message, message.ecdhCurves, "ecdh_curves", "ECDH curves", curves, context);
  // OpenSSL's security level 1 has neither TLS 1.0 nor 1.1.
  const level = least < 3 ? ":@SECLEVEL=0" : "";
  const options: SecureContextOptions = {
    minVersion: versions[Math.min(least, maximum) - 1],
    maxVersion: versions[maximum - 1],
    ciphers: `${tls13Suites}:${(ciphers.length === 0 ? defaultCiphers : ciphers).join(":")}${level}`,
    ecdhCurve: (groups.length === 0 ? defaultCurves : groups).join(":"),
  };
  if (message !== undefined && message.signatureAlgorithms.length > 0) {
    const list = compileList(message, message.signatureAlgorithms, "signature_algorithms", "TLS signature algorithms", signatureAlgorithms, context);
    if (list.length > 0) options.sigalgs = list.join(":");
  }
  return { options, curves: groups };
}

/** "[A|B]" is BoringSSL's group of equal preference. */
function compileCiphers(message: TlsParameters, context: CompileContext): string[] {
  const names: string[] = [];
  const rejected: string[] = [];
  for (const entry of message.cipherSuites) {
    const members = entry.startsWith("[") && entry.endsWith("]") ? entry.slice(1, -1).split("|") : entry.split(":");
    for (const member of members) {
      const name = suites.has(member) ? member : byStandardName.get(member);
      if (name === undefined) rejected.push(member);
      else names.push(name);
    }
  }
  if (rejected.length > 0) {
    context.report(message, "cipher_suites", {
      code: "OR3802",
      text: `Failed to initialize cipher suites ${message.cipherSuites.join(":")}. The following ciphers were rejected when tried individually: ${rejected.join(", ")}`,
      hint: `the suites of TLS 1.2 and before: ${[...suites.keys()].join(", ")}; those of TLS 1.3 cannot be chosen`,
    });
  }
  return names;
}

function compileList(
  message: TlsParameters,
  list: readonly string[],
  field: string,
  what: string,
  known: ReadonlySet<string>,
  context: CompileContext,
): string[] {
  const flat = list.flatMap((entry) => entry.split(":"));
  if (flat.every((name) => known.has(name))) return flat;
  context.report(message, field, { code: "OR3803", text: `Failed to initialize ${what} ${list.join(":")}`, hint: `known: ${[...known].join(", ")}` });
  return flat.filter((name) => known.has(name));
}
