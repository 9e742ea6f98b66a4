/** `outrider status --json`: the fields that docs/status.md describes. */
import type { LastLine, ServiceReport } from "../supervise/inspect/service.ts";
import { dateOf } from "../supervise/inspect/stamps.ts";
import type { Exit } from "../supervise/inspect/words.ts";
import { isAllWell } from "./status-screen.ts";

const time = (date: Date | undefined): string | undefined => date?.toISOString();

function exitOf(exit: Exit | undefined): object | undefined {
  if (exit === undefined) return undefined;
  return { code: exit.code, signal: exit.signal, at: time(exit.at), ranMs: exit.ranMs, adopted: exit.adopted };
}

function lineOf(line: LastLine | undefined): object | undefined {
  if (line === undefined) return undefined;
  return { at: line.time === undefined ? undefined : time(dateOf(line.time)), text: line.bytes.toString("utf8"), directory: line.directory };
}

function serviceOf(report: ServiceReport, now: Date): object {
  const { since, starts, use } = report;
  return {
    name: report.name,
    directory: report.path,
    state: report.state,
    want: report.want,
    asWanted: report.isAsWanted,
    problem: report.problem,
    pid: report.pid,
    since: time(since),
    seconds: since === undefined ? undefined : Math.max(0, Math.round((now.getTime() - since.getTime()) / 1000)),
    readySince: time(report.readySince),
    restarts: starts === undefined ? undefined : Math.max(0, starts - 1),
    lastExit: exitOf(report.lastExit),
    nextStart: time(report.nextStart),
    waitingFor: report.waitingFor.length === 0 ? undefined : report.waitingFor,
    reason: report.reason,
    warnings: report.warnings.length === 0 ? undefined : report.warnings,
    supervisorPid: report.supervisorPid,
    memory: use === undefined ? undefined : { residentBytes: use.residentBytes, processes: use.processes },
    cpu: use === undefined ? undefined : { percent: Math.round(use.cpuPercent * 100) / 100, over: use.cpuOver },
    logDirectories: report.logDirectories.length === 0 ? undefined : report.logDirectories,
    lastLine: lineOf(report.lastLine),
    log: report.log === undefined ? undefined : serviceOf(report.log, now),
  };
}

/** JSON may hold what a terminal must not get: those characters are escaped too, which means the same. */
function safe(json: string): string {
  return json.replace(/[\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff]/g, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

/** @param indent spaces; 0: all on one line */
export function statusJson(reports: readonly ServiceReport[], now: Date, indent: number): string {
  return safe(JSON.stringify({ at: time(now), asWanted: reports.every(isAllWell), services: reports.map((report) => serviceOf(report, now)) }, null, indent));
}
