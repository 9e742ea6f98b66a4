/**
 * How much memory the command lets V8 and the allocator hold: bin/outrider starts Node with a young generation that fits the main thread, which makes
 * little garbage, and with an allocator that gives back what V8's compilers used. docs/performance.md has what each is worth. A program that embeds
 * Outrider keeps its own settings.
 */
import { setFlagsFromString } from "node:v8";

/** Half of a worker's young generation, MiB. Larger: less work for the garbage collector with very many busy connections. */
const defaultSemiSpaceMb = 8;
/** What bin/outrider sets for its own process where the user did not. */
const allocatorDefaults = { MALLOC_MMAP_THRESHOLD_: "32768", MALLOC_TRIM_THRESHOLD_: "65536" };

/** The allocator has read its settings: programs that this one starts are to have none of ours. */
export function forgetAllocatorSettings(env: NodeJS.ProcessEnv): void {
  for (const [name, value] of Object.entries(allocatorDefaults)) if (env[name] === value) delete env[name];
}

/** For the threads that are started from now on. What is wrong with OUTRIDER_SEMI_SPACE_MB (1 to 256, default 8), if anything is. */
export function sizeWorkers(env: NodeJS.ProcessEnv): string | undefined {
  const text = env.OUTRIDER_SEMI_SPACE_MB ?? String(defaultSemiSpaceMb);
  if (!/^[1-9]\d{0,2}$/.test(text) || Number(text) > 256)
    return `OUTRIDER_SEMI_SPACE_MB is '${text}': it has to be a number of MiB from 1 to 256; leave it out for ${defaultSemiSpaceMb}`;
  setFlagsFromString(`--max-semi-space-size=${text}`);
  return undefined;
}
