import assert from "node:assert/strict";
import type { X509Certificate } from "node:crypto";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { connect, createServer, type TLSSocket } from "node:tls";
import { peerCertificate, sentCertificates } from "./peer-chain.ts";
import { client, leaf, mid } from "./testing.ts";

for (const version of ["TLSv1.2", "TLSv1.3"] as const)
  test(`${version}: both sides see the same certificate however often they look, and after the end`, { timeout: 10_000 }, async (t) => {
    const server = createServer({ cert: leaf.cert + mid, key: leaf.key, requestCert: true, rejectUnauthorized: false, maxVersion: version });
    t.after(() => server.close());
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const accepted = once(server, "secureConnection");
    const dialled = connect({ port: (server.address() as AddressInfo).port, host: "127.0.0.1", rejectUnauthorized: false, cert: client.cert, key: client.key });
    await once(dialled, "secureConnect");
    const [taken] = (await accepted) as [TLSSocket];
    t.after(() => {
      dialled.destroy();
      taken.destroy();
    });
    const name = (certificate: X509Certificate | undefined): string | undefined => certificate?.subject.split("\n").at(-1);
    const subjects = (socket: TLSSocket): (string | undefined)[] => sentCertificates(socket).map(name);
    for (let look = 0; look < 3; look++) {
      assert.equal(name(peerCertificate(dialled)), "CN=leaf.test");
      assert.deepEqual(subjects(dialled), ["CN=leaf.test", "CN=Mid CA"]);
      assert.equal(name(peerCertificate(taken)), "CN=client.test");
      assert.deepEqual(subjects(taken), ["CN=client.test"]);
    }
    dialled.destroy();
    taken.destroy();
    await once(taken, "close");
    assert.deepEqual([name(peerCertificate(dialled)), name(peerCertificate(taken))], ["CN=leaf.test", "CN=client.test"]);
  });
