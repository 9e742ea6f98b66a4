/** Why a client's TLS handshake failed, in the words and numbers of Envoy's TLS library (BoringSSL), which logs are searched for. */

/** Reasons of its library SSL (ssl.h, SSL_R_*); alerts of the peer are 1000 and the alert's number. */
const reasons: Readonly<Record<string, number>> = {
  CERTIFICATE_VERIFY_FAILED: 125,
  HTTP_REQUEST: 156,
  NO_SHARED_CIPHER: 184,
  PEER_DID_NOT_RETURN_A_CERTIFICATE: 199,
  UNSUPPORTED_PROTOCOL: 240,
  WRONG_VERSION_NUMBER: 247,
  NO_COMMON_SIGNATURE_ALGORITHMS: 253,
  SSLV3_ALERT_HANDSHAKE_FAILURE: 1040,
  SSLV3_ALERT_BAD_CERTIFICATE: 1042,
  SSLV3_ALERT_UNSUPPORTED_CERTIFICATE: 1043,
  SSLV3_ALERT_CERTIFICATE_REVOKED: 1044,
  SSLV3_ALERT_CERTIFICATE_EXPIRED: 1045,
  SSLV3_ALERT_CERTIFICATE_UNKNOWN: 1046,
  SSLV3_ALERT_ILLEGAL_PARAMETER: 1047,
  TLSV1_ALERT_UNKNOWN_CA: 1048,
  TLSV1_ALERT_ACCESS_DENIED: 1049,
  TLSV1_ALERT_DECODE_ERROR: 1050,
  TLSV1_ALERT_DECRYPT_ERROR: 1051,
  TLSV1_ALERT_PROTOCOL_VERSION: 1070,
  TLSV1_ALERT_INSUFFICIENT_SECURITY: 1071,
  TLSV1_ALERT_INTERNAL_ERROR: 1080,
  TLSV1_UNRECOGNIZED_NAME: 1112,
  TLSV1_ALERT_NO_APPLICATION_PROTOCOL: 1120,
};
/** Its library number, shifted as its error codes have it. */
const sslLibrary = 16 << 24;

/** "" where the client went away without an error of TLS. */
export function tlsFailure(error: Error | undefined): string {
  const { reason, code = "" } = (error ?? {}) as { readonly reason?: unknown; readonly code?: string };
  if (error === undefined || (typeof reason !== "string" && !code.startsWith("ERR_SSL_"))) return "";
  const text = (typeof reason === "string" ? reason : code.slice("ERR_SSL_".length))
    .toUpperCase()
    .replaceAll(" ", "_")
    .replace("SSL/TLS_ALERT_", "SSLV3_ALERT_");
  const number = reasons[text];
  return `TLS_error:|${number === undefined ? "" : `${sslLibrary + number}:`}SSL routines:OPENSSL_internal:${text}:TLS_error_end`;
}
