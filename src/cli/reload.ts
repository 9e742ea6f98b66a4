/** `outrider reload [--base-id N]`: asks a running proxy to read its configuration again, and prints what it says. */

import { controlSocketPath, sendControl } from "../server/base-id.ts";
import { flagsHelp, parseFlags, type VerbFlag } from "./flags.ts";

export const FLAGS: readonly VerbFlag[] = [
  { name: "base-id", value: "N", help: "the proxy's --base-id (default 0)" },
  { name: "restart-epoch", value: "N", help: "the proxy's --restart-epoch (default 0)" },
];
const USAGE = "usage: outrider reload [--base-id N] [--restart-epoch N]\n";

export async function reload(argv: string[]): Promise<number> {
  const parsed = parseFlags(FLAGS, argv);
  const wrong = parsed.kind === "error" ? parsed.text : parsed.words.length > 0 ? `takes no '${parsed.words[0]}'` : undefined;
  if (parsed.kind === "error" || wrong !== undefined) {
    process.stderr.write(`reload: ${wrong}\n${USAGE}`);
    return 1;
  }
  const { given } = parsed;
  if (given["help"] !== undefined) {
    process.stdout.write(`${USAGE}\nAsks a running proxy to read its configuration again, and prints what it says.\n\n${flagsHelp(FLAGS)}`);
    return 0;
  }
  const path = controlSocketPath(Number(given["base-id"] ?? 0), Number(given["restart-epoch"] ?? 0));
  const answer = await sendControl(path, "reload");
  if (answer === undefined) {
    process.stderr.write(`reload: no proxy listens on ${path}: is it running, and with this --base-id? (SIGHUP to its process does the same)\n`);
    return 1;
  }
  process.stdout.write(`${answer}\n`);
  return answer.startsWith("error") ? 1 : 0;
}
