/**
 * Tells when a process ends that is nobody's child here: an orphan of a supervise that was killed, say.
 *
 * The kernel tells through a pidfd. Node cannot wait for one on its event loop, so one thread of libuv's pool waits for all of them, and only
 * while there are any. Where there is no pidfd (before Linux 5.3, or without koffi) the process is looked at from time to time.
 */
import { closeSync, writeSync } from "node:fs";
import { systemOs } from "./os.ts";
import { processStartTime } from "./process-info.ts";

/** Between two looks where the kernel does not tell, milliseconds. */
const LOOK_MS = 100;

export interface ProcessWatch {
  close(): void;
}

interface Watched {
  readonly fd: number;
  readonly onEnd: () => void;
}

const watched = new Set<Watched>();
/** Written to when the set has changed, so that the waiting thread comes back. */
let wake: { readonly read: number; readonly write: number } | undefined;
let isWaiting = false;

/** Calls `onEnd` once, from the event loop, when the process has ended; `startTime` tells it from a later one with its number. */
export function watchProcess(pid: number, startTime: string, onEnd: () => void): ProcessWatch {
  let fd: number;
  try {
    fd = systemOs().openProcess(pid);
  } catch {
    return lookAgainAndAgain(pid, startTime, onEnd);
  }
  if (processStartTime(pid) !== startTime) {
    closeSync(fd);
    return lookAgainAndAgain(pid, startTime, onEnd); // ended already: said at the first look
  }
  const entry: Watched = { fd, onEnd };
  watched.add(entry);
  wait();
  return {
    close() {
      if (!watched.delete(entry)) return;
      // The thread may be waiting for it: closed once that is back.
      closing.push(fd);
      wait();
    },
  };
}

const closing: number[] = [];

function wait(): void {
  if (isWaiting) {
    if (wake !== undefined) writeSync(wake.write, "\n");
    return;
  }
  for (const fd of closing.splice(0)) closeSync(fd);
  if (watched.size === 0) {
    if (wake !== undefined) {
      closeSync(wake.read);
      closeSync(wake.write);
      wake = undefined;
      process.removeListener("exit", wakeUp);
    }
    return;
  }
  if (wake === undefined) {
    const [read, write] = systemOs().pipe();
    wake = { read, write };
    process.on("exit", wakeUp); // the end of the process waits for its threads
  }
  isWaiting = true;
  systemOs().whenReadable([wake.read, ...[...watched].map((entry) => entry.fd)], onReadable);
}

function wakeUp(): void {
  if (wake !== undefined && isWaiting) writeSync(wake.write, "\n");
}

function onReadable(readable: number[]): void {
  isWaiting = false;
  if (wake !== undefined && readable.includes(wake.read)) {
    // A new pipe instead of reading this one: how much is in it is not known, and reading more would block.
    closeSync(wake.read);
    closeSync(wake.write);
    process.removeListener("exit", wakeUp);
    wake = undefined;
  }
  const ended = [...watched].filter((entry) => readable.includes(entry.fd));
  for (const entry of ended) {
    watched.delete(entry);
    closing.push(entry.fd);
  }
  wait();
  for (const entry of ended) entry.onEnd();
}

function lookAgainAndAgain(pid: number, startTime: string, onEnd: () => void): ProcessWatch {
  let timer: NodeJS.Timeout;
  const look = (): void => {
    if (processStartTime(pid) === startTime) timer = setTimeout(look, LOOK_MS);
    else onEnd();
  };
  timer = setTimeout(look, 0);
  return { close: () => clearTimeout(timer) };
}
