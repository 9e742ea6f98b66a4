/**
 * Entry of the commands in bin/daemontools: main.js NAME OPEN_FILES_LIMIT ARGUMENT...
 *
 * JavaScript, because it switches on the cache of compiled code before the first TypeScript file is read: with it a tool starts in half the
 * time and a supervise takes 10 MB instead of 22 (the type stripper stays unloaded). NODE_COMPILE_CACHE would do the same, but services
 * would inherit it.
 */
import { enableCompileCache, flushCompileCache } from "node:module";
import { homedir, tmpdir } from "node:os";

function cacheDirectory() {
  const { XDG_CACHE_HOME, HOME } = process.env;
  if (XDG_CACHE_HOME) return `${XDG_CACHE_HOME}/outrider/compile-cache`;
  try {
    return `${HOME || homedir()}/.cache/outrider/compile-cache`;
  } catch {
    return `${tmpdir()}/outrider-compile-cache-${process.getuid?.() ?? 0}`;
  }
}

enableCompileCache(cacheDirectory());
const [name, openFiles, ...args] = process.argv.slice(2);
const { rememberOpenFilesLimit } = await import("../os/open-files.ts");
const { isToolName, TOOLS } = await import("./tools.ts");
if (!isToolName(name ?? "")) {
  console.error(`usage: main.js ${Object.keys(TOOLS).join("|")} open-files-limit argument...`);
  process.exit(100);
}
rememberOpenFilesLimit(openFiles ?? "");
const { run } = await TOOLS[name]();
// Written now: most tools become another program or run until they are killed.
flushCompileCache();
process.exit(await run(args));
