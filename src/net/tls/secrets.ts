/** Secrets that a TLS context names instead of holding them: from static_resources.secrets, or from a file (SDS). */

import { compileConfigSource, sourceKey } from "../../config/config-source.ts";
import type {
  CertificateValidationContext,
  CommonTlsContext,
  SdsSecretConfig,
  Secret,
  TlsCertificate,
} from "../../config/schema/types/envoy.extensions.transport_sockets.tls.v3.d.ts";
import type { CompileContext, Honours } from "../../extensions/extension.ts";

const at = "envoy.extensions.transport_sockets.tls.v3.";
export const secretType = `${at}Secret`;
export const secretConfigType = "envoy.extensions.transport_sockets.tls.v3.SdsSecretConfig";

export const honours: Honours = {
  [secretConfigType]: "*",
  [secretType]: ["name", "tls_certificate", "validation_context"],
  [`${at}CommonTlsContext.CombinedCertificateValidationContext`]: ["default_validation_context", "validation_context_sds_secret_config"],
};

/** What tells a secret from others of its name: the source that it comes from. */
export function secretKey({ name, sdsConfig }: SdsSecretConfig): string {
  return `${sourceKey(sdsConfig)}\u0000${name}`;
}

export interface FoundSecrets {
  readonly certificates: readonly TlsCertificate[];
  readonly validation: CertificateValidationContext | undefined;
  /** False: one of them has not come yet; no handshake is possible. */
  readonly isReady: boolean;
  /** Whether any comes from somewhere that may change. */
  readonly isDynamic: boolean;
}

/** Certificates and validation of a context, with what it only names put in. */
export function findSecrets(message: CommonTlsContext | undefined, context: CompileContext): FoundSecrets {
  const certificates = [...(message?.tlsCertificates ?? [])];
  let isReady = true;
  let isDynamic = false;
  /** The secret, where it is of the kind that is meant. */
  const find = (config: SdsSecretConfig, field: string, kind: Secret["type"]["case"]): Secret["type"] | undefined => {
    if (config.sdsConfig !== undefined) {
      isDynamic = true;
      if (context.validating) compileConfigSource(config, "sds_config", config.sdsConfig, context);
    }
    const type = context.secret?.(config)?.type;
    if (type?.case === kind) return type;
    isReady = false;
    if (type !== undefined) {
      context.report(config, "name", {
        code: "OR3043",
        text: `${field}: secret '${config.name}' holds ${type.case === undefined ? "nothing" : "something else"}`,
      });
    } else if (config.sdsConfig === undefined) {
      context.report(config, "name", {
        code: "OR3042",
        text: `Unknown static secret: ${config.name}`,
        hint: "add it to static_resources.secrets, or give sds_config",
      });
    }
    return undefined;
  };
  for (const config of message?.tlsCertificateSdsSecretConfigs ?? []) {
    const found = find(config, "tls_certificate_sds_secret_configs", "tlsCertificate");
    if (found?.case === "tlsCertificate") certificates.push(found.value);
  }
  const findValidation = (config: SdsSecretConfig): CertificateValidationContext | undefined => {
    const found = find(config, "validation_context_sds_secret_config", "validationContext");
    return found?.case === "validationContext" ? found.value : undefined;
  };
  const type = message?.validationContextType;
  let validation: CertificateValidationContext | undefined;
  if (type?.case === "validationContext") validation = type.value;
  else if (type?.case === "validationContextSdsSecretConfig") validation = findValidation(type.value);
  else if (type?.case === "combinedValidationContext") {
    const { defaultValidationContext, validationContextSdsSecretConfig } = type.value;
    const secret = validationContextSdsSecretConfig === undefined ? undefined : findValidation(validationContextSdsSecretConfig);
    validation = secret === undefined ? defaultValidationContext : defaultValidationContext === undefined ? secret : merge(defaultValidationContext, secret);
  }
  return { certificates, validation, isReady, isDynamic };
}

/** As protobuf merges: what the second has set wins, lists are put together. */
function merge(first: CertificateValidationContext, second: CertificateValidationContext): CertificateValidationContext {
  const merged: Record<string, unknown> = { ...first };
  for (const [name, value] of Object.entries(second)) {
    if (Array.isArray(value)) merged[name] = [...((merged[name] as unknown[] | undefined) ?? []), ...value];
    else if (value !== undefined && value !== false && value !== 0 && value !== "") merged[name] = value;
  }
  return merged as unknown as CertificateValidationContext;
}

/** For fingerprints: a context that names a secret has changed when the secret has. */
export function withSecrets(secrets: ReadonlyMap<string, Secret>): (value: object) => object {
  return (value) => {
    const config = value as SdsSecretConfig;
    return config.$typeName === secretConfigType ? { ...config, secret: secrets.get(secretKey(config)) } : value;
  };
}
