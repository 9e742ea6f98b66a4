/** `outrider drain` and `outrider ready`: what a container's hooks and probes ask of the proxy beside them, through its admin interface. */
import { setTimeout as sleep } from "node:timers/promises";
import { type Endpoint, formatEndpoint, parseEndpoint } from "../pod/options.ts";
import { ask } from "../pod/probe.ts";
import { flagsHelp, parseFlags, type VerbFlag } from "./flags.ts";

const ADMIN: VerbFlag = { name: "admin", value: "ADDRESS:PORT", help: "the proxy's admin address (default 127.0.0.1:9901)" };
export const READY_FLAGS: readonly VerbFlag[] = [ADMIN];
export const DRAIN_FLAGS: readonly VerbFlag[] = [
  ADMIN,
  { name: "grace", value: "SECONDS", help: "time for load balancers to notice before anything else (default 5)" },
  { name: "timeout", value: "SECONDS", help: "longest time in all (default 25)" },
];

const LOOPBACK = "127.0.0.1";
const DEFAULT_PORT = "9901";
const MAX_SECONDS = 86_400;
const INTERVAL_MS = 200;

interface Request {
  readonly admin: Endpoint;
  readonly seconds: Readonly<Record<string, number>>;
}

/** The exit code when there is nothing more to do. */
function parse(verb: string, about: string, flags: readonly VerbFlag[], argv: string[], defaults: Readonly<Record<string, number>>): Request | number {
  const usage = `usage: outrider ${verb} ${flags.map(({ name, value }) => `[--${name}${value === undefined ? "" : ` ${value}`}]`).join(" ")}\n`;
  const parsed = parseFlags(flags, argv);
  const fail = (why: string): number => {
    process.stderr.write(`${verb}: ${why}\n${usage}`);
    return 1;
  };
  if (parsed.kind === "error") return fail(parsed.text);
  if (parsed.words.length > 0) return fail(`takes no '${parsed.words[0]}'`);
  const { given } = parsed;
  if (given["help"] !== undefined) {
    process.stdout.write(`${usage}\n${about}\n\n${flagsHelp(flags)}`);
    return 0;
  }
  const admin = parseEndpoint(String(given["admin"] ?? DEFAULT_PORT), LOOPBACK);
  if (admin === undefined || admin.port === 0) return fail(`--admin '${given["admin"]}' is no ADDRESS:PORT`);
  const seconds: Record<string, number> = {};
  for (const [name, value] of Object.entries(defaults)) {
    const text = String(given[name] ?? value);
    if (!/^[0-9]{1,5}$/.test(text) || Number(text) > MAX_SECONDS) return fail(`--${name} '${text}' is no number of seconds up to ${MAX_SECONDS}`);
    seconds[name] = Number(text);
  }
  return { admin, seconds };
}

/** Exit code 0 when the proxy takes traffic. */
export async function ready(argv: string[]): Promise<number> {
  const request = parse("ready", "Exit code 0 when the proxy takes traffic, else 1 and why.", READY_FLAGS, argv, {});
  if (typeof request === "number") return request;
  const answer = await ask(request.admin, "/ready", "GET");
  if (answer?.status === 200) return 0;
  process.stderr.write(`ready: ${answer === undefined ? `nothing answers at ${formatEndpoint(request.admin)}` : answer.body.trim()}\n`);
  return 1;
}

/** Takes the proxy out of service without losing a request: for a preStop hook. */
export async function drain(argv: string[]): Promise<number> {
  const about = `Takes the proxy out of service without losing a request: /ready says no, connections are closed behind their answers, and when the time of
grace is over listening stops and requests in flight are waited for. The process goes on; end it with SIGTERM.`;
  const request = parse("drain", about, DRAIN_FLAGS, argv, { grace: 5, timeout: 25 });
  if (typeof request === "number") return request;
  const { admin, seconds } = request;
  const until = performance.now() + seconds["timeout"] * 1000;
  for (const path of ["/healthcheck/fail", "/drain_listeners?graceful&skip_exit"]) {
    const answer = await ask(admin, path, "POST");
    if (answer?.status === 200) continue;
    process.stderr.write(
      `drain: ${answer === undefined ? `nothing answers at ${formatEndpoint(admin)}` : `${path}: ${answer.status} ${answer.body.trim()}`}\n`,
    );
    return 1;
  }
  await sleep(Math.min(seconds["grace"], seconds["timeout"]) * 1000);
  await ask(admin, "/drain_listeners", "POST");
  for (;;) {
    const active = await activeRequests(admin);
    if (active === 0) return 0;
    if (performance.now() >= until) {
      process.stderr.write(`drain: ${active} requests are still in flight after ${seconds["timeout"]} seconds\n`);
      return 1;
    }
    await sleep(INTERVAL_MS);
  }
}

/** Requests in flight, those to the admin interface left out; 0 when the proxy has gone. */
async function activeRequests(admin: Endpoint): Promise<number> {
  const answer = await ask(admin, `/stats?filter=${encodeURIComponent("^http\\..*\\.downstream_rq_active$")}`, "GET");
  let active = 0;
  for (const [, name, value] of answer?.body.matchAll(/^http\.(.*)\.downstream_rq_active: ([0-9]+)$/gm) ?? []) if (name !== "admin") active += Number(value);
  return active;
}
