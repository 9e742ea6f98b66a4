/** Modules of users, loaded on this thread. A changed file is another module: a reload brings the new one in, streams keep the one they have. */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { registerHooks } from "node:module";
import { dirname, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";

/** Which module, and which state of its files. */
export interface ModuleVersion {
  readonly path: string;
  readonly version: string;
}

/** A module that does not finish loading is one that cannot be used. */
const loadTimeoutMs = 10_000;
/** A module with more files than this is watched only in part. */
const maxFiles = 1000;
const versionParameter = "outrider-version";

const loaded = new Map<string, Record<string, unknown> | Error>();
const keyOf = ({ path, version }: ModuleVersion): string => `${version}\u0000${path}`;

let hooked = false;

/** `outrider/filter` is there wherever a module lies; what a module imports by a relative path is as new as the module. */
function hook(): void {
  if (hooked) return;
  hooked = true;
  const own = new URL(`../../../sdk/filter${import.meta.url.endsWith(".ts") ? ".ts" : ".js"}`, import.meta.url).href;
  registerHooks({
    resolve(specifier, context, next) {
      const parent = context.parentURL ?? "";
      const at = parent.indexOf(`?${versionParameter}=`);
      if (at < 0) return next(specifier, context);
      if (specifier === "outrider/filter") return { url: own, format: own.endsWith(".ts") ? "module-typescript" : "module", shortCircuit: true };
      const result = next(specifier, context);
      return specifier.startsWith(".") ? { ...result, url: result.url + parent.slice(at) } : result;
    },
  });
}

/** Loads a module, unless it is there already. What goes wrong is kept for `moduleOf`. */
export async function loadModule(module: ModuleVersion): Promise<void> {
  const key = keyOf(module);
  if (loaded.has(key)) return;
  hook();
  const url = pathToFileURL(module.path);
  url.search = `${versionParameter}=${module.version}`;
  let timer: NodeJS.Timeout | undefined;
  try {
    const late = new Promise<never>((_, reject) => {
      timer = setTimeout(() => reject(new Error(`it has not finished loading within ${loadTimeoutMs / 1000} s`)), loadTimeoutMs);
    });
    loaded.set(key, (await Promise.race([import(url.href), late])) as Record<string, unknown>);
  } catch (error) {
    loaded.set(key, error instanceof Error ? error : new Error(String(error)));
  } finally {
    clearTimeout(timer);
  }
}

export function moduleOf(module: ModuleVersion): Record<string, unknown> | Error {
  return loaded.get(keyOf(module)) ?? new Error("it was not loaded");
}

const imports = /(?:\bfrom\s*|\bimport\s*\(?\s*)["'](\.{1,2}\/[^"'\n]+)["']/g;

/** The file and what it imports by relative paths, as they are now. */
export function filesOfModule(path: string): ReadonlyMap<string, Buffer> {
  const files = new Map<string, Buffer>();
  const waiting = [path];
  for (let file = waiting.pop(); file !== undefined && files.size < maxFiles; file = waiting.pop()) {
    if (files.has(file)) continue;
    let contents: Buffer;
    try {
      contents = readFileSync(file);
    } catch {
      continue; // loading it says so
    }
    files.set(file, contents);
    for (const [, specifier] of contents.toString("utf8").matchAll(imports)) waiting.push(resolve(dirname(file), specifier));
  }
  return files;
}

export function versionOfModule(path: string): ModuleVersion {
  const hash = createHash("sha256");
  for (const [file, contents] of [...filesOfModule(path)].sort(([a], [b]) => (a < b ? -1 : 1)))
    hash.update(`${file}\u0000${contents.length}\u0000`).update(contents);
  return { path, version: hash.digest("hex").slice(0, 16) };
}

/** The stack without the marks of versions, and without our own frames. */
export function stackOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  const own = fileURLToPath(new URL("../../../", import.meta.url));
  const lines = (error.stack ?? `${error.name}: ${error.message}`).replaceAll(new RegExp(`\\?${versionParameter}=[0-9a-f]+`, "g"), "").split("\n");
  const first = lines.findIndex((line) => line.includes(own));
  return (first > 0 ? lines.slice(0, first) : lines).join("\n");
}
