import assert from "node:assert/strict";
import { test } from "node:test";
import fc from "fast-check";
import { message } from "../testing/compile-context.ts";
import { compileTags } from "./tags.ts";

const shown = (name: string, rules = compileTags(undefined, [])): string => {
  const tagged = rules.extract(name);
  return `${tagged.name}{${tagged.tags.map((tag) => `${tag.name.replace("envoy.", "")}=${tag.value}`).join(" ")}}`;
};

test("what is a value in a name becomes a tag", () => {
  for (const [name, expected] of [
    ["cluster.service.upstream_rq_total", "cluster.upstream_rq_total{cluster_name=service}"],
    ["cluster.service.upstream_rq_503", "cluster.upstream_rq{response_code=503 cluster_name=service}"],
    ["cluster.service.upstream_rq_5xx", "cluster.upstream_rq_xx{response_code_class=5 cluster_name=service}"],
    ["cluster.service.external.upstream_rq_200", "cluster.external.upstream_rq{response_code=200 cluster_name=service}"],
    ["cluster.service.grpc.pkg.Service.Method.success", "cluster.grpc.Method.success{grpc_bridge_method=Service grpc_bridge_service=pkg cluster_name=service}"],
    ["cluster.service.ssl.ciphers.ECDHE-RSA-AES128-GCM-SHA256", "cluster.ssl.ciphers{cipher_suite=ECDHE-RSA-AES128-GCM-SHA256 cluster_name=service}"],
    ["http.ingress_http.downstream_rq_2xx", "http.downstream_rq_xx{response_code_class=2 http_conn_manager_prefix=ingress_http}"],
    ["http.ingress.user_agent.ios.downstream_cx_total", "http.user_agent.downstream_cx_total{http_user_agent=ios http_conn_manager_prefix=ingress}"],
    ["http.ingress.rds.local_route.config_reload", "http.rds.config_reload{rds_route_config=local_route http_conn_manager_prefix=ingress}"],
    ["listener.127.0.0.1_80.downstream_cx_total", "listener.downstream_cx_total{listener_address=127.0.0.1_80}"],
    ["listener.[__1]_80.downstream_cx_total", "listener.downstream_cx_total{listener_address=[__1]_80}"],
    ["listener.ingress.downstream_cx_total", "listener.downstream_cx_total{listener_address=ingress}"],
    ["listener.admin.downstream_cx_total", "listener.admin.downstream_cx_total{}"],
    [
      "listener.0.0.0.0_443.http.ingress.downstream_rq_4xx",
      "listener.http.downstream_rq_xx{response_code_class=4 http_conn_manager_prefix=ingress listener_address=0.0.0.0_443}",
    ],
    ["listener.0.0.0.0_443.ssl.versions.TLSv1.3", "listener.ssl.versions{ssl_version=TLSv1.3 listener_address=0.0.0.0_443}"],
    ["listener.0.0.0.0_443.worker_1.downstream_cx_active", "listener.worker_downstream_cx_active{worker_id=1 listener_address=0.0.0.0_443}"],
    ["vhost.all.vcluster.api.upstream_rq_retry", "vhost.vcluster.upstream_rq_retry{virtual_cluster=api virtual_host=all}"],
    ["vhost.all.route.main.upstream_rq_timeout", "vhost.route.upstream_rq_timeout{virtual_host=all route=main}"],
    ["tcp.db.downstream_cx_total", "tcp.downstream_cx_total{tcp_prefix=db}"],
    ["connection_limit.one.active_connections", "connection_limit.active_connections{connection_limit_prefix=one}"],
    ["local_rate_limit.one.rate_limited", "local_rate_limit.rate_limited{local_network_ratelimit_prefix=one}"],
    ["server.worker_0.watchdog_miss", "server.worker_watchdog_miss{worker_id=0}"],
    ["server.uptime", "server.uptime{}"],
    ["", "{}"],
  ]) {
    assert.equal(shown(name), expected);
  }
});

test("tags of the configuration: fixed values, patterns, names of default ones", () => {
  const config = message("envoy.config.metrics.v3.StatsConfig", {
    use_all_default_tags: false,
    stats_tags: [{ tag_name: "site", fixed_value: "a" }, { tag_name: "first", regex: "^cluster\\.((.+?)\\.)" }, { tag_name: "envoy.response_code" }],
  });
  const rules = compileTags(config as Parameters<typeof compileTags>[0], [{ name: "cli", value: "x" }]);
  assert.equal(shown("cluster.service.upstream_rq_200", rules), "cluster.upstream_rq{cli=x site=a response_code=200 first=service}");
  assert.equal(shown("http.ingress.downstream_rq_2xx", rules), "http.ingress.downstream_rq_2xx{cli=x site=a}");
});

test("any name keeps what is not a value, in order", () => {
  const rules = compileTags(undefined, []);
  const token = fc.constantFrom("cluster", "http", "listener", "vhost", "tcp", "ssl", "rbac", "grpc", "a", "", "worker_1", "127", "upstream_rq_200", "x y");
  fc.assert(
    fc.property(fc.array(token, { maxLength: 8 }), (tokens) => {
      const name = tokens.join(".");
      const tagged = rules.extract(name);
      let at = 0;
      for (const letter of tagged.name) {
        at = name.indexOf(letter, at) + 1;
        assert.notEqual(at, 0, `${name} became ${tagged.name}`);
      }
      for (const tag of tagged.tags) assert.ok(name.includes(tag.value));
      assert.equal(rules.extract(name), tagged);
    }),
  );
});
