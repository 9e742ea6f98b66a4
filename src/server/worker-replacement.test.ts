import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { defaultOptions } from "../cli/options.ts";
import { type LogRecord, type LogSink, setLogSink } from "../log/log.ts";
import type { ToWorker } from "../worker/protocol.ts";
import { Server } from "./server.ts";

const config = {
  static_resources: {
    listeners: [
      {
        name: "front",
        address: { socket_address: { address: "127.0.0.1", port_value: 0 } },
        filter_chains: [
          {
            filters: [
              {
                name: "hcm",
                typed_config: {
                  "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
                  stat_prefix: "front",
                  route_config: {
                    virtual_hosts: [
                      { name: "all", domains: ["*"], routes: [{ match: { prefix: "/" }, direct_response: { status: 200, body: { inline_string: "here" } } }] },
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
  },
};

test("a worker that throws is logged, counted and replaced, and its ports keep answering", { timeout: 20_000 }, async () => {
  const records: LogRecord[] = [];
  const sink: LogSink = { write: (record) => void records.push(record) };
  setLogSink(sink, 0);
  const server = new Server({ ...defaultOptions(), configYaml: JSON.stringify(config), concurrency: 2, logLevel: "off", disableHotRestart: true }, sink);
  try {
    await server.start();
    const url = `http://${server.listenerAddresses.get("front")}/`;
    assert.equal(await (await fetch(url)).text(), "here");
    const replaced = once(server.events, "worker_restarted");
    // No message of ours: taking it throws where nobody catches.
    server.workers[0].send({ type: "hosts", update: null } as unknown as ToWorker);
    const [index] = await replaced;
    assert.equal(index, 0);
    assert.equal(server.aggregate.value("server.worker_restarts"), 1);
    assert.ok(records.some(({ level, message }) => level === "critical" && /uncaught exception in a worker/.test(message)));
    for (let i = 0; i < 20; i++) assert.equal(await (await fetch(url, { headers: { connection: "close" } })).text(), "here");
  } finally {
    await server.stop();
  }
});
