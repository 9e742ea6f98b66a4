import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { createServer, get } from "node:http";
import type { AddressInfo } from "node:net";
import { test } from "node:test";
import { fileURLToPath } from "node:url";
import { start } from "../api.ts";

const outrider = fileURLToPath(new URL("../../bin/outrider", import.meta.url));

async function run(...args: string[]): Promise<[number | null, string]> {
  const child = spawn(outrider, args, { stdio: ["ignore", "ignore", "pipe"] });
  let errors = "";
  child.stderr.on("data", (bytes) => {
    errors += String(bytes);
  });
  const [code] = (await once(child, "close")) as [number | null];
  return [code, errors];
}

test("ready says whether the proxy takes traffic, drain waits for what is in flight", async () => {
  let finish: (() => void) | undefined;
  const backend = createServer((_request, response) => {
    finish = () => response.end("done");
    response.write("begun");
  });
  await once(backend.listen(0, "127.0.0.1"), "listening");
  const manager = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
  const router = { name: "envoy.filters.http.router", typed_config: { "@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router" } };
  const address = (port: number): object => ({ socket_address: { address: "127.0.0.1", port_value: port } });
  const proxy = await start({
    config: {
      admin: { address: address(0) },
      static_resources: {
        listeners: [
          {
            name: "main",
            address: address(0),
            filter_chains: [
              {
                filters: [
                  {
                    name: "http",
                    typed_config: {
                      "@type": manager,
                      stat_prefix: "main",
                      route_config: { virtual_hosts: [{ name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, route: { cluster: "backend" } }] }] },
                      http_filters: [router],
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
            load_assignment: {
              cluster_name: "backend",
              endpoints: [{ lb_endpoints: [{ endpoint: { address: address((backend.address() as AddressInfo).port) } }] }],
            },
          },
        ],
      },
    },
  });
  const admin = proxy.adminAddress ?? "";
  assert.deepEqual(await run("ready", "--admin", admin), [0, ""]);
  const [response] = (await once(get(`http://${proxy.address("main")}/`), "response")) as [import("node:http").IncomingMessage];
  await once(response, "data");
  assert.deepEqual(await run("drain", "--admin", admin, "--grace", "0", "--timeout", "0"), [1, "drain: 1 requests are still in flight after 0 seconds\n"]);
  assert.deepEqual(await run("ready", "--admin", admin), [1, "ready: DRAINING\n"]);
  const drained = run("drain", "--admin", admin, "--grace", "0");
  finish?.();
  assert.deepEqual(await drained, [0, ""]);
  response.resume();
  await proxy.stop();
  backend.close();
  assert.deepEqual(await run("ready", "--admin", admin), [1, `ready: nothing answers at ${admin}\n`]);
  assert.equal((await run("drain", "--admin", "somewhere"))[0], 1);
});
