/**
 * TLS for listeners and clusters: DownstreamTlsContext and UpstreamTlsContext, compiled once to contexts that every connection shares.
 * Certificates are read and checked here, so that a bad one is found when the configuration is, in Envoy's words.
 */
import { createHash } from "node:crypto";
import { isIP } from "node:net";
import { type ConnectionOptions, createSecureContext, type SecureContext, type SecureContextOptions, type TLSSocket, type TLSSocketOptions } from "node:tls";
import { durationMs } from "../config/message.ts";
import type { CommonTlsContext, DownstreamTlsContext, UpstreamTlsContext } from "../config/schema/types/envoy.extensions.transport_sockets.tls.v3.d.ts";
import type { CompileContext, DownstreamTransportSocket, Honours, UpstreamTransportSocket } from "../extensions/extension.ts";
import type { StatsScope } from "../stats/stats.ts";
import { dialOptions, setPeerValidated } from "./socket-connection.ts";
import { type CompiledCertificate, compileCertificate } from "./tls/certificates.ts";
import { agreedGroup, type ClientHello, takesEcdsa } from "./tls/client-hello.ts";
import { dnsMatches } from "./tls/names.ts";
import { type CompiledParameters, compileParameters } from "./tls/parameters.ts";
import { peerCertificate } from "./tls/peer-chain.ts";
import { findSecrets, honours as secretHonours } from "./tls/secrets.ts";
import { ticketKeys } from "./tls/session-keys.ts";
import { TlsStats } from "./tls/stats.ts";
import { type CompiledValidation, compileValidation, noValidation } from "./tls/validation.ts";

const at = "envoy.extensions.transport_sockets.tls.v3.";

export const honours: Honours = {
  ...secretHonours,
  [`${at}DownstreamTlsContext`]: [
    "common_tls_context",
    "require_client_certificate",
    "require_sni",
    "disable_stateless_session_resumption",
    "disable_stateful_session_resumption",
    "session_timeout",
    "prefer_client_ciphers",
  ],
  [`${at}UpstreamTlsContext`]: ["common_tls_context", "sni", "auto_host_sni", "auto_sni_san_validation", "max_session_keys"],
  [`${at}CommonTlsContext`]: [
    "tls_params",
    "tls_certificates",
    "tls_certificate_sds_secret_configs",
    "validation_context",
    "validation_context_sds_secret_config",
    "combined_validation_context",
    "alpn_protocols",
  ],
  [`${at}TlsParameters`]: ["tls_minimum_protocol_version", "tls_maximum_protocol_version", "cipher_suites", "ecdh_curves", "signature_algorithms"],
  [`${at}TlsCertificate`]: ["certificate_chain", "private_key", "password", "watched_directory"],
  [`${at}CertificateValidationContext`]: [
    "trusted_ca",
    "watched_directory",
    "system_root_certs",
    "verify_certificate_spki",
    "verify_certificate_hash",
    "match_typed_subject_alt_names",
    "match_subject_alt_names",
    "crl",
    "allow_expired_certificate",
    "trust_chain_verification",
  ],
  [`${at}CertificateValidationContext.SystemRootCerts`]: "*",
  [`${at}SubjectAltNameMatcher`]: ["san_type", "matcher"],
};

interface Common {
  readonly parameters: CompiledParameters;
  readonly certificates: readonly CompiledCertificate[];
  readonly validation: CompiledValidation;
  readonly alpn: readonly string[];
  /** False: secrets have not come yet. */
  readonly isReady: boolean;
  /** Secrets come from a file that may change. */
  readonly isDynamic: boolean;
}

function compileCommon(message: CommonTlsContext | undefined, side: "server" | "client", context: CompileContext): Common | undefined {
  const parameters = compileParameters(message?.tlsParams, side, context);
  const certificates: CompiledCertificate[] = [];
  let complete = true;
  const secrets = findSecrets(message, context);
  for (const certificate of secrets.certificates) {
    const compiled = compileCertificate(certificate, context);
    if (compiled === undefined) complete = false;
    else certificates.push(compiled);
  }
  const validation = secrets.validation === undefined ? noValidation : compileValidation(secrets.validation, context);
  for (const protocol of message?.alpnProtocols ?? []) {
    if (protocol.length === 0 || Buffer.byteLength(protocol) > 255)
      context.report(message as CommonTlsContext, "alpn_protocols", { code: "OR3804", text: "Invalid ALPN protocol string" });
  }
  const { isReady, isDynamic } = secrets;
  return complete ? { parameters, certificates, validation, alpn: message?.alpnProtocols ?? [], isReady, isDynamic } : undefined;
}

/** What Envoy counts of contexts whose secrets come from elsewhere. One thread speaks for all. */
function factoryStats(scope: StatsScope, isDynamic: boolean, context: CompileContext): { readonly notReady: (side: "downstream" | "upstream") => void } {
  const updates = scope.counter("ssl_context_update_by_sds");
  if (isDynamic && context.workerIndex === 0) updates.inc();
  const counters = { downstream: scope.counter("downstream_context_secrets_not_ready"), upstream: scope.counter("upstream_context_secrets_not_ready") };
  return { notReady: (side) => counters[side].inc() };
}

// ---- listeners ---------------------------------------------------------------------------------------------------------------------

export function compileDownstreamTls(message: DownstreamTlsContext, context: CompileContext, listenerScope: StatsScope): DownstreamTransportSocket | undefined {
  const common = message.commonTlsContext;
  const compiled = compileCommon(common, "server", context);
  if (compiled === undefined) return undefined;
  const factory = factoryStats(listenerScope.scope("server_ssl_socket_factory."), compiled.isDynamic, context);
  if (!compiled.isReady) return notReadyDownstream(() => factory.notReady("downstream"));
  if (compiled.certificates.length === 0) {
    context.report(common ?? message, common === undefined ? "common_tls_context" : "tls_certificates", {
      code: "OR3805",
      text: "No TLS certificates found for server context",
    });
    return undefined;
  }
  const { certificates, parameters, validation, alpn } = compiled;
  const id = contextId(certificates, message);
  const base: SecureContextOptions = {
    ...parameters.options,
    ...validation.options,
    sessionIdContext: id.toString("hex").slice(0, 32),
    ticketKeys: ticketKeys(id),
    honorCipherOrder: !message.preferClientCiphers,
  };
  if (message.sessionTimeout !== undefined) base.sessionTimeout = Math.max(1, Math.round(durationMs(message.sessionTimeout, 0) / 1000));
  if (message.sessionTicketKeysType.case === "disableStatelessSessionResumption" && message.sessionTicketKeysType.value) base.secureOptions = sslOpNoTicket;
  let served: ServedCertificate[];
  try {
    served = certificates.map((certificate) => ({ certificate, context: createSecureContext({ ...base, cert: certificate.chain, key: certificate.key }) }));
  } catch (error) {
    context.report(message, "common_tls_context", { code: "OR5104", text: `Failed to set up TLS: ${reason(error)}` });
    return undefined;
  }
  return new DownstreamTls(
    served,
    validation,
    parameters.curves,
    alpn,
    message.requireClientCertificate === true,
    message.requireSni === true,
    new TlsStats(listenerScope),
  );
}

/** Until the secrets come no handshake succeeds. */
function notReadyDownstream(count: () => void): DownstreamTransportSocket {
  const tls: TLSSocketOptions = { isServer: true, secureContext: createSecureContext({}) };
  return {
    tls,
    optionsFor() {
      count();
      return tls;
    },
  };
}

/** SSL_OP_NO_TICKET */
const sslOpNoTicket = 1 << 14;

/** Sessions of one configuration must not be resumed by another: what was verified then may not hold there. */
function contextId(certificates: readonly CompiledCertificate[], message: object): Buffer {
  const hash = createHash("sha256");
  for (const certificate of certificates) hash.update(certificate.leaf.raw);
  hash.update(JSON.stringify(message, (_key, value: unknown) => (typeof value === "bigint" ? String(value) : value)));
  return hash.digest();
}

interface ServedCertificate {
  readonly certificate: CompiledCertificate;
  readonly context: SecureContext;
}

/** As Envoy: the certificates with the wanted name (all of them without one), of these one of a kind the client can use; the first of all where no name matches. */
function chooseCertificate(served: readonly ServedCertificate[], hello: ClientHello | undefined): SecureContext {
  const first = served[0];
  if (served.length === 1 || hello === undefined) return first.context;
  const { serverName } = hello;
  let found = served;
  if (serverName !== "") {
    found = served.filter(({ certificate }) => certificate.names.includes(serverName));
    if (found.length === 0) found = served.filter(({ certificate }) => certificate.names.some((name) => dnsMatches(serverName, name)));
    if (found.length === 0) return first.context;
  }
  const ecdsa = takesEcdsa(hello);
  return (found.find(({ certificate }) => ecdsa && certificate.keyType === "ec") ?? found.find(({ certificate }) => certificate.keyType !== "ec") ?? found[0])
    .context;
}

class DownstreamTls implements DownstreamTransportSocket {
  readonly tls: TLSSocketOptions;
  readonly #served: readonly ServedCertificate[];
  readonly #validation: CompiledValidation;
  readonly #curves: readonly string[];
  readonly #alpn: readonly string[];
  readonly #requireCertificate: boolean;
  readonly #requireSni: boolean;
  readonly #stats: TlsStats;

  constructor(
    served: readonly ServedCertificate[],
    validation: CompiledValidation,
    curves: readonly string[],
    alpn: readonly string[],
    requireCertificate: boolean,
    requireSni: boolean,
    stats: TlsStats,
  ) {
    this.#validation = validation;
    this.#curves = curves;
    this.#alpn = alpn;
    this.#requireCertificate = requireCertificate;
    this.#requireSni = requireSni;
    this.#stats = stats;
    this.#served = served;
    this.tls = {
      isServer: true,
      secureContext: served[0].context,
      requestCert: validation.active || requireCertificate,
      // A client without a certificate is refused in the handshake; one with a wrong certificate by accept().
      rejectUnauthorized: requireCertificate,
    };
  }

  /** A client that offers none of our protocols is served without one; OpenSSL by itself would refuse it. */
  optionsFor(hello: ClientHello | undefined): TLSSocketOptions {
    const options: TLSSocketOptions = { ...this.tls, secureContext: chooseCertificate(this.#served, hello) };
    if (hello?.alpn.some((protocol) => this.#alpn.includes(protocol))) options.ALPNProtocols = [...this.#alpn];
    return options;
  }

  accept(socket: TLSSocket, hello?: ClientHello): string | undefined {
    if (this.#requireSni && typeof socket.servername !== "string") {
      this.#stats.connectionError();
      return "TLS_error:|SNI is required:TLS_error_end";
    }
    const presented = peerCertificate(socket) !== undefined;
    if (!presented && this.#requireCertificate) {
      this.#stats.failed("fail_verify_no_cert");
      return verifyFailed("peer did not return a certificate");
    }
    const verdict = this.#validation.verify(socket);
    if (verdict.failure !== undefined) {
      this.#stats.failed(verdict.failure);
      return verifyFailed(verdict.reason);
    }
    if (verdict.validated) setPeerValidated(socket);
    this.#stats.completed(socket, presented, this.#group(socket, hello));
    return undefined;
  }

  onError(error: Error | undefined): void {
    const code = (error as NodeJS.ErrnoException | undefined)?.code ?? "";
    if (code === "ERR_SSL_PEER_DID_NOT_RETURN_A_CERTIFICATE") this.#stats.failed("fail_verify_no_cert");
    else if (code.startsWith("ERR_SSL_")) this.#stats.connectionError();
  }

  /** Node does not tell a server the group; it follows from what both sides want. */
  #group(socket: TLSSocket, hello: ClientHello | undefined): string | undefined {
    if (hello === undefined) return undefined;
    const tls13 = socket.getProtocol() === "TLSv1.3";
    if (!tls13 && (socket.isSessionReused() || socket.getCipher()?.name.startsWith("ECDHE-") !== true)) return undefined;
    return agreedGroup(hello, this.#curves, tls13);
  }
}

// ---- clusters ----------------------------------------------------------------------------------------------------------------------

export function compileUpstreamTls(
  message: UpstreamTlsContext,
  context: CompileContext,
  scope: { readonly clusterScope: StatsScope; readonly autoSanValidation?: boolean },
): UpstreamTransportSocket | undefined {
  const compiled = compileCommon(message.commonTlsContext, "client", context);
  if (compiled === undefined) return undefined;
  const { certificates, parameters, validation, alpn } = compiled;
  const factory = factoryStats(scope.clusterScope.scope("client_ssl_socket_factory."), compiled.isDynamic, context);
  if (!compiled.isReady) {
    // Nobody is trusted before it is known whom to trust.
    return {
      options() {
        factory.notReady("upstream");
        return { secureContext: createSecureContext({ ca: [] }), rejectUnauthorized: true };
      },
      accept: () => verifyFailed("secrets are not ready"),
    };
  }
  if (certificates.length > 1) {
    context.report(message.commonTlsContext as CommonTlsContext, "tls_certificates", {
      code: "OR3806",
      text: "Multiple TLS certificates are not supported for client contexts",
    });
    return undefined;
  }
  if (message.sni.includes("\0")) context.report(message, "sni", { code: "OR3807", text: "SNI names containing NULL-byte are not allowed" });
  if (message.autoSniSanValidation && !validation.hasAuthorities) {
    context.report(message, "auto_sni_san_validation", {
      code: "OR3808",
      text: "'auto_sni_san_validation' was configured without configuring a validation context with a trusted_ca",
    });
  }
  if (scope.autoSanValidation === true && !validation.hasAuthorities) {
    context.report(message, "common_tls_context", { code: "OR3808", text: "'auto_san_validation' was configured without configuring a validation context" });
  }
  let secure: SecureContext;
  try {
    secure = createSecureContext({
      ...parameters.options,
      ...validation.options,
      ...(certificates.length === 0 ? {} : { cert: certificates[0].chain, key: certificates[0].key }),
    });
  } catch (error) {
    context.report(message, "common_tls_context", { code: "OR5104", text: `Failed to set up TLS: ${reason(error)}` });
    return undefined;
  }
  const checksName = message.autoSniSanValidation || scope.autoSanValidation === true;
  return new UpstreamTls(secure, validation, alpn, message.sni, message.autoHostSni, checksName, message.maxSessionKeys ?? 1, new TlsStats(scope.clusterScope));
}

class UpstreamTls implements UpstreamTransportSocket {
  readonly #secureContext: SecureContext;
  readonly #validation: CompiledValidation;
  readonly #alpn: readonly string[];
  readonly #sni: string;
  readonly #hostSni: boolean;
  readonly #checksName: boolean;
  readonly #maxSessions: number;
  readonly #stats: TlsStats;
  /** What the peer's certificate must cover, by the options it was dialled with. */
  readonly #names = new WeakMap<ConnectionOptions, string>();
  /** Sessions to resume, newest last, with the name they were made for. */
  readonly #sessions: { readonly name: string; readonly session: Buffer }[] = [];

  constructor(
    secureContext: SecureContext,
    validation: CompiledValidation,
    alpn: readonly string[],
    sni: string,
    hostSni: boolean,
    checksName: boolean,
    maxSessions: number,
    stats: TlsStats,
  ) {
    this.#secureContext = secureContext;
    this.#validation = validation;
    this.#alpn = alpn;
    this.#sni = sni;
    this.#hostSni = hostSni;
    this.#checksName = checksName;
    this.#maxSessions = maxSessions;
    this.#stats = stats;
  }

  options(host: { readonly hostname: string; readonly sni: string | undefined }): ConnectionOptions {
    const name = host.sni ?? (this.#hostSni && host.hostname !== "" ? host.hostname : this.#sni);
    const options: ConnectionOptions = {
      secureContext: this.#secureContext,
      // The verdict on the peer is accept()'s: names are matched as configured, not as a browser would.
      rejectUnauthorized: false,
      checkServerIdentity: () => undefined,
      // An empty name sends none; an address is no name (RFC 6066 3).
      servername: isIP(name) === 0 ? name : "",
    };
    if (this.#checksName && name !== "") this.#names.set(options, name);
    if (this.#alpn.length > 0) options.ALPNProtocols = [...this.#alpn];
    for (let i = this.#sessions.length - 1; i >= 0; i--) {
      if (this.#sessions[i].name !== name) continue;
      options.session = this.#sessions[i].session;
      // A ticket of TLS 1.3 is for one use (RFC 8446 C.4); a new one comes with the connection.
      this.#sessions.splice(i, 1);
      break;
    }
    return options;
  }

  accept(socket: TLSSocket): string | undefined {
    const name = typeof socket.servername === "string" ? socket.servername : "";
    const options = dialOptions(socket);
    if (peerCertificate(socket) === undefined && !socket.isSessionReused()) {
      this.#stats.failed("fail_verify_error");
      return verifyFailed("the server showed no certificate");
    }
    const verdict = this.#validation.verify(socket, options === undefined ? undefined : this.#names.get(options));
    if (verdict.failure !== undefined) {
      this.#stats.failed(verdict.failure);
      return verifyFailed(verdict.reason);
    }
    if (verdict.validated) setPeerValidated(socket);
    this.#stats.completed(socket, true, groupOf(socket));
    if (this.#maxSessions > 0) {
      const session = socket.getProtocol() === "TLSv1.3" ? undefined : socket.getSession();
      if (session !== undefined) this.#remember(name, session);
      else socket.on("session", (later: Buffer) => this.#remember(name, later));
    }
    return undefined;
  }

  onError(error: Error | undefined): void {
    if ((error as NodeJS.ErrnoException | undefined)?.code?.startsWith("ERR_SSL_") === true) this.#stats.connectionError();
  }

  #remember(name: string, session: Buffer): void {
    this.#sessions.push({ name, session });
    if (this.#sessions.length > this.#maxSessions) this.#sessions.shift();
  }
}

const groupNames: Readonly<Record<string, string>> = { prime256v1: "P-256", secp256r1: "P-256", secp384r1: "P-384", secp521r1: "P-521", x25519: "X25519" };

function groupOf(socket: TLSSocket): string | undefined {
  const name = (socket.getEphemeralKeyInfo() as { readonly name?: string } | null)?.name;
  return name === undefined ? undefined : (groupNames[name] ?? name);
}

/** As %UPSTREAM_TRANSPORT_FAILURE_REASON% shows it: BoringSSL's code and words, spaces as underscores. */
function verifyFailed(why: string): string {
  return `TLS_error:|268435581:SSL routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:${why}:TLS_error_end`.replaceAll(" ", "_");
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
