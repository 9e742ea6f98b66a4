import assert from "node:assert/strict";
import { once } from "node:events";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { connect, createServer, type TLSSocket } from "node:tls";
import { peerCertificate, sentCertificates } from "./peer-chain.ts";
import { client, leaf, mid } from "./testing.ts";

for (const version of ["TLSv1.2", "TLSv1.3"] as const)
  test(`${version}: both sides see the same certificate however often they look, and after the end`, async () => {
    const server = createServer({ cert: leaf.cert + mid, key: leaf.key, requestCert: true, rejectUnauthorized: false, maxVersion: version });
    server.listen(0, "127.0.0.1");
    await once(server, "listening");
    const accepted = once(server, "secureConnection");
    const dialled = connect({ port: (server.address() as AddressInfo).port, host: "127.0.0.1", rejectUnauthorized: false, cert: client.cert, key: client.key });
    await once(dialled, "secureConnect");
    const [taken] = (await accepted) as [TLSSocket];
    const subjects = (socket: TLSSocket): string[] => sentCertificates(socket).map(({ subject }) => subject);
    for (let look = 0; look < 3; look++) {
      assert.equal(peerCertificate(dialled)?.subject, "CN=leaf.test");
      assert.deepEqual(subjects(dialled), ["CN=leaf.test", "CN=Mid CA"]);
      assert.equal(peerCertificate(taken)?.subject, "CN=client.test");
      assert.deepEqual(subjects(taken), ["CN=client.test"]);
    }
    dialled.destroy();
    taken.destroy();
    await once(taken, "close");
    assert.deepEqual([peerCertificate(dialled)?.subject, peerCertificate(taken)?.subject], ["CN=leaf.test", "CN=client.test"]);
    server.close();
  });
