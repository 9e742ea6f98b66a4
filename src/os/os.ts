/**
 * What Node lacks and a supervisor needs from the system: locks, fifos, limits, sessions, replacing the process.
 *
 * Two backends: `koffi` calls libc in this process (a foreign function package with prebuilt binaries, an optional dependency) and
 * `programs` asks util-linux and coreutils (flock, mkfifo, prlimit, setsid, env) where it is not installed. What neither can do fails with
 * ENOSYS and names what to install. OUTRIDER_OS=koffi|programs forces one, for tests.
 *
 * Every function fails as Node's own file functions do: an Error whose `code` is the errno name.
 */
import { createRequire } from "node:module";

/** Numbers of setrlimit(2) on Linux (asm-generic; the same on x86-64, arm64 and riscv64) with prlimit's option for each. */
export const LIMITS = {
  cpu: { number: 0, option: "cpu", title: "Max cpu time" },
  fsize: { number: 1, option: "fsize", title: "Max file size" },
  data: { number: 2, option: "data", title: "Max data size" },
  stack: { number: 3, option: "stack", title: "Max stack size" },
  core: { number: 4, option: "core", title: "Max core file size" },
  rss: { number: 5, option: "rss", title: "Max resident set" },
  nproc: { number: 6, option: "nproc", title: "Max processes" },
  nofile: { number: 7, option: "nofile", title: "Max open files" },
  memlock: { number: 8, option: "memlock", title: "Max locked memory" },
  as: { number: 9, option: "as", title: "Max address space" },
} as const;
export type LimitName = keyof typeof LIMITS;

/** RLIM_INFINITY. */
export const UNLIMITED = (1n << 64n) - 1n;

/** One limit, as setrlimit(2) takes it. */
export interface Limit {
  readonly name: LimitName;
  readonly soft: bigint;
  readonly hard: bigint;
}

/** One program to become: strings hold bytes (latin1), so that arguments and environment pass through untouched. */
export interface ExecRequest {
  /** Path of the program; already looked up. */
  readonly file: string;
  readonly argv: readonly string[];
  /** NAME=VALUE entries. */
  readonly env: readonly string[];
  /** Limits for the new program; set at the last moment, since this one may not be able to live with them. */
  readonly limits?: readonly Limit[];
  /** A lock that the new program keeps: the descriptor that holds it, the file behind it. */
  readonly lock?: { readonly fd: number; readonly path: string };
}

export interface Os {
  readonly backend: "koffi" | "programs";
  /** flock(2), exclusive. Fails with EAGAIN when somebody holds it and `wait` is false; else blocks the thread. */
  flock(fd: number, wait: boolean): void;
  /** Makes a fifo; EEXIST when the name is taken. */
  mkfifo(path: string, mode: number): void;
  /** Both ends of a new pipe, close-on-exec: [read, write]. */
  pipe(): [number, number];
  getrlimit(limit: LimitName): { soft: bigint; hard: bigint };
  setrlimit(limit: LimitName, soft: bigint, hard: bigint): void;
  /** Replaces this process, in a session of its own when `newSession`; signals ignored by Node get their default back. Returns only by throwing. */
  exec(request: ExecRequest, newSession?: boolean): never;
  /** Orphans below this process become its children (PR_SET_CHILD_SUBREAPER). */
  becomeSubreaper(): void;
  /** Collects one ended child that Node does not know of; false while it runs or when it is not ours. */
  reap(pid: number): boolean;
  /** The pid of a child that has ended and was not collected yet, without collecting it; 0 when there is none. */
  peekEndedChild(): number;
  /** A descriptor that becomes readable when the process ends (pidfd_open(2), Linux 5.3); ESRCH when it has. */
  openProcess(pid: number): number;
  /**
   * Copies up to `bytes` from a pipe into another one without taking them (tee(2)); how many, 0 at the end of input. Fails with EAGAIN when there
   * is nothing yet, or no room.
   */
  tee(from: number, to: number, bytes: number): number;
  /** A second descriptor of the same open file, close-on-exec. */
  duplicate(fd: number): number;
  /** Waits in another thread until one of the descriptors is readable; `done` gets those that are. */
  whenReadable(fds: readonly number[], done: (readable: number[]) => void): void;
}

/** An error as Node's file system functions throw it. */
export function systemError(code: string, call: string, detail = ""): NodeJS.ErrnoException {
  const error: NodeJS.ErrnoException = new Error(`${code}: ${call}${detail === "" ? "" : ` ${detail}`}`);
  error.code = code;
  error.syscall = call;
  return error;
}

let loaded: Os | undefined;

/** The backend of this machine; loaded at the first call, since most tools need it once or never. */
export function systemOs(): Os {
  if (loaded !== undefined) return loaded;
  const require = createRequire(import.meta.url);
  const forced = process.env["OUTRIDER_OS"];
  if (forced !== "programs") {
    try {
      const { createKoffiOs } = require("./koffi.ts") as typeof import("./koffi.ts");
      loaded = createKoffiOs();
      return loaded;
    } catch (error) {
      if (forced === "koffi") throw error;
    }
  }
  const { createProgramsOs } = require("./programs.ts") as typeof import("./programs.ts");
  loaded = createProgramsOs();
  return loaded;
}
