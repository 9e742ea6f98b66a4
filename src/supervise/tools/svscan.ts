/**
 * svscan [DIR]: supervises every service directory in DIR. TERM and INT take the services down, then their logs, and end; a second one does
 * not wait for the unwilling. HUP looks at the directory at once.
 */

import { pinDirectory } from "../../os/pinned-directory.ts";
import { fatal } from "../messages.ts";
import { Scan } from "../scan.ts";

export function run(args: string[]): number | Promise<number> {
  if (args[0] !== undefined) {
    try {
      pinDirectory(args[0]).close();
      process.chdir(args[0]);
    } catch (error) {
      return fatal("svscan", `unable to chdir to ${args[0]}`, error);
    }
  }
  return new Promise((resolve) => {
    const scan = new Scan({ directory: ".", onStopped: () => resolve(0) });
    let isStopping = false;
    const stop = (): void => {
      if (isStopping) scan.kill();
      else scan.stop();
      isStopping = true;
    };
    process.on("SIGTERM", stop);
    process.on("SIGINT", stop);
    process.on("SIGHUP", () => scan.pass());
    scan.begin();
  });
}
