import assert from "node:assert/strict";
import { test } from "node:test";
import type { Bootstrap } from "../config/schema/types/envoy.config.bootstrap.v3.d.ts";
import { message, testContext } from "../testing/compile-context.ts";
import { compileCluster } from "../upstream/compile.ts";
import { checkBootstrapFields, clusterDefaults } from "./bootstrap-fields.ts";

const bootstrap = (fields: object): Bootstrap => message("envoy.config.bootstrap.v3.Bootstrap", fields);
const any = (type: string, fields: object = {}): object => ({ name: "x", typed_config: { "@type": `type.googleapis.com/${type}`, ...fields } });
const cares = (port: number): object =>
  any("envoy.extensions.network.dns_resolver.cares.v3.CaresDnsResolverConfig", { resolvers: [{ socket_address: { address: "127.0.0.1", port_value: port } }] });

const cluster = (fields: object = {}): Parameters<typeof compileCluster>[0] =>
  message("envoy.config.cluster.v3.Cluster", {
    name: "a",
    type: "STRICT_DNS",
    load_assignment: {
      cluster_name: "a",
      endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: "name.test", port_value: 80 } } } }] }],
    },
    ...fields,
  });

test("clusters take from the bootstrap what they do not say themselves", () => {
  const defaults = clusterDefaults(
    bootstrap({
      cluster_manager: { upstream_bind_config: { source_address: { address: "127.0.0.2", port_value: 0 } } },
      typed_dns_resolver_config: cares(5301),
    }),
  );
  const context = { ...testContext(), clusterDefaults: defaults };
  const plain = compileCluster(cluster(), context);
  assert.deepEqual([plain.bindAddress, plain.dns?.servers], ["127.0.0.2", ["127.0.0.1:5301"]]);
  const own = compileCluster(
    cluster({ upstream_bind_config: { source_address: { address: "127.0.0.3", port_value: 0 } }, typed_dns_resolver_config: cares(5302) }),
    context,
  );
  assert.deepEqual([own.bindAddress, own.dns?.servers], ["127.0.0.3", ["127.0.0.1:5302"]]);
  const older = clusterDefaults(bootstrap({ dns_resolution_config: { resolvers: [{ socket_address: { address: "127.0.0.1", port_value: 5303 } }] } }));
  assert.deepEqual(compileCluster(cluster(), { ...testContext(), clusterDefaults: older }).dns?.servers, ["127.0.0.1:5303"]);
  assert.deepEqual(compileCluster(cluster(), testContext()).dns?.servers, []);
});

test("what is only accepted is looked at", () => {
  const of = (fields: object): string[] => {
    const context = testContext();
    checkBootstrapFields(bootstrap(fields), context);
    return context.findings;
  };
  const echo = any("envoy.extensions.filters.network.echo.v3.Echo");
  const refused = "typed_config: Didn't find a registered implementation for 'x' with type URL: 'envoy.extensions.filters.network.echo.v3.Echo'";
  assert.deepEqual(
    of({
      default_regex_engine: any("envoy.extensions.regex_engines.v3.GoogleRE2"),
      listener_manager: any("envoy.config.bootstrap.v3.ListenerManager"),
      bootstrap_extensions: [any("envoy.extensions.network.socket_interface.v3.DefaultSocketInterface")],
    }),
    [],
  );
  for (const fields of [{ default_regex_engine: echo }, { listener_manager: echo }, { bootstrap_extensions: [echo] }]) assert.deepEqual(of(fields), [refused]);
});
