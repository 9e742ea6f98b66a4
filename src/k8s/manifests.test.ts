import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { once } from "node:events";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { type AddressInfo, createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";
import { start } from "../api.ts";
import { probeConfig } from "./sidecar-config.ts";

const root = fileURLToPath(new URL("../../", import.meta.url));
const outrider = join(root, "bin/outrider");
const scratch = mkdtempSync(join(tmpdir(), "outrider-k8s-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

interface Container {
  readonly name: string;
  readonly args: readonly string[];
  readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
  readonly lifecycle: { readonly preStop: { readonly sleep?: { readonly seconds: number }; readonly exec?: { readonly command: readonly string[] } } };
  readonly livenessProbe?: { readonly httpGet: { readonly path: string } };
}
interface Deployment {
  readonly metadata: { readonly namespace?: string };
  readonly spec: {
    readonly replicas: number;
    readonly template: {
      readonly metadata: object;
      readonly spec: {
        readonly terminationGracePeriodSeconds: number;
        readonly initContainers: readonly Container[];
        readonly containers: readonly Container[];
      };
    };
  };
}

let count = 0;
/** The documents by file name. */
function generate(...args: string[]): Record<string, unknown> {
  const folder = join(scratch, `out${++count}`);
  const { status, stderr } = spawnSync(outrider, ["k8s", "--image", "example.test/shop:1.2", "--output", folder, ...args], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  return Object.fromEntries(readdirSync(folder).map((name) => [name, parse(readFileSync(join(folder, name), "utf8"))]));
}

function refused(...args: string[]): string {
  const { status, stdout, stderr } = spawnSync(outrider, ["k8s", ...args], { encoding: "utf8" });
  assert.deepEqual([status, stdout], [1, ""], args.join(" "));
  return stderr;
}

async function freePort(): Promise<number> {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address() as AddressInfo;
  server.close();
  await once(server, "close");
  return port;
}

/** Python's kubernetes-validate brings the schemas of all versions; .ci/run installs it. */
const python = { ...process.env, PYTHONPATH: join(root, ".cache/python") };
const hasSchemas = spawnSync("python3", ["-c", "import kubernetes_validate"], { env: python }).status === 0;

const configuration = join(scratch, "mine.yaml");
writeFileSync(
  configuration,
  `# mine
admin: { address: { socket_address: { address: 127.0.0.1, port_value: 19001 } } }
static_resources:
  listeners:
  - name: out
    traffic_direction: OUTBOUND
    address: { socket_address: { address: 0.0.0.0, port_value: 7001 } }
    filter_chains: [{ filters: [{ name: echo, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo } }] }]
  - name: in
    address: { socket_address: { address: 0.0.0.0, port_value: 7002 } }
    filter_chains: [{ filters: [{ name: echo, typed_config: { "@type": type.googleapis.com/envoy.extensions.filters.network.echo.v3.Echo } }] }]
`,
);

test("the manifests fit the schemas of Kubernetes", {
  skip: hasSchemas ? false : "python3 has no kubernetes-validate (pip install --target .cache/python kubernetes-validate)",
}, () => {
  const check = `
import sys, yaml, kubernetes_validate
from kubernetes_validate.utils import latest_version
for path in sys.argv[1:]:
    for document in yaml.safe_load_all(open(path)):
        if document["kind"] == "PodMonitor": continue  # not Kubernetes' own
        for version in ("1.30", latest_version()):
            kubernetes_validate.validate(document, version, strict=True)
`;
  for (const args of [[], ["--namespace", "shops", "--replicas", "1", "--monitor", "podmonitor", "--web-root", "--config", configuration]]) {
    const folder = join(scratch, `schema${args.length}`);
    assert.equal(spawnSync(outrider, ["k8s", "--image", "shop", "--output", folder, ...args]).status, 0);
    const files = readdirSync(folder).map((name) => join(folder, name));
    const { status, stderr } = spawnSync("python3", ["-c", check, ...files], { env: python, encoding: "utf8" });
    assert.equal(status, 0, stderr);
  }
});

test("a pod of web server and sidecar, with all that belongs to it", () => {
  const files = generate("--name", "shop", "--port", "8080");
  assert.deepEqual(Object.keys(files).sort(), ["configmap.yaml", "deployment.yaml", "poddisruptionbudget.yaml", "service.yaml"]);
  const { initContainers, containers } = (files["deployment.yaml"] as Deployment).spec.template.spec;
  assert.deepEqual([initContainers[0].name, containers[0].name], ["outrider", "web"]);
  assert.deepEqual(containers[0].ports, [{ name: "web", containerPort: 8080 }]);
  assert.match((files["configmap.yaml"] as { data: { "envoy.yaml": string } }).data["envoy.yaml"], /port_value: 8080/);
  assert.match(JSON.stringify((files["deployment.yaml"] as Deployment).spec.template.metadata), /prometheus.io\/scrape":"true/);
});

test("the configuration goes in as it is, and the proxy takes it with what is merged over it", () => {
  const files = generate("--config", configuration, "--monitor", "podmonitor", "--replicas", "1");
  assert.equal((files["configmap.yaml"] as { data: { "envoy.yaml": string } }).data["envoy.yaml"], readFileSync(configuration, "utf8"));
  const deployment = files["deployment.yaml"] as Deployment;
  const [proxy] = deployment.spec.template.spec.initContainers;
  assert.deepEqual(
    proxy.ports.map(({ containerPort }) => containerPort),
    [7002, 9902],
    "what is OUTBOUND or on loopback is no port of the pod",
  );
  assert.equal(deployment.spec.replicas, 1);
  assert.ok(!("poddisruptionbudget.yaml" in files) && "podmonitor.yaml" in files);
  const args = proxy.args.map((word) => (word === "/etc/outrider/envoy.yaml" ? configuration : word));
  const { status, stderr } = spawnSync(outrider, [...args, "--mode", "validate"], { encoding: "utf8" });
  assert.equal(status, 0, stderr);
  assert.match(args.join(" "), /"port_value":19001/, "probes ask the admin interface where it is");
  assert.match((proxy.lifecycle.preStop.exec?.command ?? []).join(" "), /drain --admin 127\.0\.0\.1:19001 /, "and so does the hook at its end");
});

test("at a pod's end, when all hooks begin at once, the proxy listens on for a while and the web server outlives what is in flight", () => {
  const { spec } = (generate()["deployment.yaml"] as Deployment).spec.template;
  const command = spec.initContainers[0].lifecycle.preStop.exec?.command ?? [];
  const seconds = (flag: string): number => Number(command[command.indexOf(flag) + 1]);
  const sleep = spec.containers[0].lifecycle.preStop.sleep?.seconds ?? 0;
  assert.ok(seconds("--grace") >= 5, "load balancers need time to hear of it");
  assert.ok(sleep >= seconds("--timeout") && seconds("--timeout") > seconds("--grace"));
  assert.ok(spec.terminationGracePeriodSeconds > sleep);
});

test("the proxy's own port for probes answers what it should, and keeps to itself what it should", async () => {
  const admin = { address: "127.0.0.1", port: await freePort() };
  const config = JSON.parse(JSON.stringify(probeConfig(admin)).replace('"0.0.0.0","port_value":9902', '"127.0.0.1","port_value":0')) as object;
  const proxy = await start({ config: { ...config, admin: { address: { socket_address: { address: admin.address, port_value: admin.port } } } } });
  try {
    const get = async (path: string): Promise<number> => (await fetch(`http://${proxy.address("outrider_probe")}${path}`)).status;
    assert.deepEqual([await get("/ready"), await get("/live"), await get("/stats/prometheus")], [200, 200, 200]);
    for (const path of ["/", "/quitquitquit", "/config_dump", "/stats", "/live/x"]) assert.equal(await get(path), 404, path);
  } finally {
    await proxy.stop();
  }
});

test("ports that need a privilege get it, for the pod's network only", () => {
  const privileged = join(scratch, "privileged.yaml");
  writeFileSync(privileged, readFileSync(configuration, "utf8").replace("7002", "443"));
  assert.match(
    JSON.stringify(generate("--config", privileged)["deployment.yaml"]),
    /"sysctls":\[\{"name":"net.ipv4.ip_unprivileged_port_start","value":"0"\}\]/,
  );
  assert.doesNotMatch(JSON.stringify(generate()["deployment.yaml"]), /sysctls/);
});

test("what cannot work is refused before it is applied", () => {
  assert.match(refused(), /--image is needed/);
  assert.match(refused("--image", "a b"), /is no name of an image/);
  assert.match(refused("--image", "shop", "--name", "Shop!"), /is no DNS label/);
  assert.match(refused("--image", "shop", "--port", "10000"), /--port 10000 is a port of the proxy, too/);
  assert.match(refused("--image", "shop", "--config", join(scratch, "none.yaml")), /cannot read .*ENOENT/);
  const broken = join(scratch, "broken.yaml");
  writeFileSync(broken, "static_resources: { listener: [] }\n");
  assert.match(refused("--image", "shop", "--config", broken), /unknown field "listener".*\n *--> .*broken.yaml:1:/);
  writeFileSync(broken, `# ${"x".repeat(1 << 20)}\nstatic_resources: {}\n`);
  assert.match(refused("--image", "shop", "--config", broken), /1048600 bytes; a ConfigMap takes 1 MiB/);
  writeFileSync(broken, "static_resources: {}\n");
  assert.match(refused("--image", "shop", "--config", broken), /no listener that is reachable from outside/);
});
