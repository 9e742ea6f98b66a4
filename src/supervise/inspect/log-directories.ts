/** Where a service's logger writes: asked from the running logger, else from its run script, else the usual places. */
import { existsSync, readFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";
import { openFiles } from "./processes.ts";

/** A folder in which multilog, or a logger like it, keeps `current`. */
export function isLogDirectory(path: string): boolean {
  return existsSync(join(path, "current"));
}

/** Those that the processes have open, in the order in which they opened them. */
function fromProcesses(pids: readonly number[]): string[] {
  const found = pids.flatMap((pid) => openFiles(pid)).filter((path) => path.startsWith("/") && basename(path) === "current");
  return found.map(dirname).filter(isLogDirectory);
}

/** The words of a run script behind `multilog` (or `svlogd`) that name folders. Not a shell: what holds a variable is passed over. */
export function directoriesOfScript(script: string): string[] {
  const found: string[] = [];
  const joined = script.replaceAll(/\\\n/g, " ");
  for (const line of joined.split("\n")) {
    const command = /(?:^|[\s/;|&'"])(multilog|svlogd|s6-log)['"]?\s(.*)$/.exec(line.replace(/^\s*#.*$/, ""));
    if (command === null) continue;
    for (const [, single, double, plain] of command[2].matchAll(/'([^']*)'|"([^"]*)"|([;|&]|[^\s'";|&]+)/g)) {
      const word = single ?? double ?? plain;
      if (/^[;|&]/.test(word)) break;
      if (/^\.{0,2}\//.test(word) && !/[$`*]/.test(word)) found.push(word.replace(/(?<=.)\/+$/, ""));
      else if (command[1] === "svlogd" && /^[A-Za-z0-9_]/.test(word)) found.push(word);
      else if (/^\.{1,2}$/.test(word)) found.push(word);
    }
  }
  return found;
}

function fromScript(service: string): string[] {
  let script: string;
  try {
    script = readFileSync(join(service, "run"), "utf8");
  } catch {
    return [];
  }
  return directoriesOfScript(script).map((word) => resolve(service, word));
}

/**
 * The log directories of a service, the first the main one; all exist and hold `current`.
 * @param service the service's directory
 * @param pids the processes of its log, and its own (a service may pipe into a logger of its own)
 */
export function logDirectories(service: string, name: string, pids: readonly number[]): string[] {
  const path = resolve(service);
  const log = join(path, "log");
  const asked = fromProcesses(pids);
  if (asked.length > 0) return [...new Set(asked)];
  const named = [...fromScript(log), ...fromScript(path)].filter(isLogDirectory);
  if (named.length > 0) return [...new Set(named)];
  const usual = [join(log, "main"), join(log, "logs"), join(path, "../../logs", name), join(path, "../logs", name), join("/var/log", name)];
  return usual.filter(isLogDirectory).slice(0, 1);
}
