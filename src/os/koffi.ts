/** libc through koffi. */
import { createRequire } from "node:module";
import { getSystemErrorName } from "node:util";
import { type ExecRequest, LIMITS, type LimitName, type Os, systemError } from "./os.ts";

interface NativeFunction {
  (...values: unknown[]): number;
  /** In a thread of libuv's pool. */
  async(...valuesAndCallback: unknown[]): void;
}
interface Library {
  func(definition: string): NativeFunction;
}
interface Koffi {
  load(path: string | null): Library;
  address(value: unknown): bigint | number;
  errno(): number;
}

const LOCK_EX = 2;
const LOCK_NB = 4;
const F_SETFD = 2;
const F_DUPFD_CLOEXEC = 1030;
const SPLICE_F_NONBLOCK = 2;
const O_CLOEXEC = 0o2000000;
const WNOHANG = 1;
const PR_SET_CHILD_SUBREAPER = 36;
const P_ALL = 0;
const WEXITED = 4;
const WNOWAIT = 0x01000000;
/** siginfo_t is 128 bytes; si_pid follows three ints and, where pointers have eight bytes, four of padding. */
const SIGINFO_BYTES = 128;
const SI_PID = process.arch === "arm" || process.arch === "ia32" ? 12 : 16;
/** The same number on every architecture: it is younger than their common table. */
const SYS_PIDFD_OPEN = 434;
const POLLIN = 1;
const POLLFD_BYTES = 8;
/** Node ignores both; a program started by exec would inherit that. */
const SIGNALS_TO_RESTORE = [13, 25];

/** koffi's own package spends 20 ms on looking for its binary in many places, the binary alone loads in 2; the tools start often. */
function loadKoffi(): Koffi {
  const require = createRequire(import.meta.url);
  try {
    return require(`@koromix/koffi-${process.platform}-${process.arch}`) as Koffi;
  } catch {
    return require("koffi") as Koffi;
  }
}

/** Throws where koffi is not installed for this platform. */
export function createKoffiOs(): Os {
  const koffi = loadKoffi();
  const libc = koffi.load(null);
  // Declared when first used: each declaration costs a lookup, and a tool needs one or two.
  const declared = new Map<string, NativeFunction>();
  const native = (definition: string): NativeFunction => {
    let found = declared.get(definition);
    if (found === undefined) {
      found = libc.func(definition);
      declared.set(definition, found);
    }
    return found;
  };
  const call = (definition: string, ...values: unknown[]): number => native(definition)(...values);
  const fail = (name: string, detail = ""): never => {
    throw systemError(getSystemErrorName(-koffi.errno()), name, detail);
  };
  const cString = (text: string): Buffer => Buffer.from(`${text}\0`, "latin1");
  const limitNumber = (limit: LimitName): number => LIMITS[limit].number;

  return {
    backend: "koffi",
    flock(fd, wait) {
      if (call("int flock(int, int)", fd, wait ? LOCK_EX : LOCK_EX | LOCK_NB) !== 0) fail("flock");
    },
    mkfifo(path, mode) {
      if (call("int mkfifo(void *, unsigned int)", Buffer.from(`${path}\0`), mode) !== 0) fail("mkfifo", path);
    },
    pipe() {
      const ends = new Int32Array(2);
      if (call("int pipe2(void *, int)", ends, O_CLOEXEC) !== 0) fail("pipe2");
      return [ends[0], ends[1]];
    },
    getrlimit(limit) {
      const pair = new BigUint64Array(2);
      if (call("int getrlimit(int, void *)", limitNumber(limit), pair) !== 0) fail("getrlimit", limit);
      return { soft: pair[0], hard: pair[1] };
    },
    setrlimit(limit, soft, hard) {
      if (call("int setrlimit(int, void *)", limitNumber(limit), BigUint64Array.of(soft, hard)) !== 0) fail("setrlimit", limit);
    },
    exec(request: ExecRequest, newSession = false): never {
      if (newSession) call("int setsid(void)"); // fails only for a group leader, who has what was asked for
      // The strings stay referenced by these arrays until the call: the kernel reads them through bare addresses.
      const held: Buffer[] = [];
      const vector = (texts: readonly string[]): BigUint64Array => {
        const addresses = new BigUint64Array(texts.length + 1);
        for (let i = 0; i < texts.length; i++) {
          const text = cString(texts[i]);
          held.push(text);
          addresses[i] = BigInt(koffi.address(text));
        }
        return addresses;
      };
      const file = cString(request.file);
      const argv = vector(request.argv);
      const env = vector(request.env);
      for (const signal of SIGNALS_TO_RESTORE) call("void *signal(int, void *)", signal, null);
      // Node marks the standard descriptors close-on-exec, too.
      for (const fd of [0, 1, 2]) call("int fcntl(int, int, int)", fd, F_SETFD, 0);
      if (request.lock !== undefined) call("int fcntl(int, int, int)", request.lock.fd, F_SETFD, 0);
      const limits = (request.limits ?? []).map((limit) => ({ number: limitNumber(limit.name), pair: BigUint64Array.of(limit.soft, limit.hard) }));
      if (limits.length > 0) {
        // Under a limit of memory V8 may not get its next page: everything is made ready before, and the garbage is out.
        const setrlimit = native("int setrlimit(int, void *)");
        const execve = native("int execve(void *, void *, void *)");
        (globalThis as { gc?: (options: { type: "minor" }) => void }).gc?.({ type: "minor" });
        for (const { number, pair } of limits) if (setrlimit(number, pair) !== 0) fail("setrlimit");
        execve(file, argv, env);
        return fail("execve", request.file);
      }
      call("int execve(void *, void *, void *)", file, argv, env);
      return fail("execve", request.file);
    },
    becomeSubreaper() {
      if (call("int prctl(int, unsigned long, unsigned long, unsigned long, unsigned long)", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) !== 0) fail("prctl");
    },
    reap(pid) {
      return call("int waitpid(int, void *, int)", pid, new Int32Array(1), WNOHANG) === pid;
    },
    peekEndedChild() {
      const info = Buffer.alloc(SIGINFO_BYTES);
      const result = call("int waitid(int, unsigned int, void *, int)", P_ALL, 0, info, WEXITED | WNOHANG | WNOWAIT);
      return result === 0 ? info.readInt32LE(SI_PID) : 0;
    },
    openProcess(pid) {
      const fd = call("long syscall(long, long, long)", SYS_PIDFD_OPEN, pid, 0);
      if (fd < 0) fail("pidfd_open");
      return fd;
    },
    tee(from, to, bytes) {
      const count = call("long tee(int, int, unsigned long, unsigned int)", from, to, bytes, SPLICE_F_NONBLOCK);
      if (count < 0) fail("tee");
      return count;
    },
    duplicate(fd) {
      const copy = call("int fcntl(int, int, int)", fd, F_DUPFD_CLOEXEC, 0);
      if (copy < 0) fail("fcntl");
      return copy;
    },
    whenReadable(fds, done) {
      const list = Buffer.alloc(fds.length * POLLFD_BYTES);
      for (const [i, fd] of fds.entries()) {
        list.writeInt32LE(fd, i * POLLFD_BYTES);
        list.writeInt16LE(POLLIN, i * POLLFD_BYTES + 4);
      }
      native("int poll(void *, unsigned long, int)").async(list, fds.length, -1, () =>
        done(fds.filter((_fd, i) => list.readInt16LE(i * POLLFD_BYTES + 6) !== 0)),
      );
    },
  };
}
