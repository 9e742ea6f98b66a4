/**
 * Runs the fuzz targets (every `*.fuzz.ts` of src/) for a bounded time each:
 *
 *     npm run fuzz -- [PATH_PART...] [--seconds 10 | --total 60] [--seed N]
 *
 * `--seconds` is the time of each target, `--total` what all of them share, so that a new target makes nothing run longer.
 * An input that makes a target throw, or that takes longer than `slowMs`, is made smaller, written to the folder `corpus/<target>/` beside the
 * target, and shown with the seed that found it; the exit code is 1. What is in a corpus folder is run first, and by scripts/fuzz.test.ts
 * for ever.
 */
import { createHash } from "node:crypto";
import { globSync, mkdirSync, writeFileSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import { parseArgs } from "node:util";
import { type FuzzTarget, mutate, Random } from "../src/testing/fuzz.ts";
import { corpusFolder, readCorpus, root } from "./fuzz-corpus.ts";

/** No input of the sizes tried here may take this long: a second is an attack. */
const slowMs = 1000;
/** Inputs kept as a base for further changes. */
const maxPool = 2000;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { seconds: { type: "string", default: "10" }, total: { type: "string" }, seed: { type: "string", default: String(Date.now() % 0xffffffff) } },
});
const files = globSync("src/**/*.fuzz.ts", { cwd: root })
  .filter((file) => positionals.length === 0 || positionals.some((part) => file.includes(part)))
  .sort();
if (files.length === 0) {
  console.error("no fuzz target matches");
  process.exit(1);
}
const seconds = values.total === undefined ? Number(values.seconds) : Number(values.total) / files.length;
const seed = Number(values.seed);
if (!(seconds > 0) || !Number.isInteger(seed)) {
  console.error("usage: fuzz [PATH_PART...] [--seconds N | --total N] [--seed INTEGER]");
  process.exit(1);
}
let failed = false;
for (const file of files) if (!(await fuzz(file))) failed = true;
process.exit(failed ? 1 : 0);

async function fuzz(file: string): Promise<boolean> {
  const { default: target } = (await import(resolve(root, file))) as { default: FuzzTarget };
  const random = new Random(seed);
  const dictionary = target.dictionary.map((word) => Buffer.from(word));
  const pool: Uint8Array[] = [...target.seeds.map((text) => Buffer.from(text as string)), ...readCorpus(file)];
  let runs = 0;
  for (const input of pool) {
    runs++;
    const problem = problemOf(target, input);
    if (problem !== undefined) return report(file, target, input, problem);
  }
  const end = performance.now() + seconds * 1000;
  while (performance.now() < end) {
    const input = mutate(random.pick(pool), pool, dictionary, target.maxBytes, random);
    runs++;
    const problem = problemOf(target, input);
    if (problem !== undefined) return report(file, target, input, problem);
    // Changes pile up: every so often a changed input becomes a base itself.
    if (random.below(20) === 0) {
      if (pool.length < maxPool) pool.push(input);
      else pool[target.seeds.length + random.below(pool.length - target.seeds.length)] = input;
    }
  }
  console.log(`ok ${file}: ${runs} inputs in ${seconds.toFixed(1)} s`);
  return true;
}

function problemOf(target: FuzzTarget, input: Uint8Array): string | undefined {
  const start = performance.now();
  try {
    target.run(input);
  } catch (error) {
    return error instanceof Error ? (error.stack ?? error.message) : String(error);
  }
  const ms = performance.now() - start;
  return ms > slowMs ? `took ${Math.round(ms)} ms` : undefined;
}

function report(file: string, target: FuzzTarget, found: Uint8Array, problem: string): false {
  const input = shrink(target, found);
  const folder = corpusFolder(file);
  mkdirSync(folder, { recursive: true });
  const path = join(folder, createHash("sha256").update(input).digest("hex").slice(0, 12));
  writeFileSync(path, input);
  console.error(`not ok ${file} (seed ${seed}): ${problem}`);
  console.error(`  input of ${input.length} bytes, kept in ${relative(root, path)}: ${JSON.stringify(Buffer.from(input).toString("latin1").slice(0, 400))}`);
  return false;
}

/** Leaves pieces out for as long as the problem stays, for five seconds at most. */
function shrink(target: FuzzTarget, found: Uint8Array): Uint8Array {
  let input = Buffer.from(found);
  const end = performance.now() + 5000;
  for (let size = Math.ceil(input.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let at = 0; at < input.length && performance.now() < end; ) {
      const shorter = Buffer.concat([input.subarray(0, at), input.subarray(at + size)]);
      if (problemOf(target, shorter) !== undefined) input = shorter;
      else at += size;
    }
  }
  return input;
}
