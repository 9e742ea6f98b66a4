/** Runs a service's `finish` after each end of ./run. */
import type { ChildProcess } from "node:child_process";
import { constants } from "node:os";
import { warn } from "../messages.ts";
import { type End, spawnOwn } from "./process.ts";
import { type ServiceSettings, serviceEnvironment } from "./settings.ts";

/** A finish that ends with this code wants the service to stay down, as in s6. */
export const STAY_DOWN = 125;

/** The two arguments of finish, and what supervise/exit holds: exit code or -1, number of the signal or 0. */
export function endNumbers(end: End): [code: number, signal: number] {
  return [end.code ?? -1, end.signal === null ? 0 : constants.signals[end.signal]];
}

export interface Finish {
  readonly pid: number;
}

/** `onDone` gets the exit code, -1 when it was killed or could not be run. Output goes where the service's goes. */
export function runFinish(
  base: string,
  name: string,
  settings: ServiceSettings,
  end: End,
  stdio: readonly ("inherit" | "ignore" | number)[],
  onDone: (code: number) => void,
): Finish | undefined {
  let child: ChildProcess;
  try {
    child = spawnOwn("./finish", endNumbers(end).map(String), { cwd: base, stdio: [...stdio], env: serviceEnvironment(settings) });
  } catch (error) {
    warn("supervise", `unable to start ${name}/finish`, error);
    onDone(-1);
    return undefined;
  }
  let isDone = false;
  let limit: NodeJS.Timeout | undefined;
  const done = (code: number): void => {
    if (isDone) return;
    isDone = true;
    clearTimeout(limit);
    onDone(code);
  };
  if (settings.timeoutFinish > 0) {
    limit = setTimeout(() => {
      warn("supervise", `${name}/finish does not end within ${settings.timeoutFinish} ms (timeout-finish): killing it`);
      child.kill("SIGKILL");
    }, settings.timeoutFinish);
  }
  child.once("error", (error) => {
    warn("supervise", `unable to start ${name}/finish`, error);
    done(-1);
  });
  child.once("exit", (code) => done(code ?? -1));
  return child.pid === undefined ? undefined : { pid: child.pid };
}
