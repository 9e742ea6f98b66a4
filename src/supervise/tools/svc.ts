/**
 * svc -LETTERS SERVICE...: sends command bytes to each service's control fifo, in one write. Exit code 0 whatever becomes of it: scripts count on
 * that. With -w STATE it then waits, and says by its exit code how that went.
 */
import { closeSync, writeSync } from "node:fs";
import { resolve } from "node:path";
import { getopt } from "../getopt.ts";
import { complain, EXIT_TROUBLE, EXIT_USAGE, errorCode, fatal, warn } from "../messages.ts";
import { CONTROL, openFifoForWriting } from "../service-directory.ts";
import { isWaitState, WAIT_STATES, waitFor } from "../wait.ts";

/** As s6-svwait's. */
const EXIT_TIMED_OUT = 99;
const MAX_WAIT_S = 86_400;

export function run(args: string[]): number | Promise<number> {
  const options = getopt("svc", "udopchaitkx12w:W:", args);
  if (options.wrong) {
    complain("svc options: u up, d down, o once, x exit, p pause, c continue, h hup, a alarm, i interrupt, t term, k kill\n");
    return EXIT_USAGE;
  }
  let state: string | undefined;
  let seconds = MAX_WAIT_S;
  for (const { letter, value } of options.given) {
    if (letter === "w") state = value;
    if (letter === "W") seconds = /^[0-9]{1,5}(?:\.[0-9]{1,3})?$/.test(value) ? Number(value) : -1;
  }
  if (state !== undefined && !isWaitState(state)) {
    complain(`svc: usage: -w takes ${WAIT_STATES.join(", ")}, not ${JSON.stringify(state)}\n`);
    return EXIT_USAGE;
  }
  if (seconds < 0 || seconds > MAX_WAIT_S) {
    complain(`svc: usage: -W takes a number of seconds up to ${MAX_WAIT_S}\n`);
    return EXIT_USAGE;
  }
  const commands = Buffer.from([...new Set(options.given.map((option) => option.letter))].filter((letter) => letter !== "w" && letter !== "W").join(""));
  const start = process.cwd();
  const reached: string[] = [];
  for (const service of options.rest) {
    try {
      process.chdir(service);
    } catch (error) {
      warn("svc", `unable to chdir to ${service}`, error);
      continue;
    }
    if (commands.length === 0 || send(service, commands)) reached.push(service);
    process.chdir(start);
  }
  if (state === undefined) return 0;
  return wait(reached, state, seconds, options.rest.length - reached.length);
}

/** Whether somebody got them. */
function send(service: string, commands: Buffer): boolean {
  try {
    const fd = openFifoForWriting(CONTROL);
    try {
      if (writeSync(fd, commands) === commands.length) return true;
      warn("svc", `unable to write all commands to ${service}: the fifo is full`);
    } finally {
      closeSync(fd);
    }
  } catch (error) {
    if (errorCode(error) === "ENXIO") warn("svc", `unable to control ${service}: supervise not running`);
    else warn("svc", `unable to control ${service}`, error);
  }
  return false;
}

async function wait(services: readonly string[], state: (typeof WAIT_STATES)[number], seconds: number, missed: number): Promise<number> {
  const until = performance.now() + seconds * 1000;
  let code = missed > 0 ? EXIT_TROUBLE : 0;
  for (const service of services) {
    const outcome = await waitFor(resolve(service), state, until);
    if (outcome.kind === "reached") continue;
    if (outcome.kind === "timeout") {
      warn("svc", `${service} is not ${state} after ${seconds} seconds: ${outcome.now}`);
      if (code === 0) code = EXIT_TIMED_OUT;
    } else {
      fatal("svc", `unable to wait for ${service}: ${outcome.why}`);
      code = EXIT_TROUBLE;
    }
  }
  return code;
}
