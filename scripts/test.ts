/** Runs every *.test.ts with Node's test runner; arguments narrow by path: npm test -- src/http */
import { spawnSync } from "node:child_process";
import { globSync } from "node:fs";
import { availableParallelism } from "node:os";

const wanted = process.argv.slice(2);
const files = ["src/**/*.test.ts", "deploy/**/*.test.ts", "scripts/**/*.test.ts", "examples/**/*.test.ts"]
  .flatMap((pattern) => globSync(pattern))
  .filter((file) => wanted.length === 0 || wanted.some((part) => file.includes(part)))
  .sort();
if (files.length === 0) {
  console.error("no test file matches");
  process.exit(1);
}
const options = [
  "--test",
  "--disable-warning=ExperimentalWarning",
  "--import=./scripts/test-setup.ts",
  `--test-concurrency=${availableParallelism()}`,
  "--test-timeout=120000",
  "--test-reporter=spec",
];
process.exit(spawnSync(process.execPath, [...options, ...files], { stdio: "inherit" }).status ?? 1);
