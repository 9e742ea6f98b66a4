/** fghack CHILD: keeps a daemon that puts itself in the background in the foreground: waits until the last holder of a pipe it hands out is gone. */
import { type ChildProcess, spawn } from "node:child_process";
import { closeSync, openSync } from "node:fs";
import { Socket } from "node:net";
import { checkExecutableFormat } from "../../os/executable.ts";
import { withOriginalOpenFilesLimit } from "../../os/open-files.ts";
import { systemOs } from "../../os/os.ts";
import { findProgram } from "../chain.ts";
import { fatal, usage, warn } from "../messages.ts";

/** A daemon closes the descriptors it knows of; hardly one closes this many. */
const DESCRIPTORS = 30;
const SPARE = 8;
const FORWARDED = ["SIGTERM", "SIGHUP", "SIGINT", "SIGALRM", "SIGUSR1", "SIGUSR2", "SIGQUIT"] as const;

export function run(args: string[]): number | Promise<number> {
  if (args.length === 0) return usage("fghack", "fghack child");
  try {
    checkExecutableFormat(findProgram(args[0], process.env["PATH"] ?? "/bin:/usr/bin"));
  } catch (error) {
    return fatal("fghack", `unable to run ${args[0]}`, error);
  }
  const [read, write] = systemOs().pipe();
  return new Promise((resolve) => {
    let outcome: number | undefined;
    let isClosed = false;
    const settle = (): void => {
      if (outcome !== undefined && isClosed) resolve(outcome);
    };
    // libuv reports a failed exec through a pipe of its own, which the child's many descriptors must not overwrite: it gets a higher number.
    const placeholders = Array.from({ length: DESCRIPTORS + SPARE }, () => openSync("/dev/null", "r"));
    const child: ChildProcess = withOriginalOpenFilesLimit(() =>
      spawn(args[0], args.slice(1), { stdio: ["inherit", "inherit", "inherit", ...Array<number>(DESCRIPTORS).fill(write)] }),
    );
    for (const fd of [write, ...placeholders]) closeSync(fd);
    child.once("error", (error) => resolve(fatal("fghack", `unable to run ${args[0]}`, error)));
    child.once("exit", (code, signal) => {
      outcome = signal === null ? (code ?? 0) : fatal("fghack", "child crashed");
      settle();
    });
    for (const signal of FORWARDED) process.on(signal, () => child.kill(signal));
    const pipe = new Socket({ fd: read, readable: true, writable: false });
    pipe.resume();
    pipe.on("error", (error) => warn("fghack", "unable to read from the pipe", error));
    pipe.on("close", () => {
      isClosed = true;
      settle();
    });
  });
}
