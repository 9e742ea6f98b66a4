/** A disk layer: a folder of small files, one value each, whose paths are the keys. It is replaced as a whole, by moving a link into place. */
import { type FSWatcher, lstatSync, readdirSync, readFileSync, statSync, watch } from "node:fs";
import { basename, dirname, join } from "node:path";
import { getLogger } from "../log/log.ts";
import { entryOfText, type RuntimeEntry } from "./values.ts";

const log = getLogger("runtime");

/** Envoy's bound. */
const maxDepth = 16;
/** Our own bounds: a folder beyond them is no runtime folder. */
const maxKeys = 10_000;
const maxFileBytes = 64 * 1024;

/** Whether there is a folder: without one, its layer does not exist. */
export function isFolder(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isDirectory() === true;
}

/** Throws an Error that says which file cannot be taken, and why. */
export function readFolder(folder: string): Map<string, RuntimeEntry> {
  const found = new Map<string, RuntimeEntry>();
  const walk = (path: string, prefix: string, depth: number): void => {
    if (depth > maxDepth) throw new Error(`${path}: walk recursion depth exceeded ${maxDepth}`);
    for (const name of readdirSync(path)) {
      const at = join(path, name);
      const info = statSync(at, { throwIfNoEntry: false });
      if (info?.isDirectory()) walk(at, `${prefix}${name}.`, depth + 1);
      else if (info?.isFile()) {
        if (info.size > maxFileBytes) throw new Error(`${at} has ${info.size} bytes: a value has ${maxFileBytes} at most`);
        if (found.size >= maxKeys) throw new Error(`${folder} has more than ${maxKeys} files`);
        try {
          found.set(`${prefix}${name}`, entryOfText(valueIn(readFileSync(at, "utf8"))));
        } catch (error) {
          throw new Error(`${at}: ${(error as Error).message}`);
        }
      }
    }
  };
  walk(folder, "", 1);
  return found;
}

/** A file's text without lines of comment and without the white space at its end. */
export function valueIn(text: string): string {
  return text
    .split("\n")
    .filter((line) => !line.startsWith("#"))
    .join("\n")
    .trimEnd();
}

/**
 * Calls `changed` whenever something is moved to one of these paths, as a new link over the old one is. With a slash at its end a path is a
 * folder into which anything may be moved. Returns what ends it.
 */
export function watchLinks(paths: Iterable<string>, changed: () => void): () => void {
  const watchers: FSWatcher[] = [];
  for (const path of new Set(paths)) {
    const whole = path.endsWith("/");
    const folder = whole ? path : dirname(path);
    const identity = (): string | undefined => {
      const info = lstatSync(path, { throwIfNoEntry: false, bigint: true });
      return info === undefined ? undefined : `${info.dev}:${info.ino}:${info.ctimeNs}`;
    };
    let before = identity();
    try {
      const watcher = watch(folder, { persistent: false }, (event, file) => {
        if (event !== "rename" || (!whole && file !== null && file !== basename(path))) return;
        const now = identity();
        // What was taken away stays in force until another takes its place.
        if (now === undefined || (!whole && now === before)) return;
        before = now;
        changed();
      });
      watcher.on("error", () => watcher.close());
      watchers.push(watcher);
    } catch (error) {
      log.warning(`cannot watch ${folder}: ${(error as Error).message}: changes of ${path} will not be seen`);
    }
  }
  return () => {
    for (const watcher of watchers) watcher.close();
  };
}
