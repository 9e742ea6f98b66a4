/**
 * Watches over a directory of service directories: one Supervisor for each, one more and a pipe for its `log`. All live in this process, which
 * a look at svc, svstat or the files cannot tell from one supervise process each.
 */
import { type FSWatcher, readdirSync, type Stats, statSync, watch } from "node:fs";
import { join } from "node:path";
import { pinDirectory } from "../os/pinned-directory.ts";
import { type LogPipe, openLogPipe } from "./log-pipe.ts";
import { errorCode, reason, warn } from "./messages.ts";
import type { Status } from "./service-directory.ts";
import { SuperviseError } from "./status-files.ts";
import { Supervisor } from "./supervisor.ts";

/** A pass comes at least this soon after trouble or the end of a supervisor, milliseconds. */
const RETRY_MS = 5000;
/** A new entry gets this long to be filled before it is looked at. */
const SETTLE_MS = 500;
const MAX_SERVICES = 1000;
const MAX_LOGGED_NAME_BYTES = 255;

export interface ScanOptions {
  readonly directory: string;
  /** Every service in a session of its own: see SupervisorOptions. */
  readonly ownGroups?: boolean;
  /** Every change of a service's or log's status; `name` is NAME or NAME/log. */
  onStatus?(name: string, status: Status): void;
  /** Code and signal both null: the service had been adopted, so nobody knows. */
  onEnd?(name: string, code: number | null, signal: NodeJS.Signals | null): void;
  /** After `stop`: every supervisor is closed. */
  onStopped?(): void;
}

interface Service {
  readonly id: string;
  name: string;
  seen: boolean;
  main: Supervisor | undefined;
  log: Supervisor | undefined;
  pipe: LogPipe | undefined;
  watcher: FSWatcher | undefined;
  /** When a supervisor may be tried again, `performance.now()`. */
  mainFrom: number;
  logFrom: number;
}

export class Scan {
  readonly #options: ScanOptions;
  readonly #services = new Map<string, Service>();
  #watcher: FSWatcher | undefined;
  #timer: NodeJS.Timeout | undefined;
  #due = Number.POSITIVE_INFINITY;
  #stopping = false;
  #stopOrder: string[] = [];
  #isTelling = false;
  #hurry = false;
  readonly #toldToStop = new Set<Supervisor>();
  #stopped = false;

  constructor(options: ScanOptions) {
    this.#options = options;
  }

  /** First pass, then one whenever something changes. */
  begin(): void {
    try {
      this.#watcher = watch(this.#options.directory, { persistent: true }, () => this.#passWithin(SETTLE_MS));
      this.#watcher.on("error", () => this.#loseWatcher());
    } catch {
      this.#watcher = undefined; // passes every five seconds instead
    }
    this.pass();
  }

  #loseWatcher(): void {
    this.#watcher?.close();
    this.#watcher = undefined;
    this.#passWithin(RETRY_MS);
  }

  #passWithin(ms: number): void {
    if (this.#stopping) return;
    const due = performance.now() + ms;
    if (due >= this.#due) return;
    this.#due = due;
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.pass(), ms);
  }

  /** Looks at the directory now. */
  pass(): void {
    if (this.#stopping) return;
    clearTimeout(this.#timer);
    this.#due = Number.POSITIVE_INFINITY;
    for (const service of this.#services.values()) service.seen = false;
    let names: string[];
    try {
      names = readdirSync(this.#options.directory);
    } catch (error) {
      warn("svscan", "unable to read directory", error);
      this.#passWithin(RETRY_MS);
      return;
    }
    for (const name of names.sort()) if (!name.startsWith(".")) this.#look(name);
    for (const service of this.#services.values()) this.#care(service);
    if (this.#watcher === undefined) this.#passWithin(RETRY_MS);
  }

  #look(name: string): void {
    let stats: Stats;
    try {
      stats = statSync(join(this.#options.directory, name));
    } catch (error) {
      this.#trouble(`unable to stat ${name}`, error);
      return;
    }
    if (!stats.isDirectory()) return;
    const id = `${stats.dev}:${stats.ino}`;
    const known = this.#services.get(id);
    if (known !== undefined) {
      if (!known.seen) known.name = name;
      known.seen = true;
      return;
    }
    if (this.#services.size >= MAX_SERVICES) {
      this.#trouble(`unable to start ${name}: running too many services`);
      return;
    }
    const service: Service = { id, name, seen: true, main: undefined, log: undefined, pipe: undefined, watcher: undefined, mainFrom: 0, logFrom: 0 };
    if (this.#hasLog(name) && !this.#openPipe(service)) return;
    this.#services.set(id, service);
    if (service.pipe === undefined) this.#watchForLog(service);
  }

  #hasLog(name: string): boolean {
    if (Buffer.byteLength(name) > MAX_LOGGED_NAME_BYTES) return false;
    try {
      statSync(join(this.#options.directory, name, "log"));
      return true;
    } catch (error) {
      if (errorCode(error) !== "ENOENT") this.#trouble(`unable to stat ${name}/log`, error);
      return false;
    }
  }

  #openPipe(service: Service): boolean {
    try {
      const directory = pinDirectory(join(this.#options.directory, service.name));
      try {
        service.pipe = openLogPipe(directory.base);
      } finally {
        directory.close();
      }
      return true;
    } catch (error) {
      this.#trouble(`unable to create pipe for ${service.name}`, error);
      return false;
    }
  }

  /** A log directory added later is used, too; the service writes to it from its next start on. */
  #watchForLog(service: Service): void {
    try {
      service.watcher = watch(join(this.#options.directory, service.name), (_event, file) => {
        if (file === "log") this.#passWithin(SETTLE_MS);
      });
      service.watcher.on("error", () => service.watcher?.close());
    } catch {
      // found at the next pass
    }
  }

  /** Starts what does not run, forgets what is gone. */
  #care(service: Service): void {
    if (!service.seen) {
      if (service.main === undefined && service.log === undefined) this.#forget(service);
      return;
    }
    if (service.pipe === undefined && this.#hasLog(service.name) && this.#openPipe(service)) {
      service.watcher?.close();
      service.main?.writeTo(this.#writeEnd(service));
    }
    const { pipe } = service;
    const at = performance.now();
    if (service.main === undefined) {
      if (at >= service.mainFrom) service.main = this.#supervise(service, service.name, service.name, { stdout: pipe?.write });
      if (service.main === undefined) this.#passWithin(Math.max(service.mainFrom - at, 1));
    }
    if (service.log === undefined && pipe !== undefined) {
      if (at >= service.logFrom) service.log = this.#supervise(service, `${service.name}/log`, "log", { stdin: pipe.read });
      if (service.log === undefined) this.#passWithin(Math.max(service.logFrom - at, 1));
    }
  }

  #writeEnd(service: Service): number | undefined {
    return service.pipe?.write;
  }

  #supervise(service: Service, path: string, name: string, descriptors: { stdin?: number; stdout?: number }): Supervisor | undefined {
    const isLog = name !== path;
    const wait = (): void => {
      const from = performance.now() + RETRY_MS;
      if (isLog) service.logFrom = from;
      else service.mainFrom = from;
    };
    const label = (): string => (isLog ? `${service.name}/log` : service.name);
    try {
      const supervisor = new Supervisor({
        path: join(this.#options.directory, path),
        name,
        ...descriptors,
        ownGroup: this.#options.ownGroups,
        leftover: "adopt",
        unavailable: (names) => this.#unavailable(names),
        onStatus: (status) => {
          this.#options.onStatus?.(label(), status);
          this.#tellWaiting();
        },
        onEnd: (code, signal) => this.#options.onEnd?.(label(), code, signal),
        onClosed: () => {
          if (isLog) service.log = undefined;
          else service.main = undefined;
          wait();
          if (this.#stopping) this.#stopNext();
          else this.#passWithin(service.seen ? RETRY_MS : SETTLE_MS);
        },
      });
      supervisor.begin();
      return supervisor;
    } catch (error) {
      if (!(error instanceof SuperviseError)) throw error;
      // What supervise itself would say; it would end, and be started again at the next pass.
      process.stderr.write(`supervise: fatal: ${error.message}: ${reason(error.reason)}\n`);
      wait();
      return undefined;
    }
  }

  #unavailable(names: readonly string[]): string[] {
    const known = new Map([...this.#services.values()].map((service) => [service.name, service]));
    return names.flatMap((name) => {
      const service = known.get(name);
      if (service === undefined) return `${name} (there is no such service)`;
      return service.main?.isAvailable === true ? [] : name;
    });
  }

  /** Once for all changes of one turn: those that wait for another service look again. */
  #tellWaiting(): void {
    if (this.#isTelling || this.#stopping) return;
    this.#isTelling = true;
    setImmediate(() => {
      this.#isTelling = false;
      for (const service of this.#services.values()) service.main?.reconsider();
    });
  }

  #trouble(text: string, error?: unknown): void {
    warn("svscan", text, error);
    this.#passWithin(RETRY_MS);
  }

  #forget(service: Service): void {
    service.watcher?.close();
    service.pipe?.close(false);
    this.#services.delete(service.id);
  }

  /** The service called NAME, or NAME/log. */
  find(name: string): Supervisor | undefined {
    for (const service of this.#services.values()) {
      if (service.name === name) return service.main;
      if (`${service.name}/log` === name) return service.log;
    }
    return undefined;
  }

  /**
   * Services down first, then their logs with the end of input, so that no line is lost; `onStopped` follows. Those named in `order` go one
   * after the other, before the rest; of the rest, none goes before those that depend on it.
   */
  stop(order: readonly string[] = []): void {
    if (this.#stopping) return;
    this.#stopping = true;
    clearTimeout(this.#timer);
    this.#watcher?.close();
    for (const service of this.#services.values()) service.watcher?.close();
    this.#stopOrder = [...order];
    this.#stopNext();
  }

  /** A service has gone: its log gets the end of input and goes, too; and the next service follows. */
  #stopNext(): void {
    while (this.#stopOrder.length > 0) {
      const name = this.#stopOrder[0];
      const first = this.find(name);
      if (first !== undefined) {
        this.#tellToStop(first);
        break;
      }
      this.#stopOrder.shift();
    }
    if (this.#stopOrder.length === 0) for (const supervisor of this.#nextToStop()) this.#tellToStop(supervisor);
    for (const service of this.#services.values()) {
      if (service.main !== undefined) continue;
      if (service.log !== undefined) {
        if (service.pipe !== undefined) {
          service.log.command("ox"); // not again once it has read everything
          service.pipe.close(true);
          service.pipe = undefined;
        }
        continue;
      }
      service.pipe?.close(true);
      this.#services.delete(service.id);
    }
    if (this.#services.size === 0 && !this.#stopped) {
      this.#stopped = true;
      this.#options.onStopped?.();
    }
  }

  /** Those that no other running service depends on; in a circle of dependencies, and in a hurry, all. */
  #nextToStop(): Supervisor[] {
    const running = [...this.#services.values()].flatMap(({ name, main }) => (main === undefined ? [] : { name, main }));
    const free = running.filter((one) => !running.some((other) => other !== one && other.main.dependencies.includes(one.name)));
    return (free.length === 0 || this.#hurry ? running : free).map(({ main }) => main);
  }

  #tellToStop(supervisor: Supervisor): void {
    if (this.#toldToStop.has(supervisor)) return;
    this.#toldToStop.add(supervisor);
    supervisor.command("dx");
  }

  /** Does not wait any longer: the services that still run are killed; the logs, too, when no service is left. */
  kill(): void {
    this.#stopOrder = [];
    this.#hurry = true;
    this.#stopNext();
    const services = [...this.#services.values()];
    const mains = services.flatMap((service) => service.main ?? []);
    for (const supervisor of mains.length > 0 ? mains : services.flatMap((service) => service.log ?? [])) supervisor.command("k");
  }
}
