/**
 * Makes dist/, what is published: the sources of src/ as plain JavaScript, file by file (Node strips no types below node_modules), the data files
 * beside them, and the declarations of the programmatic API. Prints what it made; ends with 1 where an import of the result leads nowhere.
 */
import { spawnSync } from "node:child_process";
import { cpSync, existsSync, globSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { dirname, join, relative, resolve } from "node:path";
import { transformSync } from "esbuild";

const root = resolve(import.meta.dirname, "..");
const source = join(root, "src");
const out = join(root, "dist");

/** What only tests and tools use. */
const unpublished = /(?:\.test|\.bench|\.fuzz|\.d)\.ts$|(?:^|\/)testing(?:\.ts$|\/)/;

/** A relative specifier or URL of a source file: the same file has another extension here. */
const sourceFile = /(["'`])(\.{1,2}\/[^"'`\n]*)\.ts\1/g;

function build(): number {
  rmSync(out, { recursive: true, force: true });
  let files = 0;
  for (const file of globSync("**/*", { cwd: source }).sort()) {
    const from = join(source, file);
    if (!statSync(from).isFile() || unpublished.test(file)) continue;
    const to = join(out, file.replace(/\.ts$/, ".js"));
    mkdirSync(dirname(to), { recursive: true });
    if (/\.[jt]s$/.test(file)) {
      const { code } = transformSync(readFileSync(from, "utf8"), { loader: "ts", target: "node24", sourcefile: file });
      writeFileSync(to, code.replace(sourceFile, "$1$2.js$1"));
    } else cpSync(from, to);
    files++;
  }
  const declarations = buildDeclarations();
  const lost = [...lostImports(globSync("**/*.js", { cwd: out }), ["js"]), ...lostImports(declarations, ["d.ts"])];
  for (const line of lost) console.error(line);
  console.log(`dist: ${files} files, ${declarations.length} declarations of the API`);
  return lost.length === 0 ? 0 : 1;
}

/** The declarations that the entry points of the package reach, and no others. */
function buildDeclarations(): string[] {
  const temporary = mkdtempSync(join(tmpdir(), "outrider-declarations-"));
  try {
    const tsc = join(root, "node_modules", ".bin", "tsc");
    const options = ["-p", root, "--noEmit", "false", "--declaration", "--emitDeclarationOnly", "--rootDir", root, "--outDir", temporary];
    const { status, stdout } = spawnSync(tsc, options, { encoding: "utf8" });
    if (status !== 0) throw new Error(`tsc: ${stdout}`);
    const found = new Set<string>();
    const waiting = ["api.d.ts", "sdk/filter.d.ts"];
    for (let file = waiting.pop(); file !== undefined; file = waiting.pop()) {
      if (found.has(file)) continue;
      found.add(file);
      const generated = join(temporary, "src", file);
      // Declarations that are sources themselves (the API's messages) are not emitted again.
      const text = readFileSync(existsSync(generated) ? generated : join(source, file), "utf8");
      mkdirSync(dirname(join(out, file)), { recursive: true });
      writeFileSync(join(out, file), text.replace(/(["'])(\.{1,2}\/[^"'\n]*?)(?:\.d)?\.ts\1/g, "$1$2.js$1"));
      for (const specifier of specifiersOf(text)) waiting.push(join(dirname(file), specifier.replace(/(?:\.d)?\.ts$|\.js$/, ".d.ts")));
    }
    return [...found];
  } finally {
    rmSync(temporary, { recursive: true, force: true });
  }
}

function specifiersOf(text: string): string[] {
  return [...text.matchAll(/(?:\bfrom\s*|\bimport\s*\(?\s*|\bnew URL\(\s*)["'](\.{1,2}\/[^"'\n]+)["']/g)].map((match) => match[1]);
}

/** Imports among `files` that name no file of dist. */
function lostImports(files: readonly string[], endings: readonly string[]): string[] {
  const lost: string[] = [];
  for (const file of files) {
    const from = join(out, file);
    for (const specifier of specifiersOf(readFileSync(from, "utf8"))) {
      const target = resolve(dirname(from), specifier);
      const known = existsSync(target) || endings.some((ending) => existsSync(target.replace(/\.js$/, `.${ending}`)));
      if (!known) lost.push(`${relative(root, from)}: ${specifier} leads nowhere`);
    }
  }
  return lost;
}

process.exit(build());
