/** Discovery as a running proxy sees it: resources in files that are replaced. */
import assert from "node:assert/strict";
import { once } from "node:events";
import { mkdtempSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { start } from "../../api.ts";

const scratch = mkdtempSync(join(tmpdir(), "outrider-dynamic-"));
type Running = Awaited<ReturnType<typeof start>>;
const proxies: Running[] = [];
after(async () => {
  for (const proxy of proxies) await proxy.stop();
  rmSync(scratch, { recursive: true, force: true });
});

const types: Readonly<Record<string, string>> = {
  lds: "envoy.config.listener.v3.Listener",
  cds: "envoy.config.cluster.v3.Cluster",
  rds: "envoy.config.route.v3.RouteConfiguration",
  srds: "envoy.config.route.v3.ScopedRouteConfiguration",
  rtds: "envoy.service.runtime.v3.Runtime",
};
let folders = 0;

/** A folder of resource files. */
class Files {
  readonly #folder = join(scratch, String(++folders));
  #count = 0;
  source(name: string): object {
    return { resource_api_version: "V3", path_config_source: { path: `${this.#folder}.${name}.json` } };
  }
  put(name: string, version: string, ...resources: object[]): void {
    const typed = resources.map((resource) => ({ "@type": `type.googleapis.com/${types[name]}`, ...resource }));
    const next = `${this.#folder}.${++this.#count}.new`;
    writeFileSync(next, JSON.stringify({ version_info: version, resources: typed }));
    renameSync(next, `${this.#folder}.${name}.json`);
  }
}

async function running(files: Files, more: object = {}): Promise<Running> {
  const dynamic = { lds_config: files.source("lds"), cds_config: files.source("cds") };
  const proxy = await start({ config: { node: { id: "n", cluster: "c" }, dynamic_resources: dynamic, ...more } });
  proxies.push(proxy);
  return proxy;
}

const direct = (text: string): object => ({ match: { prefix: "/" }, direct_response: { status: 200, body: { inline_string: text } } });
const table = (name: string, ...routes: object[]): object => ({ name, virtual_hosts: [{ name: "all", domains: ["*"], routes }] });
const listener = (name: string, routes: object): object => ({
  name,
  address: { socket_address: { address: "127.0.0.1", port_value: 0 } },
  filter_chains: [
    {
      filters: [
        {
          name: "hcm",
          typed_config: {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            stat_prefix: "in",
            http_filters: [{ name: "router", typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }],
            ...routes,
          },
        },
      ],
    },
  ],
});
const cluster = (name: string, more: object = {}): object => ({
  name,
  connect_timeout: "1s",
  type: "STATIC",
  load_assignment: { cluster_name: name },
  ...more,
});

async function text(proxy: Running, name: string): Promise<string> {
  // A connection of its own: one that is open goes on with what it began with.
  return (await fetch(`http://${proxy.address(name)}/`, { headers: { connection: "close" } })).text();
}

/** Until a statistic has a value: updates are counted when they are in force. */
async function until(proxy: Running, stat: string, value: number): Promise<void> {
  while (proxy.stats().get(stat) !== value) await new Promise(setImmediate);
}

test("listeners come, change and go; what did not change keeps its port", async () => {
  const files = new Files();
  files.put("cds", "1");
  files.put("lds", "1", listener("a", { route_config: table("r", direct("one")) }));
  const proxy = await running(files);
  assert.equal(await text(proxy, "a"), "one");
  const address = proxy.address("a");
  files.put("lds", "2", listener("a", { route_config: table("r", direct("two")) }), listener("b", { route_config: table("r", direct("new")) }));
  await until(proxy, "listener_manager.lds.update_success", 2);
  assert.equal(proxy.address("a"), address);
  assert.deepEqual([await text(proxy, "a"), await text(proxy, "b")], ["two", "new"]);
  files.put("lds", "3", listener("b", { route_config: table("r", direct("new")) }));
  await until(proxy, "listener_manager.listener_removed", 1);
  await until(proxy, "listener_manager.lds.update_success", 3);
  await assert.rejects(fetch(`http://${address}/`));
  assert.equal(await text(proxy, "b"), "new");
  assert.equal(proxy.stats().get("listener_manager.total_listeners_active"), 1);
});

test("of an update with a bad listener the good ones are taken", async () => {
  const files = new Files();
  files.put("cds", "1");
  const unknown = { route_config: table("r", { match: { prefix: "/" }, route: { cluster: "nowhere" } }) };
  files.put("lds", "1", listener("bad", unknown), listener("good", { route_config: table("r", direct("good")) }));
  const proxy = await running(files);
  assert.equal(await text(proxy, "good"), "good");
  assert.equal(proxy.stats().get("listener_manager.lds.update_rejected"), 1);
  assert.throws(() => proxy.address("bad"), /no listener/);
});

test("routes change; bad ones leave what was there", async () => {
  const files = new Files();
  files.put("cds", "1");
  files.put("rds", "1", table("local", direct("one")));
  files.put("lds", "1", listener("a", { rds: { route_config_name: "local", config_source: files.source("rds") } }));
  const proxy = await running(files);
  assert.equal(await text(proxy, "a"), "one");
  const rds = "http.in.rds.local";
  files.put("rds", "2", table("local", direct("two")));
  await until(proxy, `${rds}.config_reload`, 2);
  assert.equal(await text(proxy, "a"), "two");
  files.put("rds", "3", table("another", direct("three")));
  await until(proxy, `${rds}.update_rejected`, 1);
  files.put("rds", "4", table("local", { match: { safe_regex: { regex: "(" } }, direct_response: { status: 200 } }));
  await until(proxy, `${rds}.update_rejected`, 2);
  assert.equal(await text(proxy, "a"), "two");
});

test("clusters come and go with their statistics; those of the bootstrap are not discovery's", async () => {
  const files = new Files();
  files.put("lds", "1");
  files.put("cds", "1", cluster("dynamic"), cluster("fixed", { lb_policy: "RANDOM" }));
  const proxy = await running(files, { static_resources: { clusters: [cluster("fixed")] } });
  assert.equal(proxy.stats().get("cluster_manager.active_clusters"), 2);
  assert.ok(proxy.stats().has("cluster.dynamic.upstream_cx_total"));
  files.put("cds", "2", cluster("dynamic"), cluster("bad", { type: "STATIC", lb_policy: "CLUSTER_PROVIDED" }));
  await until(proxy, "cluster_manager.cds.update_rejected", 1);
  assert.equal(proxy.stats().get("cluster_manager.active_clusters"), 2);
  files.put("cds", "3");
  await until(proxy, "cluster_manager.cds.update_success", 2);
  assert.equal(proxy.stats().get("cluster_manager.active_clusters"), 1);
  assert.deepEqual(
    [...proxy.stats().keys()].filter((name) => name.startsWith("cluster.dynamic.")),
    [],
  );
});

test("a server that is polled is told the version it has; its failures leave what was there", async () => {
  const asked: { path: string | undefined; body: Record<string, unknown> }[] = [];
  let answer: { status: number; text: string } = { status: 200, text: "" };
  const respond = (version: string, ...names: string[]): void => {
    const resources = names.map((name) => ({ "@type": `type.googleapis.com/${types["cds"]}`, ...cluster(name) }));
    answer = { status: 200, text: JSON.stringify({ version_info: version, resources }) };
  };
  const server = createServer((request, response) => {
    let text = "";
    request.on("data", (chunk: Buffer) => (text += chunk.toString()));
    request.on("end", () => {
      asked.push({ path: request.url, body: JSON.parse(text) as Record<string, unknown> });
      response.writeHead(answer.status, { "content-type": "application/json" }).end(answer.text);
    });
  }).listen(0, "127.0.0.1");
  await once(server, "listening");
  respond("r1", "one");
  const { port } = server.address() as AddressInfo;
  const endpoints = [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: "127.0.0.1", port_value: port } } } }] }];
  const plane = cluster("plane", { load_assignment: { cluster_name: "plane", endpoints } });
  const source = { api_type: "REST", transport_api_version: "V3", cluster_names: ["plane"], refresh_delay: "0.01s" };
  const proxy = await start({
    config: {
      node: { id: "n", cluster: "c" },
      static_resources: { clusters: [plane] },
      dynamic_resources: { cds_config: { resource_api_version: "V3", api_config_source: source } },
    },
  });
  proxies.push(proxy);
  assert.equal(asked[0].path, "/v3/discovery:clusters");
  assert.deepEqual([asked[0].body["version_info"], (asked[0].body["node"] as { id: string }).id], [undefined, "n"]);
  assert.ok(proxy.stats().has("cluster.one.upstream_cx_total"));
  respond("r2", "one", "two");
  await until(proxy, "cluster_manager.active_clusters", 3);
  answer = { status: 500, text: "" };
  while ((proxy.stats().get("cluster_manager.cds.update_failure") ?? 0) < 2) await new Promise(setImmediate);
  answer = { status: 200, text: "{" };
  const failures = proxy.stats().get("cluster_manager.cds.update_failure") ?? 0;
  while ((proxy.stats().get("cluster_manager.cds.update_failure") ?? 0) < failures + 2) await new Promise(setImmediate);
  assert.equal(proxy.stats().get("cluster_manager.active_clusters"), 3);
  assert.equal(asked.at(-1)?.body["version_info"], "r2");
  await proxy.stop();
  server.closeAllConnections();
  server.close();
});

test("runtime values that discovery brings choose routes; what is no value is refused", async () => {
  const files = new Files();
  const runtime = (out: unknown): object => ({ name: "mine", layer: { roll: { out } } });
  files.put("rtds", "1", runtime(0));
  const chance = { runtime_fraction: { default_value: { numerator: 100 }, runtime_key: "roll.out" } };
  const fresh = { match: { prefix: "/", ...chance }, direct_response: { status: 200, body: { inline_string: "new" } } };
  const layers = [{ name: "discovered", rtds_layer: { name: "mine", rtds_config: files.source("rtds") } }];
  const proxy = await start({
    config: {
      node: { id: "n", cluster: "c" },
      static_resources: { listeners: [listener("a", { route_config: table("r", fresh, direct("old")) })] },
      layered_runtime: { layers },
    },
  });
  proxies.push(proxy);
  assert.equal(await text(proxy, "a"), "old");
  files.put("rtds", "2", runtime(100));
  await until(proxy, "runtime.update_success", 2);
  assert.equal(await text(proxy, "a"), "new");
  files.put("rtds", "3", runtime([]));
  await until(proxy, "runtime.update_rejected", 1);
  files.put("rtds", "4", { ...runtime(0), name: "another" });
  await until(proxy, "runtime.rtds.mine.update_rejected", 2);
  assert.equal(await text(proxy, "a"), "new");
});

test("scopes come from discovery, with routes of their own or from discovery", async () => {
  const files = new Files();
  const scope = (name: string, more: object): object => ({ name, key: { fragments: [{ string_key: name }] }, ...more });
  files.put("cds", "1");
  files.put("rds", "1", table("red-routes", direct("from discovery")));
  files.put("srds", "1", scope("blue", { route_configuration: table("r", direct("inline")) }), scope("red", { route_configuration_name: "red-routes" }));
  const extractor = { name: "x-scope", element_separator: ";", element: { key: "color", separator: "=" } };
  const scoped = {
    name: "scopes",
    scope_key_builder: { fragments: [{ header_value_extractor: extractor }] },
    rds_config_source: files.source("rds"),
    scoped_rds: { scoped_rds_config_source: files.source("srds") },
  };
  files.put("lds", "1", listener("a", { scoped_routes: scoped }));
  const proxy = await running(files);
  const ask = async (value: string): Promise<string> => {
    const response = await fetch(`http://${proxy.address("a")}/`, { headers: { "x-scope": value } });
    return response.status === 200 ? response.text() : String(response.status);
  };
  assert.deepEqual([await ask("a=1;color=blue"), await ask("color=red"), await ask("color=green"), await ask("")], ["inline", "from discovery", "404", "404"]);
  const stats = "http.in.scoped_rds.scopes";
  files.put("srds", "2", scope("green", { route_configuration: table("r", direct("new")) }));
  await until(proxy, `${stats}.config_reload`, 2);
  assert.deepEqual([await ask("color=green"), await ask("color=red")], ["new", "404"]);
  files.put("srds", "3", scope("one", { route_configuration: table("r") }), {
    ...scope("two", { route_configuration: table("r") }),
    key: { fragments: [{ string_key: "one" }] },
  });
  await until(proxy, `${stats}.update_rejected`, 1);
  assert.equal(await ask("color=green"), "new");
});
