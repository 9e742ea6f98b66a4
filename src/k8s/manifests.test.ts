import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { fileURLToPath } from "node:url";
import { parse } from "yaml";

const root = fileURLToPath(new URL("../../", import.meta.url));
const outrider = join(root, "bin/outrider");
const scratch = mkdtempSync(join(tmpdir(), "outrider-k8s-"));
after(() => rmSync(scratch, { recursive: true, force: true }));

interface Container {
  readonly name: string;
  readonly args: readonly string[];
  readonly ports: readonly { readonly name: string; readonly containerPort: number }[];
}
interface Deployment {
  readonly metadata: { readonly namespace?: string };
  readonly spec: {
    readonly replicas: number;
    readonly template: {
      readonly metadata: object;
      readonly spec: { readonly initContainers: readonly Container[]; readonly containers: readonly Container[] };
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
  writeFileSync(broken, "static_resources: {}\n");
  assert.match(refused("--image", "shop", "--config", broken), /no listener that is reachable from outside/);
});
