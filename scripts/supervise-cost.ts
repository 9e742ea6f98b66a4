/**
 * What supervising costs while nothing happens: a tree of four logged services under our svscan and multilog, its anonymous memory and how often
 * any of its threads wakes.
 *
 *   bin/node scripts/supervise-cost.ts [--seconds N] [--services N] [--settle N] [--json]
 *
 * Memory is RssAnon of /proc/PID/status, what belongs to one process alone; the program's own pages are shared among all of them and with
 * every other Node. A wake-up is a voluntary context switch of any thread. Linux.
 */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { parseArgs } from "node:util";

const bin = resolve(import.meta.dirname, "../bin/daemontools");
const sleep = (seconds: number): Promise<void> => new Promise((done) => setTimeout(done, seconds * 1000));

interface Process {
  readonly pid: number;
  readonly name: string;
}

/** svscan and all below it that is ours; the services themselves do not count. */
function supervisors(svscan: number): Process[] {
  const parents = new Map<number, number>();
  for (const entry of readdirSync("/proc")) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const text = readFileSync(`/proc/${entry}/stat`, "latin1");
      parents.set(Number(entry), Number(text.slice(text.lastIndexOf(")") + 2).split(" ")[1]));
    } catch {
      // gone meanwhile
    }
  }
  const isBelow = (pid: number | undefined): boolean => pid !== undefined && (pid === svscan || isBelow(parents.get(pid)));
  return [...parents.keys()].filter(isBelow).flatMap((pid) => {
    const words = readFileSync(`/proc/${pid}/cmdline`, "latin1").split("\0");
    const name = words.find((word) => /^(svscan|supervise|multilog)$/.test(word));
    return name === undefined ? [] : [{ pid, name }];
  });
}

function kilobytes(pid: number, field: string): number {
  return Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(readFileSync(`/proc/${pid}/status`, "latin1"))?.[1] ?? 0);
}

/** Voluntary context switches of each thread. */
function wakeUps(pid: number): Map<string, number> {
  const found = new Map<string, number>();
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const text = readFileSync(`/proc/${pid}/task/${thread}/status`, "latin1");
    const name = /^Name:\s+(.*)$/m.exec(text)?.[1] ?? "?";
    found.set(`${thread} ${name}`, Number(/^voluntary_ctxt_switches:\s+(\d+)/m.exec(text)?.[1] ?? 0));
  }
  return found;
}

async function main(): Promise<number> {
  const { values } = parseArgs({
    options: {
      seconds: { type: "string", default: "30" },
      settle: { type: "string", default: "15" },
      services: { type: "string", default: "4" },
      json: { type: "boolean", default: false },
    },
  });
  const seconds = Number(values.seconds);
  const root = mkdtempSync(join(tmpdir(), "outrider-cost-"));
  for (let i = 0; i < Number(values.services); i++) {
    const path = join(root, `s${i}`);
    mkdirSync(join(path, "log"), { recursive: true });
    writeFileSync(join(path, "run"), "#!/bin/sh\necho begins\nexec sleep 100000\n", { mode: 0o755 });
    writeFileSync(join(path, "log/run"), "#!/bin/sh\nexec multilog t ./main\n", { mode: 0o755 });
  }
  const svscan = spawn(join(bin, "svscan"), [root], { env: { ...process.env, PATH: `${bin}:/usr/bin:/bin` }, stdio: ["ignore", "ignore", "inherit"] });
  const pid = svscan.pid as number;
  try {
    await sleep(Number(values.settle));
    const processes = supervisors(pid);
    const before = new Map(processes.map((each) => [each.pid, wakeUps(each.pid)]));
    await sleep(seconds);
    const rows = processes.map((each) => {
      const threads = [...wakeUps(each.pid)].map(([thread, count]) => ({ thread, count: count - (before.get(each.pid)?.get(thread) ?? 0) }));
      return {
        ...each,
        anonymousKb: kilobytes(each.pid, "RssAnon"),
        fileKb: kilobytes(each.pid, "RssFile"),
        threads: threads.length,
        wakeUps: threads.reduce((sum, { count }) => sum + count, 0),
        who: threads.filter(({ count }) => count > 0).map(({ thread, count }) => `${thread.replace(/^\d+ /, "")} ${count}`),
      };
    });
    const total = { anonymousKb: rows.reduce((sum, row) => sum + row.anonymousKb, 0), wakeUps: rows.reduce((sum, row) => sum + row.wakeUps, 0) };
    if (values.json) console.log(JSON.stringify({ seconds, total, processes: rows }));
    else {
      for (const row of rows) {
        const who = row.who.length > 0 ? ` (${row.who.join(", ")})` : "";
        console.log(
          `${row.name.padEnd(10)} ${(row.anonymousKb / 1024).toFixed(1).padStart(6)} MB anonymous, ${row.threads} threads, ${row.wakeUps} wake-ups${who}`,
        );
      }
      console.log(
        `together   ${(total.anonymousKb / 1024).toFixed(1).padStart(6)} MB anonymous, ${total.wakeUps} wake-ups in ${seconds} s: ${(total.wakeUps / seconds).toFixed(2)} a second`,
      );
    }
  } finally {
    const ended = once(svscan, "exit");
    svscan.kill("SIGTERM");
    await ended;
    rmSync(root, { recursive: true, force: true });
  }
  return 0;
}

process.exit(await main());
