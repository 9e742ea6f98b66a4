/** Waiting until a service has reached a state, woken by its files. Works with anybody's supervise; `ready` needs ours. */
import { type FSWatcher, watch } from "node:fs";
import { reason } from "./messages.ts";
import { isSupervised, type Report, type Status } from "./service-directory.ts";
import { readReport, readStatus } from "./status-files.ts";

/** up: it runs; ready: it has said so, or runs where it has no way to; down: it does not run; finished: nor does its finish. */
export const WAIT_STATES = ["up", "ready", "down", "finished"] as const;
export type WaitState = (typeof WAIT_STATES)[number];

export function isWaitState(text: string): text is WaitState {
  return (WAIT_STATES as readonly string[]).includes(text);
}

export type WaitOutcome =
  | { readonly kind: "reached" }
  /** `now`: what it is instead. */
  | { readonly kind: "timeout"; readonly now: string }
  | { readonly kind: "trouble"; readonly why: string };

/** A look at least this often, for file systems that do not tell, milliseconds. */
const LOOK_MS = 5000;

/** `until`: on the clock of performance.now(). */
export async function waitFor(directory: string, state: WaitState, until: number): Promise<WaitOutcome> {
  let wake: (() => void) | undefined;
  let watcher: FSWatcher | undefined;
  try {
    watcher = watch(`${directory}/supervise`, () => wake?.());
    watcher.on("error", () => wake?.());
    for (;;) {
      if (!isSupervised(directory)) return state === "down" || state === "finished" ? { kind: "reached" } : { kind: "trouble", why: "supervise not running" };
      const status = readStatus(directory);
      const report = readReport(directory);
      if (status !== undefined && isReached(state, status, report)) return { kind: "reached" };
      if (report.state === "failed" && (state === "up" || state === "ready")) return { kind: "trouble", why: report.reason ?? "it has failed" };
      const left = until - performance.now();
      if (left <= 0) return { kind: "timeout", now: describe(status, report) };
      await new Promise<void>((resolve) => {
        const timer = setTimeout(resolve, Math.min(left, LOOK_MS));
        wake = () => {
          clearTimeout(timer);
          resolve();
        };
      });
    }
  } catch (error) {
    return { kind: "trouble", why: reason(error) };
  } finally {
    watcher?.close();
  }
}

function isReached(state: WaitState, status: Status, report: Partial<Report>): boolean {
  // A report of another run than the status: the next change brings both together. None at all: a supervise that is not ours.
  const isCurrent = report.pid === status.pid;
  switch (state) {
    case "up":
      return status.pid !== 0;
    case "ready":
      return (
        status.pid !== 0 && (report.pid === undefined || (isCurrent && (report.state === "ready" || (report.state === "up" && report.hasReadiness !== true))))
      );
    case "down":
      return status.pid === 0;
    case "finished":
      return status.pid === 0 && report.state !== "finishing";
  }
}

function describe(status: Status | undefined, report: Partial<Report>): string {
  return [report.state ?? (status === undefined ? "unknown" : status.pid === 0 ? "down" : "up"), report.reason].filter((text) => text !== undefined).join(", ");
}
