/** pgrphack CHILD: becomes CHILD in a session and process group of its own. */
import { chain } from "../chain.ts";
import { usage } from "../messages.ts";

export function run(args: string[]): number {
  if (args.length === 0) return usage("pgrphack", "pgrphack child");
  return chain("pgrphack", args, { newSession: true });
}
