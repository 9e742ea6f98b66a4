/** The part of WASI (snapshot preview 1) that modules for proxies use: a clock, random bytes, environment variables, and output that is logged. No files. */
import { randomFillSync } from "node:crypto";
import { type GuestMemory, MemoryError } from "./guest-memory.ts";

const errno = { success: 0, badf: 8, fault: 21, inval: 28, nosys: 52, notsup: 58, spipe: 70, notcapable: 76 } as const;

/** The guest asked to end. */
export class GuestExit extends Error {}

export interface WasiHost {
  readonly memory: GuestMemory;
  readonly environment: readonly (readonly [string, string])[];
  /** What it writes to its standard output and error. */
  output(stream: "stdout" | "stderr", text: string): void;
}

type HostFunction = (...args: never[]) => number;

/** More than this in one write is cut. */
const maxOutputBytes = 64 * 1024;

/** Functions that are known and not there for a proxy: they answer ENOSYS, or that the descriptor is none. */
const absent: Readonly<Record<string, number>> = Object.fromEntries([
  ...["fd_advise", "fd_allocate", "fd_datasync", "fd_fdstat_set_flags", "fd_fdstat_set_rights", "fd_filestat_get", "fd_filestat_set_size"].map((name) => [
    name,
    errno.badf,
  ]),
  ...["fd_filestat_set_times", "fd_pread", "fd_prestat_get", "fd_prestat_dir_name", "fd_pwrite", "fd_read", "fd_readdir", "fd_renumber"].map((name) => [
    name,
    errno.badf,
  ]),
  ...["fd_sync", "fd_tell", "path_create_directory", "path_filestat_get", "path_filestat_set_times", "path_link", "path_open"].map((name) => [
    name,
    errno.badf,
  ]),
  ...["path_readlink", "path_remove_directory", "path_rename", "path_symlink", "path_unlink_file"].map((name) => [name, errno.badf]),
  ...["poll_oneoff", "proc_raise", "sock_accept", "sock_recv", "sock_send", "sock_shutdown", "clock_res_get"].map((name) => [name, errno.nosys]),
]);

export function wasiFunctions(host: WasiHost): Record<string, HostFunction> {
  const { environment } = host;
  const listSizes = (count: number, size: number, texts: readonly string[]): number => {
    host.memory.setUint32(count, texts.length);
    host.memory.setUint32(
      size,
      texts.reduce((sum, text) => sum + Buffer.byteLength(text) + 1, 0),
    );
    return errno.success;
  };
  const list = (pointers: number, at: number, texts: readonly string[]): number => {
    let next = at;
    texts.forEach((text, index) => {
      host.memory.setUint32(pointers + index * 4, next);
      const data = Buffer.from(`${text}\0`);
      host.memory.write(next, data);
      next += data.length;
    });
    return errno.success;
  };
  const variables = environment.map(([name, value]) => `${name}=${value}`);
  const functions: Record<string, HostFunction> = {
    fd_write(file: number, vectors: number, count: number, written: number) {
      if (file !== 1 && file !== 2) return errno.badf;
      if (count >>> 0 > 1024) return errno.inval;
      let total = 0;
      let text = "";
      for (let i = 0; i < count; i++) {
        const view = host.memory.view(host.memory.getUint32(vectors + i * 8), host.memory.getUint32(vectors + i * 8 + 4));
        total += view.length;
        if (text.length < maxOutputBytes) text += view.toString("utf8", 0, maxOutputBytes);
      }
      host.memory.setUint32(written, total);
      const line = text.replace(/\n$/, "");
      if (line !== "") host.output(file === 1 ? "stdout" : "stderr", line);
      return errno.success;
    },
    fd_seek: (file: number) => (file >= 0 && file <= 2 ? errno.spipe : errno.badf),
    fd_close: (file: number) => (file >= 0 && file <= 2 ? errno.success : errno.badf),
    fd_fdstat_get(file: number, at: number) {
      if (file < 0 || file > 2) return errno.badf;
      const stat = host.memory.view(at, 24);
      stat.fill(0);
      // A character device, which can be written to.
      stat[0] = 2;
      stat.writeBigUInt64LE(0x40n, 8);
      return errno.success;
    },
    clock_time_get(clock: number, _precision: bigint, at: number) {
      if (clock !== 0 && clock !== 1) return errno.notsup;
      host.memory.setUint64(at, clock === 0 ? wallNanoseconds() : process.hrtime.bigint());
      return errno.success;
    },
    random_get(at: number, size: number) {
      if (size >>> 0 > 65536) return errno.inval;
      randomFillSync(host.memory.view(at, size));
      return errno.success;
    },
    environ_sizes_get: (count: number, size: number) => listSizes(count, size, variables),
    environ_get: (pointers: number, at: number) => list(pointers, at, variables),
    args_sizes_get: (count: number, size: number) => listSizes(count, size, []),
    args_get: () => errno.success,
    sched_yield: () => errno.success,
    proc_exit(code: number) {
      throw new GuestExit(`proc_exit(${code})`);
    },
  };
  for (const name in absent) functions[name] ??= () => absent[name];
  for (const name in functions) {
    const call = functions[name] as (...args: unknown[]) => number;
    functions[name] = ((...args: unknown[]) => {
      try {
        return call(...args);
      } catch (error) {
        if (error instanceof MemoryError) return errno.fault;
        throw error;
      }
    }) as HostFunction;
  }
  return functions;
}

export const notCapable: number = errno.notcapable;

/** Nanoseconds since 1970. */
export function wallNanoseconds(): bigint {
  return BigInt(Math.floor((performance.timeOrigin + performance.now()) * 1000)) * 1000n;
}
