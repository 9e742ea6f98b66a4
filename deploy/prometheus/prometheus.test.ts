/** The real Prometheus scrapes a proxy with the example's configuration; every rule and every panel of the dashboard is asked of it. */
import assert from "node:assert/strict";
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type Server } from "node:http";
import { type AddressInfo, createServer as createTcpServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { type Proxy as RunningProxy, start } from "../../src/api.ts";

const here = fileURLToPath(new URL("./", import.meta.url));
const hasPrometheus = spawnSync("prometheus", ["--version"]).status === 0;
const skip = hasPrometheus ? false : "prometheus is not installed (Debian: prometheus)";

interface Dashboard {
  readonly title: string;
  readonly templating: { readonly list: readonly { readonly name: string; readonly type: string; readonly definition?: string }[] };
  readonly panels: readonly {
    readonly title: string;
    readonly type: string;
    readonly description?: string;
    readonly targets?: readonly { readonly expr: string; readonly legendFormat: string }[];
  }[];
}
const dashboard = JSON.parse(readFileSync(join(here, "../grafana/outrider.json"), "utf8")) as Dashboard;

const typed = (name: string): string => `type.googleapis.com/envoy.extensions.${name}`;
const address = (port: number): object => ({ socket_address: { address: "127.0.0.1", port_value: port } });

async function startProxy(backendPort: number): Promise<RunningProxy> {
  const router = { name: "envoy.filters.http.router", typed_config: { "@type": typed("filters.http.router.v3.Router") } };
  const log = { name: "log", typed_config: { "@type": typed("access_loggers.file.v3.FileAccessLog"), path: "/dev/null" } };
  const manager = {
    "@type": typed("filters.network.http_connection_manager.v3.HttpConnectionManager"),
    stat_prefix: "ingress",
    access_log: [log],
    route_config: {
      virtual_hosts: [
        {
          name: "all",
          domains: ["*"],
          routes: [
            {
              match: { prefix: "/" },
              route: { cluster: "web", retry_policy: { retry_on: "5xx", num_retries: 1, retry_back_off: { base_interval: "0.001s" } } },
            },
          ],
        },
      ],
    },
    http_filters: [router],
  };
  return start({
    config: {
      admin: { address: address(0) },
      stats_flush_interval: "0.2s",
      static_resources: {
        listeners: [{ name: "ingress", address: address(0), filter_chains: [{ filters: [{ name: "http", typed_config: manager }] }] }],
        clusters: [{ name: "web", load_assignment: { cluster_name: "web", endpoints: [{ lb_endpoints: [{ endpoint: { address: address(backendPort) } }] }] } }],
      },
    },
  });
}

async function freePort(): Promise<number> {
  const server = createTcpServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

async function json<T>(url: string): Promise<T | undefined> {
  try {
    return (await (await fetch(url)).json()) as T;
  } catch {
    return undefined;
  }
}

async function until<T>(what: () => Promise<T | undefined>): Promise<T> {
  for (;;) {
    const found = await what();
    if (found !== undefined) return found;
    await sleep(100);
  }
}

interface Answer<T> {
  readonly status: string;
  readonly error?: string;
  readonly data: T;
}
type Series = readonly { readonly metric: object; readonly value: readonly [number, string] }[];

test("Prometheus scrapes the proxy, and rules and dashboard find what they ask for", { skip, timeout: 60_000 }, async (t) => {
  const scratch = mkdtempSync(join(tmpdir(), "outrider-prometheus-"));
  const backend: Server = createServer((request, response) => {
    response.statusCode = request.url === "/bad" ? 500 : 200;
    response.end("answer");
  });
  await once(backend.listen(0, "127.0.0.1"), "listening");
  const proxy = await startProxy((backend.address() as AddressInfo).port);
  const port = await freePort();
  const configuration = readFileSync(join(here, "prometheus.yml"), "utf8")
    .replace("a.service:9901", proxy.adminAddress ?? "")
    .replaceAll("interval: 15s", "interval: 500ms")
    .replace("outrider.rules.yml", join(here, "outrider.rules.yml"));
  writeFileSync(join(scratch, "prometheus.yml"), configuration);
  const flags = [`--config.file=${join(scratch, "prometheus.yml")}`, `--storage.tsdb.path=${join(scratch, "data")}`, `--web.listen-address=127.0.0.1:${port}`];
  const prometheus: ChildProcess = spawn("prometheus", flags, { stdio: ["ignore", "ignore", "pipe"], cwd: scratch });
  let said = "";
  prometheus.stderr?.on("data", (bytes) => {
    said += String(bytes);
  });
  let isDone = false;
  const traffic = (async () => {
    while (!isDone) {
      for (const path of ["/", "/", "/", "/bad"]) await fetch(`http://${proxy.address("ingress")}${path}`).then((response) => response.text());
      await sleep(50);
    }
  })();
  t.after(async () => {
    isDone = true;
    await traffic;
    const over = prometheus.exitCode === null ? once(prometheus, "exit") : undefined;
    prometheus.kill("SIGKILL");
    await over;
    await proxy.stop();
    backend.close();
    rmSync(scratch, { recursive: true, force: true });
  });

  const api = `http://127.0.0.1:${port}/api/v1`;
  const query = async (expression: string): Promise<Answer<{ readonly result: Series }>> => {
    const answer = await json<Answer<{ readonly result: Series }>>(`${api}/query?query=${encodeURIComponent(expression)}`);
    assert.ok(answer !== undefined, said);
    return answer;
  };
  /** What Prometheus has after some more looks and evaluations at most. */
  const has = async (expression: string): Promise<boolean> => {
    for (const end = performance.now() + 10_000; performance.now() < end; await sleep(100)) {
      const answer = await query(expression);
      assert.equal(answer.status, "success", `${expression}: ${answer.error}`);
      if (answer.data.result.length > 0) return true;
    }
    return false;
  };
  await until(async () => {
    assert.equal(prometheus.exitCode, null, said);
    const targets = await json<Answer<{ readonly activeTargets: readonly { readonly health: string; readonly lastError: string }[] }>>(`${api}/targets`);
    const target = targets?.data.activeTargets[0];
    assert.equal(target?.lastError ?? "", "");
    return target?.health === "up" ? target : undefined;
  });
  // A rate needs two looks at a counter that was there.
  await until(async () =>
    (await query('rate(envoy_http_downstream_rq_xx{envoy_response_code_class="5"}[10s]) > 0')).data.result.length > 0 ? true : undefined,
  );

  for (const variable of dashboard.templating.list) {
    if (variable.type !== "query") continue;
    const [, metric, label] = /^label_values\((\w+), (\w+)\)$/.exec(variable.definition ?? "") ?? assert.fail(variable.name);
    assert.ok(await has(`count by (${label}) (${metric})`), `variable ${variable.name}`);
  }
  let asked = 0;
  for (const panel of dashboard.panels) {
    if (panel.type === "row") continue;
    assert.ok((panel.description ?? "") !== "", `${panel.title} needs a description`);
    for (const { expr } of panel.targets ?? []) {
      const expression = expr.replaceAll("$__rate_interval", "10s").replaceAll(/\$(?:instance|manager|cluster)\b/g, ".*");
      assert.ok(await has(expression), `${panel.title}: nothing for ${expression}`);
      asked++;
    }
  }
  assert.ok(asked > 40);

  interface Rule {
    readonly name: string;
    readonly query: string;
    readonly health: string;
    readonly lastError?: string;
    readonly type: "alerting" | "recording";
    readonly state?: string;
  }
  const rules = await until(async () => {
    const groups = await json<Answer<{ readonly groups: readonly { readonly rules: readonly Rule[] }[] }>>(`${api}/rules`);
    const all = groups?.data.groups.flatMap((group) => group.rules) ?? [];
    return all.length > 0 && all.every(({ health }) => health !== "unknown") ? all : undefined;
  });
  for (const rule of rules) {
    assert.equal(rule.health, "ok", `${rule.name}: ${rule.lastError}`);
    if (rule.type === "recording") assert.ok(await has(rule.name), `nothing for ${rule.name}`);
    // An alert has nothing to say here, but what it looks at must be there.
    for (const metric of new Set(rule.query.replaceAll(/by \([^)]*\)|{{.*?}}/g, "").match(/\benvoy_\w+\b(?=[{[ )]|$)/gm)))
      if (rule.type === "alerting") assert.ok(await has(metric), `${rule.name}: there is no ${metric}`);
  }
});

test("promtool accepts configuration and rules", { skip }, () => {
  for (const args of [
    ["check", "config", "--syntax-only", join(here, "prometheus.yml")],
    ["check", "rules", join(here, "outrider.rules.yml")],
    ["test", "rules", join(here, "outrider.rules.test.yml")],
  ]) {
    const { status, stdout, stderr } = spawnSync("promtool", args, { encoding: "utf8" });
    assert.equal(status, 0, stdout + stderr);
  }
  const { scrape_configs: jobs } = parse(readFileSync(join(here, "kubernetes.yml"), "utf8")) as { scrape_configs: readonly { readonly job_name: string }[] };
  assert.deepEqual(
    jobs.map((job) => job.job_name),
    ["outrider-pods"],
  );
});
