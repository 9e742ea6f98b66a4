/** downstreamSslConnection() and connection():ssl(). */
import type { X509Certificate } from "node:crypto";
import { certificateField, certificateSeconds, rfc2253, subjectAltNames } from "../../../formatter/operators/certificates.ts";
import type { TlsInfo } from "../../../net/connection.ts";
import { cipherSuiteId } from "../../../net/tls/cipher-suites.ts";
import { extensionOids } from "../../../net/tls/extension-oids.ts";
import { type LuaCall, LuaObject } from "../vm.ts";
import { luaClass } from "./define.ts";

export class LuaTls extends LuaObject {
  readonly tls: TlsInfo;
  constructor(tls: TlsInfo) {
    super(tlsClass);
    this.tls = tls;
  }
}

type Read<T> = (self: LuaTls) => T;
const peer: Read<X509Certificate | undefined> = (self) => self.tls.peerCertificate;
const local: Read<X509Certificate | undefined> = (self) => self.tls.localCertificate;

const field =
  (of: Read<X509Certificate | undefined>, name: Parameters<typeof certificateField>[1]) =>
  (self: LuaTls, call: LuaCall): number => {
    const certificate = of(self);
    return call.pushString(certificate === undefined ? "" : certificateField(certificate, name));
  };
const names =
  (of: Read<X509Certificate | undefined>, kind: string) =>
  (self: LuaTls, call: LuaCall): number => {
    const certificate = of(self);
    const found = certificate === undefined ? [] : subjectAltNames(certificate);
    return call.pushStrings(found.filter((name) => name.kind === kind).map((name) => Buffer.from(name.value, "utf8").toString("latin1")));
  };

/** The parts of a subject that have accessors of their own. */
class LuaParsedSubject extends LuaObject {
  readonly commonName: string;
  readonly organizations: readonly string[];
  constructor(subject: string) {
    super(parsedSubjectClass);
    const parts = rfc2253(subject)
      .split(/(?<!\\),/)
      .map((part) => part.trim());
    const valuesOf = (key: string): string[] => parts.filter((part) => part.startsWith(`${key}=`)).map((part) => part.slice(key.length + 1));
    this.commonName = valuesOf("CN")[0] ?? "";
    this.organizations = valuesOf("O");
  }
}
const parsedSubjectClass = luaClass<LuaParsedSubject>("N5Envoy10Extensions7Filters6Common3Lua24ParsedX509NameWrapperE", {
  commonName: (self, call) => call.pushUtf8(self.commonName),
  organizationName: (self, call) => call.pushStrings(self.organizations),
});

const tlsClass = luaClass<LuaTls>("N5Envoy10Extensions7Filters6Common3Lua20SslConnectionWrapperE", {
  peerCertificatePresented: (self, call) => call.pushBoolean(self.tls.peerCertificatePresented),
  peerCertificateValidated: (self, call) => call.pushBoolean(self.tls.peerCertificateValidated),
  uriSanLocalCertificate: names(local, "URI"),
  sha256PeerCertificateDigest: field(peer, "fingerprint256"),
  serialNumberPeerCertificate: field(peer, "serial"),
  issuerPeerCertificate: field(peer, "issuer"),
  subjectPeerCertificate: field(peer, "subject"),
  parsedSubjectPeerCertificate(self, call) {
    const certificate = peer(self);
    return certificate === undefined ? call.pushNil() : call.pushObject(new LuaParsedSubject(certificate.subject ?? ""));
  },
  uriSanPeerCertificate: names(peer, "URI"),
  subjectLocalCertificate: field(local, "subject"),
  dnsSansPeerCertificate: names(peer, "DNS"),
  dnsSansLocalCertificate: names(local, "DNS"),
  oidsPeerCertificate(self, call) {
    const certificate = peer(self);
    return call.pushStrings(certificate === undefined ? [] : extensionOids(certificate.raw));
  },
  validFromPeerCertificate(self, call) {
    const certificate = peer(self);
    return call.pushNumber(certificate === undefined ? 0 : certificateSeconds(certificate, "start"));
  },
  expirationPeerCertificate(self, call) {
    const certificate = peer(self);
    return call.pushNumber(certificate === undefined ? 0 : certificateSeconds(certificate, "end"));
  },
  sessionId: (self, call) => call.pushString(self.tls.sessionId),
  ciphersuiteId: (self, call) => call.pushString(`0x${cipherSuiteId(self.tls.cipher).toString(16).padStart(4, "0")}`),
  ciphersuiteString: (self, call) => call.pushString(self.tls.cipher),
  urlEncodedPemEncodedPeerCertificate: field(peer, "pem"),
  urlEncodedPemEncodedPeerCertificateChain(self, call) {
    const chain = self.tls.peerChain ?? (self.tls.peerCertificate === undefined ? [] : [self.tls.peerCertificate]);
    return call.pushString(chain.map((certificate) => certificateField(certificate, "pem")).join(""));
  },
  tlsVersion: (self, call) => call.pushString(self.tls.version),
});
