/** Writes the service directories: plain run scripts, one page of shell in all. */
import { chmodSync, mkdirSync, renameSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { RunDirectory, ServiceName } from "./run-directory.ts";

const checkout = join(dirname(fileURLToPath(import.meta.url)), "../..");
/** Where the commands are, in a checkout and in the package. */
export const BIN = join(checkout, "bin");

/** One word for the shell. */
export function shellQuote(text: string): string {
  return /^[A-Za-z0-9_./:=@%+,-]+$/.test(text) ? text : `'${text.replaceAll("'", "'\\''")}'`;
}

/** Replaces a file so that nobody sees half of it. */
export function writeWhole(path: string, text: string, mode: number): void {
  writeFileSync(`${path}.new`, text, { mode });
  chmodSync(`${path}.new`, mode);
  renameSync(`${path}.new`, path);
}

/** NAME/run from the lines of a shell script, and NAME/log/run with our multilog. */
export function writeService(
  directory: RunDirectory,
  name: ServiceName,
  script: readonly string[],
  log: { readonly bytes: number; readonly files: number },
): void {
  const service = directory.service(name);
  mkdirSync(join(service, "log"), { recursive: true, mode: 0o755 });
  mkdirSync(directory.logs(name), { recursive: true, mode: 0o755 });
  writeWhole(join(service, "run"), ["#!/bin/sh", ...script, ""].join("\n"), 0o755);
  const logScript = [
    "#!/bin/sh",
    `# Keeps what ${name} prints: lines with their time, ${log.files} files of ${log.bytes} bytes. Read them with`,
    `#   ${join(BIN, "daemontools/tai64nlocal")} < ${join(directory.logs(name), "current")}`,
    `exec ${shellQuote(join(BIN, "daemontools/multilog"))} t s${log.bytes} n${log.files} ${shellQuote(directory.logs(name))}`,
    "",
  ];
  writeWhole(join(service, "log", "run"), logScript.join("\n"), 0o755);
}
