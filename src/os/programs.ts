/** The same through small programs of the system, for machines without koffi. Slower to start, and it cannot reap orphans. */
import { spawnSync } from "node:child_process";
import { accessSync, closeSync, constants, mkdtempSync, openSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { checkExecutableFormat } from "./executable.ts";
import { type ExecRequest, LIMITS, type Os, systemError, UNLIMITED } from "./os.ts";

/** Exit codes of `flock -E` that no other failure uses. */
const LOCK_HELD = 75;

function run(program: string, args: string[], descriptor?: number): { status: number; stderr: string } {
  const stdio: ("ignore" | "pipe" | number)[] = ["ignore", "ignore", "pipe"];
  if (descriptor !== undefined) stdio.push(descriptor);
  const result = spawnSync(program, args, { stdio, encoding: "utf8" });
  if (result.error !== undefined) throw systemError("ENOSYS", program, "is not installed, and neither is the optional package koffi");
  return { status: result.status ?? 1, stderr: result.stderr };
}

/** util-linux and coreutils print strerror's text; these are the ones that can be acted on. */
function codeOf(stderr: string): string {
  if (stderr.includes("File exists")) return "EEXIST";
  if (stderr.includes("Permission denied")) return "EACCES";
  if (stderr.includes("not permitted")) return "EPERM";
  if (stderr.includes("No such file")) return "ENOENT";
  if (stderr.includes("Read-only")) return "EROFS";
  if (stderr.includes("No space")) return "ENOSPC";
  return "EINVAL";
}

const utf8 = (latin1: string): string => Buffer.from(latin1, "latin1").toString("utf8");

const limitText = (value: bigint): string => (value === UNLIMITED ? "unlimited" : String(value));

function replaceProcess(argv: string[], env: readonly string[]): never {
  const variables: Record<string, string> = {};
  for (const entry of env) {
    const equals = entry.indexOf("=");
    if (equals > 0) variables[utf8(entry.slice(0, equals))] = utf8(entry.slice(equals + 1));
  }
  if (process.execve === undefined) throw systemError("ENOSYS", "execve", "needs Node 24 or the optional package koffi");
  process.execve(argv[0], argv, variables);
  throw systemError("ENOSYS", "execve");
}

function findProgram(name: string): string {
  for (const directory of ["/usr/bin", "/bin", "/usr/local/bin", "/usr/sbin", "/sbin"]) {
    try {
      closeSync(openSync(join(directory, name), "r"));
      return join(directory, name);
    } catch {
      // looked for in the next directory
    }
  }
  throw systemError("ENOSYS", name, "is not installed, and neither is the optional package koffi");
}

export function createProgramsOs(): Os {
  return {
    backend: "programs",
    flock(fd, wait) {
      // A lock belongs to the open file description, which the program shares with us: it stays when the program ends.
      const { status, stderr } = run("flock", ["-x", ...(wait ? [] : ["-n"]), "-E", String(LOCK_HELD), "3"], fd);
      if (status === LOCK_HELD) throw systemError("EAGAIN", "flock");
      if (status !== 0) throw systemError(codeOf(stderr), "flock");
    },
    mkfifo(path, mode) {
      const { status, stderr } = run("mkfifo", ["-m", mode.toString(8), "--", path]);
      if (status !== 0) throw systemError(codeOf(stderr), "mkfifo", path);
    },
    pipe() {
      const directory = mkdtempSync(join(tmpdir(), "outrider-pipe-"));
      try {
        const path = join(directory, "pipe");
        this.mkfifo(path, 0o600);
        // Opened for both first, so that neither of the two plain opens waits for the other end.
        const both = openSync(path, "r+");
        const ends: [number, number] = [openSync(path, "r"), openSync(path, "w")];
        closeSync(both);
        return ends;
      } finally {
        rmSync(directory, { recursive: true, force: true });
      }
    },
    getrlimit(limit) {
      const { title } = LIMITS[limit];
      const line = readFileSync("/proc/self/limits", "utf8")
        .split("\n")
        .find((text) => text.startsWith(title));
      if (line === undefined) throw systemError("EINVAL", "getrlimit", limit);
      const [soft, hard] = line
        .slice(title.length)
        .trim()
        .split(/ +/)
        .slice(0, 2) // the unit follows
        .map((text) => (text === "unlimited" ? UNLIMITED : BigInt(text)));
      return { soft, hard };
    },
    setrlimit(limit, soft, hard) {
      const { status, stderr } = run("prlimit", ["--pid", String(process.pid), `--${LIMITS[limit].option}=${limitText(soft)}:${limitText(hard)}`]);
      if (status !== 0) throw systemError(codeOf(stderr), "setrlimit", limit);
    },
    exec(request: ExecRequest, newSession = false): never {
      // Once this process is `env`, only env could tell, in its own words.
      const file = Buffer.from(request.file, "latin1");
      accessSync(file, constants.X_OK);
      if (statSync(file).isDirectory()) throw systemError("EACCES", "execve", request.file);
      checkExecutableFormat(utf8(request.file));
      const command = [findProgram("env"), "--default-signal=PIPE,XFSZ", "--"];
      if (request.limits !== undefined && request.limits.length > 0) {
        command.unshift(
          findProgram("prlimit"),
          ...request.limits.map((limit) => `--${LIMITS[limit.name].option}=${limitText(limit.soft)}:${limitText(limit.hard)}`),
        );
      }
      if (newSession) command.push(findProgram("setsid"));
      if (request.lock !== undefined) {
        // Our descriptor closes on exec; the shell's does not. The moment between the two is the price of doing without koffi.
        command.push("/bin/sh", "-c", 'exec 9>>"$0" && flock 9 && exec "$@"', utf8(request.lock.path));
      }
      command.push(utf8(request.file), ...request.argv.slice(1).map(utf8));
      return replaceProcess(command, request.env);
    },
    becomeSubreaper() {
      throw systemError("ENOSYS", "prctl", "needs the optional package koffi");
    },
    reap() {
      return false;
    },
    peekEndedChild() {
      return 0;
    },
    openProcess() {
      throw systemError("ENOSYS", "pidfd_open", "needs the optional package koffi");
    },
    tee() {
      throw systemError("ENOSYS", "tee", "needs the optional package koffi");
    },
    duplicate() {
      throw systemError("ENOSYS", "fcntl", "needs the optional package koffi");
    },
    whenReadable(fds, done) {
      done([...fds]); // nothing to wait with: the caller looks, and comes again
    },
  };
}
