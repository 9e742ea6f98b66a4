import assert from "node:assert/strict";
import { test } from "node:test";
import { getLogger } from "../log/log.ts";
import { ipAddress } from "../net/address.ts";
import { endpointByPath, endpoints, helpText } from "./endpoints.ts";
import { distribution, fakeHost, fakeServer, fakeStats } from "./fake-server.ts";
import { QueryParams, splitPath } from "./query.ts";
import type { AdminResponse } from "./request.ts";
import type { AdminServer } from "./server.ts";

async function ask(server: AdminServer, target: string): Promise<{ status: number; type: string; body: string; response: AdminResponse }> {
  const { path, query } = splitPath(target);
  const endpoint = endpointByPath(path);
  assert.ok(endpoint, path);
  const response = await endpoint.handle({ server, method: endpoint.mutates === true ? "POST" : "GET", path, params: QueryParams.parse(query) });
  let body = "";
  if (typeof response.body === "string" || Buffer.isBuffer(response.body)) body = String(response.body);
  else for await (const piece of response.body) body += piece.toString();
  return { status: response.status, type: response.contentType ?? "text/plain; charset=UTF-8", body, response };
}

async function json<T>(server: AdminServer, target: string): Promise<T> {
  const { status, type, body } = await ask(server, target);
  assert.equal(status, 200);
  assert.equal(type, "application/json");
  return JSON.parse(body) as T;
}

test("every path of Envoy's /help is there, mutations marked", () => {
  const paths = endpoints.map((endpoint) => `${endpoint.path}${endpoint.mutates === true ? " (POST)" : ""}`);
  assert.deepEqual(paths, [
    "/",
    "/allocprofiler (POST)",
    "/certs",
    "/clusters",
    "/config_dump",
    "/contention",
    "/cpuprofiler (POST)",
    "/drain_listeners (POST)",
    "/healthcheck/fail (POST)",
    "/healthcheck/ok (POST)",
    "/heap_dump",
    "/heapprofiler (POST)",
    "/help",
    "/hot_restart_version",
    "/init_dump",
    "/listeners",
    "/logging (POST)",
    "/memory",
    "/memory/tcmalloc",
    "/peak_heap_dump",
    "/quitquitquit (POST)",
    "/ready",
    "/reopen_logs (POST)",
    "/reset_counters (POST)",
    "/runtime",
    "/runtime_modify (POST)",
    "/server_info",
    "/stats",
    "/stats/prometheus",
    "/stats/recentlookups",
    "/stats/recentlookups/clear (POST)",
    "/stats/recentlookups/disable (POST)",
    "/stats/recentlookups/enable (POST)",
  ]);
  assert.match(helpText(), /^admin commands are:\n {2}\/: Admin home page\n {2}\/allocprofiler \(POST\): .*\n {6}enable: .*; One of \(y, n\)\n/);
});

test("the home page has a way to every command, POST forms for what changes something, no script", async () => {
  const { body, type, response } = await ask(fakeServer(), "/");
  assert.equal(type, "text/html; charset=UTF-8");
  for (const endpoint of endpoints.slice(1)) {
    const name = endpoint.path.slice(1);
    if (endpoint.mutates === true) assert.ok(body.includes(`action='${name}' method='post'`), name);
    else assert.ok(body.includes(`href='${name}'`) || body.includes(`action='${name}' method='get'`), name);
  }
  assert.doesNotMatch(body, /<script/);
  assert.match(String(response.headers), /frame-ancestors 'none'/);
});

test("/ready follows state and health", async () => {
  assert.deepEqual([(await ask(fakeServer(), "/ready")).status, (await ask(fakeServer(), "/ready")).body], [200, "LIVE\n"]);
  for (const [changes, state] of [
    [{ state: "INITIALIZING" }, "INITIALIZING"],
    [{ state: "PRE_INITIALIZING" }, "PRE_INITIALIZING"],
    [{ healthFailed: true }, "DRAINING"],
  ] as const) {
    const { status, body } = await ask(fakeServer("", changes), "/ready");
    assert.deepEqual([status, body], [503, `${state}\n`]);
  }
});

test("commands reach the server", async () => {
  const server = fakeServer();
  for (const path of ["/healthcheck/fail", "/healthcheck/ok", "/reopen_logs", "/drain_listeners?graceful&inboundonly", "/drain_listeners?skip_exit"]) {
    assert.equal((await ask(server, path)).body, "OK\n");
  }
  assert.deepEqual(server.calls, [
    "health_failed true",
    "health_failed false",
    "reopen",
    'drain {"graceful":true,"inboundOnly":true,"skipExit":false}',
    'drain {"graceful":false,"inboundOnly":false,"skipExit":true}',
  ]);
});

test("/server_info", async () => {
  const info = await json<Record<string, unknown> & { command_line_options: Record<string, unknown>; node: Record<string, unknown> }>(
    fakeServer("node: {id: node-1, cluster: c, locality: {zone: z}}"),
    "/server_info",
  );
  assert.equal(info["state"], "LIVE");
  assert.deepEqual([info["uptime_current_epoch"], info["uptime_all_epochs"]], ["4s", "10s"]);
  const { base_id, file_flush_interval, drain_time, mode, stats_tag } = info.command_line_options;
  assert.deepEqual([base_id, file_flush_interval, drain_time, mode, stats_tag], ["3", "0.050s", "600s", "Serve", ["a:b"]]);
  assert.equal(info.node["id"], "node-1");
  assert.deepEqual((info.node["user_agent_build_version"] as { version: object }).version, { major_number: 1, minor_number: 40, patch: 0 });
  assert.ok(!JSON.stringify(info.node["extensions"]).includes("outrider.internal"));
});

test("/memory counts all threads, numbers as texts", async () => {
  const memory = await json<Record<string, string>>(fakeServer(), "/memory");
  assert.deepEqual(Object.keys(memory).sort(), ["allocated", "heap_size", "pageheap_free", "pageheap_unmapped", "total_physical_bytes", "total_thread_cache"]);
  for (const value of Object.values(memory)) assert.match(value, /^\d+$/);
  assert.match((await ask(fakeServer(), "/memory/tcmalloc")).body, /WORKER 0: +100 /);
});

test("/listeners", async () => {
  const server = fakeServer("", {
    listeners: () => [
      { name: "a", address: "127.0.0.1:1" },
      { name: "b", address: "[::1]:2" },
      { name: "c", address: "/tmp/x" },
    ],
  });
  assert.equal((await ask(server, "/listeners")).body, "a::127.0.0.1:1\nb::[::1]:2\nc::/tmp/x\n");
  assert.deepEqual(await json(server, "/listeners?format=json"), {
    listener_statuses: [
      { name: "a", local_address: { socket_address: { address: "127.0.0.1", port_value: 1 } } },
      { name: "b", local_address: { socket_address: { address: "::1", port_value: 2 } } },
      { name: "c", local_address: { pipe: { path: "/tmp/x" } } },
    ],
  });
  assert.deepEqual(await json(fakeServer("", { listeners: () => [] }), "/listeners?format=json"), {});
});

test("/init_dump", async () => {
  const unready = () => [{ name: "Cluster service", targets: ["dns"] }];
  const dump = { unready_targets_dumps: [{ name: "Cluster service", target_names: ["dns"] }] };
  assert.deepEqual(await json(fakeServer(), "/init_dump"), {});
  assert.deepEqual(await json(fakeServer("", { unready }), "/init_dump"), dump);
  assert.deepEqual(await json(fakeServer("", { unready }), "/init_dump?mask=cluster"), dump);
  assert.deepEqual(await json(fakeServer("", { unready }), "/init_dump?mask=listener"), {});
});

test("/clusters as text", async () => {
  const { body } = await ask(fakeServer(), "/clusters");
  const h = "service::127.0.0.1:8080::";
  assert.equal(
    body,
    [
      "service::observability_name::service",
      ...["default", "high"].flatMap((p) => [
        `service::${p}_priority::max_connections::1024`,
        `service::${p}_priority::max_pending_requests::1024`,
        `service::${p}_priority::max_requests::1024`,
        `service::${p}_priority::max_retries::3`,
      ]),
      "service::added_via_api::false",
      `${h}cx_active::1`,
      `${h}cx_connect_fail::0`,
      `${h}cx_total::1`,
      `${h}rq_active::0`,
      `${h}rq_error::1`,
      `${h}rq_pending_active::0`,
      `${h}rq_success::2`,
      `${h}rq_timeout::0`,
      `${h}rq_total::3`,
      `${h}hostname::`,
      `${h}health_flags::healthy`,
      `${h}weight::1`,
      `${h}region::`,
      `${h}zone::`,
      `${h}sub_zone::`,
      `${h}canary::false`,
      `${h}priority::0`,
      `${h}success_rate::-1`,
      `${h}local_origin_success_rate::-1`,
      "",
    ].join("\n"),
  );
});

test("/clusters: filter, order, flags, outlier rates, IPv6", async () => {
  const limits = { maxConnections: 1, maxPendingRequests: 2, maxRequests: 3, maxRetries: 4 };
  const cluster = (name: string, hosts = [fakeHost()]) => ({
    name,
    observabilityName: name,
    addedViaApi: false,
    circuitBreakers: { default: limits, high: limits },
    hosts,
  });
  const sick = fakeHost({ address: ipAddress("::1", 80), healthFlags: ["failed_outlier_check", "failed_active_hc"], successRate: 99.123456789 });
  const outlier = {
    successRateAverage: -1,
    successRateEjectionThreshold: 66.5,
    localOriginSuccessRateAverage: -1,
    localOriginSuccessRateEjectionThreshold: -1,
  };
  const server = fakeServer("", { clusters: () => [cluster("bb"), { ...cluster("aa", [sick]), outlier }] });
  const { body } = await ask(server, "/clusters?filter=^a");
  assert.doesNotMatch(body, /^bb/m);
  assert.match(body, /^aa::\[::1\]:80::health_flags::\/failed_active_hc\/failed_outlier_check$/m);
  assert.match(body, /^aa::\[::1\]:80::success_rate::99\.1235$/m);
  assert.match(body, /^aa::outlier::success_rate_average::-1\naa::outlier::success_rate_ejection_threshold::66\.5\n/m);
  const bad = await ask(server, "/clusters?filter=%5B");
  assert.deepEqual([bad.status, bad.body], [400, "Invalid re2 regex"]);
  const all = await json<{ cluster_statuses: { name: string; host_statuses: { health_status: object }[] }[] }>(server, "/clusters?format=json");
  assert.deepEqual(
    all.cluster_statuses.map((status) => status.name),
    ["aa", "bb"],
  );
  assert.deepEqual(all.cluster_statuses[0].host_statuses[0].health_status, {
    failed_active_health_check: true,
    failed_outlier_check: true,
    eds_health_status: "HEALTHY",
  });
  assert.deepEqual(await json(server, "/clusters?format=json&filter=zz"), {});
});

test("/logging sets one, several or all levels, or nothing", async () => {
  const server = fakeServer();
  assert.match((await ask(server, "/logging")).body, /^active loggers:\n {2}admin: \w+\n/);
  await ask(server, "/logging?upstream=debug");
  await ask(server, "/logging?paths=router:trace,http:warn&level=");
  await ask(server, "/logging?level=error");
  assert.deepEqual(server.calls.slice(0, 2), ["levels upstream=debug", "levels router=trace,http=warning"]);
  assert.equal(
    server.calls[2].split(",").every((change) => change.endsWith("=error")),
    true,
  );
  for (const [query, words] of [
    ["level=bogus", "unknown logger level"],
    ["nosuch=debug", "unknown logger name"],
    ["paths=router:debug,nosuch:info", "unknown logger name"],
    ["paths=router", "empty logger name or empty logger level"],
    ["group=router:debug", "group parameter requires fine-grain logging to be enabled"],
    ["a=b&c=d", "invalid number of parameters"],
  ]) {
    const { status, body } = await ask(server, `/logging?${query}`);
    assert.equal(status, 400);
    assert.ok(body.startsWith(`error: ${words}\n\nusage: `), body.slice(0, 80));
  }
  assert.equal(server.calls.length, 3);
  assert.ok(getLogger("admin").level);
});

test("/runtime and /runtime_modify", async () => {
  const server = fakeServer("layered_runtime: {layers: [{name: base, static_layer: {a: 1, b: {c: x}}}, {name: admin, admin_layer: {}}]}");
  await ask(server, "/runtime_modify?a=7&q=%41b&a=8");
  assert.deepEqual(await json(server, "/runtime"), {
    entries: {
      a: { final_value: "7", layer_values: ["1", "7"] },
      "b.c": { final_value: "x", layer_values: ["x", ""] },
      q: { final_value: "Ab", layer_values: ["", "Ab"] },
    },
    layers: ["base", "admin"],
  });
  const usage = await ask(server, "/runtime_modify");
  assert.equal(usage.status, 400);
  assert.match(usage.body, /^usage: \/runtime_modify\?key1=value1/);
  const without = await ask(fakeServer("layered_runtime: {layers: [{name: base, static_layer: {a: 1}}]}"), "/runtime_modify?a=b");
  assert.deepEqual([without.status, without.body], [503, "No admin layer specified: layered_runtime has no admin layer, which would hold these values"]);
});

test("/stats as text, by type, filter and use", async () => {
  const numbers = [
    { name: "a.count", kind: "counter", value: 3, used: true },
    { name: "b.level", kind: "gauge", value: 0, used: false },
    { name: "c.text", kind: "text_readout", value: "hello", used: true },
  ] as const;
  const histograms = [
    { name: "h.empty", used: false, interval: distribution(), cumulative: distribution() },
    {
      name: "h.time",
      used: true,
      interval: distribution(),
      cumulative: distribution({
        count: 3,
        quantileValues: [4.05, 46.166666666666664, 1, 1, 1, 1, 1, 1, 1, 50.5],
        countsBelow: [0, 1, 3],
        bins: [
          { lower: 4, width: 0.1, count: 1 },
          { lower: 46, width: 1, count: 2 },
        ],
      }),
    },
  ];
  const server = fakeServer("", { stats: fakeStats(numbers, histograms) });
  const quantiles = "P0(nan,4.05) P25(nan,46.166666666666664) P50(nan,1) P75(nan,1) P90(nan,1) P95(nan,1) P99(nan,1) P99.5(nan,1) P99.9(nan,1) P100(nan,50.5)";
  assert.equal((await ask(server, "/stats")).body, `a.count: 3\nb.level: 0\nc.text: "hello"\nh.empty: No recorded values\nh.time: ${quantiles}\n`);
  assert.equal((await ask(server, "/stats?usedonly&type=Gauges")).body, "");
  assert.equal((await ask(server, "/stats?filter=%5Ea")).body, "a.count: 3\n");
  assert.equal((await ask(server, "/stats?filter=%5Ea&invert_filter&type=Gauges")).body, "b.level: 0\n");
  assert.equal((await ask(server, "/stats?filter=time&histogram_buckets=cumulative")).body, "h.time: B0.5(0,0) B1(0,1) B1.8e+06(0,3)\n");
  assert.equal((await ask(server, "/stats?filter=time&histogram_buckets=disjoint")).body, "h.time: B0.5(0,0) B1(0,1) B1.8e+06(0,2)\n");
  assert.equal(
    (await ask(server, "/stats?filter=time&histogram_buckets=detailed")).body,
    `h.time:\n  totals=4,0.1:1, 46,1:2\n  intervals=\n  summary=${quantiles}\n`,
  );
  const html = await ask(server, "/stats?format=html");
  assert.match(html.body, /a\.count: 3/);
  assert.match(html.body, /<svg/);
  assert.match((await ask(server, "/stats?format=active-html")).body, /<script>/);
});

test("/stats as JSON, with and without histograms", async () => {
  const h = { name: "h", used: true, interval: distribution(), cumulative: distribution({ countsBelow: [1, 2, 2] }) };
  const server = fakeServer("", { stats: fakeStats([{ name: "a", kind: "counter", value: 3, used: true }], [h]) });
  assert.deepEqual(await json(server, "/stats?format=json&type=Counters"), { stats: [{ name: "a", value: 3 }] });
  assert.deepEqual(await json(server, "/stats?format=json&filter=none"), { stats: [] });
  const nothing = { cumulative: null, interval: null };
  const supported = [0, 25, 50, 75, 90, 95, 99, 99.5, 99.9, 100];
  assert.deepEqual(await json(server, "/stats?format=json"), {
    stats: [
      { name: "a", value: 3 },
      { histograms: { supported_quantiles: supported, computed_quantiles: [{ name: "h", values: supported.map(() => nothing) }] } },
    ],
  });
  assert.deepEqual(await json(server, "/stats?format=json&type=Histograms&histogram_buckets=disjoint"), {
    stats: [
      {
        histograms: [
          {
            name: "h",
            buckets: [
              { upper_bound: 0.5, interval: 0, cumulative: 1 },
              { upper_bound: 1, interval: 0, cumulative: 1 },
              { upper_bound: 1_800_000, interval: 0, cumulative: 0 },
            ],
          },
        ],
      },
    ],
  });
});

test("/stats refuses what it does not know", async () => {
  for (const [query, words] of [
    ["filter=%5B", "Invalid re2 regex: missing ]: ["],
    ["type=bogus", "invalid &type= param"],
    ["type=counters", "invalid &type= param"],
    ["format=bogus", "usage: /stats?format=(html|active-html|json|prometheus|text)\n\n"],
    ["histogram_buckets=bogus", "usage: /stats?histogram_buckets=(cumulative|disjoint|detailed|summary|prometheusnative)\n"],
    ["histogram_buckets=prometheusnative", "Invalid histogram_buckets type for non prometheus stats type"],
    ["format=prometheus&histogram_buckets=detailed", "unsupported prometheus histogram bucket mode"],
  ]) {
    const { status, body } = await ask(fakeServer(), `/stats?${query}`);
    assert.deepEqual([status, body], [400, words], query);
  }
  assert.equal((await ask(fakeServer(), "/stats?filter=&type=&format=&histogram_buckets=")).status, 200);
  assert.equal((await ask(fakeServer(), "/stats/prometheus?format=json")).body, "# TYPE envoy_a counter\nenvoy_a{} 1\n");
});

test("with stats_flush_on_admin, asking flushes", async () => {
  const server = fakeServer("stats_flush_on_admin: true");
  await ask(server, "/stats");
  assert.deepEqual(server.calls, ["flush"]);
});

test("/stats/recentlookups", async () => {
  const server = fakeServer("", { stats: fakeStats([{ name: "a", kind: "counter", value: 3, used: true }]) });
  assert.match((await ask(server, "/stats/recentlookups")).body, /^Lookup tracking is not enabled\. Use .*\n\ntotal: 1\n$/);
  await ask(server, "/stats/recentlookups/enable");
  assert.equal((await ask(server, "/stats/recentlookups")).body, "   Count Lookup\n\ntotal: 1\n");
  await ask(server, "/stats/recentlookups/clear");
  await ask(server, "/stats/recentlookups/disable");
  assert.match((await ask(server, "/stats/recentlookups")).body, /not enabled/);
});
