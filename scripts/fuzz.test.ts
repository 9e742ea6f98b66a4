import { globSync } from "node:fs";
import { resolve } from "node:path";
import { test } from "node:test";
import { type FuzzTarget, mutate, Random } from "../src/testing/fuzz.ts";
import { readCorpus, root } from "./fuzz-corpus.ts";

for (const file of globSync("src/**/*.fuzz.ts", { cwd: root }).sort()) {
  test(`${file}: its seeds, what was found before, and a thousand changes of them`, async () => {
    const { default: target } = (await import(resolve(root, file))) as { default: FuzzTarget };
    const inputs: Uint8Array[] = [...target.seeds.map((text) => Buffer.from(text as string)), ...readCorpus(file)];
    for (const input of inputs) target.run(input);
    const dictionary = target.dictionary.map((word) => Buffer.from(word));
    const random = new Random(1);
    for (let i = 0; i < 1000; i++) target.run(mutate(random.pick(inputs), inputs, dictionary, target.maxBytes, random));
  });
}
