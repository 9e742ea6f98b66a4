/** The last step of every chain-loading command: become the program named on the command line, in the same process. */
import { accessSync, constants, readFileSync, statSync } from "node:fs";
import { restoreOpenFilesLimit } from "../os/open-files.ts";
import { type ExecRequest, systemError, systemOs } from "../os/os.ts";
import { errorCode, fatal } from "./messages.ts";

/** Text whose characters are bytes, as the kernel gave them: names need not be UTF-8. */
function latin1(text: string): string {
  return Buffer.from(text).toString("latin1");
}

/** The last `count` arguments of this process as bytes. */
export function rawArguments(args: readonly string[]): string[] {
  if (!args.some((text) => text.includes("\ufffd"))) return args.map(latin1);
  try {
    const all = readFileSync("/proc/self/cmdline").toString("latin1").split("\0");
    all.pop();
    return args.length === 0 ? [] : all.slice(-args.length);
  } catch {
    return args.map(latin1);
  }
}

/** NAME=VALUE of this process as bytes, as it was started; without /proc as Node read it. */
export function rawEnvironment(): Map<string, string> {
  const variables = new Map<string, string>();
  let entries: string[];
  try {
    entries = readFileSync("/proc/self/environ").toString("latin1").split("\0");
  } catch {
    entries = Object.entries(process.env).map(([name, value]) => latin1(`${name}=${value}`));
  }
  for (const entry of entries) {
    const equals = entry.indexOf("=");
    if (equals > 0) variables.set(entry.slice(0, equals), entry.slice(equals + 1));
  }
  return variables;
}

/** Looks a name without a slash up on PATH as execvp does: a file that may not be run is passed over, but remembered as the reason. */
export function findProgram(name: string, path: string): string {
  if (name.includes("/")) return name;
  if (name === "") throw systemError("EACCES", "execve", name); // every directory of PATH is found, none can be run
  let denied: unknown;
  for (const directory of path.split(":")) {
    const candidate = `${directory === "" ? "." : directory}/${name}`;
    const bytes = Buffer.from(candidate, "latin1");
    try {
      accessSync(bytes, constants.X_OK);
      if (statSync(bytes).isFile()) return candidate;
    } catch (error) {
      if (errorCode(error) === "EACCES") denied = error;
    }
  }
  throw denied ?? systemError("ENOENT", "execve", name);
}

export interface ChainOptions {
  readonly env?: Map<string, string>;
  /** PATH to search, when it is not the one in `env`. */
  readonly path?: string;
  readonly lock?: ExecRequest["lock"];
  readonly newSession?: boolean;
  readonly limits?: ExecRequest["limits"];
}

/** Becomes `args[0]`, or says why not and returns the exit code. */
export function chain(program: string, args: readonly string[], options: ChainOptions = {}): number {
  const env = options.env ?? rawEnvironment();
  const argv = rawArguments(args);
  try {
    const file = findProgram(argv[0], options.path ?? env.get("PATH") ?? "/bin:/usr/bin");
    if (options.limits?.some((limit) => limit.name === "nofile") !== true) restoreOpenFilesLimit();
    return systemOs().exec(
      { file, argv, env: [...env].map(([name, value]) => `${name}=${value}`), lock: options.lock, limits: options.limits },
      options.newSession,
    );
  } catch (error) {
    if ((error as NodeJS.ErrnoException).syscall === "setrlimit") return fatal(program, "setrlimit failed", error);
    return fatal(program, `unable to run ${args[0]}`, error);
  }
}
