import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { resolve } from "node:path";
import { test } from "node:test";

const root = resolve(import.meta.dirname, "..");

test("docs/configuration-errors.md lists the codes that findings have, no more and no less", () => {
  const used = new Set<string>();
  for (const file of globSync("src/**/*.ts", { cwd: root })) {
    if (file.endsWith(".test.ts")) continue;
    for (const [, code] of readFileSync(resolve(root, file), "utf8").matchAll(/"(OR\d{4})"/g)) used.add(code);
  }
  const listed = [...readFileSync(resolve(root, "docs/configuration-errors.md"), "utf8").matchAll(/^\| (OR\d{4}) \|/gm)].map((match) => match[1]);
  assert.deepEqual(listed, [...new Set(listed)].sort(), "each once, in order");
  assert.deepEqual(
    [...used].filter((code) => !listed.includes(code)),
    [],
    "used in src/, not in docs/configuration-errors.md",
  );
  assert.deepEqual(
    listed.filter((code) => !used.has(code)),
    [],
    "in docs/configuration-errors.md, used nowhere",
  );
});
