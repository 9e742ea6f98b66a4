import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { compatibilityPage } from "./compatibility.ts";

test("docs/compatibility.md is what the registry and the modules' honours say", async () => {
  const committed = readFileSync(new URL("../docs/compatibility.md", import.meta.url), "utf8");
  assert.ok(committed === (await compatibilityPage()), "docs/compatibility.md is old: run `npm run docs` and commit the file");
});
