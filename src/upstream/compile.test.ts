import assert from "node:assert/strict";
import { test } from "node:test";
import { testContext } from "../testing/compile-context.ts";
import { compileCluster } from "./compile.ts";
import type { CompiledCluster } from "./settings.ts";
import { assignment, at, compiled } from "./testing.ts";

/** What a cluster is refused (or warned) for. */
function findings(json: object): string[] {
  const context = testContext();
  compiled({ name: "service", ...json }, context);
  return context.findings;
}

const options = (message: object): object => ({
  typed_extension_protocol_options: {
    "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
      "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
      explicit_http_config: { http_protocol_options: {} },
      ...message,
    },
  },
});
const policy = (name: string, type: string, config: object = {}): object => ({
  typed_extension_config: { name, typed_config: { "@type": `type.googleapis.com/envoy.extensions.load_balancing_policies.${type}`, ...config } },
});

test("Envoy's defaults", () => {
  const cluster = compiled({ load_assignment: assignment(80) });
  const expected: Partial<CompiledCluster> = {
    observabilityName: "service",
    discovery: "static",
    dns: undefined,
    balancer: "round_robin",
    panicThresholdPercent: 50,
    overprovisioningPercent: 140,
    connectTimeoutMs: 5000,
    perConnectionBufferLimitBytes: 1024 * 1024,
    idleTimeoutMs: 3_600_000,
    maxConnectionDurationMs: 0,
    maxRequestsPerConnection: 0,
    maxResponseHeadersKb: 60,
    preconnectRatio: 1,
    keepAlive: undefined,
    bindAddress: undefined,
  };
  for (const [name, value] of Object.entries(expected)) assert.deepEqual(cluster[name as keyof CompiledCluster], value, name);
  assert.deepEqual(cluster.thresholds.high, {
    maxConnections: 1024,
    maxPendingRequests: 1024,
    maxRequests: 1024,
    maxRetries: 3,
    retryBudget: undefined,
    trackRemaining: false,
  });
  assert.equal(cluster.h1.maxHeadBytes, 60 * 1024);
});

test("members carry what their endpoint and its locality say", () => {
  const endpoint = {
    endpoint: { address: { pipe: { path: "/run/a.sock" } }, hostname: "a.test" },
    health_status: "DEGRADED",
    load_balancing_weight: 7,
    metadata: { filter_metadata: { "envoy.lb": { canary: true } } },
  };
  const place = { region: "r", zone: "z", sub_zone: "s" };
  const cluster = compiled({
    load_assignment: { cluster_name: "x", endpoints: [{ lb_endpoints: [endpoint], locality: place, priority: 2, load_balancing_weight: 4 }] },
  });
  assert.deepEqual(cluster.staticHosts, [
    {
      hostname: "a.test",
      healthCheckHostname: "",
      weight: 7,
      priority: 2,
      localityWeight: 4,
      locality: { region: "r", zone: "z", subZone: "s" },
      metadata: { "envoy.lb": { canary: true } },
      health: "degraded",
      address: { kind: "pipe", path: "/run/a.sock", text: "/run/a.sock" },
    },
  ]);
});

test("names need a cluster that resolves them", () => {
  assert.match(
    findings({ load_assignment: assignment(at(80, {}, "example.test")) })[0],
    /^address: malformed IP address: example\.test\. Consider .*STRICT_DNS/,
  );
  assert.deepEqual(findings({ type: "STRICT_DNS", load_assignment: assignment(at(80, {}, "example.test"), at(81)) }), []);
  const dns = compiled({ type: "STRICT_DNS", load_assignment: assignment(at(80, {}, "example.test"), at(81)) }).dns;
  assert.deepEqual(
    dns?.targets.map(({ name, port, template }) => [name, port, template.hostname]),
    [
      ["example.test", 80, "example.test"],
      ["127.0.0.1", 81, "127.0.0.1"],
    ],
  );
});

test("LOGICAL_DNS has exactly one endpoint", () => {
  assert.deepEqual(findings({ type: "LOGICAL_DNS", load_assignment: assignment(at(80, {}, "a.test")) }), []);
  for (const wrong of [assignment(at(80, {}, "a.test"), at(81, {}, "b.test")), { cluster_name: "x", endpoints: [] }]) {
    assert.match(
      findings({ type: "LOGICAL_DNS", load_assignment: wrong })[0],
      /LOGICAL_DNS clusters must have a single locality_lb_endpoint and a single lb_endpoint/,
    );
  }
  const resolver = { endpoint: { address: { socket_address: { address: "a.test", port_value: 80, resolver_name: "mine" } } } };
  assert.match(findings({ type: "LOGICAL_DNS", load_assignment: assignment(resolver) })[0], /LOGICAL_DNS clusters must NOT have a custom resolver name set/);
});

test("what is missing or not there is said", () => {
  assert.match(findings({})[0], /cluster 'service' has no load_assignment/);
  assert.match(findings({ type: "EDS" })[0], /cannot create an EDS cluster without an EDS config/);
  assert.match(
    findings({ lb_policy: "MAGLEV", maglev_lb_config: { table_size: 100 }, load_assignment: assignment(80) })[0],
    /table size of maglev must be prime number: 100/,
  );
  const ring = { minimum_ring_size: 20, maximum_ring_size: 10 };
  assert.match(
    findings({ lb_policy: "RING_HASH", ring_hash_lb_config: ring, load_assignment: assignment(80) })[0],
    /minimum_ring_size \(20\) > maximum_ring_size \(10\)/,
  );
  assert.match(findings({ lb_policy: "CLUSTER_PROVIDED", load_assignment: assignment(80) })[0], /CLUSTER_PROVIDED/);
  assert.match(findings({ lb_policy: "LOAD_BALANCING_POLICY_CONFIG", load_assignment: assignment(80) })[0], /needs load_balancing_policy/);
  assert.match(
    findings({ upstream_bind_config: { source_address: { address: "nowhere", port_value: 0 } }, load_assignment: assignment(80) })[0],
    /malformed IP address: nowhere/,
  );
  const heavy = { load_balancing_weight: 4_000_000_000 };
  assert.match(
    findings({ load_assignment: assignment(at(80, heavy), at(81, heavy)) })[0],
    /sum of weights of all upstream hosts in a locality exceeds max 4294967295/,
  );
});

test("HttpProtocolOptions win over the fields of the cluster itself", () => {
  const common = {
    idle_timeout: "7s",
    max_requests_per_connection: 3,
    max_connection_duration: "9s",
    max_stream_duration: "11s",
    max_headers_count: 20,
    max_response_headers_kb: 8,
  };
  const cluster = compiled({
    load_assignment: assignment(80),
    common_http_protocol_options: { idle_timeout: "1s" },
    ...options({
      common_http_protocol_options: common,
      explicit_http_config: { http_protocol_options: { enable_trailers: true, header_key_format: { proper_case_words: {} } } },
    }),
  });
  assert.deepEqual(
    [cluster.idleTimeoutMs, cluster.maxRequestsPerConnection, cluster.maxConnectionDurationMs, cluster.maxStreamDurationMs],
    [7000, 3, 9000, 11_000],
  );
  assert.deepEqual([cluster.h1.maxHeadBytes, cluster.h1.maxHeaderCount, cluster.h1.enableTrailers, cluster.h1.nameFormat], [8192, 20, true, "proper"]);
  const plain = compiled({ load_assignment: assignment(80), common_http_protocol_options: { idle_timeout: "0s" }, max_requests_per_connection: 5 });
  assert.deepEqual([plain.idleTimeoutMs, plain.maxRequestsPerConnection], [0, 5]);
});

test("the first load balancing policy that is known counts", () => {
  const of = (...policies: object[]): CompiledCluster => compiled({ load_assignment: assignment(80), load_balancing_policy: { policies } });
  assert.equal(of(policy("provided", "cluster_provided.v3.ClusterProvided"), policy("random", "random.v3.Random")).balancer, "random");
  const least = of(policy("least", "least_request.v3.LeastRequest", { choice_count: 5, locality_lb_config: { locality_weighted_lb_config: {} } }));
  assert.deepEqual([least.balancer, least.choiceCount, least.localityWeighted], ["least_request", 5, true]);
  assert.equal(of(policy("maglev", "maglev.v3.Maglev", { table_size: 101 })).hash?.tableSize, 101);
  assert.equal(of(policy("ring", "ring_hash.v3.RingHash", { hash_function: "MURMUR_HASH_2" })).hash?.hashFunction, "murmur_hash_2");
  const inner = { endpoint_picking_policy: { policies: [policy("random", "random.v3.Random")] } };
  const wrapped = of(policy("wrr", "wrr_locality.v3.WrrLocality", inner));
  assert.deepEqual([wrapped.balancer, wrapped.localityWeighted], ["random", true]);
  assert.match(
    findings({ load_assignment: assignment(80), load_balancing_policy: { policies: [policy("provided", "cluster_provided.v3.ClusterProvided")] } })[0],
    /didn't find a registered load balancer factory.*\[provided\]/,
  );
});

test("resolvers, families and refresh rates", () => {
  const base = { type: "STRICT_DNS", load_assignment: assignment(at(80, {}, "a.test")) };
  const dns = compiled({
    ...base,
    dns_lookup_family: "V4_PREFERRED",
    dns_refresh_rate: "2s",
    dns_failure_refresh_rate: { base_interval: "1s" },
    respect_dns_ttl: true,
    typed_dns_resolver_config: {
      name: "envoy.network.dns_resolver.cares",
      typed_config: {
        "@type": "type.googleapis.com/envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
        resolvers: [{ socket_address: { address: "127.0.0.1", port_value: 5353 } }, { socket_address: { address: "::1", port_value: 0 } }],
        query_tries: 1,
      },
    },
  }).dns;
  assert.deepEqual([dns?.family, dns?.refreshMs, dns?.failureRefreshMs, dns?.respectTtl], ["v4_preferred", 2000, { base: 1000, max: 10_000 }, true]);
  assert.deepEqual([dns?.servers, dns?.queryTries], [["127.0.0.1:5353", "[::1]:53"], 1]);
  assert.match(findings({ ...base, dns_resolvers: [{ socket_address: { address: "dns.test", port_value: 53 } }] })[0], /DNS resolver must be an IP address/);
});

test("a transport socket that is not there is reported, once", () => {
  const context = testContext();
  const socket = { name: "tls", typed_config: { "@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext" } };
  const cluster = compiled({ load_assignment: assignment(80), transport_socket: socket }, context);
  assert.equal(cluster.transportSocket, undefined);
  assert.equal(context.findings.length, 1);
});

test("statistics are named after alt_stat_name, without colons", () => {
  const context = testContext();
  const cluster = compiled({ alt_stat_name: "a:b", load_assignment: assignment(80) }, context);
  assert.deepEqual([cluster.observabilityName, cluster.scope.prefix], ["a:b", "cluster.a_b."]);
  assert.equal(compileCluster.length, 2);
});
