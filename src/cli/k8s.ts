/** `outrider k8s`: writes manifests for a web server with the proxy beside it. */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { stringify } from "yaml";
import { printFindings } from "../config/print-findings.ts";
import type { Bootstrap } from "../config/schema/types/envoy.config.bootstrap.v3.d.ts";
import { type Manifest, type ManifestOptions, manifests, probeArgument } from "../k8s/manifests.ts";
import { type AdminAddress, PROBE_PORT, plainConfig } from "../k8s/sidecar-config.ts";
import { isLoopback, parseAddressMessage } from "../net/address.ts";
import { prepare } from "../server/prepare.ts";
import { outriderVersion } from "../server/version.ts";
import { flagsHelp, parseFlags, type VerbFlag } from "./flags.ts";
import { defaultOptions } from "./options.ts";

export const FLAGS: readonly VerbFlag[] = [
  { name: "image", value: "IMAGE", help: "the web server's image (required)" },
  { name: "name", value: "NAME", help: "what everything is called (default web)" },
  { name: "namespace", value: "NAME", help: "default: the one they are applied to" },
  { name: "port", value: "PORT", help: "the port that the web server listens on (default 8000)" },
  { name: "config", value: "FILE", help: "the proxy's configuration (default: port 10000 to the web server)" },
  { name: "replicas", value: "N", help: "pods (default 2)" },
  { name: "service-port", value: "PORT", help: "the service's port (default 80)" },
  { name: "proxy-image", value: "IMAGE", help: `Outrider's image (default outrider:${outriderVersion()})` },
  { name: "monitor", value: "HOW", values: ["annotations", "podmonitor", "none"], help: "how Prometheus finds the pods (default annotations)" },
  { name: "web-root", help: "the web server's image runs as root" },
  { name: "output", short: "o", value: "DIR", help: "one file each in this folder (default: all to standard output)" },
];
/** Of a ConfigMap with all its data: 1 MiB, less some room for the rest of it. */
const MOST_CONFIG_BYTES = 1_040_000;
const USAGE = "usage: outrider k8s --image IMAGE [--name NAME] [--port PORT] [--config FILE] [...]\n";

export async function k8s(argv: string[]): Promise<number> {
  const parsed = parseFlags(FLAGS, argv);
  const fail = (why: string): number => {
    process.stderr.write(`k8s: ${why}\n${USAGE}`);
    return 1;
  };
  if (parsed.kind === "error") return fail(parsed.text);
  if (parsed.words.length > 0) return fail(`takes no '${parsed.words[0]}'`);
  const { given } = parsed;
  if (given["help"] !== undefined) {
    process.stdout.write(
      `${USAGE}\nWrites Kubernetes manifests for a web server with Outrider beside it as a native sidecar (Kubernetes 1.30 or newer).\n\n${flagsHelp(FLAGS)}`,
    );
    return 0;
  }
  const text = (name: string, otherwise: string): string => String(given[name] ?? otherwise);
  const number = (name: string, otherwise: number, most: number): number => {
    const found = text(name, String(otherwise));
    return /^[0-9]{1,6}$/.test(found) && Number(found) >= 1 && Number(found) <= most ? Number(found) : -1;
  };
  const image = text("image", "");
  if (!isImage(image)) return fail(image === "" ? "--image is needed: the web server's image" : `--image '${image}' is no name of an image`);
  const proxyImage = text("proxy-image", `outrider:${outriderVersion()}`);
  if (!isImage(proxyImage)) return fail(`--proxy-image '${proxyImage}' is no name of an image`);
  for (const name of ["name", "namespace"]) {
    const label = text(name, "web");
    // Short enough for what is added to it.
    if (!/^[a-z]([a-z0-9-]{0,50}[a-z0-9])?$/.test(label)) return fail(`--${name} '${label}' is no DNS label: lower-case letters, digits and dashes, up to 52`);
  }
  const [webPort, servicePort, replicas] = [number("port", 8000, 65535), number("service-port", 80, 65535), number("replicas", 2, 10_000)];
  if (webPort < 0) return fail(`--port '${text("port", "")}' is no port`);
  if (servicePort < 0) return fail(`--service-port '${text("service-port", "")}' is no port`);
  if (replicas < 0) return fail(`--replicas '${text("replicas", "")}' is no number from 1 on`);

  let config = plainConfig(webPort);
  const path = given["config"];
  if (typeof path === "string") {
    try {
      config = readFileSync(path, "utf8");
    } catch (error) {
      return fail(`cannot read ${path}: ${(error as NodeJS.ErrnoException).code ?? (error as Error).message}`);
    }
    if (!/\.ya?ml$/.test(path)) return fail(`--config ${path}: a YAML file is needed (JSON is YAML, too: rename it)`);
    const bytes = Buffer.byteLength(config);
    if (bytes > MOST_CONFIG_BYTES)
      return fail(`--config ${path}: ${bytes} bytes; a ConfigMap takes 1 MiB (move routes or clusters to files for RDS or CDS, in a ConfigMap of their own)`);
  }
  const options = typeof path === "string" ? { configPath: path } : { configYaml: config };
  const { prepared, findings } = await prepare({ ...defaultOptions(), ...options });
  if (findings.length > 0) process.stderr.write(printFindings(findings, { format: "text", color: process.stderr.isTTY }));
  if (prepared === undefined) return 1;
  const admin = adminAddress(prepared.bootstrap);
  if (admin === "unix") return fail("the configuration has its admin interface on a Unix socket: probes need it on a port of loopback");
  const ingressPorts = ingressOf(prepared.bootstrap);
  if (ingressPorts.length === 0) return fail("the configuration has no listener that is reachable from outside the pod (a TCP port on 0.0.0.0, not OUTBOUND)");
  const taken = [...ingressPorts.map(({ port }) => port), PROBE_PORT, admin?.port ?? 9901];
  if (taken.includes(webPort)) return fail(`--port ${webPort} is a port of the proxy, too: containers of a pod share their ports`);
  if (new Set(taken).size !== taken.length) return fail(`ports ${taken.join(", ")}: one of the configuration's is that of the probes (${PROBE_PORT})`);

  const manifest: ManifestOptions = {
    name: text("name", "web"),
    namespace: given["namespace"] === undefined ? undefined : text("namespace", ""),
    image,
    webPort,
    webRoot: given["web-root"] !== undefined,
    proxyImage,
    replicas,
    servicePort,
    monitor: text("monitor", "annotations") as ManifestOptions["monitor"],
    config,
    admin,
    ingressPorts,
  };
  return write(manifests(manifest, probeArgument(manifest)), given["output"]);
}

/** NAME, HOST/NAME, with :TAG or @DIGEST. */
function isImage(text: string): boolean {
  return text.length <= 512 && /^[a-z0-9]+(?:[._:/-]+[A-Za-z0-9]+)*(?:@sha256:[0-9a-f]{64})?$/.test(text);
}

function adminAddress(bootstrap: Bootstrap): AdminAddress | "unix" | undefined {
  if (bootstrap.admin?.address === undefined) return undefined;
  const address = parseAddressMessage(bootstrap.admin.address);
  return address?.kind === "ip" ? { address: address.ip, port: address.port } : "unix";
}

/** Listeners that take traffic from outside, with a name that Kubernetes takes for a port. */
function ingressOf(bootstrap: Bootstrap): { name: string; port: number }[] {
  const ports: { name: string; port: number }[] = [];
  for (const listener of bootstrap.staticResources?.listeners ?? []) {
    const address = parseAddressMessage(listener.address);
    if (address?.kind !== "ip" || address.port === 0 || isLoopback(address) || listener.trafficDirection === 2) continue;
    ports.push({ name: `p${address.port}`, port: address.port });
  }
  return ports;
}

function write(documents: readonly Manifest[], folder: string | true | undefined): number {
  const yaml = (document: Manifest): string => stringify(document, { lineWidth: 0, aliasDuplicateObjects: false });
  if (typeof folder !== "string") {
    process.stdout.write(documents.map(yaml).join("---\n"));
    return 0;
  }
  try {
    mkdirSync(folder, { recursive: true });
    for (const document of documents) {
      const path = join(folder, `${document.kind.toLowerCase()}.yaml`);
      writeFileSync(path, yaml(document));
      process.stdout.write(`${path}\n`);
    }
    return 0;
  } catch (error) {
    process.stderr.write(`k8s: cannot write to ${folder}: ${(error as Error).message}\n`);
    return 1;
  }
}
