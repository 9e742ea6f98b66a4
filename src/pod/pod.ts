/**
 * The pod: web server, proxy and their logs under one supervisor, from ready to stopped.
 *
 * Order of things: take the run directory, end what a killed pod has left, find free ports, write configuration and service directories, supervise,
 * say when traffic is answered. To stop: the proxy drains and goes, then its log, the web server, its log; then what lives only as long as the pod
 * is removed.
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Scan } from "../supervise/scan.ts";
import type { Status } from "../supervise/service-directory.ts";
import { stamp } from "../supervise/tai64n.ts";
import { defaultPage } from "./default-page.ts";
import { lastLines } from "./last-lines.ts";
import { stopLeftovers } from "./leftovers.ts";
import { type Endpoint, formatEndpoint, type PodOptions } from "./options.ts";
import { choosePorts } from "./ports.ts";
import { drain, untilAnswered } from "./probe.ts";
import { type ProxyPorts, proxyConfig, reachable } from "./proxy-config.ts";
import { RunDirectory, SERVICES, type ServiceName } from "./run-directory.ts";
import { type Output, Screen } from "./screen.ts";
import { BIN, shellQuote, writeService, writeWhole } from "./service-files.ts";
import { chooseWebServer, type WebServer } from "./web-server.ts";

/** What does not end after TERM is killed this much later. */
const STOP_MS = 8000;
/** A service that ended this soon after its start has something to say in its log. */
const SHORT_RUN_MS = 5000;
/** The log writes what it gets at once; a busy machine may let it wait this long for its turn. */
const LOG_MS = 3000;
const LINES_SHOWN = 5;

interface Running {
  pid: number;
  startedAt: number;
  startStamp: string;
  probe: AbortController | undefined;
  isUp: boolean;
  /** Ends in a row without ever having answered. */
  failures: number;
}

export class Pod {
  readonly #options: PodOptions;
  readonly #screen: Screen;
  readonly #directory: RunDirectory;
  readonly #running: Record<ServiceName, Running>;
  #ports: ProxyPorts | undefined;
  #scan: Scan | undefined;
  #stopping = false;
  #isReady = false;
  readonly #hurry = new AbortController();
  #stopped: (() => void) | undefined;
  /** Resolves when everything is stopped and removed. */
  readonly stopped: Promise<void>;

  /** Takes the run directory, or throws a PodError. */
  constructor(options: PodOptions, output: Output) {
    this.#options = options;
    this.#screen = new Screen(output);
    this.#directory = new RunDirectory(options.directory);
    const nothing = (): Running => ({ pid: 0, startedAt: 0, startStamp: "", probe: undefined, isUp: false, failures: 0 });
    this.#running = { proxy: nothing(), web: nothing() };
    this.stopped = new Promise((resolve) => {
      this.#stopped = resolve;
    });
  }

  /** Starts everything; throws a PodError when it cannot. */
  async start(): Promise<void> {
    try {
      await stopLeftovers(this.#directory, (text) => this.#screen.event(text));
      const web = chooseWebServer(this.#options, this.#directory);
      const ports = await this.#choosePorts();
      this.#ports = ports;
      if (this.#stopping) {
        this.#finish();
        return;
      }
      this.#write(web, ports);
      this.#introduce(web, ports);
    } catch (error) {
      this.#directory.close();
      throw error;
    }
    this.#scan = new Scan({
      directory: this.#directory.services,
      ownGroups: true,
      onStatus: (name, status) => this.#onStatus(name, status),
      onEnd: (name, code, signal) => this.#onEnd(name, code, signal),
      onStopped: () => this.#finish(),
    });
    this.#scan.begin();
  }

  async #choosePorts(): Promise<ProxyPorts> {
    const { ingress, webPort, egressPort, admin } = this.#options;
    const [ingressPort, web, egress, adminPort] = await choosePorts([
      { name: "proxy's ingress", flag: "--ingress", endpoint: ingress },
      { name: "web server", flag: "--web-port", endpoint: webPort },
      { name: "proxy's egress", flag: "--egress-port", endpoint: egressPort },
      { name: "proxy's admin page", flag: "--admin", endpoint: admin },
    ]);
    return {
      ingress: { ...ingress, port: ingressPort },
      web: { ...webPort, port: web },
      egress: { ...egressPort, port: egress },
      admin: { ...admin, port: adminPort },
    };
  }

  #write(web: WebServer, ports: ProxyPorts): void {
    const directory = this.#directory;
    const log = { bytes: this.#options.logBytes, files: this.#options.logFiles };
    writeService(directory, "web", web.prepare(ports.web), log);
    if (web.root !== undefined && this.#options.root === undefined) {
      const page = defaultPage({ server: web.label, directory: directory.path, admin: reachable(ports.admin), egress: reachable(ports.egress) });
      writeFileSync(join(web.root, "index.html"), page, { mode: 0o644 });
    }
    writeWhole(join(directory.path, "envoy.yaml"), proxyConfig(ports, this.#options.egress), 0o644);
    const threads = this.#options.concurrency === undefined ? "" : ` --concurrency ${this.#options.concurrency}`;
    const script = [
      "# The proxy. Access log lines are passed on at once, so that none is lost even if it is killed.",
      "exec 2>&1",
      `exec ${shellQuote(join(BIN, "outrider"))} -c ${shellQuote(join(directory.path, "envoy.yaml"))} -l warn${threads} --disable-hot-restart --file-flush-min-size-kb 0`,
    ];
    writeService(directory, "proxy", script, log);
  }

  #introduce(web: WebServer, ports: ProxyPorts): void {
    const screen = this.#screen;
    if (web.note !== undefined) screen.event(`the embedded web server is used: ${web.note}`);
    const url = (endpoint: Endpoint): string => `http://${formatEndpoint(endpoint)}`;
    const { egress } = this.#options;
    const remote = egress === undefined ? "no remote service (--egress HOST:PORT)" : `${egress.tls ? "https://" : "http://"}${formatEndpoint(egress)}`;
    screen.add("web", [`${url(ports.web)}  ${web.label}${web.root === undefined ? "" : ` serving ${web.root}`}`]);
    screen.add("proxy", [`${url(ports.ingress)}  ingress, to the web server`, `${url(ports.egress)}  egress, to ${remote}`, `${url(ports.admin)}  admin`]);
    screen.add("logs", [join(this.#directory.path, "logs")]);
    screen.set("logs", "up");
  }

  #onStatus(name: string, status: Status): void {
    if (!isServiceName(name)) return;
    const running = this.#running[name];
    if (status.pid === running.pid) return;
    running.pid = status.pid;
    if (status.pid === 0) return;
    running.startedAt = performance.now();
    running.startStamp = stamp(status.since);
    running.isUp = false;
    this.#screen.set(name, "starting", `pid ${status.pid}`);
    void this.#watchStart(name, status.pid);
  }

  /** Says when what has started answers. */
  async #watchStart(name: ServiceName, pid: number): Promise<void> {
    const { ports, running } = { ports: this.#ports, running: this.#running[name] };
    if (ports === undefined) return;
    running.probe?.abort();
    const probe = new AbortController();
    running.probe = probe;
    const endpoint = reachable(name === "web" ? ports.web : ports.ingress);
    const isAnswering = await untilAnswered(endpoint, probe.signal);
    if (!isAnswering || running.pid !== pid || this.#stopping) return;
    running.isUp = true;
    running.failures = 0;
    this.#screen.set(name, "up", `pid ${pid}`);
    this.#screen.event(`${name} is up (pid ${pid})`);
    this.#announceReady(ports);
  }

  #announceReady(ports: ProxyPorts): void {
    if (this.#isReady || !SERVICES.every((name) => this.#running[name].isUp)) return;
    this.#isReady = true;
    this.#screen.printTable();
    this.#screen.line(`Ready: http://${formatEndpoint(reachable(ports.ingress))}/ answers. Ctrl-C stops everything.`);
  }

  #onEnd(name: string, code: number | null, signal: NodeJS.Signals | null): void {
    const how = signal === null ? `with code ${code ?? 0}` : `by ${signal}`;
    if (!isServiceName(name)) {
      if (!this.#stopping) this.#screen.event(`${name} ended ${how}; supervise starts it again`);
      return;
    }
    const running = this.#running[name];
    running.probe?.abort();
    if (this.#stopping) {
      this.#screen.set(name, "stopped");
      this.#screen.event(`${name} stopped`);
      return;
    }
    this.#screen.set(name, "ended", how);
    if (running.isUp) running.failures = 0;
    else running.failures++;
    // The same every second is no news.
    if (running.failures > 1) return;
    this.#screen.event(`${name} ended ${how} (pid ${running.pid}); supervise starts it again`);
    if (!running.isUp && performance.now() - running.startedAt < SHORT_RUN_MS) void this.#showLog(name, running.startStamp);
    running.isUp = false;
  }

  async #showLog(name: ServiceName, since: string): Promise<void> {
    const directory = this.#directory.logs(name);
    for (const line of await lastLines(directory, { count: LINES_SHOWN, since, waitMs: LOG_MS })) this.#screen.line(`    ${line}`);
    this.#screen.line(`    (${name} does not stay up; all of its log: ${join(directory, "current")})`);
  }

  /** Stops in order. Called again: without waiting for anything. */
  stop(why: string): void {
    if (this.#stopping) {
      this.#hurry.abort();
      this.#scan?.kill();
      return;
    }
    this.#stopping = true;
    const scan = this.#scan;
    if (scan === undefined) return; // `start` looks
    this.#screen.event(`${why}: stopping`);
    for (const name of SERVICES) {
      this.#running[name].probe?.abort();
      this.#screen.set(name, "stopping");
    }
    void this.#stopScan(scan);
  }

  async #stopScan(scan: Scan): Promise<void> {
    if (this.#ports !== undefined && this.#running.proxy.pid !== 0) {
      await drain(reachable(this.#ports.admin), this.#options.drainSeconds, this.#hurry.signal);
    }
    const timer = setInterval(() => scan.kill(), STOP_MS);
    void this.stopped.then(() => clearInterval(timer));
    scan.stop(SERVICES);
    if (this.#hurry.signal.aborted) scan.kill();
  }

  #finish(): void {
    this.#screen.set("logs", "stopped");
    this.#screen.close();
    this.#directory.close();
    this.#screen.line(`stopped; the logs are in ${join(this.#directory.path, "logs")}`);
    this.#stopped?.();
  }
}

function isServiceName(name: string): name is ServiceName {
  return (SERVICES as readonly string[]).includes(name);
}
