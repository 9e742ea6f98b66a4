/** setuidgid ACCOUNT CHILD: gives up every right but the account's own, then becomes CHILD. */
import { findAccount } from "../accounts.ts";
import { chain } from "../chain.ts";
import { fatal, usage } from "../messages.ts";

export function run(args: string[]): number {
  if (args.length < 2) return usage("setuidgid", "setuidgid account child");
  const [name, ...child] = args;
  const account = findAccount(name);
  if (account === undefined) return fatal("setuidgid", `unknown account ${name}`);
  try {
    process.setgroups?.([account.gid]);
    process.setgid?.(account.gid);
  } catch (error) {
    return fatal("setuidgid", "unable to setgid", error);
  }
  try {
    process.setuid?.(account.uid);
  } catch (error) {
    return fatal("setuidgid", "unable to setuid", error);
  }
  return chain("setuidgid", child);
}
