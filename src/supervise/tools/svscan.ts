/**
 * svscan [--exit-with NAME] [--stop-timeout SECONDS] [DIR]: supervises every service directory in DIR. TERM, INT and PWR take the services down,
 * then their logs, and end; a second one does not wait for the unwilling. HUP looks at the directory at once. Fit for process 1.
 */
import { constants } from "node:os";
import { pinDirectory } from "../../os/pinned-directory.ts";
import { fatal, usage } from "../messages.ts";
import { actAsProcessOne } from "../process-one.ts";
import { Scan } from "../scan.ts";

const USAGE = "svscan [ --exit-with name ] [ --stop-timeout seconds ] [ dir ]";
/** As process 1, whose container runtime kills what has not ended in ten seconds. */
const PROCESS_ONE_STOP_S = 8;
const MAX_STOP_S = 86_400;

interface Request {
  directory: string | undefined;
  /** The service whose end ends all. */
  exitWith: string | undefined;
  /** Seconds until what has not ended is killed; 0: never. */
  stopTimeout: number;
}

function parse(args: readonly string[]): Request | undefined {
  const request: Request = { directory: undefined, exitWith: undefined, stopTimeout: process.pid === 1 ? PROCESS_ONE_STOP_S : 0 };
  let i = 0;
  for (; i < args.length && args[i].startsWith("--") && args[i] !== "--"; i++) {
    const equals = args[i].indexOf("=");
    const name = equals < 0 ? args[i] : args[i].slice(0, equals);
    const value = equals < 0 ? args[++i] : args[i].slice(equals + 1);
    if (value === undefined) return undefined;
    if (name === "--exit-with") request.exitWith = value;
    else if (name === "--stop-timeout" && /^[0-9]{1,5}$/.test(value) && Number(value) <= MAX_STOP_S) request.stopTimeout = Number(value);
    else return undefined;
  }
  if (args[i] === "--") i++;
  request.directory = args[i];
  return request;
}

export function run(args: string[]): number | Promise<number> {
  const request = parse(args);
  if (request === undefined) return usage("svscan", USAGE);
  if (request.directory !== undefined) {
    try {
      pinDirectory(request.directory).close();
      process.chdir(request.directory);
    } catch (error) {
      return fatal("svscan", `unable to chdir to ${request.directory}`, error);
    }
  }
  actAsProcessOne("svscan");
  return new Promise((resolve) => {
    let exitCode = 0;
    let limit: NodeJS.Timeout | undefined;
    const scan = new Scan({
      directory: ".",
      onEnd(name, code, signal) {
        if (name !== request.exitWith || isStopping) return;
        exitCode = signal === null ? (code ?? 0) : 128 + constants.signals[signal];
        stop();
      },
      onStopped() {
        clearInterval(limit);
        resolve(exitCode);
      },
    });
    let isStopping = false;
    const stop = (): void => {
      if (isStopping) {
        scan.kill();
        return;
      }
      isStopping = true;
      if (request.stopTimeout > 0) limit = setInterval(() => scan.kill(), request.stopTimeout * 1000);
      scan.stop();
    };
    for (const signal of ["SIGTERM", "SIGINT", "SIGPWR"] as const) process.on(signal, stop);
    process.on("SIGHUP", () => scan.pass());
    scan.begin();
  });
}
