/**
 * Runs one service directory: starts ./run, starts it again when it ends, obeys the bytes in supervise/control. Several can live in one process.
 *
 * States: `holding` for a second after each start (commands stay in the fifo, an end waits), then `steady`; `closed` after x. Without opt-in
 * files (service/settings.ts) everything is as daemontools' supervise does it.
 */
import { closeSync, constants, existsSync } from "node:fs";
import { Socket } from "node:net";
import { type PinnedDirectory, pinDirectory } from "../os/pinned-directory.ts";
import { isGroupAlive } from "../os/process-info.ts";
import { watchProcess } from "../os/process-watch.ts";
import { complain, errorCode, reason, warn } from "./messages.ts";
import { endNumbers, runFinish, STAY_DOWN } from "./service/finish.ts";
import { HealthWatch, openNotification } from "./service/health.ts";
import { Pacing, START_PACE_MS } from "./service/pacing.ts";
import { adoptProcess, type End, type ServiceProcess, startProcess } from "./service/process.ts";
import { readSettings, type ServiceSettings, serviceEnvironment } from "./service/settings.ts";
import { CONTROL, LOCK, OK, type Report, type State, type Status, type Want } from "./service-directory.ts";
import {
  findOrphan,
  makeSuperviseDirectory,
  type Orphan,
  openFifo,
  readReport,
  readStatus,
  SuperviseError,
  takeLock,
  writeChild,
  writeExit,
  writeReport,
  writeStarting,
  writeStatus,
} from "./status-files.ts";
import { now, type Time } from "./tai64n.ts";

const FORK_RETRY_MS = 60_000;
const FORK_TROUBLE = new Set(["EAGAIN", "ENOMEM", "EMFILE", "ENFILE"]);
/** A leftover that is replaced gets this long to obey TERM, where there is no timeout-kill. */
const REPLACE_MS = 10_000;
/** Longest sleep until a start that is due later: the wall clock may be set meanwhile. */
const MAX_SLEEP_MS = 600_000;

/** Those that end or stop a service; HUP and the like are for the leader to make sense of. */
const GROUP_SIGNALS: ReadonlySet<NodeJS.Signals> = new Set(["SIGTERM", "SIGCONT", "SIGSTOP", "SIGKILL"]);
const GROUP_END_MS = 1000;
const GROUP_POLL_MS = 10;

/** 1 and 2 are ours, as in runit; daemontools ignores them. */
const SIGNALS: Readonly<Record<string, NodeJS.Signals>> = {
  h: "SIGHUP",
  a: "SIGALRM",
  i: "SIGINT",
  t: "SIGTERM",
  k: "SIGKILL",
  1: "SIGUSR1",
  2: "SIGUSR2",
};

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
  /**
   * What becomes of a service that an earlier, killed supervise has left: `adopt` goes on with it, `replace` ends it first. Never are there two.
   */
  readonly leftover: "adopt" | "replace";
  /** Which of the services that this one depends on are not available; none are ever when not given. */
  unavailable?(names: readonly string[]): readonly string[];
  /** Whenever what `status` or `state` tells has changed. */
  onStatus?(status: Status, supervisor: Supervisor): void;
  /** The service ended: exit code, or the signal that ended it; both null for one that was adopted. */
  onEnd?(code: number | null, signal: NodeJS.Signals | null): void;
  /** After x: everything is closed. */
  onClosed(): void;
}

export class Supervisor {
  readonly options: SupervisorOptions;
  readonly #directory: PinnedDirectory;
  readonly #pacing = new Pacing();
  #lock = -1;
  #ok = -1;
  #control: Socket | undefined;
  #settings: ServiceSettings;
  #toldProblems = "";

  #process: ServiceProcess | undefined;
  #pid = 0;
  #since = now();
  #paused = false;
  #want: Want = "up";
  #state: "holding" | "steady" | "closed" = "holding";
  #exitWanted = false;
  /** It is to be started as soon as nothing stands against it. */
  #startWanted = false;
  /** Neither a pause nor a schedule holds that start up: somebody asked for it. */
  #startAtOnce = false;
  #ended: End | undefined;
  #endedAt: { readonly wall: Time; readonly clock: number } | undefined;
  /** The one command read but not yet obeyed. */
  #waiting: string | undefined;
  /** Commands of this process that wait for the end of the second. */
  #queued = "";
  #stdout: number | undefined;
  #hold: NodeJS.Timeout | undefined;
  #killTimer: NodeJS.Timeout | undefined;

  #isStopping = false;
  #isFinishing = false;
  #health: HealthWatch | undefined;
  #readySince: string | undefined;
  #starts = 0;
  #startedAt = performance.now();
  #lastStart: number | undefined;
  #lastExit: Report["lastExit"];
  #startTimer: NodeJS.Timeout | undefined;
  #nextStart: number | undefined;
  #waitingFor: readonly string[] = [];
  #failure: string | undefined;

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
      this.#settings = readSettings(base);
      this.#lastExit = readReport(base).lastExit;
      const orphan = findOrphan(base);
      if (orphan === undefined) this.#announce();
      else this.#adopt(orphan);
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

  get state(): State {
    if (this.#pid !== 0) {
      if (this.#paused) return "paused";
      if (this.#isStopping) return "stopping";
      return this.#health === undefined || this.#health.health === "unknown" ? "up" : this.#health.health;
    }
    if (this.#isFinishing) return "finishing";
    if (this.#failure !== undefined) return "failed";
    return this.#startWanted && !this.#exitWanted ? "waiting" : "down";
  }

  get isClosed(): boolean {
    return this.#state === "closed";
  }

  /** Services that depend on this one may start: it is ready, or up where it has no way to say so, or has done what it was there for. */
  get isAvailable(): boolean {
    const { state } = this;
    if (state === "ready") return true;
    if (state === "up") return !this.#hasReadiness;
    const isJob = this.#want === "once" || this.#settings.every !== undefined;
    return isJob && this.#pid === 0 && this.#lastExit?.code === 0;
  }

  get #hasReadiness(): boolean {
    return this.#settings.notificationFd !== undefined || this.#settings.check;
  }

  get dependencies(): readonly string[] {
    return this.#settings.depends;
  }

  /** Starts the service unless it is wanted down or was found running, and listens to commands. */
  begin(): void {
    if (this.#state === "closed" || this.#pid !== 0 || this.#isFinishing) return;
    this.#state = "steady";
    if (this.#want === "up") {
      this.#startWanted = true;
      this.#startWhenPossible();
      if (this.#pid === 0) this.#announce();
    } else {
      this.#endHold();
    }
  }

  /** A supervise was killed and its service is still there: it goes on under this one, as if nothing had happened. */
  #adopt(orphan: Orphan): void {
    const { base } = this.#directory;
    const { name } = this.options;
    this.#state = "steady";
    if (orphan.kind === "finish") {
      warn("supervise", `${name}/finish (pid ${orphan.pid}) still runs since a supervise was killed: waiting for it`);
      this.#isFinishing = true;
      this.#startWanted = this.#want === "up";
      watchProcess(orphan.pid, orphan.startTime, () => this.#noteFinished(-1));
      this.#announce();
      return;
    }
    const service = adoptProcess(orphan.pid, orphan.startTime, (end) => this.#onEnd(end));
    if (service === undefined) {
      this.#announce();
      this.#state = "holding";
      return;
    }
    const before = readStatus(base);
    const report = readReport(base);
    const isReplaced = this.options.leftover === "replace";
    if (before?.pid === orphan.pid) {
      this.#since = before.since;
      this.#paused = before.paused;
      if (!isReplaced) this.#want = before.want;
      this.#isStopping = report.state === "stopping";
    }
    this.#process = service;
    this.#pid = orphan.pid;
    this.#startedAt = performance.now() - Math.max(0, Date.now() - milliseconds(this.#since));
    this.#lastStart = milliseconds(this.#since);
    this.#starts = 1;
    writeChild(base, orphan.pid);
    warn("supervise", `${name}: pid ${orphan.pid} still runs since a supervise was killed: ${isReplaced ? "ending it first" : "watching over it again"}`);
    if (isReplaced) {
      this.#isStopping = true;
      this.#signal("SIGTERM");
      this.#signal("SIGCONT");
      this.#killAfter(this.#settings.timeoutKill || REPLACE_MS);
      this.#announce();
      return;
    }
    const isKnown = report.pid === orphan.pid && (report.state === "ready" || report.state === "unhealthy");
    if (isKnown) this.#readySince = report.readySince;
    this.#watchHealth(isKnown && report.state !== undefined ? (report.state as "ready" | "unhealthy") : "unknown");
    this.#announce();
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

  /** Another service has changed: this one may have waited for that. */
  reconsider(): void {
    if (this.#waitingFor.length === 0 || this.#state !== "steady") return;
    const before = this.#waitingFor.join();
    this.#startWhenPossible();
    if (this.#pid === 0 && this.#waitingFor.join() !== before) this.#announce();
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
        this.#askForStart();
        break;
      case "d":
        this.#want = "down";
        this.#startWanted = false;
        this.#failure = undefined;
        this.#waitingFor = [];
        if (this.#pid !== 0) {
          this.#isStopping = true;
          this.#signal(this.#settings.downSignal);
          this.#signal("SIGCONT");
          this.#paused = false;
          this.#killLater();
        }
        this.#announce();
        break;
      case "o":
        this.#want = "once";
        this.#askForStart();
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

  #askForStart(): void {
    this.#pacing.reset();
    this.#failure = undefined;
    if (this.#pid !== 0) {
      this.#announce();
      return;
    }
    this.#startWanted = true;
    this.#startAtOnce = true;
    this.#startWhenPossible();
    if (this.#pid === 0) this.#announce();
  }

  #killLater(): void {
    if (this.#settings.timeoutKill > 0) this.#killAfter(this.#settings.timeoutKill);
  }

  #killAfter(ms: number): void {
    clearTimeout(this.#killTimer);
    this.#killTimer = setTimeout(() => {
      if (this.#pid === 0 || this.#ended !== undefined) return;
      warn("supervise", `${this.options.name}: pid ${this.#pid} does not end within ${ms} ms (timeout-kill): killing it`);
      this.#signal("SIGKILL");
    }, ms);
  }

  #signal(signal: NodeJS.Signals): void {
    if (this.#pid === 0 || this.#ended !== undefined) return;
    try {
      this.#process?.kill(signal, this.options.ownGroup === true && GROUP_SIGNALS.has(signal));
    } catch (error) {
      warn("supervise", `unable to send ${signal} to pid ${this.#pid} of ${this.options.name}`, error);
    }
  }

  #announce(): void {
    const { base } = this.#directory;
    writeStatus(base, this.options.name, this.status);
    writeReport(base, this.#report());
    this.options.onStatus?.(this.status, this);
  }

  #report(): Report {
    const isUp = this.#pid !== 0;
    const { state } = this;
    const why = state === "failed" ? this.#failure : this.#waitingFor.length > 0 && !isUp ? `waits for ${this.#waitingFor.join(", ")}` : undefined;
    return {
      state,
      want: this.#want,
      pid: this.#pid,
      since: new Date(milliseconds(this.#since)).toISOString(),
      ...(isUp && this.#readySince !== undefined && { readySince: this.#readySince }),
      hasReadiness: this.#hasReadiness,
      starts: this.#starts,
      ...(this.#lastExit !== undefined && { lastExit: this.#lastExit }),
      ...(state === "waiting" && this.#nextStart !== undefined && { nextStart: new Date(this.#nextStart).toISOString() }),
      ...(state === "waiting" && this.#waitingFor.length > 0 && { waitingFor: this.#waitingFor }),
      ...(why !== undefined && { reason: why }),
      ...(this.#settings.problems.length > 0 && { problems: this.#settings.problems }),
      supervisorPid: process.pid,
    };
  }

  #readSettings(): void {
    this.#settings = readSettings(this.#directory.base);
    const problems = this.#settings.problems.join("\n");
    if (problems === this.#toldProblems) return;
    this.#toldProblems = problems;
    for (const problem of this.#settings.problems) warn("supervise", `${this.options.name}/${problem}; going on without it`);
  }

  /** Starts the service, or notes what it waits for. The caller announces when nothing was started. */
  #startWhenPossible(): void {
    clearTimeout(this.#startTimer);
    this.#nextStart = undefined;
    this.#waitingFor = [];
    if (!this.#startWanted || this.#exitWanted || this.#isFinishing || this.#pid !== 0 || this.#state !== "steady") return;
    this.#readSettings();
    const { depends, every, backoff } = this.#settings;
    if (depends.length > 0) {
      this.#waitingFor = this.options.unavailable?.(depends) ?? [];
      if (this.#waitingFor.length > 0) return;
    }
    if (!this.#startAtOnce) {
      const wall = Date.now();
      const pause = this.#starts === 0 ? 0 : this.#pacing.pause(backoff) - (performance.now() - this.#startedAt);
      const due = Math.max(every?.next(this.#lastStart, wall) ?? 0, backoff > 0 ? wall + pause : 0);
      if (due > wall) {
        this.#nextStart = due;
        this.#startTimer = setTimeout(
          () => {
            this.#startWhenPossible();
            if (this.#pid === 0) this.#announce();
          },
          Math.min(due - wall, MAX_SLEEP_MS),
        );
        return;
      }
    }
    this.#start();
  }

  /** Starts ./run; whether that worked is known by its end. */
  #start(): void {
    const { base } = this.#directory;
    this.#startWanted = false;
    this.#startAtOnce = false;
    this.#since = now();
    this.#startedAt = performance.now();
    this.#lastStart = milliseconds(this.#since);
    this.#starts++;
    this.#paused = false;
    this.#isStopping = false;
    this.#readySince = undefined;
    this.#state = "holding";
    this.#hold = setTimeout(() => this.#endHold(), START_PACE_MS); // before trouble, which may make it longer
    let notification: number | undefined;
    try {
      const { notificationFd } = this.#settings;
      const stdio: ("inherit" | "ignore" | number)[] = [this.options.stdin ?? "inherit", this.#stdout ?? "inherit", "inherit"];
      if (notificationFd !== undefined) {
        notification = openNotification(base);
        while (stdio.length < notificationFd) stdio.push("ignore"); // above 2 that means closed
        stdio.push(notification);
      }
      writeStarting(base);
      this.#process = startProcess({
        cwd: base,
        stdio,
        env: serviceEnvironment(this.#settings),
        ownGroup: this.options.ownGroup === true,
        limits: this.#settings.limits,
        onError: (error) => this.#onStartTrouble(error),
        onEnd: (end) => this.#onEnd(end),
      });
      this.#pid = this.#process?.pid ?? 0;
      writeChild(base, this.#pid);
      if (this.#pid !== 0) this.#watchHealth();
      else this.#ended ??= { code: 111, signal: null };
    } catch (error) {
      writeChild(base, 0);
      this.#onStartTrouble(error);
      this.#ended ??= { code: 111, signal: null };
    } finally {
      if (notification !== undefined) closeSync(notification);
    }
    this.#announce();
  }

  #watchHealth(adopted?: "unknown" | "ready" | "unhealthy"): void {
    this.#health?.close();
    this.#health = undefined;
    if (!this.#hasReadiness) return;
    this.#health = new HealthWatch(
      this.#directory.base,
      this.#settings,
      (health) => {
        if (health === "ready") this.#readySince = new Date().toISOString();
        if (health === "unhealthy") {
          this.#readySince = undefined;
          const { checkFailures, checkRestart } = this.#settings;
          const what = checkRestart ? "restarting it (check-restart)" : "it goes on, since there is no file check-restart";
          warn("supervise", `${this.options.name}/check failed ${checkFailures} times in a row: ${what}`);
          if (checkRestart) {
            this.#signal(this.#settings.downSignal);
            this.#signal("SIGCONT");
            this.#killLater();
          }
        }
        this.#announce();
      },
      adopted,
    );
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

  #onEnd(end: End): void {
    if (this.options.ownGroup === true && killGroup(this.#pid)) {
      this.#awaitGroup(performance.now() + GROUP_END_MS, end);
      return;
    }
    this.#noteEnd(end);
  }

  /** The leader is gone; its killed followers may still hold a port for a moment, and are nobody's children to wait for. */
  #awaitGroup(until: number, end: End): void {
    setTimeout(() => {
      if (performance.now() < until && killGroup(this.#pid)) this.#awaitGroup(until, end);
      else this.#noteEnd(end);
    }, GROUP_POLL_MS);
  }

  #noteEnd(end: End): void {
    this.#ended = end;
    this.#endedAt = { wall: now(), clock: performance.now() };
    clearTimeout(this.#killTimer);
    this.#health?.close();
    this.#health = undefined;
    writeChild(this.#directory.base, 0);
    this.options.onEnd?.(end.code, end.signal);
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
      const end = this.#ended;
      this.#ended = undefined;
      this.#digest(end);
      if (this.#state !== "steady") return; // started again
    }
    if (this.#exitWanted && this.#pid === 0 && !this.#isFinishing) {
      this.#close();
      this.options.onClosed();
    }
  }

  #digest(end: End): void {
    const { base } = this.#directory;
    const isAdopted = this.#process?.isAdopted === true;
    // A start's second may pass between the end and this.
    const { wall, clock } = this.#endedAt ?? { wall: now(), clock: performance.now() };
    this.#endedAt = undefined;
    const ranMs = Math.max(0, Math.round(clock - this.#startedAt));
    this.#process = undefined;
    this.#pid = 0;
    this.#paused = false;
    this.#isStopping = false;
    this.#since = now();
    this.#lastExit = { ...end, at: new Date(milliseconds(wall)).toISOString(), ranMs, ...(isAdopted && { adopted: true }) };
    writeExit(base, ...endNumbers(end));
    this.#startWanted = this.#want === "up";
    const { deathLimit, every } = this.#settings;
    if (this.#startWanted && every === undefined) this.#noteDeath(end, ranMs, deathLimit);
    if (this.#settings.finish && existsSync(`${base}/finish`)) {
      this.#isFinishing = true;
      this.#announce();
      const stdout = this.#stdout ?? "inherit";
      const finish = runFinish(base, this.options.name, this.#settings, end, ["ignore", stdout, "inherit"], (code) => this.#noteFinished(code));
      if (finish !== undefined && this.#isFinishing) writeChild(base, finish.pid, "finish");
      return;
    }
    this.#startAfterEnd();
  }

  #noteDeath(end: End, ranMs: number, deathLimit: ServiceSettings["deathLimit"]): void {
    const at = performance.now();
    this.#pacing.noteEnd(at, ranMs, deathLimit);
    const { name } = this.options;
    const how = end.signal !== null ? `killed by ${end.signal}` : end.code !== null ? `exit code ${end.code}` : "cause unknown";
    if (deathLimit !== undefined && this.#pacing.hasReached(deathLimit)) {
      this.#giveUp(`ended ${deathLimit.count} times within ${deathLimit.within / 1000} seconds (death-limit), last: ${how}`);
      return;
    }
    const loop = this.#pacing.crashLoop(at);
    if (loop !== undefined) warn("supervise", `${name} ended ${loop}, last: ${how}; it is started again and again`);
  }

  #giveUp(why: string): void {
    this.#failure = why;
    this.#want = "down";
    this.#startWanted = false;
    warn("supervise", `${this.options.name} ${why}; it stays down until svc -u`);
  }

  #noteFinished(code: number): void {
    writeChild(this.#directory.base, 0);
    this.#isFinishing = false;
    if (code === STAY_DOWN && this.#startWanted && !this.#startAtOnce) this.#giveUp(`was given up by its finish (exit code ${STAY_DOWN})`);
    this.#startAfterEnd();
    this.#settle();
  }

  #startAfterEnd(): void {
    if (this.#startWanted && !this.#exitWanted) this.#startWhenPossible();
    if (this.#pid === 0 && this.#state === "steady") this.#announce();
  }

  #close(): void {
    this.#state = "closed";
    clearTimeout(this.#hold);
    clearTimeout(this.#startTimer);
    clearTimeout(this.#killTimer);
    this.#health?.close();
    this.#control?.destroy();
    if (this.#ok >= 0) closeSync(this.#ok);
    if (this.#lock >= 0) closeSync(this.#lock);
    this.#directory?.close();
  }
}

function milliseconds(time: Time): number {
  return time.seconds * 1000 + Math.floor(time.nanoseconds / 1_000_000);
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
