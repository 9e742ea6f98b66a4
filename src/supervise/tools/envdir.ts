/** envdir DIR CHILD: sets a variable for each file in DIR, then becomes CHILD. */
import { chain, rawEnvironment } from "../chain.ts";
import { EnvironmentDirectoryError, readEnvironmentDirectory } from "../environment-directory.ts";
import { EXIT_TROUBLE, fatal, usage } from "../messages.ts";

export function run(args: string[]): number {
  if (args.length < 2) return usage("envdir", "envdir dir child", EXIT_TROUBLE);
  const [directory, ...child] = args;
  const variables = rawEnvironment();
  // The child is looked for on the PATH that envdir was called with.
  const path = variables.get("PATH");
  try {
    for (const [name, value] of readEnvironmentDirectory(directory)) {
      if (value === undefined) variables.delete(name);
      else variables.set(name, value);
    }
  } catch (error) {
    if (error instanceof EnvironmentDirectoryError) return fatal("envdir", error.message, error.reason);
    throw error;
  }
  return chain("envdir", child, { env: variables, path: path ?? "/bin:/usr/bin" });
}
