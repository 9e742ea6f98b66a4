/**
 * What Node cannot ask of a socket: options before it is bound, duplicates of its descriptor, the destination it had before the kernel redirected
 * it. libc through koffi, an optional dependency; nothing of this is loaded for configurations that do not need it.
 */
import { createRequire } from "node:module";
import { getSystemErrorName } from "node:util";
import { ipAddress } from "../net/address.ts";
import type { Address } from "../net/connection.ts";

interface Library {
  func(definition: string): (...values: unknown[]) => number;
}
interface Koffi {
  load(path: string | null): Library;
  errno(): number;
}

/** One setsockopt(2) call; numbers are Linux's. */
export interface RawSocketOption {
  readonly level: number;
  readonly name: number;
  readonly value: Buffer;
}

export function intOption(level: number, name: number, value: number): RawSocketOption {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value | 0);
  return { level, name, value: bytes };
}

export interface NativeSockets {
  /** A bound TCP socket that does not listen yet; the caller owns the descriptor. Throws as Node does: `code`, `syscall`. */
  bind(
    address: Address & { readonly kind: "ip" },
    how: { readonly reusePort: boolean; readonly ipv6Only: boolean; readonly options: readonly RawSocketOption[] },
  ): number;
  setOption(fd: number, option: RawSocketOption): void;
  /** On a listening socket: another backlog. */
  listen(fd: number, backlog: number): void;
  /** The next connection of a listening socket that does not block; below 0: none waits, or it cannot be had now. */
  accept(fd: number): number;
  /** Another descriptor of the same socket. */
  duplicate(fd: number): number;
  close(fd: number): void;
  /** Where the client wanted to go before netfilter sent it here; undefined where it did not. */
  originalDestination(fd: number, family: 4 | 6): Address | undefined;
}

const AF_INET = 2;
const AF_INET6 = 10;
const SOCK_STREAM = 1;
const SOCK_CLOEXEC_NONBLOCK = 0o2000000 | 0o4000;
const SOL_SOCKET = 1;
const SO_REUSEADDR = 2;
const SO_REUSEPORT = 15;
const SOL_IP = 0;
const SOL_IPV6 = 41;
const IPV6_V6ONLY = 26;
const SO_ORIGINAL_DST = 80;
const F_DUPFD_CLOEXEC = 1030;

let loaded: NativeSockets | undefined | null = null;

/** undefined where koffi is not installed for this platform, or it is no Linux. */
export function nativeSockets(): NativeSockets | undefined {
  if (loaded === null) {
    try {
      loaded = process.platform === "linux" ? create() : undefined;
    } catch {
      loaded = undefined;
    }
  }
  return loaded;
}

function create(): NativeSockets {
  const require = createRequire(import.meta.url);
  let koffi: Koffi;
  try {
    koffi = require(`@koromix/koffi-${process.platform}-${process.arch}`) as Koffi;
  } catch {
    koffi = require("koffi") as Koffi;
  }
  const libc = koffi.load(null);
  const socket = libc.func("int socket(int, int, int)");
  const bind = libc.func("int bind(int, void *, unsigned int)");
  const setsockopt = libc.func("int setsockopt(int, int, int, void *, unsigned int)");
  const getsockopt = libc.func("int getsockopt(int, int, int, void *, void *)");
  const listen = libc.func("int listen(int, int)");
  const accept4 = libc.func("int accept4(int, void *, void *, int)");
  const fcntl = libc.func("int fcntl(int, int, int)");
  const close = libc.func("int close(int)");
  const fail = (syscall: string): never => {
    const code = getSystemErrorName(-koffi.errno());
    throw Object.assign(new Error(`${syscall} ${code}`), { code, syscall });
  };
  const setOption = (fd: number, { level, name, value }: RawSocketOption): void => {
    if (setsockopt(fd, level, name, value, value.length) !== 0) fail("setsockopt");
  };
  return {
    bind(address, { reusePort, ipv6Only, options }) {
      const fd = socket(address.family === 4 ? AF_INET : AF_INET6, SOCK_STREAM | SOCK_CLOEXEC_NONBLOCK, 0);
      if (fd < 0) fail("socket");
      try {
        setOption(fd, intOption(SOL_SOCKET, SO_REUSEADDR, 1));
        if (reusePort) setOption(fd, intOption(SOL_SOCKET, SO_REUSEPORT, 1));
        if (address.family === 6) setOption(fd, intOption(SOL_IPV6, IPV6_V6ONLY, ipv6Only ? 1 : 0));
        for (const option of options) setOption(fd, option);
        const name = socketAddress(address);
        if (bind(fd, name, name.length) !== 0) fail("bind");
      } catch (error) {
        close(fd);
        throw error;
      }
      return fd;
    },
    setOption,
    listen(fd, backlog) {
      if (listen(fd, backlog) !== 0) fail("listen");
    },
    accept(fd) {
      return accept4(fd, null, null, SOCK_CLOEXEC_NONBLOCK);
    },
    duplicate(fd) {
      const copy = fcntl(fd, F_DUPFD_CLOEXEC, 0);
      return copy < 0 ? fail("fcntl") : copy;
    },
    close(fd) {
      close(fd);
    },
    originalDestination(fd, family) {
      const name = Buffer.alloc(28);
      const length = Buffer.alloc(4);
      length.writeUInt32LE(family === 4 ? 16 : 28);
      if (getsockopt(fd, family === 4 ? SOL_IP : SOL_IPV6, SO_ORIGINAL_DST, name, length) !== 0) return undefined;
      const port = name.readUInt16BE(2);
      if (family === 4) return ipAddress(name.subarray(4, 8).join("."), port);
      const words = Array.from({ length: 8 }, (_, i) => name.readUInt16BE(8 + i * 2).toString(16)).join(":");
      return ipAddress(new URL(`http://[${words}]/`).hostname.slice(1, -1), port);
    },
  };
}

/** struct sockaddr_in or sockaddr_in6. */
function socketAddress(address: Address & { readonly kind: "ip" }): Buffer {
  if (address.family === 4) {
    const name = Buffer.alloc(16);
    name.writeUInt16LE(AF_INET, 0);
    name.writeUInt16BE(address.port, 2);
    Buffer.from(address.ip.split(".").map(Number)).copy(name, 4);
    return name;
  }
  const name = Buffer.alloc(28);
  name.writeUInt16LE(AF_INET6, 0);
  name.writeUInt16BE(address.port, 2);
  const [head, tail] = address.ip.split("%")[0].split("::");
  const words = (text: string | undefined): number[] =>
    text === undefined || text === ""
      ? []
      : text.split(":").flatMap((word) => {
          if (!word.includes(".")) return [Number.parseInt(word, 16)];
          const [a, b, c, d] = word.split(".").map(Number);
          return [(a << 8) | b, (c << 8) | d];
        });
  const front = words(head);
  const back = words(tail);
  for (const [i, word] of front.entries()) name.writeUInt16BE(word, 8 + i * 2);
  for (const [i, word] of back.entries()) name.writeUInt16BE(word, 8 + (8 - back.length + i) * 2);
  return name;
}
