/** svok DIR: 0 when a supervise runs there, 100 when not. */
import { statSync } from "node:fs";
import { systemError } from "../../os/os.ts";
import { EXIT_USAGE, fatal, usage } from "../messages.ts";
import { isSupervised } from "../service-directory.ts";

export function run(args: string[]): number {
  const directory = args[0];
  if (directory === undefined) return usage("svok", "svok dir");
  try {
    if (!statSync(directory).isDirectory()) throw systemError("ENOTDIR", "chdir");
    process.chdir(directory);
  } catch (error) {
    return fatal("svok", `unable to chdir to ${directory}`, error);
  }
  try {
    return isSupervised(".") ? 0 : EXIT_USAGE;
  } catch (error) {
    return fatal("svok", `unable to open ${directory}/supervise/ok`, error);
  }
}
