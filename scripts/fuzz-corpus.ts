/** Where inputs that once broke a fuzz target are kept: src/config/load.fuzz.ts has src/config/corpus/load/. */
import { existsSync, readdirSync, readFileSync } from "node:fs";
import { basename, dirname, join, resolve } from "node:path";

export const root = resolve(import.meta.dirname, "..");

export function corpusFolder(target: string): string {
  return join(root, dirname(target), "corpus", basename(target, ".fuzz.ts"));
}

export function readCorpus(target: string): Buffer[] {
  const folder = corpusFolder(target);
  if (!existsSync(folder)) return [];
  return readdirSync(folder)
    .sort()
    .map((name) => readFileSync(join(folder, name)));
}
