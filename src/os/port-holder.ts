/** Who listens on a TCP port of this machine, from /proc. Other users' processes are seen only by root. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

export interface PortHolder {
  readonly pid: number;
  /** The program's name. */
  readonly name: string;
}

const LISTENING = "0A";

/** Inodes of the listening sockets on the port, IPv4 and IPv6. */
function listeningInodes(port: number): Set<string> {
  const inodes = new Set<string>();
  const wanted = port.toString(16).toUpperCase().padStart(4, "0");
  for (const table of ["/proc/net/tcp", "/proc/net/tcp6"]) {
    let text: string;
    try {
      text = readFileSync(table, "latin1");
    } catch {
      continue;
    }
    for (const line of text.split("\n").slice(1)) {
      const fields = line.trim().split(/ +/);
      if (fields[3] === LISTENING && fields[1].endsWith(`:${wanted}`)) inodes.add(fields[9]);
    }
  }
  return inodes;
}

function holdsOneOf(pid: string, links: ReadonlySet<string>): boolean {
  try {
    for (const fd of readdirSync(`/proc/${pid}/fd`)) {
      try {
        if (links.has(readlinkSync(`/proc/${pid}/fd/${fd}`))) return true;
      } catch {
        // closed meanwhile
      }
    }
  } catch {
    // gone, or another user's
  }
  return false;
}

/** `comm`, unless a language's interpreter runs: then the file that it runs. */
export function programName(cmdline: string, comm: string): string {
  const [interpreter, ...rest] = cmdline.split("\0");
  if (!/^(node|nodejs|python[\d.]*|ruby|perl|java)$/.test(interpreter.slice(interpreter.lastIndexOf("/") + 1))) return comm;
  const script = rest.find((word) => word !== "" && !word.startsWith("-"));
  if (script === undefined) return comm;
  if (/\/cli\/main\.[jt]s$/.test(script)) return "outrider";
  return script.slice(script.lastIndexOf("/") + 1);
}

/** The first process that listens there; undefined when it cannot be told. */
export function findPortHolder(port: number): PortHolder | undefined {
  const links = new Set([...listeningInodes(port)].map((inode) => `socket:[${inode}]`));
  if (links.size === 0) return undefined;
  let pids: string[];
  try {
    pids = readdirSync("/proc").filter((name) => /^[0-9]+$/.test(name));
  } catch {
    return undefined;
  }
  for (const pid of pids) {
    if (!holdsOneOf(pid, links)) continue;
    try {
      return { pid: Number(pid), name: programName(readFileSync(`/proc/${pid}/cmdline`, "utf8"), readFileSync(`/proc/${pid}/comm`, "utf8").trim()) };
    } catch {
      return { pid: Number(pid), name: "a process" };
    }
  }
  return undefined;
}
