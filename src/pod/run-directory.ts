/**
 * The pod's run directory:
 *
 *     envoy.yaml            the proxy's configuration
 *     web.yaml, httpd.conf  the web server's, whichever it is
 *     www/                  the page that is served when no --root is given
 *     service/web, service/proxy, each with log/   service directories
 *     logs/web, logs/proxy  what they print
 *     lock                  held while a pod runs
 */
import { closeSync, fstatSync, mkdirSync, readFileSync, rmSync, statSync, unlinkSync, writeFileSync } from "node:fs";
import { homedir } from "node:os";
import { join, resolve } from "node:path";
import { errorCode, reason } from "../supervise/messages.ts";
import { takeLock } from "../supervise/status-files.ts";
import { PodError } from "./ports.ts";

export const SERVICES = ["proxy", "web"] as const;
export type ServiceName = (typeof SERVICES)[number];

/** Where a pod runs that was not told where. */
export function defaultDirectory(): string {
  const { XDG_RUNTIME_DIR, XDG_STATE_HOME } = process.env;
  if (XDG_RUNTIME_DIR) return join(XDG_RUNTIME_DIR, "outrider/pod");
  // Not root's home: the web server gives up root's rights and must be able to read its folder.
  if (process.getuid?.() === 0) return "/var/lib/outrider/pod";
  return join(XDG_STATE_HOME || join(homedir(), ".local/state"), "outrider/pod");
}

export class RunDirectory {
  readonly path: string;
  readonly #lock: number;

  /** Takes the directory for this process, or throws a PodError. */
  constructor(path: string | undefined) {
    this.path = resolve(path ?? defaultDirectory());
    try {
      mkdirSync(this.path, { recursive: true, mode: 0o755 });
    } catch (error) {
      throw new PodError(`unable to make the run directory ${this.path}: ${reason(error)}. Choose another: --dir DIR`);
    }
    const lock = join(this.path, "lock");
    try {
      this.#lock = takeCurrentLock(lock);
    } catch (error) {
      if (errorCode(error) !== "EAGAIN") throw new PodError(`unable to lock the run directory ${this.path}: ${reason(error)}. Choose another: --dir DIR`);
      throw new PodError(`another pod${holder(lock)} runs in ${this.path}. Stop it, or give this one a directory of its own: --dir DIR`);
    }
    writeFileSync(lock, `${process.pid}\n`);
  }

  get services(): string {
    return join(this.path, "service");
  }

  service(name: ServiceName): string {
    return join(this.services, name);
  }

  logs(name: ServiceName): string {
    return join(this.path, "logs", name);
  }

  /** Leaves configuration, run scripts and logs; removes what lives only as long as the pod. */
  close(): void {
    for (const name of SERVICES)
      for (const service of [this.service(name), join(this.service(name), "log")]) rmSync(join(service, "supervise"), { recursive: true, force: true });
    try {
      unlinkSync(join(this.path, "lock"));
    } catch {
      // removed by somebody else
    }
    closeSync(this.#lock);
  }
}

/** A pod that ends removes its lock file: one locked after that is nobody's, and the next is taken. */
function takeCurrentLock(path: string): number {
  for (;;) {
    const fd = takeLock(path);
    if (fstatSync(fd).ino === statSync(path, { throwIfNoEntry: false })?.ino) return fd;
    closeSync(fd);
  }
}

function holder(lock: string): string {
  try {
    const pid = readFileSync(lock, "utf8").trim();
    return /^[0-9]+$/.test(pid) ? ` (pid ${pid})` : "";
  } catch {
    return "";
  }
}
