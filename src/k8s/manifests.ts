/**
 * Manifests for a web server with Outrider beside it as a native sidecar (an init container that is always restarted: Kubernetes 1.29). Pure: objects in,
 * objects out. docs/containers.md says why each part is there.
 */
import { type AdminAddress, adminWithinPod, PROBE_PORT, probeConfig } from "./sidecar-config.ts";

export interface ManifestOptions {
  /** A DNS label; everything is called so. */
  readonly name: string;
  /** Undefined: whatever namespace they are applied to. */
  readonly namespace: string | undefined;
  /** The web server's image. */
  readonly image: string;
  /** The port that it listens on. */
  readonly webPort: number;
  /** It needs root inside its container. */
  readonly webRoot: boolean;
  readonly proxyImage: string;
  readonly replicas: number;
  readonly servicePort: number;
  readonly monitor: "annotations" | "podmonitor" | "none";
  /** envoy.yaml, as it is. */
  readonly config: string;
  readonly admin: AdminAddress | undefined;
  /** Ports that the configuration lets traffic in by; the first is the service's. */
  readonly ingressPorts: readonly { readonly name: string; readonly port: number }[];
}

export interface Manifest {
  readonly apiVersion: string;
  readonly kind: string;
  readonly metadata: { readonly name: string; readonly namespace?: string; readonly labels: Readonly<Record<string, string>> };
}

const METRICS_PATH = "/stats/prometheus";
/**
 * At a pod's end the preStop hooks of all its containers begin at once, a sidecar's as well: only TERM waits for its turn. So the proxy's hook gives load
 * balancers this time to hear of the end before it stops listening, then waits for what is in flight; and the web server's lasts as long as both, since
 * until then there may be requests on their way to it.
 */
const NOTICE_SECONDS = 10;
const DRAIN_SECONDS = 20;
/** For the web server to end after TERM, then the proxy. */
const SPARE_SECONDS = 10;
/** Of the image; any other that is not root does as well. */
const USER = 10001;
const CONFIG_FOLDER = "/etc/outrider";
/** Ports below need a privilege. */
const FIRST_FREE_PORT = 1024;

export function manifests(options: ManifestOptions, probe: string): Manifest[] {
  const { name, namespace } = options;
  const selector = { "app.kubernetes.io/name": name };
  const labels = { ...selector, "app.kubernetes.io/managed-by": "outrider" };
  const metadata = { name, ...(namespace !== undefined && { namespace }), labels };
  const documents: object[] = [
    { apiVersion: "v1", kind: "ConfigMap", metadata: { ...metadata, name: `${name}-proxy` }, data: { "envoy.yaml": options.config } },
    {
      apiVersion: "apps/v1",
      kind: "Deployment",
      metadata,
      spec: {
        replicas: options.replicas,
        selector: { matchLabels: selector },
        strategy: { type: "RollingUpdate", rollingUpdate: { maxUnavailable: 0, maxSurge: 1 } },
        template: {
          metadata: {
            labels,
            ...(options.monitor === "annotations" && {
              annotations: { "prometheus.io/scrape": "true", "prometheus.io/port": String(PROBE_PORT), "prometheus.io/path": METRICS_PATH },
            }),
          },
          spec: podSpec(options, probe),
        },
      },
    },
    {
      apiVersion: "v1",
      kind: "Service",
      metadata,
      spec: {
        selector,
        ports: options.ingressPorts.slice(0, 1).map((port) => ({ name: "http", port: options.servicePort, targetPort: port.name, protocol: "TCP" })),
      },
    },
  ];
  if (options.replicas > 1)
    documents.push({ apiVersion: "policy/v1", kind: "PodDisruptionBudget", metadata, spec: { maxUnavailable: 1, selector: { matchLabels: selector } } });
  if (options.monitor === "podmonitor")
    documents.push({
      apiVersion: "monitoring.coreos.com/v1",
      kind: "PodMonitor",
      metadata,
      spec: { selector: { matchLabels: selector }, podMetricsEndpoints: [{ port: "probe", path: METRICS_PATH, interval: "15s" }] },
    });
  return documents as Manifest[];
}

/** What --config-yaml gets: the listener for probes. */
export function probeArgument(options: Pick<ManifestOptions, "admin">): string {
  return JSON.stringify(probeConfig(options.admin));
}

function drainCommand(options: ManifestOptions): string[] {
  const { address, port } = adminWithinPod(options.admin);
  const admin = `${address.includes(":") ? `[${address}]` : address}:${port}`;
  return ["outrider", "drain", "--admin", admin, "--grace", String(NOTICE_SECONDS), "--timeout", String(NOTICE_SECONDS + DRAIN_SECONDS)];
}

function podSpec(options: ManifestOptions, probe: string): object {
  const locked = { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } };
  return {
    terminationGracePeriodSeconds: NOTICE_SECONDS + DRAIN_SECONDS + SPARE_SECONDS,
    securityContext: {
      seccompProfile: { type: "RuntimeDefault" },
      // For the pod's network only; one of the settings that Kubernetes counts as safe.
      ...(options.ingressPorts.some(({ port }) => port < FIRST_FREE_PORT) && { sysctls: [{ name: "net.ipv4.ip_unprivileged_port_start", value: "0" }] }),
    },
    automountServiceAccountToken: false,
    initContainers: [
      {
        name: "outrider",
        image: options.proxyImage,
        // Started before the web server and ended after it: neither is ever without the other.
        restartPolicy: "Always",
        command: ["outrider"],
        args: ["-c", `${CONFIG_FOLDER}/envoy.yaml`, "--config-yaml", probe, "--watch", "-l", "warn", "--concurrency", "1", "--disable-hot-restart"],
        ports: [...options.ingressPorts.map(({ name, port }) => ({ name, containerPort: port })), { name: "probe", containerPort: PROBE_PORT }],
        startupProbe: { httpGet: { path: "/ready", port: "probe" }, periodSeconds: 1, failureThreshold: 60 },
        readinessProbe: { httpGet: { path: "/ready", port: "probe" }, periodSeconds: 5, failureThreshold: 2 },
        // Not /ready: a proxy that was taken out of service on purpose is not dead. One that has been silent for a minute is.
        livenessProbe: { httpGet: { path: "/live", port: "probe" }, periodSeconds: 10, timeoutSeconds: 3, failureThreshold: 6 },
        lifecycle: { preStop: { exec: { command: drainCommand(options) } } },
        resources: { requests: { cpu: "100m", memory: "96Mi" }, limits: { memory: "256Mi" } },
        securityContext: { ...locked, runAsNonRoot: true, runAsUser: USER, runAsGroup: USER, readOnlyRootFilesystem: true },
        volumeMounts: [
          { name: "config", mountPath: CONFIG_FOLDER, readOnly: true },
          { name: "run", mountPath: "/run/outrider" },
        ],
      },
    ],
    containers: [
      {
        name: "web",
        image: options.image,
        ports: [{ name: "web", containerPort: options.webPort }],
        readinessProbe: { tcpSocket: { port: "web" }, periodSeconds: 5 },
        lifecycle: { preStop: { sleep: { seconds: NOTICE_SECONDS + DRAIN_SECONDS } } },
        resources: { requests: { cpu: "100m", memory: "64Mi" } },
        securityContext: { ...locked, ...(!options.webRoot && { runAsNonRoot: true }) },
      },
    ],
    volumes: [
      { name: "config", configMap: { name: `${options.name}-proxy` } },
      { name: "run", emptyDir: { medium: "Memory", sizeLimit: "32Mi" } },
    ],
  };
}
