/** Writes docs/compatibility.md from the registry and the `honours` of all modules (npm run docs). With --check it only compares: 1 where the file is old. */
import { readFileSync, writeFileSync } from "node:fs";
import { compatibilityPage } from "./compatibility.ts";

const path = new URL("../docs/compatibility.md", import.meta.url);
const page = await compatibilityPage();
if (process.argv.includes("--check")) {
  if (readFileSync(path, "utf8") !== page) {
    console.error("docs/compatibility.md is not what the code says: run `npm run docs` and commit the file");
    process.exit(1);
  }
} else {
  writeFileSync(path, page);
  console.log(`docs/compatibility.md: ${page.split("\n").length} lines`);
}
