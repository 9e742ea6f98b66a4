/**
 * Runs one service directory: starts ./run, starts it again when it ends, obeys the bytes in supervise/control. Several can live in one process.
 *
 * States: `holding` for a second after each start (commands stay in the fifo, an end waits), then `steady`; `leaving` once x was read; `closed`.
 */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, constants, existsSync } from "node:fs";
import { Socket } from "node:net";
import { checkExecutableFormat } from "../os/executable.ts";
import { withOriginalOpenFilesLimit } from "../os/open-files.ts";
import { type PinnedDirectory, pinDirectory } from "../os/pinned-directory.ts";
import { isGroupAlive } from "../os/process-info.ts";
import { complain, errorCode, reason, warn } from "./messages.ts";
import { CONTROL, LOCK, OK, type Status, type Want } from "./service-directory.ts";
import { findOrphan, makeSuperviseDirectory, openFifo, SuperviseError, takeLock, writeChild, writeStatus } from "./status-files.ts";
import { now } from "./tai64n.ts";

/** Least time between two starts, milliseconds. */
const START_PACE_MS = 1000;
const FORK_RETRY_MS = 60_000;
const FORK_TROUBLE = new Set(["EAGAIN", "ENOMEM", "EMFILE", "ENFILE"]);
/** An orphan of an earlier supervise gets this long to obey TERM before the service is started beside it. */
const ORPHAN_MS = 10_000;
const ORPHAN_POLL_MS = 50;

/** Those that end or stop a service; HUP and the like are for the leader to make sense of. */
const GROUP_SIGNALS: ReadonlySet<NodeJS.Signals> = new Set(["SIGTERM", "SIGCONT", "SIGSTOP", "SIGKILL"]);
const GROUP_END_MS = 1000;
const GROUP_POLL_MS = 10;

const SIGNALS: Readonly<Record<string, NodeJS.Signals>> = { h: "SIGHUP", a: "SIGALRM", i: "SIGINT", t: "SIGTERM", k: "SIGKILL" };

export interface SupervisorOptions {
  /** Where the service is. */
  readonly path: string;
  /** What messages call it; as the user gave it. */
  readonly name: string;
  /** Descriptors for the service: the same numbers of this process when not given. */
  readonly stdin?: number;
  readonly stdout?: number;
  /** The service leads a session of its own; TERM, CONT, STOP and KILL reach its whole group, and what it leaves behind at its end is killed. */
  readonly ownGroup?: boolean;
  /** Whenever what `status` tells has changed. */
  onStatus?(status: Status, supervisor: Supervisor): void;
  /** The service ended: exit code, or the signal that ended it. */
  onEnd?(code: number | null, signal: NodeJS.Signals | null): void;
  /** After x: everything is closed. */
  onClosed(): void;
}

export class Supervisor {
  readonly options: SupervisorOptions;
  readonly #directory: PinnedDirectory;
  #lock = -1;
  #ok = -1;
  #control: Socket | undefined;
  #child: ChildProcess | undefined;
  #pid = 0;
  #since = now();
  #paused = false;
  #want: Want = "up";
  #state: "holding" | "steady" | "closed" = "holding";
  #exitWanted = false;
  #ended: { code: number | null; signal: NodeJS.Signals | null } | undefined;
  /** The one command read but not yet obeyed. */
  #waiting: string | undefined;
  /** Commands of this process that wait for the end of the second. */
  #queued = "";
  #stdout: number | undefined;
  #hold: NodeJS.Timeout | undefined;

  /** Takes the directory, or throws a SuperviseError with daemontools' message. Nothing runs before `begin`. */
  constructor(options: SupervisorOptions) {
    this.options = options;
    this.#stdout = options.stdout;
    const { name } = options;
    try {
      this.#directory = pinDirectory(options.path);
    } catch (error) {
      throw new SuperviseError(`unable to chdir to ${name}`, error);
    }
    const { base } = this.#directory;
    let step = `unable to acquire ${name}/${LOCK}`;
    try {
      if (existsSync(`${base}/down`)) this.#want = "down";
      makeSuperviseDirectory(base);
      this.#lock = takeLock(`${base}/${LOCK}`);
      step = `unable to open ${name}/${CONTROL}`;
      const control = openFifo(`${base}/${CONTROL}`, constants.O_RDWR);
      const byte = Buffer.alloc(1); // one at a time: what is not obeyed yet stays in the fifo
      this.#control = new Socket({
        fd: control,
        readable: true,
        writable: false,
        onread: { buffer: byte, callback: (length) => this.#onCommand(length, byte) },
      });
      this.#announce();
      step = `unable to open ${name}/${OK}`;
      this.#ok = openFifo(`${base}/${OK}`, constants.O_RDONLY);
    } catch (error) {
      this.#close();
      throw new SuperviseError(step, error);
    }
  }

  get status(): Status {
    return { since: this.#since, pid: this.#pid, paused: this.#pid !== 0 && this.#paused, want: this.#want };
  }

  get isClosed(): boolean {
    return this.#state === "closed";
  }

  /** Starts the service unless it is wanted down, and listens to commands. */
  begin(): void {
    const orphan = findOrphan(this.#directory.base);
    if (orphan !== 0) {
      warn("supervise", `${this.options.name}: pid ${orphan} still runs under no supervise, stopping it first`);
      this.#stopOrphan(orphan, performance.now() + ORPHAN_MS);
    } else {
      this.#beginSteady();
    }
  }

  #stopOrphan(pid: number, until: number): void {
    const target = this.options.ownGroup === true ? -pid : pid;
    try {
      process.kill(target, "SIGTERM");
      process.kill(target, "SIGCONT");
    } catch {
      // ended by itself
    }
    const look = (): void => {
      // It is nobody's child any more, so nothing notifies of its end.
      if (findOrphan(this.#directory.base) !== 0) {
        if (performance.now() < until) {
          this.#hold = setTimeout(look, ORPHAN_POLL_MS);
          return;
        }
        warn("supervise", `${this.options.name}: pid ${pid} does not end, starting the service beside it`);
      }
      this.#beginSteady();
    };
    look();
  }

  #beginSteady(): void {
    this.#state = "steady";
    if (this.#want === "up") this.#start();
    else this.#endHold();
  }

  /** From the next start on. */
  writeTo(stdout: number | undefined): void {
    this.#stdout = stdout;
  }

  /** Obeys commands as if they had come through the fifo. */
  command(letters: string): void {
    for (const letter of letters) {
      if (this.#state === "holding") {
        this.#queued += letter;
      } else {
        this.#obey(letter);
        this.#settle();
      }
    }
  }

  #onCommand(length: number, byte: Uint8Array): boolean {
    if (length < 1 || this.#state === "closed") return false;
    const letter = String.fromCharCode(byte[0]);
    if (this.#state === "holding") {
      this.#waiting = letter;
      return false; // reading stops until the second is over
    }
    this.#obey(letter);
    this.#settle();
    return this.#canRead();
  }

  /** Reading goes on unless obeying has closed or started something. */
  #canRead(): boolean {
    return this.#state === "steady";
  }

  #obey(letter: string): void {
    switch (letter) {
      case "u":
        this.#want = "up";
        if (this.#pid === 0) this.#start();
        else this.#announce();
        break;
      case "d":
        this.#want = "down";
        if (this.#pid !== 0) {
          this.#signal("SIGTERM");
          this.#signal("SIGCONT");
          this.#paused = false;
        }
        this.#announce();
        break;
      case "o":
        this.#want = "once";
        if (this.#pid === 0) this.#start();
        else this.#announce();
        break;
      case "p":
        this.#paused = true;
        this.#signal("SIGSTOP");
        this.#announce();
        break;
      case "c":
        this.#paused = false;
        this.#signal("SIGCONT");
        this.#announce();
        break;
      case "x":
        this.#exitWanted = true;
        this.#announce();
        break;
      default:
        if (Object.hasOwn(SIGNALS, letter)) this.#signal(SIGNALS[letter]);
    }
  }

  #signal(signal: NodeJS.Signals): void {
    if (this.#pid === 0 || this.#ended !== undefined) return; // the pid may be somebody else's by now
    try {
      process.kill(this.options.ownGroup === true && GROUP_SIGNALS.has(signal) ? -this.#pid : this.#pid, signal);
    } catch (error) {
      if (errorCode(error) !== "ESRCH") warn("supervise", `unable to send ${signal} to pid ${this.#pid} of ${this.options.name}`, error);
    }
  }

  #announce(): void {
    writeStatus(this.#directory.base, this.options.name, this.status);
    this.options.onStatus?.(this.status, this);
  }

  /** Starts ./run; whether that worked is known by its end. */
  #start(): void {
    const { base } = this.#directory;
    this.#since = now();
    this.#paused = false;
    try {
      checkExecutableFormat(`${base}/run`);
      const child = withOriginalOpenFilesLimit(() =>
        spawn("./run", [], {
          cwd: base,
          stdio: [this.options.stdin ?? "inherit", this.#stdout ?? "inherit", "inherit"],
          detached: this.options.ownGroup === true,
        }),
      );
      child.once("error", (error) => this.#onStartTrouble(error));
      child.once("exit", (code, signal) => this.#onEnd(code, signal));
      this.#child = child;
      this.#pid = child.pid ?? 0;
    } catch (error) {
      this.#onStartTrouble(error);
    }
    if (this.#pid !== 0) writeChild(base, this.#pid);
    else this.#ended ??= { code: 111, signal: null };
    this.#announce();
    this.#state = "holding";
    this.#hold = setTimeout(() => this.#endHold(), START_PACE_MS);
  }

  /** No process came of it; the next try is a second away, or a minute when the system has no room for processes. */
  #onStartTrouble(error: unknown): void {
    if (FORK_TROUBLE.has(errorCode(error))) {
      warn("supervise", `unable to fork for ${this.options.name}, sleeping 60 seconds`, error);
      clearTimeout(this.#hold);
      this.#hold = setTimeout(() => this.#endHold(), FORK_RETRY_MS);
    } else {
      complain(`supervise: fatal: unable to start ${this.options.name}/run: ${reason(error)}\n`);
    }
  }

  #onEnd(code: number | null, signal: NodeJS.Signals | null): void {
    if (this.options.ownGroup === true && killGroup(this.#pid)) {
      this.#awaitGroup(performance.now() + GROUP_END_MS, code, signal);
      return;
    }
    this.#noteEnd(code, signal);
  }

  /** The leader is gone; its killed followers may still hold a port for a moment, and are nobody's children to wait for. */
  #awaitGroup(until: number, code: number | null, signal: NodeJS.Signals | null): void {
    setTimeout(() => {
      if (performance.now() < until && killGroup(this.#pid)) this.#awaitGroup(until, code, signal);
      else this.#noteEnd(code, signal);
    }, GROUP_POLL_MS);
  }

  #noteEnd(code: number | null, signal: NodeJS.Signals | null): void {
    this.#ended = { code, signal };
    this.#child = undefined;
    writeChild(this.#directory.base, 0);
    this.options.onEnd?.(code, signal);
    if (this.#state === "steady") this.#settle();
  }

  #endHold(): void {
    this.#state = "steady";
    // Commands first: a service that ends within every second would be started again before any of them is heard.
    if (this.#waiting !== undefined) {
      const letter = this.#waiting;
      this.#waiting = undefined;
      this.#obey(letter);
    }
    while (this.#queued !== "" && this.#canRead()) {
      const letter = this.#queued[0];
      this.#queued = this.#queued.slice(1);
      this.#obey(letter);
    }
    this.#settle();
    // Started again in between: the next end of the second comes back here.
    if (this.#canRead() && this.#control !== undefined) this.#control.resume();
  }

  /** Takes note of an end, starts again when wanted, leaves when asked to. */
  #settle(): void {
    if (this.#state !== "steady") return;
    if (this.#ended !== undefined) {
      this.#ended = undefined;
      this.#pid = 0;
      this.#paused = false;
      this.#since = now();
      this.#announce();
      if (!this.#exitWanted && this.#want === "up") {
        this.#start();
        return;
      }
    }
    if (this.#exitWanted && this.#pid === 0) {
      this.#close();
      this.options.onClosed();
    }
  }

  #close(): void {
    this.#state = "closed";
    clearTimeout(this.#hold);
    this.#control?.destroy();
    if (this.#ok >= 0) closeSync(this.#ok);
    if (this.#lock >= 0) closeSync(this.#lock);
    this.#directory?.close();
  }

  /** The pid is that of a child of this process that has not been waited for yet. */
  get isRunning(): boolean {
    return this.#child !== undefined && this.#ended === undefined;
  }
}

/** Whether anybody was left. */
function killGroup(leader: number): boolean {
  try {
    process.kill(-leader, "SIGKILL");
  } catch {
    return false;
  }
  return isGroupAlive(leader);
}
