/** `--mode validate`: everything is built, nothing is bound. */
import type { Options } from "../cli/options.ts";
import { printFindings } from "../config/print-findings.ts";
import { prepare } from "./prepare.ts";

export async function validate(options: Options): Promise<number> {
  const { prepared, findings } = await prepare(options);
  const ok = prepared !== undefined;
  if (options.output === "json") {
    process.stdout.write(`${printFindings(findings, { format: "json" })}\n`);
    return ok ? 0 : 1;
  }
  const shown = options.skipDeprecatedLogs ? findings.filter((f) => f.severity === "error") : findings;
  if (shown.length > 0) process.stderr.write(printFindings(shown, { format: "text", color: process.stderr.isTTY }));
  if (ok) process.stdout.write(`configuration '${options.configPath}' OK\n`);
  else process.stderr.write(`error initializing configuration '${options.configPath === "" ? "<config-yaml>" : options.configPath}'\n`);
  return ok ? 0 : 1;
}
