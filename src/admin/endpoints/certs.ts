/** /certs: the certificates that TLS contexts of the configuration use, with the days they have left. */
import { X509Certificate } from "node:crypto";
import { readFileSync } from "node:fs";
import type { DataSource } from "../../config/schema/types/envoy.config.core.v3.d.ts";
import type {
  CertificateValidationContext,
  CommonTlsContext,
  Secret,
  TlsCertificate,
} from "../../config/schema/types/envoy.extensions.transport_sockets.tls.v3.d.ts";
import { subjectAltNames } from "../../formatter/operators/certificates.ts";
import { type AdminEndpoint, json } from "../request.ts";
import type { AdminConfig, AdminServer } from "../server.ts";

export const certs: AdminEndpoint = {
  path: "/certs",
  help: "print certs on machine",
  handle: ({ server }) => json({ certificates: tlsContexts(server).map((context) => certificatesOf(context, server.config)) }),
};

const day = 86_400_000;

/** Every CommonTlsContext of clusters and listeners, in that order. */
function tlsContexts(server: AdminServer): CommonTlsContext[] {
  const found: CommonTlsContext[] = [];
  const walk = (value: unknown): void => {
    if (typeof value !== "object" || value === null || value instanceof Uint8Array) return;
    if ((value as { $typeName?: unknown }).$typeName === "envoy.extensions.transport_sockets.tls.v3.CommonTlsContext") {
      found.push(value as CommonTlsContext);
      return;
    }
    for (const inner of Object.values(value)) walk(inner);
  };
  walk(server.config.bootstrap.staticResources?.clusters);
  walk(server.config.bootstrap.staticResources?.listeners);
  const { clusters, listeners } = server.config.dynamic;
  walk(clusters.active.map(({ message }) => message));
  walk(listeners.entries.map(({ active }) => active?.message));
  return found;
}

function certificatesOf(context: CommonTlsContext, config: AdminConfig): { ca_cert: object[]; cert_chain: object[] } {
  const secrets = new Map<string, Secret>(
    [...(config.bootstrap.staticResources?.secrets ?? []), ...config.dynamicSecrets.map(({ secret }) => secret)].map((secret) => [secret.name, secret]),
  );
  const chains: TlsCertificate[] = [...context.tlsCertificates];
  for (const { name } of context.tlsCertificateSdsSecretConfigs) {
    const type = secrets.get(name)?.type;
    if (type?.case === "tlsCertificate") chains.push(type.value);
  }
  const validation = validationContext(context, secrets);
  return {
    ca_cert: details(validation?.trustedCa, config),
    cert_chain: chains.flatMap((chain) => details(chain.certificateChain, config)),
  };
}

function validationContext(context: CommonTlsContext, secrets: ReadonlyMap<string, Secret>): CertificateValidationContext | undefined {
  const type = context.validationContextType;
  const secret = (name: string | undefined): CertificateValidationContext | undefined => {
    const found = name === undefined ? undefined : secrets.get(name)?.type;
    return found?.case === "validationContext" ? found.value : undefined;
  };
  switch (type.case) {
    case "validationContext":
      return type.value;
    case "validationContextSdsSecretConfig":
      return secret(type.value.name);
    case "combinedValidationContext":
      return secret(type.value.validationContextSdsSecretConfig?.name) ?? type.value.defaultValidationContext;
    default:
      return undefined;
  }
}

/** envoy.admin.v3.CertificateDetails of a file's or text's first certificate; nothing where there is none to read. */
function details(source: DataSource | undefined, config: AdminConfig): object[] {
  const read = readSource(source, config);
  if (read === undefined) return [];
  let certificate: X509Certificate;
  try {
    certificate = new X509Certificate(read.data);
  } catch {
    return [];
  }
  const until = certificate.validToDate;
  const left = Math.floor((until.getTime() - Date.now()) / day);
  return [
    {
      path: read.path,
      serial_number: certificate.serialNumber.toLowerCase().replace(/^0+(?=.)/, ""),
      subject_alt_names: subjectAltNames(certificate).flatMap(nameJson),
      days_until_expiration: String(Math.max(left, 0)),
      valid_from: rfc3339(certificate.validFromDate),
      expiration_time: rfc3339(until),
    },
  ];
}

/** envoy.admin.v3.SubjectAlternateName; other kinds of names have no place there. */
function nameJson({ kind, value }: { readonly kind: string; readonly value: string }): object[] {
  switch (kind) {
    case "DNS":
      return [{ dns: value }];
    case "URI":
      return [{ uri: value }];
    case "IP Address":
      // Node writes IPv6 out in full; URLs have the short form.
      return [{ ip_address: value.includes(":") ? (URL.parse(`http://[${value}]/`)?.hostname.slice(1, -1) ?? value) : value }];
    default:
      return [];
  }
}

function readSource(source: DataSource | undefined, config: AdminConfig): { readonly path: string; readonly data: Uint8Array | string } | undefined {
  const specifier = source?.specifier;
  switch (specifier?.case) {
    case "filename": {
      const kept = config.files.get(specifier.value);
      if (kept !== undefined) return { path: specifier.value, data: kept };
      try {
        return { path: specifier.value, data: readFileSync(specifier.value) };
      } catch {
        return undefined;
      }
    }
    case "inlineBytes":
    case "inlineString":
      return { path: "<inline>", data: specifier.value };
    case "environmentVariable":
      return { path: "<inline>", data: process.env[specifier.value] ?? "" };
    default:
      return undefined;
  }
}

function rfc3339(date: Date): string {
  return `${date.toISOString().slice(0, 19)}Z`;
}
