/** setlock OPTIONS FILE CHILD: locks FILE and becomes CHILD, which keeps the lock until its last heir is gone. */
import { constants, openSync } from "node:fs";
import { systemOs } from "../../os/os.ts";
import { chain } from "../chain.ts";
import { getopt } from "../getopt.ts";
import { fatal, usage } from "../messages.ts";

export function run(args: string[]): number {
  const options = getopt("setlock", "nNxX", args);
  if (options.wrong || options.rest.length < 2) return usage("setlock", "setlock [ -nNxX ] file program [ arg ... ]");
  let waits = true;
  let isQuiet = false;
  for (const { letter } of options.given) {
    if (letter === "n" || letter === "N") waits = letter === "N";
    else isQuiet = letter === "x";
  }
  const [path, ...child] = options.rest;
  let fd: number;
  try {
    fd = openSync(path, constants.O_WRONLY | constants.O_NONBLOCK | constants.O_APPEND | constants.O_CREAT, 0o600);
  } catch (error) {
    return isQuiet ? 0 : fatal("setlock", `unable to open ${path}`, error);
  }
  try {
    systemOs().flock(fd, waits);
  } catch (error) {
    return isQuiet ? 0 : fatal("setlock", `unable to lock ${path}`, error);
  }
  return chain("setlock", child, { lock: { fd, path } });
}
