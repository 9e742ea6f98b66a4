/** One look at /proc: who descends from whom, what they use. Nothing of it is kept between looks but what the caller keeps. */
import { readdirSync, readFileSync, readlinkSync } from "node:fs";

interface Process {
  readonly pid: number;
  readonly parent: number;
  readonly session: number;
  readonly isZombie: boolean;
  /** Clock ticks of itself and of the children it has waited for. */
  readonly cpuTicks: number;
  /** Clock ticks since boot. */
  readonly startTicks: number;
  readonly residentBytes: number;
}

export interface TreeUse {
  /** Living processes: the one asked for, its descendants, and whoever else is in a session that it leads. */
  readonly pids: readonly number[];
  /** Sum of what each has resident: pages that they share count for each. */
  readonly residentBytes: number;
  /** Processor time of all of them and of their ended children, milliseconds. */
  readonly cpuMs: number;
}

interface SystemUnits {
  readonly pageBytes: number;
  readonly ticksPerSecond: number;
}

let units: SystemUnits | undefined;

/** From the auxiliary vector that the kernel hands to every process: pairs of machine words. */
function systemUnits(): SystemUnits {
  if (units !== undefined) return units;
  const found = new Map<bigint, bigint>();
  try {
    const vector = readFileSync("/proc/self/auxv");
    for (let i = 0; i + 16 <= vector.length; i += 16) found.set(vector.readBigUInt64LE(i), vector.readBigUInt64LE(i + 8));
  } catch {
    // the usual values
  }
  units = { pageBytes: Number(found.get(6n) ?? 4096n), ticksPerSecond: Number(found.get(17n) ?? 100n) };
  return units;
}

function readProcess(pid: number): Process | undefined {
  let text: string;
  try {
    text = readFileSync(`/proc/${pid}/stat`, "latin1");
  } catch {
    return undefined; // gone meanwhile
  }
  // The command's name stands in parentheses and may hold anything.
  const fields = text.slice(text.lastIndexOf(")") + 2).split(" ");
  const number = (index: number): number => Number(fields[index]);
  return {
    pid,
    parent: number(1),
    session: number(3),
    isZombie: fields[0] === "Z" || fields[0] === "X",
    cpuTicks: number(11) + number(12) + number(13) + number(14),
    startTicks: number(19),
    residentBytes: number(21) * systemUnits().pageBytes,
  };
}

export class ProcessTable {
  readonly #processes = new Map<number, Process>();
  readonly #children = new Map<number, Process[]>();
  readonly #sessions = new Map<number, Process[]>();
  /** Unix milliseconds. */
  readonly #bootedAt: number;

  /** Reads /proc; empty where there is none. */
  constructor() {
    let names: string[] = [];
    let uptime = 0;
    try {
      names = readdirSync("/proc");
      uptime = Number(readFileSync("/proc/uptime", "latin1").split(" ")[0]);
    } catch {
      // no /proc: nothing is known
    }
    this.#bootedAt = Date.now() - uptime * 1000;
    for (const name of names) {
      if (name < "0" || name > "9:") continue;
      const one = readProcess(Number(name));
      if (one === undefined) continue;
      this.#processes.set(one.pid, one);
      push(this.#children, one.parent, one);
      push(this.#sessions, one.session, one);
    }
  }

  /** Whether anything is known at all: without /proc nobody can say that a process is gone. */
  get isKnown(): boolean {
    return this.#processes.size > 0;
  }

  isAlive(pid: number): boolean {
    const one = this.#processes.get(pid);
    return one !== undefined && !one.isZombie;
  }

  /** Exact to about a hundredth of a second, as long as nobody sets the clock. */
  startedAt(pid: number): Date | undefined {
    const one = this.#processes.get(pid);
    return one === undefined ? undefined : new Date(this.#bootedAt + (one.startTicks * 1000) / systemUnits().ticksPerSecond);
  }

  tree(root: number): TreeUse | undefined {
    const first = this.#processes.get(root);
    if (first === undefined) return undefined;
    const seen = new Map<number, Process>();
    const waiting = [first, ...(this.#sessions.get(root) ?? [])];
    for (let one = waiting.pop(); one !== undefined; one = waiting.pop()) {
      if (seen.has(one.pid)) continue;
      seen.set(one.pid, one);
      waiting.push(...(this.#children.get(one.pid) ?? []));
    }
    let residentBytes = 0;
    let ticks = 0;
    for (const one of seen.values()) {
      residentBytes += one.residentBytes;
      ticks += one.cpuTicks;
    }
    const pids = [...seen.values()].filter((one) => !one.isZombie).map((one) => one.pid);
    return { pids, residentBytes, cpuMs: (ticks * 1000) / systemUnits().ticksPerSecond };
  }
}

function push<K, V>(map: Map<K, V[]>, key: K, value: V): void {
  const list = map.get(key);
  if (list === undefined) map.set(key, [value]);
  else list.push(value);
}

/** What the process has open, lowest descriptor first; none where that may not be seen. */
export function openFiles(pid: number): string[] {
  let descriptors: string[];
  try {
    descriptors = readdirSync(`/proc/${pid}/fd`);
  } catch {
    return [];
  }
  return descriptors
    .sort((a, b) => Number(a) - Number(b))
    .flatMap((descriptor) => {
      try {
        return [readlinkSync(`/proc/${pid}/fd/${descriptor}`)];
      } catch {
        return []; // closed meanwhile
      }
    });
}
