import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { chmodSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import fc from "fast-check";
import { parse } from "yaml";
import { keyToPem, makeAuthority, makeCertificate, newKey } from "./certificate.ts";
import * as der from "./der.ts";
import { type FolderRequest, type FolderResult, maintainFolder } from "./folder.ts";
import { addressBytes, parseName, type SubjectName } from "./names.ts";

const scratch = mkdtempSync(join(tmpdir(), "outrider-pki-"));
after(() => rmSync(scratch, { recursive: true, force: true }));
const DAY = 86_400_000;
const now = Date.UTC(2030, 0, 1);

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString("hex");

test("DER as X.690 writes it", () => {
  assert.equal(hex(der.objectIdentifier("1.2.840.113549.1.1.11")), "06092a864886f70d01010b");
  assert.equal(hex(der.integer(Uint8Array.of(0, 0, 0x80))), "02020080");
  assert.equal(hex(der.integer(new Uint8Array(0))), "020100");
  assert.equal(hex(der.namedBits([5, 6])), "03020106");
  assert.equal(hex(der.namedBits([0])), "03020780");
  assert.equal(hex(der.namedBits([])), "030100");
  assert.equal(hex(der.time(new Date("2049-12-31T23:59:59.9Z"))), `170d${hex(Buffer.from("491231235959Z"))}`);
  assert.equal(hex(der.time(new Date("2050-01-01T00:00:00Z"))), `180f${hex(Buffer.from("20500101000000Z"))}`);
  assert.equal(hex(der.set(der.utf8String("b"), der.utf8String("a"))), "31060c01610c0162");
});

test("an element of any size is read as it was written", () => {
  fc.assert(
    fc.property(fc.integer({ min: 0, max: 255 }), fc.integer({ min: 0, max: 70_000 }), (tag, size) => {
      const contents = Buffer.alloc(size, 7);
      const written = der.tagged(tag, contents);
      const read = der.readElement(Buffer.concat([Buffer.from("xx"), written, Buffer.from("yy")]), 2);
      assert.equal(read.tag, tag);
      assert.equal(read.end, written.length + 2);
      assert.ok(contents.equals(read.contents));
    }),
    { numRuns: 200 },
  );
});

test("names are told apart by their form", () => {
  const kind = (text: string): string | undefined => parseName(text)?.kind;
  for (const text of ["localhost", "a.example.com", "*.example.com", "_sip.example.com", "xn--bcher-kva.example"]) assert.equal(kind(text), "DNS", text);
  for (const text of ["127.0.0.1", "::1", "2001:db8::7:1"]) assert.equal(kind(text), "IP", text);
  for (const text of ["spiffe://trust/ns/a/sa/b", "https://example.com/x"]) assert.equal(kind(text), "URI", text);
  assert.equal(kind("a@example.com"), "email");
  for (const text of ["", " ", "a..b", "a b", "-a", "*", "*.*.a", "1.2.3", "fe80::1%eth0", "a@", "@b", "spiffe://", "bücher.example", "a\nb", "x".repeat(64)])
    assert.equal(kind(text), undefined, text);
});

test("an address's octets", () => {
  assert.equal(hex(addressBytes("10.0.255.1")), "0a00ff01");
  assert.equal(hex(addressBytes("::")), "00".repeat(16));
  assert.equal(hex(addressBytes("2001:db8::7:1")), "20010db8000000000000000000070001");
  assert.equal(hex(addressBytes("::ffff:1.2.3.4")), "00000000000000000000ffff01020304");
  assert.equal(hex(addressBytes("1:2:3:4:5:6:7:8")), "00010002000300040005000600070008");
});

/** Names that Node prints as they are. */
const anyName: fc.Arbitrary<SubjectName> = fc.oneof(
  fc.domain().map((value): SubjectName => ({ kind: "DNS", value })),
  fc.ipV4().map((value): SubjectName => ({ kind: "IP", value })),
  fc.nat().map((n): SubjectName => ({ kind: "URI", value: `spiffe://trust/n/${n}` })),
);

test("OpenSSL reads the names, times and uses that were asked for, and checks the signature", () => {
  const key = newKey("ec");
  const authority = { key, certificate: makeAuthority("A", key, { from: new Date(now), until: new Date(now + 9 * DAY) }) };
  assert.ok(authority.certificate.ca && authority.certificate.verify(authority.certificate.publicKey));
  fc.assert(
    fc.property(fc.array(anyName, { minLength: 1, maxLength: 20 }), fc.integer({ min: 0, max: 40 * 365 }), (names, days) => {
      const until = new Date(now + days * DAY);
      const leaf = makeCertificate(authority, { commonName: "leaf", names, usages: ["server", "client"], key, from: new Date(now), until });
      assert.equal(leaf.subjectAltName, names.map(({ kind, value }) => `${kind === "IP" ? "IP Address" : kind}:${value}`).join(", "));
      assert.equal(leaf.validToDate.getTime(), until.getTime());
      assert.ok(!leaf.ca && leaf.verify(authority.certificate.publicKey) && leaf.checkIssued(authority.certificate) && leaf.checkPrivateKey(key));
      assert.deepEqual(leaf.keyUsage, ["1.3.6.1.5.5.7.3.1", "1.3.6.1.5.5.7.3.2"]);
    }),
    { numRuns: 60 },
  );
});

const hasOpenssl = spawnSync("openssl", ["version"]).status === 0;

for (const keyKind of ["ec", "rsa"] as const)
  test(`openssl verify takes ${keyKind} certificates in its strict mode, each for its own purpose`, {
    skip: !hasOpenssl && "openssl is not installed here",
  }, () => {
    const folder = join(scratch, `verify-${keyKind}`);
    keep({ folder, keyKind, now: Date.now() });
    const verify = (purpose: string, name: string): number | null =>
      spawnSync("openssl", ["verify", "-x509_strict", "-CAfile", join(folder, "ca.crt"), "-purpose", purpose, join(folder, `${name}.crt`)]).status;
    assert.equal(verify("sslserver", "web"), 0);
    assert.equal(verify("sslclient", "app"), 0);
    assert.notEqual(verify("sslclient", "web"), 0);
    assert.notEqual(verify("sslserver", "app"), 0);
  });

function keep(more: Partial<FolderRequest> & { readonly folder: string }): FolderResult {
  const dns = (value: string): SubjectName => ({ kind: "DNS", value });
  return maintainFolder({
    certificates: [
      { name: "web", names: [dns("localhost")], usages: ["server"] },
      { name: "app", names: [dns("app")], usages: ["client"] },
    ],
    keyKind: "ec",
    days: 300,
    authorityDays: 1000,
    renewBeforeDays: 30,
    renewAll: false,
    newAuthority: false,
    sds: false,
    now,
    ...more,
  });
}
const done = ({ entries }: FolderResult): string => entries.map((entry) => `${entry.name} ${entry.done}`).join(", ");
const contents = (folder: string): string[] => readdirSync(folder).map((name) => `${name} ${readFileSync(join(folder, name), "latin1")}`);
const mode = (folder: string, name: string): string => (statSync(join(folder, name)).mode & 0o777).toString(8);

test("a second run changes nothing; keys are their owner's alone", () => {
  const folder = join(scratch, "twice");
  const before = process.umask(0o077);
  try {
    assert.equal(done(keep({ folder, sds: true })), "ca made, web made, app made");
  } finally {
    process.umask(before);
  }
  assert.deepEqual(
    readdirSync(folder).map((name) => `${name} ${mode(folder, name)}`),
    [
      ...["app.crt 644", "app.key 600", "app.sds.yaml 600", "ca.crt 644", "ca.key 600", "ca.sds.yaml 644"],
      ...["web.crt 644", "web.key 600", "web.sds.yaml 600"],
    ],
  );
  const first = contents(folder);
  assert.equal(done(keep({ folder, sds: true, now: now + DAY })), "ca kept, web kept, app kept");
  assert.deepEqual(contents(folder), first);
});

test("what is about to expire is renewed: certificates with new keys, the authority with its own, so that what it signed stays good", () => {
  const folder = join(scratch, "renew");
  keep({ folder });
  const old = contents(folder);
  assert.equal(done(keep({ folder, now: now + 269 * DAY })), "ca kept, web kept, app kept");
  const later = keep({ folder, now: now + 271 * DAY });
  assert.equal(done(later), "ca kept, web renewed, app renewed");
  assert.match(String(later.entries[1].why), /it had 29 days left/);
  const key = readFileSync(join(folder, "ca.key"), "utf8");
  const last = keep({ folder, now: now + 980 * DAY });
  assert.equal(done(last), "ca renewed, web renewed, app renewed");
  assert.equal(last.entries[1].why, "it had expired");
  assert.equal(readFileSync(join(folder, "ca.key"), "utf8"), key);
  assert.ok(last.entries[1].certificate.checkIssued(last.entries[0].certificate));
  assert.ok(!contents(folder).some((one) => old.includes(one) && one.startsWith("web")));
});

test("a short life does not renew at each run", () => {
  const folder = join(scratch, "short");
  keep({ folder, days: 9 });
  assert.equal(done(keep({ folder, days: 9, now: now + 5 * DAY })), "ca kept, web kept, app kept");
  assert.equal(done(keep({ folder, days: 9, now: now + 7 * DAY })), "ca kept, web renewed, app renewed");
});

test("a certificate outlives its authority never", () => {
  const { entries } = keep({ folder: join(scratch, "outlive"), days: 400, authorityDays: 100 });
  assert.equal(entries[1].certificate.validToDate.getTime(), entries[0].certificate.validToDate.getTime());
});

test("a new authority is trusted beside the old one until that expires; certificates of the old one stay until the next run", () => {
  const folder = join(scratch, "authority");
  const first = keep({ folder, sds: true });
  const second = keep({ folder, sds: true, newAuthority: true, now: now + DAY });
  assert.equal(done(second), "ca renewed, web kept, app kept");
  const trusted = (): string => readFileSync(join(folder, "ca.crt"), "utf8");
  assert.equal(trusted(), `${second.entries[0].certificate}${first.entries[0].certificate}`);
  const secret = parse(readFileSync(join(folder, "ca.sds.yaml"), "utf8")).resources[0];
  assert.equal(secret.validation_context.trusted_ca.inline_string, trusted());
  assert.equal(done(keep({ folder, now: now + 2 * DAY })), "ca kept, web renewed, app renewed");
  assert.equal(done(keep({ folder, now: now + 2 * DAY })), "ca kept, web kept, app kept");
  const third = keep({ folder, newAuthority: true, now: now + 1001 * DAY });
  assert.equal(trusted(), String(third.entries[0].certificate));
});

test("what does not fit is made again, and said why", () => {
  const folder = join(scratch, "unfit");
  keep({ folder });
  const whyWeb = (more: Partial<FolderRequest> = {}): string | undefined => keep({ folder, ...more }).entries[1].why;
  writeFileSync(join(folder, "web.key"), keyToPem(newKey("ec")));
  assert.equal(whyWeb(), "certificate and key do not belong together");
  rmSync(join(folder, "web.key"));
  assert.match(String(whyWeb()), /web\.key is missing/);
  writeFileSync(join(folder, "web.crt"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n");
  assert.match(String(whyWeb()), /web\.crt is missing/);
  assert.equal(whyWeb({ renewAll: true }), "asked for");
  const names: SubjectName[] = [{ kind: "IP", value: "::1" }];
  assert.equal(whyWeb({ certificates: [{ name: "web", names, usages: ["server"] }] }), "other names were asked for");
  assert.equal(whyWeb({ certificates: [{ name: "web", names, usages: ["server", "client"] }] }), "other names were asked for");
  rmSync(join(folder, "ca.key"));
  const { entries } = keep({ folder });
  assert.match(String(entries[0].why), /ca\.key is missing/);
  assert.equal(entries[1].why, "another authority signed it");
});

test("a key that others may read is closed to them", () => {
  const folder = join(scratch, "open");
  keep({ folder });
  chmodSync(join(folder, "web.key"), 0o644);
  assert.deepEqual(keep({ folder }).tightened, [join(folder, "web.key")]);
  assert.equal(mode(folder, "web.key"), "600");
});
