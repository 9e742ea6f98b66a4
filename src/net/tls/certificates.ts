/** envoy.extensions.transport_sockets.tls.v3.TlsCertificate: chain and key, checked as Envoy does when it loads them. */
import { createPrivateKey, type KeyObject, X509Certificate } from "node:crypto";
import type { TlsCertificate } from "../../config/schema/types/envoy.extensions.transport_sockets.tls.v3.d.ts";
import type { CompileContext } from "../../extensions/extension.ts";
import { readDataSource, sourceName } from "./data-source.ts";
import { subjectNames } from "./names.ts";

export interface CompiledCertificate {
  /** PEM: the leaf, then intermediates. */
  readonly chain: string;
  /** PEM, without encryption. Secret. */
  readonly key: string;
  readonly leaf: X509Certificate;
  /** "rsa", "ec": one context can carry a certificate of each. */
  readonly keyType: string;
  /** DNS names in lower case ("*.a.test"), or the common name where there are none. */
  readonly names: readonly string[];
}

export function compileCertificate(message: TlsCertificate, context: CompileContext): CompiledCertificate | undefined {
  const fail = (field: string, text: string, hint?: string): undefined => {
    context.report(message, field, { code: "OR5101", text, hint });
    return undefined;
  };
  const chainBytes = readDataSource(message.certificateChain, context);
  const keyBytes = readDataSource(message.privateKey, context);
  const password = readDataSource(message.password, context);
  const chainName = sourceName(message.certificateChain);
  const keyName = sourceName(message.privateKey);
  if (chainBytes === undefined || chainBytes.length === 0) {
    // What cannot be read has its finding already.
    return message.certificateChain === undefined || chainBytes !== undefined
      ? fail("certificate_chain", `Failed to load incomplete certificate from ${chainName}: certificate chain not set`)
      : undefined;
  }
  if (keyBytes === undefined || keyBytes.length === 0) {
    return message.privateKey === undefined || keyBytes !== undefined
      ? fail("private_key", `Failed to load incomplete private key from path: ${keyName}`)
      : undefined;
  }
  const chain = chainBytes.toString("latin1");
  const blocks = pemBlocks(chain);
  let leaf: X509Certificate;
  try {
    if (blocks.length === 0) throw new Error("no PEM certificate");
    leaf = new X509Certificate(blocks[0]);
    for (let i = 1; i < blocks.length; i++) new X509Certificate(blocks[i]);
  } catch {
    return fail(
      "certificate_chain",
      `Failed to load certificate chain from ${chainName}`,
      "it must be PEM: the server's certificate first, then intermediate ones",
    );
  }
  let key: KeyObject;
  try {
    key = createPrivateKey({ key: keyBytes, format: "pem", ...(password === undefined ? {} : { passphrase: password.toString("utf8") }) });
  } catch {
    return fail(
      "private_key",
      `Failed to load private key from ${keyName}`,
      password === undefined ? "it must be PEM; an encrypted one needs `password`" : "is the password right?",
    );
  }
  if (!leaf.checkPrivateKey(key)) {
    return fail(
      "private_key",
      `Failed to load private key from ${keyName}, Cause: KEY_VALUES_MISMATCH (it does not belong to the certificate in ${chainName})`,
    );
  }
  const { publicKey } = leaf;
  if (publicKey.asymmetricKeyType === "rsa" && (publicKey.asymmetricKeyDetails?.modulusLength ?? 0) < 2048) {
    return fail("certificate_chain", `Failed to load certificate chain from ${chainName}, only RSA certificates with 2048-bit or larger keys are supported`);
  }
  if (publicKey.asymmetricKeyType === "ec" && !["prime256v1", "secp384r1", "secp521r1"].includes(publicKey.asymmetricKeyDetails?.namedCurve ?? "")) {
    return fail("certificate_chain", `Failed to load certificate chain from ${chainName}, only P-256, P-384 or P-521 ECDSA certificates are supported`);
  }
  return {
    chain: blocks.join(""),
    key: key.export({ type: "pkcs8", format: "pem" }) as string,
    leaf,
    keyType: publicKey.asymmetricKeyType ?? "",
    names: serverNames(leaf),
  };
}

/** Each certificate of a PEM text, with its armour. Text around them is ignored, as OpenSSL does. */
export function pemBlocks(text: string): string[] {
  const found: string[] = [];
  let at = 0;
  for (;;) {
    const begin = text.indexOf("-----BEGIN ", at);
    if (begin < 0) return found;
    const end = text.indexOf("-----END ", begin);
    const stop = end < 0 ? -1 : text.indexOf("-----", end + 9);
    if (stop < 0) return found;
    const label = text.slice(begin + 11, text.indexOf("-----", begin + 11));
    if (label === "CERTIFICATE" || label === "X509 CERTIFICATE" || label === "TRUSTED CERTIFICATE") found.push(`${text.slice(begin, stop + 5)}\n`);
    at = stop + 5;
  }
}

function serverNames(certificate: X509Certificate): string[] {
  const dns = subjectNames(certificate)
    .filter((name) => name.kind === "DNS")
    .map((name) => name.value.toLowerCase());
  if (dns.length > 0) return dns;
  const common = /(?:^|\n)CN=([^\n]+)/.exec(certificate.subject ?? "");
  return common === null ? [] : [common[1].toLowerCase()];
}
