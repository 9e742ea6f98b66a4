/**
 * Whether a running service is ready: it says so itself with a newline on its `notification-fd`, or its `check` program says so and goes on
 * being asked whether all is well. One object for each run of the service.
 */
import type { ChildProcess } from "node:child_process";
import { closeSync, constants, openSync } from "node:fs";
import { Socket } from "node:net";
import { errorCode } from "../messages.ts";
import { openFifo } from "../status-files.ts";
import { spawnOwn } from "./process.ts";
import { type ServiceSettings, serviceEnvironment } from "./settings.ts";

/** Between two checks of a service that is not ready yet, milliseconds. */
const STARTING_INTERVAL_MS = 1000;
/** A check that takes longer has failed. */
const CHECK_MS = 5000;
/** An adopted service that closes its notification pipe is ready, unless it just ended: then somebody has closed this watch by then. */
const ADOPTED_MS = 200;
const NEWLINE = 0x0a;

/** Ours: the pipe on which a service notifies, a fifo so that it survives a killed supervise. */
const NOTIFICATION = "supervise/notification";

export type Health = "unknown" | "ready" | "unhealthy";

/** The service's end of the notification pipe; both directions, so that it does not get SIGPIPE while nobody supervises it. */
export function openNotification(base: string): number {
  const path = `${base}/${NOTIFICATION}`;
  const fd = openFifo(path, constants.O_RDWR);
  try {
    return openSync(path, constants.O_RDWR);
  } finally {
    closeSync(fd);
  }
}

export class HealthWatch {
  readonly #base: string;
  readonly #settings: ServiceSettings;
  readonly #onChange: (health: Health) => void;
  readonly #isAdopted: boolean;
  #health: Health;
  #notification: Socket | undefined;
  #timer: NodeJS.Timeout | undefined;
  #check: ChildProcess | undefined;
  #failures = 0;
  #isClosed = false;

  /** To be made while the service's end of the pipe is open, here or there. `adopted`: what was last known of a service that is taken over. */
  constructor(base: string, settings: ServiceSettings, onChange: (health: Health) => void, adopted?: Health) {
    this.#base = base;
    this.#settings = settings;
    this.#onChange = onChange;
    this.#health = adopted ?? "unknown";
    this.#isAdopted = adopted !== undefined;
    if (settings.notificationFd !== undefined && this.#health === "unknown") this.#listen();
    // Without a notification the first check makes it ready; with one, checks begin when it is.
    if (settings.check && this.#notification === undefined) this.#checkIn(0);
  }

  #listen(): void {
    let fd: number;
    try {
      fd = openSync(`${this.#base}/${NOTIFICATION}`, constants.O_RDONLY | constants.O_NONBLOCK);
    } catch {
      return;
    }
    const socket = new Socket({ fd, readable: true, writable: false });
    this.#notification = socket;
    const isReady = (): void => {
      if (this.#notification !== socket) return;
      this.#notification = undefined;
      socket.destroy();
      this.#set("ready");
      if (this.#settings.check) this.#checkIn(this.#settings.checkInterval);
    };
    socket.on("data", (bytes) => {
      if (bytes.includes(NEWLINE)) isReady();
    });
    socket.on("error", () => socket.destroy());
    socket.on("end", () => {
      socket.destroy();
      // Closed by an adopted service that goes on: what it had to say was said to the supervise before.
      if (this.#isAdopted) this.#timer = setTimeout(isReady, ADOPTED_MS);
    });
  }

  #set(health: Health): void {
    if (this.#isClosed || health === this.#health) return;
    this.#health = health;
    this.#onChange(health);
  }

  #checkIn(ms: number): void {
    if (!this.#isClosed) this.#timer = setTimeout(() => this.#runCheck(), ms);
  }

  #runCheck(): void {
    let child: ChildProcess;
    try {
      child = spawnOwn("./check", [], { cwd: this.#base, stdio: ["ignore", "ignore", "inherit"], env: serviceEnvironment(this.#settings) });
    } catch {
      this.#checked(false);
      return;
    }
    this.#check = child;
    let isDone = false;
    const done = (isWell: boolean): void => {
      if (isDone) return;
      isDone = true;
      clearTimeout(limit);
      this.#check = undefined;
      this.#checked(isWell);
    };
    const limit = setTimeout(() => {
      child.kill("SIGKILL");
      done(false);
    }, CHECK_MS);
    child.once("error", (error) => done(errorCode(error) === "ENOENT")); // taken away: there is nothing to check
    child.once("exit", (code) => done(code === 0));
  }

  #checked(isWell: boolean): void {
    if (this.#isClosed) return;
    if (isWell) {
      this.#failures = 0;
      this.#set("ready");
    } else if (this.#health !== "unknown" && ++this.#failures >= this.#settings.checkFailures) {
      this.#set("unhealthy");
    }
    this.#checkIn(this.#health === "unknown" ? STARTING_INTERVAL_MS : this.#settings.checkInterval);
  }

  get health(): Health {
    return this.#health;
  }

  close(): void {
    this.#isClosed = true;
    clearTimeout(this.#timer);
    this.#notification?.destroy();
    this.#check?.kill("SIGKILL");
  }
}
