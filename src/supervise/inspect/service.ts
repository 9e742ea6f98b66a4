/** What is known of a service from its directory and /proc, whoever supervises it: Outrider, DJB's supervise or runit's runsv. */
import { existsSync, readFileSync, readlinkSync, realpathSync, statSync } from "node:fs";
import { join } from "node:path";
import { errorCode, reason } from "../messages.ts";
import { EXIT, isSupervised, REPORT, type State as ReportedState, STATUS, type Status, unpackStatus, type Want } from "../service-directory.ts";
import type { Time } from "../tai64n.ts";
import type { FoundService } from "./find.ts";
import { lastLine } from "./log-cursor.ts";
import { logDirectories } from "./log-directories.ts";
import { ProcessTable } from "./processes.ts";
import { dateOf, stampOf } from "./stamps.ts";
import { duration, type Exit, signalName } from "./words.ts";

const STATES: readonly ReportedState[] = ["up", "ready", "unhealthy", "paused", "stopping", "finishing", "down", "waiting", "failed"];
/** As supervise/status.json has it; `unsupervised`: no supervise runs there; `unknown`: not to be seen. */
export type State = ReportedState | "unsupervised" | "unknown";

export interface Use {
  readonly residentBytes: number;
  readonly processes: number;
  /** Of one processor. */
  readonly cpuPercent: number;
  /** Average since the service's start, or since the last look. */
  readonly cpuOver: "life" | "interval";
}

export interface LastLine {
  readonly directory: string;
  readonly time: Time | undefined;
  /** Without the stamp. */
  readonly bytes: Buffer;
}

/** What stands in status.json and the 18 bytes of status; what one of them does not tell is undefined. */
export interface Facts {
  readonly state: State;
  readonly want: Want | undefined;
  readonly pid: number;
  /** Last start or end. */
  readonly since: Date | undefined;
  readonly readySince: Date | undefined;
  /** Since this supervise began. */
  readonly starts: number | undefined;
  readonly lastExit: Exit | undefined;
  readonly nextStart: Date | undefined;
  readonly waitingFor: readonly string[];
  readonly reason: string | undefined;
  /** It says or is asked when it is ready: until then it is just up. */
  readonly hasReadiness: boolean;
  /** What is wrong in the files of the service directory; they count as absent. */
  readonly warnings: readonly string[];
  readonly supervisorPid: number | undefined;
}

export interface ServiceReport extends Facts {
  readonly name: string;
  readonly path: string;
  /** Whether it is as it should be, and if not, why: short text, not safe for a terminal as it is. */
  readonly isAsWanted: boolean;
  readonly problem: string | undefined;
  readonly use: Use | undefined;
  readonly log: ServiceReport | undefined;
  readonly logDirectories: readonly string[];
  readonly lastLine: LastLine | undefined;
}

const record = (value: unknown): Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value) ? (value as Record<string, unknown>) : {};
const text = (value: unknown): string | undefined => (typeof value === "string" && value !== "" ? value : undefined);
const texts = (value: unknown): string[] => (Array.isArray(value) ? value.filter((one) => typeof one === "string") : []);
const whole = (value: unknown): number | undefined => (typeof value === "number" && Number.isSafeInteger(value) && value >= 0 ? value : undefined);
const date = (value: unknown): Date | undefined => {
  const found = typeof value === "string" ? new Date(value) : undefined;
  return found === undefined || Number.isNaN(found.getTime()) ? undefined : found;
};

/** supervise/status.json; undefined when it is no such thing. Fields of the wrong type count as missing. */
export function parseStatusJson(source: string): Facts | undefined {
  let fields: Record<string, unknown>;
  try {
    fields = record(JSON.parse(source));
  } catch {
    return undefined;
  }
  const state = STATES.find((one) => one === fields["state"]);
  if (state === undefined) return undefined;
  const exit = record(fields["lastExit"]);
  const code = whole(exit["code"]) ?? null;
  const signal = text(exit["signal"]) ?? null;
  const isAdopted = exit["adopted"] === true;
  const at = date(exit["at"]);
  const ranMs = whole(exit["ranMs"]);
  const hasExit = code !== null || signal !== null || isAdopted;
  return {
    state,
    want: (["up", "down", "once"] as const).find((one) => one === fields["want"]),
    pid: whole(fields["pid"]) ?? 0,
    since: date(fields["since"]),
    readySince: date(fields["readySince"]),
    starts: whole(fields["starts"]),
    lastExit: hasExit ? { code, signal, ...(at && { at }), ...(ranMs !== undefined && { ranMs }), ...(isAdopted && { adopted: true as const }) } : undefined,
    nextStart: date(fields["nextStart"]),
    waitingFor: texts(fields["waitingFor"]),
    reason: text(fields["reason"]),
    hasReadiness: fields["hasReadiness"] === true,
    warnings: texts(fields["problems"]),
    supervisorPid: whole(fields["supervisorPid"]) || undefined,
  };
}

const NOTHING: Omit<Facts, "state" | "reason"> = {
  want: undefined,
  pid: 0,
  since: undefined,
  readySince: undefined,
  starts: undefined,
  lastExit: undefined,
  nextStart: undefined,
  waitingFor: [],
  hasReadiness: false,
  warnings: [],
  supervisorPid: undefined,
};

/** runit writes two bytes more, the second says what runs: 0 nothing, 1 run, 2 finish. */
const RUNIT_BYTES = 20;
const RUNIT_FINISH = 2;

export function factsOfRecord(bytes: Buffer): Facts | undefined {
  const status = unpackStatus(bytes);
  if (status === undefined) return undefined;
  const isFinishing = bytes.length >= RUNIT_BYTES && bytes[RUNIT_BYTES - 1] === RUNIT_FINISH;
  return { ...NOTHING, state: stateOf(status, isFinishing), want: status.want, pid: status.pid, since: dateOf(status.since), reason: undefined };
}

function stateOf(status: Status, isFinishing: boolean): State {
  if (status.pid === 0) return "down";
  if (isFinishing) return "finishing";
  if (status.paused) return "paused";
  return status.want === "down" ? "stopping" : "up";
}

/** supervise/exit: `CODE SIGNAL`, -1 and the number when a signal ended it. */
export function parseExit(source: string): Exit | undefined {
  const found = /^(-?\d{1,6}) (\d{1,3})\s*$/.exec(source);
  if (found === null) return undefined;
  const [code, signal] = [Number(found[1]), Number(found[2])];
  return code >= 0 ? { code, signal: null } : { code: null, signal: signal === 0 ? null : signalName(signal) };
}

function read(path: string): Buffer | undefined {
  try {
    return readFileSync(path);
  } catch (error) {
    const code = errorCode(error);
    if (code === "ENOENT" || code === "ENOTDIR") return undefined;
    throw error;
  }
}

function readFacts(path: string): Facts {
  try {
    const bytes = read(join(path, STATUS));
    const source = read(join(path, REPORT));
    const basic = bytes === undefined ? undefined : factsOfRecord(bytes);
    let facts = source === undefined ? undefined : parseStatusJson(source.toString("utf8"));
    // Another supervise has been here since: only ours writes both.
    if (facts !== undefined && basic !== undefined && facts.pid !== basic.pid && isNewer(join(path, STATUS), join(path, REPORT))) facts = undefined;
    facts ??= basic;
    if (!isSupervised(path)) return { ...(facts ?? NOTHING), state: "unsupervised", reason: undefined };
    if (facts === undefined) return { ...NOTHING, state: "unknown", reason: "supervise has not written a status yet" };
    if (facts.lastExit !== undefined) return facts;
    const exit = read(join(path, EXIT));
    return { ...facts, lastExit: exit === undefined ? undefined : parseExit(exit.toString("latin1")) };
  } catch (error) {
    const hint = errorCode(error) === "EACCES" ? " (look as the user that supervise runs as, or as root)" : "";
    return { ...NOTHING, state: "unknown", reason: `${reason(error)}: ${join(path, "supervise")}${hint}` };
  }
}

/** By more than what lies between two writes of the same change. */
function isNewer(path: string, than: string): boolean {
  try {
    return statSync(path).mtimeMs > statSync(than).mtimeMs + 1000;
  } catch {
    return false;
  }
}

export interface Surroundings {
  readonly now: Date;
  /** The process of `pid` runs; undefined when nobody can tell. */
  readonly isAlive: boolean | undefined;
  /** It is started from time to time (`every`). */
  readonly isScheduled: boolean;
}

/** Ends this close to each other, this often, are a crash loop. */
const LOOP_MS = 5000;
const LOOP_STARTS = 3;

/** Why a service is not as it should be; undefined: it is. */
export function problemOf(facts: Facts, around: Surroundings): string | undefined {
  const { state, want, lastExit } = facts;
  const why = facts.reason === undefined ? "" : `: ${facts.reason}`;
  const next = facts.nextStart === undefined ? "" : `; next start in ${duration(facts.nextStart.getTime() - around.now.getTime())}`;
  const failed = lastExit !== undefined && (lastExit.code !== 0 || lastExit.signal !== null) && lastExit.adopted === undefined;
  switch (state) {
    case "unsupervised":
      return facts.pid !== 0 && around.isAlive ? `no supervise runs here, but its process ${facts.pid} still does` : "no supervise runs here";
    case "unknown":
      return facts.reason ?? "nothing is known of it";
    case "failed":
      return `given up${why === "" ? ": svc -u starts it again" : why}`;
    case "unhealthy":
      return `its check fails${why}`;
    case "paused":
      return "paused: svc -c lets it go on";
    case "finishing":
      return `its finish script runs${next}`;
    case "stopping":
      return "asked to stop, still running";
    case "waiting":
      if (facts.waitingFor.length > 0) return `waits for ${facts.waitingFor.join(", ")}`;
      if (around.isScheduled) return failed ? `its last run failed${why}${next}` : undefined;
      return `waits before it is started again${why}${next}`;
    case "down":
      if (want === "down") return undefined;
      if (want === "once") return failed ? "ran once and failed" : undefined;
      return `wanted up${why}${next}`;
    case "up":
    case "ready":
      if (want === "down") return "wanted down, still up";
      if (around.isAlive === false) return `its process has ended${next === "" ? "; it is started again within a second" : next}`;
      if (state === "up" && facts.hasReadiness) return "not ready yet";
      if (isLooping(facts, around.now)) return `started ${facts.starts} times, ends soon each time`;
      return undefined;
  }
}

function isLooping(facts: Facts, now: Date): boolean {
  const { since, starts = 0, lastExit } = facts;
  if (since === undefined || starts < LOOP_STARTS || lastExit?.at === undefined || lastExit.ranMs === undefined) return false;
  return now.getTime() - since.getTime() < LOOP_MS && lastExit.ranMs < LOOP_MS && since.getTime() - lastExit.at.getTime() < LOOP_MS;
}

/** Start times from /proc are this exact, and a record says when supervise came to write it. */
const START_SLACK_MS = 2000;

interface Look {
  readonly pid: number;
  readonly cpuMs: number;
  readonly at: number;
}

/** Looks at services, again and again: processor time is counted from one look to the next. */
export class Inspector {
  readonly #looks = new Map<string, Look>();
  readonly #logs = new Map<string, { readonly pids: string; readonly directories: readonly string[] }>();
  readonly #lines = new Map<string, { readonly mark: string; readonly line: LastLine | undefined }>();

  look(services: readonly FoundService[], now = new Date()): ServiceReport[] {
    const table = new ProcessTable();
    return services.map((service) => this.#report(service, table, now));
  }

  #report(service: FoundService, table: ProcessTable, now: Date): ServiceReport {
    const { name, path } = service;
    const own = this.#own(service, table, now);
    const log = existsSync(join(path, "log")) ? this.#own({ name: "log", path: join(path, "log") }, table, now) : undefined;
    const pids = [...(log?.pids ?? []), ...own.pids];
    const directories = this.#logDirectories(path, name, pids);
    return {
      ...own.report,
      log: log?.report,
      logDirectories: directories,
      lastLine: directories.length === 0 ? undefined : this.#lastLine(directories[0]),
    };
  }

  #own({ name, path }: FoundService, table: ProcessTable, now: Date): { readonly report: ServiceReport; readonly pids: readonly number[] } {
    const facts = readFacts(path);
    const isAlive = facts.pid !== 0 && table.isKnown ? table.isAlive(facts.pid) && this.#isIts(facts, path, table) : undefined;
    const problem = problemOf(facts, {
      now,
      isAlive,
      // A file that other supervises do not know.
      isScheduled: facts.supervisorPid !== undefined && existsSync(join(path, "every")),
    });
    const tree = isAlive ? table.tree(facts.pid) : undefined;
    const use =
      tree === undefined
        ? undefined
        : { residentBytes: tree.residentBytes, processes: tree.pids.length, ...this.#cpu(path, facts.pid, tree.cpuMs, table, now) };
    // What a stale record names is nobody's any more.
    const pid = facts.state === "unsupervised" && isAlive === false ? 0 : facts.pid;
    const report = { ...facts, pid, name, path, isAsWanted: problem === undefined, problem, use, log: undefined, logDirectories: [], lastLine: undefined };
    return { report, pids: tree?.pids ?? [] };
  }

  /** With a supervise the pid is the service's; a stale record's may be anybody's by now: then it has to run here, or since then. */
  #isIts(facts: Facts, path: string, table: ProcessTable): boolean {
    if (facts.state !== "unsupervised") return true;
    const started = table.startedAt(facts.pid);
    if (started === undefined || facts.since === undefined || Math.abs(started.getTime() - facts.since.getTime()) < START_SLACK_MS) return true;
    try {
      return readlinkSync(`/proc/${facts.pid}/cwd`) === realpathSync(path);
    } catch {
      return false;
    }
  }

  #cpu(path: string, pid: number, cpuMs: number, table: ProcessTable, now: Date): Pick<Use, "cpuPercent" | "cpuOver"> {
    const at = performance.now();
    const last = this.#looks.get(path);
    this.#looks.set(path, { pid, cpuMs, at });
    const share = (used: number, over: number): number => (over > 0 ? Math.max(0, (used / over) * 100) : 0);
    if (last !== undefined && last.pid === pid) return { cpuPercent: share(cpuMs - last.cpuMs, at - last.at), cpuOver: "interval" };
    const started = table.startedAt(pid);
    return { cpuPercent: started === undefined ? 0 : share(cpuMs, now.getTime() - started.getTime()), cpuOver: "life" };
  }

  #logDirectories(path: string, name: string, pids: readonly number[]): readonly string[] {
    const key = pids.join(" ");
    const known = this.#logs.get(path);
    if (known !== undefined && known.pids === key && known.directories.length > 0) return known.directories;
    const directories = logDirectories(path, name, pids);
    this.#logs.set(path, { pids: key, directories });
    return directories;
  }

  #lastLine(directory: string): LastLine | undefined {
    let mark: string;
    try {
      const { ino, size, mtimeMs } = statSync(join(directory, "current"));
      mark = `${ino} ${size} ${mtimeMs}`;
    } catch {
      mark = "";
    }
    const known = this.#lines.get(directory);
    if (known !== undefined && mark !== "" && known.mark === mark) return known.line;
    const bytes = lastLine(directory);
    const stamp = bytes === undefined ? undefined : stampOf(bytes);
    const line = bytes === undefined ? undefined : { directory, time: stamp?.time, bytes: bytes.subarray(stamp?.length ?? 0) };
    this.#lines.set(directory, { mark, line });
    return line;
  }
}
