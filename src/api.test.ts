import assert from "node:assert/strict";
import { Agent, createServer, get, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { after, before, test } from "node:test";
import { StartError, type Proxy as StartedProxy, start } from "./api.ts";

let backend: Server;
let backendPort = 0;

async function startBackend(port: number): Promise<Server> {
  const server = createServer((_request, response) => response.end("from the backend"));
  await new Promise<void>((resolve) => server.listen(port, "127.0.0.1", resolve));
  return server;
}

before(async () => {
  backend = await startBackend(0);
  backendPort = (backend.address() as AddressInfo).port;
});
after(() => {
  backend.closeAllConnections();
  backend.close();
});

/** One listener on a port of the system's choosing before the backend; `routes` come first. */
function config(routes: readonly object[] = []): object {
  return {
    admin: { address: { socket_address: { address: "127.0.0.1", port_value: 0 } } },
    static_resources: {
      listeners: [
        {
          name: "ingress",
          address: { socket_address: { address: "127.0.0.1", port_value: 0 } },
          filter_chains: [
            {
              filters: [
                {
                  name: "hcm",
                  typed_config: {
                    "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                    stat_prefix: "ingress",
                    route_config: {
                      virtual_hosts: [
                        {
                          name: "all",
                          domains: ["*"],
                          routes: [
                            ...routes,
                            { match: { prefix: "/" }, route: { cluster: "backend", retry_policy: { retry_on: "connect-failure,reset", num_retries: 20 } } },
                          ],
                        },
                      ],
                    },
                    http_filters: [{ name: "router", typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } }],
                  },
                },
              ],
            },
          ],
        },
      ],
      clusters: [
        {
          name: "backend",
          type: "STATIC",
          circuit_breakers: { thresholds: [{ max_retries: 100 }] },
          load_assignment: {
            cluster_name: "backend",
            endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { address: "127.0.0.1", port_value: backendPort } } } }] }],
          },
        },
      ],
    },
  };
}

function fetchStatus(proxy: StartedProxy, agent: Agent | undefined, path = "/"): Promise<number | string> {
  const [host, port] = proxy.address().split(":");
  return new Promise((resolve) => {
    const request = get({ host, port, path, ...(agent === undefined ? { agent: false } : { agent }) }, (response) => {
      response.resume();
      response.on("end", () => resolve(response.statusCode ?? 0));
    });
    request.on("error", (error: NodeJS.ErrnoException) => resolve(error.code ?? error.message));
  });
}

/** Requests in loops until `stop()`: how many there were, and every outcome that is not 200. */
function load(proxy: StartedProxy, clients: number): { stop(): Promise<{ count: number; failures: (number | string)[] }> } {
  let going = true;
  let count = 0;
  const failures: (number | string)[] = [];
  const loops = Array.from({ length: clients }, async (_, index) => {
    // Some keep their connection, some make a new one each time.
    const agent = index % 2 === 0 ? new Agent({ keepAlive: true, maxSockets: 1 }) : undefined;
    while (going) {
      const outcome = await fetchStatus(proxy, agent);
      count++;
      if (outcome !== 200) failures.push(outcome);
    }
    agent?.destroy();
  });
  return {
    async stop() {
      going = false;
      await Promise.all(loops);
      return { count, failures };
    },
  };
}

test("a proxy serves on a port of the system's, counts, and stops", async () => {
  const proxy = await start({ config: config() });
  try {
    assert.equal(await fetchStatus(proxy, undefined), 200);
    assert.equal(proxy.stats().get("http.ingress.downstream_rq_2xx"), 1);
    assert.equal(proxy.stats().get("cluster.backend.upstream_rq_total"), 1);
    assert.match(proxy.adminAddress ?? "", /^127\.0\.0\.1:\d+$/);
    assert.throws(() => proxy.address("nosuch"), /no listener named "nosuch"; there are: ingress/);
  } finally {
    await proxy.stop();
  }
  assert.equal(await fetchStatus(proxy, undefined).catch(() => "refused"), "ECONNREFUSED");
});

test("a bad configuration is refused with findings", async () => {
  await assert.rejects(start({ config: { static_resources: { clusters: [{ name: "a", lb_polcy: "RANDOM" }] } } }), (error: unknown) => {
    assert.ok(error instanceof StartError);
    assert.ok(error.findings.some((finding) => /lb_polcy/.test(finding.text) && /lb_policy/.test(finding.hint ?? "")));
    return true;
  });
});

test("no request is lost while configurations come and go", async () => {
  const proxy = await start({ config: config() });
  try {
    const heard: string[] = [];
    proxy.events.on("reloaded", (changes) => heard.push(changes));
    proxy.events.on("reload_refused", () => heard.push("refused"));
    const running = load(proxy, 6);
    const many = Array.from({ length: 5000 }, (_, i) => ({ match: { prefix: `/api/v1/resource${i}/` }, route: { cluster: "backend" } }));
    for (let i = 0; i < 2; i++) {
      assert.match(await proxy.reload(config(many)), /changed ingress/);
      assert.match(await proxy.reload(config()), /changed ingress/);
    }
    await assert.rejects(proxy.reload({ static_resources: { listeners: 3 } }), /the old configuration goes on/);
    assert.equal(heard.length, 5);
    assert.equal(heard[4], "refused");
    const { count, failures } = await running.stop();
    assert.deepEqual(failures, []);
    assert.ok(count > 0);
  } finally {
    await proxy.stop();
  }
});

test("a backend that restarts costs no request: what its end cut off is tried again", async () => {
  const proxy = await start({ config: config() });
  try {
    const running = load(proxy, 4);
    for (let i = 0; i < 3; i++) {
      await fetchStatus(proxy, undefined);
      const closed = new Promise((resolve) => backend.close(resolve));
      backend.closeAllConnections();
      await closed;
      backend = await startBackend(backendPort);
    }
    const { count, failures } = await running.stop();
    assert.deepEqual(failures, []);
    assert.ok(count > 0);
  } finally {
    await proxy.stop();
  }
});
