/** svc -LETTERS SERVICE...: sends command bytes to each service's control fifo, in one write. Exit code 0 whatever becomes of it: scripts count on that. */
import { closeSync, writeSync } from "node:fs";
import { getopt } from "../getopt.ts";
import { complain, EXIT_USAGE, errorCode, warn } from "../messages.ts";
import { CONTROL, openFifoForWriting } from "../service-directory.ts";

export function run(args: string[]): number {
  const options = getopt("svc", "udopchaitkx", args);
  if (options.wrong) {
    complain("svc options: u up, d down, o once, x exit, p pause, c continue, h hup, a alarm, i interrupt, t term, k kill\n");
    return EXIT_USAGE;
  }
  const commands = Buffer.from([...new Set(options.given.map((option) => option.letter))].join(""));
  const start = process.cwd();
  for (const service of options.rest) {
    try {
      process.chdir(service);
    } catch (error) {
      warn("svc", `unable to chdir to ${service}`, error);
      continue;
    }
    try {
      const fd = openFifoForWriting(CONTROL);
      try {
        if (writeSync(fd, commands) !== commands.length) warn("svc", `unable to write all commands to ${service}: the fifo is full`);
      } finally {
        closeSync(fd);
      }
    } catch (error) {
      if (errorCode(error) === "ENXIO") warn("svc", `unable to control ${service}: supervise not running`);
      else warn("svc", `unable to control ${service}`, error);
    }
    process.chdir(start);
  }
  return 0;
}
