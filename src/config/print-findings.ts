/** Findings for people (a code frame with a caret) and for editors (JSON). */
import type { Finding } from "./finding.ts";

export interface PrintOptions {
  /** "text" (the default) for people, "json" for editors. */
  readonly format?: "text" | "json" | undefined;
  /** ANSI colours. */
  readonly color?: boolean | undefined;
}

/** The widest piece of a source line that is shown. */
const frameWidth = 160;

/** All findings, a blank line between, and a last line with the count. "" where there are none. */
export function printFindings(findings: readonly Finding[], options: PrintOptions = {}): string {
  if (options.format === "json") return findingsToJson(findings);
  if (findings.length === 0) return "";
  const errors = findings.filter((f) => f.severity === "error").length;
  const warnings = findings.length - errors;
  const counts = [errors > 0 ? `${errors} error${errors === 1 ? "" : "s"}` : "", warnings > 0 ? `${warnings} warning${warnings === 1 ? "" : "s"}` : ""]
    .filter((s) => s !== "")
    .join(", ");
  return `${findings.map((f) => printFinding(f, options)).join("\n")}\n${counts}\n`;
}

export function printFinding(finding: Finding, options: PrintOptions = {}): string {
  const paint = (code: number, text: string): string => (options.color === true ? `\x1b[${code}m${text}\x1b[0m` : text);
  const tone = finding.severity === "error" ? 31 : 33;
  const { origin } = finding;
  const hint = finding.hint === undefined ? undefined : visible(finding.hint);
  const lines = [`${paint(tone, `${finding.severity}[${finding.code}]`)} ${visible(finding.text)}`];
  let hintShown = false;
  if (origin !== undefined) {
    const position = origin.line > 0 ? `:${origin.line}:${origin.column}` : "";
    lines.push(visible(`  --> ${origin.file}${position}${origin.path === "" ? "" : `   ${origin.path}`}`));
    const text = origin.lineText;
    if (text !== undefined && text.trim() !== "") {
      const gutter = String(origin.line).padStart(4);
      const { shown, offset } = cut(text, origin.column - 1);
      const before = shown.slice(0, Math.max(0, origin.column - 1 - offset)).replace(/[^\t]/g, " ");
      const width = Math.max(1, Math.min((origin.endColumn ?? origin.column + 1) - origin.column, shown.length - before.length));
      lines.push(`${gutter} | ${shown}`, `     | ${before}${paint(tone, "^".repeat(width))}${hint === undefined ? "" : ` ${hint}`}`);
      hintShown = true;
    }
  }
  if (!hintShown && hint !== undefined) lines.push(`     = ${hint}`);
  return `${lines.join("\n")}\n`;
}

/** Control characters of a configuration must not reach the terminal. */
function visible(text: string): string {
  return text.replace(/[\x00-\x08\x0b-\x1f\x7f-\x9f]/g, "?");
}

/** A line too long to show is cut around the column of interest. */
function cut(line: string, column: number): { shown: string; offset: number } {
  const text = visible(line);
  if (text.length <= frameWidth) return { shown: text, offset: 0 };
  const offset = Math.max(0, Math.min(column - frameWidth / 4, text.length - frameWidth));
  return { shown: text.slice(offset, offset + frameWidth), offset };
}

/** One JSON document for `--output json`: severity, code, text, hint and place of each; without a line end. */
function findingsToJson(findings: readonly Finding[]): string {
  const items = findings.map(({ code, severity, text, hint, origin }) => ({
    code,
    severity,
    text,
    hint: hint ?? null,
    ...(origin === undefined ? {} : { file: origin.file, line: origin.line, column: origin.column, endColumn: origin.endColumn ?? null, path: origin.path }),
  }));
  return JSON.stringify({ findings: items }, undefined, 2);
}
