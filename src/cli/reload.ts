/** `outrider reload [--base-id N]`: asks a running proxy to read its configuration again, and prints what it says. */

import { parseArgs } from "node:util";
import { controlSocketPath, sendControl } from "../server/base-id.ts";

export async function reload(argv: string[]): Promise<number> {
  let values: { "base-id"?: string; "restart-epoch"?: string };
  try {
    ({ values } = parseArgs({ args: argv, options: { "base-id": { type: "string" }, "restart-epoch": { type: "string" } } }));
  } catch (error) {
    process.stderr.write(`reload: ${(error as Error).message}\nusage: outrider reload [--base-id N] [--restart-epoch N]\n`);
    return 1;
  }
  const path = controlSocketPath(Number(values["base-id"] ?? 0), Number(values["restart-epoch"] ?? 0));
  const answer = await sendControl(path, "reload");
  if (answer === undefined) {
    process.stderr.write(`reload: no proxy listens on ${path}: is it running, and with this --base-id? (SIGHUP to its process does the same)\n`);
    return 1;
  }
  process.stdout.write(`${answer}\n`);
  return answer.startsWith("error") ? 1 : 0;
}
