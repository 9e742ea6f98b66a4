import assert from "node:assert/strict";
import { test } from "node:test";
import { endpointConfigs } from "./endpoint-configs.ts";
import { certs } from "./endpoints/certs.ts";
import { configDump } from "./endpoints/config-dump.ts";
import { fakeHost, fakeServer } from "./fake-server.ts";
import { QueryParams } from "./query.ts";
import type { AdminServer } from "./server.ts";

const limits = { maxConnections: 1, maxPendingRequests: 2, maxRequests: 3, maxRetries: 4 };
// A certificate of localhost, 127.0.0.1, ::1 and spiffe://a/b, valid until 2126; its key is not kept.
const certificate = `-----BEGIN CERTIFICATE-----
MIIBszCCAVmgAwIBAgIUNj5lyS+8qgcfThJtmyozOvJtVyIwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjMxODAwMThaGA8yMTI2MTAzMDE4MDAx
OFowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABCGq
UD1kYHyr0AGUEFF1vDpvn/YPIGfzh41Pr/Z0m8YeA7RSX7YCtjmJ47TXTaCZYTnu
NisUMe0kGdhXT6tlRJGjgZAwgY0wHQYDVR0OBBYEFJ7dPqw+XxNCy8JC74LqCU8G
7qWJMB8GA1UdIwQYMBaAFJ7dPqw+XxNCy8JC74LqCU8G7qWJMA8GA1UdEwEB/wQF
MAMBAf8wOgYDVR0RBDMwMYIJbG9jYWxob3N0hwR/AAABhxAAAAAAAAAAAAAAAAAA
AAABhgxzcGlmZmU6Ly9hL2IwCgYIKoZIzj0EAwIDSAAwRQIhAK53cRnB7/VNkhTU
t8Kwm6zd7gdv7/ZS//It6AuzyY7oAiBeoU3G1rneTiwZRwx75Ryk8tfW7+EccNYV
0IQxyjzsjQ==
-----END CERTIFICATE-----
`;

const yaml = `
static_resources:
  secrets:
  - name: keys
    session_ticket_keys: {keys: [{inline_string: "0123456789"}]}
  - name: pair
    tls_certificate: {certificate_chain: {filename: /chain.pem}, private_key: {filename: /key.pem}}
  listeners:
  - name: listener_0
    address: {socket_address: {address: 127.0.0.1, port_value: 10000}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: ingress_http
          route_config: {name: local_route, virtual_hosts: [{name: v, domains: ["*"], routes: [{match: {prefix: /}, route: {cluster: aa}}]}]}
      transport_socket:
        name: envoy.transport_sockets.tls
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext
          common_tls_context:
            tls_certificates: [{certificate_chain: {filename: /chain.pem}, private_key: {inline_string: top secret}}]
            validation_context: {trusted_ca: {inline_string: ${JSON.stringify(certificate)}}}
  clusters:
  - {name: bb, connect_timeout: 2s}
  - name: aa
    connect_timeout: 1s
    transport_socket:
      name: envoy.transport_sockets.tls
      typed_config:
        "@type": type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext
        common_tls_context: {tls_certificate_sds_secret_configs: [{name: pair}]}
`;

const server = fakeServer(yaml, {
  clusters: () => [
    {
      name: "aa",
      observabilityName: "aa",
      addedViaApi: false,
      circuitBreakers: { default: limits, high: limits },
      hosts: [fakeHost({ hostname: "h" }), fakeHost({ priority: 1, healthFlags: ["failed_outlier_check"] })],
    },
  ],
});

async function dump(query: string, of: AdminServer = server): Promise<{ status: number; type: string | undefined; body: string }> {
  const response = await configDump.handle({ server: of, method: "GET", path: "/config_dump", params: QueryParams.parse(query) });
  let body = "";
  if (typeof response.body === "string") body = response.body;
  else for await (const piece of response.body as Iterable<string>) body += piece;
  return { status: response.status, type: response.contentType, body };
}

type Config = { "@type": string } & Record<string, unknown>;
async function configs(query: string): Promise<Config[]> {
  const { status, type, body } = await dump(query);
  assert.deepEqual([status, type], [200, "application/json"], body);
  return (JSON.parse(body) as { configs?: Config[] }).configs ?? [];
}
const short = (config: Config) => config["@type"].replace("type.googleapis.com/envoy.admin.v3.", "");

test("sections in Envoy's order", async () => {
  assert.deepEqual((await configs("")).map(short), [
    "BootstrapConfigDump",
    "ClustersConfigDump",
    "ListenersConfigDump",
    "ScopedRoutesConfigDump",
    "RoutesConfigDump",
    "SecretsConfigDump",
  ]);
});

test("resources with type and time, clusters by name", async () => {
  const [bootstrap, clusters, listeners, , routes, secrets] = (await configs("")) as unknown as Record<string, never>[];
  assert.equal(bootstrap["last_updated"], "2026-01-02T03:04:05.678Z");
  const staticClusters = clusters["static_clusters"] as { cluster: Record<string, unknown>; last_updated: string }[];
  assert.deepEqual(
    staticClusters.map(({ cluster, last_updated }) => [cluster["@type"], cluster["name"], cluster["connect_timeout"], last_updated]),
    [
      ["type.googleapis.com/envoy.config.cluster.v3.Cluster", "aa", "1s", "2026-01-02T03:04:05.678Z"],
      ["type.googleapis.com/envoy.config.cluster.v3.Cluster", "bb", "2s", "2026-01-02T03:04:05.678Z"],
    ],
  );
  assert.match(
    JSON.stringify(listeners),
    /"static_listeners":\[\{"listener":\{"@type":"type.googleapis.com\/envoy.config.listener.v3.Listener","name":"listener_0"/,
  );
  assert.match(
    JSON.stringify(routes),
    /"static_route_configs":\[\{"route_config":\{"@type":"type.googleapis.com\/envoy.config.route.v3.RouteConfiguration","name":"local_route"/,
  );
  assert.match(JSON.stringify(secrets), /"static_secrets":\[\{"name":"keys","secret":\{"@type":/);
});

test("the text is JSON.stringify's with one space a level", async () => {
  const { body } = await dump("");
  assert.equal(body, `${JSON.stringify(JSON.parse(body), null, 1)}\n`);
});

test("secrets do not show", async () => {
  const { body } = await dump("");
  assert.doesNotMatch(body, /top secret|0123456789|key\.pem/);
  assert.match(body, /"inline_string": "\[redacted\]"/);
  assert.doesNotMatch((await dump("resource=static_secrets")).body, /0123456789|key\.pem/);
  assert.doesNotMatch((await dump("mask=bootstrap")).body, /top secret|0123456789|key\.pem/);
});

test("resource, mask and name_regex", async () => {
  const found = await configs("resource=static_clusters&mask=cluster.name");
  assert.deepEqual(found, [
    {
      "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.StaticCluster",
      cluster: { "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", name: "aa" },
    },
    {
      "@type": "type.googleapis.com/envoy.admin.v3.ClustersConfigDump.StaticCluster",
      cluster: { "@type": "type.googleapis.com/envoy.config.cluster.v3.Cluster", name: "bb" },
    },
  ]);
  assert.equal((await configs("resource=static_clusters&name_regex=a.")).length, 1);
  assert.deepEqual(await configs("resource=static_clusters&name_regex=a"), [], "the whole name must match");
  assert.deepEqual(await configs("resource=dynamic_active_clusters"), []);
  assert.deepEqual((await configs("mask=bootstrap.static_resources.listeners")).map(short), ["BootstrapConfigDump"]);
  assert.deepEqual((await configs("mask=static_clusters")).map(short), ["ClustersConfigDump"]);
  assert.deepEqual((await configs("name_regex=none")).map(short).slice(0, 2), ["BootstrapConfigDump", "ClustersConfigDump"]);
});

test("what cannot be dumped", async () => {
  for (const [query, status, words] of [
    ["resource=bogus", 404, "bogus not found in config dump\n"],
    ["resource=bootstrap", 400, "bootstrap is not a repeated field. Use ?mask=bootstrap to get only this field\n"],
    ["resource=last_updated", 400, "last_updated is not a repeated field. Use ?mask=last_updated to get only this field\n"],
    ["mask=no.such", 400, "FieldMask no.such could not be successfully applied to any configs.\n"],
    ["resource=static_clusters&mask=no.such", 400, 'FieldMask paths: "no.such"\n could not be successfully used.\n'],
    ["name_regex=%5B", 400, "INVALID_ARGUMENT: Error while parsing name_regex from [: missing ]: [\n"],
  ] as const) {
    const answer = await dump(query);
    assert.deepEqual([answer.status, answer.type, answer.body], [status, "text/plain", words], query);
  }
});

test("endpoints on demand, grouped by priority and locality", async () => {
  const found = await configs("include_eds");
  assert.deepEqual(found.map(short).slice(0, 4), ["BootstrapConfigDump", "ClustersConfigDump", "EndpointsConfigDump", "ListenersConfigDump"]);
  assert.deepEqual((found[2]["static_endpoint_configs"] as object[])[0], {
    endpoint_config: {
      "@type": "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
      cluster_name: "aa",
      endpoints: [
        {
          locality: {},
          lb_endpoints: [
            {
              endpoint: { address: { socket_address: { address: "127.0.0.1", port_value: 8080 } }, health_check_config: {}, hostname: "h" },
              health_status: "HEALTHY",
              metadata: {},
              load_balancing_weight: 1,
            },
          ],
          load_balancing_weight: 0,
        },
        {
          locality: {},
          lb_endpoints: [
            {
              endpoint: { address: { socket_address: { address: "127.0.0.1", port_value: 8080 } }, health_check_config: {} },
              health_status: "UNHEALTHY",
              metadata: {},
              load_balancing_weight: 1,
            },
          ],
          load_balancing_weight: 0,
          priority: 1,
        },
      ],
      policy: { overprovisioning_factor: 140 },
    },
  });
});

test("an endpoint's metadata, and where its health is checked", () => {
  const hosts = [fakeHost({ metadata: { x: { y: 1 } }, healthCheckHostname: "hc.test", healthCheckPort: 81 }), fakeHost({ hostname: "bare" })];
  const [cluster] = fakeServer().clusters();
  const text = JSON.stringify(endpointConfigs(fakeServer("", { clusters: () => [{ ...cluster, hosts }] }), () => true));
  assert.match(text, /"filterMetadata":\{"x":\{"y":1\}\}/);
  assert.match(text, /"portValue":81,"hostname":"hc\.test"/);
  assert.match(text, /"portValue":0,"hostname":""/);
});

test("/certs: one entry a TLS context, files as they were read", async () => {
  const withFiles = fakeServer(yaml, { config: { ...server.config, files: new Map([["/chain.pem", Buffer.from(certificate)]]) } });
  const response = await certs.handle({ server: withFiles, method: "GET", path: "/certs", params: QueryParams.parse("") });
  type Details = {
    path: string;
    subject_alt_names: object[];
    serial_number: string;
    days_until_expiration: string;
    valid_from: string;
    expiration_time: string;
  };
  const { certificates } = JSON.parse(response.body as string) as { certificates: { ca_cert: Details[]; cert_chain: Details[] }[] };
  assert.deepEqual(
    certificates.map(({ ca_cert, cert_chain }) => [ca_cert.map((c) => c.path), cert_chain.map((c) => c.path)]),
    [
      [[], ["/chain.pem"]],
      [["<inline>"], ["/chain.pem"]],
    ],
  );
  const [details] = certificates[0].cert_chain;
  assert.deepEqual(details.subject_alt_names, [{ dns: "localhost" }, { ip_address: "127.0.0.1" }, { ip_address: "::1" }, { uri: "spiffe://a/b" }]);
  assert.match(details.serial_number, /^[0-9a-f]+$/);
  assert.match(details.valid_from, /^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$/);
  assert.match(details.expiration_time, /^2126-/);
  assert.ok(Number(details.days_until_expiration) > 36_000);
});

test("/certs without TLS", async () => {
  const response = await certs.handle({ server: fakeServer(), method: "GET", path: "/certs", params: QueryParams.parse("") });
  assert.deepEqual(JSON.parse(response.body as string), { certificates: [] });
});
