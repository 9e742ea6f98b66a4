/**
 * The opt-in files of a service directory. Each is small and plain; what is not there leaves the service to daemontools' rules. They are read
 * again at every start, so that a change holds from the next start on. docs/service-directory.md explains each to users.
 */
import { readdirSync, readFileSync } from "node:fs";
import { constants } from "node:os";
import { EnvironmentDirectoryError, readEnvironmentDirectory } from "../environment-directory.ts";
import { reason } from "../messages.ts";
import { parseSchedule, type Schedule } from "./schedule.ts";

export interface ServiceSettings {
  /** A program that runs after every end of ./run. */
  readonly finish: boolean;
  /** Milliseconds until a finish that does not end is killed; 0: never. */
  readonly timeoutFinish: number;
  /** The descriptor on which ./run says with a newline that it is ready. */
  readonly notificationFd: number | undefined;
  /** A program that tells by its exit code whether the service is well. */
  readonly check: boolean;
  /** Milliseconds between two checks of a service that is ready. */
  readonly checkInterval: number;
  /** Failures in a row that make a service unhealthy. */
  readonly checkFailures: number;
  /** An unhealthy service is restarted. */
  readonly checkRestart: boolean;
  /** Milliseconds from the down signal to KILL; 0: never. */
  readonly timeoutKill: number;
  readonly downSignal: NodeJS.Signals;
  /** Names of sibling services that must be ready first. */
  readonly depends: readonly string[];
  /** Variables to set, or with undefined to remove. */
  readonly environment: ReadonlyMap<string, string | undefined> | undefined;
  /** Arguments for softlimit. */
  readonly limits: readonly string[];
  readonly every: Schedule | undefined;
  /** The greatest pause between two starts, milliseconds; 0: always one second. */
  readonly backoff: number;
  /** After `count` ends within `within` milliseconds the service stays down. */
  readonly deathLimit: { readonly count: number; readonly within: number } | undefined;
  /** What is wrong in the files; they count as absent. */
  readonly problems: readonly string[];
}

/** Names are softlimit's own words; the letters its options. */
const LIMIT_LETTERS: Readonly<Record<string, string>> = {
  allbytes: "a",
  corebytes: "c",
  databytes: "d",
  filebytes: "f",
  lockbytes: "l",
  membytes: "m",
  openfiles: "o",
  processes: "p",
  residentbytes: "r",
  stackbytes: "s",
  cpusecs: "t",
};

const MAX_FILE_BYTES = 65536;
const MAX_MS = 7 * 86_400_000;
const MAX_BACKOFF_S = 86_400;
const MAX_NOTIFICATION_FD = 255;
const MAX_DEPENDENCIES = 100;
const FINISH_MS = 5000;
const CHECK_INTERVAL_MS = 10_000;
const CHECK_FAILURES = 3;

const NONE: ServiceSettings = {
  finish: false,
  timeoutFinish: FINISH_MS,
  notificationFd: undefined,
  check: false,
  checkInterval: CHECK_INTERVAL_MS,
  checkFailures: CHECK_FAILURES,
  checkRestart: false,
  timeoutKill: 0,
  downSignal: "SIGTERM",
  depends: [],
  environment: undefined,
  limits: [],
  every: undefined,
  backoff: 0,
  deathLimit: undefined,
  problems: [],
};

function wholeNumber(text: string, least: number, most: number, unit: string): number {
  const number = /^[0-9]{1,12}$/.test(text) ? Number(text) : -1;
  if (number < least || number > most) throw new Error(`${JSON.stringify(text)} is not a number${unit} from ${least} to ${most}`);
  return number;
}

function lines(text: string): string[] {
  return text
    .split("\n")
    .map((line) => line.replace(/#.*/, "").trim())
    .filter((line) => line !== "");
}

function parseSignal(text: string): NodeJS.Signals {
  const name = text.toUpperCase().replace(/^(?:SIG)?(?=[A-Z])/, "SIG");
  for (const [signal, number] of Object.entries(constants.signals)) if (signal === name || String(number) === text) return signal as NodeJS.Signals;
  throw new Error(`${JSON.stringify(text)} is no signal: a name like INT or a number like 2 is expected`);
}

function parseLimits(text: string): string[] {
  return lines(text).flatMap((line) => {
    const [name, value, ...more] = line.split(/[\s=:]+/);
    const letter = Object.hasOwn(LIMIT_LETTERS, name) ? LIMIT_LETTERS[name] : undefined;
    if (letter === undefined) throw new Error(`unknown limit ${JSON.stringify(name)}; there are ${Object.keys(LIMIT_LETTERS).join(", ")}`);
    const amount = value === "unlimited" || value === "hard" ? "=" : value;
    if (amount === undefined || more.length > 0 || !/^(?:=|[0-9]{1,19})$/.test(amount)) {
      throw new Error(`${JSON.stringify(line)} is not a name followed by a whole number or "hard"`);
    }
    return [`-${letter}`, amount];
  });
}

function parseDepends(text: string): string[] {
  const names = lines(text).flatMap((line) => line.split(/\s+/));
  for (const name of names)
    if (name.includes("/") || name.startsWith(".")) throw new Error(`${JSON.stringify(name)} is not the name of a service beside this one`);
  if (names.length > MAX_DEPENDENCIES) throw new Error(`more than ${MAX_DEPENDENCIES} names`);
  return [...new Set(names)];
}

function parseDeathLimit(text: string): { count: number; within: number } {
  const [count, seconds, ...more] = text.split(/\s+/);
  if (more.length > 0 || seconds === undefined) throw new Error(`${JSON.stringify(text)} is not "COUNT SECONDS", as in "5 60"`);
  return { count: wholeNumber(count, 1, 4096, " of ends"), within: wholeNumber(seconds, 1, MAX_BACKOFF_S, " of seconds") * 1000 };
}

/** Never throws: what cannot be read or understood is told in `problems`. */
export function readSettings(base: string): ServiceSettings {
  let names: Set<string>;
  try {
    names = new Set(readdirSync(base));
  } catch {
    return NONE;
  }
  const problems: string[] = [];
  const read = <T>(name: string, absent: T, parse: (text: string) => T): T => {
    if (!names.has(name)) return absent;
    try {
      const bytes = readFileSync(`${base}/${name}`);
      if (bytes.length > MAX_FILE_BYTES) throw new Error(`longer than ${MAX_FILE_BYTES} bytes`);
      return parse(bytes.toString("utf8").trim());
    } catch (error) {
      problems.push(`${name}: ${(error as NodeJS.ErrnoException).code === undefined ? (error as Error).message : reason(error)}`);
      return absent;
    }
  };
  const milliseconds = (text: string): number => wholeNumber(text, 0, MAX_MS, " of milliseconds");
  let environment: ServiceSettings["environment"];
  if (names.has("env")) {
    try {
      environment = readEnvironmentDirectory(`${base}/env`, "env");
    } catch (error) {
      if (!(error instanceof EnvironmentDirectoryError)) throw error;
      problems.push(`${error.message}: ${reason(error.reason)}`);
    }
  }
  return {
    finish: names.has("finish"),
    timeoutFinish: read("timeout-finish", NONE.timeoutFinish, milliseconds),
    notificationFd: read<number | undefined>("notification-fd", undefined, (text) => wholeNumber(text, 3, MAX_NOTIFICATION_FD, "")),
    check: names.has("check"),
    checkInterval: read("check-interval", NONE.checkInterval, (text) => wholeNumber(text, 100, MAX_MS, " of milliseconds")),
    checkFailures: read("check-failures", NONE.checkFailures, (text) => wholeNumber(text, 1, 1000, "")),
    checkRestart: names.has("check-restart"),
    timeoutKill: read("timeout-kill", NONE.timeoutKill, milliseconds),
    downSignal: read("down-signal", NONE.downSignal, parseSignal),
    depends: read<readonly string[]>("depends", NONE.depends, parseDepends),
    environment,
    limits: read<readonly string[]>("limits", NONE.limits, parseLimits),
    every: read<Schedule | undefined>("every", undefined, parseSchedule),
    backoff: read("backoff", NONE.backoff, (text) => wholeNumber(text, 1, MAX_BACKOFF_S, " of seconds") * 1000),
    deathLimit: read<ServiceSettings["deathLimit"]>("death-limit", undefined, parseDeathLimit),
    problems,
  };
}

/** The variables of this process with those of env/ over them. */
export function serviceEnvironment(settings: ServiceSettings): NodeJS.ProcessEnv {
  if (settings.environment === undefined) return process.env;
  const all: NodeJS.ProcessEnv = { ...process.env };
  for (const [name, value] of settings.environment) {
    if (value === undefined) delete all[utf8(name)];
    else all[utf8(name)] = utf8(value);
  }
  return all;
}

const utf8 = (latin1: string): string => Buffer.from(latin1, "latin1").toString("utf8");
