import assert from "node:assert/strict";
import { once } from "node:events";
import { type AddressInfo, createServer, type Socket } from "node:net";
import { after, test } from "node:test";
import { type ConnectionOptions, type TLSSocket, connect as tlsConnect } from "node:tls";
import type { DownstreamTransportSocket, UpstreamTransportSocket } from "../extensions/extension.ts";
import { message, type TestContext, testContext } from "../testing/compile-context.ts";
import { ipAddress } from "./address.ts";
import { acceptTls, connect, type SocketConnection } from "./socket-connection.ts";
import { TimerWheel } from "./timer-wheel.ts";
import * as certificates from "./tls/testing.ts";
import { ca, client, expired, leaf, mid, other, rogue, rogueExpired, rsa, server } from "./tls/testing.ts";
import { compileDownstreamTls, compileUpstreamTls } from "./tls-context.ts";

const names = "envoy.extensions.transport_sockets.tls.v3";
const timers = new TimerWheel();
const open: { destroy(): unknown }[] = [];
after(() => {
  for (const socket of open) socket.destroy();
});
const pair = ({ cert, key }: certificates.TestCertificate): object => ({ certificate_chain: { inline_string: cert }, private_key: { inline_string: key } });
const trusting = (more: object = {}): object => ({ trusted_ca: { inline_string: ca }, ...more });

function downstream(
  common: object,
  more: object = {},
  context: TestContext = testContext(),
): { socket: DownstreamTransportSocket | undefined; context: TestContext } {
  const config = message(`${names}.DownstreamTlsContext`, { common_tls_context: common, ...more });
  return { socket: compileDownstreamTls(config, context, context.stats.scope("l.")), context };
}

function upstream(
  common: object,
  more: object = {},
  context: TestContext = testContext(),
  autoSanValidation = false,
): { socket: UpstreamTransportSocket | undefined; context: TestContext } {
  const config = message(`${names}.UpstreamTlsContext`, { common_tls_context: common, ...more });
  return { socket: compileUpstreamTls(config, context, { clusterScope: context.stats.scope("c."), autoSanValidation }), context };
}

function stat(context: TestContext, name: string): number {
  return context.stats.counter(name).value;
}

interface Outcome {
  /** "ok", or why the server refused the client. */
  server: string;
  /** "ok", or the code of the client's error. */
  client: string;
  info: SocketConnection["tls"];
  socket: TLSSocket;
}

/** A handshake of Node's client with our listener's side. */
async function shake(transport: DownstreamTransportSocket, options: ConnectionOptions = {}): Promise<Outcome> {
  const listener = createServer({ pauseOnConnect: true }).listen(0, "127.0.0.1");
  await once(listener, "listening");
  const answer = new Promise<{ server: string; info: SocketConnection["tls"] }>((resolve) =>
    listener.once("connection", (accepted: Socket) => {
      open.push(accepted);
      acceptTls(
        accepted,
        (hello) => transport.optionsFor?.(hello) ?? {},
        { timers, side: "downstream", bufferLimitBytes: 0 },
        (connection, socket, hello) => {
          const refused = transport.accept?.(socket, hello);
          if (refused !== undefined) connection.close("no_flush");
          else connection.write("hello");
          resolve({ server: refused ?? "ok", info: connection.tls });
        },
        (error) => {
          transport.onError?.(error);
          resolve({ server: (error as NodeJS.ErrnoException | undefined)?.code ?? "closed", info: undefined });
        },
      );
    }),
  );
  const socket = tlsConnect({
    port: (listener.address() as AddressInfo).port,
    host: "127.0.0.1",
    rejectUnauthorized: false,
    servername: "localhost",
    ...options,
  });
  open.push(socket);
  const client = new Promise<string>((resolve) => {
    socket.once("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? "error"));
    socket.once("data", () => resolve("ok"));
    socket.once("close", () => resolve("closed"));
  });
  const [{ server, info }, said] = [await answer, await client];
  listener.close();
  // What is asked of the socket must be asked before it is gone.
  socket.on("error", () => {});
  return { server, client: said, info, socket };
}

test("configurations that are refused, in Envoy's words", () => {
  const said = (common: object, more: object = {}): string => {
    const { socket, context } = downstream(common, more);
    assert.equal(socket === undefined || context.findings.length > 0, true);
    return context.findings.join("; ");
  };
  assert.match(said({}), /No TLS certificates found for server context/);
  assert.match(
    said({ tls_certificates: [{ certificate_chain: { inline_string: "junk" }, private_key: { inline_string: server.key } }] }),
    /Failed to load certificate chain from <inline>/,
  );
  assert.match(
    said({ tls_certificates: [{ certificate_chain: { inline_string: server.cert }, private_key: { inline_string: "junk" } }] }),
    /Failed to load private key from <inline>/,
  );
  assert.match(said({ tls_certificates: [pair({ cert: server.cert, key: client.key })] }), /KEY_VALUES_MISMATCH/);
  assert.match(
    said({ tls_certificates: [{ certificate_chain: { filename: "/no/such.pem" }, private_key: { inline_string: server.key } }] }),
    /cannot read \/no\/such\.pem/,
  );
  assert.match(said({ tls_certificates: [{ certificate_chain: { inline_string: server.cert } }] }), /Failed to load incomplete private key/);
  assert.match(said({ tls_certificates: [pair(certificates.weak)] }), /only RSA certificates with 2048-bit or larger keys are supported/);
  assert.match(
    said({ tls_certificates: [{ certificate_chain: { inline_string: server.cert }, private_key: { inline_string: certificates.encryptedKey } }] }),
    /Failed to load private key/,
  );
  const good = { tls_certificates: [pair(server)] };
  assert.match(said({ ...good, tls_params: { cipher_suites: ["ECDHE-RSA-AES128-GCM-SHA256", "NO-SUCH"] } }), /rejected when tried individually: NO-SUCH$/);
  assert.match(said({ ...good, tls_params: { ecdh_curves: ["P-256", "P-1"] } }), /Failed to initialize ECDH curves P-256:P-1/);
  assert.match(
    said({ ...good, tls_params: { tls_minimum_protocol_version: "TLSv1_3", tls_maximum_protocol_version: "TLSv1_2" } }),
    /no TLS protocol version is left/,
  );
  assert.match(said({ ...good, validation_context: { trusted_ca: { inline_string: "junk" } } }), /Failed to load trusted CA certificates from <inline>/);
  assert.match(said({ ...good, validation_context: trusting({ verify_certificate_hash: [`${"0".repeat(63)}g`] }) }), /Invalid hex-encoded SHA-256/);
  assert.match(
    said({ ...good, validation_context: { match_typed_subject_alt_names: [{ san_type: "DNS", matcher: { exact: "a" } }] } }),
    /SAN-based verification of peer certificates without trusted CA/,
  );
  assert.match(said({ ...good, validation_context: trusting({ crl: { inline_string: "junk" } }) }), /Failed to load CRL from <inline>/);
  assert.match(
    upstream({ tls_certificates: [pair(server), pair(client)] }).context.findings.join(),
    /Multiple TLS certificates are not supported for client contexts/,
  );
  assert.match(upstream({}, { auto_sni_san_validation: true, sni: "a" }).context.findings.join(), /without configuring a validation context/);
  // What is secret is not said.
  for (const text of [said({ tls_certificates: [pair({ cert: server.cert, key: client.key })] })]) assert.ok(!text.includes("PRIVATE"));
});

test("a handshake: version, cipher, group, names, counters", async () => {
  const { socket, context } = downstream({ tls_certificates: [pair(server)] });
  assert.deepEqual(context.findings, []);
  const seen = await shake(socket as DownstreamTransportSocket, { ca, rejectUnauthorized: true });
  assert.equal(seen.client, "ok");
  assert.equal(seen.info?.version, "TLSv1.3");
  assert.equal(seen.info?.cipher, "TLS_AES_128_GCM_SHA256");
  assert.equal(seen.info?.sni, "localhost");
  assert.equal(seen.info?.peerCertificatePresented, false);
  assert.equal(seen.info?.localCertificate?.subject, "O=Test\nCN=server.test");
  for (const name of ["handshake", "no_certificate", "versions.TLSv1.3", "ciphers.TLS_AES_128_GCM_SHA256", "curves.X25519"])
    assert.equal(stat(context, `l.ssl.${name}`), 1, name);
  const older = await shake(socket as DownstreamTransportSocket, { maxVersion: "TLSv1.2", ecdhCurve: "P-256" });
  assert.equal(older.client, "ok");
  assert.equal(older.info?.version, "TLSv1.2");
  assert.equal(stat(context, "l.ssl.curves.P-256"), 1);
  assert.equal(stat(context, "l.ssl.ciphers.ECDHE-ECDSA-AES128-GCM-SHA256"), 1);
});

test("versions, ciphers and groups as configured", async () => {
  const make = (tls_params: object): DownstreamTransportSocket =>
    downstream({ tls_certificates: [pair(server)], tls_params }).socket as DownstreamTransportSocket;
  const only12 = make({
    tls_maximum_protocol_version: "TLSv1_2",
    cipher_suites: ["[ECDHE-ECDSA-AES256-GCM-SHA384|TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA]"],
    ecdh_curves: ["P-384"],
  });
  const seen = await shake(only12);
  assert.equal(seen.info?.version, "TLSv1.2");
  assert.equal(seen.info?.cipher, "ECDHE-ECDSA-AES256-GCM-SHA384");
  assert.notEqual((await shake(only12, { minVersion: "TLSv1.3" })).client, "ok");
  assert.notEqual((await shake(only12, { ciphers: "ECDHE-ECDSA-AES128-GCM-SHA256", maxVersion: "TLSv1.2" })).client, "ok");
  assert.notEqual((await shake(only12, { ecdhCurve: "P-256" })).client, "ok");
  assert.notEqual((await shake(make({ tls_minimum_protocol_version: "TLSv1_3" }), { maxVersion: "TLSv1.2" })).client, "ok");
  assert.equal(
    (
      await shake(make({ tls_minimum_protocol_version: "TLSv1_0", cipher_suites: ["ECDHE-ECDSA-AES128-SHA"] }), {
        minVersion: "TLSv1",
        maxVersion: "TLSv1",
        ciphers: "DEFAULT@SECLEVEL=0",
      })
    ).client,
    "ok",
  );
});

test("ALPN: ours in our order, and none for a client that offers none of ours", async () => {
  const { socket } = downstream({ tls_certificates: [pair(server)], alpn_protocols: ["h2", "http/1.1"] });
  const transport = socket as DownstreamTransportSocket;
  assert.equal((await shake(transport, { ALPNProtocols: ["http/1.1", "h2"] })).info?.alpn, "h2");
  assert.equal((await shake(transport, { ALPNProtocols: ["http/1.1"] })).info?.alpn, "http/1.1");
  const weird = await shake(transport, { ALPNProtocols: ["weird"] });
  assert.equal(weird.client, "ok");
  assert.equal(weird.info?.alpn, "");
  assert.equal((await shake(transport)).info?.alpn, "");
});

test("certificates are chosen by name, the first one without a match, one of each key type", async () => {
  const { socket, context } = downstream({ tls_certificates: [pair(server), pair(other), pair(rsa)] });
  assert.deepEqual(context.findings, []);
  const served = async (servername: string, options: ConnectionOptions = {}): Promise<string> => {
    const { info } = await shake(socket as DownstreamTransportSocket, { servername, ...options });
    return info?.localCertificate?.subject.split("\n").pop() ?? "";
  };
  assert.equal(await served("other.test"), "CN=other.test");
  assert.equal(await served("OTHER.test"), "CN=other.test");
  assert.equal(await served("x.example.com"), "CN=server.test");
  assert.equal(await served("y.x.example.com"), "CN=server.test");
  assert.equal(await served("unknown.test"), "CN=server.test");
  assert.equal(await served("localhost", { sigalgs: "rsa_pss_rsae_sha256:RSA+SHA256" }), "CN=rsa");
});

test("client certificates: required, optional, of others, expired", async () => {
  const required = downstream({ tls_certificates: [pair(server)], validation_context: trusting() }, { require_client_certificate: true });
  const transport = required.socket as DownstreamTransportSocket;
  const good = await shake(transport, client);
  assert.equal(good.client, "ok");
  assert.equal(good.info?.peerCertificateValidated, true);
  assert.equal(good.info?.peerCertificate?.subject, "O=Test\nCN=client.test");
  assert.equal((await shake(transport)).client, "ERR_SSL_TLSV13_ALERT_CERTIFICATE_REQUIRED");
  assert.equal(stat(required.context, "l.ssl.fail_verify_no_cert"), 1);
  assert.match((await shake(transport, rogue)).server, /CERTIFICATE_VERIFY_FAILED:verify_cert_failed/);
  assert.match((await shake(transport, { ...rogue, maxVersion: "TLSv1.2" })).server, /CERTIFICATE_VERIFY_FAILED/);
  assert.match((await shake(transport, expired)).server, /certificate_has_expired/);
  assert.equal(stat(required.context, "l.ssl.fail_verify_error"), 3);
  assert.equal(stat(required.context, "l.ssl.connection_error"), 0);
  assert.equal(stat(required.context, "l.ssl.handshake"), 1);
  // An intermediate certificate that the client sends along.
  assert.equal((await shake(transport, { cert: leaf.cert + mid, key: leaf.key })).client, "ok");
  assert.notEqual((await shake(transport, leaf)).client, "ok");

  const optional = downstream({ tls_certificates: [pair(server)], validation_context: trusting() }).socket as DownstreamTransportSocket;
  assert.equal((await shake(optional)).info?.peerCertificateValidated, false);
  assert.equal((await shake(optional, client)).info?.peerCertificateValidated, true);
  assert.notEqual((await shake(optional, rogue)).server, "ok");
});

test("expired certificates where they are allowed: still only of a trusted authority", async () => {
  const transport = downstream({ tls_certificates: [pair(server)], validation_context: trusting({ allow_expired_certificate: true }) })
    .socket as DownstreamTransportSocket;
  assert.equal((await shake(transport, expired)).server, "ok");
  assert.equal((await shake(transport, client)).server, "ok");
  assert.notEqual((await shake(transport, rogueExpired)).server, "ok");
  assert.notEqual((await shake(transport, rogue)).server, "ok");
});

test("names and pins of client certificates", async () => {
  const make = (more: object): { transport: DownstreamTransportSocket; context: TestContext } => {
    const { socket, context } = downstream({ tls_certificates: [pair(server)], validation_context: trusting(more) });
    return { transport: socket as DownstreamTransportSocket, context };
  };
  const name = (san_type: string, matcher: object): object => ({ match_typed_subject_alt_names: [{ san_type, matcher }] });
  assert.equal((await shake(make(name("URI", { prefix: "spiffe://test/" })).transport, client)).server, "ok");
  assert.equal((await shake(make(name("DNS", { exact: "x.example.com" })).transport, server)).server, "ok", "an exact name and a wildcard certificate");
  const uri = make(name("URI", { exact: "client.test" }));
  assert.match((await shake(uri.transport, client)).server, /SAN_matcher,_certificate_SANs_are_\[spiffe:\/\/test\/client,_client\.test\]/);
  assert.equal(stat(uri.context, "l.ssl.fail_verify_san"), 1);
  const { X509Certificate, createHash } = await import("node:crypto");
  const x509 = new X509Certificate(client.cert);
  const hash = x509.fingerprint256;
  assert.equal((await shake(make({ verify_certificate_hash: [hash] }).transport, client)).server, "ok");
  assert.equal((await shake(make({ verify_certificate_hash: [hash.replaceAll(":", "").toLowerCase()] }).transport, client)).server, "ok");
  const spki = createHash("sha256")
    .update(x509.publicKey.export({ type: "spki", format: "der" }))
    .digest("base64");
  const pinned = make({ verify_certificate_spki: [spki] });
  assert.equal((await shake(pinned.transport, client)).server, "ok");
  assert.notEqual((await shake(pinned.transport, other)).server, "ok");
  assert.equal(stat(pinned.context, "l.ssl.fail_verify_cert_hash"), 1);
  const untrusted = make({ trust_chain_verification: "ACCEPT_UNTRUSTED" }).transport;
  const taken = await shake(untrusted, rogue);
  assert.equal(taken.server, "ok");
  assert.equal(taken.info?.peerCertificateValidated, false);
});

test("sessions are resumed, also by another context of the same configuration, not by a different one", async () => {
  const config = { tls_certificates: [pair(server)] };
  const first = downstream(config);
  const session = new Promise<Buffer>((resolve) => {
    void shake(first.socket as DownstreamTransportSocket, { maxVersion: "TLSv1.2" }).then(({ socket }) => resolve(socket.getSession() as Buffer));
  });
  const again = async (to: DownstreamTransportSocket | undefined): Promise<boolean> =>
    (await shake(to as DownstreamTransportSocket, { maxVersion: "TLSv1.2", session: await session })).socket.isSessionReused();
  assert.equal(await again(first.socket), true);
  assert.equal(stat(first.context, "l.ssl.session_reused"), 1);
  assert.equal(await again(downstream(config).socket), true);
  assert.equal(await again(downstream({ ...config, validation_context: trusting() }).socket), false);
  assert.equal(await again(downstream(config, { disable_stateless_session_resumption: true }).socket), false);
});

test("what is no TLS, or hangs up, is an error of the connection", async () => {
  const { socket, context } = downstream({ tls_certificates: [pair(server)] }, { require_sni: true });
  const transport = socket as DownstreamTransportSocket;
  const listener = createServer({ pauseOnConnect: true }).listen(0, "127.0.0.1");
  await once(listener, "listening");
  const { connect: dial } = await import("node:net");
  for (const bytes of ["GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01", ""]) {
    const failed = new Promise<Error | undefined>((resolve) =>
      listener.once("connection", (accepted: Socket) =>
        acceptTls(accepted, transport.tls ?? {}, { timers, side: "downstream", bufferLimitBytes: 0 }, () => assert.fail("no handshake"), resolve),
      ),
    );
    const peer = dial((listener.address() as AddressInfo).port, "127.0.0.1");
    peer.on("error", () => {});
    peer.end(bytes);
    transport.onError?.(await failed);
    peer.destroy();
  }
  listener.close();
  assert.equal(stat(context, "l.ssl.connection_error"), 1);
  assert.match((await shake(transport, { servername: "" })).server, /SNI/);
});

/** Our client's side against Node's server. */
async function dialled(
  transport: UpstreamTransportSocket,
  presented: certificates.TestCertificate,
  host = { hostname: "", sni: undefined as string | undefined },
): Promise<{ result: string; connection: SocketConnection; sni: string | false }> {
  const { createServer: createTlsServer } = await import("node:tls");
  const listener = createTlsServer({ ...presented, requestCert: true, rejectUnauthorized: false }).listen(0, "127.0.0.1");
  await once(listener, "listening");
  let sni: string | false = false;
  listener.on("secureConnection", (socket) => {
    sni = socket.servername as string | false;
    open.push(socket);
    socket.on("error", () => {});
    socket.write("hello");
  });
  listener.on("tlsClientError", () => {});
  const connection = connect(ipAddress("127.0.0.1", (listener.address() as AddressInfo).port), {
    timers,
    side: "upstream",
    bufferLimitBytes: 0,
    tls: transport.options(host),
    accept: (socket) => transport.accept?.(socket),
    onTlsError: (error) => transport.onError?.(error),
  });
  const event = await new Promise<string>((resolve) =>
    connection.addCallbacks({ onEvent: resolve, onAboveWriteBufferHighWatermark: () => {}, onBelowWriteBufferLowWatermark: () => {} }),
  );
  if (event === "connected") await new Promise<void>((resolve) => connection.setReadFilter({ onData: () => resolve() }));
  listener.close();
  return { result: event === "connected" ? "ok" : connection.transportFailureReason, connection, sni };
}

test("upstream: verified, by name, or not at all", async () => {
  const close = async (
    promise: ReturnType<typeof dialled>,
  ): Promise<{ result: string; sni: string | false; version: string | undefined; validated: boolean | undefined }> => {
    const { result, connection, sni } = await promise;
    const seen = { result, sni, version: connection.tls?.version, validated: connection.tls?.peerCertificateValidated };
    connection.close("no_flush");
    return seen;
  };
  const blind = upstream({});
  const any = await close(dialled(blind.socket as UpstreamTransportSocket, rogue));
  assert.deepEqual(any, { result: "ok", sni: false, version: "TLSv1.2", validated: false });
  assert.equal(stat(blind.context, "c.ssl.handshake"), 1);
  const strict = upstream(
    { validation_context: trusting({ match_typed_subject_alt_names: [{ san_type: "DNS", matcher: { exact: "api.example.com" } }] }) },
    { sni: "api.example.com" },
  );
  const verified = await close(dialled(strict.socket as UpstreamTransportSocket, server));
  assert.deepEqual(verified, { result: "ok", sni: "api.example.com", version: "TLSv1.2", validated: true });
  assert.match(
    (await close(dialled(strict.socket as UpstreamTransportSocket, other))).result,
    /^TLS_error:\|268435581:SSL_routines:OPENSSL_internal:CERTIFICATE_VERIFY_FAILED:verify_cert_failed:_SAN_matcher,_certificate_SANs_are_\[other\.test\]:TLS_error_end$/,
  );
  assert.match((await close(dialled(strict.socket as UpstreamTransportSocket, rogue))).result, /X509_verify_cert:_certificate_verification_error/);
  assert.equal(stat(strict.context, "c.ssl.fail_verify_san"), 1);
  assert.equal(stat(strict.context, "c.ssl.fail_verify_error"), 1);
  const byRequest = upstream({ validation_context: trusting() }, {}, testContext(), true);
  const following = byRequest.socket as UpstreamTransportSocket;
  assert.equal((await close(dialled(following, server, { hostname: "", sni: "shop.example.com" }))).result, "ok");
  assert.match((await close(dialled(following, server, { hostname: "", sni: "shop.example.org" }))).result, /verify_SAN_list/);
  const address = await close(dialled(following, server, { hostname: "", sni: "127.0.0.1" }));
  assert.deepEqual([address.result, address.sni], ["ok", false]);
  assert.match((await close(dialled(following, server, { hostname: "", sni: "127.0.0.2" }))).result, /verify_SAN_list/);
  const byHost = upstream({ validation_context: trusting() }, { auto_host_sni: true, auto_sni_san_validation: true }).socket as UpstreamTransportSocket;
  assert.deepEqual((await close(dialled(byHost, server, { hostname: "localhost", sni: undefined }))).sni, "localhost");
  assert.match((await close(dialled(byHost, other, { hostname: "localhost", sni: undefined }))).result, /verify_SAN_list/);
});

test("upstream: our certificate is presented, sessions are resumed for the same name", async () => {
  const { socket, context } = upstream({ tls_certificates: [pair(client)], tls_params: { tls_maximum_protocol_version: "TLSv1_3" } }, { sni: "localhost" });
  const transport = socket as UpstreamTransportSocket;
  const { connection } = await dialled(transport, server);
  assert.equal(connection.tls?.version, "TLSv1.3");
  assert.equal(connection.tls?.localCertificate?.subject, "O=Test\nCN=client.test");
  // A ticket of TLS 1.3 may come behind the first data.
  while (transport.options({ hostname: "", sni: undefined })?.session === undefined) await new Promise((resolve) => setImmediate(resolve));
  connection.close("no_flush");
  assert.equal(transport.options({ hostname: "", sni: "other.test" })?.session, undefined);
  assert.equal(transport.options({ hostname: "", sni: undefined })?.session, undefined, "each ticket once");
  assert.equal(stat(context, "c.ssl.versions.TLSv1.3"), 1);
});
