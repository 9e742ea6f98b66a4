import assert from "node:assert/strict";
import { globSync, readFileSync } from "node:fs";
import { dirname, join, relative, resolve } from "node:path";
import { test } from "node:test";

const source = resolve(import.meta.dirname, "..", "src");

/** ARCHITECTURE.md: imports point one way. A part may import its own row and those below. */
const layers: readonly (readonly string[])[] = [
  ["cli", "api.ts"],
  ["server", "worker", "pod", "k8s", "pki"],
  ["supervise", "admin", "extensions", "sdk"],
  ["router", "http", "upstream", "listener", "formatter", "grpc", "xds"],
  ["net", "stats", "runtime", "overload"],
  ["matching", "log"],
  ["config"],
  ["regex", "os"],
];

/** What may be imported against the direction: the table through which core meets extensions, and what stands beside it for both. */
const exceptions: ReadonlySet<string> = new Set(["extensions/registry.ts", "extensions/shared-cells.ts"]);

const ownOf = (file: string): string => file.split("/")[0];
const layerOf = (file: string): number => layers.findIndex((layer) => layer.includes(ownOf(file)));

/** Relative imports that exist at run time: those of types only do not count. */
function importsOf(file: string): string[] {
  const found: string[] = [];
  for (const [, clause, specifier] of readFileSync(join(source, file), "utf8").matchAll(/^(?:import|export)\s+([^"';]*?)\s*from\s+"(\.[^"]+)"/gms)) {
    const names = /^\{([^}]*)\}$/
      .exec(clause)?.[1]
      .split(",")
      .map((name) => name.trim());
    if (clause.startsWith("type ") || names?.every((name) => name === "" || name.startsWith("type "))) continue;
    found.push(relative(source, join(source, dirname(file), specifier)));
  }
  return found;
}

test("imports point one way", () => {
  const wrong: string[] = [];
  for (const file of globSync("**/*.ts", { cwd: source })) {
    // Tests and their helpers put parts together as they need them.
    if (/\.(?:test|fuzz|bench|d)\.ts$|(?:^|\/)testing(?:\.ts$|\/)|(?:^|\/)fake-[^/]*\.ts$/.test(file)) continue;
    assert.ok(layerOf(file) >= 0, `${file}: src/${ownOf(file)} has no row in scripts/imports.test.ts`);
    for (const target of importsOf(file)) if (layerOf(target) < layerOf(file) && !exceptions.has(target)) wrong.push(`${file} -> ${target}`);
  }
  assert.deepEqual(wrong, []);
});
