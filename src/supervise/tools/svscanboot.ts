/** svscanboot: what an init starts: a clean environment, every old service told to end, then svscan on /service with its complaints in the process list. */
import { spawn } from "node:child_process";
import { existsSync, openSync, readdirSync, writeSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { fatal } from "../messages.ts";
import { CONTROL, openFifoForWriting } from "../service-directory.ts";

const PATH = "/command:/usr/local/bin:/usr/local/sbin:/bin:/sbin:/usr/bin:/usr/sbin:/usr/X11R6/bin";
/** daemontools' own place, then Debian's. */
const PLACES = ["/service", "/etc/service"];
const DOTS = 400;

/** Services that an earlier svscan left behind. */
function stopOld(directory: string): void {
  for (const name of readdirSync(directory)) {
    if (name.startsWith(".")) continue;
    for (const service of [name, `${name}/log`]) {
      try {
        writeSync(openFifoForWriting(join(directory, service, CONTROL)), "dx");
      } catch {
        // not supervised
      }
    }
  }
}

export function run(args: string[]): number | Promise<number> {
  const directory = args[0] ?? PLACES.find((place) => existsSync(place)) ?? PLACES[0];
  try {
    stopOld(directory);
  } catch (error) {
    return fatal("svscanboot", `unable to read ${directory}`, error);
  }
  const tools = join(dirname(fileURLToPath(import.meta.url)), "../../../bin/daemontools");
  const nothing = openSync("/dev/null", "r+");
  const env = { PATH: `${tools}:${PATH}` };
  return new Promise((resolve) => {
    const title = spawn(join(tools, "readproctitle"), ["service", "errors:", ".".repeat(DOTS)], { env, stdio: ["pipe", nothing, nothing] });
    const scan = spawn(join(tools, "svscan"), [directory], { env, stdio: [nothing, "pipe", "pipe"] });
    if (title.stdin !== null) {
      title.stdin.on("error", () => {}); // svscan goes on without its listener
      scan.stdout?.pipe(title.stdin, { end: false });
      scan.stderr?.pipe(title.stdin, { end: false });
    }
    title.on("error", () => {});
    for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"] as const) process.on(signal, () => scan.kill(signal));
    scan.once("error", (error) => resolve(fatal("svscanboot", "unable to start svscan", error)));
    scan.once("exit", (code) => {
      title.stdin?.end();
      resolve(code ?? 111);
    });
  });
}
