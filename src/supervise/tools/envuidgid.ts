/** envuidgid ACCOUNT CHILD: sets UID and GID to the account's numbers, then becomes CHILD as the same user. */
import { findAccount } from "../accounts.ts";
import { chain, rawEnvironment } from "../chain.ts";
import { fatal, usage } from "../messages.ts";

export function run(args: string[]): number {
  if (args.length < 2) return usage("envuidgid", "envuidgid account child");
  const [name, ...child] = args;
  const account = findAccount(name);
  if (account === undefined) return fatal("envuidgid", `unknown account ${name}`);
  const variables = rawEnvironment();
  variables.set("UID", String(account.uid));
  variables.set("GID", String(account.gid));
  return chain("envuidgid", child, { env: variables });
}
