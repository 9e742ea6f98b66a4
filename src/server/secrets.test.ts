/** Certificates that come from files and change while the proxy runs. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, renameSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { connect, type TLSSocket } from "node:tls";
import { type Proxy as RunningProxy, type StartError, start } from "../api.ts";
import { ca, other, rogue, server, type TestCertificate } from "../net/tls/testing.ts";

const scratch = mkdtempSync(join(tmpdir(), "outrider-sds-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

const secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret";

function replace(path: string, text: string): void {
  writeFileSync(`${path}.new`, text);
  renameSync(`${path}.new`, path);
}

function respond(version: string, ...resources: object[]): string {
  return JSON.stringify({ version_info: version, resources: resources.map((resource) => ({ "@type": secretType, ...resource })) });
}
const inline = ({ cert, key }: TestCertificate, name = "cert"): object => ({
  name,
  tls_certificate: { certificate_chain: { inline_string: cert }, private_key: { inline_string: key } },
});

async function startProxy(common: object, more: object = {}, secrets: object[] = []): Promise<RunningProxy> {
  const tls = { "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext", common_tls_context: common, ...more };
  const manager = {
    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
    stat_prefix: "main",
    route_config: {
      virtual_hosts: [{ name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, direct_response: { status: 200, body: { inline_string: "ok" } } }] }],
    },
    http_filters: [{ name: "router", typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }],
  };
  return start({
    config: {
      node: { id: "n", cluster: "c" },
      admin: { address: { socket_address: { address: "127.0.0.1", port_value: 0 } } },
      static_resources: {
        secrets,
        listeners: [
          {
            name: "main",
            address: { socket_address: { address: "127.0.0.1", port_value: 0 } },
            filter_chains: [{ filters: [{ name: "http", typed_config: manager }], transport_socket: { name: "tls", typed_config: tls } }],
          },
        ],
      },
    },
  });
}

const sds = (path: string, more: object = {}): object => ({ name: "cert", sds_config: { resource_api_version: "V3", path_config_source: { path, ...more } } });

async function dial(proxy: RunningProxy, more: object = {}): Promise<TLSSocket> {
  const [host, port] = (proxy.address("main") ?? "").split(":");
  const socket = connect({ host, port: Number(port), servername: "localhost", rejectUnauthorized: false, ...more });
  await once(socket, "secureConnect");
  return socket;
}
/** The common name that new connections are shown; undefined: no handshake. */
async function shown(proxy: RunningProxy): Promise<string | undefined> {
  try {
    const socket = await dial(proxy);
    const { subject } = socket.getPeerCertificate();
    socket.destroy();
    return String(subject.CN);
  } catch {
    return undefined;
  }
}
async function until(is: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await is())) await new Promise((resolve) => setTimeout(resolve, 20));
}
async function ask(socket: TLSSocket): Promise<string> {
  socket.write("GET / HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n");
  let text = "";
  for await (const bytes of socket) text += String(bytes);
  return text;
}

const nameOf = { server: "server.test", other: "" };

test("a replaced certificate is shown to new connections, the old ones go on, and one that cannot be used changes nothing", async () => {
  const path = join(scratch, "cert.json");
  replace(path, respond("1", inline(server)));
  const proxy = await startProxy({ tls_certificate_sds_secret_configs: [sds(path)] });
  const stat = (name: string): number => Number(proxy.stats().get(name) ?? 0);
  assert.equal(await shown(proxy), nameOf.server);
  const kept = await dial(proxy);
  replace(path, respond("2", inline(other)));
  await until(async () => (await shown(proxy)) !== nameOf.server);
  assert.match(await ask(kept), /200 OK[\s\S]*ok$/);
  const second = await shown(proxy);
  assert.deepEqual([stat("sds.cert.update_success"), stat("sds.cert.update_rejected")], [2, 0]);

  replace(path, respond("3", inline({ cert: server.cert, key: rogue.key })));
  await until(() => stat("sds.cert.update_rejected") === 1);
  assert.equal(await shown(proxy), second);
  assert.equal(stat("sds.cert.key_rotation_failed"), 1);
  const dump = (await (await fetch(`http://${proxy.adminAddress}/config_dump`)).json()) as {
    configs: { "@type": string; dynamic_active_secrets?: { name: string; version_info: string }[] }[];
  };
  const found = dump.configs.find((config) => config["@type"].endsWith("SecretsConfigDump"))?.dynamic_active_secrets;
  assert.deepEqual(
    found?.map(({ name, version_info }) => [name, version_info]),
    [["cert", "2"]],
  );
  assert.ok(!JSON.stringify(dump).includes("PRIVATE KEY"));
  await proxy.stop();
});

test("files under an unchanged secret, swapped by a link", async () => {
  for (const [folder, { cert, key }] of [
    ["v1", server],
    ["v2", other],
  ] as const) {
    mkdirSync(join(scratch, "certs", folder), { recursive: true });
    writeFileSync(join(scratch, "certs", folder, "tls.crt"), cert);
    writeFileSync(join(scratch, "certs", folder, "tls.key"), key);
  }
  const link = join(scratch, "certs/current");
  symlinkSync("v1", link);
  const path = join(scratch, "linked.json");
  const files = { certificate_chain: { filename: join(link, "tls.crt") }, private_key: { filename: join(link, "tls.key") } };
  replace(path, respond("1", { name: "cert", tls_certificate: { ...files, watched_directory: { path: join(scratch, "certs") } } }));
  const proxy = await startProxy({ tls_certificate_sds_secret_configs: [sds(path)] });
  assert.equal(await shown(proxy), nameOf.server);
  symlinkSync("v2", `${link}.new`);
  renameSync(`${link}.new`, link);
  await until(async () => (await shown(proxy)) !== nameOf.server);
  await proxy.stop();
});

test("a secret that has not come yet refuses handshakes until it does", async () => {
  const path = join(scratch, "late.json");
  replace(path, respond("1", inline(server, "another")));
  const proxy = await startProxy({ tls_certificate_sds_secret_configs: [sds(path)] });
  assert.equal(await shown(proxy), undefined);
  const refused = (): number =>
    [...proxy.stats()]
      .filter(([name]) => name.endsWith(".server_ssl_socket_factory.downstream_context_secrets_not_ready"))
      .reduce((sum, [, value]) => sum + Number(value), 0);
  await until(() => refused() > 0);
  replace(path, respond("2", inline(server)));
  await until(async () => (await shown(proxy)) === nameOf.server);
  await proxy.stop();
});

test("static secrets by name, combined with what the context says itself; an unknown one is refused", async () => {
  const secrets = [inline(server, "mine"), { name: "roots", validation_context: { trusted_ca: { inline_string: ca } } }];
  const combined = { default_validation_context: {}, validation_context_sds_secret_config: { name: "roots" } };
  const proxy = await startProxy(
    { tls_certificate_sds_secret_configs: [{ name: "mine" }], combined_validation_context: combined },
    { require_client_certificate: true },
    secrets,
  );
  const socket = await dial(proxy, { cert: other.cert, key: other.key }).catch(() => undefined);
  assert.ok(socket !== undefined);
  assert.match(await ask(socket), /200 OK/);
  await proxy.stop();
  await assert.rejects(startProxy({ tls_certificate_sds_secret_configs: [{ name: "nobody's" }] }), (error: StartError) => {
    assert.match(error.findings[0].text, /Unknown static secret: nobody's/);
    return true;
  });
});
