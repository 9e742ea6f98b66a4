/** supervise DIR: starts the service there and watches over it. */
import { fatal, usage } from "../messages.ts";
import { SuperviseError } from "../status-files.ts";
import { Supervisor } from "../supervisor.ts";

export function run(args: string[]): number | Promise<number> {
  if (args.length !== 1) return usage("supervise", "supervise dir");
  const [directory] = args;
  return new Promise((resolve) => {
    try {
      const supervisor = new Supervisor({ path: directory, name: directory, onClosed: () => resolve(0) });
      // A supervise that goes takes its service along: left alone it would be started a second time by the next one.
      process.on("SIGTERM", () => supervisor.command("dx"));
      supervisor.begin();
    } catch (error) {
      if (!(error instanceof SuperviseError)) throw error;
      resolve(fatal("supervise", error.message, error.reason));
    }
  });
}
