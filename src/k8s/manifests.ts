/**
 * Manifests for a web server with Outrider beside it as a native sidecar (an init container that is always restarted: Kubernetes 1.29). Pure: objects in,
 * objects out. docs/containers.md says why each part is there.
 */
import { type AdminAddress, PROBE_PORT, probeConfig } from "./sidecar-config.ts";

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
/** Load balancers hear of a pod's end while it still serves; the web server waits for them, then the proxy for what is in flight. */
const NOTICE_SECONDS = 10;
const DRAIN_SECONDS = 20;
const SPARE_SECONDS = 10;
/** Of the image; any other that is not root does as well. */
const USER = 10001;
const CONFIG_FOLDER = "/etc/outrider";

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

function podSpec(options: ManifestOptions, probe: string): object {
  const locked = { allowPrivilegeEscalation: false, capabilities: { drop: ["ALL"] } };
  return {
    terminationGracePeriodSeconds: NOTICE_SECONDS + DRAIN_SECONDS + SPARE_SECONDS,
    securityContext: { seccompProfile: { type: "RuntimeDefault" } },
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
        // A proxy that drains says that it is not ready: only one that has been silent for a minute is dead.
        livenessProbe: { httpGet: { path: "/ready", port: "probe" }, periodSeconds: 10, timeoutSeconds: 3, failureThreshold: 6 },
        lifecycle: { preStop: { exec: { command: ["outrider", "drain", "--grace", "0", "--timeout", String(DRAIN_SECONDS)] } } },
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
        // New requests come until load balancers have heard of the end.
        lifecycle: { preStop: { sleep: { seconds: NOTICE_SECONDS } } },
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
